"""Many hours: what compacting them would read, write and cost; and compacting them, over as many processes as there are cores."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace

from fleet_pipeline.aws import Aws
from fleet_pipeline.compaction.hour import Compacted, compact_hour
from fleet_pipeline.compaction.lake import Lake
from fleet_pipeline.compaction.parts import Identities, opened
from fleet_pipeline.compaction.raw import RawHour
from fleet_pipeline.errors import FleetError
from fleet_pipeline.fleet import Form, Hour, Rule
from fleet_pipeline.store import S3Store, Store

GET_USD, WRITE_USD = 0.0004 / 1000, 0.005 / 1000
"""Price of a GET, and of a LIST or PUT, in S3 Standard in us-east-1; other regions ask up to half as much again. Source: S3's price list."""


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

    @property
    def usd(self) -> float:
        """About what S3 would ask for the requests, at `GET_USD` and `WRITE_USD`."""
        return self.missing * GET_USD + (self.list_requests + self.put_requests) * WRITE_USD


def forecast_hour(raw: Store, lake: Lake, rule: Rule, hour: Hour) -> Forecast:
    """Return what `compact_hour` would do now. Lists the raw objects and reads the identities that the lake holds, and no message."""
    asked = raw.requests["LIST"] + lake.store.requests["LIST"]
    known = Identities()
    for part in lake.parts(rule, hour):
        known.add(opened(lake.store, part).read(["_key", "_version"]))
    listed = RawHour(raw, rule, hour)
    missing = missing_bytes = 0
    for versions in listed.blocks():
        new = known.missing(versions)
        missing, missing_bytes = missing + len(new), missing_bytes + sum(version.size for version in new)
    lists = raw.requests["LIST"] + lake.store.requests["LIST"] - asked
    return Forecast(listed.versions, listed.bytes, listed.foreign, known.rows, missing, missing_bytes, lists)


@dataclass(frozen=True)
class Compaction:
    """The compaction of one rule's hours, as a process of its own can be told to do it."""

    aws: Aws
    bucket: str
    lake_bucket: str
    prefix: str
    rule: Rule
    form: Form = Form()

    @property
    def raw(self) -> Store:
        """The bucket of raw objects."""
        return S3Store(self.aws, self.bucket)

    @property
    def lake(self) -> Lake:
        """The generation of the table that readers use."""
        return Lake.current(S3Store(self.aws, self.lake_bucket), self.prefix, self.form)

    def run(self, hour: Hour) -> Compacted:
        """Compact an hour."""
        return compact_hour(self.raw, self.lake, self.rule, hour)


def compact_hours(compaction: Compaction, hours: Sequence[Hour], *, processes: int | None = None) -> Iterator[tuple[Hour, Compacted | FleetError]]:
    """Yield every hour with what was done, as they are finished: several at once, by as many processes as there are cores.

    An hour that fails holds up no other; its error stands in its place. Stopped, the finished hours are finished.
    """
    job = replace(compaction, aws=replace(compaction.aws))  # a fresh copy: a session that was used cannot be sent to another process
    with ProcessPoolExecutor(processes or os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        asked = {pool.submit(_outcome, job, hour): hour for hour in hours}
        for done in as_completed(asked):
            yield asked[done], done.result()


def _outcome(compaction: Compaction, hour: Hour) -> Compacted | FleetError:
    try:
        return compaction.run(hour)
    except FleetError as error:
        return error
