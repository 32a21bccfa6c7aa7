"""Parts of the lake, read back: a batch at a time, whatever their size, and with an error of ours wherever in the file
the damage lies.

Rows of a part lie in the order of their keys, and so do listings of raw objects: both are read side by side, and
neither is held whole.
"""

import heapq
import io
import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fleet_pipeline.aws.store import ObjectVersion, Store
from fleet_pipeline.lake.checksums import Ending
from fleet_pipeline.lake.layout import LakePart
from fleet_pipeline.lake.memory import Used
from fleet_pipeline.lake.rows import HEAD, identity, of_versions
from fleet_pipeline.model.errors import PartDamaged
from fleet_pipeline.model.plain import plain

FOOTER = b"fleet_pipeline"
"""Key of our own facts among a file's metadata."""

BATCH_ROWS = 16_384
"""Rows that are read at once: twice as many as a block of a listing has."""

BATCH_BYTES = 8 * 1024 * 1024
"""Bytes that are read at once, as far as a file's footer tells: a payload may have 128 KB."""

READ_BYTES = 8 * 1024 * 1024
"""Bytes of a column that are fetched at once.

A row group of large messages has 64 MB, which Arrow would otherwise fetch whole.
"""

IDENTITY_COLUMNS = ["_key", "_version"]


class PartFile:
    """A Parquet file of ours, open for reading: only what is read of it is fetched.

    Raises PartDamaged for what is no such file, at once or when the damaged place is read.
    """

    def __init__(self, store: Store, part: LakePart, columns: pa.Schema) -> None:
        self.part, self.key = part, part.key
        with _whole(part.key):
            self._ending = Ending(part.key, part.size, partial(store.read, part.key))
            self._file = pq.ParquetFile(
                Remote(self._ending.read, part.size), buffer_size=READ_BYTES, page_checksum_verification=True
            )
            self.facts: dict[str, Any] = self._facts(columns)

    @property
    def schema(self) -> pa.Schema:
        """The file's columns."""
        return self._file.schema_arrow

    @property
    def footer(self) -> pq.FileMetaData:
        """What the file says of its row groups."""
        return self._file.metadata

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return int(self._file.metadata.num_rows)

    @property
    def versions(self) -> int:
        """How many versions it has rows of. Before arrays could be unrolled, parts did not say it: each row was one."""
        return int(self.facts.get("versions", self.rows))

    @property
    def fingerprint(self) -> int | None:
        """The sum of the identities of its versions; None for a part of an earlier version of this package."""
        return self.facts.get("fingerprint")

    @property
    def keys(self) -> tuple[str, str]:
        """The first key and the last, as the footer has them; every key where it says nothing."""
        column = self.schema.get_field_index("_key")
        groups = [self.footer.row_group(number).column(column) for number in range(self.footer.num_row_groups)]
        said = [group.statistics for group in groups if group.path_in_schema == "_key"]
        if not said or any(each is None or not each.has_min_max for each in said):
            return "", "\U0010ffff"
        return min(str(each.min) for each in said), max(str(each.max) for each in said)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return some columns whole; all of them by default. For small files and few columns."""
        with _whole(self.key):
            return self._file.read(columns)

    def batches(self, columns: Sequence[str], rows: int = BATCH_ROWS, size: int = BATCH_BYTES) -> Iterator[pa.Table]:
        """Yield some columns by batches of at most so many rows, and of about so many bytes."""
        used = Used()
        for group in range(self._file.metadata.num_row_groups):
            for batch in self._of_group(group, columns, rows, size):
                yield batch
                used.note(batch.nbytes)
                del batch  # before the next is read

    def prove(self) -> None:
        """Read all of the file and compare it with its checksums. Raises PartDamaged.

        Of a part of an earlier version of this package, which has none, every page is read.
        """
        if self._ending.checked:
            self._ending.prove()
            return
        for column in self.schema.names:
            for _ in self.batches([column]):
                pass

    def _of_group(self, group: int, columns: Sequence[str], rows: int, size: int) -> Iterator[pa.Table]:
        """Yield the batches of a row group by its own mean size of a row: in another, messages may be a thousand times
        as long.
        """
        with _whole(self.key):
            batches = self._file.iter_batches(
                min(rows, self._rows_at_once(group, columns, size)), row_groups=[group], columns=list(columns)
            )
        while True:
            with _whole(self.key):
                batch = next(batches, None)
            if batch is None:
                return
            if batch.num_rows:
                yield pa.Table.from_batches([batch])

    def _rows_at_once(self, group: int, columns: Sequence[str], size: int) -> int:
        found = self._file.metadata.row_group(group)
        parts = (found.column(place) for place in range(found.num_columns))
        uncompressed: int = sum(
            part.total_uncompressed_size for part in parts if part.path_in_schema.partition(".")[0] in columns
        )
        return max(1, size * max(1, int(found.num_rows)) // max(1, int(uncompressed)))

    def _facts(self, columns: pa.Schema) -> dict[str, Any]:
        """Return what the footer says of the rows, once the file is one of ours."""
        facts = (self._file.metadata.metadata or {}).get(FOOTER)
        lacking = [
            field.name
            for field in columns
            if field.name not in self.schema.names or self.schema.field(field.name).type != field.type
        ]
        if facts is None or lacking:
            raise PartDamaged(
                self.key, f"it was not written by this package: it lacks {', '.join(lacking) or 'our footer'}"
            )
        return dict(json.loads(facts))


def opened(store: Store, part: LakePart, columns: pa.Schema = HEAD) -> PartFile:
    """Return a part of the lake for reading, once it has these columns and our footer. Raises PartDamaged."""
    return PartFile(store, part, columns)


@contextmanager
def _whole(key: str) -> Iterator[None]:
    """The border to Parquet: what it cannot read is a damaged part. Errors of the store go through."""
    try:
        yield
    except MemoryError:  # Arrow's, too: it is no matter of the file
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PartDamaged(key, f"it cannot be read as Parquet ({type(error).__name__}: {plain(error, 200)})") from error


class Identities:
    """The rows that an hour holds, part by part. They are read as they are asked for, in the order of keys."""

    def __init__(
        self, columns: Sequence[str] = IDENTITY_COLUMNS, note: Callable[[pa.Table], pa.Table] = lambda table: table
    ) -> None:
        self._columns, self._note = columns, note
        self._cursors: list[_Cursor] = []
        self.parts = 0
        """How many parts there are."""
        self.rows = self.versions = 0
        """How many rows they hold, and of how many versions."""

    @classmethod
    def of(
        cls,
        files: Iterable[PartFile],
        columns: Sequence[str] = IDENTITY_COLUMNS,
        note: Callable[[pa.Table], pa.Table] = lambda table: table,
    ) -> "Identities":
        """Return the rows of some parts."""
        found = cls(columns, note)
        for file in files:
            found.add(file)
        return found

    @property
    def doubled(self) -> int:
        """How many of them are there once more than once."""
        pairs = heapq.merge(*(cursor.pairs() for cursor in self._cursors), key=itemgetter(0))
        return sum(
            len(found) - len({*found}) for found in (list(same) for _, same in groupby(pairs, key=itemgetter(0)))
        )

    def add(self, file: PartFile) -> None:
        """Note the rows of the next part."""
        self._cursors.append(_Cursor(file, self._columns, self._note))
        self.note(file.rows, file.versions)

    def note(self, rows: int, versions: int) -> None:
        """Note the next part by its size alone, because none of its rows will be asked for."""
        self.parts += 1
        self.rows += rows
        self.versions += versions

    def of_keys(self, keys: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return what is known of every row with one of some keys, which are sorted: `_key`, `_version`, and what else
        was noted.

        Asked in the order of keys, all parts are read once; asked for earlier keys, a part is read anew.
        """
        if not keys:
            return []
        wanted = pa.array(sorted({*keys}), pa.string())
        return [row for cursor in self._cursors for row in cursor.of_keys(keys[0], keys[-1], wanted)]

    def missing(self, versions: Sequence[ObjectVersion]) -> list[ObjectVersion]:
        """Return those of some versions, which are sorted by key, that no part holds."""
        known = set(self.of_keys([version.key for version in versions])) if self._cursors else set()
        return (
            [version for version in versions if (version.key, identity(version)) not in known]
            if known
            else list(versions)
        )

    def without(self, rows: pa.Table) -> pa.Table:
        """Return those of some rows, which are sorted by key, that no part holds."""
        if not self._cursors or not rows.num_rows:
            return rows
        keys = rows["_key"].to_pylist()
        known = set(self.of_keys(keys))
        pairs = zip(keys, rows["_version"].to_pylist(), strict=True)
        return rows.filter(pa.array([pair not in known for pair in pairs])) if known else rows


class _Cursor:
    """The rows of one part, of which one batch is held."""

    def __init__(self, file: PartFile, columns: Sequence[str], note: Callable[[pa.Table], pa.Table]) -> None:
        self._file, self._columns, self._note = file, columns, note
        self._least, self._greatest = file.keys
        self._begin()

    def _begin(self) -> None:
        self._batches = self._file.batches(self._columns)
        self._held: pa.Table | None = None
        self._passed = ""
        """The last key of the batches that are no longer held."""

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield key and version of every row."""
        for batch in self._file.batches(IDENTITY_COLUMNS):
            yield from zip(batch["_key"].to_pylist(), batch["_version"].to_pylist(), strict=True)

    def of_keys(self, first: str, last: str, wanted: pa.Array) -> Iterator[tuple[Any, ...]]:
        """Yield the rows whose key is one of the wanted, which lie from `first` to `last`."""
        if last < self._least or first > self._greatest:
            return  # whoever compacts a span of the hour has no need of the parts of others
        if first <= self._passed:
            self._begin()
        while (held := self._next()) is not None:
            end = _last_key(held)
            if end >= first:
                found = held.filter(pc.is_in(held["_key"], wanted))
                yield from zip(*(column.to_pylist() for column in found.columns), strict=True)
            if end > last:
                return
            self._held, self._passed = None, end

    def _next(self) -> pa.Table | None:
        if self._held is None:
            batch = next(self._batches, None)
            self._held = None if batch is None else self._note(batch)
        return self._held


def _last_key(rows: pa.Table) -> str:
    return str(rows["_key"][-1].as_py())


class Batched(Protocol):
    """Rows that are read some at a time, in the order of their keys."""

    def batches(self, columns: Sequence[str], rows: int = ..., size: int = ...) -> Iterator[pa.Table]:
        """Yield some columns by batches of at most so many rows, and of about so many bytes."""
        ...


def merged(files: Sequence[Batched], columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield some columns of the rows that stand for versions in several parts, in the order of keys, a few megabytes at
    a time.
    """
    streams = [_of_versions(file.batches(columns, size=BATCH_BYTES // len(files))) for file in files]
    heads = [next(stream, None) for stream in streams]
    while any(head is not None for head in heads):
        bound = min(_last_key(head) for head in heads if head is not None)
        taken = []
        for place, head in enumerate(heads):
            if head is None:
                continue
            stop = bisect_right(head["_key"], bound, key=lambda key: str(key.as_py()))
            taken.append(head.slice(0, stop))
            rest = head.slice(stop)
            heads[place] = rest if rest.num_rows else next(streams[place], None)
        yield pa.concat_tables(taken).sort_by([("_key", "ascending"), ("_version", "ascending")])


def _of_versions(batches: Iterable[pa.Table]) -> Iterator[pa.Table]:
    return (rows for batch in batches if (rows := of_versions(batch)).num_rows)


class Remote(io.RawIOBase):
    """An object as a file that can be read anywhere; `read` returns the bytes `[start, stop)` of it."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read, self._size, self._place = read, size, 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read anywhere."""
        return True

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Have the next read begin elsewhere."""
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Return as many bytes from there on, or all; none at the end."""
        stop = self._size if size < 0 else min(self._size, self._place + size)
        if stop <= self._place:
            return b""
        start, self._place = self._place, stop
        return self._read(start, stop)
