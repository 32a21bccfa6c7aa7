"""Which fields become columns, and of which kind: what many messages say, wherever in the hour they stand."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from dict_store import DictStore
from test_compaction import HOUR, RULE, compact, key
from test_compaction_upkeep import read

from fleet_pipeline.aws.store import ObjectVersion
from fleet_pipeline.lake.commit import Appending
from fleet_pipeline.lake.contract import COLUMNS, DECIMAL, Contract
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.learning import FIELDS_NOTED, Evidence, homes_of
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.rewrite import learnt, rewrite_hour
from fleet_pipeline.lake.rows import BLOCK_ROWS, blocks
from fleet_pipeline.model.form import Form
from fleet_pipeline.model.rule import RawName

NORMAL = {"serial": "A1", "speed": 1.5, "at": {"lat": 48.1}}
COLUMNS_OF_NORMAL = {"serial": "string", "speed": "double", "at_lat": "double"}
POISON = {f"f{number}": number for number in range(900)}
WORST = POISON | {"at": {f"g{number}": [number] for number in range(99)}}
"""As many new names as a message may have."""


@pytest.fixture
def lake():
    return Lake(DictStore(), "lake", form=Form(numbers="double"))


def sent(lake, messages, hour=HOUR):
    """Compact one more hour of these messages, and return what was done."""
    raw = DictStore()
    for place, message in enumerate(messages):
        raw.put(
            RULE.raw_key(RawName(hour.start_ms + place, f"00000000-0000-4000-8000-{place:012d}")),
            json.dumps(message).encode(),
        )
    return compact_hour(raw, lake, RULE, hour)


def kinds(lake):
    return {name: column.kind for name, column in lake.contract(RULE).columns.items()}


@pytest.mark.parametrize("place", [0, 1500, 3000], ids=["head", "middle", "end"])
@pytest.mark.parametrize("nested", ["columns", "structs"])
def test_one_message_of_a_thousand_new_names_makes_no_column_wherever_it_stands_in_a_tables_first_hour(
    lake, place, nested
):
    lake = replace(lake, form=Form(numbers="double", nested_objects=nested))
    messages = [NORMAL] * 3000
    messages.insert(place, WORST)
    assert sent(lake, messages).statuses == {"ok": 3000, "partial": 1}
    assert {name.replace(".", "_"): kind for name, kind in kinds(lake).items()} == COLUMNS_OF_NORMAL
    [row] = [row for row in read(lake, "part-00000") if row["_status"] == "partial"]
    assert json.loads(row["_extra"]) == WORST


def test_two_odd_messages_in_different_blocks_make_no_column_and_a_third_does(lake):
    messages = [NORMAL] * (BLOCK_ROWS + 2)
    messages[0] = messages[-1] = NORMAL | {"odd": 1}
    sent(lake, messages)
    assert kinds(lake) == COLUMNS_OF_NORMAL
    messages[5] = NORMAL | {"odd": 1}
    sent(lake, messages, HOUR.next)
    assert kinds(lake) == COLUMNS_OF_NORMAL | {"odd": "double"}
    [*found] = [row for row in read(lake, "hour=11/part-00000") if row["odd"] is not None]
    assert [(row["odd"], row["_extra"], row["_status"]) for row in found] == [(1.0, None, "ok")] * 3


def test_the_values_of_a_rare_field_are_in_extra_and_come_into_a_column_once_it_is_frequent(lake):
    sent(lake, [NORMAL] * 10 + [NORMAL | {"door": {"open": True}}] * 2)
    rows = read(lake, "hour=10/part-00000")
    assert [row["_extra"] for row in rows if row["_extra"]] == ['{"door":{"open":true}}'] * 2
    sent(lake, [NORMAL] * 10 + [NORMAL | {"door": {"open": True}}] * 3, HOUR.next)
    assert kinds(lake) == COLUMNS_OF_NORMAL | {"door_open": "bool"}


def test_a_rewrite_types_in_all_hours_what_each_of_them_had_too_seldom(lake):
    for hour in (HOUR, HOUR.next):
        sent(lake, [NORMAL] * 10 + [NORMAL | {"door": 1}] * 2, hour)
    assert kinds(lake) == COLUMNS_OF_NORMAL
    new, seen = lake.next_generation, Evidence()
    for hour in (HOUR, HOUR.next):
        seen.add(learnt(lake, new.contract(RULE), RULE, hour))
    new.record(RULE, seen, new.form, most=COLUMNS)
    new.begin()
    for hour in (HOUR, HOUR.next):
        assert rewrite_hour(lake, new, RULE, hour).complete
        assert sum(row["door"] == 1.0 for row in read(new, f"hour={hour.start:%H}/part-00000")) == 2


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_first_hour_of_a_few_messages_gives_a_useful_table(lake, count):
    assert sent(lake, [NORMAL] * count).statuses == {"ok": count}
    assert kinds(lake) == COLUMNS_OF_NORMAL


def test_of_a_first_hour_of_three_messages_the_odd_ones_field_makes_no_column(lake):
    sent(lake, [NORMAL, NORMAL, POISON])
    assert kinds(lake) == COLUMNS_OF_NORMAL


def test_one_late_message_makes_no_column_in_a_table_that_has_some(lake):
    sent(lake, [NORMAL] * 3)
    sent(lake, [NORMAL | {"odd": 1}], HOUR.next)
    assert kinds(lake) == COLUMNS_OF_NORMAL


def test_an_hour_adds_at_most_half_of_the_columns_that_there_is_room_for_those_of_most_messages_first(lake):
    sent(lake, [NORMAL] * 9 + [NORMAL | POISON] * 4)
    assert (len(kinds(lake)), set(COLUMNS_OF_NORMAL) - set(kinds(lake))) == (COLUMNS // 2, set())
    sent(lake, [NORMAL] * 9 + [{f"g{number}": 1 for number in range(900)}] * 4, HOUR.next)
    assert len(kinds(lake)) == COLUMNS * 3 // 4
    sent(lake, [NORMAL | {"new": 1}] * 3, HOUR.next.next)
    assert kinds(lake)["new"] == "double"


def test_an_hour_of_several_parts_adds_no_more_than_one_of_one_part(lake, tmp_path):
    into = Appending(lake, RULE, HOUR, tmp_path, lake.contract(RULE))
    for part in range(3):
        payloads = [json.dumps({f"{part}_{number}": 1 for number in range(900)}).encode()] * 4
        for block in blocks(
            RULE,
            [ObjectVersion(key(4 * part + place), "v", 1, "e", "m", latest=True) for place in range(4)],
            payloads,
            into.contract,
        ):
            into.add(block)
        into.commit()
    assert (len(into.added), len(kinds(lake))) == (3, COLUMNS // 2)


def test_an_hour_that_is_compacted_again_and_again_adds_no_more_than_once(lake):
    raw = DictStore()
    sent(lake, [NORMAL] * 9)
    for late in range(4):
        for place in range(4):
            names = {f"{late}_{number}": 1 for number in range(900)}
            raw.put(
                RULE.raw_key(RawName(HOUR.next.start_ms + 10 * late + place, f"00000000-0000-4000-8000-{place:012d}")),
                json.dumps(names).encode(),
            )
        assert compact_hour(raw, lake, RULE, HOUR.next).rows_added == 4
        assert len(kinds(lake)) == 3 + (COLUMNS - 3 + 1) // 2
    sent(lake, [{"new": 1}] * 4, HOUR.next.next)
    assert kinds(lake)["new"] == "double"


def test_two_that_compact_an_hour_at_once_add_no_more_than_one(lake, tmp_path):
    both = [
        Appending(lake, RULE, HOUR, tmp_path / name, lake.contract(RULE))
        for name in ("one", "other")
        if not (tmp_path / name).mkdir()
    ]
    for place, into in enumerate(both):
        payloads = [json.dumps({f"{place}_{number}": 1 for number in range(900)}).encode()] * 4
        for block in blocks(
            RULE,
            [ObjectVersion(key(4 * place + each), "v", 1, "e", "m", latest=True) for each in range(4)],
            payloads,
            into.contract,
        ):
            into.add(block)
    for into in both:
        into.commit()
        assert len(kinds(lake)) == COLUMNS // 2


def test_late_messages_make_columns_of_fields_that_their_hour_did_not_have(lake):
    raw = DictStore()
    for late in range(3):
        for place in range(4):
            name = RawName(HOUR.start_ms + 10 * late + place, f"00000000-0000-4000-8000-{place:012d}")
            raw.put(RULE.raw_key(name), json.dumps(NORMAL | {f"new{late}": 1}).encode())
        compact_hour(raw, lake, RULE, HOUR)
    assert kinds(lake) == COLUMNS_OF_NORMAL | {f"new{late}": "double" for late in range(3)}


def test_a_lone_first_message_takes_half_of_a_tables_columns_and_the_next_hours_have_theirs(lake):
    assert sent(lake, [POISON | {f"g{number}": 1 for number in range(100)}]).statuses == {"partial": 1}
    assert len(kinds(lake)) == COLUMNS // 2
    assert sent(lake, [NORMAL] * 9, HOUR.next).statuses == {"ok": 9}
    assert kinds(lake).items() >= COLUMNS_OF_NORMAL.items()


def test_a_rewrite_that_learns_may_fill_all_columns_and_one_with_a_contract_takes_none_beside_it(lake):
    for hour, letter in ((HOUR, "a"), (HOUR.next, "b")):
        sent(lake, [NORMAL | {f"{letter}{number}": 1 for number in range(900)}] * 3, hour)
    new, pinned, seen = lake.next_generation, lake.next_generation.next_generation, Evidence()
    for hour in (HOUR, HOUR.next):
        seen.add(learnt(lake, new.contract(RULE), RULE, hour))
    assert len(new.record(RULE, seen, new.form, most=COLUMNS).columns) == COLUMNS
    pinned.pin(
        RULE, Contract(form=lake.form).adding([Contract().column((name,), "double") for name in ("speed", "a1")])
    )
    assert rewrite_hour(lake, pinned, RULE, HOUR).complete
    assert {*kinds(pinned)} == {"speed", "a1"}


@pytest.mark.parametrize("odd", ["x", True, {"deep": 1}, [1], 2**63])
@pytest.mark.parametrize("place", [0, BLOCK_ROWS + 1])
def test_a_kind_is_what_most_messages_of_the_hour_say_and_not_its_first_block(lake, odd, place):
    messages = [NORMAL] * (BLOCK_ROWS + 2)
    messages[place] = NORMAL | {"speed": odd}
    messages[BLOCK_ROWS // 2] = NORMAL | {"serial": 7}
    assert sent(lake, messages).statuses == {"ok": BLOCK_ROWS, "partial": 2}
    assert kinds(lake) == COLUMNS_OF_NORMAL


def test_the_first_block_does_not_outvote_the_hour(lake):
    sent(lake, [{"a": "x"}] * BLOCK_ROWS + [{"a": 1}] * (BLOCK_ROWS + 1))
    assert kinds(lake) == {"a": "double"}
    rows = read(lake, "part-00000")
    assert Counter((row["a"], row["_extra"], row["_status"]) for row in rows) == {
        (None, '{"a":"x"}', "partial"): BLOCK_ROWS,
        (1.0, None, "ok"): BLOCK_ROWS + 1,
    }


@pytest.mark.parametrize(("one", "other"), [("x", 1), (True, "x"), ([1], "x"), (1, {}), (2**60, 1.5)])
def test_a_tie_of_kinds_settles_no_column_and_the_next_hour_does(lake, one, other):
    lake = replace(lake, form=Form(numbers="exact"))
    tied = [{"b": 1, "a": one}, {"b": 1, "a": other}]
    sent(lake, tied)
    assert kinds(lake) == ({"b": "int64"} if other != {} else {"b": "int64", "a": "int64"})
    rows = read(lake, "part-00000")
    assert [json.loads(row["_extra"] or "{}").get("a", row.get("a")) for row in rows] == [
        one,
        other if other != {} else None,
    ]
    sent(lake, [*tied, tied[0]] * 3, HOUR.next)
    assert "a" in kinds(lake)


@pytest.mark.parametrize("recorded", [True, False])
def test_a_field_of_any_frequency_has_its_values_in_its_own_rows(lake, recorded):
    shares = [1, 2, 3, 7, 8, 9, 20, 63, 64, 65, 500, 4000]
    messages = [
        {f"of_{share}": f"{share} {place}" for share in shares if place % share == 0} for place in range(BLOCK_ROWS)
    ]
    late = [{f"of_{share}": "x" for share in shares if place >= BLOCK_ROWS - 9 * share} for place in range(BLOCK_ROWS)]
    if recorded:
        sent(lake, messages[:1] * 3)
        assert len(kinds(lake)) == len(shares)
    sent(lake, messages + late, HOUR.next)
    rows = read(lake, "hour=11/part-00000")
    found = [
        {name: row[name] for name in kinds(lake) if row[name] is not None} | json.loads(row["_extra"] or "{}")
        for row in rows
    ]
    assert found == messages + late
    assert [row["_extra"] for row in rows if row["_extra"]] == []


@pytest.mark.parametrize("nested", ["columns", "structs"])
def test_a_nested_field_is_counted_by_its_path(lake, nested):
    lake = replace(lake, form=Form(numbers="double", nested_objects=nested))
    sent(lake, [NORMAL] * 9 + [NORMAL | {"at": {"lat": 1.5, "alt": 2}}] * 2 + [{"alt": 3}] * 2)
    assert {name.replace(".", "_") for name in kinds(lake)} == set(COLUMNS_OF_NORMAL)
    sent(lake, [NORMAL] * 9 + [NORMAL | {"at": {"lat": 1.5, "alt": 2}}] * 3, HOUR.next)
    assert {name.replace(".", "_") for name in kinds(lake)} == {*COLUMNS_OF_NORMAL, "at_alt"}


def test_a_message_with_many_elements_counts_once(lake):
    lake = replace(lake, form=Form(arrays="elements", numbers="double"))
    sent(lake, [[NORMAL]] * 9 + [[NORMAL | {"odd": 1}] * 20])
    assert kinds(lake) == COLUMNS_OF_NORMAL
    sent(lake, [[NORMAL]] * 9 + [[NORMAL | {"odd": 1}] * 20] * 3, HOUR.next)
    assert kinds(lake) == COLUMNS_OF_NORMAL | {"odd": "double"}


def test_arrays_have_the_kind_of_most_or_are_json(lake):
    sent(lake, [{"a": [1], "b": [1.5]}] * 5 + [{"a": ["x"], "b": [{}]}] * 2 + [{"c": []}] * 9)
    assert kinds(lake) == {"a": "double[]", "b": "double[]"}
    sent(lake, [{"d": [1]}] * 5 + [{"d": [{}]}] * 6, HOUR.next)
    assert kinds(lake)["d"] == "json"


def test_what_a_block_held_and_what_it_put_aside_are_both_in_the_column_that_the_hour_makes(lake):
    arrays = [{"a": [1.5]}] * 20 + [{"a": [{}]}] * 3 + [NORMAL] * (BLOCK_ROWS - 23) + [{"a": [{}]}] * 100
    assert sent(lake, arrays).statuses == {"ok": BLOCK_ROWS + 100}
    assert Counter(row["a"] for row in read(lake, "part-00000")) == {"[1.5]": 20, "[{}]": 103, None: BLOCK_ROWS - 23}


def test_a_recorded_column_is_filled_by_one_message_as_by_many(lake):
    sent(lake, [NORMAL] * 3)
    assert sent(replace(lake, new_column_messages=1_000_000), [NORMAL], HOUR.next).statuses == {"ok": 1}


def test_a_flood_of_names_is_forgotten_and_what_is_frequent_is_not(lake):
    flood = [NORMAL | {f"f{place}_{number}": number for number in range(900)} for place in range(12)]
    assert 2 * FIELDS_NOTED < 12 * 900
    sent(lake, flood)
    assert kinds(lake) == COLUMNS_OF_NORMAL
    assert [len(json.loads(row["_extra"])) for row in read(lake, "part-00000")] == [900] * 12


def test_what_is_counted_is_all_messages_of_the_hour_and_not_those_of_its_first_block(lake):
    seen = Evidence(1, {("odd",): {"double": 1}})
    seen.add(Evidence(9, {("odd",): {"double": 1}}))
    assert seen.columns(lake.contract(RULE), 3) == []
    seen.add(Evidence(1, {("odd",): {"double": 1}}))
    assert [column.name for column in seen.columns(lake.contract(RULE), 3)] == ["odd"]


def test_of_a_flood_of_names_over_many_blocks_no_more_are_noted_than_sensible_and_the_frequent_ones_are():
    seen = Evidence()
    for block in range(9):
        names = {(f"{block}_{number}",): {"double": 1} for number in range(FIELDS_NOTED // 3)}
        seen.add(Evidence(9, names | {("frequent",): {"double": 2}}))
        assert len(seen.fields) <= FIELDS_NOTED
    assert seen.fields["frequent",] == {"double": 18}


def test_a_full_table_takes_no_column_and_fills_those_that_it_has(lake):
    full = Contract(form=lake.form).adding([Contract().column((f"f{number}",), "double") for number in range(COLUMNS)])
    assert (len(full.columns), full.takes(("new",)), full.takes(("f7",))) == (COLUMNS, False, True)
    assert full.adding([full.column(("new",), "double")]) is full


UINT64 = [2**63, 2**64 - 1, 7]


def test_exact_numbers_learn_decimals_where_ids_need_them_and_their_messages_are_whole(lake):
    lake = replace(lake, form=Form(numbers="exact"))
    messages = [{"id": number, "n": 1, "ids": [number]} for number in UINT64 * 2]
    assert sent(lake, messages).statuses == {"ok": 6}
    assert kinds(lake) == {"id": DECIMAL, "n": "int64", "ids": f"{DECIMAL}[]"}
    assert [int(row["id"]) for row in read(lake, "part-00000")] == UINT64 * 2
    assert [[int(each) for each in row["ids"]] for row in read(lake, "part-00000")] == [
        [number] for number in UINT64 * 2
    ]


def test_one_id_beyond_int64_does_not_make_a_column_of_integers_one_of_decimals(lake):
    lake = replace(lake, form=Form(numbers="exact"))
    sent(lake, [{"n": 1}] * 9 + [{"n": 2**63}] * 2)
    assert kinds(lake) == {"n": "int64"}


@pytest.mark.parametrize("value", [10**20, -(10**20), 2.5, 1e300, "7", True])
def test_a_pinned_decimal_takes_whole_numbers_of_twenty_digits_and_no_others(lake, value):
    columns = Contract(form=lake.form).adding([Contract().column(("id",), DECIMAL)])
    lake.pin(RULE, columns)
    assert sent(lake, [{"id": each} for each in (*UINT64, 5.0, -UINT64[1], value)]).statuses == {"ok": 5, "partial": 1}
    rows = read(lake, "part-00000")
    assert [None if row["id"] is None else int(row["id"]) for row in rows] == [*UINT64, 5, -UINT64[1], None]
    assert json.loads(rows[-1]["_extra"]) == {"id": value}


def test_what_is_counted_of_a_field_does_not_depend_on_the_way_it_is_counted():
    for values in (
        [1, None, 2.5],
        ["x", None],
        [True],
        [1, 2**53 + 1],
        [1, "x"],
        [[1], [2.5], []],
        [[], []],
        [[1], [2, 3], []],
        [[None], ["x"]],
        [["x"]],
        [[True], []],
        [[2**60]],
        [[1], "x"],
    ):
        assert homes_of(values) == homes_of(values, list(range(len(values))))


def test_a_message_that_is_compacted_twice_is_the_same_row(lake):
    raw = DictStore()
    for place in range(3):
        raw.put(key(place, bare=True), json.dumps(NORMAL | {"odd": 1} if place == 1 else NORMAL).encode())
    compact(raw, lake)
    assert compact(raw, lake).rows_added == 0
