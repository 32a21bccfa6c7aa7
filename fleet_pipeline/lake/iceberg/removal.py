"""What is gone from the lake for good, gone from a table's history, too: no snapshot leads to it any more."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from fleet_pipeline.lake.iceberg.data_files import entries
from fleet_pipeline.lake.iceberg.files import place
from fleet_pipeline.lake.iceberg.maintenance import referred
from fleet_pipeline.lake.iceberg.sync import changed, check_left_behind, expire
from fleet_pipeline.lake.iceberg.tables import Tables
from fleet_pipeline.model.errors import CatalogRefused, StillInTable
from fleet_pipeline.model.plain import plain
from fleet_pipeline.model.rule import Rule


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was taken out of a table's history."""

    snapshots: tuple[int, ...]
    metadata: int
    """Objects of metadata that only these snapshots needed."""
    files: int
    """Versions of parts that were deleted."""


def check(tables: Tables, rule: Rule) -> None:
    """Return where a rule's table can be forgotten from: it is this lake's, and all that its snapshots say of their
    files can be read and lies where the lake's metadata lie. No table is as well. Changes nothing.

    For whoever is about to delete what a table leads to. Raises NotOurTable, CatalogRefused, CatalogUnavailable.
    """
    while (table := tables.find(rule)) is not None:
        try:
            addresses = _read(tables, table)
        except FileNotFoundError as error:
            check_left_behind(tables, rule, table, error)
            continue
        for address in sorted(addresses):
            tables.check_place(*place(address))
        return


def _read(tables: Tables, table: Table) -> set[str]:
    """Return the addresses of what all snapshots say of their files, once all of it was read."""
    with tables.asking():
        try:
            addresses = {snapshot.manifest_list for snapshot in table.snapshots()}
            manifests = {
                each.manifest_path: each for snapshot in table.snapshots() for each in snapshot.manifests(table.io)
            }
            for manifest in manifests.values():
                manifest.fetch_manifest_entry(table.io)
        except (EOFError, ValueError) as error:
            said = f"({type(error).__name__}: {plain(error, 200)})"
            why = f"what {'.'.join(table.name())} says of its files cannot be read {said}"
            raise CatalogRefused(tables.fleet.iceberg_catalog, why) from error
        return {*addresses, *manifests}


def forget(tables: Tables, rule: Rule, keys: Collection[str]) -> Forgotten:
    """Return once no snapshot of a rule's table leads to these parts, and every version of them is deleted.

    First the snapshots go, in one commit, then the metadata that only they needed, then the parts: killed anywhere, the
    same call goes on. Raises StillInTable, and changes nothing, where the current snapshot has one of them: replace the
    hour first (`sync`, `replace_hour`). A reader that began before with one of these snapshots fails. Without a table
    the parts alone are deleted.
    """
    table, paths = tables.find(rule), {f"s3://{tables.fleet.lake_bucket}/{key}" for key in keys}
    expired, metadata = changed(tables, rule, lambda found: _expired(tables, found, paths)) if table else ((), 0)
    found = [
        version for key in sorted(keys) for page in tables.store.versions(key) for version in page if version.key == key
    ]
    tables.store.delete(found)
    return Forgotten(expired, metadata, len(found))


def _expired(tables: Tables, table: Table, paths: set[str]) -> tuple[tuple[int, ...], int]:
    current = table.current_snapshot()
    if still := sorted(paths & {file.file_path for file in entries(table, current)}):
        raise StillInTable(".".join(table.name()), len(still), still[0])
    led = [snapshot for snapshot in table.snapshots() if snapshot != current and _has(table, snapshot, paths)]
    if not led:
        return (), 0
    numbers = tuple(snapshot.snapshot_id for snapshot in led)
    needed = referred(table, led)
    expire(tables, table, numbers)
    return numbers, _delete(tables, needed - referred(table, table.snapshots()))


def _has(table: Table, snapshot: Snapshot, paths: set[str]) -> bool:
    return any(file.file_path in paths for file in entries(table, snapshot))


def _delete(tables: Tables, addresses: Iterable[str]) -> int:
    """Delete every version of some metadata of ours; what lies elsewhere is not ours."""
    keys = []
    for address in addresses:
        bucket, key = place(address)
        tables.check_place(bucket, key)
        keys.append(key)
    found = [version for key in keys for page in tables.store.versions(key) for version in page if version.key == key]
    tables.store.delete(found)
    return len(found)
