"""Compaction of one hour: every version of every raw object becomes exactly one row of the lake, whatever happens meanwhile."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import pyarrow as pa

from fleet_pipeline import __version__
from fleet_pipeline.compaction.contract import Contract
from fleet_pipeline.compaction.lake import Lake, Part
from fleet_pipeline.compaction.parts import Identities, Spool, opened, write
from fleet_pipeline.compaction.payload import Status
from fleet_pipeline.compaction.raw import RawHour, fetched
from fleet_pipeline.compaction.rows import block, conformed, row_schema
from fleet_pipeline.fleet import Hour, Rule
from fleet_pipeline.store import Store

PART_ROWS = 1_048_576
"""Rows after which a part is closed. Bounds the disk that an hour needs, to about 1 GB at 300 bytes a message."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the compaction of an hour has come."""

    objects: int
    seconds: float
    share: float
    """Of the hour's sixty minutes: how many objects there are is known when the last is listed."""

    @property
    def objects_per_s(self) -> float:
        """Objects read in a second, so far."""
        return self.objects / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float:
        """Seconds still to go, should the rest of the hour be as busy."""
        return self.seconds * (1 - self.share) / self.share if self.share else 0.0


@dataclass(frozen=True, slots=True)
class Compacted:
    """What the lake holds of an hour now, and what it took."""

    raw_versions: int
    """Versions of raw objects in the hour: as many rows must be there."""
    raw_bytes: int
    recovered_collisions: int
    """Versions that a later message of the same key had hidden."""
    foreign_keys: int
    """Versions of keys, among the hour's, that no rule would have written. They are not read."""
    foreign_examples: tuple[str, ...]
    rows_before: int
    rows_added: int
    rows: int
    statuses: dict[str, int]
    """The added rows by what became of the message."""
    parts_added: tuple[str, ...]
    parquet_bytes: int
    """Size of the added parts."""
    schema: pa.Schema
    """The typed columns of the rule."""
    get_requests: int
    list_requests: int
    put_requests: int
    seconds: float

    @property
    def quarantined(self) -> int:
        """Added rows without typed columns, because the message could not be read."""
        return sum(count for status, count in self.statuses.items() if not Status(status).readable)

    @property
    def complete(self) -> bool:
        """Whether every version has its row. More rows than versions means that raw objects were purged."""
        return self.rows >= self.raw_versions


def compact_hour(raw: Store, lake: Lake, rule: Rule, hour: Hour, *, on_progress: Callable[[Progress], None] = lambda _: None) -> Compacted:
    """Return once every version of the hour's raw objects is a row of the lake.

    A second run adds nothing and writes nothing. Messages that came late are added as one more part. Two runs at once add every row once.
    An empty hour writes nothing. Stopped at any moment, the lake is as it was or has whole parts more, and the next run adds the rest.

    Raises PartsMissing when the lake's parts have a gap, AwsUnavailable when S3 gave no answer for long, AwsRefused when it said no.
    """
    with TemporaryDirectory(prefix="fleet-") as folder:
        run = _Run(raw, lake, rule, hour, Path(folder))
        run.compact(on_progress)
        return run.report()


class Slots(Protocol):
    """The parts of an hour, as `append` sees them."""

    def put(self, number: int) -> bool:
        """Write what is pending as this part, if the number is free."""
        ...

    def look(self) -> int:
        """Leave out of what is pending every row of parts not seen so far; return how many parts there are."""
        ...

    @property
    def pending(self) -> int:
        """Rows that no seen part holds."""
        ...


def append(slots: Slots, seen: int) -> int:
    """Add what is pending as the next part after those that were seen, and return how many parts were seen then.

    A taken number means that a rival was faster, or that an earlier try of ours arrived and its answer was lost: look again, in both cases.
    """
    while slots.pending:
        if slots.put(seen):
            return seen + 1
        seen = slots.look()
    return seen


@dataclass
class _Run:
    """One compaction: what it has seen, and what it has added."""

    raw: Store
    lake: Lake
    rule: Rule
    hour: Hour
    folder: Path
    known: Identities = field(default_factory=Identities)
    learnt: Contract = field(default_factory=Contract)
    statuses: Counter[str] = field(default_factory=Counter)
    added: list[Part] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.started = time.monotonic()
        self.listed = RawHour(self.raw, self.rule, self.hour)
        self.asked_before = self.raw.requests + self.lake.store.requests
        self.learnt = self.lake.contract(self.rule)
        self.spool = Spool(self.folder / "spool")
        self.look()
        self.rows_before = self.known.rows

    def compact(self, on_progress: Callable[[Progress], None]) -> None:
        read = 0
        missing = (self.known.missing(versions) for versions in self.listed.blocks())
        for versions, payloads in fetched(self.raw, (versions for versions in missing if versions)):
            made, self.learnt = block(self.rule, versions, payloads, self.learnt)
            self.spool.add(made)
            read += len(versions)
            on_progress(Progress(read, time.monotonic() - self.started, self.listed.share(versions[-1])))
            if self.spool.rows >= PART_ROWS:
                self.commit()
        self.commit()

    def commit(self) -> None:
        append(self, self.known.parts)
        self.spool = Spool(self.folder / "spool")

    @property
    def pending(self) -> int:
        return self.spool.rows

    def put(self, number: int) -> bool:
        self.learnt = self.lake.record(self.rule, self.learnt)
        file, key = self.folder / "part.parquet", self.lake.part_key(self.rule, self.hour, number)
        facts = {"writer": f"fleet-pipeline {__version__}", "rule": self.rule.key, "hour": self.hour.partition_key, "contract": self.learnt.number}
        written = write(file, (conformed(made, self.learnt) for made in self.spool), row_schema(self.learnt), facts)
        if not self.lake.store.put_new(key, file):
            return False
        part = Part(key, file.stat().st_size)
        self.lake.check(part, file)
        self.added.append(part)
        self.known.add(written.identities)
        self.statuses += written.statuses
        return True

    def look(self) -> int:
        parts = self.lake.parts(self.rule, self.hour)
        for part in parts[self.known.parts :]:
            self.known.add(opened(self.lake.store, part).read(["_key", "_version"]))
        self.spool.drop(self.known)
        return len(parts)

    def report(self) -> Compacted:
        asked = self.raw.requests + self.lake.store.requests
        asked.subtract(self.asked_before)
        return Compacted(
            raw_versions=self.listed.versions,
            raw_bytes=self.listed.bytes,
            recovered_collisions=self.listed.collisions,
            foreign_keys=self.listed.foreign,
            foreign_examples=tuple(self.listed.foreign_examples),
            rows_before=self.rows_before,
            rows_added=sum(self.statuses.values()),
            rows=self.known.rows,
            statuses=dict(sorted(self.statuses.items())),
            parts_added=tuple(part.key for part in self.added),
            parquet_bytes=sum(part.size for part in self.added),
            schema=self.learnt.schema,
            get_requests=asked["GET"],
            list_requests=asked["LIST"],
            put_requests=asked["PUT"],
            seconds=time.monotonic() - self.started,
        )
