"""`fleet retention`, its job and its role, on AWS on this machine: what the settings say is too old goes, what cannot go is named."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import text

from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.reconcile import reconcile
from fleet_pipeline.definitions import build_definitions
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName

OLD = Hour.of(datetime.now(UTC) - timedelta(days=40))
SETTINGS = {"raw_retention_days": 2, "lake_retention_days": 30, "derived_retention_days": 35}
UUID = "00000000-0000-4000-8000-{:012d}"


def sent(fleet, aws, number):
    key = fleet.rules[0].raw_key(RawName(OLD.start_ms + number, UUID.format(number)))
    aws.s3.put_object(Bucket=fleet.bucket, Key=key, Body=json.dumps({"serial": "297468000001"}).encode())
    return key


def held(aws, bucket):
    return [each["Key"] for each in aws.s3.list_object_versions(Bucket=bucket).get("Versions", [])]


@pytest.fixture
def old(fleet, aws, command, monkeypatch):
    """A fleet with an old hour of two messages, which are rows of the lake and of an Iceberg table."""
    for name in ("bucket", "lake_bucket"):
        reconcile(blueprint(fleet)[name].resource, aws)
    for number in range(2):
        sent(fleet, aws, number)
    monkeypatch.setenv("FLEET_START", f"{OLD.start:%Y-%m-%d}")
    assert command(fleet, "compact", "--from", OLD.partition_key, "--to", OLD.next.partition_key)[0] == 0
    assert command(fleet, "iceberg", "sync")[0] == 0
    for name, days in SETTINGS.items():
        monkeypatch.setenv(f"FLEET_{name.upper()}", str(days))
    return replace(fleet, start=f"{OLD.start:%Y-%m-%d}", **SETTINGS)


def test_the_command_says_what_would_go_and_removes_it_and_names_what_stands_in_the_way(old, aws, command):
    late = sent(old, aws, 2)
    code, said = command(old, "retention", "--dry-run")
    assert (code, "1 versions have no row" in said, OLD.partition_key in said) == (1, True, True), said
    assert len(held(aws, old.bucket)) == 3
    code, said = command(old, "retention", "--yes")
    assert (code, "1 have no row" in said) == (1, True), said
    assert late in held(aws, old.bucket)
    assert command(old, "compact", "--from", OLD.partition_key, "--to", OLD.next.partition_key)[0] == 0
    code, said = command(old, "retention", "--dry-run")
    assert (code, "3 versions, 1 hours" in said) == (0, True), said
    code, said = command(old, "retention", "--yes")
    assert (code, "3 versions, 1 hours" in said, "1 hours," in said) == (0, True, True), said
    assert held(aws, old.bucket) == []
    assert not [key for key in held(aws, old.lake_bucket) if key.endswith(".parquet")]
    assert command(old, "iceberg", "check")[0] == 0
    code, said = command(old, "retention", "--yes")
    assert (code, "0 versions, 0 hours" in said) == (0, True), said


def test_without_settings_nothing_goes(fleet, command):
    assert command(fleet, "retention", "--yes") == (
        0,
        "FLEET_RAW_RETENTION_DAYS is 0: nothing goes, neither raw objects nor rows\n",
    )


def test_it_asks_before_anything_goes(old, aws, command):
    code, said = command(old, "retention")
    assert (code, "for good?" in said, len(held(aws, old.bucket))) == (1, True, 2)


def ran(definitions, instance, **how):
    return definitions.resolve_job_def("retention").execute_in_process(instance=instance, **how)


def said_by(done):
    [said] = [event for event in done.all_events if event.is_successful_output]
    return {name: value.value for name, value in said.event_specific_data.metadata.items()}


def test_the_job_says_what_went_and_when_the_next_goes_and_fails_by_name_while_something_cannot_go(old, aws, instance):
    definitions, table = build_definitions(old), dg.AssetKey(["iceberg", old.rules[0].key])
    everything = definitions.resolve_implicit_global_asset_job_def()
    assert everything.execute_in_process(instance=instance, asset_selection=[table]).success
    sent(old, aws, 2)
    done = ran(definitions, instance, raise_on_error=False)
    [failure] = [event for event in done.all_events if event.is_step_failure]
    assert f"raw objects rule1 {OLD.partition_key}" in failure.event_specific_data.error_display_string
    aws.s3.delete_object(
        Bucket=old.bucket,
        Key=(late := held(aws, old.bucket)[-1]),
        VersionId=aws.s3.list_object_versions(Bucket=old.bucket, Prefix=late)["Versions"][0]["VersionId"],
    )
    said = said_by(ran(definitions, instance))
    assert (said["raw versions removed"], said["hours of the lake"], said["in the way"]) == (2, 1, 0)
    assert said["ages in days"] == "raw 2, lake 30, derived 35"
    made = instance.fetch_materializations(table, limit=9).records
    assert [each.asset_materialization.metadata["dagster/row_count"].value for each in made] == [0, 2]


def test_what_runs_of_this_fleet_printed_goes_and_what_others_printed_stays(old, instance):
    short = build_definitions(replace(old, compute_log_retention_days=1))
    ours = ran(build_definitions(old), instance).run_id
    theirs = build_definitions(replace(old, bucket="another"), key_prefix="other")
    other = theirs.resolve_job_def("other_retention").execute_in_process(instance=instance, raise_on_error=False).run_id
    logs = [
        Path(instance.compute_log_manager.get_captured_local_path([run, "compute_logs", "x"], "err"))
        for run in (ours, other)
    ]
    for path in logs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("printed")
    assert said_by(ran(short, instance))["runs whose compute logs went"] == 0
    with instance.run_storage.connect() as database:
        database.execute(text("UPDATE runs SET create_timestamp = '2026-01-01 00:00:00'"))
    assert said_by(ran(short, instance))["runs whose compute logs went"] == 2
    assert [path.exists() for path in logs] == [False, True]
    assert said_by(ran(short, instance))["runs whose compute logs went"] == 0


def test_the_schedule_asks_for_nothing_while_no_setting_says_that_anything_goes(fleet, old):
    for each, asked in ((fleet, 0), (old, 1)):
        definitions = build_definitions(each)
        with dg.build_schedule_context(resources=definitions.resources) as context:
            ticked = definitions.resolve_schedule_def("remove_what_is_too_old").evaluate_tick(context)
        assert len(ticked.run_requests) == asked
        assert bool(ticked.skip_message) == (not asked)
