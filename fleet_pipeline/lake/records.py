"""The records of batch objects, unpacked, told apart and read, a megabyte at a time; sorted on disk where there are
many.

A record of a batch is an envelope (`model/rule.ENVELOPE`), a line each, or one right after another. Objects are gzip or
plain, whatever their names say.
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from fleet_pipeline.aws.store import ObjectVersion, Store
from fleet_pipeline.lake.encodings import GZIP, GZIP_BITS
from fleet_pipeline.lake.json_texts import LONGEST_RECORD, Messages, one_after_another, told_apart
from fleet_pipeline.lake.memory import Used
from fleet_pipeline.lake.reading import merged
from fleet_pipeline.lake.rows import HEAD, IDENTITY, LARGEST, NO_RECORD, ORIGINS, identity
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import BatchName, Rule

PIECE = 8 * 1024 * 1024
"""Bytes of an object that are fetched by one request."""

NO_TEXT = {b"PAR1": "Parquet", b"PK\x03\x04": "a zip", b"\xff\x06\x00\x00sNaPpY": "Snappy"}
"""What objects begin with that are neither text nor gzip, as FleetWise and Firehose may write them."""

AHEAD = 6
"""Pieces that are on their way, or wait for one before them."""

CHUNK = 1024 * 1024
"""Bytes of records that are read at once, unpacked."""

RUN_BYTES = 32 * 1024 * 1024
"""Bytes of messages that are sorted at once. More lie on disk, in sorted runs that are merged as they are read."""

COLUMNS = [*ORIGINS, "_payload"]
_SCHEMA = pa.schema([HEAD.field(name) for name in COLUMNS])
_UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_UUIDS = f"^{_UUID.pattern}$"
_FIRST_MS, _LAST_MS = 10**12, 10**13
"""Instants of 13 digits, as in every raw key."""


class Envelope(msgspec.Struct, gc=False):
    """A record: a message and where it came from."""

    p: bytes
    """The payload, which is Base64 in the record."""
    t: int
    """When AWS IoT received it, in milliseconds since 1970."""
    k: str
    """Its topic; empty where it is not known."""
    u: str
    """A UUID."""
    c: str | None = None
    """The client id."""


_ENVELOPES = msgspec.json.Decoder(Envelope)


@dataclass(frozen=True, slots=True)
class Batch:
    """A version of a batch object."""

    version: ObjectVersion
    name: BatchName
    device: str | None = None
    """Who sent all of its messages, where its key says it."""

    @property
    def id(self) -> str:
        """A text that no other batch of the rule has."""
        return str(uuid5(NAMESPACE_OID, f"{self.version.key} {identity(self.version)}"))

    @property
    def hour(self) -> Hour:
        """The hour in which it begins."""
        return Hour.of_millis(self.name.millis)


@dataclass(slots=True)
class Records:
    """Some records of a batch."""

    good: list[Envelope] = field(default_factory=list)
    bad: list[bytes | None] = field(default_factory=list)
    """What is no record of the rule; None for what is too long to be kept."""
    damage: str = ""
    """Why no more come, where the object does not end here."""


class Damaged(Exception):
    """An object cannot be read to its end."""


def records_of(store: Store, rule: Rule, batches: Sequence[Batch]) -> Iterator[tuple[Batch, Records]]:
    """Yield the records of some batches, a few thousand at a time; of a batch without any, none, once."""
    for batch, pieces in _fetched(store, batches):
        reader, damage = _Lines(batch) if rule.has_lines else _Enveloped(rule), ""
        try:
            for lines in lines_of(pieces):
                yield batch, reader.read(lines)
        except Damaged as error:
            damage = str(error)
        last = reader.rest()
        last.damage = damage
        yield batch, last


def read_lines(rule: Rule, lines: list[bytes]) -> Records:
    """Return what some lines say."""
    return _read(lines, _Topics(rule))


def lines_of(pieces: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Yield the lines of an object, or what stands one right after another in a line, a megabyte at a time.

    Raises Damaged where the object cannot be unpacked, once what comes before was yielded, but for half a line.
    """
    rest = b""
    try:
        for text in _unpacked(pieces):
            whole, newline, rest = (rest + text).rpartition(b"\n")
            if newline:
                yield whole.split(b"\n")
            if len(rest) > LONGEST_RECORD:
                several, rest = one_after_another(rest)
                yield several
    except Damaged:
        several, _ = one_after_another(rest)
        yield [text for text in several if text[-1:] in b"}]"]  # of 12 nobody knows whether it was 123
        raise
    if rest:
        yield [rest]


class _Enveloped:
    """Reads lines that are records of a rule."""

    def __init__(self, rule: Rule) -> None:
        self._topics = _Topics(rule)

    def read(self, lines: list[bytes]) -> Records:
        """Return what some lines say."""
        return _read(lines, self._topics)

    def rest(self) -> Records:
        """Return what is left at the end."""
        return Records()


class _Lines:
    """Reads lines of messages, a value each wherever it ends (`Messages`): each has the instant of its object, and a
    UUID that is made of the object's id and of how many messages stand before it.
    """

    def __init__(self, batch: Batch) -> None:
        self._batch, self._count, self._messages = batch, 0, Messages()

    def read(self, lines: list[bytes]) -> Records:
        """Return the messages that end in some lines, byte for byte; lines of blanks are none."""
        return self._named(self._messages.of(lines))

    def rest(self) -> Records:
        """Return what is left at the end."""
        return self._named(self._messages.rest())

    def _named(self, texts: list[bytes]) -> Records:
        found = Records()
        for text in texts:
            if len(text) > LARGEST:
                found.bad.append(None)
                continue
            uuid = f"{self._batch.id[:24]}{self._count:012x}"
            found.good.append(Envelope(text, self._batch.name.millis, "", uuid, self._batch.device))
            self._count += 1
        return found


class _Topics(dict[str, bool]):
    """Whether the rule reads a topic, by the topic."""

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self._rule = rule

    def __missing__(self, topic: str) -> bool:
        found = self._rule.reads(topic)
        if len(self) < _TOPICS:
            self[topic] = found
        return found


_TOPICS = 100_000
"""Topics of which is remembered whether the rule reads them."""


def _fetched(store: Store, batches: Sequence[Batch]) -> Iterator[tuple[Batch, Iterator[bytes]]]:
    """Yield batches with their bytes, a piece after another, while further pieces are on their way."""
    asked, given, came = 0, 0, dict[int, bytes]()

    def spans() -> Iterator[tuple[ObjectVersion, int, int] | None]:
        nonlocal asked
        for batch in batches:
            for start in range(0, batch.version.size, PIECE):
                while asked - given >= AHEAD:
                    yield None
                asked += 1
                yield batch.version, start, min(start + PIECE, batch.version.size)

    landing = store.spans(spans())

    def pieces(batch: Batch) -> Iterator[bytes]:
        nonlocal given
        for _ in range(0, batch.version.size, PIECE):
            while given not in came:
                place, body = next(landing)
                came[place] = body
            given += 1
            yield came.pop(given - 1)

    for batch in batches:
        mine = pieces(batch)
        yield batch, mine
        for _ in mine:  # of a damaged batch what is left is passed over
            pass


def _unpacked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield an object's text by chunks. Raises Damaged, at once for what is no text at all."""
    first = next(pieces, b"")
    if what := next((name for sign, name in NO_TEXT.items() if first.startswith(sign)), ""):
        raise Damaged(f"it is {what}, which is not read")
    if first.startswith(GZIP):
        yield from _gunzipped(chain([first], pieces))
        return
    for piece in chain([first], pieces):
        yield from (piece[start : start + CHUNK] for start in range(0, len(piece), CHUNK))


def _gunzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    unpack = zlib.decompressobj(GZIP_BITS)
    for left in pieces:
        while left:
            if unpack.eof:  # one gzip after another is a gzip
                unpack = zlib.decompressobj(GZIP_BITS)
            before = unpack.copy()
            try:
                text = unpack.decompress(left, CHUNK)
            except zlib.error as error:
                yield from _before_the_error(before, left)
                raise Damaged(f"it cannot be unpacked: {error}") from error
            yield text
            left = unpack.unused_data if unpack.eof else unpack.unconsumed_tail  # noqa: PLW2901 (what is left of it)
    while not unpack.eof and (text := unpack.decompress(b"", CHUNK)):
        yield text
    if not unpack.eof:
        raise Damaged("it ends in the middle of a gzip")


def _before_the_error(unpack: "zlib._Decompress", left: bytes) -> Iterator[bytes]:
    """Yield what can be unpacked of bytes of which one is wrong: all before it, so all where it is a checksum's."""
    while len(left) > 1:
        trial, half = unpack.copy(), len(left) // 2
        try:
            text = trial.decompress(left[:half])
        except zlib.error:
            left = left[:half]
        else:
            yield text
            unpack, left = trial, left[half:]


def _read(lines: list[bytes], topics: _Topics) -> Records:
    """Return what some lines say."""
    try:
        found = _ENVELOPES.decode_lines(b"\n".join(lines))
    except (RecursionError, ValueError):  # msgspec's errors are ValueErrors
        return _read_each(lines, topics)
    return Records(found) if len(found) == len(lines) and _are_sound(found, topics) else _read_each(lines, topics)


def _are_sound(found: Sequence[Envelope], topics: _Topics) -> bool:
    if not found:
        return True
    uuids = pa.array([each.u for each in found], pa.string())
    times = [each.t for each in found]
    return bool(
        min(times) >= _FIRST_MS
        and max(times) < _LAST_MS
        and pc.all(pc.match_substring_regex(uuids, _UUIDS)).as_py()
        and all(topics[each] for each in {each.k for each in found})
        and max(len(each.p) for each in found) <= LARGEST
    )


def _read_each(lines: list[bytes], topics: _Topics) -> Records:
    found = Records()
    for line in lines:
        for text in told_apart(line):
            if (envelope := _envelope(text, topics)) is not None:
                found.good.append(envelope)
            elif text.strip():
                found.bad.append(text if len(text) <= LARGEST else None)
    return found


def _envelope(text: bytes, topics: _Topics) -> Envelope | None:
    try:
        found = _ENVELOPES.decode(text)
    except (RecursionError, ValueError):  # msgspec's errors are ValueErrors
        return None
    is_sound = _FIRST_MS <= found.t < _LAST_MS and _UUID.fullmatch(found.u) and topics[found.k]
    return found if is_sound and len(found.p) <= LARGEST else None


def table(rule: Rule, found: Sequence[Envelope]) -> pa.Table:
    """Return messages as rows of which is not yet known what their payloads say."""
    uuids, times = pa.array([each.u for each in found], pa.string()), pa.array([each.t for each in found], pa.int64())
    keys = pc.binary_join_element_wise(
        pa.scalar(rule.raw_prefix), pc.cast(times, pa.string()), pa.scalar("-"), uuids, pa.scalar("")
    )
    # The separator is the last argument.
    return pa.table(
        [
            keys,
            pc.cast(times, _SCHEMA.field("_ts").type),
            pa.array([each.k or None for each in found], pa.string()),
            pa.array([each.c for each in found], pa.string()),
            pc.binary_join_element_wise(
                pc.utf8_slice_codeunits(uuids, 0, 8),
                pc.utf8_slice_codeunits(uuids, 9, 13),
                pc.utf8_slice_codeunits(uuids, 14, 18),
                "",
            ),
            pa.array([each.p for each in found], pa.binary()),
        ],
        schema=_SCHEMA,
    )


def identity_of(envelope: Envelope) -> str:
    """Return the `_version` of a message, as `table` does."""
    return envelope.u.replace("-", "")[:IDENTITY]


def no_records(rule: Rule, batch: Batch, found: Sequence[bytes | None], seen: Counter[str]) -> pa.Table:
    """Return rows of what is no record; they are of the instant at which the batch begins, and of the device that its
    key names.

    Each is named by its bytes, so that it is the same row when its batch was written anew, and by how many like it
    stand before it, which `seen` counts; what has no bytes by its batch.
    """
    names, count = [], len(found)
    for line in found:
        said = batch.id if line is None else sha256(line).hexdigest()
        names.append(uuid5(NAMESPACE_OID, f"{batch.name.millis} {said} {seen[said]}"))
        seen[said] += 1
    return pa.table(
        [
            [f"{rule.raw_prefix}{batch.name.millis:013d}-{name}" for name in names],
            pa.array([batch.name.millis] * count, pa.int64()).cast(_SCHEMA.field("_ts").type),
            pa.nulls(count, pa.string()),
            pa.array([batch.device] * count, pa.string()),
            [NO_RECORD] * count,
            pa.array(found, pa.binary()),
        ],
        schema=_SCHEMA,
    )


class Runs:
    """Messages, sorted by key and version, in files of a folder where they are many."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: list[pa.Table] = []
        self._bytes = 0
        self._runs: list[_Run] = []

    def add(self, rows: pa.Table) -> None:
        """Take rows, in any order."""
        if rows.num_rows:
            self._held.append(rows)
            self._bytes += rows.nbytes
            if self._bytes >= RUN_BYTES:
                self._end()

    def merged(self) -> Iterator[pa.Table]:
        """Yield all of them in their order, some megabytes at a time."""
        if self._held:
            self._end()
        if self._runs:
            yield from merged(self._runs, COLUMNS)

    def _end(self) -> None:
        rows = pa.concat_tables(self._held).sort_by([("_key", "ascending"), ("_version", "ascending")])
        self._runs.append(_Run(self._folder / f"run-{len(self._runs):05d}", rows))
        self._held, self._bytes = [], 0


class _Run:
    """Sorted rows in a file."""

    def __init__(self, path: Path, rows: pa.Table) -> None:
        self._path = path
        each = max(1, _SMALL_BATCH * rows.num_rows // max(1, rows.nbytes))
        with (
            pa.OSFile(str(path), "wb") as file,
            pa.ipc.new_file(file, _SCHEMA, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer,
        ):
            writer.write_table(rows, max_chunksize=each)

    def batches(self, columns: Sequence[str], rows: int = 0, size: int = 0) -> Iterator[pa.Table]:  # noqa: ARG002 (as a part's)
        """Yield the rows, some of them at a time, of about so many bytes."""
        used = Used()
        with pa.OSFile(str(self._path), "rb") as source:  # not mapped: the pages of a map count as memory in use
            file = pa.ipc.open_file(source)
            held, count = list[pa.RecordBatch](), 0
            for number in range(file.num_record_batches):
                held.append(file.get_batch(number))
                count += held[-1].nbytes
                if count >= size or number == file.num_record_batches - 1:
                    yield pa.Table.from_batches(held).combine_chunks()
                    used.note(count)
                    held, count = [], 0


_SMALL_BATCH = 256 * 1024
"""Bytes of a run that are written together, and so read together at the least."""
