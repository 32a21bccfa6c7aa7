"""What Dagster's event log shows of some partitions: taken out of it, where its events stay, by which it knows what
there is; and asked for, of many assets at once.

Dagster has no call for either. Its events are JSON in tables of SQLAlchemy's, which a test holds us to.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from sqlalchemy import Connection, DateTime, bindparam, text

from fleet_pipeline.instance.internals import SqlEventLogStorage

AT_ONCE = 500
"""Partitions, or assets, that are asked for in one statement."""

_PLANNED, _MADE = (
    dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value,
    dg.DagsterEventType.ASSET_MATERIALIZATION.value,
)
_LAST = (
    text(
        """SELECT log.id, log.asset_key, log.partition, log.dagster_event_type, log.run_id, log.timestamp
        FROM event_logs log JOIN asset_keys ON asset_keys.asset_key = log.asset_key
        WHERE log.id IN (
            SELECT MAX(id) FROM event_logs
            WHERE asset_key IN :keys AND dagster_event_type IN :kinds AND partition IN :partitions
            GROUP BY asset_key, dagster_event_type, partition
        ) AND (asset_keys.wipe_timestamp IS NULL OR log.timestamp > asset_keys.wipe_timestamp)"""
    )
    .bindparams(*(bindparam(name, expanding=True) for name in ("keys", "kinds", "partitions")))
    .columns(timestamp=DateTime)
)

_FIND = text("SELECT id, run_id, event FROM event_logs WHERE asset_key = :key AND partition IN :partitions").bindparams(
    bindparam("partitions", expanding=True)
)
_WRITE = text("UPDATE event_logs SET event = :event WHERE id = :id")
_FIND_LAST = text("SELECT id, last_materialization FROM asset_keys WHERE asset_key = :key")
_WRITE_LAST = text("UPDATE asset_keys SET last_materialization = :event WHERE id = :id")


@dataclass(frozen=True, slots=True)
class Last:
    """What was done last for a partition of an asset."""

    made: datetime | None = None
    """When it was materialized."""
    run: str | None = None
    """The run that has planned to materialize it since, whatever became of it."""


def last_of(
    instance: dg.DagsterInstance, assets: Sequence[dg.AssetKey], partitions: Sequence[str]
) -> dict[tuple[dg.AssetKey, str], Last] | None:
    """Return what was done last for some partitions of some assets, with one query for 500 assets.

    None where the event log is in no database of Dagster's own. Left out is a partition for which nothing was done, or
    nothing since its asset was wiped.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return None
    found: dict[tuple[dg.AssetKey, str], dict[str, Any]] = {}
    by_name = {key.to_string(): key for key in assets}
    for some in _stretches(sorted(by_name)) if partitions else ():
        asked = {"keys": some, "kinds": [_PLANNED, _MADE], "partitions": list(partitions)}
        with storage.index_connection() as connection:
            for row in connection.execute(_LAST, asked):
                found.setdefault((by_name[row.asset_key], row.partition), {})[row.dagster_event_type] = row
    return {at: _last(rows.get(_PLANNED), rows.get(_MADE)) for at, rows in found.items()}


def _last(planned: Any, made: Any) -> Last:
    return Last(
        made.timestamp.replace(tzinfo=UTC) if made else None,
        planned.run_id if planned and not (made and made.id > planned.id) else None,
    )


def forget(
    instance: dg.DagsterInstance, shown: Mapping[dg.AssetKey, Collection[str]], labels: Collection[str]
) -> int | None:
    """Return of how many events metadata of these names was taken out, among those of some partitions of some assets;
    None where the event log is in no database of Dagster's own, and nothing was done.

    The events themselves stay. A second time finds none.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return None
    count = 0
    for key, partitions in shown.items():
        runs: set[str] = set()
        with storage.index_connection() as connection:
            _wipe_what_is_overwritten(connection)
            count += _cleared(connection, key, partitions, labels, runs)
            _clear_last(connection, key, partitions, labels)
        for run in runs:  # on SQLite each run has a database of its own, beside the one of all
            with storage.run_connection(run) as connection:
                _wipe_what_is_overwritten(connection)
                _cleared(connection, key, partitions, labels, set())
    return count


def _wipe_what_is_overwritten(connection: Connection) -> None:
    """Have SQLite overwrite what it deletes, and keep none of it in its log."""
    if connection.dialect.name == "sqlite":
        connection.execute(text("PRAGMA secure_delete = ON"))


def _cleared(
    connection: Connection, key: dg.AssetKey, partitions: Collection[str], labels: Collection[str], runs: set[str]
) -> int:
    count = 0
    for some in _stretches(sorted(partitions)):
        for number, run, event in connection.execute(_FIND, {"key": key.to_string(), "partitions": some}).all():
            runs.add(run)
            said, changed = _without(json.loads(event), labels)
            if changed:
                connection.execute(_WRITE, {"event": json.dumps(said), "id": number})
                count += 1
    return count


def _clear_last(connection: Connection, key: dg.AssetKey, partitions: Collection[str], labels: Collection[str]) -> None:
    """The last materialization of an asset stands beside its name, too."""
    for number, event in connection.execute(_FIND_LAST, {"key": key.to_string()}).all():
        if event and any(json.dumps(each) in event for each in partitions):
            said, changed = _without(json.loads(event), labels)
            if changed:
                connection.execute(_WRITE_LAST, {"event": json.dumps(said), "id": number})


def _stretches(partitions: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(partitions), AT_ONCE):
        yield partitions[start : start + AT_ONCE]


def _without(node: Any, labels: Collection[str]) -> tuple[Any, bool]:
    """Return what JSON of Dagster's says without metadata of these names, and whether it had any."""
    if isinstance(node, list):
        kept = [each for each in node if not (isinstance(each, dict) and each.get("label") in labels)]
        made = [_without(each, labels) for each in kept]
        return [each for each, _ in made], len(kept) < len(node) or any(changed for _, changed in made)
    if isinstance(node, dict):
        found = {name: _without(each, labels) for name, each in node.items()}
        return {name: each for name, (each, _) in found.items()}, any(changed for _, changed in found.values())
    return node, False
