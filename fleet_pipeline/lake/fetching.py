"""The raw objects of one hour: which of them are its own, fetched ahead of whoever decodes them."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from fleet_pipeline.aws.store import ObjectVersion, Store
from fleet_pipeline.lake.listing import Listing
from fleet_pipeline.lake.memory import Used, blocks_of
from fleet_pipeline.lake.rows import BLOCK_ROWS, LARGEST
from fleet_pipeline.model.hour import Hour, Span
from fleet_pipeline.model.key_layout import EVER, clamped
from fleet_pipeline.model.rule import Rule

BLOCK_BYTES = 8 * 1024 * 1024
"""Bytes after which a block is closed, however few its versions."""

BLOCKS_OPEN = 4
"""Blocks of which some bodies have come. Further ones wait for a straggler."""

EXAMPLES = 10
"""Foreign keys that a report names."""


@dataclass
class RawHour:
    """The versions of an hour's raw objects, and what was counted while they were listed."""

    store: Store
    rule: Rule
    hour: Hour | Span
    listing: Listing | None = None
    """Its listing, where that has begun already."""
    versions: int = 0
    bytes: int = 0
    collisions: int = 0
    """Versions that are not the only one of their key."""
    foreign: int = 0
    """Versions of keys, between the hour's first and last, that are not of the form that a rule writes.

    They are not read.
    """
    foreign_examples: list[str] = field(default_factory=list)

    def blocks(self) -> Iterator[list[ObjectVersion]]:
        """Yield the hour's versions by blocks, in the order of their keys."""
        block: list[ObjectVersion] = []
        size = 0
        for version in self._own():
            block.append(version)
            size += version.size if version.size <= LARGEST else 0
            if len(block) == BLOCK_ROWS or size >= BLOCK_BYTES:
                yield block
                block, size = [], 0
        if block:
            yield block

    def share(self, version: ObjectVersion) -> float:
        """Return how far into the hour a version was received, from 0 to 1."""
        if self.rule.layout is not None and self.rule.layout.extent != "hour":
            return 0.0  # keys do not go with the time
        name = self.rule.raw_name(version.key, version.modified)
        within = (name.millis + 1 - self.hour.start_ms) / (self.hour.end_ms - self.hour.start_ms) if name else 0.0
        starts = self._listing.starts
        before = bisect_right(starts, version.key) - 1  # shards come one after the other
        return (before + within) / len(starts)

    @cached_property
    def _listing(self) -> Listing:
        return self.listing or Listing(self.store, self.rule, self.hour)

    def _own(self) -> Iterator[ObjectVersion]:
        if self.rule.has_lines:
            return  # its objects are batches
        last = ""
        for page in self._listing.pages():
            own, foreign = sorted_out(self.rule, self.hour, page)
            self.foreign += len(foreign)
            self.foreign_examples += foreign[: EXAMPLES - len(self.foreign_examples)]
            if own:
                self.versions += len(own)
                self.bytes += sum([version.size for version in own])
                self.collisions += len(own) - len({version.key for version in own}) + (own[0].key == last)
                last = own[-1].key
                yield from own


def sorted_out(rule: Rule, hour: Hour | Span, page: Sequence[ObjectVersion]) -> tuple[list[ObjectVersion], list[str]]:
    """Return those versions of a page that are an hour's, and the keys of another form. Of a layout, a key of another
    form is of the hour in which S3 took it: each is foreign in one hour alone.
    """
    if rule.layout is None:
        form = rule.raw_key_form
        own = [version for version in page if form.fullmatch(version.key)]
        others = page if len(own) < len(page) else ()
        return own, [version.key for version in others if not form.fullmatch(version.key)]
    at = hour if isinstance(hour, Hour) else Hour.of_millis(hour.start_ms)
    own, foreign = list[ObjectVersion](), list[str]()
    window = EVER if rule.inventory else rule.layout.window(at)
    for version in page:
        name = rule.raw_name(version.key, version.modified)
        if name is None:
            if hour.start_ms <= clamped(version.modified, window) < hour.end_ms:
                foreign.append(version.key)
        elif hour.start_ms <= name.millis < hour.end_ms:
            own.append(version)
    return own, foreign


def fetched(
    store: Store, blocks: Iterable[list[ObjectVersion]]
) -> Iterator[tuple[list[ObjectVersion], list[bytes | None]]]:
    """Yield blocks with their payloads, in their order, while those of the next are on their way.

    Too large a payload is None.

    A block that would be large once it is parsed comes in pieces.
    """
    used = Used()
    for done in _finished(store, blocks):
        for cut in blocks_of(done.payloads):
            yield done.versions[cut], done.payloads[cut]
        used.note(sum(len(payload) for payload in done.payloads if payload))


def _finished(store: Store, blocks: Iterable[list[ObjectVersion]]) -> Iterator["_Block"]:
    unfinished: deque[_Block] = deque()
    for place, body in store.bodies(_wanted(blocks, unfinished)):
        block = unfinished[0]
        if place >= block.stop:
            block = next(block for block in unfinished if place < block.stop)
        block.take(place, body)
        while unfinished and not unfinished[0].missing:
            yield unfinished.popleft()
    yield from unfinished  # in these, everything was too large


def _wanted(blocks: Iterable[list[ObjectVersion]], unfinished: "deque[_Block]") -> Iterator[ObjectVersion | None]:
    """Yield the versions to fetch and note their blocks; yield None, which is to wait, while too many blocks miss a
    straggler.
    """
    place = 0
    for versions in blocks:
        while len(unfinished) >= BLOCKS_OPEN and any(block.missing for block in unfinished):
            yield None
        block = _Block(versions, place)
        unfinished.append(block)
        place = block.stop
        for row in block.rows:
            yield versions[row]


class _Block:
    """Versions, and the bodies that have come."""

    def __init__(self, versions: list[ObjectVersion], start: int) -> None:
        self.versions = versions
        self.payloads: list[bytes | None] = [None] * len(versions)
        self.rows = [row for row, version in enumerate(versions) if version.size <= LARGEST]
        self.missing = len(self.rows)
        self.start, self.stop = start, start + len(self.rows)

    def take(self, place: int, body: bytes) -> None:
        """Note a body, by its place among all that are fetched."""
        self.payloads[self.rows[place - self.start]] = body
        self.missing -= 1
