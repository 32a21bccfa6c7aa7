"""What the lake says of an hour, read back from its Parquet and not from whoever wrote it."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from fleet_pipeline.compaction.contract import Contract
from fleet_pipeline.compaction.lake import Lake, Part
from fleet_pipeline.compaction.payload import Status
from fleet_pipeline.compaction.reading import opened
from fleet_pipeline.compaction.rows import count_versions
from fleet_pipeline.compaction.structs import leaves, unfolded
from fleet_pipeline.fleet import Hour, Rule

PREVIEW_ROWS = 5
"""Rows that are shown."""

TRACK_POINTS = 200
"""Positions that are kept, spread over the hour."""

_MINUTE_MS = 60_000
_LATITUDES = ("latitude", "lat")
_LONGITUDES = ("longitude", "lon", "lng")
_HEAD = ("_key", "_version", "_ts", "_status", "_client_id")
_VEHICLE = "serial"
"""The column that names a vehicle where the raw key does not."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """An hour of the lake."""

    parts: tuple[Part, ...]
    rows: int
    identities: int
    """Rows that differ in key or version: all of them, or something was doubled."""
    versions: int
    """Versions of raw objects that have rows."""
    keys: int
    unreadable: int
    """Rows without typed columns, because the message could not be read."""
    set_aside: int
    """Rows of which some values fit no column."""
    minutes: tuple[int, ...]
    """Messages received in each of the sixty minutes."""
    vehicles: int
    track: tuple[tuple[float, float], ...]
    """Latitude and longitude of some positions, where the messages have such fields."""
    preview: pa.Table

    @property
    def bytes(self) -> int:
        """Size of all parts."""
        return sum(part.size for part in self.parts)


def inspect(lake: Lake, rule: Rule, hour: Hour, contract: Contract) -> Inspection:
    """Return what an hour of the lake holds. Reads the columns that are named here, of every part. Raises PartsMissing as compaction does."""
    parts = lake.parts(rule, hour)
    place = _place(contract)
    wanted = [*_HEAD, *(name for name in (_VEHICLE, *place) if name in contract.columns)]
    files = [opened(lake.store, part) for part in parts]
    tables = [unfolded(file.read([name for name in wanted if name in leaves(file.schema)])) for file in files]
    rows = pa.concat_tables(tables, promote_options="permissive") if tables else _no_rows(wanted)
    identities = rows.group_by(["_key", "_version"]).aggregate([])
    return Inspection(
        parts=tuple(parts),
        rows=rows.num_rows,
        identities=identities.num_rows,
        versions=count_versions(identities),
        keys=pc.count_distinct(rows["_key"]).as_py(),
        unreadable=_count(rows, [status for status in Status if not status.readable]),
        set_aside=_count(rows, [Status.PARTIAL]),
        minutes=_minutes(rows["_ts"], hour),
        vehicles=_vehicles(rows),
        track=_track(rows, place),
        preview=next(files[-1].batches(files[-1].schema.names, PREVIEW_ROWS), None) if files else None,
    )


def _no_rows(names: list[str]) -> pa.Table:
    return pa.table({name: pa.array([], pa.timestamp("ms", "UTC") if name == "_ts" else pa.string()) for name in names})


def _place(contract: Contract) -> tuple[str, ...]:
    """Return the columns of latitude and longitude, if there are such: the first whose last name says so."""
    named = {name: column.path[-1].casefold() for name, column in contract.columns.items() if column.kind in {"double", "int64"}}
    found = [next((name for name, last in named.items() if last in wanted), None) for wanted in (_LATITUDES, _LONGITUDES)]
    return tuple(name for name in found if name) if all(found) else ()


def _count(rows: pa.Table, statuses: list[Status]) -> int:
    return int(pc.sum(pc.is_in(rows["_status"], pa.array(statuses, pa.string()))).as_py() or 0)


def _minutes(instants: pa.ChunkedArray, hour: Hour) -> tuple[int, ...]:
    minute = pc.divide(pc.subtract(instants.cast(pa.int64()), hour.start_ms), _MINUTE_MS)
    counts = {count["values"]: count["counts"] for count in pc.value_counts(minute).to_pylist()}
    return tuple(counts.get(number, 0) for number in range(60))


def _vehicles(rows: pa.Table) -> int:
    said = rows["_client_id"]
    named = pc.if_else(pc.equal(said, "n/a"), None, said)
    if _VEHICLE in rows.column_names:
        named = pc.coalesce(named, rows[_VEHICLE].cast(pa.string()))
    return int(pc.count_distinct(named, mode="only_valid").as_py())


def _track(rows: pa.Table, place: tuple[str, ...]) -> tuple[tuple[float, float], ...]:
    if not place or not set(place) <= set(rows.column_names):
        return ()
    where = rows.select(place).drop_null()
    some = where.take(pa.array(range(0, where.num_rows, max(1, where.num_rows // TRACK_POINTS)), pa.int64()))
    return tuple(zip(*(column.to_pylist() for column in some.columns), strict=True))
