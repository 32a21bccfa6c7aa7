"""Which vehicles were seen in an hour, and what each of them did on a day.

A vehicle is known by the client id that AWS IoT wrote into the raw key, where the key's form has it, and else by the `serial` of its message.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

import duckdb
import pyarrow as pa

from fleet_pipeline.analytics.revisions import DerivedTable, Revised
from fleet_pipeline.compaction.lake import Lake, Part
from fleet_pipeline.compaction.reading import PartFile, opened
from fleet_pipeline.compaction.structs import leaves, unfolded
from fleet_pipeline.fleet import Fleet, Hour
from fleet_pipeline.store import Store

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
"""One row for each vehicle seen on a day. The distance is what the odometer gained between the day's first and last message."""

_FIELDS = {
    "_ts": "TIMESTAMPTZ",
    "_client_id": "VARCHAR",
    "serial": "VARCHAR",
    "odometer_km": "DOUBLE",
    "speed_kmh": "DOUBLE",
    "battery_charge_percent": "DOUBLE",
}
"""What is read of a message, and as what. A rule that does not know a column, or knows it as another kind, gives nulls."""

_SEEN = """
    SELECT coalesce(replace(nullif(_client_id, 'n/a'), ?, ''), serial) AS vehicle,
           count(*) AS messages, min(_ts) AS first_message, max(_ts) AS last_message,
           min(odometer_km) AS odometer_first_km, max(odometer_km) AS odometer_last_km,
           count(speed_kmh) AS speed_samples, avg(speed_kmh) AS speed_mean_kmh, max(speed_kmh) AS speed_max_kmh,
           min(battery_charge_percent) AS battery_min_percent, max(battery_charge_percent) AS battery_max_percent,
           arg_max(battery_charge_percent, _ts) AS battery_last_percent
    FROM messages GROUP BY ALL HAVING vehicle IS NOT NULL ORDER BY vehicle
"""

_ROLLED_UP = """
    SELECT vehicle, count(*) AS hours_seen, sum(messages) AS messages, min(first_message) AS first_message, max(last_message) AS last_message,
           max(odometer_last_km) - min(odometer_first_km) AS distance_km,
           sum(speed_mean_kmh * speed_samples) / nullif(sum(speed_samples), 0) AS speed_mean_kmh, max(speed_max_kmh) AS speed_max_kmh,
           min(battery_min_percent) AS battery_min_percent, max(battery_max_percent) AS battery_max_percent,
           arg_max(battery_last_percent, last_message) AS battery_last_percent
    FROM hours GROUP BY vehicle ORDER BY vehicle
"""


def hourly_table(store: Store) -> DerivedTable:
    """Return the table of vehicles seen each hour."""
    return DerivedTable(store, "vehicles_hourly", HOURLY)


def daily_table(store: Store) -> DerivedTable:
    """Return the table of what each vehicle did on each day."""
    return DerivedTable(store, "vehicles_daily", DAILY)


def seen(fleet: Fleet, lake: Lake, hour: Hour) -> Revised:
    """Return the vehicles seen in an hour on any rule, computed again if the lake has got more of the hour since."""

    def parts() -> list[Part]:
        return [part for rule in fleet.rules for part in lake.parts(rule, hour)]

    def vehicles(inputs: Sequence[Part]) -> pa.Table:
        with _database() as database:
            database.execute(f"CREATE TABLE messages ({', '.join(f'{name} {kind}' for name, kind in _FIELDS.items())})")
            for part in inputs:
                _take_over(database, opened(lake.store, part))
            return database.execute(_SEEN, [fleet.thing_prefix]).to_arrow_table()

    return hourly_table(lake.store).recompute(hour.path, parts, vehicles)


def rolled_up(store: Store, day: date) -> Revised:
    """Return what each vehicle did on a day (UTC), computed again if one of its hours has a new revision."""
    hourly = hourly_table(store)

    def revisions() -> list[Part]:
        return [last for hour in hours_of(day) if (last := hourly.last(hour.path))]

    def vehicles(inputs: Sequence[Part]) -> pa.Table:
        with _database() as database:
            database.register("hours", pa.concat_tables(opened(store, part, HOURLY).read() for part in inputs))
            return database.execute(_ROLLED_UP).to_arrow_table()

    return daily_table(store).recompute(f"date={day}", revisions, vehicles)


def hours_of(day: date) -> Iterator[Hour]:
    """Yield the 24 hours of a day, UTC."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return (Hour(midnight + timedelta(hours=hour)) for hour in range(24))


def _database() -> duckdb.DuckDBPyConnection:
    """Return an empty database in memory. Its time zone does not matter: instants are only compared."""
    return duckdb.connect(config={"threads": 2})


def _take_over(database: duckdb.DuckDBPyConnection, part: PartFile) -> None:
    stored = {name.replace(".", "_"): name for name in leaves(part.schema)}
    wanted = ", ".join(f'try_cast("{stored[name]}" AS {kind})' if name in stored else "NULL" for name, kind in _FIELDS.items())
    for batch in part.batches([stored[name] for name in _FIELDS if name in stored], BATCH_ROWS):
        database.register("batch", unfolded(batch))
        database.execute(f"INSERT INTO messages SELECT {wanted} FROM batch")  # noqa: S608 (the names are constants of this file)
