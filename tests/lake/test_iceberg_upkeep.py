"""What keeps an Iceberg table right and small: the check, the maintenance, and the removal of parts from its history."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from iceberg_lake import HOURS, Filled, NotedFiles, noted

from fleet_pipeline.account import Account
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.lake.iceberg.check import compare
from fleet_pipeline.lake.iceberg.data_files import entries
from fleet_pipeline.lake.iceberg.files import place
from fleet_pipeline.lake.iceberg.maintenance import maintain
from fleet_pipeline.lake.iceberg.removal import check, forget
from fleet_pipeline.lake.iceberg.sync import MONTHS, record, recorded, replace_hour, sync
from fleet_pipeline.lake.iceberg.tables import Tables
from fleet_pipeline.lake.privacy.erase import erase
from fleet_pipeline.lake.privacy.places import Places
from fleet_pipeline.lake.privacy.retention import age_out
from fleet_pipeline.model.errors import CatalogRefused, StillInTable
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.places import Snapshots, history

NOW = datetime.now(UTC)
MUCH_LATER = NOW + timedelta(days=30)


@pytest.fixture
def filled(fleet):
    return Filled(fleet)


def messages(count):
    return [{"speed_kmh": number} for number in range(count)]


def metadata(filled):
    """Return the keys of all versions of metadata in the lake's bucket."""
    prefix = filled.fleet.iceberg_prefix
    return [version.key for page in filled.tables.store.versions(prefix) for version in page]


def grown(filled, commits):
    for number in range(commits):
        filled.add(HOURS[number % 2], *messages(3))
        filled.sync()


def test_a_check_names_what_the_lake_has_and_the_table_has_not_and_the_other_way_round(filled):
    with pytest.raises(CatalogRefused, match="`fleet iceberg sync` makes it"):
        compare(filled.tables, filled.rule)
    filled.add(HOURS[0], *messages(3))
    filled.sync()
    found = compare(filled.tables, filled.rule)
    assert (found.same, found.files, found.counted, found.table.rows) == (True, 1, 1, 3)
    filled.add(HOURS[1], *messages(3))
    [lacking] = compare(filled.tables, filled.rule).differences
    assert "hour=10/part-00000.parquet is in the lake and not in the table" in lacking
    filled.generation()
    assert (
        len(compare(filled.tables, filled.rule).differences) == 4
    )  # two files, the other generation's one, the columns
    filled.sync()
    assert compare(filled.tables, filled.rule).same


def test_the_check_of_each_run_reads_the_newest_month_and_one_other_each_day_the_next(filled):
    months = [Hour.parse(f"2026-{number:02d}-03-10:00") for number in range(1, 5)]
    for hour in months:
        filled.add(hour, *messages(3))
        filled.sync()
    of, today = noted(filled.tables), date(2026, 11, 30)
    NotedFiles.manifests()
    found = compare(of, filled.rule, 100, today)
    assert (found.same, found.files, found.looked_at, found.counted) == (True, 4, 2, 2)
    assert NotedFiles.manifests() == 2
    table = filled.tables.find(filled.rule)
    with table.transaction() as change:  # a snapshot that lacks a file, and says of itself that it has all
        producer = change.update_snapshot().overwrite()
        [second] = entries(table, table.current_snapshot(), {"2026-02"})
        producer.delete_data_file(second)
        producer.commit()
        record(change, producer.snapshot_id, recorded(table))
    named = [compare(of, filled.rule, 100, today + timedelta(days=day)).differences for day in range(4)]
    [each] = [each for each in named if each]
    assert "2026-02-03/hour=10/part-00000.parquet is in the lake and not in the table" in each[0]
    assert not compare(of, filled.rule).same
    filled.tables.find(filled.rule).transaction().remove_properties(MONTHS).commit_transaction()
    assert all(not compare(of, filled.rule, 100, today + timedelta(days=day)).same for day in range(4))


def test_the_check_of_each_run_reads_every_month_in_which_the_lake_has_others(filled):
    for number in range(1, 4):
        filled.add(Hour.parse(f"2026-{number:02d}-03-10:00"), *messages(3))
    filled.sync()
    filled.add(Hour.parse("2026-02-03-11:00"), *messages(3))
    days = [date(2026, 11, 30 - back) for back in range(3)]
    [lacking] = {line for day in days for line in compare(filled.tables, filled.rule, 100, day).differences}
    assert all(not compare(filled.tables, filled.rule, 100, day).same for day in days)
    assert "date=2026-02-03/hour=11/part-00000.parquet is in the lake and not in the table" in lacking


def test_maintenance_merges_manifests_forgets_old_snapshots_and_removes_what_nothing_refers_to(filled):
    grown(filled, 6)
    rows = filled.rows().num_rows
    before = len(metadata(filled))
    done = maintain(filled.tables, filled.rule, MUCH_LATER)
    assert (done.manifests_before, done.manifests, done.snapshots_before, done.snapshots) == (6, 1, 6, 1)
    assert done.removed > 0
    assert len(metadata(filled)) == done.objects < before
    assert filled.rows().num_rows == rows
    assert compare(filled.tables, filled.rule).same
    again = maintain(filled.tables, filled.rule, MUCH_LATER)
    assert (again.manifests, again.snapshots, again.removed) == (1, 1, 0)


def test_maintenance_leaves_alone_what_is_young_what_readers_may_ask_for_and_what_is_not_its_own(filled):
    grown(filled, 3)
    prefix = filled.fleet.iceberg_prefix
    other = f"{prefix}another-table/metadata/snap-1.avro"
    filled.tables.store.put_new(other, b"theirs")
    unfinished = f"{place(filled.tables.find(filled.rule).location())[1]}/metadata/unfinished-m0.avro"
    filled.tables.store.put_new(unfinished, b"of a commit that is being made")
    table = filled.tables.find(filled.rule)
    [part] = [file.file_path for file in entries(table, table.snapshots()[0])]
    first = table.snapshots()[0].snapshot_id
    done = maintain(filled.tables, filled.rule, datetime.now(UTC))
    assert (done.snapshots, done.removed) == (4, 0)  # one more: that of the merged manifests
    assert unfinished in metadata(filled)
    assert filled.tables.find(filled.rule).scan(snapshot_id=first).to_arrow().num_rows == 3
    maintain(filled.tables, filled.rule, MUCH_LATER)
    assert other in metadata(filled)
    assert unfinished not in metadata(filled)
    assert filled.tables.store.read(part.split("/", 3)[3], 0, 4) == b"PAR1"


def test_maintenance_of_a_rule_without_a_table_makes_none(filled):
    assert maintain(filled.tables, filled.rule, NOW) is None
    assert filled.tables.find(filled.rule) is None


def test_a_reader_that_began_before_the_maintenance_reads_on(filled):
    grown(filled, 6)
    began = filled.tables.find(filled.rule)
    maintain(filled.tables, filled.rule, datetime.now(UTC) + timedelta(days=8), unfinished=timedelta(days=9))
    assert began.scan().to_arrow().num_rows == 18


def test_a_part_that_is_to_be_forgotten_is_in_no_snapshot_and_in_no_bucket_afterwards(filled):
    filled.add(HOURS[0], *messages(3))
    filled.add(HOURS[0], *messages(4))
    filled.sync()
    filled.add(HOURS[1], *messages(5))
    filled.sync()
    gone, _ = filled.lake.parts(filled.rule, HOURS[0])
    with pytest.raises(StillInTable, match="bring it up to date first"):
        forget(filled.tables, filled.rule, [gone.key])
    filled.lake.replace_before(filled.rule, HOURS[0], 1)
    replace_hour(filled.tables, filled.rule, HOURS[0])
    done = forget(filled.tables, filled.rule, [gone.key])
    assert (len(done.snapshots), done.files) == (2, 1)
    table = filled.tables.find(filled.rule)
    paths = {file.file_path for snapshot in table.snapshots() for file in entries(table, snapshot)}
    assert len(paths) == 2
    assert not any(gone.key in path for path in paths)
    assert not [page for page in S3Store(filled.aws, filled.fleet.lake_bucket).versions(gone.key) if page]
    assert filled.rows().num_rows == 9
    again = forget(filled.tables, filled.rule, [gone.key])
    assert (again.snapshots, again.metadata, again.files) == ((), 0, 0)
    assert compare(filled.tables, filled.rule).same


class Stale(Tables):
    """Tables of which one is seen first as it was a while ago."""

    def find(self, rule):
        return self.__dict__.pop("was", None) or super().find(rule)

    @classmethod
    def of_a_while_ago(cls, tables, was):
        found = cls(tables.fleet, tables.aws, tables.catalog, tables.store)
        found.__dict__["was"] = was
        return found


def test_whoever_finds_metadata_gone_that_another_has_just_forgotten_looks_again(filled):
    grown(filled, 3)
    [first, *_] = filled.lake.parts(filled.rule, HOURS[0])
    was = filled.tables.find(filled.rule)
    filled.generation()
    filled.sync()
    week = timedelta(days=filled.fleet.iceberg_snapshot_days)
    maintain(filled.tables, filled.rule, datetime.now(UTC) + 2 * week, unfinished=week)
    with pytest.raises(FileNotFoundError):
        next(entries(was, was.snapshots()[0]))
    for work in (
        lambda tables: check(tables, filled.rule),
        lambda tables: forget(tables, filled.rule, [first.key]),
        lambda tables: maintain(tables, filled.rule, datetime.now(UTC)),
        lambda tables: sync(tables, filled.rule),
    ):
        work(Stale.of_a_while_ago(filled.tables, was))
    assert compare(filled.tables, filled.rule).same


def test_a_table_that_leads_to_metadata_that_is_gone_is_refused_in_a_sentence(filled):
    grown(filled, 1)
    _, key = place(filled.tables.find(filled.rule).current_snapshot().manifest_list)
    filled.tables.store.delete([version for page in filled.tables.store.versions(key) for version in page])
    for work in (check, sync, compare):
        with pytest.raises(CatalogRefused, match="which is gone: drop the table, and sync makes it anew"):
            work(filled.tables, filled.rule)


def test_an_erasure_and_a_retention_wait_for_queries_that_began_before(filled):
    fleet = replace(filled.fleet, raw_retention_days=1, lake_retention_days=1)
    for hour in HOURS:
        filled.add(hour, *({"serial": f"29746800000{number % 3}"} for number in range(9)))
    filled.sync()
    raw, seen = filled.raw, []

    def begun():
        """A query that knows its files and has not read them."""
        scan = filled.tables.find(filled.rule).scan()
        scan.plan_files()
        rows = filled.rows().num_rows

        def wait(seconds):
            seen.append((seconds, scan.to_arrow().num_rows - rows, filled.rows().num_rows))

        return Places(fleet, raw, filled.tables.store, filled.lake, Snapshots(filled.tables, 7, wait))

    erase(begun(), "297468000001", NOW, by="test")
    age_out(begun(), HOURS[0].end + timedelta(days=1))
    assert seen == [(7, 0, 12), (7, 0, 6)]
    erase(begun(), "297468000001", NOW, by="test")
    assert len(seen) == 2  # nothing goes, so nobody is waited for


def test_no_value_of_a_message_stands_in_a_manifest(filled):
    serial = "297468000042"
    filled.add(HOURS[0], *({"serial": serial, "speed_kmh": 1.5} for _ in range(4)))
    filled.sync()
    for key in metadata(filled):
        [size] = [version.size for page in filled.tables.store.versions(key) for version in page]
        assert serial.encode() not in filled.tables.store.read(key, 0, size)
    table = filled.tables.find(filled.rule)
    for file in entries(table, table.current_snapshot()):
        assert {*file.lower_bounds} == {*file.upper_bounds} == {2}  # the instant of receipt


def test_an_hour_that_is_too_old_goes_in_one_snapshot_and_no_snapshot_leads_to_it(filled):
    fleet = replace(filled.fleet, raw_retention_days=1, lake_retention_days=1)
    for hour in HOURS:
        filled.add(hour, *messages(3))
        filled.add(hour, {"speed_kmh": 9})
        filled.sync()
    there = Places(fleet, filled.raw, filled.tables.store, filled.lake, history(fleet, Account.of(fleet)))
    seen, delete = [], filled.tables.store.delete

    def looking(versions):
        seen.append(filled.rows().num_rows)
        delete(versions)

    there.store.delete = looking
    gone = age_out(there, HOURS[0].end + timedelta(days=1))
    assert (gone.raw_versions, gone.lake_hours, gone.in_the_way) == (4, 1, [])
    assert gone.snapshots >= 1
    assert {*seen} == {4}
    assert filled.rows().num_rows == 4
    assert compare(filled.tables, filled.rule).same
    table = filled.tables.find(filled.rule)
    led = {file.file_path for each in table.snapshots() for file in entries(table, each)}
    assert led
    assert not any("hour=09" in path for path in led)
    keys = [version.key for page in filled.tables.store.versions("lake/v1/") for version in page]
    assert [key.rpartition("/")[2] for key in keys if "hour=09" in key] == ["_ended-00002"]
