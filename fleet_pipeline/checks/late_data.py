"""What of the raw objects is not in the lake: looked up over a bounded number of hours, never over the history.

Whoever looks lists the raw keys of closed hours, which costs a request for a thousand messages, and reads the footers of their parts. A look
compacts nothing: it says what is missing, notes what it saw of the raw objects, and the sensor `late_data` asks for the hours.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from fleet_pipeline.assets import lake, provenance, raw
from fleet_pipeline.assets.failures import reported
from fleet_pipeline.assets.verdicts import named
from fleet_pipeline.compaction.lake import Lake
from fleet_pipeline.compaction.raw import RawHour
from fleet_pipeline.compaction.reading import Identities, PartFile, opened
from fleet_pipeline.errors import CompactionError
from fleet_pipeline.fleet import Fleet, Hour, Rule
from fleet_pipeline.partitions import closed_hours
from fleet_pipeline.resources.account import AccountResource
from fleet_pipeline.store import Store

UNCOMPACTED = "nothing_is_uncompacted"
FRESH = "the_lake_is_fresh"
FOREIGN = "no_foreign_keys"

_UNCOMPACTED_HELP = "The sensor late_data asks for these hours; while it is off, materialize them by hand."
_FRESH_HELP = "Look at the failed runs of these hours: each says what stands in the way. Then materialize them."
_FOREIGN_HELP = (
    "They are not read. Only the rule's role may write there, and no vehicle may choose the key: find out who does (CloudTrail), and move them elsewhere."
)


class Look(dg.Config):
    """How far back to look; 0 hours means FLEET_LOOK_BACK_HOURS."""

    hours: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """An hour's raw objects beside its rows."""

    versions: int
    bytes: int
    held: int
    """Versions of which there is a row."""
    uncompacted: int
    """Versions that have no row."""
    foreign: tuple[str, ...]
    """Some keys that no rule would have written."""


def look(raw_store: Store, target: Lake, rule: Rule, hour: Hour) -> Seen:
    """Return what an hour has of raw objects and of rows. Of an hour whose parts are not whole no row counts.

    Where raw objects were purged the lake holds more versions than there are: then each is looked up among the rows.
    """
    listed = RawHour(raw_store, rule, hour)
    versions = sum(map(len, listed.blocks()))
    try:
        files = [opened(target.store, part) for part in target.parts(rule, hour)]
    except CompactionError:
        files = []
    held = sum(file.versions for file in files)
    uncompacted = versions - held if versions >= held else _missing(raw_store, rule, hour, files)
    return Seen(versions, listed.bytes, held, uncompacted, tuple(listed.foreign_examples))


def _missing(raw_store: Store, rule: Rule, hour: Hour, files: list[PartFile]) -> int:
    known = Identities()
    for file in files:
        known.add(file)
    return sum(len(known.missing(block)) for block in RawHour(raw_store, rule, hour).blocks())


def late_data_checks(fleet: Fleet) -> list[dg.AssetChecksDefinition]:
    """Return, for each rule, the checks that look for what is not in the lake."""
    return [_checks(rule, fleet) for rule in fleet.rules]


def check_keys(fleet: Fleet) -> dict[Rule, dg.AssetCheckKey]:
    """Return the check that says which hours of a rule are not compacted."""
    return {rule: dg.AssetCheckKey(lake.key(rule), UNCOMPACTED) for rule in fleet.rules}


def _checks(rule: Rule, fleet: Fleet) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name=f"look_at_{rule.key}",
        specs=[
            dg.AssetCheckSpec(
                UNCOMPACTED, asset=lake.key(rule), description=f"Every message of the last closed hours is in the lake. If not: {_UNCOMPACTED_HELP}"
            ),
            dg.AssetCheckSpec(
                FRESH, asset=lake.key(rule), description=f"No message older than FLEET_LAG_MINUTES is missing in the lake. If not: {_FRESH_HELP}"
            ),
            dg.AssetCheckSpec(FOREIGN, asset=raw.key(rule), description=f"All keys are of the form that the rule writes. If not: {_FOREIGN_HELP}"),
        ],
        description="Lists the raw keys of the last closed hours and compares them with the lake.",
        can_subset=True,
    )
    def look_at_rule(context: dg.AssetCheckExecutionContext, config: Look, account: AccountResource) -> Iterator[dg.AssetCheckResult]:
        now = datetime.now(UTC)
        with reported():
            raw_store, target = lake.stores(fleet, account)
            wanted = closed_hours(fleet, now, config.hours or fleet.look_back_hours)
            seen = {hour: look(raw_store, target, rule, hour) for hour in wanted}
        for hour, found in seen.items():
            if found.versions:
                context.op_execution_context.log_event(provenance.seen(raw.key(rule), hour.partition_key, found.versions, found.bytes))
        said = {UNCOMPACTED: _uncompacted(rule, seen), FRESH: _fresh(fleet, rule, seen, now), FOREIGN: _foreign(rule, seen)}
        # The button of one asset asks for the checks of this asset only.
        yield from (said[check.name] for check in context.op_execution_context.selected_asset_check_keys)

    return look_at_rule


def _uncompacted(rule: Rule, seen: Mapping[Hour, Seen]) -> dg.AssetCheckResult:
    missing = {hour.partition_key: found.uncompacted for hour, found in seen.items() if found.uncompacted}
    said = named({hour: f"{count} messages" for hour, count in missing.items()})
    return dg.AssetCheckResult(
        asset_key=lake.key(rule),
        check_name=UNCOMPACTED,
        passed=not missing,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Not in the lake: {said}. {_UNCOMPACTED_HELP}" if missing else f"The last {len(seen)} closed hours are complete.",
        metadata={"uncompacted messages": sum(missing.values()), "hours": dg.MetadataValue.json(missing), **_looked(seen)},
    )


def _fresh(fleet: Fleet, rule: Rule, seen: Mapping[Hour, Seen], now: datetime) -> dg.AssetCheckResult:
    oldest = min((hour for hour, found in seen.items() if found.uncompacted), default=None)
    lag = now - oldest.end if oldest else timedelta(0)
    minutes = round(lag.total_seconds() / 60, 1)
    passed = lag <= timedelta(minutes=fleet.lag_minutes)
    waiting = f"{oldest.partition_key} ended {minutes:.0f} minutes ago and is not complete in the lake" if oldest else "Nothing waits."
    return dg.AssetCheckResult(
        asset_key=lake.key(rule),
        check_name=FRESH,
        passed=passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=waiting if passed else f"{waiting}. {_FRESH_HELP}",
        metadata={"lag in minutes": minutes},
    )


def _foreign(rule: Rule, seen: Mapping[Hour, Seen]) -> dg.AssetCheckResult:
    foreign = {hour.partition_key: ", ".join(found.foreign) for hour, found in seen.items() if found.foreign}
    return dg.AssetCheckResult(
        asset_key=raw.key(rule),
        check_name=FOREIGN,
        passed=not foreign,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{named(foreign)}. {_FOREIGN_HELP}" if foreign else "All keys are the rule's.",
        metadata={"hours with foreign keys": len(foreign)},
    )


def _looked(seen: Mapping[Hour, Seen]) -> dict[str, Any]:
    hours = sorted(seen)
    return {"from": hours[0].partition_key, "to": hours[-1].partition_key} if hours else {}
