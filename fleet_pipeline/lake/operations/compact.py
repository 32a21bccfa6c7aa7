"""Many hours: what compacting them would read, write and cost; and compacting them, over as many processes as there are
cores.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing.queues import Queue
from queue import Empty
from threading import Thread
from typing import TypeAlias

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.aws.store import S3Store, Store
from fleet_pipeline.lake.containment import contained
from fleet_pipeline.lake.fetching import RawHour
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import Compacted, Progress, compact_hour
from fleet_pipeline.lake.reading import Identities, opened
from fleet_pipeline.model.errors import FleetError, ProcessLost
from fleet_pipeline.model.fleet import NEW_COLUMN_MESSAGES
from fleet_pipeline.model.form import Form
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule

TELL_EVERY = 0.5
"""Seconds between two looks at how far the processes are."""

_Reports: TypeAlias = "Queue[tuple[Hour, Progress]]"


@dataclass(frozen=True, slots=True)
class Forecast:
    """What compacting an hour would do."""

    raw_versions: int
    raw_bytes: int
    foreign_keys: int
    rows: int
    """Rows that the lake holds already."""
    missing: int
    """Versions that would be read and become rows: one GET each."""
    missing_bytes: int
    list_requests: int

    @property
    def put_requests(self) -> int:
        """Parts that would be written, at most one for some hours and none for a finished one."""
        return 1 if self.missing else 0


def forecast_hour(raw: Store, lake: Lake, rule: Rule, hour: Hour) -> Forecast:
    """Return what `compact_hour` would do now.

    Lists the raw objects and reads the identities that the lake holds, and no message.
    """
    asked = raw.requests["LIST"] + lake.store.requests["LIST"]
    known = Identities()
    for part in lake.parts(rule, hour):
        known.add(opened(lake.store, part))
    listed = RawHour(raw, rule, hour)
    missing = missing_bytes = 0
    for versions in listed.blocks():
        new = known.missing(versions)
        missing, missing_bytes = missing + len(new), missing_bytes + sum(version.size for version in new)
    lists = raw.requests["LIST"] + lake.store.requests["LIST"] - asked
    return Forecast(listed.versions, listed.bytes, listed.foreign, known.rows, missing, missing_bytes, lists)


@dataclass(frozen=True)
class Compaction:
    """The compaction of one rule's hours, as a process of its own can be given it."""

    aws: Aws
    bucket: str
    lake_bucket: str
    prefix: str
    rule: Rule
    form: Form = Form()
    new_column_messages: int = NEW_COLUMN_MESSAGES

    @property
    def raw(self) -> Store:
        """The bucket of raw objects."""
        return S3Store(self.aws, self.bucket)

    @property
    def lake(self) -> Lake:
        """The generation of the table that readers use, in a bucket that overwrites nothing unasked."""
        store = S3Store(self.aws, self.lake_bucket)
        store.prove()
        return Lake.current(store, self.prefix, self.form, self.new_column_messages)

    def run(self, hour: Hour, on_progress: Callable[[Progress], None]) -> Compacted:
        """Compact an hour."""
        return compact_hour(self.raw, self.lake, self.rule, hour, on_progress=on_progress)


def compact_hours(
    compaction: Compaction,
    hours: Iterable[Hour],
    *,
    processes: int | None = None,
    on_progress: Callable[[Hour, Progress], None] = lambda *_: None,
) -> Iterator[tuple[Hour, Compacted | FleetError]]:
    """Yield every hour with what was done, as they are finished: several at once, by as many processes as there are
    cores.

    An hour that fails holds up no other; its error stands in its place. Stopped, the finished hours are finished and no
    other is begun. Raises ProcessLost when one of the processes was killed. They end by themselves when this one is.
    """
    job = replace(
        compaction, aws=replace(compaction.aws)
    )  # a fresh copy: a session that was used cannot be sent to another process
    processes, spawn = processes or os.cpu_count() or 1, multiprocessing.get_context("spawn")
    reports: _Reports = spawn.Queue()
    waiting, asked = iter(hours), dict[Future[Compacted | FleetError], Hour]()
    with ProcessPoolExecutor(processes, spawn, _begin, (reports, job)) as pool:
        try:
            while asked := asked | {
                pool.submit(_outcome, hour): hour for hour in islice(waiting, 2 * processes - len(asked))
            }:
                done, _ = wait(asked, TELL_EVERY, FIRST_COMPLETED)
                for hour, progress in _received(reports):
                    if hour in asked.values():  # and not done meanwhile
                        on_progress(hour, progress)
                for each in done:
                    yield asked[each], each.result()
                    del asked[each]
        except BrokenProcessPool as error:
            raise ProcessLost(tuple(sorted(hour.partition_key for hour in asked.values()))) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _received(reports: _Reports) -> Iterator[tuple[Hour, Progress]]:
    with suppress(Empty):
        while True:
            yield reports.get_nowait()


_reports: _Reports
"""In a process that compacts: where it tells how far it is."""

_compaction: Compaction
"""In a process that compacts: what it does to each hour.

One for all of them, so that they share a session and its credentials.
"""


def _begin(reports: _Reports, compaction: Compaction) -> None:
    global _reports, _compaction
    _reports, _compaction = reports, compaction
    reports.cancel_join_thread()  # what nobody hears any more does not keep a process from its end
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the one that began it was killed: nobody would take what it finds, or give
    it more to do.
    """
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _outcome(hour: Hour) -> Compacted | FleetError:
    try:
        with contained(f"{_compaction.rule.key} {hour.partition_key}"):
            return _compaction.run(hour, lambda progress: _reports.put((hour, progress)))
    except FleetError as error:
        return error
