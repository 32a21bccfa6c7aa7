"""What happens because something was seen: late messages bring their hour into the lake, and a run whose process is gone is ended."""

import json
import os
from contextlib import suppress
from typing import Any

import dagster as dg

from fleet_pipeline.assets import catalog, lake
from fleet_pipeline.checks.evaluations import Evaluation, last_evaluation
from fleet_pipeline.checks.late_data import check_keys
from fleet_pipeline.fleet import Fleet, Hour
from fleet_pipeline.partitions import idle, run_requests

ATTEMPTS = 3
"""Times that an hour is asked for before it is left to a person. The check stays red and says so."""

INTERVAL_S = 30

BEFORE_BACKFILLS = {"dagster/priority": "5"}
"""Late hours leave the queue before those of a backfill, and after those that have just closed."""


def lake_sensors(fleet: Fleet) -> list[dg.SensorDefinition]:
    """Return the sensors of the lake. On this machine they run by themselves; in an account somebody starts them."""
    return [_late_data(fleet), _tables(fleet), _lost_runs(fleet)]


def _status(fleet: Fleet) -> dg.DefaultSensorStatus:
    return dg.DefaultSensorStatus.RUNNING if fleet.profile == "local" else dg.DefaultSensorStatus.STOPPED


def _late_data(fleet: Fleet) -> dg.SensorDefinition:
    @dg.sensor(
        name="late_data",
        job_name="compact",
        minimum_interval_seconds=INTERVAL_S,
        default_status=_status(fleet),
        description=f"Asks for the hours of which a look found messages that are not in the lake, at most {ATTEMPTS} times each. It lists nothing itself.",
    )
    def late_data(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        asked: dict[str, dict[str, Any]] = json.loads(context.cursor or "{}")
        wanted: dict[dg.AssetKey, list[Hour]] = {}
        looks: list[str] = []
        for rule, check in check_keys(fleet).items():
            evaluation = last_evaluation(context.instance, check)
            before = asked.get(rule.key, {"look": 0, "hours": {}})
            if evaluation is None or evaluation.id == before["look"]:
                continue
            now = idle(context.instance, lake.key(rule), fleet, _due(evaluation, before["hours"]))
            asked[rule.key] = {"look": evaluation.id, "hours": _counted(evaluation, before["hours"], {hour.partition_key for hour in now})}
            wanted[lake.key(rule)] = now
            looks.append(str(evaluation.id))
        requests = run_requests(wanted, lake.own_checks(fleet), f"late data of looks {', '.join(looks)}", BEFORE_BACKFILLS)
        return dg.SensorResult(run_requests=list(requests), cursor=json.dumps(asked))

    return late_data


def _due(evaluation: Evaluation, asked: dict[str, int]) -> list[Hour]:
    return [Hour.parse(hour) for hour in evaluation.metadata["hours"] if asked.get(hour, 0) < ATTEMPTS]


def _counted(evaluation: Evaluation, asked: dict[str, int], now: set[str]) -> dict[str, int]:
    """Return how often each hour that is still incomplete was asked for."""
    return {hour: asked.get(hour, 0) + (hour in now) for hour in evaluation.metadata["hours"]}


def _tables(fleet: Fleet) -> dg.AutomationConditionSensorDefinition:
    return dg.AutomationConditionSensorDefinition(
        "tables_follow_the_lake",
        target=dg.AssetSelection.groups(catalog.GROUP, "vehicles"),
        minimum_interval_seconds=INTERVAL_S,
        default_status=_status(fleet),
        description="Asks for the tables about vehicles, and for those of the catalog once there is its database, where the lake has grown.",
    )


def _lost_runs(fleet: Fleet) -> dg.SensorDefinition:
    """Return the sensor that ends runs which were killed together with Dagster, so that they are started again and their hours are free.

    The launchers for ECS and Kubernetes are asked by Dagster's run monitoring; its default launcher, which starts processes here, cannot tell.
    """

    @dg.sensor(
        name="lost_runs",
        minimum_interval_seconds=INTERVAL_S,
        default_status=_status(fleet),
        description="Marks runs as failed whose process on this machine is gone. Run retries then start them again.",
    )
    def lost_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        running = context.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        lost = [run for run in running if not context.instance.run_launcher.supports_check_run_worker_health and _is_gone(context.instance, run)]
        for run in lost:
            context.instance.report_run_failed(run, "The run's process is gone: it was killed, or the machine was started anew.")
        return dg.SkipReason(f"{len(lost)} of {len(running)} running runs had lost their process.")

    return lost_runs


def _is_gone(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    started = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_START)
    pids = [event.pid for entry in started if (event := entry.dagster_event) and event.pid]
    return bool(pids) and not any(map(_lives, pids))


def _lives(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
