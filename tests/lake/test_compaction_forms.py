"""The two choices of how messages become rows: nested objects as structs, and a row for each object of an array."""

import io
import json
from dataclasses import replace
from datetime import timedelta

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from dict_store import DictStore
from test_compaction import HOUR, RULE, compact, key, rows
from test_compaction_rivals import Met, table

from fleet_pipeline.assets.lake.inspection import inspect
from fleet_pipeline.cli.demo import first_rows
from fleet_pipeline.lake.contract import Column, Contract
from fleet_pipeline.lake.layout import Lake, LakePart
from fleet_pipeline.lake.operations.look import look
from fleet_pipeline.lake.operations.rewrite import rewrite_hour
from fleet_pipeline.lake.operations.verify import purge_hour, verify_hour
from fleet_pipeline.lake.payload import ELEMENTS, FIELDS
from fleet_pipeline.lake.reading import opened
from fleet_pipeline.lake.rows import BLOCK_ROWS, HEAD, ORIGINS, typed_again
from fleet_pipeline.model.errors import ContractBroken
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.form import Form

STRUCTS, ELEMENTWISE = Form(nested_objects="structs"), Form(arrays="elements")
BATCH = b'[{"speed": 1}, {"speed": 2, "at": {"lat": 48.1}}, {"speed": "fast"}]'


@pytest.fixture
def raw():
    return DictStore()


@pytest.fixture
def structs():
    return Lake(DictStore(), "lake", form=STRUCTS, new_column_messages=1)


@pytest.fixture
def elements():
    return Lake(DictStore(), "lake", form=ELEMENTWISE)


def test_nested_objects_become_structs_that_are_null_where_all_of_their_fields_are(raw, structs, tmp_path):
    raw.put(key(1), b'{"position": {"lat": 48.1, "gps": {"sats": 7}}, "speed": 1}')
    raw.put(key(2), b'{"position": {"lon": 11.6}}')
    raw.put(key(3), b'{"position": {}, "speed": 2}')
    assert compact(raw, structs).statuses == {"ok": 3}
    assert [(row["position"], row["speed"]) for row in rows(structs, tmp_path)] == [
        ({"gps": {"sats": 7}, "lat": 48.1, "lon": None}, 1),
        ({"gps": None, "lat": None, "lon": 11.6}, None),
        (None, 2),
    ]
    assert (
        structs.contract(RULE).schema
        == pq.read_schema(next(tmp_path.rglob("*.parquet")))
        .remove_metadata()
        .remove(0)
        .empty_table()
        .select(["position", "speed"])
        .schema
    )


def test_a_field_is_a_struct_or_a_value_for_good_and_has_one_spelling(raw, structs, tmp_path):
    raw.put(key(1), b'{"a": {"b": 1}, "c": 2, "Door": {"open": true}}')
    compact(raw, structs)
    raw.put(
        key(2),
        b'{"a": 5, "c": {"d": 6}, "door": {"open": false}, "x.y": 7, "g": {"a.b": 8, "a:b": 9, "": 10, "hour": 11}}',
    )
    assert compact(raw, structs).statuses == {"partial": 1}
    row = rows(structs, tmp_path)[-1]
    assert json.loads(row["_extra"]) == {
        "a": 5,
        "c": {"d": 6},
        "door": {"open": False},
        "x.y": 7,
        "g": {"a.b": 8, "a:b": 9, "": 10},
    }
    assert structs.contract(RULE).schema.field("g").type == pa.struct([("hour", pa.int64())])


def test_fields_of_structs_have_statistics(raw, structs, tmp_path):
    for offset in range(20):
        raw.put(key(offset), json.dumps({"position": {"lat": offset / 2}}).encode())
    compact(raw, structs)
    rows(structs, tmp_path)
    group = pq.ParquetFile(next(tmp_path.rglob("*.parquet"))).metadata.row_group(0)
    [lat] = [
        group.column(place)
        for place in range(group.num_columns)
        if group.column(place).path_in_schema == "position.lat"
    ]
    assert (lat.statistics.min, lat.statistics.max, lat.has_column_index) == (0.0, 9.5, True)


def test_pyarrow_duckdb_pandas_and_polars_read_structs_that_grew(raw, structs, tmp_path):
    raw.put(key(1), b'{"position": {"lat": 48.1, "gps": {"sats": 7}}}')
    compact(raw, structs)
    raw.put(key(2), b'{"position": {"lat": 2.5, "alt": 500.5, "gps": {"hdop": 0.5}}}')
    compact(raw, structs)
    rows(structs, tmp_path)
    expected = [(48.1, None, 7, None), (2.5, 500.5, None, 0.5)]
    widest = max(
        ds.dataset(tmp_path / "lake/v1").get_fragments(), key=lambda file: file.metadata.num_columns
    ).physical_schema
    lake = ds.dataset(tmp_path / "lake/v1", schema=widest, partitioning="hive")
    read = [row["position"] for row in lake.to_table(columns=["position"]).to_pylist()]
    assert [(p["lat"], p["alt"], p["gps"]["sats"], p["gps"]["hdop"]) for p in read] == expected
    assert lake.count_rows(filter=ds.field("position", "alt") > 500) == 1
    assert [position["alt"] for position in pd.read_parquet(tmp_path / "lake/v1", schema=widest).position] == [
        None,
        500.5,
    ]
    files = f"{tmp_path}/lake/v1/**/*.parquet"
    query = f"SELECT position.lat, position.alt, position.gps.sats, position.gps.hdop FROM read_parquet('{files}', hive_partitioning=true, union_by_name=true)"
    assert duckdb.sql(f"{query} ORDER BY _ts").fetchall() == expected
    assert duckdb.sql(f"{query} WHERE position.alt > 500").fetchall() == expected[1:]
    grown = pl.ScanCastOptions(missing_struct_fields="insert")
    lazy = pl.scan_parquet(files, schema=pl.Schema(widest), missing_columns="insert", cast_options=grown)
    assert lazy.select(pl.col("position").struct.field("lat", "alt")).collect().rows() == [row[:2] for row in expected]


@pytest.mark.parametrize("form", [Form(), STRUCTS], ids=["columns", "structs"])
def test_the_demo_shows_the_first_rows_of_either_form(form, raw, tmp_path):
    lake = Lake(DictStore(), "lake", form=form)
    raw.put(key(1), b'{"serial": "A", "speed_kmh": 50.5, "battery": {"charge_percent": 80.5}}')
    compact(raw, lake)
    rows(lake, tmp_path)
    [row] = first_rows(ds.dataset(tmp_path / "lake/v1", partitioning="hive")).to_pylist()
    assert list(row.values())[1:] == ["A", 50.5, 80.5]


def test_an_inspection_finds_vehicles_and_positions_in_structs(raw, structs):
    raw.put(key(1), b'{"serial": "A", "position": {"latitude": 48.1, "longitude": 11.6}}')
    compact(raw, structs)
    raw.put(key(2), b'{"serial": "B", "position": {"latitude": 48.2, "longitude": 11.7, "altitude": 500}}')
    compact(raw, structs)
    found = inspect(Fleet(), structs, RULE, HOUR, structs.contract(RULE))
    assert (found.vehicles, found.track) == (2, ((48.1, 11.6), (48.2, 11.7)))


def test_an_array_of_objects_is_a_row_for_each_and_the_first_has_the_bytes(raw, elements, tmp_path):
    name = key(1, client="test-thing-297468ABCDEF")
    raw.put(name, BATCH)
    raw.put(key(2), b'{"speed": 4}')
    done = compact(raw, elements)
    assert (done.raw_versions, done.held, done.rows, done.complete, done.statuses) == (
        2,
        2,
        4,
        True,
        {"ok": 3, "partial": 1},
    )
    read = rows(elements, tmp_path)
    assert [(row["speed"], row["at_lat"], row["_extra"]) for row in read] == [
        (1, None, None),
        (2, 48.1, None),
        (None, None, '{"speed":"fast"}'),
        (4, None, None),
    ]
    assert [row["_payload"] for row in read] == [BATCH, None, None, b'{"speed": 4}']
    version = read[0]["_version"]
    assert [row["_version"] for row in read[:3]] == [version, f"{version}-0001", f"{version}-0002"]
    assert {(row["_key"], row["_client_id"], row["_ts"]) for row in read[:3]} == {
        (name, "test-thing-297468ABCDEF", read[0]["_ts"])
    }


@pytest.mark.parametrize(
    ("payload", "statuses"),
    [
        (b"[]", {"not_an_object": 1}),
        (b"[1, 2]", {"not_an_object": 1}),
        (b'[{"a": 1}, 2]', {"not_an_object": 1}),
        (b'[[{"a": 1}]]', {"not_an_object": 1}),
        (b'[{"a": 1}, {}]', {"ok": 2}),
        (b'[{"a": 1}, {"a": 1, "a": 2}]', {"duplicate_names": 1}),
        (b'[{"a": 1}', {"malformed": 1}),
        (b'[{"a": ' + b"[" * 40 + b"]" * 40 + b"}]", {"too_deep": 1}),
        (b"[" + b"{}," * ELEMENTS + b"{}]", {"too_many_elements": 1}),
        (
            json.dumps([{f"f{number}": 1 for number in range(FIELDS + 1)}, {"a": 1}]).encode(),
            {"too_many_fields": 1, "ok": 1},
        ),
        (json.dumps([{"a": number} for number in range(FIELDS + 1)]).encode(), {"ok": FIELDS + 1}),
        (b"", {"empty": 1}),
        (b"[" * (1024 * 1024 + 1), {"too_large": 1}),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else "+".join(value),
)
def test_only_an_array_of_objects_is_taken_apart_and_within_bounds(raw, elements, payload, statuses):
    raw.put(key(1), payload)
    raw.put(key(2), b'{"a": 1}')
    done = compact(raw, elements)
    assert done.statuses == {**statuses, "ok": statuses.get("ok", 0) + 1}
    assert (done.held, done.complete) == (2, True)
    assert verify_hour(raw, elements, RULE, HOUR).passed


def test_a_flood_of_elements_is_made_into_rows_a_block_at_a_time_and_no_array_is_parted():
    payloads = [b"[" + b'{"a":1},' * (ELEMENTS - 1) + b'{"a":1}]', b"{}"] * 3
    origins = [
        pa.array([None] * 6, HEAD.field(name).type)
        if name != "_version"
        else pa.array([f"{row:016x}" for row in range(1, 7)])
        for name in ORIGINS
    ]
    made = [block.table for block in typed_again(origins, payloads, Contract(form=ELEMENTWISE))]
    assert sum(each.num_rows for each in made) == 3 * ELEMENTS + 3
    assert all(each.num_rows <= BLOCK_ROWS + ELEMENTS for each in made)
    holders = [{version[:16] for version in each["_version"].to_pylist()} for each in made]
    assert sum(map(len, holders)) == len(set.union(*holders)) == 6


def test_a_finished_hour_of_arrays_is_not_written_to_again_and_late_ones_are_added(raw, elements):
    for offset in range(5):
        raw.put(key(7, bare=True), BATCH.replace(b"1", str(offset).encode()))
    first, second = compact(raw, elements), compact(raw, elements)
    assert (first.rows_added, first.recovered_collisions, second.rows_added, second.put_requests) == (15, 4, 0, 0)
    raw.put(key(3), BATCH)
    late = compact(raw, elements)
    assert (late.rows_before, late.rows_added, late.rows, late.held, len(late.parts_added)) == (15, 3, 18, 6, 1)
    found = inspect(Fleet(), elements, RULE, HOUR, elements.contract(RULE))
    assert (found.rows, found.identities, found.versions, found.keys) == (18, 18, 6, 2)


def test_a_rival_that_adds_some_of_the_arrays_leaves_the_others(raw):
    for offset in range(10):
        raw.put(key(offset), BATCH)
    fewer = DictStore()
    fewer.objects = dict(list(raw.objects.items())[::2])
    lake = Lake(Met(lambda: compact(fewer, lake)), "lake", form=ELEMENTWISE)
    done = compact(raw, lake)
    assert (done.rows, done.rows_added, done.held, len(done.parts_added)) == (30, 15, 10, 1)
    assert len({(row["_key"], row["_version"]) for row in table(lake)}) == len(table(lake)) == 30


def test_what_is_uncompacted_is_counted_in_versions_and_not_in_rows(raw, elements):
    for offset in range(3):
        raw.put(key(offset), BATCH)
    compact(raw, elements)
    raw.put(key(10), b'{"late": 1}')
    assert (look(raw, elements, RULE, HOUR).held, look(raw, elements, RULE, HOUR).uncompacted) == (3, 1)
    compact(raw, elements)
    purge_hour(raw, elements, RULE, HOUR, now=HOUR.end + timedelta(days=1))
    assert sum(map(len, raw.objects.values())) == 0
    raw.put(key(11), BATCH)
    assert look(raw, elements, RULE, HOUR).uncompacted == 1
    assert compact(raw, elements).rows_added == 3


def test_a_table_keeps_its_form_until_it_is_rewritten_and_a_rewrite_goes_both_ways(raw):
    store = DictStore()
    first = Lake(store, "lake")
    for offset in range(3):
        raw.put(key(offset), BATCH)
    raw.put(key(5), b'{"at": {"lat": 1}}')
    assert compact(raw, first).rows == 4
    raw.put(key(9), BATCH)
    changed = Lake.current(store, "lake", Form("structs", "elements"))
    assert compact(raw, changed).rows == 5
    assert changed.contract(RULE).form == Form()
    second = changed.next_generation
    done = rewrite_hour(changed, second, RULE, HOUR)
    assert (done.rows_before, done.rows, done.versions_before, done.versions, done.complete) == (5, 13, 5, 5, True)
    assert second.contract(RULE).form == Form("structs", "elements")
    assert second.contract(RULE).schema.field("at").type == pa.struct([("lat", pa.float64())])
    third = replace(second, form=Form()).next_generation
    back = rewrite_hour(second, third, RULE, HOUR)
    assert (back.rows_before, back.rows, back.complete) == (13, 5, True)
    assert all(verify_hour(raw, lake, RULE, HOUR).passed for lake in (first, second, third))
    assert third.contract(RULE).columns == first.contract(RULE).columns


def test_two_who_begin_a_table_in_different_forms_cannot_both_write_it(raw):
    for offset in range(3):
        raw.put(key(offset), BATCH)
    store = Met(lambda: None)
    elements, whole = Lake(store, "lake", form=ELEMENTWISE), Lake(store, "lake")

    class Raced(DictStore):
        """The other one records its form once the first hour was read."""

        def bodies(self, versions):
            yield from super().bodies(versions)
            compact(raw, whole)

    raced = Raced()
    raced.objects = raw.objects
    with pytest.raises(ContractBroken, match="~ arrays: whole -> elements"):
        compact(raced, elements)
    assert len(table(whole)) == 3
    assert compact(raw, elements).complete


def test_a_record_keeps_its_form_and_one_without_it_is_of_the_first(raw, elements):
    raw.put(key(1), b"{broken")
    compact(raw, elements)
    record = elements.contract(RULE)
    assert (record.form, record.number, len(record.columns)) == (ELEMENTWISE, 0, 0)
    assert Contract.of_json(record.to_json(), 0) == record
    assert (
        Contract.of_json(
            b'{"pinned": false, "columns": [{"name": "a_b", "path": ["a", "b"], "kind": "int64"}]}', 3
        ).form
        == Form()
    )


def test_a_pin_can_choose_neither_the_form_nor_a_kind_that_there_is_not(structs):
    with pytest.raises(ContractBroken, match="~ nested_objects: structs -> columns"):
        structs.pin(RULE, Contract({"a": Column(("a",), "double")}))
    empty = Contract(form=STRUCTS)
    pinned = structs.pin(RULE, empty.adding([empty.column(("a", "b"), "double")]))
    assert list(pinned.columns) == ["a.b"]
    for path, kind in ((("a",), "double"), (("A", "c"), "double"), (("d",), "float")):
        column = empty.column(path, kind)
        with pytest.raises(
            ContractBroken, match=rf"\+ {column.name} {kind}: there is no such kind, or the name is another field's"
        ):
            structs.pin(RULE, replace(pinned, columns={**pinned.columns, column.name: column}))


def test_parts_that_say_nothing_of_versions_have_one_in_each_row():
    body, columns = io.BytesIO(), pa.schema([("_version", pa.string())])
    pq.write_table(
        pa.table([["a" * 16, "b" * 16]], columns.with_metadata({"fleet_pipeline": json.dumps({"rows": 2})})), body
    )
    store = DictStore()
    store.put("part", body.getvalue())
    assert opened(store, LakePart("part", len(body.getvalue())), columns).versions == 2
