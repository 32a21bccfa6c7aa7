"""What keeps a table small: manifests merged, snapshots forgotten after some days, metadata removed that nothing refers
to any more.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.utils.bin_packing import ListPacker

from fleet_pipeline.aws.store import ObjectVersion
from fleet_pipeline.lake.iceberg.files import place
from fleet_pipeline.lake.iceberg.sync import GENERATION, changed, expire, generation_of, record, recorded
from fleet_pipeline.lake.iceberg.tables import MANIFEST_BYTES, Tables
from fleet_pipeline.model.errors import CatalogRefused, NotOurTable
from fleet_pipeline.model.rule import Rule

UNFINISHED = timedelta(days=1)
"""A younger object may be of a commit that is being made: it is left alone. A commit takes seconds."""


@dataclass(frozen=True, slots=True)
class Maintained:
    """What the maintenance of a table did, and what is left."""

    name: str
    manifests_before: int
    manifests: int
    snapshots_before: int
    snapshots: int
    removed: int
    """Metadata objects to which nothing referred."""
    removed_bytes: int
    objects: int
    """Metadata objects that are left."""
    bytes: int


def maintain_all(
    tables: Tables, rules: Sequence[Rule], now: datetime
) -> tuple[list[Maintained], list[NotOurTable | CatalogRefused]]:
    """Maintain the tables of rules; return what was done, and of tables that are not ours or cannot be read why: they
    keep no other from it. Raises CatalogUnavailable.
    """
    done, refused = list[Maintained](), list[NotOurTable | CatalogRefused]()
    for rule in rules:
        try:
            found = maintain(tables, rule, now)
        except (NotOurTable, CatalogRefused) as error:
            refused.append(error)
        else:
            done += [found] if found else []
    return done, refused


def maintain(tables: Tables, rule: Rule, now: datetime, unfinished: timedelta = UNFINISHED) -> Maintained | None:
    """Return once a table's manifests are merged, its old snapshots forgotten, and the metadata gone to which nothing
    refers; None for no table.

    The current snapshot is always kept. Only objects below the table's own place that are older than `unfinished` go,
    by their version; no part of the lake. Safe beside any number of `sync` and readers; a second run finds nothing to
    do. Raises as `sync` does.
    """
    before = tables.find(rule)
    if before is None:
        return None
    tables.check_place(*place(_metadata_of(before)))
    manifests, snapshots = changed(
        tables, rule, lambda table: (len(_manifests(table, table.current_snapshot())), len(table.snapshots()))
    )
    changed(tables, rule, _merged)
    changed(
        tables, rule, partial(_expired, tables=tables, until=now - timedelta(days=tables.fleet.iceberg_snapshot_days))
    )
    swept = changed(tables, rule, partial(_swept, tables=tables, before=now - unfinished))
    return Maintained(
        name=".".join(tables.identifier(rule)), manifests_before=manifests, snapshots_before=snapshots, **swept
    )


def _swept(table: Table, tables: Tables, before: datetime) -> dict[str, int]:
    """Remove the metadata that nothing refers to and that is older than an instant; return what is said of it."""
    left, gone = _sorted(_objects(tables, table), referred(table, table.snapshots()), before)
    tables.store.delete(gone)
    return {
        "manifests": len(_manifests(table, table.current_snapshot())),
        "snapshots": len(table.snapshots()),
        "removed": len(gone),
        "removed_bytes": sum(version.size for version in gone),
        "objects": len(left),
        "bytes": sum(version.size for version in left),
    }


def referred(table: Table, snapshots: Iterable[Snapshot]) -> set[str]:
    """Return the addresses of all metadata that a table and some of its snapshots need."""
    own = {table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)}
    own |= {each.statistics_path for each in (*table.metadata.statistics, *table.metadata.partition_statistics)}
    lists = {snapshot.manifest_list: snapshot for snapshot in snapshots}
    return own | {*lists} | {path for snapshot in lists.values() for path in _manifests(table, snapshot)}


def _manifests(table: Table, snapshot: Snapshot | None) -> list[str]:
    return [manifest.manifest_path for manifest in snapshot.manifests(table.io)] if snapshot else []


def _merged(table: Table) -> None:
    """Write the manifests of the current snapshot as few as their size allows: a snapshot more, of the same files."""
    snapshot = table.current_snapshot()
    packed: ListPacker[ManifestFile] = ListPacker(target_weight=MANIFEST_BYTES, lookback=1, largest_bin_first=False)
    bins = packed.pack_end(snapshot.manifests(table.io), lambda manifest: manifest.manifest_length) if snapshot else []
    if not snapshot or all(len(each) == 1 for each in bins):
        return
    with table.transaction() as change:
        producer = change.update_snapshot({GENERATION: str(generation_of(snapshot))}).merge_append()
        producer._min_count_to_merge = 2  # noqa: SLF001 (the table's own is for commits that add files)
        producer.commit()
        record(change, producer.snapshot_id, recorded(table))


def _expired(table: Table, tables: Tables, until: datetime) -> None:
    """Forget the snapshots that were made before an instant, but the current one."""
    old = [snapshot.snapshot_id for snapshot in table.snapshots() if snapshot.timestamp_ms < until.timestamp() * 1000]
    current = table.current_snapshot()
    if forgotten := [number for number in old if not current or number != current.snapshot_id]:
        expire(tables, table, forgotten)


def _metadata_of(table: Table) -> str:
    return f"{table.location().rstrip('/')}/metadata/"


def _objects(tables: Tables, table: Table) -> list[ObjectVersion]:
    """Return every version below a table's place."""
    _, key = place(_metadata_of(table))
    return [version for page in tables.store.versions(key) for version in page]


def _sorted(
    found: Iterable[ObjectVersion], needed: set[str], before: datetime
) -> tuple[list[ObjectVersion], list[ObjectVersion]]:
    """Return which versions stay and which go."""
    paths = {place(address)[1] for address in needed}
    stay: list[ObjectVersion] = []
    go: list[ObjectVersion] = []
    for version in found:
        is_old = datetime.fromisoformat(version.modified) < before
        (go if version.key not in paths and is_old else stay).append(version)
    return stay, go
