"""Private fields stay in the payload: no column, no `_extra`, no preview has them, or has them coarsened only."""

import io
import json
from dataclasses import replace
from datetime import datetime
from itertools import pairwise

import pyarrow.parquet as pq
import pytest
from dict_store import DictStore
from test_compaction import HOUR
from test_compaction_upkeep import read
from test_own_columns import sent

from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.rewrite import rewrite_hour
from fleet_pipeline.lake.payload import judged
from fleet_pipeline.lake.personal import Hider
from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.personal import PrivateField
from fleet_pipeline.model.settings import fleet_of


def rule_of(*private, **settings):
    return fleet_of(private_columns=private, rule_keys=("rule1",), **settings).rules[0]


def hidden(fields, *private):
    Hider(map(PrivateField.of, private)).message(("ok", fields))
    return fields


@pytest.fixture
def lake():
    return Lake(DictStore(), "lake")


SECRET = "Mustermann"
SAID = {
    "driver": {"name": SECRET, "shift": 2},
    "position": {"latitude": 52.516275, "longitude": 13.377704},
    "recorded_at": "2026-11-23T10:17:59.123Z",
    "speed": 12.5,
}


@pytest.mark.parametrize("form", ["columns", "structs"])
def test_no_column_and_no_extra_has_what_is_private_and_the_payload_has_it(lake, form):
    rule = rule_of(
        "driver.name", "position.latitude=2", "position.longitude=2", "recorded_at=minute", nested_objects=form
    )
    lake = Lake(lake.store, lake.prefix, form=fleet_of(nested_objects=form).form)
    sent(lake, rule, *[SAID] * 3)
    row = read(lake, "part-00000")[0]
    typed = json.dumps({name: value for name, value in row.items() if name != "_payload"}, default=str)
    assert SECRET not in typed
    assert "52.516" not in typed
    assert "10:17:59" not in typed
    assert "52.52" in typed
    assert "2026-11-23T10:17:00Z" in typed
    assert (row["_extra"], row["_status"], json.loads(row["_payload"])) == (None, "ok", SAID)


def test_a_field_that_had_a_column_before_it_was_private_leaves_it_empty_from_then_on(lake):
    sent(lake, rule_of(), *[SAID] * 3)
    sent(lake, rule_of("driver"), *[SAID] * 3, hour=HOUR.next)
    first, later = (lake.parts(rule_of(), hour)[0].key for hour in (HOUR, HOUR.next))
    assert {row["driver_name"] for row in read(lake, first)} == {SECRET}
    assert {row["driver_name"] for row in read(lake, later)} == {None}


@pytest.mark.parametrize(
    ("fields", "private", "left"),
    [
        ({"a": 1, "b": 2}, ["a"], {"b": 2}),
        ({"A": 1, "a": 2}, ["a"], {}),
        ({"p": {"lat": 1.239, "lon": 5}}, ["p.lat=2"], {"p": {"lat": 1.24, "lon": 5}}),
        ({"p": [{"lat": 1.239}, {"lat": "x"}, 7]}, ["p.lat=2"], {"p": [{"lat": 1.24}, {}, 7]}),
        ({"p": {"q": 1}}, ["p"], {}),
        ({"p": 7}, ["p.q"], {"p": 7}),
        ({"p.q": 7}, [r"p\.q"], {}),
        ({"p=q": 7}, [r"p\=q"], {}),
        ({"n": True}, ["n=0"], {}),
        ({"n": None}, ["n=0"], {}),
        ({"n": "52.1"}, ["n=0"], {}),
        ({"at": "2026-11-23 10:17:59+01:00"}, ["at=hour"], {"at": "2026-11-23T10:00:00+01:00"}),
        ({"at": "2026-11-23T10:17"}, ["at=day"], {"at": "2026-11-23T00:00:00"}),
        ({"at": "yesterday"}, ["at=day"], {}),
        ({"at": 1763893079}, ["at=minute"], {"at": 1763893020}),
        ({"at": 1763893079123}, ["at=hour"], {"at": 1763892000000}),
        ({"at": 1763893079123456}, ["at=hour"], {"at": 1763892000000000}),
        ({"at": 1763893079123456789}, ["at=minute"], {"at": 1763893020000000000}),
        ({"at": 1.763893079123456e15}, ["at=hour"], {"at": 1763892000000000}),
        ({"at": -1763893079123456}, ["at=hour"], {"at": -1763895600000000}),
        ({"at": 10**20}, ["at=hour"], {}),
        ({"at": 10**400}, ["at=hour"], {}),
    ],
)
def test_what_is_hidden_is_gone_or_coarse_and_all_else_stays(fields, private, left):
    assert hidden(fields, *private) == left


@pytest.mark.parametrize(
    "said",
    [
        "2026-02-30T10:33:44Z",
        "2025-02-29T10:33:44Z",
        "2026-13-01T10:33:44Z",
        "2026-00-01T10:33:44Z",
        "2026-02-28T24:00:00Z",
        "2026-02-28T10:60:00Z",
        "2026-02-28T10:33:61Z",
        "2026-02-28T10:33:99Z",
        "0000-01-01T00:00:00Z",
        "2026-02-28T10:33:44+99:99",
        "2026-02-28T10:33:44-24:00",
        "2026-02-28T10:33:44+0160",
        "2026-02-27T23:59:60Z",
        "2016-12-31T23:58:60Z",
        "2017-01-01T00:59:60",
        "9999-12-31T23:59:60Z",
        "2026-W09-1T10:33:44Z",
        "2026-059T10:33:44Z",
        "2026-02-28T10:33:44Z\n",
        "\uff12\uff10\uff12\uff16-02-28T10:33:44Z",
        -62_135_596_801,
        -62_135_596_800_001,
        -9e10,
    ],
)
@pytest.mark.parametrize("unit", ["minute", "hour", "day"])
def test_of_an_instant_that_does_not_exist_nothing_is_kept(said, unit):
    assert hidden({"at": said, "speed": 1}, f"at={unit}") == {"speed": 1}


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("2024-02-29T10:33:44Z", "2024-02-29T10:33:00Z"),
        ("0001-01-01T00:00:59+01:00", "0001-01-01T00:00:00+01:00"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:00Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:00Z"),
        ("2017-01-01T00:59:60+01:00", "2017-01-01T00:59:00+01:00"),
        ("2026-02-28T10:33:44,5-0330", "2026-02-28T10:33:00-0330"),
        (-62_135_596_800, -62_135_596_800),
    ],
)
def test_of_an_instant_that_exists_the_minute_is_kept(said, kept):
    assert hidden({"at": said}, "at=minute") == {"at": kept}


@pytest.mark.parametrize("said", [b"nan", b"-Infinity", b'"52.123456"', b"[52.123456]", b'{"v":52.123456}', b"true"])
@pytest.mark.parametrize("keep", ["0", "2", "minute"])
def test_of_what_is_no_number_nothing_is_kept(said, keep):
    status, fields = judged(b'{"at": ' + said + b', "n": 1}', lenient=True)
    assert (status, hidden(fields, f"at={keep}")) == ("ok", {"n": 1})


NEVER = "2026-02-30T10:33:"
"""No day of February."""


@pytest.mark.parametrize("form", ["columns", "structs"])
def test_no_part_has_an_instant_that_does_not_exist_neither_typed_nor_in_extra_nor_after_a_rewrite(form):
    rule = rule_of("at=minute", "far.at=day", "list.at=hour", nested_objects=form)
    lake = Lake(DictStore(), "lake", form=fleet_of(nested_objects=form).form)
    never = [f"{NEVER}{second:02d}Z" for second in range(10, 15)]
    said = [{"at": each, "far": {"at": each}, "list": [{"at": each}], "n": 1} for each in never]
    sent(lake, rule, *said, {"at": "2026-02-28T10:33:44Z", "only": {"once": 1}, "n": 1})
    new = replace(lake, generation=2)
    rewrite_hour(lake, new, rule, HOUR)
    for each in (lake, new):
        [part] = each.parts(rule, HOUR)
        file = pq.ParquetFile(io.BytesIO(lake.store.read(part.key, 0, part.size)))
        rows = file.read().drop_columns(["_payload"])
        assert rows.num_rows == len(said) + 1
        assert NEVER not in repr(rows.to_pylist()) + repr(file.metadata.row_group(0).to_dict())
        assert "2026-02-28T10:33:00Z" in repr(rows.to_pylist())


def test_a_number_that_no_double_is_becomes_coarse_too():
    _, fields = judged(b'{"lat": 52.516275000000000000001, "long": 13.000000000000000000001}')
    assert hidden(fields, "lat=1", "long") == {"lat": 52.5}


def test_a_whole_number_beyond_a_double_is_cut_or_left_out_and_never_a_defect():
    digits = "9" * 400
    _, fields = judged(f'{{"at": {digits}, "far": {digits}, "n": 1.5}}'.encode())
    kept = hidden(fields, "at=minute", "far=2")
    assert kept["n"] == 1.5
    assert all(isinstance(value, int) for name, value in kept.items() if name != "n")


@pytest.mark.parametrize(
    ("private", "words"),
    [
        (("a.",), "name a field"),
        (("a\\b",), "name a field"),
        (("a=b=c",), "name a field"),
        (("a=10",), "0 to 9 decimals"),
        (("a=second",), "minute, hour, day"),
        (("serial",), "vehicle_field"),
        (("Serial",), "vehicle_field"),
        (("a", "a.b"), "covers it"),
        (("a=1", "A=2"), "covers it"),
    ],
)
def test_a_private_field_that_cannot_be_is_refused_before_anything_is_written(private, words):
    with pytest.raises(InvalidSetting, match=words):
        fleet_of(private_columns=private)


@pytest.mark.parametrize("parts", [10**3, 10**6, 10**9])
@pytest.mark.parametrize("at", ["1970-04-27", "1973-03-01", "1999-12-31", "2026-11-23", "2286-11-20"])
def test_an_epoch_time_of_a_clock_that_is_far_off_keeps_no_more_than_its_unit(at, parts):
    begin = int(datetime.fromisoformat(f"{at}T00:00+00:00").timestamp())
    said = (begin + 37_259) * parts + 7
    assert hidden({"at": said}, "at=day") == {"at": begin * parts}
    assert hidden({"at": said}, "at=minute") == {"at": (begin + 37_200) * parts}


def test_an_instant_is_coarsened_to_the_beginning_of_its_unit_whatever_it_is():
    seconds = [1_763_893_079 + 61 * step for step in range(100)]
    cut = [hidden({"at": each}, "at=minute")["at"] for each in seconds]
    assert all(each % 60 == 0 for each in cut)
    assert all(before < after for before, after in pairwise(cut))
