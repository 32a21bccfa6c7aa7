"""A vehicle's name is taken out of all that Dagster keeps on the disk, and nothing else of it changes."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.storage.compute_log_manager import ComputeIOType
from dagster._core.test_utils import create_run_for_test

from fleet_pipeline.instance.names import take_out
from fleet_pipeline.model.spelt import GONE, Spelling

NAME, OTHER = "297468000001", "2974680000017"
LABELS = frozenset({"some rows"})
ESCAPED = "".join(f"\\u{ord(each):04X}" for each in NAME)
KEY = dg.AssetKey(["lake", "rule1"])
CHECK = "no_foreign_keys"
PRINTED = ["run", "compute_logs", "step"]


def quoted(name):
    return f'key rule1/1795428000005-{name}.json has {{"serial": "{name}"}}, of {OTHER}'


@dg.op
def failing(context):
    context.log.info(quoted(NAME))
    context.log_event(
        dg.AssetMaterialization(
            KEY,
            partition="p",
            metadata={
                "some rows": dg.MetadataValue.table([dg.TableRecord({"serial": NAME, "latitude": 48.125})]),
                "n": 3,
            },
        )
    )
    context.log_event(dg.AssetObservation(KEY, metadata={"damaged batches": quoted(ESCAPED)}))
    raise dg.Failure(quoted(NAME), metadata={"failed": quoted(ESCAPED)}) from ValueError(quoted(NAME))


@dg.job
def one():
    failing()


def tick(instance):
    """A sensor that failed, and what it noted for its next time."""
    location = RegisteredCodeLocationOrigin("here")
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "fleet"), "alert_of_failed_runs")
    noted = SensorInstigatorData(cursor=json.dumps({"waiting": [quoted(NAME)], "since": "2026-11-30T10:00:00+00:00"}))
    instance.add_instigator_state(InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, noted))
    instance.create_tick(
        TickData(
            origin.get_id(),
            "alert_of_failed_runs",
            InstigatorType.SENSOR,
            TickStatus.SKIPPED,
            datetime.now(UTC).timestamp(),
            skip_reason=quoted(NAME),
            selector_id="selector",
        )
    )
    return origin


@pytest.fixture
def told(tmp_path):
    """An instance that was told of a vehicle in each way that it knows."""
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        config = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        done = one.execute_in_process(
            config, instance=instance, raise_on_error=False, tags={"of": NAME, "dagster/partition": "p"}
        )
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(KEY, CHECK, passed=False, description=quoted(NAME), metadata={"keys": quoted(NAME)})
        )
        asked = {"ops": {"export": {"config": {"serial": NAME, "out": f"/tmp/{NAME}", "other": OTHER}}}}
        run = create_run_for_test(instance, "export_vehicle", run_config=asked)
        instance.report_run_canceled(run)
        with instance.compute_log_manager.open_log_stream(PRINTED, ComputeIOType.STDERR) as file:
            file.write(f"{quoted(NAME)}\n{quoted(ESCAPED)}\n")
        yield instance, done.run_id, run.run_id, tick(instance), tmp_path


def kept(home):
    """Every byte on the disk, and every text of every table."""
    files = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    for path in [path for path in files if path.suffix == ".db"]:
        with closing(sqlite3.connect(path)) as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                rows = database.execute(f"SELECT * FROM {table}").fetchall()
                files[path / table] = "\n".join(str(value) for row in rows for value in row).encode()
    return files


def holding(home):
    return [
        path
        for path, body in kept(home).items()
        if Spelling(NAME).stands_in(body.decode(errors="replace")) or NAME.encode() in body.replace(OTHER.encode(), b"")
    ]


def test_no_spelling_of_the_name_is_left_on_the_disk_and_what_others_said_stays(told):
    instance, failed, exported, origin, home = told
    assert len(holding(home)) > 10
    events = len(instance.all_logs(failed))
    taken = take_out(instance, Spelling(NAME), LABELS)
    assert (taken.rows > 10, taken.files, taken.remains, taken.printed_elsewhere) == (True, 1, False, False)
    assert holding(home) == []
    said = quoted(GONE)
    assert len(instance.all_logs(failed)) == events
    [failure] = instance.all_logs(failed, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert failure.dagster_event.step_failure_data.user_failure_data.description == said
    assert said in failure.dagster_event.step_failure_data.error.cause.message
    run = instance.get_run_by_id(failed)
    assert (run.status, run.tags["of"], run.tags["dagster/partition"]) == (dg.DagsterRunStatus.FAILURE, GONE, "p")
    config = instance.get_run_by_id(exported).run_config["ops"]["export"]["config"]
    assert config == {"serial": GONE, "out": f"/tmp/{GONE}", "other": OTHER}
    assert instance.get_run_by_id(exported).status == dg.DagsterRunStatus.CANCELED
    [made] = instance.fetch_materializations(KEY, limit=9).records
    assert {name: each.value for name, each in made.asset_materialization.metadata.items()} == {"n": 3}
    assert made.partition_key == "p"
    [check] = instance.event_log_storage.get_asset_check_execution_history(dg.AssetCheckKey(KEY, CHECK), 9)
    assert check.event.dagster_event.asset_check_evaluation_data.description == said
    noted = json.loads(instance.all_instigator_state()[0].instigator_data.cursor)
    assert noted == {"waiting": [said], "since": "2026-11-30T10:00:00+00:00"}
    [tried] = instance.get_ticks(origin.get_id(), "selector")
    assert tried.skip_reason == said
    printed = instance.compute_log_manager.get_log_data(PRINTED).stderr
    assert len(printed) == len((quoted(NAME) + quoted(ESCAPED)).encode()) + 2
    assert OTHER.encode() in printed
    again = take_out(instance, Spelling(NAME), LABELS)
    assert (again.rows, again.files) == (0, 0)
