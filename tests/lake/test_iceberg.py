"""The lake as Iceberg tables: a table has what the lake has, whoever brings it up to date, however they die."""

import subprocess
import sys
import zipfile
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from iceberg_deaths import Killed, Life, dying
from iceberg_lake import HOURS, Filled, NotedFiles, noted
from test_older_tables import ARCHIVE

from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.lake.field_ids import A_GENERATION
from fleet_pipeline.lake.iceberg.check import compare
from fleet_pipeline.lake.iceberg.columns import FOR_SPARK
from fleet_pipeline.lake.iceberg.data_files import entries
from fleet_pipeline.lake.iceberg.maintenance import maintain
from fleet_pipeline.lake.iceberg.sync import replace_hour, sync
from fleet_pipeline.lake.iceberg.tables import Tables
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.privacy.rewriting import without
from fleet_pipeline.model.errors import CatalogRefused, CatalogUnavailable, NotOurTable, PartDamaged
from fleet_pipeline.model.hour import Hour


@pytest.fixture
def filled(fleet):
    return Filled(fleet)


def speeds(count, **more):
    return [{"speed_kmh": number, **more} for number in range(count)]


def test_a_table_has_what_the_lake_has_and_a_second_run_changes_nothing(filled):
    filled.add(HOURS[0], *speeds(5, at={"lat": 48.5}))
    first = filled.sync()
    assert (first.files, first.rows, first.added, first.removed) == (1, 5, 1, 0)
    assert sorted(filled.rows()["speed_kmh"].to_pylist()) == [0, 1, 2, 3, 4]
    again = filled.sync()
    assert (again.snapshot_id, again.metadata_location, again.changed) == (
        first.snapshot_id,
        first.metadata_location,
        False,
    )
    assert compare(filled.tables, filled.rule).same


def test_a_rule_without_a_part_has_an_empty_table_with_the_columns_of_every_row(filled):
    done = filled.sync()
    assert (done.files, done.rows, done.snapshot_id) == (0, 0, None)
    assert filled.rows().column_names[:3] == ["_key", "_ts", "_topic"]
    assert compare(filled.tables, filled.rule).same


def test_late_messages_new_columns_and_hours_follow_in_one_snapshot(filled):
    filled.add(HOURS[0], *speeds(5))
    filled.sync()
    filled.add(HOURS[0], *speeds(5, tags=["a", "b"], at={"lat": 1.5}))
    filled.add(HOURS[1], *speeds(3))
    done = filled.sync()
    assert (done.files, done.rows, done.added) == (3, 13, 2)
    rows = filled.rows()
    assert Counter(map(str, rows["tags"].to_pylist())) == {"None": 8, "['a', 'b']": 5}
    assert len(filled.tables.find(filled.rule).snapshots()) == 2


def test_fields_of_structs_that_come_later_are_null_in_the_files_before(make_fleet):
    filled = Filled(make_fleet(nested_objects="structs"))
    filled.add(HOURS[0], *({"at": {"lat": 1.5}} for _ in range(4)))
    filled.sync()
    filled.add(HOURS[1], *({"at": {"lat": 2.5, "gps": {"sats": [7]}}} for _ in range(4)))
    filled.sync()
    found = sorted(filled.rows()["at"].to_pylist(), key=str)
    assert found == 4 * [{"lat": 1.5, "gps": None}] + 4 * [{"lat": 2.5, "gps": {"sats": [7]}}]


def test_a_question_about_an_hour_opens_no_file_of_another(filled):
    for hour in HOURS:
        filled.add(hour, *speeds(3))
    filled.sync()
    table = filled.tables.find(filled.rule)
    asked = table.scan(row_filter=f"_ts >= '{HOURS[1].start.isoformat()}'")
    assert ["hour=10" in task.file.file_path for task in asked.plan_files()] == [True]
    assert asked.to_arrow().num_rows == 3


def test_a_new_generation_replaces_the_old_one_in_one_snapshot_and_its_columns_with_it(filled):
    for hour in HOURS:
        filled.add(hour, *({"odd": str(number)} for number in range(5)))
    before = filled.sync()
    filled.generation()
    done = filled.sync()
    assert (done.files, done.rows, done.added, done.removed, done.generation) == (2, 10, 2, 2, 2)
    table = filled.tables.find(filled.rule)
    assert len(table.snapshots()) == 2
    assert table.schema().find_field("odd").field_id > 2 * A_GENERATION
    for rows in (filled.rows(), table.scan(snapshot_id=before.snapshot_id).to_arrow()):
        assert sorted(rows["odd"].to_pylist()) == sorted(2 * ["0", "1", "2", "3", "4"])


def test_a_table_that_was_dropped_is_made_again_of_the_lake_alone(filled):
    filled.add(HOURS[0], *speeds(5))
    before = filled.sync()
    filled.tables.catalog.drop_table(filled.tables.identifier(filled.rule))
    after = filled.sync()
    assert (after.files, after.rows, after.bytes, after.columns) == (
        before.files,
        before.rows,
        before.bytes,
        before.columns,
    )
    assert compare(filled.tables, filled.rule).same


def test_files_that_have_no_numbers_are_read_by_their_names_beside_those_that_have(filled):
    with zipfile.ZipFile(ARCHIVE) as archive:
        for name in sorted(name for name in archive.namelist() if name.startswith("lake/") and "rule=rule1" in name):
            key = filled.fleet.parquet_prefix + "/" + name.split("/", 2)[2]
            filled.tables.store.put_new(key, archive.read(name))
    column = next(
        name
        for name, of in filled.lake.contract(filled.rule).columns.items()
        if of.kind == "int64" and of.path == (name,)
    )
    old = filled.sync()
    known = Counter(map(str, filled.rows()[column].to_pylist()))
    assert known["None"] < old.rows
    filled.add(HOURS[0], *({column: 7} for _ in range(3)))
    filled.sync()
    found = filled.rows()
    assert found.num_rows == old.rows + 3
    assert Counter(map(str, found[column].to_pylist())) == known + Counter({"7": 3})


def test_spark_is_told_to_read_row_by_row_unless_somebody_has_said_otherwise(filled):
    filled.add(HOURS[0], *speeds(3))
    filled.sync()
    [(name, row_by_row)] = FOR_SPARK.items()
    table = filled.tables.find(filled.rule)
    assert table.properties[name] == row_by_row
    with table.transaction() as change:
        change.remove_properties(name)  # as in a table that was made before
    filled.sync()
    assert filled.tables.find(filled.rule).properties[name] == row_by_row
    with filled.tables.find(filled.rule).transaction() as change:
        change.set_properties({name: "true"})
    filled.add(HOURS[1], *speeds(3))
    filled.sync()
    assert filled.tables.find(filled.rule).properties[name] == "true"


@pytest.mark.parametrize("owner", [{}, {"fleet-pipeline.lake": "s3://another-lake/lake/rule=rule1"}])
def test_a_table_of_the_same_name_that_is_not_ours_is_refused_and_left_as_it_is(filled, owner):
    filled.add(HOURS[0], *speeds(3))
    name = filled.tables.identifier(filled.rule)
    filled.tables.catalog.create_namespace(name[0])
    filled.tables.catalog.create_table(
        name, filled.lake_schema(), f"s3://{filled.fleet.lake_bucket}/theirs", properties=owner
    )
    before = filled.tables.catalog.load_table(name).metadata_location
    with pytest.raises(NotOurTable, match="is not this lake's"):
        filled.sync()
    assert filled.tables.catalog.load_table(name).metadata_location == before


def test_the_files_of_an_hour_are_replaced_in_one_snapshot_and_no_others(filled):
    for hour in HOURS:
        filled.add(hour, *speeds(3))
        filled.add(hour, *speeds(4))
    filled.sync()
    for hour in HOURS:
        without(filled.lake, filled.rule, hour, [], fence=True)  # two parts become one
    first = replace_hour(filled.tables, filled.rule, HOURS[0])
    assert replace_hour(filled.tables, filled.rule, HOURS[0]) == first
    table = filled.tables.find(filled.rule)
    assert len(table.snapshots()) == 2
    assert sorted(file.record_count for file in entries(table, table.current_snapshot())) == [3, 4, 7]


def test_a_part_that_replaces_others_counts_from_the_moment_at_which_that_is_said(filled, monkeypatch):
    for _ in range(2):
        filled.add(HOURS[0], *speeds(3))
    filled.sync()
    with monkeypatch.context() as dying:
        dying.setattr(Lake, "replace_before", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            without(filled.lake, filled.rule, HOURS[0], [], fence=True)
    assert len(filled.lake.parts(filled.rule, HOURS[0])) == 3
    filled.add(HOURS[0], *speeds(2))
    assert (filled.sync().rows, filled.rows().num_rows) == (8, 8)
    filled.generation()
    assert (filled.sync().rows, filled.rows().num_rows) == (8, 8)
    filled.tables.catalog.drop_table(filled.tables.identifier(filled.rule))
    assert (filled.sync().rows, filled.rows().num_rows) == (8, 8)


def test_an_hour_that_is_replaced_after_a_switch_brings_all_of_the_new_generation(filled):
    for hour in HOURS:
        filled.add(hour, *speeds(3))
    filled.sync()
    filled.generation()
    replace_hour(filled.tables, filled.rule, HOURS[0])
    assert sorted(filled.rows()["speed_kmh"].to_pylist()) == [0, 0, 1, 1, 2, 2]
    assert not filled.sync().changed


def test_a_damaged_part_of_a_new_generation_leaves_the_table_with_the_one_that_it_has(filled):
    for hour in HOURS:
        filled.add(hour, *speeds(3))
    filled.sync()
    filled.generation()
    [part] = filled.lake.parts(filled.rule, HOURS[0])
    place = {"Bucket": filled.fleet.lake_bucket, "Key": part.key}
    filled.aws.s3.put_object(**place, Body=b"x" * part.size)
    for _ in range(2):
        with pytest.raises(PartDamaged, match="hour=09"):
            sync(replace(filled.tables, store=S3Store(filled.aws, filled.fleet.lake_bucket)), filled.rule)
    assert sorted(filled.rows()["speed_kmh"].to_pylist()) == [0, 0, 1, 1, 2, 2]


MONTHS = [Hour.parse(f"2026-{month:02d}-23-09:00") for month in range(6, 11)]


def test_of_a_table_that_has_what_the_lake_has_no_manifest_is_read_and_else_those_of_the_months_that_differ(filled):
    tables, rule = noted(filled.tables), filled.rule
    for hour in MONTHS:
        filled.add(hour, *speeds(3))
        filled.sync()
    maintain(filled.tables, rule, datetime.now(UTC))  # which makes one manifest of five
    for hour in (MONTHS[0].next, MONTHS[4].next):
        filled.add(hour, *speeds(3))
        filled.sync()
    NotedFiles.manifests()
    assert (sync(tables, rule).added, NotedFiles.manifests()) == (0, 0)
    filled.add(MONTHS[0], *speeds(2))  # late
    assert (sync(tables, rule).added, NotedFiles.manifests()) == (1, 2)  # that of all months and that of June
    without(filled.lake, rule, MONTHS[1], [], fence=True)
    replace_hour(filled.tables, rule, MONTHS[1])
    NotedFiles.manifests()
    assert (sync(tables, rule).changed, NotedFiles.manifests()) == (False, 2)  # what was replaced is looked at once
    assert (sync(tables, rule).changed, NotedFiles.manifests()) == (False, 0)
    assert filled.rows().num_rows == 23
    assert compare(filled.tables, rule).same


def test_what_others_did_to_a_table_is_seen_although_the_lake_is_as_it_was(filled):
    for hour in MONTHS[:3]:
        filled.add(hour, *speeds(3))
    filled.sync()
    filled.tables.find(filled.rule).delete("_ts < '2026-07-01T00:00:00+00:00'")
    assert filled.rows().num_rows == 6
    assert (filled.sync().added, filled.rows().num_rows) == (1, 9)


def test_a_file_of_another_size_takes_the_place_of_the_one_before(filled):
    filled.add(HOURS[0], *speeds(3))
    filled.add(HOURS[1], *speeds(9))
    filled.sync()
    [small], [large] = (filled.lake.parts(filled.rule, hour) for hour in HOURS)
    place = {"Bucket": filled.fleet.lake_bucket, "Key": small.key}
    filled.aws.s3.copy_object(**place, CopySource={"Bucket": filled.fleet.lake_bucket, "Key": large.key})
    anew = replace(filled.tables, store=S3Store(filled.aws, filled.fleet.lake_bucket))
    assert not compare(anew, filled.rule).same
    assert (sync(anew, filled.rule).rows, filled.rows().num_rows) == (18, 18)


def test_of_an_hour_with_a_damaged_part_a_table_keeps_what_it_had_and_gets_all_other_hours(filled):
    filled.add(HOURS[0], *speeds(5))
    filled.sync()
    filled.add(HOURS[0], *speeds(2))
    filled.add(HOURS[1], *speeds(3))
    there = {"Bucket": filled.fleet.lake_bucket, "Key": filled.lake.part_key(filled.rule, HOURS[0], 1)}
    damaged = filled.aws.s3.put_object(**there, Body=b"PAR1 no more")["VersionId"]
    filled = Filled(filled.fleet)  # as another run: this one knows what it has written
    for _ in range(2):
        with pytest.raises(PartDamaged, match="hour=09/part-00001"):
            filled.sync()
        assert filled.rows().num_rows == 5 + 3
    filled.aws.s3.delete_object(**there, VersionId=damaged)
    filled = Filled(filled.fleet)
    assert (filled.sync().added, filled.rows().num_rows) == (1, 10)


def test_killed_at_any_deed_a_table_is_as_it_was_or_as_it_is_to_be_and_the_next_run_goes_on(filled):
    filled.add(HOURS[0], *speeds(3))
    for deeds in range(1, 100):
        Life.of(deeds)
        try:
            sync(dying(filled.tables), filled.rule)
            break
        except Killed:
            if (table := filled.tables.find(filled.rule)) is not None:
                assert table.scan().to_arrow().num_rows in {0, 3}
            assert (filled.sync().rows, filled.rows().num_rows) == (3, 3)
            assert compare(filled.tables, filled.rule).same
            filled.tables.catalog.drop_table(filled.tables.identifier(filled.rule))
    assert deeds > 7


SYNC = """
import os, sys
from fleet_pipeline.account import Account
from fleet_pipeline.lake.iceberg.sync import sync
from fleet_pipeline.lake.iceberg.tables import Tables
from fleet_pipeline.model.fleet import Fleet
fleet = Fleet(account=sys.argv[1], bucket=sys.argv[2], home=sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
def work():
    account = Account.of(fleet)
    tables = Tables.of(fleet, account.aws, account.catalog_uri(""))
    for _ in range(4):
        sync(tables, fleet.rules[0])
for _ in range(3):
    if not os.fork():
        work()
        os._exit(0)
sys.exit(sum(bool(os.wait()[1]) for _ in range(3)))
"""
"""Three processes, forked from one that has imported everything: an import costs two seconds of a processor."""


def test_three_processes_at_once_register_every_file_once(filled):
    filled.add(HOURS[0], *speeds(3))
    arguments = [sys.executable, "-c", SYNC, filled.fleet.account, filled.fleet.bucket, filled.fleet.home]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as three:
        assert three.stdout.readline() == "ready\n"
        three.stdin.write("\n")
        three.stdin.flush()
        for number in range(4):
            filled.add(HOURS[number % 2], *speeds(3))
            filled.sync()
    assert three.returncode == 0
    table = filled.tables.find(filled.rule)
    paths = [file.file_path for file in entries(table, table.current_snapshot())]
    assert len(paths) == len({*paths}) == 5
    assert compare(filled.tables, filled.rule).same


def test_a_catalog_that_is_not_there_is_one_clear_sentence(fleet, filled):
    for uri, error in (
        ("sqlite:////nowhere/at/all.db", CatalogUnavailable),
        ("nosuchdatabase://somewhere/x", CatalogRefused),
        ("https://127.0.0.1:1/catalog", CatalogUnavailable),
    ):
        kind = "rest" if uri.startswith("https") else "sql"
        with pytest.raises(error, match="Iceberg catalog"):
            Tables.of(replace(fleet, iceberg=kind, iceberg_uri=uri), filled.aws, uri)
