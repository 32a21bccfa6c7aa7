"""Whether a table has what the lake has: the same files, of the same size, with the same rows."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

from pyiceberg.table import Table

from fleet_pipeline.lake.iceberg.columns import wanted_schema
from fleet_pipeline.lake.iceberg.data_files import entries, has_deletions, month
from fleet_pipeline.lake.iceberg.sync import Synced, check_left_behind, months_of, recorded, shown
from fleet_pipeline.lake.iceberg.tables import Tables
from fleet_pipeline.lake.layout import LakePart
from fleet_pipeline.lake.reading import opened
from fleet_pipeline.model.errors import CatalogRefused
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule

NAMED = 5
"""Differences that are named; the others are counted."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A table and the lake, side by side."""

    table: Synced
    files: int
    """Parts of the lake."""
    bytes: int
    looked_at: int
    """Parts of the lake, among these, that were compared with the table's own list of files."""
    counted: int
    """Files of which the rows were counted: those of the newest hours."""
    differences: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


def compare(tables: Tables, rule: Rule, count_rows_of: int | None = None, today: date | None = None) -> Compared:
    """Return how a rule's table differs from the lake. Nothing is changed.

    Every file is compared by name and size; rows are counted by the footers of so many files, the newest, at a GET
    each; None means all. With a day, of the months that the table's snapshot is noted to have whole, as the lake has
    them, only the newest is compared file by file and one other, each day the next: what that takes does not grow with
    the lake. Raises CatalogRefused where there is no table, NotOurTable, CatalogUnavailable, PartDamaged.
    """
    table = tables.find(rule)
    if table is None:
        raise CatalogRefused(
            tables.fleet.iceberg_catalog,
            f"there is no table {'.'.join(tables.identifier(rule))} yet: `fleet iceberg sync` makes it",
        )
    lake = tables.lake()
    every = {part.key: (part, hour) for hour, found in sorted(lake.all_parts(rule).items()) for part in found}
    asked = _asked(table, every, today)
    try:
        with tables.asking():
            has = {file.file_path: file for file in entries(table, table.current_snapshot(), asked)}
            hidden = has_deletions(table, table.current_snapshot())
    except FileNotFoundError as error:
        check_left_behind(tables, rule, table, error)
        return compare(tables, rule, count_rows_of, today)
    parts = {
        f"s3://{tables.fleet.lake_bucket}/{key}": part
        for key, (part, hour) in every.items()
        if asked is None or month(hour) in asked
    }
    said = [f"{path} is in the lake and not in the table" for path in parts if path not in has]
    said += [f"{path} is in the table and not in the lake" for path in has if path not in parts]
    both = [path for path in parts if path in has]
    said += [
        f"{path} has {parts[path].size} bytes in the lake and {size} in the table"
        for path in both
        if (size := has[path].file_size_in_bytes) != parts[path].size
    ]
    newest = both[-count_rows_of:] if count_rows_of else both if count_rows_of is None else []
    for path in newest:
        if (rows := opened(tables.store, parts[path]).rows) != has[path].record_count:
            said.append(f"{path} has {rows} rows in the lake and {has[path].record_count} in the table")
    if table.schema().fields != wanted_schema(lake.contract(rule), lake.generation).fields:
        said.append("the table has not the columns that the lake has recorded")
    if hidden:
        said.append("somebody deletes rows of the table by files of its own: drop the table and sync")
    return Compared(
        shown(tables, rule, table),
        len(every),
        sum(part.size for part, _ in every.values()),
        len(parts),
        len(newest),
        tuple(said),
    )


def _asked(table: Table, parts: dict[str, tuple[LakePart, Hour]], today: date | None) -> Collection[str] | None:
    """Return the months of which a table's files are compared; None for all."""
    now, known = months_of(parts), recorded(table)
    if today is None or not known:
        return None
    whole = sorted(name for name in now if now[name] == known.get(name))
    return {*now, *known} - {*whole} | {*whole[-1:]} | {*whole[today.toordinal() % max(1, len(whole)) :][:1]}
