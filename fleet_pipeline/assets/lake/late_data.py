"""What of the raw objects is not in the lake: looked up over a bounded number of hours, never over the history.

Whoever looks lists the raw keys of closed hours, which costs a request for a thousand messages, and reads the footers
of their parts. A look
compacts nothing: it says what is missing, notes what it saw of the raw objects, and the sensor `late_data` asks for the
hours.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import dagster as dg

from fleet_pipeline.assets.lake import parquet, provenance, raw
from fleet_pipeline.assets.lake.partitions import closed_hours
from fleet_pipeline.assets.lake.verdicts import ERROR, WARN, Criterion, result
from fleet_pipeline.assets.shared.failures import named, reported
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.lake.containment import outcome_of
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.ledger import UNCOMPACTED, Fault, Verdict
from fleet_pipeline.lake.operations.compact import Compaction
from fleet_pipeline.lake.operations.look import Seen, look_at_hours
from fleet_pipeline.model.errors import FleetError
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.plain import plain
from fleet_pipeline.model.rule import Rule

FRESH = "the_lake_is_fresh"
FOREIGN = "no_foreign_keys"

OLD = timedelta(days=10)
"""How far an inventory may lie behind. A weekly one does by a week, and by up to two days until it is delivered."""

KEY = 200
"""Characters of a foreign key that a verdict keeps."""

_UNCOMPACTED_HELP = "The sensor late_data asks for these hours; while it is off, materialize them by hand."
_FRESH_HELP = "Look at the failed runs of these hours: each says what stands in the way. Then materialize them."
_FOREIGN_HELP = (
    "They are not read. Only the rule's role may write there, and no vehicle may choose the key: find out who does "
    "(CloudTrail), and move them elsewhere."
)


_COMPLETE = Criterion(
    UNCOMPACTED,
    "Every message of the last closed hours is in the lake, and of no hour before is known that it lacks some.",
    WARN,
    lambda *_: "",
    _UNCOMPACTED_HELP,
)
_OWN_KEYS = Criterion(FOREIGN, "All keys are of the form that the rule writes.", ERROR, lambda *_: "", _FOREIGN_HELP)


class Look(dg.Config):
    """How far back to look; 0 hours means FLEET_LOOK_BACK_HOURS."""

    hours: int = 0


def late_data_checks(scope: Scope) -> list[dg.AssetChecksDefinition]:
    """Return, for each rule, the checks that look for what is not in the lake."""
    return [_checks(scope, rule) for rule in scope.fleet.rules]


def check_keys(scope: Scope) -> dict[Rule, dg.AssetCheckKey]:
    """Return the check that says which hours of a rule are not compacted."""
    return {rule: dg.AssetCheckKey(raw.key(scope, rule), UNCOMPACTED) for rule in scope.fleet.rules}


def looking_op(scope: Scope, rule: Rule) -> str:
    """Return the name of the op that looks at a rule; run config is given by it."""
    return scope.name(f"look_at_{rule.key}")


def _checks(scope: Scope, rule: Rule) -> dg.AssetChecksDefinition:
    fleet, asset, asset_of_lake = scope.fleet, raw.key(scope, rule), parquet.key(scope, rule)

    @dg.multi_asset_check(
        name=looking_op(scope, rule),
        specs=[
            dg.AssetCheckSpec(
                UNCOMPACTED,
                asset=asset,
                description=f"Every message of the last closed hours is in the lake. If not: {_UNCOMPACTED_HELP}",
            ),
            dg.AssetCheckSpec(
                FRESH,
                asset=asset,
                description=f"No message {_age(rule)} is missing in the lake. If not: {_FRESH_HELP}",
            ),
            dg.AssetCheckSpec(
                FOREIGN,
                asset=asset,
                description=f"All keys are of the form that the rule writes. If not: {_FOREIGN_HELP}",
            ),
        ],
        description="Lists the raw keys of the last closed hours and compares them with the lake.",
        can_subset=True,
        required_resource_keys={scope.account_key},
    )
    def look_at_rule(context: dg.AssetCheckExecutionContext, config: Look) -> Iterator[dg.AssetCheckResult]:
        now, log = datetime.now(UTC), context.op_execution_context
        account = scope.account(context.resources)
        with reported():
            reach = parquet.reach(fleet, account, rule, now)
            wanted = closed_hours(fleet, reach.until, config.hours or fleet.look_back_hours)
            looked = dict(look_at_hours(Compaction.of(fleet, account.aws, rule), wanted, on=fleet.engine))
            seen = {hour: found for hour, found in sorted(looked.items()) if isinstance(found, Seen)}
            failed = {hour: error for hour, error in sorted(looked.items()) if isinstance(error, FleetError)}
            faults = parquet.ledger(fleet, account, rule).judge(
                now, {hour: _verdicts(found) for hour, found in seen.items()}
            )
            lake = Lake.of(fleet, S3Store(account.aws, fleet.lake_bucket))
        for hour, found in seen.items():
            if found.versions:
                log.log_event(provenance.seen(asset, hour.partition_key, found.versions, found.bytes))
            known = provenance.known(context.instance, asset_of_lake, hour.partition_key)
            if found.rows and not found.uncompacted and known != str(found.rows):
                why = _fewer(found.rows, known)
                place = (context.instance, scope, rule, hour, lake, found.rows, why)
                told = outcome_of(f"{rule.key} {hour.partition_key}", partial(parquet.as_it_stands, *place))
                if isinstance(told, FleetError):
                    failed[hour] = told
                else:
                    log.log_event(told)
        said = {
            UNCOMPACTED: _uncompacted(asset, faults, seen),
            FRESH: _fresh(fleet, asset, faults, reach, now),
            FOREIGN: result(_OWN_KEYS, faults, {}, asset),
        }
        # The button of one asset asks for the checks of this asset only.
        yield from (said[check.name] for check in log.selected_asset_check_keys)
        _raise(failed, len(wanted))

    return look_at_rule


def _fewer(rows: int, known: str | None) -> dict[str, str]:
    """Return in words how an hour was written that Dagster knows otherwise: only an erasure takes rows away."""
    if known and known.isdecimal() and int(known) > rows:
        return {"changed": "without Dagster, as by an erasure of a vehicle; seen by a look"}
    return {"compacted": "without Dagster, by a command; seen by a look"}


def _age(rule: Rule) -> str:
    return "of which an inventory told FLEET_LAG_MINUTES ago" if rule.inventory else "older than FLEET_LAG_MINUTES"


def _raise(failed: Mapping[Hour, FleetError], hours: int) -> None:
    if failed:
        said = named({hour.partition_key: str(error) for hour, error in failed.items()})
        raise dg.Failure(
            f"{len(failed)} of {hours} hours could not be looked at: {said}",
            allow_retries=any(error.retryable for error in failed.values()),
        )


def _verdicts(found: Seen) -> dict[str, Verdict]:
    return {
        UNCOMPACTED: Verdict(f"{found.uncompacted} messages" if found.uncompacted else "", found.uncompacted),
        FOREIGN: Verdict(", ".join(plain(key, KEY) for key in found.foreign), len(found.foreign)),
    }


def _uncompacted(asset: dg.AssetKey, faults: Sequence[Fault], seen: Mapping[Hour, Seen]) -> dg.AssetCheckResult:
    missing = sum(fault.count for fault in faults if fault.criterion == UNCOMPACTED)
    return result(_COMPLETE, faults, {"uncompacted messages": missing, **_looked(seen)}, asset)


def _fresh(
    fleet: Fleet, asset: dg.AssetKey, faults: Sequence[Fault], reach: parquet.Reach, now: datetime
) -> dg.AssetCheckResult:
    """Judge how long messages wait: since their hour ended, and of a rule with an inventory, since it told of them."""
    waits = {fault.hour: _known(fault, reach) for fault in faults if fault.criterion == UNCOMPACTED}
    oldest = min(waits, key=lambda hour: (waits[hour], hour), default=None)
    lag = now - waits[oldest] if oldest else timedelta(0)
    minutes = round(lag.total_seconds() / 60, 1)
    old = now - reach.until if reach.delivered else timedelta(0)
    passed = lag <= timedelta(minutes=fleet.lag_minutes) and old <= OLD
    how = "could be told of" if reach.delivered else "ended"
    waiting = (
        f"{oldest} {how} {minutes:.0f} minutes ago and is not complete in the lake" if oldest else "Nothing waits."
    )
    if old > OLD:
        waiting = f"The newest inventory tells of nothing of the last {old.days} days: see whether S3 still makes it"
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=FRESH,
        passed=passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=waiting if passed else f"{waiting}. {_FRESH_HELP}",
        metadata={"lag in minutes": minutes},
    )


def _known(fault: Fault, reach: parquet.Reach) -> datetime:
    """Return since when an hour could be in the lake: that it lacks something was known when a look first said so, or
    when the newest inventory came, whichever was earlier. So neither a list that comes nor looks that are off count.
    """
    end = Hour.parse(fault.hour).end
    return max(end, min(fault.since, reach.delivered)) if reach.delivered else end


def _looked(seen: Mapping[Hour, Seen]) -> dict[str, Any]:
    hours = sorted(seen)
    return {"from": hours[0].partition_key, "to": hours[-1].partition_key} if hours else {}
