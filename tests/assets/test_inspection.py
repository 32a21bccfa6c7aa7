"""What is reported of an hour: the same whatever vehicles send, and never a reason for the hour to fail."""

import json
import uuid
from dataclasses import replace
from itertools import chain, count, pairwise

import dagster as dg
import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from dict_store import DictStore
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fleet_pipeline.assets.lake.hour_metadata import hour_metadata
from fleet_pipeline.assets.lake.inspection import TRACK_POINTS, by_key, inspect
from fleet_pipeline.assets.lake.verdicts import Outcome
from fleet_pipeline.assets.shared.pictures import INLINE, MOST_DOTS, bars, dots
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.assets.shared.shown import NOT_SHOWN, attempted, cell
from fleet_pipeline.lake.analytics.vehicles import UNNAMED, UNREADABLE, seen
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.form import Form
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName

FLEET, HOUR = Fleet(), Hour.parse("2026-11-23-10:00")
RULE = FLEET.rules[0]
FORMS = [
    Form("columns", numbers="double"),
    Form("structs", "elements", numbers="double"),
    Form("columns", "elements"),
    Form("structs"),
]


class Trial:
    """An hour of messages, compacted and looked at."""

    def __init__(self, form=FORMS[0], fleet=FLEET):
        self.fleet, self.raw, self.lake = fleet, DictStore(), Lake(DictStore(), "lake", form=form)
        self._number = count()

    def send(self, *bodies):
        for body in bodies:
            name = RawName(HOUR.start_ms + next(self._number), str(uuid.UUID(int=next(self._number), version=4)))
            self.raw.put(RULE.raw_key(name), body if isinstance(body, bytes) else json.dumps(body).encode())
        self.compacted = compact_hour(self.raw, self.lake, RULE, HOUR)
        return self

    @property
    def found(self):
        return inspect(self.fleet, self.lake, RULE, HOUR, self.lake.contract(RULE))

    @property
    def metadata(self):
        return hour_metadata(
            Scope(self.fleet), RULE, Outcome(HOUR, self.compacted, self.found, ()), self.lake.contract(RULE)
        )

    @property
    def vehicles(self):
        return seen(self.fleet, self.lake, HOUR)


ODD = [
    {"serial": [1, 2]},
    {"serial": {"a": 1}},
    {"serial": True},
    {"serial": 297468000001},
    {"serial": 1.5},
    {"serial": [{"a": 1}]},
    {"serial": [1, "a"]},
    {"serial": 2**63},
    {"latitude": "48", "longitude": [1]},
    {"latitude": 1e308, "longitude": -1e308},
    {"speed_kmh": [1.5], "odometer_km": {"a": 1}, "battery": 3},
    {"speed_kmh": 1e308, "odometer_km": -1e308},
    {"battery": {"charge_percent": "full"}},
    {'a"b': 1, "c.d": 2, "e%f": 3, "g'h": 4, "i;j": 5, "select": 6, "ä漢": 7, "k`l": 8},
    {"date": "x", "hour": 1, "rule": "y", "Date": 2},
    [{"a": 1}, {"serial": "A"}],
]
"""First messages of a table, each of which makes columns of its own kinds and names."""


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("odd", ODD, ids=json.dumps)
def test_whatever_a_table_began_with_its_hours_are_inspected_shown_and_computed_with(form, odd):
    trial = Trial(form).send(odd, odd, odd).send({"serial": "A", "speed_kmh": 50}, b"{not json")
    found, metadata = trial.found, trial.metadata
    unreadable = 4 if isinstance(odd, list) and form.arrays == "whole" else 1
    assert (found.rows, found.identities, found.unreadable) == (trial.compacted.rows, trial.compacted.rows, unreadable)
    assert NOT_SHOWN not in [getattr(value, "text", None) for value in metadata.values()]
    assert {"messages a minute", "some rows", "dagster/column_schema", "dagster/column_lineage"} <= set(metadata)
    vehicles = trial.vehicles.rows.to_pylist()
    assert all(row["speed_mean_kmh"] in {None, 50.0} for row in vehicles if row["vehicle"] == "A")


@pytest.mark.parametrize(
    ("numbers", "serial", "named"),
    [
        ("double", 297468000001, "297468000001"),
        ("exact", 297468000001, "297468000001"),
        ("double", 1.5, None),
        ("exact", True, None),
    ],
)
def test_a_vehicle_is_named_by_a_text_or_a_whole_number_and_by_nothing_else(numbers, serial, named):
    trial = Trial(Form(numbers=numbers)).send({"serial": serial})
    assert (trial.vehicles.rows["vehicle"].to_pylist(), trial.found.vehicles) == (
        [named] if named else [],
        1 if named else 0,
    )
    assert trial.vehicles.notes == {UNNAMED: 0 if named else 1, UNREADABLE: 0}


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_field_whose_name_is_spelled_like_a_path_feeds_and_blanks_nothing(form):
    evil = {"speed.kmh": "evil", "battery.charge_percent": 1, "speed": {"kmh": 999}}
    trial = Trial(form).send(*({"serial": "A", "speed_kmh": 50, "battery": {"charge_percent": 80}} for _ in range(3)))
    trial.send(*(evil | {"serial": "A"} for _ in range(3)))
    [row] = trial.vehicles.rows.to_pylist()
    assert (row["messages"], row["speed_samples"], row["speed_mean_kmh"], row["battery_min_percent"]) == (
        6,
        3,
        50.0,
        80.0,
    )
    [alone] = Trial(form).send({"serial": "A", "speed.kmh": 999, "battery.charge_percent": 1}).vehicles.rows.to_pylist()
    assert (alone["speed_samples"], alone["battery_min_percent"]) == (0, None)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_field_that_names_the_vehicle_is_found_by_its_path(form):
    message = {"vehicle": {"id": "A", "i.d": "B"}, "serial": "C"}
    for field, named in (("serial", "C"), ("vehicle.id", "A")):
        trial = Trial(form, replace(FLEET, vehicle_field=field)).send(message)
        assert (trial.vehicles.rows["vehicle"].to_pylist(), trial.found.vehicles) == ([named], 1)


def test_another_field_for_the_vehicle_makes_a_revision():
    trial = Trial().send({"serial": "A", "vin": "B"})
    assert trial.vehicles.rows["vehicle"].to_pylist() == ["A"]
    trial.fleet = replace(FLEET, vehicle_field="vin")
    assert trial.vehicles.rows.select(["vehicle", "revision"]).to_pylist() == [{"vehicle": "B", "revision": 1}]


def test_a_number_too_large_to_be_computed_with_is_null_and_no_infinity():
    [row] = Trial().send(*({"serial": "A", "speed_kmh": 1e308} for _ in range(3))).vehicles.rows.to_pylist()
    assert (row["speed_samples"], row["speed_mean_kmh"], row["speed_max_kmh"]) == (3, None, 1e308)


def test_positions_that_are_no_places_on_earth_are_not_drawn():
    places = [(48.1, 11.5), (1e308, 0), (91, 0), (0, 180.5), (-90, -180), (None, 3)]
    trial = Trial().send(*({"latitude": latitude, "longitude": longitude} for latitude, longitude in places))
    assert trial.found.track == ((48.1, 11.5), (-90.0, -180.0))


def test_an_account_shows_neither_rows_nor_positions_unless_asked_to():
    trial = Trial(fleet=replace(FLEET, profile="aws")).send({"serial": "A", "latitude": 48.1, "longitude": 11.5})
    assert {"some rows", "where vehicles were"}.isdisjoint(trial.metadata)
    assert (trial.found.preview, trial.found.track, trial.found.vehicles) == (None, (), 1)
    trial.fleet = replace(trial.fleet, previews="on")
    assert {"some rows", "where vehicles were"} <= set(trial.metadata)


def test_of_many_positions_some_are_kept_spread_over_the_hour():
    trial = Trial().send(*({"latitude": 0.01 * number, "longitude": 0.0} for number in range(1000)))
    track = trial.found.track
    assert TRACK_POINTS <= len(track) < 2 * TRACK_POINTS
    assert (track[0][0], len({round(later[0] - before[0], 6) for before, later in pairwise(track)})) == (0.0, 1)


ANY = st.one_of(st.none(), st.floats(), st.sampled_from([1e308, -1e308, 90.0, 180.0, -0.0]))


@given(st.lists(st.tuples(ANY, ANY), max_size=200))
@settings(deadline=None)
@example([(float("nan"), float("inf"))])
@example([(1e308, 1e308), (-1e308, 0.0)])
@example([(90.0, 180.0), (-90.0, -180.0)])
def test_a_picture_is_drawn_of_any_positions(points):
    assert len(dots(points, "t")) <= INLINE


def test_a_picture_is_drawn_of_a_million_positions_and_of_none():
    assert len(dots([(number % 90, number % 180) for number in range(1_000_000)], "t")) <= INLINE
    assert dots([], "t").endswith("\n\nt")
    assert bars([], "t").endswith("\n\nt")
    assert MOST_DOTS < TRACK_POINTS


@pytest.mark.parametrize(
    ("far", "said"),
    [(1.0, "114.2 km wide"), (0.1, "11.4 km wide"), (0.001, "114 m wide"), (0.0, "17 m wide")],
)
def test_a_picture_of_positions_says_how_wide_it_is(far, said):
    assert dots([(0.0, 0.0), (0.0, far)], "north up").endswith(f"\n\nnorth up; {said}")


def test_what_nobody_foresaw_in_a_picture_is_said_in_its_place_and_logged(caplog):
    def broken():
        raise ZeroDivisionError("unforeseen")

    assert attempted({"good": lambda: 1, "bad": broken}) == {"good": 1, "bad": dg.MetadataValue.text(NOT_SHOWN)}
    assert "unforeseen" in caplog.text
    assert "Traceback" in caplog.text


def test_a_value_in_a_table_is_one_that_json_carries_unchanged():
    values = [None, True, 1, 1.5, 2**60, float("nan"), float("-inf"), b"\x1b[31m", "![x](y)\n", [1, {"a": 2}]]
    assert [cell(value) for value in values] == [
        None,
        True,
        1,
        1.5,
        str(2**60),
        "nan",
        "-inf",
        "\\x1b[31m",
        "![x](y)\\n",
        "[1, {'a': 2}]",
    ]


KEYS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 3)), max_size=30)


@given(st.lists(st.tuples(KEYS, st.integers(1, 5)), min_size=1, max_size=4))
@settings(deadline=None)
def test_rows_of_several_parts_come_once_and_all_of_a_key_together(parts):
    schema = pa.schema([("_key", pa.string()), *((name, kind) for name, kind in _others())])

    def stream(rows, size):
        table = pa.table({"_key": [key for key, _ in sorted(rows)]}).cast(pa.schema([("_key", pa.string())]))
        for name, kind in _others():
            table = table.append_column(name, pa.nulls(len(rows), kind))
        return (table.cast(schema).slice(start, size) for start in range(0, len(rows), size))

    tables = [table["_key"].to_pylist() for table in by_key([stream(rows, size) for rows, size in parts])]
    assert sorted(chain.from_iterable(tables)) == sorted(key for rows, _ in parts for key, _ in rows)
    assert sum(len(set(keys)) for keys in tables) == len({key for rows, _ in parts for key, _ in rows})


def _others():
    texts = [(name, pa.string()) for name in ("_status", "vehicle")]
    return [
        ("_version", pa.string()),
        ("_ts", pa.timestamp("ms", "UTC")),
        *texts,
        ("latitude", pa.float64()),
        ("longitude", pa.float64()),
    ]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_fields_that_are_called_like_the_partitions_leave_them_to_every_reader(form, tmp_path):
    own = {
        "date": "1999-01-01",
        "hour": 99,
        "rule": "evil",
        "Date": 1,
        "HOUR": [1],
        "Rule": {"rule": 1, "x": 2},
        "serial": "A",
    }
    trial = Trial(form).send(*([[own, own]] if form.arrays == "elements" else [own, own]))
    for key, [(_, body)] in trial.lake.store.objects.items():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(body)
    root, wanted = tmp_path / trial.lake.root, [("rule1", "2026-11-23", "10", "A")] * 2
    types = "hive_types = {'rule': VARCHAR, 'date': VARCHAR}"
    by_duckdb = duckdb.sql(
        f"SELECT rule, date, hour, serial FROM read_parquet('{root}/*/*/*/*.parquet', {types})"
    ).fetchall()
    by_pyarrow = ds.dataset(root, partitioning="hive").to_table(["rule", "date", "hour", "serial"])
    by_polars = (
        pl.scan_parquet(f"{root}/**/*.parquet", hive_partitioning=True, try_parse_hive_dates=False)
        .select("rule", "date", "hour", "serial")
        .collect()
    )
    for rows in (by_duckdb, by_polars.rows(), zip(*(column.to_pylist() for column in by_pyarrow.columns), strict=True)):
        assert [tuple(map(str, row)) for row in rows] == wanted
