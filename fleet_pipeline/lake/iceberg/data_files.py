"""A part of the lake as an entry of an Iceberg table, and the entries that a table has."""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow.parquet as pq
from pyiceberg.conversions import from_bytes, to_bytes
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.typedef import Record
from pyiceberg.types import IntegerType, TimestamptzType

from fleet_pipeline.lake.iceberg.columns import TS
from fleet_pipeline.lake.layout import LakePart
from fleet_pipeline.lake.reading import PartFile
from fleet_pipeline.lake.rows import HEAD
from fleet_pipeline.model.hour import Hour

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TS_COLUMN = HEAD.get_field_index("_ts")


def partition(hour: Hour) -> int:
    """Return the partition of an hour: its number since 1970."""
    return (hour.start - _EPOCH) // timedelta(hours=1)


def hour_of(partition: int) -> Hour:
    """Return the hour of a partition."""
    return Hour.of(_EPOCH + timedelta(hours=partition))


def month(hour: Hour) -> str:
    """Return the month of an hour, as 2026-11."""
    return f"{hour.start:%Y-%m}"


def entry(file: PartFile, address: str, part: LakePart, hour: Hour) -> DataFile:
    """Return a part as a table lists it: its rows and its first and last instant, out of its footer.

    No other column's bounds are said: a manifest would hold values of messages, and what is erased from the lake would
    stay there. Who asks for a range of another column has the statistics in the file itself.
    """
    footer = file.footer
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    said: dict[str, Any] = {"value_counts": {TS: footer.num_rows}, "null_value_counts": {TS: 0}}
    said |= _bounds([group.column(_TS_COLUMN).statistics for group in groups])
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=address,
        file_format=FileFormat.PARQUET,
        partition=Record(partition(hour)),
        record_count=footer.num_rows,
        file_size_in_bytes=part.size,
        split_offsets=[_start(group) for group in groups],
        sort_order_id=None,
        spec_id=0,
        equality_ids=None,
        key_metadata=None,
        **said,
    )


def entries(table: Table, snapshot: Snapshot | None, months: Collection[str] | None = None) -> Iterator[DataFile]:
    """Yield the files that a snapshot has, or those of some months. Who deletes rows of it by files of deletions is
    not this package: those are passed over.
    """
    for manifest in snapshot.manifests(table.io) if snapshot else ():
        has_files = manifest.has_added_files() or manifest.has_existing_files()
        if manifest.content == ManifestContent.DATA and has_files and (months is None or _may_have(manifest, months)):
            found = (each.data_file for each in manifest.fetch_manifest_entry(table.io))
            yield from (file for file in found if months is None or month(hour_of(file.partition[0])) in months)


def _may_have(manifest: ManifestFile, months: Collection[str]) -> bool:
    """Whether a manifest may have files of some months: it says its first partition and its last."""
    for said in manifest.partitions or ():
        if said.lower_bound is not None and said.upper_bound is not None:
            first, last = (
                month(hour_of(int(from_bytes(IntegerType(), bound)))) for bound in (said.lower_bound, said.upper_bound)
            )
            return any(first <= each <= last for each in months)
    return True


def has_deletions(table: Table, snapshot: Snapshot | None) -> bool:
    """Whether a snapshot hides rows of its files."""
    return any(
        manifest.content != ManifestContent.DATA for manifest in (snapshot.manifests(table.io) if snapshot else ())
    )


def _start(group: pq.RowGroupMetaData) -> int:
    first = group.column(0)
    return int(first.dictionary_page_offset if first.has_dictionary_page else first.data_page_offset)


def _bounds(found: list[pq.Statistics | None]) -> dict[str, dict[int, bytes]]:
    said = [each for each in found if each is not None and each.has_min_max]
    if not said or len(said) < len(found):
        return {}
    kind = TimestamptzType()
    least, most = min(each.min for each in said), max(each.max for each in said)
    return {"lower_bounds": {TS: to_bytes(kind, least)}, "upper_bounds": {TS: to_bytes(kind, most)}}
