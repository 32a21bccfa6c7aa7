"""A message is its row: an independent reconstruction, by the standard library alone, gives back what was sent, number by number."""

import json
import random
import sys
from decimal import Decimal

import examples
import msgspec
import pyarrow as pa
import pytest
from test_compaction import RULE, key

from fleet_pipeline.aws.store import ObjectVersion
from fleet_pipeline.lake.contract import COLUMNS, DECIMAL, Contract
from fleet_pipeline.lake.learning import Evidence
from fleet_pipeline.lake.payload import (
    DEPTH,
    DIGITS,
    ELEMENT_BYTES,
    ELEMENTS,
    FEW_ELEMENTS,
    Status,
    judged,
    judged_elements,
)
from fleet_pipeline.lake.rows import blocks, conformed
from fleet_pipeline.model.form import Form

MESSAGES = int(examples.MESSAGES or 300)
"""Messages of each form and way of learning."""

NUMBERS = [
    "0",
    "-0",
    "0.0",
    "-0.0",
    "1",
    "5",
    "5.0",
    "48.10",
    "-7.50",
    "1e5",
    "1E+5",
    "12e-1",
    "9007199254740992",
    "9007199254740993",
    "9007199254740993.0",
    "1.00000000000000000001",
    "1e-400",
    "-1e-400",
    "5e-324",
    "1e22",
    "1e23",
    "1.7976931348623157e308",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "-9223372036854775809",
    "0.1",
    "0.10000000000000000555",
    "1152921504606846976",
    "123456789012345678901234567890",
    "0e99999999999999999999",
    "0e5",
    "-0e-3",
    "1e-5",
    "0.00001",
    "100000000000000000000.5",
]
NAMES = ["speed", "Speed", "a", "b", "a_b", "x.y", "", "_key", "hour", "a b", 'q"', "\\u0061b", "at", "at:lat", "é"]
TEXTS = [
    '"x"',
    '""',
    '"10:00, 11"',
    '": "',
    '"\\u0000"',
    '"\\\\"',
    '"[1,2]"',
    '"{\\"k\\": 1}"',
    '"5"',
    '"null"',
    '"\\ud83d\\ude97"',
    '"-0"',
    '"nan"',
]


def _text(chance, depth=0):
    """Write a value, and say whether it is to be read."""
    kind = chance.random()
    if kind < 0.45:
        return chance.choice(NUMBERS)
    if kind < 0.65:
        return chance.choice(TEXTS)
    if kind < 0.75 or depth > 3:
        return chance.choice(["true", "false", "null", "[]", "{}", "[null]"])
    comma = chance.choice([",", ", ", " ,\n"])
    if kind < 0.87:
        return "[" + comma.join(_text(chance, depth + 1) for _ in range(chance.randrange(4))) + "]"
    return _object(chance, depth + 1)


def _object(chance, depth=0):
    comma, colon = chance.choice([(",", ":"), (", ", ": "), (" , ", " : ")])
    names = chance.sample(NAMES, chance.randrange(1, 6))
    if chance.random() < 0.02:
        names.append(names[0])
    return (
        "{"
        + comma.join(
            f"{json.dumps(name) if name[:1] != chr(92) else chr(34) + name + chr(34)}{colon}{_text(chance, depth)}"
            for name in names
        )
        + "}"
    )


class _Twice(Exception):
    """Ends a parse."""


def _pairs(pairs):
    if len(dict(pairs)) < len(pairs):
        raise _Twice
    return dict(pairs)


def _parsed(text):
    return json.loads(text, parse_int=Decimal, parse_float=_decimal, object_pairs_hook=_pairs)


def _decimal(text):
    digits = text.lower().split("e")[0]
    return Decimal(text) if set(digits) & set("123456789") else Decimal(digits)  # of zero, any exponent is the same


def _shown(value, kind):
    """What a column's value denotes."""
    if kind.endswith("[]"):
        return [None if item is None else _shown(item, kind[:-2]) for item in value]
    if kind == "json":
        return _parsed(value)
    return value if type(value) in {bool, str} else Decimal(repr(value)) if type(value) is float else Decimal(value)


def _put(message, path, value):
    for name in path[:-1]:
        message = message.setdefault(name, {})
    assert path[-1] not in message
    message[path[-1]] = value


def _found(row, path, *, structs):
    if not structs:
        return row.get("_".join(path))
    for name in path:
        row = None if row is None else row.get(name)
    return row


def _merged(one, other):
    for name, value in other.items():
        if isinstance(value, dict):
            _merged(one.setdefault(name, {}), value)
        else:
            assert name not in one
            one[name] = value
    return one


def _rebuilt(row, record):
    message = {}
    for column in record["columns"]:
        value = _found(row, column["path"], structs=record["form"]["nested_objects"] == "structs")
        if value is not None:
            _put(message, column["path"], _shown(value, column["kind"]))
    return _merged(message, _parsed(row["_extra"] or "{}"))


def _kept(message):
    """What is promised of a message: all but nulls, objects without fields, and empty arrays, which need not come back."""
    kept = {name: _kept(value) if isinstance(value, dict) else value for name, value in message.items()}
    return {name: value for name, value in kept.items() if value is not None and value not in ({}, [])}


def _same(one, other):
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Decimal) and isinstance(other, Decimal):
        return one == other and one.is_signed() == other.is_signed()
    return type(one) is type(other) and one == other


def _rows(payloads, form, needed=1, most=COLUMNS, pinned=()):
    """Compact payloads in two hours, in blocks of 500, and return their rows with the record of their columns."""
    contract, half = Contract(form=form), len(payloads) // 2
    if pinned:
        contract = contract.pinning(contract.adding(contract.column(*column) for column in pinned))
    for part in (payloads[:half], payloads[half:]):
        made, seen = [], Evidence()
        for start in range(0, len(part), 500):
            some = part[start : start + 500]
            versions = [ObjectVersion(key(place), f"v{place}", 1, "e", "m", latest=True) for place in range(len(some))]
            for block in blocks(RULE, versions, some, contract):
                made.append(block)
                seen.add(block.evidence)
        contract = contract.adding(seen.columns(contract, needed), most=most)
        record = json.loads(contract.to_json())
        for block in made:
            yield from ((row, record) for row in conformed(block, contract).to_pylist())


LEARNING = {
    "one message is enough": {"needed": 1},
    "three messages": {"needed": 3},
    "fifty messages": {"needed": 50},
    "two columns an hour": {"needed": 1, "most": 2},
    "a contract": {
        "pinned": [
            (("speed",), DECIMAL),
            (("a",), f"{DECIMAL}[]"),
            (("b",), "json"),
            (("at",), "int64"),
            (("é",), "string[]"),
        ]
    },
}
"""What decides which fields are columns. Hour by hour, a table of the first kinds gets more of them."""


@pytest.mark.parametrize("arrays", ["whole", "elements"])
@pytest.mark.parametrize("nested", ["columns", "structs"])
@pytest.mark.parametrize("numbers", ["double", "exact"])
@pytest.mark.parametrize("learning", LEARNING)
def test_a_row_gives_its_message_back_number_by_number(numbers, nested, arrays, learning):
    chance, form = (
        random.Random(f"{numbers} {nested} {arrays} {learning}"),
        Form(nested_objects=nested, arrays=arrays, numbers=numbers),
    )
    texts = [
        [_object(chance) for _ in range(chance.choice([1, 1, 2, 3]) if arrays == "elements" else 1)]
        for _ in range(MESSAGES)
    ]
    payloads = [("[" + ",".join(some) + "]" if arrays == "elements" else some[0]).encode() for some in texts]
    read = 0
    element = 0
    sent = iter(zip(texts, payloads, strict=True))
    for row, record in _rows(payloads, form, **LEARNING[learning]):
        if row["_payload"] is not None:
            (some, payload), element = next(sent), 0
            assert row["_payload"] == payload
        if not Status(row["_status"]).readable:
            assert row["_status"] == "duplicate_names"
            with pytest.raises(_Twice):
                _parsed(payload)
            continue
        message = _parsed(some[element])
        assert _same(_kept(_rebuilt(row, record)), _kept(message)), some[element]
        element, read = element + 1, read + 1
    assert read > MESSAGES * 0.8
    assert next(sent, None) is None


NESTS = {
    "arrays": (b'{"a":', b"[", b"]", b"}"),
    "objects": (b"", b'{"a":', b"}", b""),
    "a mixture": (b"", b'{"a":[', b"]}", b""),
    "brackets in texts": (b'{"]}\\"":"[[", "a":', b'["]", {"}":', b'}, "["]', b"}"),
}


@pytest.mark.parametrize("depth", [33, 64, 120, 250, 600, 999, 1001, 5000, 200_000])
@pytest.mark.parametrize("mixture", NESTS)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "cut off"])
def test_any_nesting_beyond_the_limit_is_too_deep_whatever_the_interpreter_allows(depth, mixture, whole):
    before, opens, closes, after = NESTS[mixture]
    payload = before + opens * depth + (b"1" + closes * depth + after if whole else b"")
    assert judged(payload) == (Status.TOO_DEEP, {})
    assert judged_elements(b"[" + payload + (b"]" if whole else b"")) == ([Status.TOO_DEEP], [{}])


def test_brackets_in_texts_are_no_nesting():
    assert judged(b'{"a":"' + b"[" * 5000 + b'"}')[0] is Status.OK
    assert judged(b'{"a":"' + b"[" * 5000 + b'"')[0] is Status.MALFORMED
    assert judged(b'{"a":' + b"[" * (DEPTH - 1) + b"]" * (DEPTH - 1) + b"}")[0] is Status.OK
    assert judged(b'{"a":' + b"[" * DEPTH + b"]" * DEPTH + b"}")[0] is Status.TOO_DEEP


@pytest.fixture
def few_digits():
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    yield
    sys.set_int_max_str_digits(before)


@pytest.mark.usefixtures("few_digits")
def test_a_number_has_a_longest_length_of_ours_and_a_text_of_digits_has_none():
    assert judged(b'{"a":' + b"7" * DIGITS + b"}") == (Status.OK, {"a": int("7" * DIGITS)})
    for number in (b"7" * (DIGITS + 1), b"-" + b"7" * 5000, b"0." + b"7" * 5000, b"1e" + b"9" * 5000):
        assert judged(b'{"a":' + number + b"}") == (Status.MALFORMED, {})
    assert judged(b'{"a":"' + b"7" * 5000 + b'"}')[0] is Status.OK


def test_fields_are_counted_by_their_paths_and_those_of_an_array_once():
    records = [{f"f{number}": number for number in range(11)} for _ in range(91)]
    assert judged(json.dumps({"records": records}).encode())[0] is Status.OK
    assert (
        judged(json.dumps({"records": [{f"f{number}": 1} for number in range(1001)]}).encode())[0]
        is Status.TOO_MANY_FIELDS
    )


def test_an_array_is_put_aside_as_a_value_and_never_as_its_text():
    [first, second] = [row for row, _ in _rows([b'{"a":"text"}', b'{"a":[1,"a",{"k":1.50}]}'], Form())]
    assert (first["a"], first["_extra"]) == ("text", None)
    assert (second["a"], second["_status"], json.loads(second["_extra"])) == (
        None,
        "partial",
        {"a": [1, "a", {"k": 1.5}]},
    )
    made = next(
        blocks(
            RULE,
            [ObjectVersion(key(1), "v", 1, "e", "m", latest=True)],
            [b'{"a":[1,{"k":9007199254740993.0}]}'],
            Contract(),
        )
    )
    strings = Contract().adding([Contract().column(("a",), "string")])
    assert conformed(made, strings)["_extra"].to_pylist() == ['{"a":[1,{"k":9007199254740993.0}]}']
    assert conformed(made, strings)["a"].to_pylist() == pa.array([None], pa.string()).to_pylist()


LENIENT = Form(lenient_numbers="on")


@pytest.mark.parametrize("spelt", ["nan", "NaN", "-nan", "inf", "-inf", "Infinity", "-Infinity", "+INF"])
def test_a_bare_nan_costs_its_own_field_where_numbers_are_lenient(spelt):
    payloads = [b'{"speed":1.5,"n":2.0}', f'{{"speed":{spelt},"n":2.50,"t":"nan, {spelt}","d":[1,{spelt}]}}'.encode()]
    row = [row for row, _ in _rows(payloads, LENIENT)][-1]
    assert (row["speed"], row["n"], row["t"], row["_status"], json.loads(row["_extra"])["speed"]) == (
        None,
        2.5,
        f"nan, {spelt}",
        "partial",
        spelt,
    )
    assert judged(payloads[1]) == (Status.MALFORMED, {})


@pytest.mark.parametrize(("bare", "text", "as_text"), [("nan", '"x"', '"nan"'), ("[-inf]", '["x"]', '["-inf"]')])
def test_in_the_hour_that_makes_a_column_a_bare_nan_and_an_array_with_one_stay_aside(bare, text, as_text):
    payloads = [f'{{"t":{bare}}}'.encode(), *[f'{{"t":{text}}}'.encode()] * 19]
    first, *others = [row for row, _ in _rows(payloads, LENIENT)]
    assert (first["t"], first["_extra"], first["_status"]) == (None, f'{{"t":{as_text}}}', "partial")
    assert {(str(row["t"]), row["_status"]) for row in others} == {(str(json.loads(text)), "ok")}


NO_LENIENT_NUMBERS = [
    b"nan-nan",
    b"[nan-nan]",
    b'{"a":nan+inf}',
    b'{"a":nan-nan',
    b'{"a":nan-1}',
    b'{"a":1-nan}',
    b'{"a":--inf}',
    b'{"a":nan.5}',
    b'{"a":1nan}',
]


@pytest.mark.parametrize(
    "payload",
    [
        b'{"a":nanx}',
        b'{"a":xnan}',
        b'{"a":nan,"b":9e9990}',
        b"{nan:1}",
        b'{"a":1e999}',
        b'{"a":nan',
        b"{",
        *NO_LENIENT_NUMBERS,
    ],
)
def test_lenient_numbers_make_nothing_else_readable(payload):
    assert judged(payload, lenient=True) == (Status.MALFORMED, {})


@pytest.mark.parametrize("arrays", ["whole", "elements"])
def test_an_integer_that_is_minus_zero_is_itself_beside_a_bare_nan(arrays):
    form = Form(lenient_numbers="on", arrays=arrays, several_objects="on")
    rows = [
        row
        for row, _ in _rows(
            [b'{"b":1.5}', b'{"a":nan,"b":-0}', b'{"a":nan,"b":-0.0,"c":1e-0}', b'[{"a":nan},{"b":-0}]'], form
        )
    ]
    assert [row["b"] for row in rows[:3]] == [1.5, None, -0.0]
    assert json.loads(rows[1]["_extra"], parse_int=str) == {"a": "nan", "b": "-0"}
    if arrays == "elements":
        assert rows[-1]["_extra"] == '{"b":-0}'


def test_a_name_said_twice_is_found_beside_a_bare_nan():
    assert judged(b'{"a":nan,"a":1}', lenient=True) == (Status.DUPLICATE_NAMES, {})


def test_several_objects_in_one_message_are_a_row_each_where_that_is_chosen():
    form = Form(several_objects="on")
    rows = [row for row, _ in _rows([b'{"a":"}{"}{"a":"2"}', b'{"a":"3"}\n{"a":"4"}\r\n'], form)]
    assert [(row["a"], row["_payload"] is None) for row in rows] == [
        ("}{", False),
        ("2", True),
        ("3", False),
        ("4", True),
    ]
    for payload, status in {
        b'{"a":1}{"a":1,"a":2}': Status.DUPLICATE_NAMES,
        b'{"a":"x y"}\r\n {"\\u0061":1.50}\n{"a":1,"\\u0061":2}': Status.DUPLICATE_NAMES,
        b'{},{"a":[{}{}]}': Status.MALFORMED,
        b'{}{"a":[{}{}]}': Status.MALFORMED,
        b'{"a":1}{"a":1} 1': Status.MALFORMED,
        b"{}" + b'{"a":' * 33 + b"0" + b"}" * 33: Status.TOO_DEEP,
        b'{"a":' * 33 + b"0" + b"}" * 33 + b"1": Status.TOO_DEEP,
        b'{"a":1}x{"a":1}': Status.MALFORMED,
        b'{"a":1}[1]': Status.MALFORMED,
        b'{"a":1}{"a":': Status.MALFORMED,
        b'{"a":1}}': Status.MALFORMED,
        b"{}" * 10_001: Status.TOO_MANY_ELEMENTS,
        b'[{"a":1}]': Status.NOT_AN_OBJECT,
    }.items():
        assert judged_elements(payload, arrays=False, several=True) == ([status], [{}])
    assert judged(b'{"a":1}{"a":2}') == (Status.MALFORMED, {})
    assert judged_elements(b"{}" + b'{"a":' * 32 + b"0" + b"}" * 32, several=True)[0] == [Status.OK, Status.OK]
    assert judged_elements(b'{"a":nan}{"a":-0}\n', several=True, lenient=True)[0] == [Status.OK, Status.OK]


@pytest.mark.parametrize("count", [FEW_ELEMENTS, FEW_ELEMENTS + 1, 5_000, ELEMENTS])
def test_objects_are_rows_each_unless_they_are_many_and_too_short_to_say_anything(count):
    for says, joint in (('{"a":1}', ""), ('{"a":1}', "\n"), ("{}", " " * 5)):
        assert judged_elements((says + joint).encode() * count, several=True)[0] == [Status.OK] * count
    assert judged_elements(b"[" + b",".join([b'{"a":1}'] * count) + b"]")[0] == [Status.OK] * count
    many = count > FEW_ELEMENTS * ELEMENT_BYTES // (ELEMENT_BYTES - 2)
    assert judged_elements(b"{}" * count, several=True)[0] == (
        [Status.TOO_MANY_ELEMENTS] if many else [Status.OK] * count
    )


DOUBLES = Form(numbers="double")


def test_integers_in_the_first_hour_do_not_keep_decimals_out_of_the_next():
    rows = [row for row, _ in _rows([b'{"speed":0,"d":[2]}', b'{"speed":12.5,"d":[2.5,null,3]}'], DOUBLES)]
    assert [(row["speed"], row["d"], row["_status"]) for row in rows] == [
        (0.0, [2.0], "ok"),
        (12.5, [2.5, None, 3.0], "ok"),
    ]
    assert {type(row["speed"]) for row in rows} == {float}


def test_an_integer_that_no_double_is_goes_aside_and_its_neighbours_do_not():
    rows = [
        row
        for row, _ in _rows(
            [b'{"n":1}', b'{"n":2}', b'{"n":9007199254740993}', b'{"n":18446744073709551616}', b'{"n":3}'], DOUBLES
        )
    ]
    assert [(row["n"], row["_extra"]) for row in rows] == [
        (1.0, None),
        (2.0, None),
        (None, '{"n":9007199254740993}'),
        (None, '{"n":18446744073709551616}'),
        (3.0, None),
    ]


def test_a_table_whose_record_says_nothing_of_numbers_keeps_its_integers():
    record = Contract.of_json(
        b'{"pinned":false,"form":{"nested_objects":"columns","arrays":"whole"},"columns":[{"name":"a","path":["a"],"kind":"int64"}]}',
        0,
    )
    versions = [ObjectVersion(key(1), "v", 1, "e", "m", latest=True)]
    [block] = blocks(RULE, versions, [b'{"a":5,"b":7,"c":[1]}'], record)
    grown = record.adding(block.evidence.columns(record, 1))
    assert {name: column.kind for name, column in grown.columns.items()} == {"a": "int64", "b": "int64", "c": "int64[]"}
    assert conformed(block, grown)["a"].to_pylist() == [5]


@pytest.mark.parametrize("nested", ["columns", "structs"])
def test_a_message_of_a_thousand_new_names_does_not_keep_others_out_of_recorded_columns(nested):
    normal, poison = (
        b'{"speed":1.5,"at":{"lat":48.1}}',
        json.dumps({f"f{number}": number for number in range(1000)}).encode(),
    )
    rows = [row for row, _ in _rows([normal, normal, poison, normal], Form(nested_objects=nested))]
    lat = [row["at_lat"] if nested == "columns" else row["at"]["lat"] for row in (rows[0], rows[1], rows[3])]
    assert (lat, rows[3]["speed"], rows[3]["_status"]) == ([48.1] * 3, 1.5, "ok")


@pytest.mark.parametrize("blank", ["", " ", "\n  ", "\t", "\r\n"], ids=["none", "one", "lines", "tab", "CRLF"])
def test_blanks_between_what_is_written_hide_no_name_and_no_spelling(blank):
    def spaced(text):
        return text.replace(",", "," + blank).replace(":", ":" + blank).encode()

    assert judged(spaced('{"a":1,"b":[1.5,2]}')) == (Status.OK, {"a": 1, "b": [1.5, 2]})
    assert judged(spaced('{"a":"x y","b":"one two"}')) == (Status.OK, {"a": "x y", "b": "one two"})
    assert judged(spaced('{"a":"x y","a":1}')) == judged(spaced('{"a":1,"a":1}')) == (Status.DUPLICATE_NAMES, {})
    assert [
        type(judged(spaced(text))[1]["a"]) for text in ('{"a":-0,"b":1}', '{"a":9007199254740993.0,"b":"x y"}')
    ] == [msgspec.Raw] * 2


LONG, NESTED, TWICE = b"7" * (DIGITS + 1), b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1), b'{"a":1,"a":2}'
MANY = json.dumps({f"f{number}": number for number in range(1001)}).encode()


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        (b'{"a":' + b"[" * 40 + LONG + b"]" * 40 + b"}", Status.MALFORMED),
        (NESTED[:-1], Status.TOO_DEEP),
        (NESTED, Status.TOO_DEEP),
        (b'{"b":1,"b":2,"a":' + NESTED + b"}", Status.TOO_DEEP),
        (b"[1," + TWICE + b"]", Status.NOT_AN_OBJECT),
        (MANY[:-1] + b',"f1":2}', Status.TOO_MANY_FIELDS),
        (TWICE, Status.DUPLICATE_NAMES),
    ],
)
def test_of_several_statuses_the_documented_first_one_counts(payload, status):
    assert judged(payload) == (status, {})


def test_of_several_statuses_of_an_array_the_one_that_makes_it_one_row_counts():
    many = b"[" + b"{}," * 10_000 + TWICE + b"]"
    assert judged_elements(many) == ([Status.TOO_MANY_ELEMENTS], [{}])
    assert judged_elements(b"[" + MANY + b"," + TWICE + b"]") == ([Status.DUPLICATE_NAMES], [{}])
    assert judged_elements(b"[" + MANY + b',{"a":1}]') == ([Status.TOO_MANY_FIELDS, Status.OK], [{}, {"a": 1}])
    assert judged_elements(b"[1," + TWICE + b"]") == ([Status.NOT_AN_OBJECT], [{}])


NESTED_NAMES = {
    ("a", "_b"): (True, True),
    ("_a", "b"): (False, False),
    ("Date",): (False, False),
    ("date", "x"): (True, False),
    ("x", "date"): (True, True),
    ("a", ""): (True, False),
    ("", "a"): (False, False),
    ("a", "b c"): (False, False),
    ("a", "b\u0001"): (False, False),
    ("a", "b.c"): (True, False),
    ("a.b",): (True, False),
    ("a", "b:c"): (True, False),
    ("a:b", "c"): (True, True),
    ("n" * 60, "m" * 67): (True, True),
    ("n" * 60, "m" * 68): (False, False),
}


@pytest.mark.parametrize("nested", ["columns", "structs"])
def test_a_name_that_differs_in_case_alone_has_no_column_beside_the_one_that_has_it(nested):
    made = Contract(form=Form(nested_objects=nested))
    made = made.adding([made.column(("Speed",), "double"), made.column(("speed",), "double")])
    assert list(made.columns) == ["Speed"]
    assert (made.takes(("Speed",)), made.takes(("speed",)), made.takes(("SPEED",))) == (True, False, False)


@pytest.mark.parametrize("path", NESTED_NAMES, ids=".".join)
def test_which_nested_fields_may_have_a_column(path):
    assert (
        tuple(Contract(form=Form(nested_objects=nested)).takes(path) for nested in ("columns", "structs"))
        == NESTED_NAMES[path]
    )
