"""Who is told when something fails: a webhook that takes JSON as Slack does, `{"text": …}`. Its address is a secret and is never logged."""

import json
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import dagster as dg
from dagster._core.storage.tags import WILL_RETRY_TAG

from fleet_pipeline.checks.evaluations import last_evaluation
from fleet_pipeline.errors import AlertNotDelivered
from fleet_pipeline.fleet import Fleet

PATIENCE_S = 10
"""For one answer of the webhook."""

WAITS_S = (1, 2, 4)
"""Between the tries of one alert. Dagster allows a sensor 60 s."""

INTERVAL_S = 30
LONGEST = 2000
"""Characters of a text; Slack cuts at 4,000."""


def alert_sensors(fleet: Fleet) -> list[dg.SensorDefinition]:
    """Return the sensors that tell the webhook of failed runs and of failed checks; none when there is no webhook."""
    return [_failed_runs(fleet.alert_url), _failed_checks(fleet.alert_url)] if fleet.alert_url else []


def deliver(url: str, text: str, sleep: Callable[[float], None] = time.sleep) -> None:
    """Return once the webhook has taken a text. Raises AlertNotDelivered after four tries, or at once when it says that it never will."""
    for wait in (*WAITS_S, None):
        problem, passing = _posted(url, text)
        if not problem:
            return
        if wait is None or not passing:
            raise AlertNotDelivered(problem)
        sleep(wait)


def _posted(url: str, text: str) -> tuple[str, bool]:
    """Return what went wrong, if anything, and whether it may pass."""
    request = Request(url, json.dumps({"text": text[:LONGEST]}).encode(), {"Content-Type": "application/json"})  # noqa: S310 (the setting is checked)
    try:
        with urlopen(request, timeout=PATIENCE_S):  # noqa: S310
            return "", False
    except HTTPError as error:
        return f"{error.code} {error.reason}", error.code == HTTPStatus.TOO_MANY_REQUESTS or error.code >= HTTPStatus.INTERNAL_SERVER_ERROR
    except (OSError, HTTPException) as error:
        return type(error).__name__, True


def _failed_runs(url: str) -> dg.SensorDefinition:
    @dg.run_failure_sensor(
        name="alert_of_failed_runs",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=INTERVAL_S,
        description="Tells the webhook of each run that failed for good.",
    )
    def alert_of_failed_runs(context: dg.RunFailureSensorContext) -> None:
        if context.dagster_run.tags.get(WILL_RETRY_TAG) != "true":
            deliver(url, _failure(context))

    return alert_of_failed_runs


def _failure(context: dg.RunFailureSensorContext) -> str:
    run = context.dagster_run
    first, last = (run.tags.get(f"dagster/{name}") for name in ("asset_partition_range_start", "asset_partition_range_end"))
    hours = run.tags.get("dagster/partition") or (f"{first} to {last}" if first else "")
    reasons = [_reason(event) for event in context.get_step_failure_events()] or [context.failure_event.message or "no reason given"]
    return "\n".join([f":red_circle: *{run.job_name}* failed{f' for {hours}' if hours else ''} (run {run.run_id})", *reasons])


def _reason(event: dg.DagsterEvent) -> str:
    failure = event.step_failure_data
    said = failure.user_failure_data.description if failure.user_failure_data else None
    return f"{event.step_key}: {said or (failure.error.message.strip() if failure.error else 'no reason given')}"


def _failed_checks(url: str) -> dg.SensorDefinition:
    @dg.sensor(
        name="alert_of_failed_checks",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=INTERVAL_S,
        description="Tells the webhook of each check that turned red, once until it has been green again.",
    )
    def alert_of_failed_checks(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        repository = context.repository_def
        if repository is None:
            return dg.SkipReason("There are no definitions to look at.")
        told = set(json.loads(context.cursor or "[]"))
        red = dict(_red(context.instance, sorted(repository.asset_graph.asset_check_keys), told))
        fresh = [f"*{name}*: {said}" for name, said in red.items() if name not in told]
        if fresh:
            deliver(url, "\n".join([":red_circle: checks failed", *fresh]))
        return dg.SensorResult(cursor=json.dumps(sorted(red)))

    return alert_of_failed_checks


def _red(instance: dg.DagsterInstance, checks: list[dg.AssetCheckKey], told: set[str]) -> Iterator[tuple[str, str]]:
    """Yield the checks that are broken as an error, and what they say. One that is being asked is as it was."""
    for check in checks:
        name, evaluation = check.to_user_string(), last_evaluation(instance, check)
        if evaluation is None:
            if name in told:
                yield name, ""
        elif not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.ERROR:
            yield name, evaluation.description
