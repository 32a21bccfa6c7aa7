"""What an erasure does beside the buckets: Dagster's event log and the functions' logs, and the certificate that names both."""

import json
import shutil
import tempfile
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import psycopg2
import pytest
from click.testing import CliRunner
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest
from postgres import needs_postgres, postgres
from test_vehicle_erase import TEN, UUID, A, B, driven  # noqa: F401 (a fixture)

from fleet_pipeline.account import Account
from fleet_pipeline.assets.lake.forgetting import ShownInDagster
from fleet_pipeline.assets.lake.hour_metadata import OF_MESSAGES
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.cli.main import fleet_command
from fleet_pipeline.cloud.enrolment.hook_log import named
from fleet_pipeline.definitions import build_definitions
from fleet_pipeline.lake.privacy.places import COLUMNS, EVENT_LOG, FUNCTION_LOGS, VERDICTS
from fleet_pipeline.model.names import log_of
from fleet_pipeline.model.rule import RawName
from fleet_pipeline.model.thing import ThingTable
from fleet_pipeline.personal_data import FunctionLogs, Order, erase_vehicle

LATER = TEN.next.next
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def positioned(fleet, aws):
    """Both vehicles say where they are in one hour, and B in another."""
    for number, (hour, serial) in enumerate([(TEN, A), (TEN, B), (LATER, B)]):
        body = {"serial": serial, "position": {"latitude": 48.1 + number, "longitude": 11.5}}
        key = fleet.rules[0].raw_key(RawName(hour.start_ms + 900 + number, UUID.format(900 + number)))
        aws.s3.put_object(Bucket=fleet.bucket, Key=key, Body=json.dumps(body).encode())


def materialized(fleet, instance):
    """Have Dagster show the two hours, and their day."""
    definitions = build_definitions(fleet)
    for path, partitions in {
        ("lake", "rule1"): (TEN.partition_key, LATER.partition_key),
        ("vehicles", "hourly"): (TEN.partition_key, LATER.partition_key),
        ("vehicles", "daily"): (f"{TEN.start:%Y-%m-%d}",),
    }.items():
        job = definitions.resolve_implicit_global_asset_job_def()
        for partition in partitions:
            done = job.execute_in_process(
                instance=instance, asset_selection=[dg.AssetKey(path)], partition_key=partition, run_config=QUIET
            )
            assert done.success


def shown(instance):
    """What Dagster has of messages, by asset and partition; and whether each partition is there."""
    found = {}
    for path in (("lake", "rule1"), ("vehicles", "hourly"), ("vehicles", "daily")):
        for record in instance.fetch_materializations(dg.AssetKey(path), limit=100).records:
            metadata = record.asset_materialization.metadata
            found["/".join(path), record.partition_key] = OF_MESSAGES & {*metadata}
    return found


def _rows_with(cursor, table, text):
    cursor.execute(f'SELECT count(*) FROM "{table}" AS t WHERE strpos(t::text, %s) > 0', (text,))
    return cursor.fetchone()[0]


def held_by(home, text):
    """Which files have a text in them; of PostgreSQL, which compresses what is long, which tables."""
    if (home / "port").exists():
        with closing(
            psycopg2.connect(host="127.0.0.1", port=(home / "port").read_text(), user="dagster", dbname="postgres")
        ) as database:
            cursor = database.cursor()
            cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
            return [name for (name,) in cursor.fetchall() if _rows_with(cursor, name, text)]
    return [path for path in home.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@pytest.fixture(params=["one database", "one for each run", pytest.param("PostgreSQL", marks=needs_postgres)])
def stored(request, tmp_path):
    """An instance as it is kept in SQLite, in one database and in one for each run, and in PostgreSQL."""
    home = tmp_path / "dagster-home"
    home.mkdir()
    if request.param == "PostgreSQL":
        with in_postgres(home) as instance:
            yield instance, home
        return
    module, name = "dagster._core.storage.event_log", "ConsolidatedSqliteEventLogStorage"
    events = {"event_log_storage": {"module": module, "class": name, "config": {"base_dir": str(home / "events")}}}
    overrides = events if request.param == "one database" else {}
    with dg.instance_for_test(overrides, temp_dir=str(home)) as instance:
        yield instance, home


@contextmanager
def in_postgres(home):
    place = Path(tempfile.mkdtemp(prefix="fleet-postgres-"))  # which its server's user may enter
    place.chmod(0o755)
    try:
        (home / "postgres").symlink_to(place / "server")
        with postgres(place / "server") as port:
            (home / "port").write_text(str(port))
            where = f"postgresql+psycopg2://dagster@127.0.0.1:{port}/postgres"
            kept = {"storage": {"postgres": {"postgres_url": where}}}
            with dg.instance_for_test(kept, temp_dir=str(home)) as instance:
                yield instance
    finally:
        shutil.rmtree(place)


def test_what_dagster_shows_of_the_hours_goes_and_its_events_and_other_hours_stay(driven, aws, stored):  # noqa: F811
    (instance, home), fleet = stored, driven
    positioned(fleet, aws)
    materialized(fleet, instance)
    before = shown(instance)
    assert before["lake/rule1", TEN.partition_key] >= {"some rows", "where vehicles were"}
    assert before["vehicles/hourly", TEN.partition_key] == {"first rows"}
    assert held_by(home, A)
    done = erase_vehicle(
        fleet,
        Account.of(fleet),
        Order(A, before=LATER.start),
        confirm=A,
        event_log=ShownInDagster(Scope(fleet), instance, aws),
    )
    after = shown(instance)
    assert set(after) == set(before)
    assert after == {
        place: labels if place[1] == LATER.partition_key else frozenset() for place, labels in before.items()
    }
    assert "taken out of 3 events of 1 hours" in done.elsewhere[EVENT_LOG].replace("events of 2", "events of 1")
    assert held_by(home, A) == []
    assert "1 hours are shown there as they are now" in done.elsewhere[EVENT_LOG]
    wanted = dg.AssetRecordsFilter(dg.AssetKey(["lake", "rule1"]), asset_partitions=[TEN.partition_key])
    now = instance.fetch_materializations(wanted, limit=1).records[0].asset_materialization.metadata
    assert now["changed"].value.startswith("by an erasure of a vehicle at 20")
    assert {"messages a minute", "some rows", "where vehicles were"} <= {*now}
    graph = build_definitions(fleet).resolve_asset_graph()
    known = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    assert known.get_stale_causes(dg.AssetKey(["lake", "rule1"]), TEN.partition_key) == []
    assert held_by(home, B)
    last = instance.get_latest_materialization_event(dg.AssetKey(["vehicles", "daily"]))
    assert "first rows" not in last.asset_materialization.metadata


def test_the_command_takes_the_dagster_of_the_folder_and_says_so_where_there_is_none(driven, command, tmp_path):  # noqa: F811
    fleet = driven
    code, said = command(fleet, "vehicle", "erase", "--serial", A, "--confirm", A)
    assert (code, "Dagster's event log: not asked for" in said) == (0, True), said
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    code, said = command(fleet, "vehicle", "erase", "--serial", B, "--confirm", B)
    assert (code, "rows and positions were taken out of 0 events" in said) == (0, True), said
    code, said = command(fleet, "vehicle", "erase", "--serial", B, "--confirm", B, "--no-dagster")
    assert (code, "Dagster's event log: not asked for" in said) == (0, True), said


def lines(fleet, aws, stream, at, *serials):
    group = log_of(fleet.hook_name)
    with_group = {each["logGroupName"] for each in aws.logs.describe_log_groups()["logGroups"]}
    if group not in with_group:
        aws.logs.create_log_group(logGroupName=group)
    aws.logs.create_log_stream(logGroupName=group, logStreamName=stream)
    said = [{"allowed": False, "reason": "not listed", "serial": repr(serial)} for serial in serials]
    events = [{"timestamp": int(at.timestamp() * 1000) + n, "message": json.dumps(each)} for n, each in enumerate(said)]
    aws.logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


def streams(fleet, aws):
    pages = aws.logs.get_paginator("describe_log_streams").paginate(logGroupName=log_of(fleet.hook_name))
    return {each["logStreamName"] for page in pages for each in page["logStreams"]}


def test_streams_that_name_the_vehicle_are_counted_and_stay_unless_it_is_asked_for(fleet, aws):
    now = datetime.now(UTC)
    lines(fleet, aws, "first", now, A, B, A)
    lines(fleet, aws, "others", now, B)
    assert [(each.stream, each.lines) for each in named(fleet, aws, A)] == [("first", 2)]
    said = FunctionLogs(fleet, aws).forget(A, [])
    assert said.startswith("2 lines of 1 streams name it and stay: single lines cannot be removed")
    assert A not in said
    assert "they go after 30 days" in FunctionLogs(replace(fleet, log_retention_days=30), aws).forget(A, [])
    assert streams(fleet, aws) == {"first", "others"}
    said = FunctionLogs(fleet, aws, remove=True).forget(A, [])
    assert (
        said
        == "0 streams that named it were removed, with their lines of others; 1 streams that are in use stay, until the same command is run again"
    )
    assert streams(fleet, aws) == {"first", "others"}


def test_a_stream_that_is_no_longer_written_goes_whole_and_streams_of_others_stay(fleet, aws, monkeypatch):
    lines(fleet, aws, "first", datetime.now(UTC), A, B)
    lines(fleet, aws, "first-of-others", datetime.now(UTC), B)
    lines(fleet, aws, "others", datetime.now(UTC), B)
    monkeypatch.setattr("fleet_pipeline.cloud.enrolment.hook_log.IN_USE", -timedelta(days=1))
    said = FunctionLogs(fleet, aws, remove=True).forget(A, [])
    assert said == "1 streams that named it were removed, with their lines of others"
    assert streams(fleet, aws) == {"first-of-others", "others"}
    assert FunctionLogs(fleet, aws).forget(A, []) == "no line names it"


def test_a_longer_serial_that_begins_or_ends_with_it_is_anothers(fleet, aws, monkeypatch):
    lines(fleet, aws, "longer", datetime.now(UTC), f"{A}7", f"7{A}", f"X{A}")
    lines(fleet, aws, "own", datetime.now(UTC), f"{A}7", f"test-thing-{A}", f"no\n{A}", f"({A})")
    lines(fleet, aws, "prefixed", datetime.now(UTC), f"CAR{A}")
    assert [(each.stream, each.lines) for each in named(fleet, aws, A)] == [("own", 3)]
    cars = replace(fleet, thing=ThingTable(name="CAR${SerialNumber}"))
    assert [(each.stream, each.lines) for each in named(cars, aws, A)] == [("own", 3), ("prefixed", 1)]
    monkeypatch.setattr("fleet_pipeline.cloud.enrolment.hook_log.IN_USE", -timedelta(days=1))
    FunctionLogs(fleet, aws, remove=True).forget(A, [])
    assert streams(fleet, aws) == {"longer", "prefixed"}


def test_a_fleet_without_logs_has_none_that_name_it(fleet, aws):
    assert FunctionLogs(fleet, aws, remove=True).forget(A, []) == "no line names it"


def test_the_certificate_names_both_places(driven, aws):  # noqa: F811
    fleet = driven
    lines(fleet, aws, "first", datetime.now(UTC), A)
    done = erase_vehicle(fleet, Account.of(fleet), Order(A, with_logs=True), confirm=A)
    body = aws.s3.get_object(Bucket=fleet.lake_bucket, Key=done.certificate)["Body"].read()
    said = json.loads(body)["elsewhere"]
    assert set(said) == {COLUMNS, EVENT_LOG, FUNCTION_LOGS, VERDICTS}
    assert said[EVENT_LOG].startswith("not asked for")
    assert "in use stay" in said[FUNCTION_LOGS]
    assert A.encode() not in body


def test_a_printed_help_names_the_ways(tmp_path):
    said = CliRunner().invoke(fleet_command, ["vehicle", "erase", "--help"], env={"FLEET_HOME": str(tmp_path)}).output
    assert "--with-logs" in said
    assert "--no-dagster" in said
