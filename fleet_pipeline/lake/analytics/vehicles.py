"""Which vehicles were seen in an hour, and what each of them did on a day.

A vehicle is known by the client id that AWS IoT wrote into the raw key, where the key's form has it, and else by a
field of its message; where FLEET_VEHICLE_NAMED_BY is `message`, first by the field.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from fleet_pipeline.aws.store import Store
from fleet_pipeline.lake.analytics.fields import Said, are_readable, as_number, column_of, read
from fleet_pipeline.lake.analytics.revisions import Computed, DerivedTable, Revised
from fleet_pipeline.lake.contract import Contract
from fleet_pipeline.lake.layout import Lake, LakePart
from fleet_pipeline.lake.reading import PartFile, opened
from fleet_pipeline.lake.structs import leaves
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule

BATCH_ROWS = 65_536
"""Rows that are taken over from Parquet at once, whatever the size of an hour."""

_INSTANT = pa.timestamp("ms", "UTC")

HOURLY = pa.schema(
    [
        ("vehicle", pa.string()),
        ("messages", pa.int64()),
        ("first_message", _INSTANT),
        ("last_message", _INSTANT),
        ("odometer_first_km", pa.float64()),
        ("odometer_last_km", pa.float64()),
        ("speed_samples", pa.int64()),
        ("speed_mean_kmh", pa.float64()),
        ("speed_max_kmh", pa.float64()),
        ("battery_min_percent", pa.float64()),
        ("battery_max_percent", pa.float64()),
        ("battery_last_percent", pa.float64()),
    ]
)
"""One row for each vehicle seen in an hour. What no message of the hour told is null."""

DAILY = pa.schema(
    [
        ("vehicle", pa.string()),
        ("hours_seen", pa.int64()),
        ("messages", pa.int64()),
        ("first_message", _INSTANT),
        ("last_message", _INSTANT),
        ("distance_km", pa.float64()),
        ("speed_mean_kmh", pa.float64()),
        ("speed_max_kmh", pa.float64()),
        ("battery_min_percent", pa.float64()),
        ("battery_max_percent", pa.float64()),
        ("battery_last_percent", pa.float64()),
    ]
)
"""One row for each vehicle seen on a day.

The distance is what the odometer gained between the day's first and last message, rounded to metres.
"""

UNNAMED = "messages without a vehicle"
"""Note of an hour: messages that can be read, of which neither the raw key nor the message says whose they are."""

UNREADABLE = "messages that cannot be read"
"""Note of an hour: rows without typed columns, of which the table does not know whose they are."""

UNSURE = "messages that may name a vehicle beside the columns"
"""Note of an hour, where messages name their vehicles: of these at most the client is known, and the message itself may
say whose they are. The table gives them to nobody.
"""

MERGE_ROWS = 262_144
"""Rows of partial results after which those of one vehicle are made one: what memory holds, but for the vehicles
themselves.
"""

_ODOMETER, _SPEED, _BATTERY = ("odometer_km",), ("speed_kmh",), ("battery", "charge_percent")

_PARTIAL = """
    SELECT vehicle, count(*) AS messages, min(_ts) AS first_message, max(_ts) AS last_message,
           min(odometer) AS odometer_first_km, max(odometer) AS odometer_last_km,
           count(speed) AS speed_samples, sum(speed) AS speed_sum, max(speed) AS speed_max_kmh,
           min(battery) AS battery_min_percent, max(battery) AS battery_max_percent,
           arg_max(battery, _ts) AS battery_last_percent, max(_ts) FILTER (battery IS NOT NULL) AS battery_last
    FROM batch WHERE vehicle IS NOT NULL GROUP BY vehicle
"""

_MERGED = """
    SELECT vehicle, sum(messages)::BIGINT AS messages,
           min(first_message) AS first_message, max(last_message) AS last_message,
           min(odometer_first_km) AS odometer_first_km, max(odometer_last_km) AS odometer_last_km,
           sum(speed_samples)::BIGINT AS speed_samples, sum(speed_sum) AS speed_sum,
           max(speed_max_kmh) AS speed_max_kmh,
           min(battery_min_percent) AS battery_min_percent, max(battery_max_percent) AS battery_max_percent,
           arg_max(battery_last_percent, battery_last) AS battery_last_percent, max(battery_last) AS battery_last
    FROM partial GROUP BY vehicle
"""

_SEEN = f"""
    SELECT * EXCLUDE (speed_sum, battery_last), speed_sum / nullif(speed_samples, 0) AS speed_mean_kmh
    FROM ({_MERGED}) ORDER BY vehicle
"""  # noqa: S608 (a constant of this file)

_ROLLED_UP = """
    SELECT vehicle, count(*) AS hours_seen, sum(messages) AS messages,
           min(first_message) AS first_message, max(last_message) AS last_message,
           round(max(odometer_last_km) - min(odometer_first_km), 3) AS distance_km,
           sum(speed_mean_kmh * speed_samples) / nullif(sum(speed_samples), 0) AS speed_mean_kmh,
           max(speed_max_kmh) AS speed_max_kmh,
           min(battery_min_percent) AS battery_min_percent, max(battery_max_percent) AS battery_max_percent,
           arg_max(battery_last_percent, last_message) AS battery_last_percent
    FROM hours GROUP BY vehicle ORDER BY vehicle
"""


def hourly_table(store: Store, fleet: Fleet | None = None) -> DerivedTable:
    """Return the table of vehicles seen each hour: to compute or to trust it, as the fleet's settings name them."""
    field, by = (fleet.vehicle_field, fleet.vehicle_named_by) if fleet else ("serial", "client_id")
    version = f"2 {field}" if by == "client_id" else f"2 {field}\nby {by}"  # no field's name has a line's end
    return DerivedTable(store, "vehicles_hourly", HOURLY, version)


def daily_table(store: Store) -> DerivedTable:
    """Return the table of what each vehicle did on each day."""
    return DerivedTable(store, "vehicles_daily", DAILY)


def seen(fleet: Fleet, lake: Lake, hour: Hour) -> Revised:
    """Return the vehicles seen in an hour on any rule, computed again if the lake has got more of the hour since.

    Its notes say how many messages are nobody's. An hour whose rows went because they were old says what it said.
    """
    origin: dict[str, Rule] = {}

    def parts() -> list[LakePart]:
        looked = {rule: lake.found(rule, hour) for rule in fleet.rules}
        if any(each.ended for each in looked.values()):
            raise _HourEnded
        found = {part: rule for rule, each in looked.items() for part in each.parts}
        origin.update({part.key: rule for part, rule in found.items()})
        return list(found)

    def vehicles_of(inputs: Sequence[LakePart]) -> Computed:
        contracts = {rule: lake.contract(rule) for rule in {origin[part.key] for part in inputs}}
        with _database() as database:
            partial = _Partial(database)
            for part in inputs:
                for batch in _batches(fleet, opened(lake.store, part), contracts[origin[part.key]]):
                    partial.add(batch)
            return _finite(database.execute(_SEEN).to_arrow_table().select(HOURLY.names)), {
                UNNAMED: partial.unnamed,
                UNREADABLE: partial.unreadable,
            } | ({UNSURE: partial.unsure} if fleet.vehicle_named_by == "message" else {})

    table = hourly_table(lake.store, fleet)
    try:
        return table.recompute(hour.path, parts, vehicles_of)
    except _HourEnded:
        return table.standing(hour.path)


class _HourEnded(Exception):
    """Rows of the hour are gone: what is computed of those that are left would be less than was known."""


def rolled_up(store: Store, day: date) -> Revised:
    """Return what each vehicle did on a day (UTC), computed again if one of its hours has a new revision."""
    hourly = hourly_table(store)

    def revisions() -> list[LakePart]:
        return [last for hour in hours_of(day) if (last := hourly.last(hour.path))]

    def vehicles_of(inputs: Sequence[LakePart]) -> Computed:
        with _database() as database:
            database.register("hours", pa.concat_tables(opened(store, part, HOURLY).read() for part in inputs))
            return _finite(database.execute(_ROLLED_UP).to_arrow_table()), {}

    return daily_table(store).recompute(f"date={day}", revisions, vehicles_of)


def hours_of(day: date) -> Iterator[Hour]:
    """Yield the 24 hours of a day, UTC."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return (Hour(midnight + timedelta(hours=hour)) for hour in range(24))


def _database() -> duckdb.DuckDBPyConnection:
    """Return an empty database in memory. Its time zone does not matter: instants are only compared."""
    return duckdb.connect(config={"threads": 2})


def _finite(rows: pa.Table) -> pa.Table:
    """Return rows with null for a number too large to be computed: the mean of two speeds of 1e308 is no infinity."""
    columns = [
        pc.if_else(pc.is_finite(each), each, None) if pa.types.is_floating(each.type) else each for each in rows.columns
    ]
    return pa.table(columns, names=rows.column_names)


class _Partial:
    """Partial results in a database, of rows that come in batches."""

    def __init__(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database, self._rows = database, 0
        self.unnamed = 0
        """Messages that can be read and are nobody's."""
        self.unreadable = 0
        """Rows that cannot be read."""
        self.unsure = 0
        """Rows of which the message may say a name beside the columns."""
        self._insert("CREATE TABLE partial AS", _MESSAGES.empty_table())

    def add(self, batch: pa.Table) -> None:
        """Compute with a batch of `_MESSAGES`' columns."""
        sure = pc.and_(batch["readable"], pc.invert(batch["unsure"]))
        self.unnamed += pc.sum(pc.and_(sure, batch["vehicle"].is_null())).as_py() or 0
        self.unreadable += pc.sum(pc.invert(batch["readable"])).as_py() or 0
        self.unsure += pc.sum(batch["unsure"]).as_py() or 0
        self._insert("INSERT INTO partial", batch)
        self._rows += batch.num_rows
        if self._rows >= MERGE_ROWS:
            self._database.execute(f"CREATE OR REPLACE TABLE partial AS {_MERGED}")
            self._rows = 0

    def _insert(self, where: str, batch: pa.Table) -> None:
        self._database.register("batch", batch)
        self._database.execute(f"{where} {_PARTIAL}")
        self._database.unregister("batch")


_MESSAGES = pa.schema(
    [
        ("_ts", _INSTANT),
        ("readable", pa.bool_()),
        ("vehicle", pa.string()),
        ("unsure", pa.bool_()),
        *((name, pa.float64()) for name in ("odometer", "speed", "battery")),
    ]
)


def _batches(fleet: Fleet, file: PartFile, contract: Contract) -> Iterator[pa.Table]:
    """Yield the messages of a part, with what its rule's columns say as what it means.

    What is missing, or of another kind, is null.
    """
    said, numbers = Said.of(fleet, contract), [column_of(contract, path) for path in (_ODOMETER, _SPEED, _BATTERY)]
    wanted = {"_ts", *said.names, *(column.name for column in numbers if column)}
    for batch in file.batches([name for name in leaves(file.schema) if name in wanted], BATCH_ROWS):
        rows = batch.num_rows
        readable = are_readable(batch)
        yield pa.table(
            [
                batch["_ts"],
                readable,
                *said.vehicles(batch),
                *(as_number(read(batch, column), rows) for column in numbers),
            ],
            schema=_MESSAGES,
        )
