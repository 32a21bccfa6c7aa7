"""What each column of our tables is, where Dagster shows them."""

from collections.abc import Mapping

import dagster as dg

from fleet_pipeline.model.plain import plain

MEANINGS = {
    "_key": "key of the raw object in which the message lay",
    "_ts": "receipt by AWS IoT, to the millisecond, UTC",
    "_topic": "topic on which it was published",
    "_client_id": "client id of who published it, where the raw key tells",
    "_version": "stands for the version of the raw object; key and version identify a row",
    "_status": "what became of the message: ok, partial, malformed, …",
    "_payload": "the message's bytes as they came",
    "_extra": "the part of the message that no column holds, as JSON",
    "rule": "partition: the rule's key",
    "date": "partition: day of receipt, UTC",
    "hour": "partition: hour of receipt, UTC",
}
"""Our own columns of a rule's table; every other is a field of the message."""

OF_VEHICLES = {
    "vehicle": "the vehicle, by its client id or the field that names it",
    "messages": "messages of the vehicle that could be read",
    "hours_seen": "hours of the day with a message of the vehicle",
    "first_message": "receipt of the first, UTC",
    "last_message": "receipt of the last, UTC",
    "distance_km": "what the odometer gained between the day's first message and its last",
    "odometer_first_km": "the lowest value of the odometer",
    "odometer_last_km": "the highest value of the odometer",
    "speed_samples": "messages that told a speed",
    "speed_mean_kmh": "mean of the speeds told",
    "speed_max_kmh": "highest speed told",
    "battery_min_percent": "lowest charge told",
    "battery_max_percent": "highest charge told",
    "battery_last_percent": "charge told last",
}
"""Columns of the tables about vehicles."""


def described(kinds: Mapping[str, str], meanings: Mapping[str, str] = MEANINGS) -> dg.TableSchema:
    """Return the columns of a table, each with its kind and what it is. A message chose the names of its fields."""
    return dg.TableSchema(
        [
            dg.TableColumn(plain(name), kind, meanings.get(name, "a field of the message"))
            for name, kind in kinds.items()
        ]
    )
