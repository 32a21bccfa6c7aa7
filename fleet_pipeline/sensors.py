"""What happens because something was seen: late messages bring their hour into the lake."""

import json
from typing import Any

import dagster as dg

from fleet_pipeline.assets import lake
from fleet_pipeline.checks.evaluations import Evaluation, last_evaluation
from fleet_pipeline.checks.late_data import check_keys
from fleet_pipeline.fleet import Fleet, Hour
from fleet_pipeline.partitions import idle, run_requests

ATTEMPTS = 3
"""Times that an hour is asked for before it is left to a person. The check stays red and says so."""

INTERVAL_S = 30


def lake_sensors(fleet: Fleet) -> list[dg.SensorDefinition]:
    """Return the sensors of the lake. On this machine they run by themselves; in an account somebody starts them."""
    return [_late_data(fleet)]


def _late_data(fleet: Fleet) -> dg.SensorDefinition:
    @dg.sensor(
        name="late_data",
        job_name="compact",
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING if fleet.profile == "local" else dg.DefaultSensorStatus.STOPPED,
        description=f"Asks for the hours of which a look found messages that are not in the lake, at most {ATTEMPTS} times each. It lists nothing itself.",
    )
    def late_data(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        asked: dict[str, dict[str, Any]] = json.loads(context.cursor or "{}")
        requests: list[dg.RunRequest] = []
        for rule, check in check_keys(fleet).items():
            evaluation = last_evaluation(context.instance, check)
            before = asked.get(rule.key, {"look": 0, "hours": {}})
            if evaluation is None or evaluation.id == before["look"]:
                continue
            found = _due(evaluation, before["hours"])
            now = {hour.partition_key for hour in idle(context.instance, lake.key(rule), fleet, found)}
            asked[rule.key] = {"look": evaluation.id, "hours": _counted(evaluation, before["hours"], now)}
            wanted = {lake.key(rule): [Hour.parse(hour) for hour in now]}
            requests += run_requests(wanted, lake.own_checks(fleet), f"late data of look {evaluation.id}", {"dagster/priority": "5"})
        return dg.SensorResult(run_requests=requests, cursor=json.dumps(asked))

    return late_data


def _due(evaluation: Evaluation, asked: dict[str, int]) -> list[Hour]:
    return [Hour.parse(hour) for hour in evaluation.metadata["hours"] if asked.get(hour, 0) < ATTEMPTS]


def _counted(evaluation: Evaluation, asked: dict[str, int], now: set[str]) -> dict[str, int]:
    """Return how often each hour that is still incomplete was asked for."""
    return {hour: asked.get(hour, 0) + (hour in now) for hour in evaluation.metadata["hours"]}
