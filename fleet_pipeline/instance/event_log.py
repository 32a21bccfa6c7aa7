"""What Dagster's event log shows of some partitions, taken out of it: its events stay, by which it knows what there is.

Dagster has no call for this. Its events are JSON in tables of SQLAlchemy's, which a test holds us to.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import dagster as dg
from sqlalchemy import Connection, bindparam, text

from fleet_pipeline.instance.internals import SqlEventLogStorage

AT_ONCE = 500
"""Partitions that are asked for in one statement."""

_FIND = text("SELECT id, run_id, event FROM event_logs WHERE asset_key = :key AND partition IN :partitions").bindparams(
    bindparam("partitions", expanding=True)
)
_WRITE = text("UPDATE event_logs SET event = :event WHERE id = :id")
_FIND_LAST = text("SELECT id, last_materialization FROM asset_keys WHERE asset_key = :key")
_WRITE_LAST = text("UPDATE asset_keys SET last_materialization = :event WHERE id = :id")


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
