"""Compaction of one hour: every version of every raw object becomes exactly one row of the lake, whatever happens
meanwhile.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pyarrow as pa

from fleet_pipeline.aws.store import ObjectVersion, Store
from fleet_pipeline.lake.batches import BatchHour
from fleet_pipeline.lake.commit import Appending, ErasureBegun, GenerationBegun
from fleet_pipeline.lake.fetching import EXAMPLES, RawHour, fetched
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.listing import Listing
from fleet_pipeline.lake.memory import blocks_of, garbage_seldom_sought
from fleet_pipeline.lake.payload import Status
from fleet_pipeline.lake.reading import Identities, opened
from fleet_pipeline.lake.rows import ORIGINS, blocks, typed_again
from fleet_pipeline.lake.tombstones import Tombstones
from fleet_pipeline.lake.workplace import workplace
from fleet_pipeline.model.errors import AwsUnavailable
from fleet_pipeline.model.hour import Hour, Span
from fleet_pipeline.model.rule import Rule

CHANGED = {"NoSuchKey", "NoSuchVersion", "PreconditionFailed"}
"""What S3 says of a version that was there when an inventory was made, and is not what is there now."""


@dataclass(frozen=True, slots=True, order=True)
class Unit:
    """What is compacted by itself: an hour, or a span of a long one."""

    hour: Hour
    span: Span | None = None

    def __str__(self) -> str:
        if self.span is None:
            return self.hour.partition_key
        shards = f" {','.join(each or '-' for each in self.span.shards)}" if self.span.shards else ""
        return f"{self.hour.partition_key} {self.span.start_ms} {self.span.end_ms}{shards}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the unit that a text names; the inverse of `str`."""
        hour, *span = text.split(" ")
        if not span:
            return cls(Hour.parse(hour))
        start, end, *shards = span
        names = tuple(each.strip("-") for each in shards[0].split(",")) if shards else ()
        return cls(Hour.parse(hour), Span(int(start), int(end), names))


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
    """Versions of raw objects in the hour, and messages in batch objects, each counted once: so many must be held."""
    raw_bytes: int
    recovered_collisions: int
    """Versions that a later message of the same key had hidden."""
    foreign_keys: int
    """Versions of keys, among the hour's, that no rule would have written. They are not read."""
    foreign_examples: tuple[str, ...]
    held: int
    """Versions of which the hour has a row, raw objects that were purged since among them."""
    rows_before: int
    rows_added: int
    rows: int
    """As many as there are versions, or more where arrays are unrolled."""
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
    erased: int = 0
    """Versions that came of vehicles that were erased: they became no rows."""
    batches: int = 0
    """Batch objects that were read."""
    doubled: int = 0
    """Records of batches beyond the first of a message, also of those that were read before."""
    damaged: tuple[str, ...] = ()
    """What is wrong with batches that could not be read to their end. Each has a row with the status `no_record`."""
    strays: dict[str, int] = field(default_factory=dict)
    """Batches with messages of hours in which nobody would have looked for them, by the hours. It is noted there."""

    @property
    def quarantined(self) -> int:
        """Added rows without typed columns, because the message could not be read."""
        return sum(count for status, count in self.statuses.items() if not Status(status).readable)

    @property
    def complete(self) -> bool:
        """Whether every version has its row, but for those of erased vehicles. More held than listed means that raw
        objects were purged.
        """
        return self.held + self.erased >= self.raw_versions


def compact_hour(  # noqa: PLR0913 (what, where, and how much of it)
    raw: Store,
    lake: Lake,
    rule: Rule,
    hour: Hour,
    *,
    span: Span | None = None,
    listing: Listing | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Compacted:
    """Return once every version of the hour's raw objects is a row of the lake; with a span, every version within it.
    `listing` is the hour's where that has begun already.

    A second run adds nothing and writes nothing. Messages that came late are added as one more part. Two runs at once
    add every row once. An empty hour writes nothing. Stopped at any moment, the lake is as it was or has whole parts
    more, and the next run adds the rest. While a new generation is being written, or when readers have switched to one
    meanwhile, the added messages are rows there, too. Messages of erased vehicles become no rows, and are counted.

    Where something that an inventory names is gone, or was overwritten, the hour is done by a listing of the bucket.

    Raises PartsMissing when the lake's parts have a gap, AwsUnavailable when S3 gave no answer for long, AwsRefused
    when it said no.
    """
    if rule.inventory:
        try:
            return _compacted(raw, lake, rule, hour, span=span, listing=listing, on_progress=on_progress)
        except AwsUnavailable as error:
            if error.code not in CHANGED:
                raise
        listing = None  # it is the inventory's
    return _compacted(raw, lake, rule.by_listing, hour, span=span, listing=listing, on_progress=on_progress)


def _compacted(  # noqa: PLR0913 (as compact_hour)
    raw: Store,
    lake: Lake,
    rule: Rule,
    hour: Hour,
    *,
    span: Span | None,
    listing: Listing | None,
    on_progress: Callable[[Progress], None],
) -> Compacted:
    while True:
        coming = lake.coming()
        if coming:
            # It does the same for those after it: each of them once.
            compact_hour(raw, coming[0], rule, hour, span=span, listing=listing)
        with suppress(GenerationBegun, ErasureBegun), workplace() as folder, garbage_seldom_sought:
            run = _Run(raw, lake, rule, hour, folder, coming, span, listing)
            run.compact(on_progress)
            run.note_batches()
            report = run.report()
            if not report.rows_added or lake.coming() == coming:
                return report


@dataclass
class _Run:
    """One compaction: what it reads, and where that goes."""

    raw: Store
    lake: Lake
    rule: Rule
    hour: Hour
    folder: Path
    coming: list[Lake]
    """Generations that are being written beside this one.

    Of a message that the last of them lacks, no row is added: readers will switch to it.
    """
    span: Span | None = None
    """What of the hour is read; all of it without one."""
    listing: Listing | None = None

    def __post_init__(self) -> None:
        self.started = time.monotonic()
        self.asked_before = self.raw.requests + self.lake.store.requests
        self.listed = RawHour(self.raw, self.rule, self.span or self.hour, self.listing)
        contract = self.lake.contract(self.rule)
        self.into = Appending(
            self.lake, self.rule, self.hour, self.folder, contract, self.coming, beside=self.span is not None
        )
        self.rows_before = self.into.known.rows
        self.erased = 0
        # Batches are not cut: who has the hour's first span has them all.
        looks = self.span is None or self.span.is_first(self.hour)
        looks = looks and (self.listing is None or self.listing.may_have_batches)
        self.batches = BatchHour(self.raw, self.lake, self.rule, self.hour, writes=True, looks=looks)
        self.unread = self.batches.unread
        self.repeated = self.erased_of_batches = 0
        later = self.batches.noted_later(self.into.seen) if self.unread and self.batches.is_repeated else []
        self.not_noted = Identities.of(opened(self.lake.store, part) for part in later)

    def compact(self, on_progress: Callable[[Progress], None]) -> None:
        read = 0
        there = [self._held_by(other) for other in self.coming[-1:]]
        missing = (self.into.known.missing(_held(there, versions)) for versions in self.listed.blocks())
        for versions, payloads in fetched(self.raw, (versions for versions in missing if versions)):
            read, last = read + len(versions), versions[-1]
            for made in blocks(self.rule, *self._remaining(versions, payloads), self.into.contract):
                self.into.add(made)
            on_progress(Progress(read, time.monotonic() - self.started, self.listed.share(last)))
        self.into.commit()
        if self.unread:
            self._compact_batches(read, there, on_progress)

    def _compact_batches(self, read: int, there: list[Identities], on_progress: Callable[[Progress], None]) -> None:
        """Add the messages of batches, as a part of their own: they lie in the order of their keys, as others do."""
        messages = 0
        for block in self.batches.tables(self.unread, self.folder):
            messages += block.num_rows
            rows = self.into.known.without(_held_rows(there, block))
            self.repeated += self.not_noted.without(block).num_rows - rows.num_rows
            staying = self.into.erased.of_rows(rows)
            self.erased_of_batches += rows.num_rows - staying.num_rows
            payloads = staying["_payload"].to_pylist()
            for cut in blocks_of(payloads) if payloads else ():
                origins = [staying[name].combine_chunks()[cut] for name in ORIGINS]
                for made in typed_again(origins, payloads[cut], self.into.contract):
                    self.into.add(made)
            share = (block["_ts"][-1].value - self.hour.start_ms) / (self.hour.end_ms - self.hour.start_ms)
            on_progress(Progress(read + messages, time.monotonic() - self.started, share))
        self.into.commit()

    def note_batches(self) -> None:
        """Have it known which batches need not be read again for this hour."""
        repeated = self.repeated if self.batches.is_repeated else 0  # else a run was stopped before it could note
        doubled, messages = self.batches.doubled + repeated, self.batches.messages - repeated - self.erased_of_batches
        self.batches.note(self.unread, messages, doubled, self.into.last)

    def _remaining(
        self, versions: list[ObjectVersion], payloads: list[bytes | None]
    ) -> tuple[list[ObjectVersion], list[bytes | None]]:
        """Return messages without those of erased vehicles."""
        if not self.into.erased:
            return versions, payloads
        found = remaining(self.into.erased, self.rule, versions, payloads)
        self.erased += len(versions) - len(found)
        return [version for version, _ in found], [payload for _, payload in found]

    def _held_by(self, other: Lake) -> Identities:
        return Identities.of(opened(other.store, part) for part in other.parts(self.rule, self.hour))

    def report(self) -> Compacted:
        asked = self.raw.requests + self.lake.store.requests
        asked.subtract(self.asked_before)
        return Compacted(
            raw_versions=self.listed.versions + self.batches.noted_messages + self.erased_of_batches,
            raw_bytes=self.listed.bytes + self.batches.bytes,
            recovered_collisions=self.listed.collisions,
            foreign_keys=self.listed.foreign + len(self.batches.foreign),
            foreign_examples=tuple([*self.listed.foreign_examples, *self.batches.foreign][:EXAMPLES]),
            held=self.into.known.versions,
            rows_before=self.rows_before,
            rows_added=self.into.statuses.total(),
            rows=self.into.known.rows,
            statuses=dict(sorted(self.into.statuses.items())),
            parts_added=tuple(part.key for part in self.into.added),
            parquet_bytes=sum(part.size for part in self.into.added),
            schema=self.into.contract.schema,
            get_requests=asked["GET"],
            list_requests=asked["LIST"],
            put_requests=asked["PUT"],
            seconds=time.monotonic() - self.started,
            erased=self.erased + self.erased_of_batches + self.batches.noted_erased,
            batches=len(self.unread),
            doubled=self.batches.noted_doubles,
            damaged=tuple(self.batches.damaged),
            strays=dict(self.batches.strays),
        )


def remaining(
    erased: Tombstones, rule: Rule, versions: Sequence[ObjectVersion], payloads: Sequence[bytes | None]
) -> list[tuple[ObjectVersion, bytes | None]]:
    """Return the messages of which something stays without what erased vehicles sent, with the bytes that stay."""
    found = []
    for version, payload in zip(versions, payloads, strict=True):
        name = rule.raw_name(version.key, version.modified)
        stays, rest = erased.remains(name.client_id if name else None, payload, name.millis if name else 0)
        found += [(version, rest)] if stays else []
    return found


def _held(there: list[Identities], versions: list[ObjectVersion]) -> list[ObjectVersion]:
    """Return those of some versions that each of some generations holds."""
    for known in there:
        lacking = {(version.key, version.id) for version in known.missing(versions)}
        versions = [version for version in versions if (version.key, version.id) not in lacking]
    return versions


def _held_rows(there: list[Identities], rows: pa.Table) -> pa.Table:
    """Return those of some rows that each of some generations holds."""
    for known in there:
        lacking = known.without(rows)
        if lacking.num_rows:
            pairs = set(zip(lacking["_key"].to_pylist(), lacking["_version"].to_pylist(), strict=True))
            every = zip(rows["_key"].to_pylist(), rows["_version"].to_pylist(), strict=True)
            rows = rows.filter(pa.array([pair not in pairs for pair in every], pa.bool_()))
    return rows
