"""The checks that a compaction makes of its own work, in its own run: what must hold of every hour, and what to do
where it does not.

One result a run and not one an hour: Dagster takes 25 ms of CPU to record one, and a backfill has thousands of hours.
What a result says is
of all hours: the verdict of each is kept in the lake's ledger, where only who judged that hour may change it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from fleet_pipeline.assets.lake.inspection import Inspection
from fleet_pipeline.assets.shared.failures import named
from fleet_pipeline.lake.ledger import EVERY_VERSION, UNCOMPACTED, WHOLE, Fault, Verdict
from fleet_pipeline.lake.operations.compact_hour import Compacted
from fleet_pipeline.model.errors import FleetError, PartDamaged, PartsMissing, RecordDamaged
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.plain import in_markdown, plain

FILES = 24
"""Parts of an hour up to which a reader does not notice: a query opens each. Late messages make more."""

LARGEST = 1024**3
"""Bytes of a part: engines read one in parallel only by its row groups."""

SENTENCE = 400
"""Characters of an error that a verdict keeps."""

ATTEMPTS = 3
"""Times that an hour is asked for before it is left to a person. The check stays red and says so."""

DAMAGE = (PartsMissing, PartDamaged, RecordDamaged)

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


@dataclass(frozen=True, slots=True)
class Outcome:
    """An hour that was compacted, and what was found when it was read back."""

    hour: Hour
    compacted: Compacted
    found: Inspection
    new_columns: tuple[str, ...]
    """Columns that this hour brought into a table that had others before."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """What must hold of every hour."""

    name: str
    promise: str
    severity: dg.AssetCheckSeverity
    broken: Callable[[Fleet, Outcome], str]
    """How a compacted hour breaks the promise; nothing when it keeps it, or when that is judged elsewhere."""
    remedy: str


def _versions(_: Fleet, outcome: Outcome) -> str:
    held = outcome.found.versions + outcome.compacted.erased  # of which no row is to be
    versions = outcome.compacted.raw_versions
    return f"rows of {held} of {versions} versions of raw objects" if held < versions else ""


def _unique(_: Fleet, outcome: Outcome) -> str:
    doubled = outcome.found.rows - outcome.found.identities
    return f"{doubled} rows are there twice" if doubled else ""


def _collisions(_: Fleet, outcome: Outcome) -> str:
    rows = outcome.found.versions - outcome.found.keys
    wanted = outcome.compacted.recovered_collisions - outcome.compacted.erased
    return f"{rows} of {wanted} hidden messages have their row" if rows < wanted else ""


def _columns(_: Fleet, outcome: Outcome) -> str:
    said = [f"new columns {', '.join(outcome.new_columns)}"] if outcome.new_columns else []
    return "; ".join(
        said + ([f"{outcome.found.partial} rows have values that fit no column"] if outcome.found.partial else [])
    )


def _unreadable(fleet: Fleet, outcome: Outcome) -> str:
    unreadable, rows = outcome.found.unreadable, outcome.found.rows
    return (
        f"{unreadable} of {rows} messages cannot be read" if 100 * unreadable > fleet.quarantine_percent * rows else ""
    )


def _files(_: Fleet, outcome: Outcome) -> str:
    count, largest = len(outcome.found.parts), max((part.size for part in outcome.found.parts), default=0)
    return f"{count} files, the largest of {largest:,} bytes" if count > FILES or largest > LARGEST else ""


CRITERIA = (
    Criterion(
        EVERY_VERSION,
        "Every version of the hour's raw objects is a row.",
        ERROR,
        _versions,
        "Materialize the hour again: what is missing is added. If it stays, keep the raw objects and report it.",
    ),
    Criterion(
        "identities_are_unique",
        "No two rows of an hour have the same key and version.",
        ERROR,
        _unique,
        "Someone else wrote into the lake: find out who in CloudTrail, and remove that part's version. Until then "
        "read DISTINCT ON (_key, _version).",
    ),
    Criterion(
        "collisions_are_recovered",
        "Messages that shared a raw key have a row each.",
        ERROR,
        _collisions,
        "Versioning of the raw bucket was off when they came, or old versions were removed. "
        "FLEET_RAW_KEY_FORMAT=timestamp-uuid makes collisions impossible.",
    ),
    Criterion(
        "columns_are_as_before",
        "Messages bring no new columns, and their values fit those that there are.",
        WARN,
        _columns,
        "Nothing is lost: values without a column are in _extra. Ask who changed the vehicles' messages; a new "
        "kind of a known field needs a new name.",
    ),
    Criterion(
        "messages_are_readable",
        "The share of unreadable messages stays below FLEET_QUARANTINE_PERCENT.",
        WARN,
        _unreadable,
        "SELECT _status, _client_id, _payload FROM the hour WHERE _status NOT IN ('ok', 'partial') shows which "
        "vehicles send them.",
    ),
    Criterion(
        "files_are_few",
        f"An hour has at most {FILES} files, none above 1 GiB.",
        WARN,
        _files,
        "Late messages made many small parts; readers get slower. Compact less often while an hour runs, or "
        "rewrite the table as a new generation.",
    ),
)
"""All that is judged of an hour that was compacted."""

GAP = Criterion(
    WHOLE,
    "The parts of an hour are numbered from 0 without a gap, and are what was written.",
    ERROR,
    lambda *_: "",
    "The lake's bucket keeps versions: remove the delete marker, or the object that is no part, and materialize "
    "the hour again.",
)
"""Judged of the hours that failed: a compaction refuses an hour with a gap."""


def specs(asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Return the checks of a rule's Parquet that its own run makes."""
    return [
        dg.AssetCheckSpec(each.name, asset=asset, description=f"{each.promise} If not: {each.remedy}")
        for each in (*CRITERIA, GAP)
    ]


def judged(
    fleet: Fleet, outcomes: Sequence[Outcome], failed: Mapping[str, FleetError]
) -> dict[Hour, dict[str, Verdict]]:
    """Return what a run has to say of its hours.

    Of the criteria that it could not judge, because an hour failed, it says nothing.
    """
    said = {outcome.hour: _of_hour(fleet, outcome) for outcome in outcomes}
    return said | {
        Hour.parse(hour): {GAP.name: Verdict(plain(error, SENTENCE))}
        for hour, error in failed.items()
        if isinstance(error, DAMAGE)
    }


def _of_hour(fleet: Fleet, outcome: Outcome) -> dict[str, Verdict]:
    found = {each.name: Verdict(each.broken(fleet, outcome), error=each.severity is ERROR) for each in CRITERIA}
    complete = {} if found[EVERY_VERSION].said else {UNCOMPACTED: Verdict("")}
    return found | {GAP.name: Verdict("")} | complete


def results(faults: Sequence[Fault], hours: int) -> Iterator[dg.AssetCheckResult]:
    """Yield what each check says: of all hours of which anything is known, and not of those of this run alone."""
    return (result(criterion, faults, {"hours judged": hours}) for criterion in (*CRITERIA, GAP))


def result(
    criterion: Criterion, faults: Sequence[Fault], metadata: Mapping[str, Any], asset: dg.AssetKey | None = None
) -> dg.AssetCheckResult:
    """Return what a check says of a rule: red as long as any hour breaks it, with the hours and since when."""
    red = [fault for fault in faults if fault.criterion == criterion.name]
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=criterion.name,
        passed=not red,
        severity=criterion.severity,
        description=f"{named({fault.hour: _sentence(fault) for fault in red})}. {criterion.remedy}"
        if red
        else criterion.promise,
        metadata={
            **metadata,
            "hours that break it": len(red),
            "hours": dg.MetadataValue.json({fault.hour: fault.count for fault in red}),
            **({"since": min(fault.since for fault in red).isoformat()} if red else {}),
        },
    )


def _sentence(fault: Fault) -> str:
    left = (
        f", left to a person after {fault.attempts} attempts: materialize the hour to ask again"
        if fault.attempts >= ATTEMPTS
        else ""
    )
    return f"{in_markdown(fault.said)} (since {fault.since:%Y-%m-%d %H:%M} UTC{left})"
