"""A vehicle's name, taken out of what Dagster keeps: texts of events and checks, errors, the config of runs, ticks,
what runs printed.

Dagster has no call for this. Its rows are JSON in tables of SQLAlchemy's, which a test holds us to. What Dagster knows
something by, such as keys of assets, partitions and its own tags, stays as it is.
"""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from fleet_pipeline.instance.internals import (
    LocalComputeLogManager,
    SqlEventLogStorage,
    SqliteEventLogStorage,
    SqlRunStorage,
    SqlScheduleStorage,
    printed_below,
)
from fleet_pipeline.model.spelt import Spelling

_SAID = frozenset(
    {
        "cursor",
        "description",
        "error",
        "error_info",
        "message",
        "metadata",
        "metadata_entries",
        "run_config",
        "skip_reason",
        "title",
        "user_failure_data",
        "user_message",
    }
)
"""What of Dagster's JSON is said to people, or was given by them: all below it is looked through."""

_OWN_TAGS = ("dagster/", ".dagster/")
"""Tags by which Dagster knows runs and events; they stay."""

WITHOUT_A_RUN = ""
"""The run of events that were reported without one."""

_EVENTS = {"event_logs": "event", "asset_keys": "last_materialization", "asset_check_executions": "evaluation_event"}
_RUNS = {"runs": "run_body", "run_tags": "value", "bulk_actions": "body", "backfill_tags": "value"}
_TICKS = {"job_ticks": "tick_body", "instigators": "instigator_body", "jobs": "job_body"}
_TAGS = frozenset({"run_tags", "backfill_tags"})

Connect = Callable[[], AbstractContextManager[Connection]]


@dataclass(slots=True)
class Taken:
    """What was taken out."""

    rows: int = 0
    """Of Dagster's tables."""
    files: int = 0
    """Of what runs printed."""
    printed_elsewhere: bool = False
    """Whether what runs printed lies where it was not looked for."""
    remains: bool = False
    """Whether SQLite could not be made to forget what was overwritten, because others were using it."""


def take_out(instance: dg.DagsterInstance, name: Spelling, labels: Collection[str]) -> Taken:
    """Return once no text that Dagster keeps has a name in it, in databases that are SQLAlchemy's and in what runs
    printed on this machine; metadata of some labels that has it goes whole.

    Rows, runs and events stay. A second time finds none. Of a name that is too short to be told from other words
    nothing is taken out.
    """
    taken = Taken()
    if name.is_too_short:
        return taken
    for connect, columns in _storages(instance, name):
        with connect() as connection:
            for table, column in columns.items():
                taken.rows += _of_table(connection, (table, column), name, labels)
        taken.remains |= not _forgotten(connect)
    _of_what_runs_printed(instance, name, taken)
    return taken


def _storages(instance: dg.DagsterInstance, name: Spelling) -> Iterator[tuple[Connect, dict[str, str]]]:
    """Yield how to connect to each database that may have the name, and where in it texts stand."""
    events, runs, ticks = instance.event_log_storage, instance.run_storage, instance.schedule_storage
    if isinstance(events, SqlEventLogStorage):
        yield events.index_connection, _EVENTS
    if isinstance(events, SqliteEventLogStorage):  # each run has a database of its own
        for run in {*events.get_all_run_ids(), WITHOUT_A_RUN}:
            if _may_have(Path(events.path_for_shard(run)), name):
                yield partial(events.run_connection, run), {"event_logs": "event"}
    if isinstance(runs, SqlRunStorage):
        yield runs.connect, _RUNS
    if isinstance(ticks, SqlScheduleStorage):
        yield ticks.connect, _TICKS


def _maybe(column: str) -> str:
    """Return a condition that each text with a name fulfils: it has the longest word of it, or an escape of a
    character that needs none.
    """
    return rf"{column} LIKE :word OR {column} LIKE '%\u00%' ESCAPE '!'"


def _asked(name: Spelling) -> dict[str, str]:
    return {"word": f"%{name.longest_word}%"}


def _may_have(path: Path, name: Spelling) -> bool:
    """Whether the database of a run may have a name; asked without Dagster, which looks at each one's version."""
    if not path.exists():
        return False
    with closing(sqlite3.connect(path)) as database:
        found = database.execute(
            f"SELECT 1 FROM event_logs WHERE {_maybe('event')} LIMIT 1",  # noqa: S608 (the names are ours)
            _asked(name),
        )
        return found.fetchone() is not None


def _of_table(connection: Connection, place: tuple[str, str], name: Spelling, labels: Collection[str]) -> int:
    if connection.dialect.name == "sqlite":
        connection.execute(text("PRAGMA secure_delete = ON"))
    (table, column), count = place, 0
    tag = "key" if table in _TAGS else "''"
    find = text(f"SELECT id FROM {table} WHERE {_maybe(column)}")  # noqa: S608 (the names are ours)
    read = text(f"SELECT {tag}, {column} FROM {table} WHERE id = :id")  # noqa: S608
    write = text(f"UPDATE {table} SET {column} = :after WHERE id = :id AND {column} = :before")  # noqa: S608
    for (number,) in connection.execute(find, _asked(name)).all():
        for key, before in connection.execute(read, {"id": number}).all():
            after = _taken(table, key, before, name, labels)
            if after != before:  # of what another has changed meanwhile its change stays
                count += connection.execute(write, {"after": after, "before": before, "id": number}).rowcount
    return count


def _taken(table: str, key: str, said: str, name: Spelling, labels: Collection[str]) -> str:
    if table in _TAGS:
        return said if key.startswith(_OWN_TAGS) else name.taken_out_of(said)
    return _rewritten(said, name, labels)


def _rewritten(said: str, name: Spelling, labels: Collection[str]) -> str:
    node = json.loads(said)
    made = _without(node, name, labels, said_here=False)
    return said if made == node else json.dumps(made)


def _without(node: Any, name: Spelling, labels: Collection[str], *, said_here: bool) -> Any:
    """Return JSON of Dagster's without a name, where something is said in it."""
    if isinstance(node, str):
        return name.taken_out_of(node) if said_here else node
    if isinstance(node, list):
        return [_without(each, name, labels, said_here=said_here) for each in node if not _goes(each, name, labels)]
    if isinstance(node, dict):
        return {
            key: _tags(each, name)
            if key == "tags" and isinstance(each, dict)
            else _without(each, name, labels, said_here=key != "__class__" and (said_here or key in _SAID))
            for key, each in node.items()
            if not (key in labels and name.stands_in(json.dumps(each)))
        }
    return node


def _goes(node: Any, name: Spelling, labels: Collection[str]) -> bool:
    """Whether metadata goes whole, with what stands beside the name in it."""
    return isinstance(node, dict) and node.get("label") in labels and name.stands_in(json.dumps(node))


def _tags(tags: dict[str, Any], name: Spelling) -> dict[str, Any]:
    return {
        key: name.taken_out_of(value) if isinstance(value, str) and not key.startswith(_OWN_TAGS) else value
        for key, value in tags.items()
    }


def _forgotten(connect: Connect) -> bool:
    """Return whether SQLite has nothing of what was overwritten any more, neither in free pages nor in its log."""
    with connect() as connection:
        if connection.dialect.name != "sqlite":
            return True
        try:
            connection.exec_driver_sql("VACUUM")
            busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar()
        except OperationalError:  # another holds it for longer than Dagster waits
            return False
        return not busy


def _of_what_runs_printed(instance: dg.DagsterInstance, name: Spelling, taken: Taken) -> None:
    manager = instance.compute_log_manager
    if not isinstance(manager, LocalComputeLogManager):
        taken.printed_elsewhere = True
        return
    for path in printed_below(manager).rglob("*"):
        if path.is_file() and not path.is_symlink():
            before = path.read_bytes()
            after = name.covered_in(before)
            if after != before:
                with path.open("r+b") as file:  # in its place: whoever follows it counts its bytes
                    file.write(after)
                taken.files += 1
