"""What devices may send: whatever it is, its row is there, its bytes are untouched, and what went into no column is said."""

import io
import json

import pyarrow.parquet as pq
import pytest
from dict_store import DictStore
from examples import tries
from hypothesis import given, settings
from hypothesis import strategies as st
from test_compaction import HOUR, RULE, key, rows

from fleet_pipeline.lake.columns import Sheet
from fleet_pipeline.lake.contract import COLUMNS, Column, Contract
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.payload import DEPTH, Status, judged
from fleet_pipeline.model.form import Form

HOSTILE = {
    "nothing": (b"", Status.EMPTY),
    "white space": (b" \n", Status.MALFORMED),
    "null, which kills pyarrow.json": (b"null", Status.NOT_AN_OBJECT),
    "a number": (b"1", Status.NOT_AN_OBJECT),
    "a text": (b'"x"', Status.NOT_AN_OBJECT),
    "an array": (b'[{"a":1},{"a":2}]', Status.NOT_AN_OBJECT),
    "an empty object": (b"{}", Status.OK),
    "half an object": (b'{"a":1', Status.MALFORMED),
    "two objects": (b'{"a":1}{"b":2}', Status.MALFORMED),
    "a line feed after it": (b'{"a":1}\n', Status.OK),
    "a zero byte after it": (b'{"a":1}\0', Status.MALFORMED),
    "a comma too many": (b'{"a":1,}', Status.MALFORMED),
    "single quotes": (b"{'a':1}", Status.MALFORMED),
    "NaN": (b'{"a":NaN}', Status.MALFORMED),
    "Infinity": (b'{"a":-Infinity}', Status.MALFORMED),
    "a number beyond a double": (b'{"a":1e400}', Status.MALFORMED),
    "5,000 digits": (b'{"a":' + b"9" * 5000 + b"}", Status.MALFORMED),
    "an integer beyond 64 bits": (b'{"a":18446744073709551616}', Status.OK),
    "an integer of 21 digits": (b'{"a":100000000000000000000}', Status.PARTIAL),
    "the largest integer": (b'{"a":9223372036854775807}', Status.OK),
    "one more": (b'{"a":9223372036854775808}', Status.OK),
    "binary": (bytes(range(256)), Status.MALFORMED),
    "invalid UTF-8": (b'{"a":"\xff"}', Status.MALFORMED),
    "an encoded surrogate": (b'{"a":"\xed\xa0\x80"}', Status.MALFORMED),
    "half a surrogate pair": (b'{"a":"\\ud800"}', Status.MALFORMED),
    "a byte order mark": (b'\xef\xbb\xbf{"a":1}', Status.MALFORMED),
    "UTF-16": ('{"a":1}'.encode("utf-16"), Status.MALFORMED),
    "an escaped zero byte": (b'{"a":"\\u0000"}', Status.OK),
    "one name twice": (b'{"a":1,"a":2}', Status.DUPLICATE_NAMES),
    "one name twice, spelt differently": (b'{"a":1,"\\u0061":2}', Status.DUPLICATE_NAMES),
    "one name twice, further in": (b'{"x":[{"a":":","a":2}],"y":"\\u003a"}', Status.DUPLICATE_NAMES),
    "one name twice, hidden behind a colon that is escaped": (b'{"a":"\\u003a:","a" :1}', Status.DUPLICATE_NAMES),
    "colons in texts": (b'{"at":"10:00:00","a:b":":","q":"\\":"}', Status.OK),
    "deep arrays": (b'{"a":' + b"[" * 60_000 + b"]" * 60_000 + b"}", Status.TOO_DEEP),
    "deep objects": (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, Status.TOO_DEEP),
    "deep objects without an end": (b'{"a":' * 20_000, Status.TOO_DEEP),
    "one level too many": (b'{"a":' * (DEPTH + 1) + b"1" + b"}" * (DEPTH + 1), Status.TOO_DEEP),
    "as deep as may be": (b'{"a":' * DEPTH + b"1" + b"}" * DEPTH, Status.OK),
    "10,000 fields": (json.dumps({f"f{number}": number for number in range(10_000)}).encode(), Status.TOO_MANY_FIELDS),
    "a name of 100 KB": (b'{"' + b"n" * 100_000 + b'":1}', Status.PARTIAL),
    "no name": (b'{"":1}', Status.PARTIAL),
    "a name of ours": (b'{"_key":"forged","_ts":0,"_status":"ok","_payload":"x"}', Status.PARTIAL),
    "a name of the partition": (b'{"rule":"rule2","Date":"2000-01-01","hour":7}', Status.PARTIAL),
    "names that differ in case": (b'{"Speed":1,"speed":2}', Status.PARTIAL),
    "names that mean one column": (b'{"a":{"b":1},"a_b":2}', Status.PARTIAL),
    "names with quotes and spaces": (b'{"a b":1,"c\\"d":2}', Status.PARTIAL),
    "an array that pyarrow.json reads wrongly": (b'{"a":[null,1]}', Status.OK),
    "arrays of objects, of arrays, of everything": (b'{"a":[{"x":1}],"b":[[1]],"c":[1,"x",null,true]}', Status.OK),
    "empty objects and arrays": (b'{"a":{},"b":[],"c":{"d":{}}}', Status.OK),
    "null values": (b'{"a":null,"b":{"c":null}}', Status.OK),
    "an exponent of minus zero": (b'{"a":1e-0,"b":-72E-0,"c":[0e-0,-0.5e-0],"d":"e-0 -0"}', Status.OK),
    "an integer that is minus zero beside it": (b'{"a":1e-0,"b":-0,"c":{"d":[1E-0]}}', Status.PARTIAL),
    "an integer of 309 digits": (b'{"a":' + b"9" * 309 + b',"b":1}', Status.PARTIAL),
    "numbers of all sizes": (b'{"a":5e-324,"b":-0.0,"c":1E5,"d":-9223372036854775808}', Status.OK),
}


FORMS = Form("columns"), Form("structs")
IN_STRUCTS = {"names that mean one column": Status.OK}
"""What becomes of a message where nested objects are structs, if it is another thing."""


@pytest.fixture(scope="module", params=FORMS, ids=lambda form: form.nested_objects)
def form(request):
    return request.param


@pytest.fixture(scope="module")
def compacted(form, tmp_path_factory):
    """Every hostile message, each in an hour of its own."""
    table = {}
    for name, (payload, _) in HOSTILE.items():
        raw, lake = DictStore(), Lake(DictStore(), "lake", form=form)
        raw.put(key(1), payload)
        compact_hour(raw, lake, RULE, HOUR)
        [table[name]] = rows(lake, tmp_path_factory.mktemp("lake"))
    return table


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_message_has_its_row_its_bytes_and_its_status(compacted, form, name):
    payload, status = HOSTILE[name]
    status = IN_STRUCTS.get(name, status) if form.nested_objects == "structs" else status
    assert (compacted[name]["_status"], compacted[name]["_payload"]) == (status, payload)


@pytest.mark.parametrize("name", HOSTILE)
def test_columns_and_extra_together_are_the_message(compacted, name):
    row = compacted[name]
    if not Status(row["_status"]).readable:
        assert [column for column in row if not column.startswith("_")] == ["rule", "date", "hour"]
        return
    message = _flat(json.loads(row["_payload"]))
    extra = _flat(json.loads(row["_extra"] or "{}"))
    for path, value in message.items():
        assert _holds(extra.get(path, _column(row, path)), value), path


def test_one_bad_message_costs_its_neighbours_nothing(tmp_path):
    raw, lake = DictStore(), Lake(DictStore(), "lake")
    for place, (payload, _) in enumerate(HOSTILE.values()):
        raw.put(key(2 * place), payload)
        raw.put(key(2 * place + 1), b'{"speed":12.5}')
    done = compact_hour(raw, lake, RULE, HOUR)
    table = rows(lake, tmp_path)
    assert done.rows == 2 * len(HOSTILE)
    assert sorted(row["_payload"] for row in table) == sorted(
        [*(payload for payload, _ in HOSTILE.values()), *[b'{"speed":12.5}'] * len(HOSTILE)]
    )
    assert [row["speed"] for row in table if row["_payload"] == b'{"speed":12.5}'] == [12.5] * len(HOSTILE)


def test_a_flood_of_names_stays_within_the_columns_there_may_be():
    sheet = Sheet(Contract(), 300)
    sheet.write(
        (Status.OK, {f"f{row}_{field}": {"x": field, "y": {"z": field}} for field in range(20)}) for row in range(300)
    )
    found = sheet.arrays()
    contract = Contract().adding(sheet.evidence.columns(Contract(), 1))
    assert len(contract.columns) == COLUMNS
    assert (
        sum(len(array) - array.null_count for _, array in found)
        + sum(_leaves(overflow) for overflow in sheet.overflow.values())
        == 300 * 40
    )


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
@settings(max_examples=tries(100, 300), deadline=None)
def test_any_bytes_have_a_status(payload):
    status, message = judged(payload)
    if message:
        assert status is Status.OK
        assert json.loads(payload) == message


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "A", "b", "a_b", "", "_key", "hour"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(
    st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), JSON, max_size=3), min_size=1, max_size=8),
    st.integers(1, 8),
    st.sampled_from(FORMS),
)
@settings(max_examples=tries(80, 400), deadline=None)
def test_no_value_of_any_message_is_lost_or_changed_on_its_way_into_columns(messages, cut, form):
    """In blocks of any size: what a column holds is equal to what the message said, and all else is in `_extra`."""
    raw, lake = DictStore(), Lake(DictStore(), "lake", form=form)
    sent = {}
    for place, message in enumerate(messages):
        sent[key(place)] = message
    for early in (True, False):  # the later ones meet a contract that is recorded
        for name, message in list(sent.items())[: cut if early else None]:
            if name not in raw.objects:
                raw.put(name, json.dumps(message).encode())
        compact_hour(raw, lake, RULE, HOUR)
    for row in _rows_of_each_part(lake):
        message, extra = _flat(sent[row["_key"]]), _flat(json.loads(row["_extra"] or "{}"))
        for path, value in message.items():
            # A null and an empty array take no place of their own: the column of their name may belong to another path.
            assert value in (None, []) or _holds(extra.get(path, _column(row, path)), value), path


def test_values_that_are_equal_in_the_columns_kind_go_in_and_no_others():
    recorded = Contract({"i": Column(("i",), "int64"), "d": Column(("d",), "double")})
    sheet = Sheet(recorded, 3)
    sheet.write(
        (Status.OK, message) for message in [{"i": 5.0, "d": 5}, {"i": 5.5, "d": 2**53 + 1}, {"i": True, "d": "5"}]
    )
    assert {column.name: array.to_pylist() for column, array in sheet.arrays()} == {
        "i": [5, None, None],
        "d": [5.0, None, None],
    }
    assert sheet.overflow == {1: {"i": 5.5, "d": 2**53 + 1}, 2: {"i": True, "d": "5"}}


def _column(row, path):
    """What a row holds of a field: in a column of its own, or in a struct."""
    if not isinstance(row.get(path[0]), dict):
        return row.get("_".join(path))
    for name in path:
        row = row.get(name) if isinstance(row, dict) else None
    return row


def _rows_of_each_part(lake):
    for name, [(_, body), *_] in lake.store.objects.items():
        if name.endswith(".parquet"):
            yield from pq.read_table(io.BytesIO(body)).to_pylist()


def _flat(message, path=()):
    leaves = {}
    for name, value in message.items():
        leaves |= _flat(value, (*path, name)) if isinstance(value, dict) else {(*path, name): value}
    return leaves


def _leaves(message):
    return sum(_leaves(value) if isinstance(value, dict) else 1 for value in message.values())


def _holds(held, value):
    """Whether a column or `_extra` holds a value: itself, or its JSON text. A column that nothing but empty values had need not exist."""
    if held is None:
        return value is None or (isinstance(value, list) and not any(item is not None for item in value))
    return _equal(held, value) or (isinstance(held, str) and _equal(json.loads(held), value))


def _equal(one, other):
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def test_a_lenient_number_in_a_column_of_json_text_is_told_from_the_text_of_its_letters(tmp_path):
    raw, lake = DictStore(), Lake(DictStore(), "lake", form=Form(lenient_numbers="on"))
    for number, payload in enumerate([*[b'{"t":[1,"a"]}'] * 3, b'{"t":NaN}', b'{"t":"NaN"}', b'{"t":[NaN]}']):
        raw.put(key(number), payload)
        if number >= 2:  # the column is recorded by then
            compact_hour(raw, lake, RULE, HOUR)
    found = [(row["t"], row["_extra"], row["_status"]) for row in rows(lake, tmp_path)]
    assert found[3:] == [(None, '{"t":"NaN"}', "partial"), ('"NaN"', None, "ok"), ('["NaN"]', None, "ok")]
