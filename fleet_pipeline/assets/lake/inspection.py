"""What the lake says of an hour, read back from its Parquet and not from whoever wrote it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fleet_pipeline.assets.shared.pictures import MOST_EAST, MOST_NORTH
from fleet_pipeline.assets.shared.shown import or_none
from fleet_pipeline.lake.analytics.fields import Said, as_number, read
from fleet_pipeline.lake.commit import standing
from fleet_pipeline.lake.contract import KINDS, Column, Contract
from fleet_pipeline.lake.layout import Lake, LakePart
from fleet_pipeline.lake.payload import Status
from fleet_pipeline.lake.reading import PartFile
from fleet_pipeline.lake.rows import count_versions
from fleet_pipeline.lake.structs import leaves
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule

PREVIEW_ROWS = 5
"""Rows that are shown."""

TRACK_POINTS = 200
"""Positions that are kept at least, spread over the hour, if there are so many; and less than twice as many."""

BATCH_ROWS = 65_536
"""Rows that are held at once, of all parts together."""

_MINUTE_MS = 60_000
_LATITUDES = ("latitude", "lat")
_LONGITUDES = ("longitude", "lon", "lng")
_HEAD = ("_key", "_version", "_ts", "_status", "_client_id")
_READABLE = {status for status in Status if status.readable}


@dataclass(frozen=True, slots=True)
class Inspection:
    """An hour of the lake."""

    parts: tuple[LakePart, ...]
    rows: int
    identities: int
    """Rows that differ in key or version: all of them, or something was doubled."""
    versions: int
    """Versions of raw objects that have rows."""
    keys: int
    unreadable: int
    """Rows without typed columns, because the message could not be read."""
    partial: int
    """Rows of which some values fit no column."""
    minutes: tuple[int, ...]
    """Messages received in each of the sixty minutes."""
    vehicles: int
    track: tuple[tuple[float, float], ...]
    """Latitude and longitude of some positions, where the messages have such fields."""
    preview: pa.Table | None
    """Some rows; None of an hour without any, and where previews are off."""

    @property
    def bytes(self) -> int:
        """Size of all parts."""
        return sum(part.size for part in self.parts)


def inspect(fleet: Fleet, lake: Lake, rule: Rule, hour: Hour, contract: Contract) -> Inspection:
    """Return what an hour of the lake holds. Reads the columns that are named here, of every part, some rows at a time.

    Raises PartsMissing and PartDamaged as compaction does.
    """
    files = standing(lake, rule, hour)
    wanted = _Wanted(Said.of(fleet, contract), *(_place(contract) if fleet.shows_previews else (None, None)))
    counted = _Counted(hour)
    for rows in by_key([_rows(file, wanted, max(1, BATCH_ROWS // len(files))) for file in files]):
        counted.add(rows)
    return Inspection(
        parts=tuple(file.part for file in files),
        rows=counted.rows,
        identities=counted.identities,
        versions=counted.versions,
        keys=counted.keys,
        unreadable=sum(count for status, count in counted.statuses.items() if status not in _READABLE),
        partial=counted.statuses[Status.PARTIAL],
        minutes=tuple(counted.minutes[number] for number in range(60)),
        vehicles=len(counted.vehicles),
        track=tuple(counted.track.points),
        preview=or_none("some rows", lambda: next(files[-1].batches(files[-1].schema.names, PREVIEW_ROWS), None))
        if files and fleet.shows_previews
        else None,
    )


def by_key(streams: list[Iterator[pa.Table]]) -> Iterator[pa.Table]:
    """Yield the rows of streams that are each sorted by `_key`, all rows of a key in one table.

    Holds a table of each stream, and a key's rows.
    """
    heads = [_Head(stream) for stream in streams]
    while ahead := [head for head in heads if head.more]:
        border = min(head.last for head in ahead)
        yield pa.concat_tables([head.before(border) for head in heads])
        for head in ahead:
            if head.last == border:
                head.read()
    if rests := [head.rows for head in heads if head.rows]:
        yield pa.concat_tables(rests)


class _Head:
    """The next rows of a stream."""

    def __init__(self, stream: Iterator[pa.Table]) -> None:
        self._stream, self.more = stream, True
        self.rows = _ROWS.empty_table()
        self.read()

    def read(self) -> None:
        """Hold more rows, if there are any."""
        found = next((table for table in self._stream if table.num_rows), None)
        self.more = found is not None
        self.rows = pa.concat_tables([self.rows, found]) if found else self.rows

    @property
    def last(self) -> str:
        """The key of the last row that is held."""
        return str(self.rows["_key"][-1].as_py())

    def before(self, key: str) -> pa.Table:
        """Return the rows before a key, and hold them no longer."""
        count = pc.sum(pc.less(self.rows["_key"], key)).as_py() or 0
        rows, self.rows = self.rows.slice(0, count), self.rows.slice(count)
        return rows


class _Counted:
    """What rows come to, of which all of a key are added together."""

    def __init__(self, hour: Hour) -> None:
        self._hour = hour
        self.rows = self.identities = self.versions = self.keys = 0
        self.statuses: Counter[str] = Counter()
        self.minutes: Counter[int] = Counter()
        self._vehicles, self._named = pa.array([], pa.string()), list[pa.Array]()
        self.track = _Track()

    @property
    def vehicles(self) -> pa.Array:
        """The names of all vehicles, once each."""
        return pc.unique(pa.chunked_array([self._vehicles, *self._named]))

    def add(self, rows: pa.Table) -> None:
        """Count some rows."""
        identities = rows.select(["_key", "_version"]).group_by(["_key", "_version"]).aggregate([])
        self.rows += rows.num_rows
        self.identities += identities.num_rows
        self.versions += count_versions(identities)
        self.keys += pc.count_distinct(rows["_key"]).as_py()
        self.statuses.update(_counts(rows["_status"]))
        self.minutes.update(
            _counts(pc.divide(pc.subtract(rows["_ts"].cast(pa.int64()), self._hour.start_ms), _MINUTE_MS))
        )
        self._named.append(pc.unique(rows["vehicle"].drop_null()))
        if (
            sum(map(len, self._named)) >= BATCH_ROWS
        ):  # not each time: an hour of many parts comes in hundreds of small tables
            self._vehicles, self._named = self.vehicles, []
        self.track.add(rows.select(["latitude", "longitude"]))


@dataclass(slots=True)
class _Track:
    """Every so many-th of the places that were added, so that there are neither few nor many."""

    points: list[tuple[float, float]] = field(default_factory=list)
    _step: int = 1
    _seen: int = 0

    def add(self, places: pa.Table) -> None:
        """Add places in the order of their time; what is no place on Earth is none."""
        known = places.filter(pc.and_(_within(places["latitude"], MOST_NORTH), _within(places["longitude"], MOST_EAST)))
        while self._seen // self._step + known.num_rows // self._step >= 2 * TRACK_POINTS:
            self.points, self._step = self.points[::2], 2 * self._step
        some = known.take(pa.array(range(-self._seen % self._step, known.num_rows, self._step), pa.int64()))
        self.points += zip(*(column.to_pylist() for column in some.columns), strict=True)
        self._seen += known.num_rows


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The columns that are read beside what each row says of its message."""

    said: Said
    latitude: Column | None
    longitude: Column | None

    def names(self, file: PartFile) -> list[str]:
        """Return those that a part has."""
        wanted = {*_HEAD, *self.said.names, *(each.name for each in (self.latitude, self.longitude) if each)}
        return [name for name in leaves(file.schema) if name in wanted]


def _rows(file: PartFile, wanted: _Wanted, size: int) -> Iterator[pa.Table]:
    """Yield the rows of a part as `_ROWS` has them, so many at once."""
    for batch in file.batches(wanted.names(file), size):
        count = batch.num_rows
        named, _ = wanted.said.vehicles(batch)
        place = [as_number(read(batch, column), count) for column in (wanted.latitude, wanted.longitude)]
        yield pa.table([*(batch[name] for name in _HEAD[:4]), named, *place], schema=_ROWS)


_ROWS = pa.schema(
    [
        ("_key", pa.string()),
        ("_version", pa.string()),
        ("_ts", pa.timestamp("ms", "UTC")),
        ("_status", pa.string()),
        ("vehicle", pa.string()),
        ("latitude", pa.float64()),
        ("longitude", pa.float64()),
    ]
)


def _place(contract: Contract) -> tuple[Column | None, Column | None]:
    """Return the columns of latitude and longitude, if there are both: the first whose last name says so."""
    numbers = [
        column
        for column in contract.columns.values()
        if pa.types.is_floating(KINDS[column.kind]) or pa.types.is_integer(KINDS[column.kind])
    ]
    latitude, longitude = (
        next((each for each in numbers if each.path[-1].casefold() in names), None)
        for names in (_LATITUDES, _LONGITUDES)
    )
    return (latitude, longitude) if latitude and longitude else (None, None)


def _within(degrees: pa.ChunkedArray, most: int) -> pa.ChunkedArray:
    return pc.fill_null(pc.less_equal(pc.abs(degrees), most), fill_value=False)


def _counts(values: pa.ChunkedArray) -> dict[Any, int]:
    return {each["values"]: each["counts"] for each in pc.value_counts(values).to_pylist()}
