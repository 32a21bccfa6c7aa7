"""An hour's raw objects, read from an S3 Inventory instead of the bucket: for layouts whose keys do not go with the
time, of which a listing would go through all keys for each hour.

An inventory is a list of the bucket that S3 makes once a day or once a week. It is read once by each machine, file by
file, into an index beside the temporary files: runs that are sorted by hour and key. An hour is then merged from its
stretch of each run, and nothing else is read of it.

It never says that an hour is empty because it could not know: an hour is read from an inventory alone that S3 began
after the hour's end and `MARGIN`, and what is not as it should be ends the hour with an error.

Sources: Amazon S3 User Guide, storage-inventory, storage-inventory-location; spaces are written as `+` in CSV:
https://github.com/cloud-custodian/cloud-custodian/issues/1997
"""

import fcntl
import heapq
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b, md5
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, orc, parquet

from fleet_pipeline.aws.store import NULL_VERSION, ObjectVersion, Store
from fleet_pipeline.lake.workplace import workplace
from fleet_pipeline.model.errors import FolderRefused, InventoryBroken, InventoryNotYet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.key_layout import millis_of
from fleet_pipeline.model.rule import Rule

MARGIN = timedelta(hours=1)
"""How long after an hour's end an inventory must have begun to be read for it. AWS says that a list may lack what was
written shortly before, and not how shortly. What it lacks nevertheless is in the next one, and so late data.
"""

RUN_ROWS = 250_000
"""Versions of a sorted run: some 60 MB while they are sorted."""

PIECE = 16 * 1024 * 1024
"""Bytes of an inventory's file that are fetched by one request."""

PAGE = 1000
"""Versions of a page, as S3's listings have them."""

KEPT = timedelta(days=14)
"""How long an index stays on this machine that nobody has used."""

VERSION = "2016-11-30"
"""The version of inventories that is known."""

_FORM = "1"
"""Raised when the same inventory would give another index."""

_FOLDER = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}Z")
_MANIFEST, _CHECKSUM = "manifest.json", "manifest.checksum"
_MD5 = re.compile("[0-9a-f]{32}")
_HOUR_MS = 3_600_000
_FIELDS = {
    "bucket": pa.string(),
    "key": pa.string(),
    "versionid": pa.string(),
    "islatest": pa.bool_(),
    "isdeletemarker": pa.bool_(),
    "size": pa.int64(),
    "lastmodifieddate": pa.timestamp("ms", "UTC"),
    "etag": pa.string(),
}
"""What is read of an inventory, by the names of its fields without underscores: `e_tag` in Parquet is `ETag` in CSV."""

_ORDER = ("hour", "key", "behind", "age")
_INDEX = pa.schema(
    [
        ("hour", pa.int32()),  # since 1970
        ("key", pa.string()),
        ("behind", pa.bool_()),  # not the newest of its key
        ("age", pa.int64()),  # milliseconds from when it was written to 1970: the newest first
        ("id", pa.string()),
        ("size", pa.int64()),
        ("etag", pa.string()),
        ("modified", pa.string()),
    ]
)

Row = tuple[str, bool, int, str, int, str, str]
"""What the index has of a version behind its hour, in its order."""


def pages(store: Store, rule: Rule, hour: Hour) -> Iterator[list[ObjectVersion]]:
    """Yield an hour's versions in the order of their keys, newest first, as the newest inventory names them.

    Costs three requests and a GET; once for each inventory and machine, its files besides. Raises InventoryNotYet where
    none is there that began after the hour's end and `MARGIN`, and InventoryBroken where the newest is not whole, or
    not of this bucket with all versions.
    """
    newest = _newest(store, rule)
    if newest is None or newest.began < hour.end + MARGIN:
        raise InventoryNotYet(rule.key, rule.inventory, hour.partition_key, _said(newest), _instant(hour.end + MARGIN))
    found = _rows(newest.index(), hour.start_ms // _HOUR_MS)
    while rows := list(islice(found, PAGE)):
        yield [
            ObjectVersion(key, number, size, f'"{etag}"', modified, latest=not behind)
            for key, behind, _, number, size, etag, modified in rows
        ]


@dataclass(frozen=True, slots=True)
class Told:
    """What the newest inventory tells of."""

    until: datetime
    """Before when hours must have ended to be read from it."""
    delivered: datetime
    """Since when it could be read: the instant of its checksum, which comes last."""


def told(store: Store, rule: Rule) -> Told | None:
    """Return what the newest inventory tells of; None where there is none yet. Raises InventoryBroken."""
    newest = _newest(store, rule)
    return Told(newest.began - MARGIN, newest.delivered) if newest else None


def _said(inventory: "_Inventory | None") -> str:
    return f"the newest began at {_instant(inventory.began)}" if inventory else "there is none yet"


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%MZ}"


def _newest(store: Store, rule: Rule) -> "_Inventory | None":
    """Return the newest inventory that was delivered: its checksum comes last."""
    bucket, prefix = rule.inventory_place
    there = store.beside(bucket)
    folders = sorted((each for each in there.folders(prefix) if _FOLDER.fullmatch(_last(each))), reverse=True)
    for folder in folders:
        live = {
            version.key[len(folder) :]: version for page in there.versions(folder) for version in page if version.latest
        }
        if _MANIFEST in live and _CHECKSUM in live:
            manifest, checksum = (there.read(folder + name, 0, live[name].size) for name in (_MANIFEST, _CHECKSUM))
            delivered = datetime.fromisoformat(live[_CHECKSUM].modified)
            return _Inventory.of(there, rule, folder, manifest, checksum, delivered=delivered)
    return None


def _last(folder: str) -> str:
    return folder.rstrip("/").rpartition("/")[2]


@dataclass(frozen=True)
class _Inventory:
    """An inventory whose manifest is whole, and of the rule's bucket."""

    store: Store
    """The bucket in which its files lie."""
    rule: Rule
    digest: str
    """That of its manifest."""
    began: datetime
    delivered: datetime
    format: str
    columns: tuple[str, ...]
    """The names of a file's columns, where the file does not say them."""
    files: tuple[tuple[str, int, str], ...]
    """Key, bytes and MD5 of each."""

    @classmethod
    def of(  # noqa: PLR0913 (a manifest, and where it is from)
        cls, store: Store, rule: Rule, folder: str, manifest: bytes, checksum: bytes, *, delivered: datetime
    ) -> "_Inventory":
        digest = md5(manifest, usedforsecurity=False).hexdigest()
        at = folder + _MANIFEST
        if checksum.decode(errors="replace").strip().lower() != digest:
            _broken(rule, at, f"its MD5 is not what {_CHECKSUM} says")
        try:
            said = json.loads(manifest)
            source, version, form, schema = (
                str(said[name]) for name in ("sourceBucket", "version", "fileFormat", "fileSchema")
            )
            began = datetime.fromtimestamp(int(said["creationTimestamp"]) / 1000, UTC)
            files = tuple(
                (str(each["key"]), int(each["size"]), str(each["MD5checksum"]).lower()) for each in said["files"]
            )
            bucket = str(said["destinationBucket"]).rpartition(":")[2]
        except (ArithmeticError, KeyError, OSError, TypeError, ValueError) as error:
            _broken(rule, at, f"it is not a manifest as AWS describes it ({type(error).__name__}: {error})")
        if version != VERSION:
            _broken(rule, at, f"it is of version {version}, and {VERSION} is known")
        if source != rule.bucket:
            _broken(rule, at, f"it is of the bucket {source}, and the rule reads {rule.bucket}")
        if bucket != rule.inventory_place[0]:
            _broken(rule, at, f"its files lie in the bucket {bucket}, and not where the manifest does")
        if form.upper() not in _FORMATS:
            _broken(rule, at, f"its files are {form}: configure CSV, ORC or Parquet")
        columns = tuple(_plain(name) for name in schema.split(",")) if form.upper() == "CSV" else ()
        if columns:
            _check_columns(rule, at, columns)
        named = datetime.strptime(_last(folder), "%Y-%m-%dT%H-%MZ").replace(tzinfo=UTC)
        return cls(store, rule, digest, min(began, named), delivered, form.upper(), columns, files)

    def index(self) -> pa.RecordBatchFileReader:
        """Return its index, made now where this machine has none; processes that want it at once make it once."""
        folder, layout = _folder(), self.rule.layout
        about = "\n".join((_FORM, self.rule.inventory, layout.text if layout else ""))
        family = blake2b(about.encode(), digest_size=8).hexdigest()
        path = folder / f"{family}-{self.digest}.arrow"
        while True:
            with suppress(FileNotFoundError):
                os.utime(path)
                return pa.ipc.open_file(pa.memory_map(str(path)))
            with _locked(folder / f"{family}.lock"):
                if not path.exists():
                    self._make(path)
                    _forget(folder, family, path)

    def _make(self, path: Path) -> None:
        with workplace() as folder:
            made, count = folder / "index", 0
            with pa.OSFile(str(made), "wb") as sink, pa.ipc.new_file(sink, _INDEX) as writer:
                run, rows = list[pa.Table](), 0
                for table in self._tables(folder):
                    run, rows = [*run, table], rows + table.num_rows
                    if rows >= RUN_ROWS:
                        count += _write_run(writer, run)
                        run, rows = [], 0
                count += _write_run(writer, run) if rows else 0
            if not count:
                begins = self.rule.layout.literal if self.rule.layout else ""
                why = f"it names no object that begins with {begins!r}: it is of another prefix, or the bucket is empty"
                _broken(self.rule, self.rule.inventory, why)
            made.rename(path)

    def _tables(self, folder: Path) -> Iterator[pa.Table]:
        """Yield what its files have of the rule's keys, as the index has it, some at a time."""
        local = folder / "file"
        for key, size, digest in self.files:
            self._fetch(key, size, digest, local)
            try:
                for batch in _FORMATS[self.format](local, self.columns):
                    names = {_plain(name): name for name in batch.schema.names}
                    _check_columns(self.rule, key, tuple(names))
                    table = pa.table({name: _as(batch[names[name]], kind) for name, kind in _FIELDS.items()})
                    yield from self._indexed(key, table)
            except (OSError, pa.ArrowException) as error:
                _broken(self.rule, key, f"it cannot be read as {self.format}: {error}")

    def _fetch(self, key: str, size: int, digest: str, into: Path) -> None:
        live = next((each for each in next(self.store.versions(key), []) if each.key == key and each.latest), None)
        if live is None:
            _broken(self.rule, key, "the manifest names it, and it is not there: a lifecycle rule may be too short")
        if live.size != size:
            _broken(self.rule, key, f"it has {live.size} bytes, and the manifest says {size}")
        found = md5(usedforsecurity=False)
        with into.open("wb") as file:
            for start in range(0, size, PIECE):
                piece = self.store.read(key, start, min(size, start + PIECE))
                found.update(piece)
                file.write(piece)
        if found.hexdigest() != digest:
            _broken(self.rule, key, "its MD5 is not what the manifest says")

    def _indexed(self, at: str, table: pa.Table) -> Iterator[pa.Table]:
        rule, layout = self.rule, self.rule.layout
        if not pc.all(pc.equal(table["bucket"], rule.bucket), min_count=0).as_py():
            _broken(rule, at, f"it names objects of another bucket than {rule.bucket}")
        table = table.filter(pc.invert(pc.fill_null(table["isdeletemarker"], fill_value=False)))
        if self.format == "CSV":
            table = table.set_column(1, "key", _unquoted(table["key"]))
        if layout is None:
            return
        if table["key"].null_count:  # the filter below leaves such a row out
            _broken(rule, at, "it names an object without its key")
        table = table.filter(pc.starts_with(table["key"], layout.literal))
        for name in ("islatest", "size", "lastmodifieddate", "etag"):
            if table[name].null_count:
                _broken(rule, at, f"it names an object without its {name}")
        if not table.num_rows:
            return
        modified = pc.strftime(table["lastmodifieddate"], "%Y-%m-%dT%H:%M:%SZ")
        keys, instants = table["key"].to_pylist(), modified.to_pylist()
        hours = [_hour(rule, key, instant) for key, instant in zip(keys, instants, strict=True)]
        numbers = pc.fill_null(table["versionid"], "")
        yield pa.table(
            [
                pa.array(hours, pa.int32()),
                table["key"],
                pc.invert(table["islatest"]),
                pc.negate(table["lastmodifieddate"].cast(pa.int64())),
                pc.if_else(pc.equal(numbers, ""), NULL_VERSION, numbers),
                table["size"],
                pc.utf8_trim(table["etag"], '"'),
                modified,
            ],
            schema=_INDEX,
        )


def _hour(rule: Rule, key: str, modified: str) -> int:
    """Return the hour in which a version is looked for: of a key of another form, that in which S3 took it."""
    name = rule.raw_name(key, modified)
    return (name.millis if name else millis_of(modified) or 0) // _HOUR_MS


def _write_run(writer: pa.RecordBatchFileWriter, tables: Sequence[pa.Table]) -> int:
    run = pa.concat_tables(tables).sort_by([(name, "ascending") for name in _ORDER]).combine_chunks()
    for batch in run.to_batches():
        writer.write_batch(batch)
    return int(run.num_rows)


def _rows(index: pa.RecordBatchFileReader, hour: int) -> Iterator[Row]:
    """Yield an hour's versions of all runs in their order, each once."""
    runs = (index.get_batch(number) for number in range(index.num_record_batches))
    last: Row | None = None
    for row in heapq.merge(*(_stretch(run, hour) for run in runs)):
        if row != last:
            yield row
        last = row


def _stretch(run: pa.RecordBatch, hour: int) -> Iterator[Row]:
    hours = run["hour"]
    start, stop = _place(hours, hour), _place(hours, hour + 1)
    for begin in range(start, stop, PAGE):
        piece = run.slice(begin, min(PAGE, stop - begin))
        yield from zip(*(piece[name].to_pylist() for name in _INDEX.names[1:]), strict=True)


def _place(hours: pa.Array, hour: int) -> int:
    """Return before which row of a run all earlier hours lie."""
    low, high = 0, len(hours)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if hours[middle].as_py() < hour else (low, middle)
    return low


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "")


def _check_columns(rule: Rule, at: str, names: Sequence[str]) -> None:
    lacking = [name for name in _FIELDS if name not in names]
    if {"versionid", "islatest", "isdeletemarker"} & {*lacking}:
        _broken(rule, at, "it names the current versions alone, and each version is a message: include all versions")
    if lacking:
        fields = ", ".join(
            {"size": "Size", "lastmodifieddate": "LastModifiedDate", "etag": "ETag"}.get(n, n) for n in lacking
        )
        _broken(rule, at, f"it lacks {fields}: add these fields to its configuration")


def _as(column: Any, kind: pa.DataType) -> Any:
    """Return a column as the kind that is wanted; ORC's instants have no zone, and are UTC."""
    if pa.types.is_timestamp(column.type) and column.type.tz is None:
        column = column.cast(pa.timestamp("ms"), safe=False)
    return column if column.type == kind else column.cast(kind)


def _unquoted(keys: pa.ChunkedArray) -> pa.Array:
    return pa.array([key and unquote_plus(key) for key in keys.to_pylist()], pa.string())


def _of_parquet(path: Path, _: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with parquet.ParquetFile(path) as file:
        wanted = [name for name in file.schema_arrow.names if _plain(name) in _FIELDS]
        yield from file.iter_batches(columns=wanted)


def _of_orc(path: Path, _: Sequence[str]) -> Iterator[pa.RecordBatch]:
    file = orc.ORCFile(path)
    wanted = [name for name in file.schema.names if _plain(name) in _FIELDS]
    for stripe in range(file.nstripes):
        yield file.read_stripe(stripe, columns=wanted)


def _of_csv(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    convert = csv.ConvertOptions(column_types=_FIELDS, include_columns=[*_FIELDS])
    with pa.input_stream(str(path), compression="gzip") as stream:
        try:
            reader = csv.open_csv(
                stream, read_options=csv.ReadOptions(column_names=[*columns]), convert_options=convert
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return
            raise
        yield from reader


_FORMATS = {"PARQUET": _of_parquet, "ORC": _of_orc, "CSV": _of_csv}


def _folder() -> Path:
    """Return this user's folder of indexes, in which nobody else may read."""
    path = Path(tempfile.gettempdir()) / f"fleet-inventories-{os.geteuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o77 or path.is_symlink():
        raise FolderRefused(str(path), "it is not this user's alone")
    return path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _forget(folder: Path, family: str, kept: Path) -> None:
    """Remove the indexes of former inventories, and those that nobody has used for long."""
    for path in folder.glob("*.arrow"):
        with suppress(FileNotFoundError):
            is_unused = time.time() - path.stat().st_mtime > KEPT.total_seconds()
            if path != kept and (path.name.startswith(f"{family}-") or is_unused):
                path.unlink()


def _broken(rule: Rule, at: str, why: str) -> NoReturn:
    raise InventoryBroken(rule.key, at, why)
