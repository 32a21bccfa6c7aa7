"""By the clock and by what is seen: which hours are asked for, when, how often, and who hears of it when that fails."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import dagster as dg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.remote_representation.external_data import RepositorySnap
from in_dagster import ALONE, definitions_of, resources_of, schedule_of, sensor_of, ticked
from serving import serving
from sqlalchemy import event
from sqlalchemy.engine import Engine

from fleet_pipeline.assets import alerts
from fleet_pipeline.assets.alerts import WAITS_S, deliver, summary
from fleet_pipeline.assets.lake import late_data, parquet, provenance, raw
from fleet_pipeline.assets.lake.partitions import closed_hours, hour_ranges, untouched, untouched_of
from fleet_pipeline.assets.lake.verdicts import ATTEMPTS
from fleet_pipeline.assets.shared.evaluations import last_evaluation
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.instance import own_process
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.model.errors import AlertNotDelivered
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName

NOON = Hour.parse("2026-11-20-12:00")


@pytest.fixture
def fleet(make_fleet):
    """One rule, where a test does not say more: each is three checks and an asset in every run."""
    return make_fleet(rule_keys=("rule1",))


@pytest.fixture
def buckets(fleet, aws):
    for bucket in (fleet.bucket, fleet.lake_bucket):
        aws.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": fleet.region})
        aws.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


def ago(hours):
    return Hour(NOON.start - timedelta(hours=hours))


def tick(fleet, instance, minute=5, name="compact_closed_hours"):
    schedule = schedule_of(fleet, name)
    resources = resources_of(fleet)
    at = NOON.start + timedelta(minutes=minute)
    with dg.build_schedule_context(
        instance,
        scheduled_execution_time=at,
        repository_def=definitions_of(fleet).get_repository_def(),
        resources=resources,
    ) as context:
        return ticked(schedule, context)


def materialized(instance, rule, *hours):
    for hour in hours:
        instance.report_runless_asset_event(
            dg.AssetMaterialization(parquet.key(ALONE, rule), partition=hour.partition_key)
        )


def wanted(asked):
    requests = [
        (request.tags.get("dagster/asset_partition_range_start") or request.partition_key, request.asset_selection)
        for request in asked
    ]
    return {(first, asset.to_user_string()) for first, assets in requests for asset in assets}


def test_an_hour_is_closed_once_the_grace_time_is_over():
    fleet = Fleet(grace_minutes=7)
    assert closed_hours(fleet, NOON.start + timedelta(minutes=6, seconds=59), 2) == [ago(3), ago(2)]
    assert closed_hours(fleet, NOON.start + timedelta(minutes=7), 2) == [ago(2), ago(1)]


def test_no_hour_before_the_fleets_start_is_ever_asked_for():
    assert closed_hours(Fleet(start="2026-11-20"), NOON.start + timedelta(minutes=30), 72) == [
        ago(hours) for hours in range(12, 0, -1)
    ]


def test_hours_without_a_gap_are_one_range():
    assert hour_ranges([ago(1), ago(5), ago(2), ago(4), ago(8)]) == [
        (ago(8), ago(8)),
        (ago(5), ago(4)),
        (ago(2), ago(1)),
    ]


def test_before_there_is_a_lake_the_schedule_asks_for_nothing_and_starts_nothing(fleet, instance, tmp_path):
    never = replace(fleet, home=str(tmp_path / "never"))
    assert "run the job provision" in tick(never, instance).skip_message
    assert not (tmp_path / "never").exists()


def test_every_closed_hour_that_was_missed_is_made_good_in_one_run_for_all_rules(fleet, instance, buckets):
    fleet = replace(fleet, rule_keys=("rule1", "rule2", "rule3"))
    for rule in fleet.rules:
        materialized(instance, rule, *(ago(hours) for hours in range(5, 25)))
    (request,) = tick(fleet, instance)
    assert (request.tags["dagster/asset_partition_range_start"], request.tags["dagster/asset_partition_range_end"]) == (
        ago(4).partition_key,
        ago(1).partition_key,
    )
    assert {asset.path[-1] for asset in request.asset_selection} == set(fleet.rule_keys)


def test_a_rule_that_was_added_is_asked_for_alone_and_one_that_was_removed_not_at_all(fleet, instance, buckets):
    grown = replace(fleet, rule_keys=("rule1", "rule4"), catch_up_hours=2)
    materialized(instance, grown.rules[0], ago(2))
    assert wanted(tick(grown, instance)) == {(ago(1).partition_key, "lake/rule1"), (ago(2).partition_key, "lake/rule4")}


def test_two_ticks_at_once_ask_under_the_same_run_keys(fleet, instance, buckets):
    keys = [[request.run_key for request in tick(fleet, instance)] for _ in range(2)]
    assert keys[0] == keys[1]
    assert keys[0]


def test_an_hour_that_was_compacted_while_it_ran_is_asked_for_again_once_it_is_closed(fleet, instance, buckets):
    now = Hour.of(datetime.now(UTC))
    materialized(instance, fleet.rules[0], now, Hour(now.start - timedelta(hours=2)))
    key = parquet.key(ALONE, fleet.rules[0])
    assert untouched(instance, fleet, {key: [Hour(now.start - timedelta(hours=2)), now]}) == {key: [now]}


def test_one_query_tells_of_all_rules_what_dagster_tells_of_each(fleet, instance, buckets):
    fleet = replace(fleet, rule_keys=("rule1", "rule2", "rule3"))
    job, keys = definitions_of(fleet).resolve_job_def("compact"), [parquet.key(ALONE, rule) for rule in fleet.rules]

    def planned(hour, *assets):
        run = instance.create_run_for_job(
            job, asset_selection=frozenset(assets), tags={"dagster/partition": hour.partition_key}
        )
        instance.report_engine_event("waits", run)
        return run

    materialized(instance, fleet.rules[0], *(ago(hours) for hours in range(30, 36)))
    planned(ago(30), keys[0], keys[1])
    instance.report_run_failed(planned(ago(31), keys[0]))
    instance.report_run_canceled(planned(ago(32), keys[0], keys[2]))
    materialized(instance, fleet.rules[1], ago(30), ago(33))
    planned(ago(34), keys[2])
    materialized(instance, fleet.rules[2], ago(34), ago(35))
    instance.wipe_assets([keys[1]])
    materialized(instance, fleet.rules[1], ago(36))
    among = {key: [ago(hours) for hours in range(36, 29, -1)] for key in keys}
    asked = []

    def note(*said):
        asked.append(said[2])

    event.listen(Engine, "before_cursor_execute", note)
    try:
        found = untouched(instance, fleet, among)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert sum("event_logs" in each for each in asked) == 1
    assert found == {key: untouched_of(instance, key, fleet, hours) for key, hours in among.items()}
    assert found[keys[0]] == [ago(36)]
    assert found[keys[2]] == [ago(36), ago(33), ago(32), ago(31), ago(30)]


def test_nothing_is_asked_for_while_a_run_is_about_to_do_it_and_a_failed_hour_is_left_to_the_sensor(
    fleet, instance, buckets
):
    one = replace(fleet, catch_up_hours=1)
    job = definitions_of(one).resolve_job_def("compact")
    run = instance.create_run_for_job(job, tags={"dagster/partition": ago(1).partition_key})
    instance.report_engine_event("waits", run)
    assert tick(one, instance).skip_message
    instance.report_run_failed(run)
    assert tick(one, instance).skip_message


@pytest.fixture
def put(fleet, aws, buckets):
    def write(hour, count=1, rule=fleet.rules[0], name=None):
        for second in range(count):
            key = name or rule.raw_key(RawName(hour.start_ms + 1000 * second, str(uuid.uuid4())))
            aws.s3.put_object(Bucket=fleet.bucket, Key=key, Body=b'{"speed_kmh": 48.2}')

    return write


@pytest.fixture
def recent():
    """An hour that has been closed for a while."""
    return Hour.of(datetime.now(UTC) - timedelta(hours=2))


def look(fleet, instance):
    assert definitions_of(fleet).resolve_job_def("look").execute_in_process(instance=instance).success
    rule = fleet.rules[0]
    names = {
        late_data.UNCOMPACTED: raw.key(ALONE, rule),
        late_data.FRESH: raw.key(ALONE, rule),
        late_data.FOREIGN: raw.key(ALONE, rule),
    }
    return {name: last_evaluation(instance, dg.AssetCheckKey(asset, name)) for name, asset in names.items()}


def compacted(fleet, aws, hour):
    compact_hour(
        S3Store(aws, fleet.bucket), Lake(S3Store(aws, fleet.lake_bucket), fleet.parquet_prefix), fleet.rules[0], hour
    )


def sense(fleet, instance, cursor):
    sensor = sensor_of(fleet, "late_data")
    with dg.build_sensor_context(instance, cursor=cursor, resources=resources_of(fleet)) as context:
        return ticked(sensor, context)


def test_a_message_that_came_late_is_found_and_its_hour_is_asked_for_once_a_look(fleet, instance, aws, put, recent):
    put(recent, 2)
    compacted(fleet, aws, recent)
    before = look(fleet, instance)
    assert all(evaluation.passed for evaluation in before.values())
    put(recent, 3)
    found = look(fleet, instance)[late_data.UNCOMPACTED]
    assert not found.passed
    assert found.metadata["hours"] == {recent.partition_key: 3}
    assert found.metadata["uncompacted messages"] == 3
    first = sense(fleet, instance, None)
    assert [request.partition_key for request in first.run_requests] == [recent.partition_key]
    assert not sense(fleet, instance, first.cursor).run_requests
    compacted(fleet, aws, recent)
    assert look(fleet, instance)[late_data.UNCOMPACTED].passed
    assert not sense(fleet, instance, first.cursor).run_requests
    shown = last_shown(fleet, instance)
    assert (shown["compacted"].value.startswith("without Dagster"), "messages a minute" in shown) == (True, True)
    lake_key, graph = parquet.key(ALONE, fleet.rules[0]), definitions_of(fleet).resolve_asset_graph()
    known = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    assert {cause.reason for cause in known.get_stale_causes(lake_key, recent.partition_key)} == set()
    more = {**provenance.own(parquet.CODE_VERSION, "6"), **provenance.of(instance, lake_key)}  # one was erased since
    instance.report_runless_asset_event(dg.AssetMaterialization(lake_key, partition=recent.partition_key, tags=more))
    look(fleet, instance)
    assert last_shown(fleet, instance)["changed"].value.startswith("without Dagster, as by an erasure")


def last_shown(fleet, instance):
    return instance.get_latest_materialization_event(parquet.key(ALONE, fleet.rules[0])).asset_materialization.metadata


def test_an_hour_that_stays_incomplete_is_asked_for_three_times_and_then_left_to_a_person(fleet, instance, put, recent):
    put(recent)
    cursor, asked = None, 0
    for _ in range(ATTEMPTS + 2):
        look(fleet, instance)
        result = sense(fleet, instance, cursor)
        cursor, asked = result.cursor, asked + len(result.run_requests)
    assert asked == ATTEMPTS
    assert not last_evaluation(instance, late_data.check_keys(Scope(fleet))[fleet.rules[0]]).passed


def test_the_lake_is_not_fresh_when_a_message_waits_longer_than_the_lag_that_is_allowed(fleet, instance, put, recent):
    put(recent)
    assert look(fleet, instance)[late_data.FRESH].passed
    strict = look(replace(fleet, lag_minutes=30), instance)[late_data.FRESH]
    assert not strict.passed
    assert strict.severity is dg.AssetCheckSeverity.ERROR
    assert recent.partition_key in strict.description
    assert strict.metadata["lag in minutes"] >= 60


def test_a_foreign_key_among_the_raw_objects_is_named(fleet, instance, put, recent):
    foreign = f"{fleet.rules[0].raw_prefix}{recent.start_ms}-backup.json"
    put(recent, name=foreign)
    found = look(fleet, instance)
    assert foreign in found[late_data.FOREIGN].description
    assert found[late_data.FOREIGN].severity is dg.AssetCheckSeverity.ERROR
    assert found[late_data.UNCOMPACTED].passed


def test_late_messages_are_found_even_where_compacted_raw_objects_were_purged(fleet, instance, aws, put, recent):
    put(recent, 3)
    compacted(fleet, aws, recent)
    for version in aws.s3.list_object_versions(Bucket=fleet.bucket)["Versions"]:
        aws.s3.delete_object(Bucket=fleet.bucket, Key=version["Key"], VersionId=version["VersionId"])
    put(recent, 1)
    assert look(fleet, instance)[late_data.UNCOMPACTED].metadata["hours"] == {recent.partition_key: 1}


def origins(job):
    """Where a job comes from. Dagster queues no run without."""
    code = RepositoryPythonOrigin(sys.executable, ModuleCodePointer("fleet_pipeline.definitions", "defs"))
    location = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("fleet_pipeline"), "__repository__")
    return {"job_code_origin": JobPythonOrigin(job, code), "remote_job_origin": RemoteJobOrigin(location, job)}


@pytest.mark.usefixtures("buckets")
@pytest.mark.parametrize("name", ["look_for_late_data", "sweep_for_late_data"])
def test_a_look_waits_for_the_one_before(fleet, instance, name):
    def asked():
        return isinstance(tick(fleet, instance, name=name), dg.RunRequest)

    assert asked()
    job = definitions_of(fleet).resolve_job_def("look")
    instance.create_run_for_job(job, tags={"dagster/schedule_name": "another"}, status=dg.DagsterRunStatus.STARTED)
    assert asked()
    for status in dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED:
        before = instance.create_run_for_job(
            job, tags={"dagster/schedule_name": name}, status=status, **origins("look")
        )
        assert not asked()
        instance.report_run_failed(before)
        assert asked()


def test_a_look_lists_closed_hours_and_no_others(fleet, instance, put):
    put(Hour.of(datetime.now(UTC)))
    put(Hour.of(datetime.now(UTC) - timedelta(hours=fleet.look_back_hours + 2)))
    assert look(fleet, instance)[late_data.UNCOMPACTED].passed


KILLED = """
import os, signal
import dagster as dg
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.resources.account import AccountResource

@dg.op
def work(account: AccountResource):
    os.kill(os.getpid(), signal.SIGKILL)

@dg.job(executor_def=dg.in_process_executor, resource_defs={"account": AccountResource.of(Fleet())})
def compact():
    work()

compact.execute_in_process(instance=dg.DagsterInstance.get())
"""


def test_a_run_that_was_killed_with_dagster_is_ended_so_that_it_can_start_again(fleet, instance, tmp_path):
    home = tmp_path / "dagster"
    home.mkdir()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED], env={**os.environ, "DAGSTER_HOME": str(home)}, capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    sensor = sensor_of(fleet, "lost_runs")
    with dg.DagsterInstance.from_config(str(home)) as other:
        (run,) = other.get_runs()
        assert run.status is dg.DagsterRunStatus.STARTED
        sensor(dg.build_sensor_context(other))
        assert other.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE


STEPS_APART = """
import time
from pathlib import Path
import dagster as dg
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.resources.account import AccountResource

@dg.op
def first(account: AccountResource):
    return 1

@dg.op
def second(one):
    time.sleep(600)

@dg.job(executor_def=dg.multiprocess_executor, resource_defs={"account": AccountResource.of(Fleet())})
def compact():
    second(first())

if __name__ == "__main__":
    dg.execute_job(dg.reconstructable(compact), dg.DagsterInstance.get())
"""


def test_a_run_whose_steps_have_a_process_each_lives_as_long_as_the_one_that_started_them(fleet, tmp_path):
    home, script = tmp_path / "dagster", tmp_path / "steps_apart.py"
    home.mkdir()
    script.write_text(STEPS_APART)
    sensor = sensor_of(fleet, "lost_runs")
    with (
        dg.DagsterInstance.from_config(str(home)) as other,
        killed_at_the_end(
            subprocess.Popen(
                [sys.executable, script], env={**os.environ, "DAGSTER_HOME": str(home)}, start_new_session=True
            )
        ) as process,
    ):

        def status():
            sensor(dg.build_sensor_context(other))
            return other.get_runs()[0].status

        def steps(event):
            return [each for run in other.get_runs() for each in other.all_logs(run.run_id, of_type=event)]

        while len(steps(dg.DagsterEventType.STEP_WORKER_STARTED)) < 2:
            assert process.poll() is None
            time.sleep(0.2)
        assert steps(dg.DagsterEventType.STEP_SUCCESS)
        assert status() is dg.DagsterRunStatus.STARTED
        process.kill()
        process.wait()
        assert status() is dg.DagsterRunStatus.FAILURE


@contextmanager
def killed_at_the_end(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a session, all of which is killed in the end."""
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_run_that_was_killed_before_its_first_step_is_ended_too(instance, fleet):
    def told(event, **more):
        instance.report_dagster_event(dg.DagsterEvent(event, "compact", **more), run.run_id)

    def is_lost_after(minutes):
        return own_process.never_began(
            instance, instance.get_run_record_by_id(run.run_id), datetime.now(UTC) + timedelta(minutes=minutes)
        )

    run = instance.create_run_for_job(definitions_of(fleet).resolve_job_def("compact"))
    assert not is_lost_after(60)  # it waits in the queue
    told("PIPELINE_START")
    assert (is_lost_after(4), is_lost_after(6)) == (False, True)
    instance.add_run_tags(run.run_id, {own_process.TAG: f"host 1 1 {run.run_id}"})
    assert not is_lost_after(60)
    run = instance.create_run_for_job(definitions_of(fleet).resolve_job_def("compact"))
    told("PIPELINE_START")
    told("STEP_START", step_key="lake__rule1")
    assert not is_lost_after(60)


def test_the_runs_of_another_code_location_of_the_instance_are_neither_ended_nor_told(fleet, instance, recent):
    gone = subprocess.Popen(["true"])
    gone.wait()
    job, tags = definitions_of(fleet).resolve_job_def("compact"), {"dagster/partition": recent.partition_key}
    here, there = RegisteredCodeLocationOrigin("fleet_pipeline"), RegisteredCodeLocationOrigin("another_team")
    runs = {
        location: instance.create_run_for_job(
            job,
            tags=tags,
            status=dg.DagsterRunStatus.STARTED,
            **{**origins("compact"), "remote_job_origin": RemoteJobOrigin(remote, "compact")},
        )
        for location, remote in (
            (each.location_name, RemoteRepositoryOrigin(each, "__repository__")) for each in (here, there)
        )
    }
    for run in runs.values():
        instance.add_run_tags(run.run_id, {own_process.TAG: f"{socket.gethostname()} {gone.pid} 1 {run.run_id}"})
    sensor = sensor_of(fleet, "lost_runs")
    sensor(dg.SensorEvaluationContext(None, None, None, None, None, None, instance=instance, code_location_origin=here))
    statuses = {location: instance.get_run_by_id(run.run_id).status for location, run in runs.items()}
    assert statuses == {"fleet_pipeline": dg.DagsterRunStatus.FAILURE, "another_team": dg.DagsterRunStatus.STARTED}
    instance.report_run_failed(runs["another_team"], "another's reason")
    with webhook() as (url, heard):
        alert = sensor_of(replace(fleet, alert_url=url), "alert_of_failed_runs")
        alert(
            dg.SensorEvaluationContext(None, None, None, None, None, None, instance=instance, code_location_origin=here)
        )
    assert "its process is gone" in heard[0].replace("run's", "its")
    assert "another's reason" not in heard[0]


def test_a_run_of_another_host_another_user_or_another_team_is_left_alone():
    host, gone = socket.gethostname(), subprocess.Popen(["true"])
    gone.wait()
    said = {
        "": False,  # nobody said whose it is
        f"elsewhere {gone.pid} 1 own": False,
        f"{host} {gone.pid} 1 own": True,
        f"{host} {gone.pid} 1 another": False,  # it is the retry of a run whose process is gone
        f"{host} {gone.pid} 1": False,
        f"{host} 1 {own_process._began(1)} own": False,  # alive, and perhaps another user's
        f"{host} {os.getpid()} {own_process._began(os.getpid())} own": False,
        f"{host} {os.getpid()} 1 own": True,  # this process has its number by now
    }
    runs = {
        text: dg.DagsterRun(job_name="compact", run_id="own", tags={own_process.TAG: text} if text else {})
        for text in said
    }
    assert {text: own_process.is_gone(run) for text, run in runs.items()} == said


@contextmanager
def webhook(*statuses: int) -> Iterator[tuple[str, list[str]]]:
    """A webhook on loopback that answers with these statuses, then with 200, and the texts that it took."""
    heard: list[str] = []
    answers = iter(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = next(answers, 200)
            if status == 200:
                heard.append(body["text"])
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    with serving(HTTPServer(("127.0.0.1", 0), Handler)) as address:
        yield f"{address}/secret-token", heard


def test_an_alert_is_tried_again_while_the_webhook_may_recover():
    waits = []
    with webhook(503, 429) as (url, heard):
        deliver(url, "hello", waits.append)
    assert heard == ["hello"]
    assert waits == list(WAITS_S[:2])


@pytest.mark.parametrize(("statuses", "waited"), [([404], 0), ([500] * 4, 3)])
def test_an_alert_that_is_not_taken_is_an_error_that_does_not_tell_the_address(statuses, waited):
    waits = []
    with webhook(*statuses) as (url, _), pytest.raises(AlertNotDelivered) as refused:
        deliver(url, "hello", waits.append)
    assert len(waits) == waited
    assert "secret" not in f"{refused.value} {refused.value!r} {refused.value.__cause__!r}"


def test_without_a_webhook_there_are_no_alerts(fleet):
    assert not [each.name for each in definitions_of(fleet).sensors if each.name.startswith("alert")]


def test_a_failed_run_is_told_with_its_hours_and_reasons(fleet, instance, aws, put, recent):
    bad = Lake(S3Store(aws, fleet.lake_bucket), fleet.parquet_prefix).part_key(fleet.rules[0], recent, 3)
    aws.s3.put_object(Bucket=fleet.lake_bucket, Key=bad, Body=b"no part")
    job = definitions_of(fleet).resolve_job_def("compact")
    result = job.execute_in_process(instance=instance, partition_key=recent.partition_key, raise_on_error=False)
    assert not result.success
    with webhook() as (url, heard):
        sensor, cursor = sensor_of(replace(fleet, alert_url=url), "alert_of_failed_runs"), None
        for _ in range(3):
            cursor = sensor(dg.build_sensor_context(instance, cursor=cursor)).cursor
    (text,) = heard
    assert f"*compact* failed for {recent.partition_key}" in text
    assert "part-00003.parquet" in text


def test_a_check_that_turned_red_is_told_once_until_it_was_green_again(fleet, instance):
    check = dg.AssetCheckKey(raw.key(ALONE, fleet.rules[0]), late_data.FRESH)
    with webhook() as (url, heard):
        alerting = replace(fleet, alert_url=url)
        sensor = sensor_of(alerting, "alert_of_failed_checks")
        repository, cursor = definitions_of(alerting).get_repository_def(), None
        for passed in (True, False, False, True, False):
            said = dg.AssetCheckEvaluation(
                asset_key=check.asset_key, check_name=check.name, passed=passed, metadata={}, description="it waits"
            )
            instance.report_runless_asset_event(said)
            cursor = sensor(dg.build_sensor_context(instance, cursor=cursor, repository_def=repository)).cursor
    assert len(heard) == 2
    assert "raw/rule1:the_lake_is_fresh" in heard[0].replace("`", "")
    assert "it waits" in heard[0]


def test_what_turned_red_while_the_webhook_was_down_is_told_once_it_answers_though_it_is_green_again(
    fleet, instance, monkeypatch
):
    monkeypatch.setattr(alerts, "WAITS_S", ())
    check = dg.AssetCheckKey(raw.key(ALONE, fleet.rules[0]), late_data.FRESH)
    with webhook(*[503] * 3) as (url, heard):
        sensor = sensor_of(replace(fleet, alert_url=url), "alert_of_failed_checks")
        repository, cursor, said = definitions_of(replace(fleet, alert_url=url)).get_repository_def(), None, []
        for passed in (False, True, True, True, True):
            evaluation = dg.AssetCheckEvaluation(
                asset_key=check.asset_key, check_name=check.name, passed=passed, metadata={}, description="it waits"
            )
            instance.report_runless_asset_event(evaluation)
            result = sensor(dg.build_sensor_context(instance, cursor=cursor, repository_def=repository))
            cursor = result.cursor
            said.append(result.skip_reason.skip_message)
    assert len(heard) == 1
    assert "it waits" in heard[0]
    assert "1 alerts wait" in said[0]


def test_failed_runs_of_an_outage_of_the_webhook_are_told_in_one_text(fleet, instance, monkeypatch):
    monkeypatch.setattr(alerts, "WAITS_S", ())
    job = definitions_of(fleet).resolve_job_def("look")
    with webhook(*[503] * 4) as (url, heard):
        sensor, cursor = sensor_of(replace(fleet, alert_url=url), "alert_of_failed_runs"), None
        for tick in range(6):
            if tick < 4:
                instance.report_run_failed(instance.create_run_for_job(job, tags={"dagster/partition": f"hour {tick}"}))
            cursor = sensor(dg.build_sensor_context(instance, cursor=cursor)).cursor
    assert len(heard) == 1
    assert all(f"failed for hour {tick}" in heard[0] for tick in range(4))


def test_a_text_names_what_fits_and_counts_the_rest():
    text = summary("checks failed", [f"check {number} " + "x" * 600 for number in range(40)], 7)
    assert len(text) <= alerts.LONGEST
    shown = text.count("check ")
    assert f"and {40 - shown + 7} more" in text


def test_a_check_that_is_planned_has_said_nothing_and_leaves_what_it_said_before(instance):
    check = dg.AssetCheckKey(dg.AssetKey("a"), "b")
    said = dg.AssetCheckEvaluation(asset_key=check.asset_key, check_name=check.name, passed=False, metadata={})
    instance.report_runless_asset_event(said)
    event = dg.DagsterEvent(
        "ASSET_CHECK_EVALUATION_PLANNED",
        "job",
        event_specific_data=AssetCheckEvaluationPlanned(asset_key=check.asset_key, check_name=check.name),
    )
    run = instance.create_run_for_job(work_job())
    instance.report_dagster_event(event, run.run_id)
    assert last_evaluation(instance, check).passed is False


def work_job():
    @dg.job
    def planned():
        """Plan a check."""

    return planned


def test_the_address_of_the_webhook_is_in_nothing_that_the_code_server_says(fleet):
    secret = "https://hooks.example.com/services/T0/B0/token"
    snapshot = dg.serialize_value(
        RepositorySnap.from_def(definitions_of(replace(fleet, alert_url=secret)).get_repository_def())
    )
    assert "alert_of_failed_runs" in snapshot
    assert "hooks.example.com" not in snapshot


def test_an_hour_of_which_more_raw_objects_were_seen_than_it_was_made_of_is_out_of_date(fleet, instance, put, recent):
    put(recent, 2)
    definitions = definitions_of(fleet)
    compacting = definitions.resolve_job_def("compact").execute_in_process(
        instance=instance, partition_key=recent.partition_key
    )
    assert compacting.success

    def status():
        look(fleet, instance)
        resolver = CachingStaleStatusResolver(
            instance, definitions.resolve_asset_graph(), LoadingContextForTest(instance)
        )
        return resolver.get_status(parquet.key(ALONE, fleet.rules[0]), recent.partition_key).value

    assert status() == "FRESH"
    put(recent, 3)
    assert status() == "STALE"
