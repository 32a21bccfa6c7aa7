"""The checks that a compaction makes of its own work, in its own run: what must hold of every hour, and what to do where it does not.

One result a run and not one an hour: Dagster takes 25 ms of CPU to record one, and a backfill has thousands of hours.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import dagster as dg

from fleet_pipeline.assets.inspection import Inspection
from fleet_pipeline.compaction.hour import Compacted
from fleet_pipeline.errors import FleetError, PartDamaged, PartsMissing
from fleet_pipeline.fleet import Fleet, Hour

FILES = 24
"""Parts of an hour up to which a reader does not notice: a query opens each. Late messages make more."""

LARGEST = 1024**3
"""Bytes of a part: engines read one in parallel only by its row groups."""

NAMED = 5
"""Hours that a description names; the others are counted."""

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
    """How an hour breaks the promise; nothing when it keeps it."""
    remedy: str


def _versions(_: Fleet, outcome: Outcome) -> str:
    held, versions = outcome.found.versions, outcome.compacted.raw_versions
    return f"rows of {held} of {versions} versions of raw objects" if held < versions else ""


def _unique(_: Fleet, outcome: Outcome) -> str:
    doubled = outcome.found.rows - outcome.found.identities
    return f"{doubled} rows are there twice" if doubled else ""


def _collisions(_: Fleet, outcome: Outcome) -> str:
    wanted, rows = outcome.compacted.recovered_collisions, outcome.found.versions - outcome.found.keys
    return f"{rows} of {wanted} hidden messages have their row" if rows < wanted else ""


def _columns(_: Fleet, outcome: Outcome) -> str:
    said = [f"new columns {', '.join(outcome.new_columns)}"] if outcome.new_columns else []
    return "; ".join(said + ([f"{outcome.found.set_aside} rows have values that fit no column"] if outcome.found.set_aside else []))


def _unreadable(fleet: Fleet, outcome: Outcome) -> str:
    unreadable, rows = outcome.found.unreadable, outcome.found.rows
    return f"{unreadable} of {rows} messages cannot be read" if 100 * unreadable > fleet.quarantine_percent * rows else ""


def _files(_: Fleet, outcome: Outcome) -> str:
    count, largest = len(outcome.found.parts), max((part.size for part in outcome.found.parts), default=0)
    return f"{count} files, the largest of {largest:,} bytes" if count > FILES or largest > LARGEST else ""


CRITERIA = (
    Criterion(
        "every_version_is_a_row",
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
        "Someone else wrote into the lake: find out who in CloudTrail, and remove that part's version. Until then read DISTINCT ON (_key, _version).",
    ),
    Criterion(
        "collisions_are_recovered",
        "Messages that shared a raw key have a row each.",
        ERROR,
        _collisions,
        "Versioning of the raw bucket was off when they came, or old versions were removed. FLEET_RAW_KEY_FORMAT=timestamp-uuid makes collisions impossible.",
    ),
    Criterion(
        "columns_are_as_before",
        "Messages bring no new columns, and their values fit those that there are.",
        WARN,
        _columns,
        "Nothing is lost: values without a column are in _extra. Ask who changed the vehicles' messages; a new kind of a known field needs a new name.",
    ),
    Criterion(
        "messages_are_readable",
        "The share of unreadable messages stays below FLEET_QUARANTINE_PERCENT.",
        WARN,
        _unreadable,
        "SELECT _status, _client_id, _payload FROM the hour WHERE _status NOT IN ('ok', 'partial') shows which vehicles send them.",
    ),
    Criterion(
        "files_are_few",
        f"An hour has at most {FILES} files, none above 1 GiB.",
        WARN,
        _files,
        "Late messages made many small parts; readers get slower. Compact less often while an hour runs, or rewrite the table as a new generation.",
    ),
)
"""All that is judged of an hour that was compacted."""

GAP = Criterion(
    "parts_are_whole",
    "The parts of an hour are numbered from 0 without a gap, and are what was written.",
    ERROR,
    lambda *_: "",
    "The lake's bucket keeps versions: remove the delete marker, or the object that is no part, and materialize the hour again.",
)
"""Judged of the hours that failed: a compaction refuses an hour with a gap."""


def specs(asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Return the checks of a rule's Parquet that its own run makes."""
    return [dg.AssetCheckSpec(each.name, asset=asset, description=f"{each.promise} If not: {each.remedy}") for each in (*CRITERIA, GAP)]


def results(fleet: Fleet, outcomes: Sequence[Outcome], failed: dict[str, FleetError]) -> Iterator[dg.AssetCheckResult]:
    """Yield what a run has to say to each check."""
    for criterion in CRITERIA:
        broken = {outcome.hour.partition_key: said for outcome in outcomes if (said := criterion.broken(fleet, outcome))}
        yield _result(criterion, broken, len(outcomes))
    gaps = {hour: str(error) for hour, error in failed.items() if isinstance(error, PartsMissing | PartDamaged)}
    yield _result(GAP, gaps, len(outcomes) + len(gaps))


def _result(criterion: Criterion, broken: dict[str, str], hours: int) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=criterion.name,
        passed=not broken,
        severity=criterion.severity,
        description=f"{named(broken)}. {criterion.remedy}" if broken else criterion.promise,
        metadata={"hours judged": hours, "hours that break it": len(broken)},
    )


def named(said: dict[str, str]) -> str:
    """Return what is said of the first hours, and how many more there are."""
    more = f" and {len(said) - NAMED} hours more" if len(said) > NAMED else ""
    return "; ".join(f"{hour}: {sentence}" for hour, sentence in list(said.items())[:NAMED]) + more
