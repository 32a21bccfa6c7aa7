"""Who is told when something fails: a webhook that takes JSON as Slack does, `{"text": …}`.

Its address is a secret and is never logged.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request

import dagster as dg

from fleet_pipeline.assets.shared.evaluations import last_evaluation
from fleet_pipeline.assets.shared.scope import Own, Scope
from fleet_pipeline.instance.internals import WILL_RETRY_TAG
from fleet_pipeline.model.errors import AlertNotDelivered
from fleet_pipeline.model.loopback import opener
from fleet_pipeline.model.plain import plain, plain_lines

PATIENCE_S = 10
"""For one answer of the webhook."""

WAITS_S = (1, 2, 4)
"""Between the tries of one alert. Dagster allows a sensor 60 s."""

_SLACK = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
"""Without it a key or a serial with `<!channel>` would call everybody.

Source: Slack, "Formatting text for app surfaces".
"""

INTERVAL_S = 30
LONGEST = 2000
"""Characters of a text; Slack cuts at 4,000."""

LINE, ROOM = 400, 200
"""Characters of one alert in a text of several, and those that are left for the title and for how many
more there are.
"""

KEPT = 100
"""Alerts that wait for a webhook that is down, by their words; further ones are counted.

A cursor is no place for more.
"""

FIRST_LOOK = timedelta(minutes=10)
"""How old a failed run may be that the very first tick tells."""

OVERLAP = timedelta(minutes=1)
"""Runs are asked for from so long before the last tick on: a run's last change may be noted late."""


def alert_sensors(scope: Scope, own: Own) -> list[dg.SensorDefinition]:
    """Return the sensors that tell the webhook of failed runs and of failed checks; none when there is no webhook."""
    return [_failed_runs(scope, own), _failed_checks(scope, own)] if scope.fleet.alert_url else []


def deliver(url: str, text: str, sleep: Callable[[float], None] = time.sleep) -> None:
    """Return once the webhook has taken a text.

    Raises AlertNotDelivered after four tries, or at once when it says that it never will.
    """
    for wait in (*WAITS_S, None):
        problem, passing = _posted(url, text)
        if not problem:
            return
        if wait is None or not passing:
            raise AlertNotDelivered(problem)
        sleep(wait)


def _posted(url: str, text: str) -> tuple[str, bool]:
    """Return what went wrong, if anything, and whether it may pass."""
    request = Request(  # noqa: S310 (the setting is checked)
        url,
        json.dumps({"text": plain_lines(text)[:LONGEST].translate(_SLACK)}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with opener(url).open(request, timeout=PATIENCE_S):
            return "", False
    except HTTPError as error:
        return (
            f"{error.code} {error.reason}",
            error.code == HTTPStatus.TOO_MANY_REQUESTS or error.code >= HTTPStatus.INTERNAL_SERVER_ERROR,
        )
    except (OSError, HTTPException) as error:
        return type(error).__name__, True


@dataclass(slots=True)
class _Waiting:
    """What the webhook has not taken yet.

    It is kept in the sensor's cursor, and sent in one text once the webhook answers again.
    """

    lines: list[str]
    more: int = 0
    """Alerts beyond those lines, which are only counted."""

    def add(self, lines: Iterable[str]) -> None:
        """Note alerts, the newest last."""
        self.lines += lines
        self.more += max(0, len(self.lines) - KEPT)
        self.lines = self.lines[:KEPT]

    def send(self, url: str, title: str) -> str:
        """Return nothing once the webhook took all of it in one text; else why it did not, and all of it waits."""
        if not self.lines:
            return ""
        try:
            deliver(url, summary(title, self.lines, self.more))
        except AlertNotDelivered as error:
            return f"{error}; {len(self.lines) + self.more} alerts wait and are sent later"
        self.lines, self.more = [], 0
        return ""


def summary(title: str, lines: Sequence[str], more: int = 0) -> str:
    """Return a text of bounded length that names the first alerts and counts the others, so that whoever reads it knows
    of all.
    """
    shown: list[str] = []
    for line in lines:
        cut = line if len(line) <= LINE else f"{line[:LINE]}…"
        if sum(map(len, shown)) + len(shown) + len(cut) > LONGEST - ROOM:
            break
        shown.append(cut)
    rest = len(lines) - len(shown) + more
    return "\n".join(
        [f":red_circle: {title}", *shown, *([f"and {rest} more; Dagster's UI shows all of them"] if rest else [])]
    )


def _failed_runs(scope: Scope, own: Own) -> dg.SensorDefinition:
    url = scope.fleet.alert_url

    @dg.sensor(
        name=scope.name("alert_of_failed_runs"),
        default_status=scope.sensor_status(by_itself=True),
        minimum_interval_seconds=INTERVAL_S,
        description="Tells the webhook of each run that failed for good. What the webhook does not take is sent later.",
    )
    def alert_of_failed_runs(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        before = _cursor(context)
        now = datetime.now(UTC)
        since = datetime.fromisoformat(before["since"]) if "since" in before else now - FIRST_LOOK
        failed = context.instance.get_run_records(
            dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since - OVERLAP)
        )
        seen = set(before.get("seen", []))
        fresh = [record.dagster_run for record in reversed(failed) if record.dagster_run.run_id not in seen]
        waiting = _Waiting(list(before.get("waiting", [])), int(before.get("more", 0)))
        waiting.add(
            _failure(context.instance, run)
            for run in fresh
            if _is_final(run) and own.has(run, context.code_location_origin)
        )
        problem = waiting.send(url, "runs failed")
        kept = {
            "since": now.isoformat(),
            "seen": [record.dagster_run.run_id for record in failed],
            "waiting": waiting.lines,
            "more": waiting.more,
        }
        return dg.SensorResult(skip_reason=problem or f"{len(fresh)} more runs have failed.", cursor=json.dumps(kept))

    return alert_of_failed_runs


def _cursor(context: dg.SensorEvaluationContext) -> dict[str, Any]:
    """Return what the sensor noted last. What an earlier version noted has other words, and is passed over."""
    found = json.loads(context.cursor or "{}")
    return found if isinstance(found, dict) else {}


def _is_final(run: dg.DagsterRun) -> bool:
    return run.tags.get(WILL_RETRY_TAG) != "true"


def _failure(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    first, last = (
        run.tags.get(f"dagster/{name}") for name in ("asset_partition_range_start", "asset_partition_range_end")
    )
    hours = run.tags.get("dagster/partition") or (f"{first} to {last}" if first else "")
    steps = [
        event
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        if (event := entry.dagster_event)
    ]
    ends = [entry.message or "" for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)]
    reasons = [*map(_reason, steps)] or ends or ["no reason given"]
    return plain(
        f"*{run.job_name}* failed{f' for {hours}' if hours else ''} (run {run.run_id}): {'; '.join(reasons)}", LONGEST
    )


def _reason(event: dg.DagsterEvent) -> str:
    failure = event.step_failure_data
    said = failure.user_failure_data.description if failure.user_failure_data else None
    return f"{event.step_key}: {said or (failure.error.message.strip() if failure.error else 'no reason given')}"


def _failed_checks(scope: Scope, own: Own) -> dg.SensorDefinition:
    url = scope.fleet.alert_url

    @dg.sensor(
        name=scope.name("alert_of_failed_checks"),
        default_status=scope.sensor_status(by_itself=True),
        minimum_interval_seconds=INTERVAL_S,
        description=(
            "Tells the webhook of each check that turned red, once until it has been green again. What the webhook "
            "does not take is sent later."
        ),
    )
    def alert_of_failed_checks(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        found = json.loads(context.cursor or "{}")
        before: dict[str, Any] = (
            {"red": found} if isinstance(found, list) else found
        )  # a list, before alerts could wait
        red = dict(_red(context.instance, sorted(own.checks)))
        waiting = _Waiting(list(before.get("waiting", [])), int(before.get("more", 0)))
        waiting.add(
            plain(f"*{name}*: {said}", LONGEST) for name, said in red.items() if name not in before.get("red", [])
        )
        problem = waiting.send(url, "checks failed")
        kept = {"red": sorted(red), "waiting": waiting.lines, "more": waiting.more}
        return dg.SensorResult(skip_reason=problem or f"{len(red)} checks are red.", cursor=json.dumps(kept))

    return alert_of_failed_checks


def _red(instance: dg.DagsterInstance, checks: list[dg.AssetCheckKey]) -> Iterator[tuple[str, str]]:
    """Yield the checks that are broken as an error, and what they say."""
    for check in checks:
        evaluation = last_evaluation(instance, check)
        if evaluation and not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.ERROR:
            yield check.to_user_string(), evaluation.description
