"""One part of an hour: blocks of rows into a Parquet file. How parts are read back stands in `reading.py`."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from struct import unpack
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fleet_pipeline.lake.checksums import add_checksums
from fleet_pipeline.lake.contract import Column
from fleet_pipeline.lake.memory import give_back
from fleet_pipeline.lake.reading import FOOTER, Identities
from fleet_pipeline.lake.rows import Block, count_versions, of_versions
from fleet_pipeline.lake.structs import leaves

ROW_GROUP = 65_536
"""Rows of a row group, some 20 MB of payloads: the writer holds one in memory, and a reader one of each column that it
wants.
"""

ROW_GROUP_BYTES = 64 * 1024 * 1024
"""Bytes after which a row group is closed, however few its rows: messages may have 128 KB."""

PART_ROWS = 1_048_576
"""Rows after which a part is closed."""

PART_BYTES = 1024 * 1024 * 1024
"""Bytes of the spool after which a part is closed: the disk that an hour needs, however long it is."""

_RANDOM = {"_key", "_version", "_payload", "_ts", "_extra"}
"""Columns without repetition: a dictionary would be built and thrown away."""

_UNSORTABLE = {"_version", "_payload", "_extra"}
"""Columns that nobody looks for by range: statistics would only swell the footer."""


class Spool:
    """Rows that are to become a part: in a file until the part's columns are known, so that memory holds a row group
    and not the hour.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = pa.OSFile(str(path), "wb")
        self._blocks: list[tuple[int, tuple[Column, ...], int]] = []
        self._known = Identities()
        self.rows = 0

    def add(self, block: Block) -> None:
        """Append a block."""
        self._blocks.append((self._file.tell(), block.columns, block.recorded))
        with pa.ipc.new_stream(
            self._file, block.table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")
        ) as stream:
            stream.write_table(block.table)
        self.rows += block.table.num_rows

    @property
    def full(self) -> bool:
        """Whether it is time to write the part."""
        return self.rows >= PART_ROWS or self._file.tell() >= PART_BYTES

    def drop(self, known: Identities) -> None:
        """Leave out the rows that the lake holds by now."""
        self._known = known
        self.rows = sum(block.table.num_rows for block in self)

    def __iter__(self) -> Iterator[Block]:
        """Yield the blocks in their order, without what was dropped."""
        self._file.flush()
        with pa.OSFile(str(self._path), "rb") as file:  # not mapped: the pages of a map count as memory in use
            for start, columns, recorded in self._blocks:
                file.seek(start)
                yield Block(self._known.without(pa.ipc.open_stream(file).read_all()), columns, recorded)


@dataclass(slots=True)
class Written:
    """What went into a part."""

    versions: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    fingerprint: int = 0
    """The sum of the identities of its versions: as good as all of them for telling whether a listing
    names the same.
    """

    @property
    def rows(self) -> int:
        """As many as there are versions, or more where arrays are unrolled."""
        return self.statuses.total()


def write(path: Path, tables: Iterable[pa.Table], schema: pa.Schema, facts: dict[str, Any]) -> Written:
    """Write tables of one schema, sorted by key, as a Parquet file. The same tables give the same bytes."""
    columns = leaves(schema)
    options = {
        "compression": "zstd",
        "use_dictionary": [name for name in columns if name not in _RANDOM],
        "write_statistics": [name for name in columns if name not in _UNSORTABLE],
        "write_page_index": True,
        "write_page_checksum": True,
        # `_ts` goes with it only where keys begin with the time: not in shards, nor in every layout.
        "sorting_columns": [pq.SortingColumn(schema.get_field_index("_key"))],
    }
    digest, written = sha256(), Written()
    with pq.ParquetWriter(path, schema, **options) as writer:
        for group in _groups(_noted(tables, digest, written)):
            writer.write_table(group, row_group_size=ROW_GROUP)
            del group  # before the next one gathers
            give_back()
        facts |= {
            "rows": written.rows,
            "versions": written.versions,
            "identities": digest.hexdigest(),
            "fingerprint": written.fingerprint,
        }
        writer.add_key_value_metadata({FOOTER: json.dumps(facts)})
    add_checksums(path)
    return written


def _noted(tables: Iterable[pa.Table], digest: Any, written: Written) -> Iterator[pa.Table]:
    """Yield the tables, once what a part says of its rows was taken from each."""
    for table in tables:
        written.versions += count_versions(table)
        written.statuses.update(
            {each["values"]: each["counts"] for each in table["_status"].value_counts().to_pylist()}
        )
        identities = of_versions(table.select(["_version"]))["_version"]
        written.fingerprint += sum(
            unpack(f">{len(identities)}Q", bytes.fromhex(_joined(identities).to_pybytes().decode()))
        )
        digest.update(_joined(pc.binary_join_element_wise(table["_key"], " ", table["_version"], "\n", "")))
        yield table


def _joined(texts: pa.ChunkedArray) -> pa.Buffer:
    """Return many texts as one."""
    whole = texts.combine_chunks()
    return pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(whole)], pa.int32()), whole), "")[0].as_buffer()


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the rows of many tables by row groups, and hold none of what was yielded."""
    held: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        held.append(table)
        rows, size = rows + table.num_rows, size + table.get_total_buffer_size()
        if rows >= ROW_GROUP or size >= ROW_GROUP_BYTES:
            whole = pa.concat_tables(held)
            held, rest = [whole.slice(0, ROW_GROUP)], whole.slice(ROW_GROUP)
            del whole
            yield held.pop()
            rows, size = rest.num_rows, rest.get_total_buffer_size()
            held = [rest] if rows else []  # no rows of a group still hold the group
            del rest
    if rows:
        yield pa.concat_tables(held)
