"""A rule's table, brought to what the lake holds: one look at both, and one commit of the difference.

The table is looked at before the lake, and the commit holds only if the table is still what was looked at. So a file
that it has and the lake has not is one that the lake has no longer, and never one that came meanwhile. Whoever loses a
race looks at both again.
"""

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TypeVar

from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table, Transaction
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import AssertCurrentSchemaId

from fleet_pipeline.lake.commit import REPLACES
from fleet_pipeline.lake.iceberg.columns import described, updates, wanted_schema
from fleet_pipeline.lake.iceberg.data_files import entries, entry, hour_of, month, partition
from fleet_pipeline.lake.iceberg.tables import Tables, leads_nowhere
from fleet_pipeline.lake.layout import Lake, LakePart
from fleet_pipeline.lake.reading import opened
from fleet_pipeline.model.errors import CatalogRefused, CatalogUnavailable, PartDamaged
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule

T = TypeVar("T")

ATTEMPTS = 50
"""Commits that are tried while others change the table."""

PAUSE_S = 0.05
"""Mean wait after a commit that was not the first; it doubles up to `LONGEST_PAUSE_S`."""

LONGEST_PAUSE_S = 3.0

GENERATION = "fleet-pipeline.generation"
"""Of a snapshot: which generation of the lake it is of."""

MONTHS = "fleet-pipeline.months"
"""Of a table: the months of which a snapshot has every part and no other, each with a digest of their names and sizes.
What the table says of a month's files is read again only where the lake has others.
"""

MONTHS_OF = "fleet-pipeline.months-of"
"""Of a table: which snapshot that is. Of one that somebody else made nothing is known."""


@dataclass(frozen=True, slots=True)
class Synced:
    """A rule's table, as it is now that it has what the lake has."""

    name: str
    snapshot_id: int | None
    metadata_location: str
    columns: Mapping[str, str]
    files: int
    rows: int
    bytes: int
    added: int = 0
    """Files that this run registered."""
    removed: int = 0
    """Files that are in the lake no longer, or of a generation that readers do not use any more."""
    generation: int = 1

    @property
    def changed(self) -> bool:
        """Whether this run made a snapshot."""
        return bool(self.added or self.removed)


def sync(tables: Tables, rule: Rule, *, sleep: Callable[[float], None] = time.sleep) -> Synced:
    """Return a rule's table once it has every part that the lake has, and no other; where there is none it is made.

    Parts that came late, new columns, rewritten hours and a new generation follow, in one snapshot a run; a second run
    makes none. Stopped anywhere, it leaves the table as it was or as it is to be. Raises NotOurTable, CatalogRefused,
    CatalogUnavailable; and PartDamaged, once all other hours are in the table: of an hour with a damaged part it keeps
    what it had.
    """
    done, damaged = changed(tables, rule, lambda table: _brought(tables, rule, table), sleep)
    if damaged:
        raise damaged[0]
    return done


def replace_hour(tables: Tables, rule: Rule, hour: Hour, *, sleep: Callable[[float], None] = time.sleep) -> int:
    """Return the snapshot in which the table has exactly the parts that the lake has of an hour; of other hours nothing
    changes, unless readers of the lake have switched to a generation that the table does not have: then all follow.

    For whoever writes an hour anew: readers of the table see the hour before or after, never both and never neither. A
    second time changes nothing.
    """
    return changed(tables, rule, lambda table: _hour_replaced(tables, rule, table, hour), sleep)


def changed(tables: Tables, rule: Rule, change: Callable[[Table], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """Return what a change of a table returns, once it was not beside another: whoever loses looks again at a table
    that is there, or is made. So does whoever finds metadata gone that another has just forgotten. Raises
    CatalogRefused where the table still leads to it.
    """
    for attempt in range(ATTEMPTS):
        table = tables.made(rule)
        try:
            with tables.asking():
                return change(table)
        except FileNotFoundError as error:
            check_left_behind(tables, rule, table, error)
        except (CommitFailedException, ValidationException):
            sleep(random.uniform(0, 2) * min(LONGEST_PAUSE_S, PAUSE_S * 2**attempt))  # noqa: S311 (jitter)
    raise CatalogUnavailable(
        tables.fleet.iceberg_catalog, f"others changed {'.'.join(tables.identifier(rule))} {ATTEMPTS} times meanwhile"
    )


def check_left_behind(tables: Tables, rule: Rule, seen: Table, error: Exception) -> None:
    """Return where a table is another than the one that was seen, so that what it led to may be gone. Raises
    CatalogRefused where it leads there still.
    """
    now = tables.find(rule)
    if now is not None and now.metadata_location == seen.metadata_location:
        raise CatalogRefused(tables.fleet.iceberg_catalog, leads_nowhere(seen.name(), error)) from error


def expire(tables: Tables, table: Table, snapshots: Sequence[int]) -> None:
    """Forget snapshots of a table, in one commit. Raises CommitFailedException where somebody else has just forgotten
    one of them, CatalogRefused where the catalog took the commit and has them still.
    """
    try:
        table.maintenance.expire_snapshots().by_ids([*snapshots]).commit()
    except ValueError as error:
        raise CommitFailedException(str(error)) from error
    if kept := {*snapshots} & {snapshot.snapshot_id for snapshot in table.snapshots()}:
        why = f"it did not forget {len(kept)} snapshots of {'.'.join(table.name())}, which it was told to"
        raise CatalogRefused(tables.fleet.iceberg_catalog, why)


def _brought(tables: Tables, rule: Rule, table: Table) -> tuple[Synced, list[PartDamaged]]:
    before, lake = table.current_snapshot(), tables.lake()
    parts = {part.key: (part, hour) for hour, found in lake.all_parts(rule).items() for part in found}
    now, known = months_of(parts), recorded(table)
    other = {month for month in now.keys() | known.keys() if now.get(month) != known.get(month)}
    # Who has not recorded its months may have files of any.
    asked = other if known else None
    has = {file.file_path: file for file in entries(table, before, asked)}
    wanted = {key: found for key, found in parts.items() if month(found[1]) in other}
    difference = _difference(tables, has, wanted)
    if difference.damaged and before and generation_of(before) != lake.generation:
        # What it would keep of an hour is of another generation, whose columns have other numbers.
        return shown(tables, rule, table), [*difference.damaged.values()]
    held_up = {month(hour_of(number)) for number in (*difference.damaged, *difference.coming)}
    said = {name: digest for name, digest in now.items() if name not in held_up}
    _commit(table, lake, rule, difference, said)
    return _synced(tables, rule, table, lake, difference), [*difference.damaged.values()]


def _hour_replaced(tables: Tables, rule: Rule, table: Table, hour: Hour) -> int:
    number, before, lake = partition(hour), table.current_snapshot(), tables.lake()
    if before and generation_of(before) != lake.generation:
        done, damaged = _brought(tables, rule, table)
        for each in damaged:
            raise each
        return done.snapshot_id or 0
    wanted = {part.key: (part, hour) for part in lake.parts(rule, hour)}
    found = entries(table, before, {month(hour)})
    has = {file.file_path: file for file in found if file.partition[0] == number}
    difference = _difference(tables, has, wanted)
    for each in difference.damaged.values():
        raise each
    said = {name: digest for name, digest in recorded(table).items() if name != month(hour)}
    _commit(table, lake, rule, difference, said)
    snapshot = table.current_snapshot()
    return snapshot.snapshot_id if snapshot else 0


@dataclass(frozen=True, slots=True)
class _Difference:
    added: list[DataFile]
    removed: list[DataFile]
    damaged: dict[int, PartDamaged]
    """Hours, by their partition, of which nothing is added or removed because a part cannot be read."""
    coming: set[int]
    """Hours of which a part is left out that is to replace those before it, and is not yet said to."""


def _difference(tables: Tables, has: Mapping[str, DataFile], parts: Mapping[str, tuple[LakePart, Hour]]) -> _Difference:
    """Return what a table lacks and what it has too much, hour by hour. A file of another size is another file."""
    wanted = {f"s3://{tables.fleet.lake_bucket}/{key}": found for key, found in parts.items()}
    same = {
        path for path, (part, _) in wanted.items() if (file := has.get(path)) and file.file_size_in_bytes == part.size
    }
    added: list[DataFile] = []
    damaged: dict[int, PartDamaged] = {}
    coming: set[int] = set()
    first: dict[Hour, int] = {}
    for part, hour in wanted.values():
        first[hour] = min(part.number, first.get(hour, part.number))
    for path, (part, hour) in wanted.items():
        if path not in same:
            try:
                found = opened(tables.store, part)
            except PartDamaged as error:
                damaged.setdefault(partition(hour), error)
                continue
            if part.number > first[hour] and found.facts.get(REPLACES) == part.number:
                coming.add(partition(hour))
            else:
                added.append(entry(found, path, part, hour))
    removed = [file for path, file in has.items() if path not in same]
    return _Difference(
        [file for file in added if file.partition[0] not in damaged],
        [file for file in removed if file.partition[0] not in damaged],
        damaged,
        coming,
    )


def _commit(table: Table, lake: Lake, rule: Rule, difference: _Difference, months: Mapping[str, str]) -> None:
    """Have the table's columns be the contract's, and its files differ so: both at once, or neither. With it goes of
    which months it has what was seen of them.
    """
    schema = wanted_schema(lake.contract(rule), lake.generation)
    with table.transaction() as change:
        if made := updates(table, schema):
            seen = AssertCurrentSchemaId.model_validate({"current-schema-id": table.schema().schema_id})
            # PyIceberg's own ways to change columns give them numbers of its choice.
            change._apply(made, (seen,))  # noqa: SLF001
        before = table.current_snapshot()
        number = before.snapshot_id if before else None
        if difference.added or difference.removed:
            number = _snapshot(change, difference, {GENERATION: str(lake.generation)})
        record(change, number, months)


def record(change: Transaction, snapshot: int | None, months: Mapping[str, str]) -> None:
    """Have a table say of which months a snapshot has every part and no other."""
    said = {MONTHS: json.dumps(months, sort_keys=True), MONTHS_OF: str(snapshot)}
    if snapshot is not None and not said.items() <= change.table_metadata.properties.items():
        change.set_properties(said)


def _snapshot(change: Transaction, difference: _Difference, said: dict[str, str]) -> int:
    """Change a table's files; return the snapshot's number."""
    update = change.update_snapshot(snapshot_properties=said)
    producer = update.overwrite() if difference.removed else update.merge_append()
    for file in difference.added:
        producer.append_data_file(file)
    for file in difference.removed:
        producer.delete_data_file(file)
    producer.commit()
    return producer.snapshot_id


def _synced(tables: Tables, rule: Rule, table: Table, lake: Lake, difference: _Difference) -> Synced:
    return replace(
        shown(tables, rule, table),
        added=len(difference.added),
        removed=len(difference.removed),
        generation=lake.generation,
    )


def shown(tables: Tables, rule: Rule, table: Table) -> Synced:
    """Return what a table is now, by what its current snapshot says of itself."""
    snapshot = table.current_snapshot()
    files, rows, size = _totals(snapshot).values()
    return Synced(
        ".".join(tables.identifier(rule)),
        snapshot.snapshot_id if snapshot else None,
        table.metadata_location,
        described(table.schema()),
        files,
        rows,
        size,
        generation=generation_of(snapshot),
    )


@dataclass(frozen=True, slots=True)
class Made:
    """A snapshot that can still be read."""

    snapshot_id: int
    at: datetime
    operation: str
    files: int
    rows: int


def history(table: Table) -> list[Made]:
    """Return the snapshots that a table has, oldest first."""
    return [_made(snapshot) for snapshot in sorted(table.snapshots(), key=lambda each: each.sequence_number or 0)]


def _made(snapshot: Snapshot) -> Made:
    totals, operation = _totals(snapshot), snapshot.summary.operation.value if snapshot.summary else ""
    at = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)
    return Made(snapshot.snapshot_id, at, operation, totals["total-data-files"], totals["total-records"])


def _totals(snapshot: Snapshot | None) -> dict[str, int]:
    said = snapshot.summary.additional_properties if snapshot and snapshot.summary else {}
    return {name: int(said.get(name, 0)) for name in ("total-data-files", "total-records", "total-files-size")}


def months_of(parts: Mapping[str, tuple[LakePart, Hour]]) -> dict[str, str]:
    """Return what the lake has of each month: a digest of its parts' names and sizes."""
    found: dict[str, list[str]] = {}
    for key, (part, hour) in parts.items():
        found.setdefault(month(hour), []).append(f"{key} {part.size}")
    return {name: blake2b("\n".join(sorted(said)).encode(), digest_size=8).hexdigest() for name, said in found.items()}


def recorded(table: Table) -> dict[str, str]:
    """Return the months that are known to be whole in a table's current snapshot; none where somebody else made it."""
    snapshot, said = table.current_snapshot(), table.properties
    is_of_it = snapshot is not None and said.get(MONTHS_OF) == str(snapshot.snapshot_id)
    found: dict[str, str] = json.loads(said.get(MONTHS, "{}")) if is_of_it else {}
    return found


def generation_of(snapshot: Snapshot | None) -> int:
    """Return which generation of the lake a snapshot is of; the first where it does not say."""
    return int(snapshot.summary.get(GENERATION, "1") or 1) if snapshot and snapshot.summary else 1
