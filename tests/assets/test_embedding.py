"""A fleet among other things in one Dagster: other fleets, and somebody's own assets, jobs and resources."""

import socket
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from in_dagster import sensor_of, ticked
from test_clockwork import webhook

import fleet_pipeline
from fleet_pipeline import (
    Fleet,
    build_definitions,
    day_partitions,
    fleet_of_file,
    hour_partitions,
    hours_of_the_day,
)
from fleet_pipeline.account import Account
from fleet_pipeline.assets.lake import parquet, raw
from fleet_pipeline.assets.lake.late_data import FRESH
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.instance import own_process
from fleet_pipeline.model import settings
from fleet_pipeline.model.errors import InvalidName, InvalidSetting
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName

HOUR = Hour.of(datetime.now(UTC) - timedelta(hours=3))
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dg.asset(required_resource_keys={"account", "lock"})
def theirs(context) -> str:
    return f"{context.resources.account} {context.resources.lock}"


@dg.asset(deps=[theirs], key=["lake", "own"], group_name="catalog")
def in_a_group_of_our_name(): ...


@dg.op
def broken():
    raise ValueError("another's reason")


@dg.job
def their_job():
    broken()


THEIRS = dg.Definitions(
    assets=[theirs, in_a_group_of_our_name], jobs=[their_job], resources={"account": "a bank's", "lock": "a door's"}
)


def names(definitions):
    """Every name that a code location has only once, by its kind."""
    repository = definitions.get_repository_def()
    return {
        "assets": {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()},
        "groups": {repository.asset_graph.get(key).group_name for key in repository.asset_graph.get_all_asset_keys()},
        "jobs": {job.name for job in repository.get_all_jobs()} - {"__ASSET_JOB"},
        "ops": {op.name for job in repository.get_all_jobs() for op in job.all_node_defs},
        "schedules": {schedule.name for schedule in repository.schedule_defs},
        "sensors": {sensor.name for sensor in repository.sensor_defs},
        "resources": set(definitions.resources or {}),
        "pools": {pool for job in repository.get_all_jobs() for op in job.all_node_defs for pool in op.pools},
    }


FLEETS = {
    (): Fleet(alert_url="http://127.0.0.1:1"),
    ("dev",): Fleet(environment="test", bucket="other"),
    ("eu", "prod"): Fleet(environment="prod", bucket="third"),
}


def test_three_fleets_load_beside_somebodys_own_assets_and_resources_of_the_names_that_come_to_mind():
    merged = dg.Definitions.merge(
        *(build_definitions(fleet, key_prefix=prefix) for prefix, fleet in FLEETS.items()), THEIRS
    )
    dg.Definitions.validate_loadable(merged)
    assert dg.materialize([theirs], resources={"account": "a", "lock": "b"}).output_for_node("theirs") == "a b"


@pytest.mark.parametrize("prefix", [("dev",), ("eu", "prod")])
def test_every_name_of_a_fleet_with_a_prefix_begins_with_it(prefix):
    fleet = replace(FLEETS[prefix], alert_url="http://127.0.0.1:1")
    found = names(build_definitions(fleet, key_prefix=prefix))
    assert all(found.values())
    without = {
        kind: {name for name in of if not name.replace("/", "_").replace("__", "_").startswith("_".join(prefix) + "_")}
        for kind, of in found.items()
    }
    assert {kind: of for kind, of in without.items() if of} == {}


def test_the_names_of_a_fleet_with_a_dagster_of_its_own_are_those_that_its_history_has():
    found = names(build_definitions(FLEETS[()]))
    jobs = "adopt compact destroy erase_vehicle export_cloudformation export_vehicle look maintain_iceberg plan provision replay retention retire_claim revoke_claim rollback rotate_claim"
    assert found["jobs"] == set(jobs.split())
    assert found["schedules"] == {
        "compact_closed_hours",
        "look_for_drift",
        "look_for_late_data",
        "maintain_iceberg_tables",
        "remove_what_is_too_old",
        "sweep_for_late_data",
    }
    assert found["sensors"] == {
        "alert_of_failed_checks",
        "alert_of_failed_runs",
        "late_data",
        "lost_runs",
        "tables_follow_the_lake",
    }
    assert found["groups"] == {"provisioning", "raw", "errors", "lake", "catalog", "iceberg", "vehicles"}
    assert {
        "raw/rule1",
        "errors/rule1",
        "lake/rule1",
        "catalog/rule1",
        "catalog/database",
        "vehicles/hourly",
        "vehicles/daily",
        "iceberg/rule1",
    } <= found["assets"]
    assert {
        "provisioning/device_policy",
        "provisioning/claim_attachment",
        "provisioning/lake_bucket",
        "provisioning/topic_rule_rule1",
    } <= found["assets"]
    assert found["pools"] == {"compaction"}


def test_nothing_of_a_fleet_is_everybodys():
    definitions = build_definitions(Fleet(), key_prefix="dev", executor=dg.multiprocess_executor)
    assert (definitions.executor, definitions.loggers) == (None, None)
    repository = dg.Definitions.merge(definitions, THEIRS).get_repository_def()
    assert repository.get_job("dev_destroy").executor_def is dg.multiprocess_executor
    assert repository.get_job("their_job").executor_def is not dg.in_process_executor
    alone = build_definitions(Fleet(), key_prefix="dev").get_repository_def()
    assert alone.get_job("dev_plan").executor_def is dg.in_process_executor
    target = next(
        sensor for sensor in repository.sensor_defs if sensor.name == "dev_tables_follow_the_lake"
    ).asset_selection
    assert {key.path[0] for key in target.resolve(repository.asset_graph)} == {"dev"}


@pytest.mark.parametrize("prefix", ["a-b", "a b", "", "ä", ("eu", "a/b")])
def test_a_prefix_that_dagster_would_not_take_is_refused_with_what_to_write(prefix):
    with pytest.raises(InvalidName, match="use a-z, A-Z, 0-9 and _"):
        build_definitions(Fleet(), key_prefix=prefix)


@pytest.mark.parametrize(
    ("setting", "automation", "running"),
    [("off", True, True), ("", False, False), ("on", None, True), ("off", None, False)],
)
def test_one_switch_starts_or_stops_all_that_happens_by_itself(setting, automation, running):
    made = build_definitions(Fleet(alert_url="http://127.0.0.1:1", automation=setting), automation=automation)
    assert {each.default_status.value == "RUNNING" for each in [*made.schedules, *made.sensors]} == {running}


def test_the_package_says_what_it_offers_and_knows_no_other_names():
    assert {"Fleet", "FleetComponent", "build_definitions"} <= set(dir(fleet_pipeline))
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = fleet_pipeline.nothing_of_the_kind


@pytest.fixture
def two(make_fleet):
    """Two fleets of one code location beside somebody's own things: prefix, fleet, and how many messages each has in an hour."""
    fleets = {"dev": make_fleet(rule_keys=("rule1",)), "prod": make_fleet(rule_keys=("rule1",))}
    for count, fleet in enumerate(fleets.values(), start=2):
        s3 = Account.of(fleet).aws.s3
        for bucket in (fleet.bucket, fleet.lake_bucket):
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": fleet.region})
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        for number in range(count):
            s3.put_object(
                Bucket=fleet.bucket, Key=fleet.rules[0].raw_key(RawName(HOUR.start_ms + number)), Body=b'{"speed":12.5}'
            )
    return fleets


def test_two_fleets_compact_and_look_beside_each_other_and_neither_sees_the_others_hours(two):
    merged = dg.Definitions.merge(
        *(build_definitions(fleet, key_prefix=prefix) for prefix, fleet in two.items()), THEIRS
    )
    instance = dg.DagsterInstance.ephemeral()

    def launched(job, **selection):
        return merged.resolve_job_def(job).execute_in_process(instance=instance, run_config=QUIET, **selection)

    def asked(prefix):
        scope = Scope(two[prefix], (prefix,))
        with dg.build_sensor_context(instance, cursor=None, resources=scope.resources) as context:
            requests = ticked(sensor_of(two[prefix], f"{prefix}_late_data", key_prefix=prefix), context).run_requests
        return [
            (key.to_user_string(), request.partition_key) for request in requests for key in request.asset_selection
        ]

    assert launched("dev_look").success
    assert (asked("dev"), asked("prod")) == ([("dev/lake/rule1", HOUR.partition_key)], [])
    assert launched("dev_compact", partition_key=HOUR.partition_key).success
    lake = {prefix: parquet.key(Scope(fleet, (prefix,)), fleet.rules[0]) for prefix, fleet in two.items()}
    assert [instance.get_materialized_partitions(key) for key in lake.values()] == [{HOUR.partition_key}, set()]
    assert launched("prod_compact", partition_key=HOUR.partition_key).success
    rows = {
        prefix: instance.get_latest_materialization_event(key).asset_materialization for prefix, key in lake.items()
    }
    assert {prefix: made.metadata["dagster/partition_row_count"].value for prefix, made in rows.items()} == {
        "dev": 2,
        "prod": 3,
    }


def test_a_fleet_is_told_of_its_own_failures_alone_and_ends_its_own_lost_runs_alone(two):
    instance, gone = dg.DagsterInstance.ephemeral(), subprocess.Popen(["true"])
    gone.wait()
    merged = dg.Definitions.merge(
        *(build_definitions(fleet, key_prefix=prefix) for prefix, fleet in two.items()), THEIRS
    )
    lost = {
        job: instance.create_run_for_job(merged.resolve_job_def(job), status=dg.DagsterRunStatus.STARTED)
        for job in ("dev_compact", "prod_compact", "their_job")
    }
    by_assets = instance.create_run_for_job(
        merged.resolve_implicit_global_asset_job_def(),
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset([parquet.key(Scope(two["dev"], ("dev",)), two["dev"].rules[0])]),
    )
    for run in (*lost.values(), by_assets):
        instance.add_run_tags(run.run_id, {own_process.TAG: f"{socket.gethostname()} {gone.pid} 1 {run.run_id}"})
    sensor_of(two["dev"], "dev_lost_runs", key_prefix="dev")(dg.build_sensor_context(instance))
    statuses = {job: instance.get_run_by_id(run.run_id).status.value for job, run in lost.items()}
    assert statuses == {"dev_compact": "FAILURE", "prod_compact": "STARTED", "their_job": "STARTED"}
    assert instance.get_run_by_id(by_assets.run_id).status is dg.DagsterRunStatus.FAILURE
    for run in (lost["prod_compact"], lost["their_job"]):
        instance.report_run_failed(run, "another's reason")
    red = [dg.AssetCheckKey(raw.key(Scope(fleet, (prefix,)), fleet.rules[0]), FRESH) for prefix, fleet in two.items()]
    for check in red:
        said = dg.AssetCheckEvaluation(
            asset_key=check.asset_key, check_name=check.name, passed=False, metadata={}, description="it waits"
        )
        instance.report_runless_asset_event(said)
    with webhook() as (url, heard):
        alerted = replace(two["dev"], alert_url=url)
        for name in ("dev_alert_of_failed_runs", "dev_alert_of_failed_checks"):
            sensor_of(alerted, name, key_prefix="dev")(dg.build_sensor_context(instance))
    runs, checks = heard
    assert "dev_compact" in runs
    assert "another's reason" not in runs
    assert "dev/raw/rule1" in checks.replace("`", "")
    assert "prod" not in checks


def test_assets_of_others_take_the_fleets_partitions(tmp_path):
    fleet = Fleet(start="2026-11-01", rule_keys=("rule1",))

    @dg.asset(deps=[dg.AssetKey(["dev", "lake", "rule1"])], partitions_def=hour_partitions(fleet))
    def of_an_hour(): ...

    @dg.asset(
        deps=[dg.AssetDep(dg.AssetKey(["dev", "lake", "rule1"]), partition_mapping=hours_of_the_day())],
        partitions_def=day_partitions(fleet),
    )
    def of_a_day(): ...

    merged = dg.Definitions.merge(
        build_definitions(fleet, key_prefix="dev"), dg.Definitions(assets=[of_an_hour, of_a_day])
    )
    graph = merged.resolve_asset_graph()
    lake = graph.get(dg.AssetKey(["dev", "lake", "rule1"]))
    assert graph.get(of_an_hour.key).partitions_def == lake.partitions_def
    assert lake.partitions_def.get_first_partition_key() == "2026-11-01-00:00"
    assert graph.get(of_a_day.key).partitions_def.get_first_partition_key() == "2026-11-01"


def test_one_file_is_the_same_fleet_for_commands_and_for_dagster(tmp_path, monkeypatch):
    (tmp_path / "fleets").mkdir()
    file = tmp_path / "fleets" / "dev.toml"
    file.write_text('environment = "one"\nhome = "here"\nhook_file = "checks.py"\n[tags]\nteam = "cars"\n')
    monkeypatch.setenv("FLEET_ENVIRONMENT", "another")
    fleet = fleet_of_file(file)
    assert (fleet.environment, fleet.home) == ("one", str(tmp_path / "fleets" / "here"))
    assert fleet.hook_file == str(tmp_path / "fleets" / "checks.py")
    file.write_text(file.read_text().replace('"here"', '"../here"'))
    fleet = fleet_of_file(file)
    assert fleet.home == str(tmp_path / "here")
    monkeypatch.delenv("FLEET_ENVIRONMENT")
    monkeypatch.chdir(tmp_path)
    assert (
        settings.read_fleet(
            {"FLEET_FILE": str(file)}, settings.find_file({"FLEET_FILE": str(file)}, tmp_path, tmp_path)
        )
        == fleet
    )
    monkeypatch.chdir(tmp_path / "fleets")
    assert Path(fleet_of_file("dev.toml").home).resolve() == Path(fleet.home)
    with pytest.raises(InvalidSetting, match="no such file"):
        fleet_of_file(tmp_path / "none.toml")


AFTER_THE_LAKE = dg.AutomationCondition.eager().without(dg.AutomationCondition.in_latest_time_window())
"""As docs/embedding.md says it."""


@pytest.fixture
def follower():
    """A fleet's lake and, of somebody else, an asset of an hour and one of a day; both want to follow the lake."""
    yesterday = Hour.of(datetime.now(UTC) - timedelta(days=1)).start.replace(hour=0)
    fleet, lake = Fleet(start=f"{yesterday:%Y-%m-%d}", rule_keys=("rule1",)), dg.AssetKey(["dev", "lake", "rule1"])

    @dg.asset(deps=[lake], partitions_def=hour_partitions(fleet), automation_condition=AFTER_THE_LAKE)
    def of_an_hour(): ...

    @dg.asset(
        deps=[dg.AssetDep(lake, partition_mapping=hours_of_the_day())],
        partitions_def=day_partitions(fleet),
        automation_condition=AFTER_THE_LAKE,
    )
    def of_a_day(): ...

    @dg.asset(deps=[lake], partitions_def=hour_partitions(fleet), automation_condition=dg.AutomationCondition.eager())
    def eager(): ...

    mine = [of_an_hour, of_a_day, eager]
    merged = dg.Definitions.merge(build_definitions(fleet, key_prefix="dev"), dg.Definitions(assets=mine))
    instance, cursor = dg.DagsterInstance.ephemeral(), None

    def asked(*compacted):
        """Compact these hours, and return what the sensor of the conditions then starts."""
        nonlocal cursor
        for hour in compacted:
            instance.report_runless_asset_event(dg.AssetMaterialization(lake, partition=hour.partition_key))
        found = dg.evaluate_automation_conditions(
            merged, instance, asset_selection=dg.AssetSelection.assets(*mine), cursor=cursor
        )
        cursor = found.cursor
        return {each.key.path[-1]: found.get_requested_partitions(each.key) for each in mine}

    return yesterday, asked


def test_assets_of_others_get_a_run_of_their_own_for_each_hour_that_was_compacted_and_each_day_that_is_whole(follower):
    yesterday, asked = follower
    hours = [Hour.of(yesterday + timedelta(hours=hour)) for hour in range(24)]
    assert asked() == {"of_an_hour": set(), "of_a_day": set(), "eager": set()}
    assert asked(hours[0]) == {"of_an_hour": {hours[0].partition_key}, "of_a_day": set(), "eager": set()}
    assert asked()["of_an_hour"] == set()
    assert asked(*hours[1:]) == {
        "of_an_hour": {hour.partition_key for hour in hours[1:]},
        "of_a_day": {f"{yesterday:%Y-%m-%d}"},
        "eager": set(),
    }


def test_two_fleets_of_one_prefix_are_refused_by_dagster_in_the_words_that_the_page_explains():
    fleets = [build_definitions(Fleet(environment=name, bucket=f"acme-{name}")) for name in ("one", "two")]
    with pytest.raises(dg.DagsterInvariantViolationError) as refused:
        dg.Definitions.merge(*fleets)
    page = (Path(__file__).parents[2] / "docs" / "embedding.md").read_text()
    said = page.partition("`Definitions.merge` says `")[2].partition("`")[0]
    assert said
    assert said in str(refused.value)


def test_a_fleet_in_an_account_that_is_not_named_has_no_definitions():
    with pytest.raises(InvalidSetting, match=r"FLEET_ACCOUNT.*name the account that is meant"):
        build_definitions(Fleet(profile="aws"))


@pytest.mark.parametrize("automation", ["off", "on", "", 0])
def test_automation_in_python_is_true_or_false_and_no_text_counts_as_one(automation):
    with pytest.raises(InvalidSetting, match="write True, False or None"):
        build_definitions(Fleet(), automation=automation)
