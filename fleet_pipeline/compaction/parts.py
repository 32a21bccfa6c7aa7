"""One part of an hour: blocks of rows into a Parquet file, and back to the identities that it holds."""

import io
import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fleet_pipeline.compaction.contract import Column
from fleet_pipeline.compaction.lake import Part
from fleet_pipeline.compaction.rows import Block, count_versions, identity
from fleet_pipeline.compaction.structs import leaves
from fleet_pipeline.store import Store, Version

ROW_GROUP = 65_536
"""Rows of a row group, some 20 MB of payloads: the writer holds one in memory, and a reader one of each column that it wants."""

ROW_GROUP_BYTES = 64 * 1024 * 1024
"""Bytes after which a row group is closed, however few its rows: messages may have 128 KB."""

PART_ROWS = 1_048_576
"""Rows after which a part is closed."""

PART_BYTES = 1024 * 1024 * 1024
"""Bytes of the spool after which a part is closed: the disk that an hour needs, however long it is."""

FOOTER = b"fleet_pipeline"
"""Key of our own facts among a file's metadata."""

_RANDOM = {"_key", "_version", "_payload", "_ts", "_extra"}
"""Columns without repetition: a dictionary would be built and thrown away."""

_UNSORTABLE = {"_version", "_payload", "_extra"}
"""Columns that nobody looks for by range: statistics would only swell the footer."""


class Identities:
    """The rows that an hour holds, part by part, each sorted by key."""

    def __init__(self) -> None:
        self._parts: list[pa.Table] = []
        self.parts = 0
        """How many parts there are."""
        self.rows = self.versions = 0
        """How many rows they hold, and of how many versions."""

    @property
    def doubled(self) -> int:
        """How many of them are there once more than once."""
        held = pa.concat_tables([part.select(["_key", "_version"]) for part in self._parts]) if self._parts else None
        return self.rows - held.group_by(["_key", "_version"]).aggregate([]).num_rows if held else 0

    def add(self, part: pa.Table) -> None:
        """Note the rows of the next part."""
        self._parts.append(part)
        self.note(part.num_rows, count_versions(part))

    def note(self, rows: int, versions: int) -> None:
        """Note the next part by its size alone, because none of its rows will be asked for: at a million rows, 90 MB less."""
        self.parts += 1
        self.rows += rows
        self.versions += versions

    def between(self, first: str, last: str) -> list[tuple[str, ...]]:
        """Return what is known of every row from one key to another, both included: `_key`, `_version`, and what else was added."""
        return [row for part in self._parts for row in _between(part, first, last)]

    def missing(self, versions: Sequence[Version]) -> list[Version]:
        """Return those of some versions, which are sorted by key, that no part holds."""
        if not self._parts or not versions:
            return list(versions)
        known = set(self.between(versions[0].key, versions[-1].key))
        return [version for version in versions if (version.key, identity(version)) not in known]

    def without(self, rows: pa.Table) -> pa.Table:
        """Return those of some rows, which are sorted by key, that no part holds."""
        if not self._parts or not rows.num_rows:
            return rows
        known = set(self.between(_text(rows["_key"][0]), _text(rows["_key"][-1])))
        pairs = zip(rows["_key"].to_pylist(), rows["_version"].to_pylist(), strict=True)
        return rows.filter(pa.array([pair not in known for pair in pairs])) if known else rows


def _between(part: pa.Table, first: str, last: str) -> Iterator[tuple[str, ...]]:
    keys = part["_key"]
    start, stop = bisect_left(keys, first, key=_text), bisect_right(keys, last, key=_text)
    return zip(*(column.to_pylist() for column in part.slice(start, stop - start).columns), strict=True)


def _text(value: pa.Scalar) -> str:
    return str(value.as_py())


class Spool:
    """Rows that are to become a part: in a file until the part's columns are known, so that memory holds a row group and not the hour."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = pa.OSFile(str(path), "wb")
        self._blocks: list[tuple[int, dict[str, Column]]] = []
        self._known = Identities()
        self.rows = 0

    def add(self, block: Block) -> None:
        """Append a block."""
        self._blocks.append((self._file.tell(), block.columns))
        with pa.ipc.new_stream(self._file, block.table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as stream:
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
            for start, columns in self._blocks:
                file.seek(start)
                yield Block(self._known.without(pa.ipc.open_stream(file).read_all()), columns)


@dataclass(slots=True)
class Written:
    """What went into a part."""

    versions: int = 0
    statuses: Counter[str] = field(default_factory=Counter)

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
        "sorting_columns": [pq.SortingColumn(schema.get_field_index("_ts"))],
    }
    digest, written = sha256(), Written()
    with pq.ParquetWriter(path, schema, **options) as writer:
        for group in _groups(_noted(tables, digest, written)):
            writer.write_table(group, row_group_size=ROW_GROUP)
        facts |= {"rows": written.rows, "versions": written.versions, "identities": digest.hexdigest()}
        writer.add_key_value_metadata({FOOTER: json.dumps(facts)})
    return written


def versions_in(part: pq.ParquetFile) -> int:
    """Return how many versions a part has rows of. Before arrays could be unrolled, parts did not say it: each row was one."""
    return int(json.loads(part.metadata.metadata[FOOTER]).get("versions", part.metadata.num_rows))


def _noted(tables: Iterable[pa.Table], digest: Any, written: Written) -> Iterator[pa.Table]:
    """Yield the tables, once what a part says of its rows was taken from each."""
    for table in tables:
        written.versions += count_versions(table)
        written.statuses.update(table["_status"].to_pylist())
        pairs = zip(table["_key"].to_pylist(), table["_version"].to_pylist(), strict=True)
        digest.update("".join([f"{key} {version}\n" for key, version in pairs]).encode())
        yield table


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the rows of many tables by row groups."""
    held: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        held.append(table)
        rows, size = rows + table.num_rows, size + table.nbytes
        if rows >= ROW_GROUP or size >= ROW_GROUP_BYTES:
            whole = pa.concat_tables(held)
            yield whole.slice(0, ROW_GROUP)
            rest = whole.slice(ROW_GROUP)
            held, rows, size = [rest], rest.num_rows, rest.nbytes
    if rows:
        yield pa.concat_tables(held)


def opened(store: Store, part: Part) -> pq.ParquetFile:
    """Return a part of the lake for reading; only what is read of it is fetched."""
    return pq.ParquetFile(_Remote(store, part.key, part.size))


class _Remote(io.RawIOBase):
    """An object as a file that can be read anywhere."""

    def __init__(self, store: Store, key: str, size: int) -> None:
        self._store, self._key, self._size, self._place = store, key, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def read(self, size: int = -1) -> bytes:
        stop = self._size if size < 0 else min(self._size, self._place + size)
        if stop <= self._place:
            return b""
        start, self._place = self._place, stop
        return self._store.read(self._key, start, stop)
