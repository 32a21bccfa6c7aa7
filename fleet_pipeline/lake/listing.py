"""An hour's raw objects, listed ahead of whoever reads them: a long hour in ranges of time side by side, because S3
takes 0.1 s and more for each page.

Keys begin with milliseconds of a fixed number of digits, so any range of time is a range of keys that can be listed
by itself. Where a rule has shards, that is so within each.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from typing import Self

from fleet_pipeline.aws.store import ObjectVersion, Store
from fleet_pipeline.lake import inventory
from fleet_pipeline.model.hour import Hour, Span
from fleet_pipeline.model.key_layout import KeyLayout
from fleet_pipeline.model.rule import Rule

PAGES = 5
"""Pages of a range, and pages that are fetched before they are needed.

Half of a range's last page is in vain: 10 % of all.
"""

FAR_FROM_LONG = 10
"""How many times shorter than a span an hour must be, by its first pages, to be taken for short without a further look.
If it is longer after all, it is one unit: only slower.
"""

PROBE = 2
"""Pages that say how full an hour is. Most hours have no more."""

SHORT_BYTES = 8_000_000
"""Bytes of a short hour's objects at most."""

LISTERS = 4
"""Stretches that are listed at once: 27,000 keys a second where a page takes 150 ms, three times as many as are then
fetched.
"""

GROWTH = 4
"""Times by which a range may be longer than the ones before, when these held little."""

SPAN_VERSIONS = 500_000
"""Versions of a span: some 20 CPU seconds, and a part or two."""

SAMPLES = 8
"""Places of an hour at which a page says how full it is there."""

FIRST_SAMPLES = (SAMPLES // 2, SAMPLES - 1)
"""Those that are asked first: where they are quiet, too, the hour is taken for short."""

QUIET = 4
"""How many times shorter than one that is cut an hour must be by them."""

SHARD_SAMPLES = 4
"""Parts of an hour that say how full all shards are, each by one of these: messages are put into them at random."""

ASKED_S = 60
"""Seconds for which it stands what was asked of folders: hours that are compacted one after the other ask once."""

SETTLED_S = 1800
"""Seconds after an hour by which its objects are written, those of the slowest batches among them."""

NO_DIGIT = ":"
"""What follows every digit: behind it are no raw keys of a time, but shards and batches."""

Page = list[ObjectVersion]


@dataclass(frozen=True, slots=True)
class Folders:
    """What a rule's raw prefix had beside the keys that begin with the time, when it was asked."""

    starts: Sequence[str]
    """What raw keys begin with before the time: `shard_starts`."""
    has_batches: bool
    """Whether there was any batch object; true of a layout, where nobody has looked."""
    asked_ms: int

    @classmethod
    def of(cls, store: Store, rule: Rule) -> Self:
        """Ask for them, at two requests; none for a layout."""
        now = time.time_ns() // 1_000_000
        has_batches = rule.layout is not None or any(store.versions(rule.batch_prefix))
        return cls(shard_starts(store, rule), has_batches, now)

    def serves(self, hour: Hour) -> bool:
        """Whether it says what there is of an hour: it was asked less than `ASKED_S` ago, and once nothing of the hour
        could be under way.
        """
        return time.time_ns() // 1_000_000 - ASKED_S * 1000 < self.asked_ms >= hour.end_ms + SETTLED_S * 1000


class Listing:
    """The listing of an hour, or of a span of one. What is listed to see how long it is is not listed once more for
    whoever reads it then.
    """

    def __init__(self, store: Store, rule: Rule, hour: Hour | Span, folders: Folders | None = None) -> None:
        """`folders` is what there is beside its keys, where that was asked already."""
        self._store, self._rule, self._hour, self._folders = store, rule, hour, folders
        self._begun: Iterator[Page] | None = None
        """All of what lies in no shard, where that is listed already as far as its first pages."""

    @cached_property
    def starts(self) -> Sequence[str]:
        """What its keys begin with before the time: of a span, of the shards that it names."""
        named = self._hour.shards if isinstance(self._hour, Span) else ()
        if named:
            return [*map(self._rule.shard_prefix, named)]
        return self._folders.starts if self._folders else shard_starts(self._store, self._rule)

    @property
    def may_have_batches(self) -> bool:
        """Whether batches are to be looked for; false where it is known that there are none."""
        return self._folders is None or self._folders.has_batches

    @property
    def is_short(self) -> bool:
        """Whether an hour is a page or less of small objects, and nothing of it lies in shards, in batches, or in a
        bucket that exists. Costs one request, and what it tells is not listed again.
        """
        if self._rule.layout is not None or self.may_have_batches or len(self.starts) > 1:
            return False
        versions = [*chain.from_iterable(self._first)]
        return len(self._first) < PROBE and sum(version.size for version in versions) <= SHORT_BYTES

    @cached_property
    def _first(self) -> list[Page]:
        """The first pages of what lies in no shard."""
        whole = _within(self._store, self._rule.raw_prefix, self._hour)
        first = [*islice(whole, PROBE)]
        self._begun = chain(first, whole)
        return first

    def pages(self) -> Iterator[Page]:
        """Yield all versions between the hour's first key and its last, in the order of their keys, newest first: those
        in no shard, and those in each shard that there is, whatever the rule's setting.

        Each version of a rule is in one hour, whatever its key adds to the digits. Costs a request for each thousand
        versions, in a long hour one more for each range, one for each shard, and one that tells the shards unless that
        is known. Of a bucket that exists those are yielded, too, that are listed to find the hour's: of its day, of
        each device, or all; of a rule with an inventory those that it names (`inventory.pages`).
        """
        if self._rule.layout is not None:
            at = self._hour if isinstance(self._hour, Hour) else Hour.of_millis(self._hour.start_ms)
            if self._rule.inventory:
                yield from inventory.pages(self._store, self._rule, at)
                return
            pieces = self._rule.layout.filled(at)
            yield from _side_by_side(_listings(self._store, pieces, self._hour, self._rule.layout))
            return
        if self._rule.raw_prefix in self.starts:
            yield from self._in_no_shard()
        others = (start for start in self.starts if start != self._rule.raw_prefix)
        yield from _side_by_side(_within(self._store, start, self._hour) for start in others)

    def _in_no_shard(self) -> Iterator[Page]:
        whole = self._begun or _within(self._store, self._rule.raw_prefix, self._hour)
        self._begun = None  # it can be read once
        page: Page = []
        for page in islice(whole, PROBE):
            yield page
        following = next(whole, None)
        if following is None:
            return
        last, rest = self._rule.parse_raw_key(page[-1].key) if page else None, chain([following], whole)
        # In the last millisecond there is nothing left to cut: the rest are further messages of it.
        start = last.millis + 1 if last else self._hour.end_ms
        stretches = _Stretches(self._store, self._rule, self._hour, start)
        yield from _side_by_side(stretches.of(rest) if start < self._hour.end_ms else [rest])

    def spans(self, versions: int = SPAN_VERSIONS) -> list[Span]:
        """Return spans that make up the hour and hold about so many versions each; none for an hour that has fewer than
        twice as many, as far as some pages tell, and none where keys do not begin with the time. The first has what
        lies in no shard, or its beginning.

        Costs one request for an hour of one page, two or three for one that is short by its first pages, which are not
        listed again, seven for one that is far from being cut, and twenty at most; where there are shards, eight more
        for each of their kinds, 16 and 256.
        """
        if self._rule.layout is not None or not isinstance(self._hour, Hour):
            return []
        store, rule, hour = self._store, self._rule, self._hour
        shards = [shard for start in self.starts if (shard := rule.parse_shard(start))]
        alone = self._spans_in_no_shard(hour, versions)
        if not shards:
            return alone
        kinds = [kind for digits in (1, 2) if (kind := [shard for shard in shards if len(shard) == digits])]
        counts = [_counts_of_each(store, rule, hour, kind) for kind in kinds]
        if not alone and sum(sum(each) * len(kind) for each, kind in zip(counts, kinds, strict=True)) < 2 * versions:
            return []
        first = [replace(span, shards=("",)) for span in alone or [Span(hour.start_ms, hour.end_ms)]]
        cut = [_spans_of_shards(hour, kind, each, versions) for kind, each in zip(kinds, counts, strict=True)]
        return [*first, *chain.from_iterable(cut)]

    def _estimate(self, part: Span) -> int:
        return _estimate(self._store, self._rule, self._rule.raw_prefix, part)

    def _spans_in_no_shard(self, hour: Hour, versions: int) -> list[Span]:
        pace = _at_this_pace(self._rule, hour, [*chain.from_iterable(self._first)])
        if len(self._first) < PROBE or pace < versions // FAR_FROM_LONG:
            return []
        parts = _even(hour, SAMPLES)
        found = {number: self._estimate(parts[number]) for number in FIRST_SAMPLES}
        if max(pace, SAMPLES * max(found.values())) < 2 * versions // QUIET:
            return []
        counts = [found[number] if number in found else self._estimate(part) for number, part in enumerate(parts)]
        wanted = sum(counts) // versions
        return _cut(hour, counts, wanted) if wanted > 1 else []


def pages(store: Store, rule: Rule, hour: Hour | Span) -> Iterator[Page]:
    """Yield all versions of an hour or a span: `Listing.pages`."""
    return Listing(store, rule, hour).pages()


def shard_starts(store: Store, rule: Rule) -> list[str]:
    """Return what a rule's raw keys begin with before the time, in the order of keys: the raw prefix, and the prefix of
    each shard of which objects are there. Costs one request; none for a layout.
    """
    folders = store.folders(rule.shards_prefix) if rule.layout is None else ()
    return [rule.raw_prefix, *(folder for folder in folders if rule.parse_shard(folder))]


def _within(store: Store, start: str, hour: Hour | Span) -> Iterator[Page]:
    """Yield an hour's versions of what begins with a text, the time coming next."""
    first = f"{start}{hour.start_ms}"
    return _from(first, store.versions(start, _before(start, hour.start_ms), f"{start}{hour.end_ms}"))


def _counts_of_each(store: Store, rule: Rule, hour: Hour, shards: Sequence[str]) -> list[int]:
    """Return about how many versions each of some shards has in the parts of an hour, each part by another shard."""
    return [
        _estimate(store, rule, rule.shard_prefix(shards[len(shards) * number // SHARD_SAMPLES]), part)
        for number, part in enumerate(_even(hour, SHARD_SAMPLES))
    ]


def _spans_of_shards(hour: Hour, shards: Sequence[str], counts: list[int], versions: int) -> Iterator[Span]:
    """Yield spans of shards that hold about so many versions each: some shards together, or stretches of each. Spans
    that follow each other, and so are done at once, are of other shards: S3 limits the requests to each.
    """
    together = max(1, versions // max(1, sum(counts)))
    for stretch in _cut(hour, counts, max(1, sum(counts) // versions)):
        for place in range(0, len(shards), together):
            yield replace(stretch, shards=tuple(shards[place : place + together]))


def _even(hour: Hour, pieces: int) -> list[Span]:
    """Return the parts of an hour that are of the same length."""
    step = (hour.end_ms - hour.start_ms) // pieces
    return [Span(start, start + step) for start in range(hour.start_ms, hour.end_ms, step)]


def _cut(hour: Hour, counts: list[int], wanted: int) -> list[Span]:
    """Return so many stretches of an hour that hold the same each, by the counts of its even parts."""
    step = (hour.end_ms - hour.start_ms) // len(counts)
    cuts = [_place(counts, sum(counts) * number / wanted) for number in range(wanted + 1)]
    millis = sorted({hour.start_ms + int(cut * step) for cut in cuts[1:-1]} - {hour.start_ms, hour.end_ms})
    return [Span(*pair) for pair in zip([hour.start_ms, *millis], [*millis, hour.end_ms], strict=True)]


def _estimate(store: Store, rule: Rule, start: str, span: Hour | Span) -> int:
    """Return about how many versions a span has of what begins with a text, by its first page."""
    found = _within(store, start, span)
    page = next(found, [])
    if not page or rule.parse_raw_key(page[-1].key) is None or next(found, None) is None:
        return len(page)
    return _at_this_pace(rule, span, page)


def _at_this_pace(rule: Rule, span: Hour | Span, listed: Page) -> int:
    """Return how many versions a span has if they go on to come as the first ones do."""
    last = rule.parse_raw_key(listed[-1].key) if listed else None
    passed_ms = max(1, last.millis + 1 - span.start_ms) if last else 1
    return len(listed) * (span.end_ms - span.start_ms) // passed_ms


def _place(counts: list[int], wanted: float) -> float:
    """Return after how many samples, and what share of the next, so many versions are passed."""
    for place, count in enumerate(counts):
        if wanted <= count:
            return place + (wanted / count if count else 0)
        wanted -= count
    return len(counts)


class _Stretches:
    """The rest of an hour from `start` on, cut by how full it turns out to be."""

    def __init__(self, store: Store, rule: Rule, hour: Hour | Span, start: int) -> None:
        self._store, self._rule, self._start, self._end = store, rule, start, hour.end_ms
        self._page_ms = max(1, (start - hour.start_ms) // PROBE)
        """How much of the hour a page holds, as far as is known."""

    def of(self, rest: Iterator[Page]) -> Iterator[Iterator[Page]]:
        """Yield the ranges.

        The first goes on with the listing of the whole: it alone knows which versions of its last key have come.
        """
        while self._start < self._end:
            stop = min(self._end, self._start + PAGES * self._page_ms)
            yield self._measured(
                rest if stop == self._end else _up_to(rest, _before(self._rule.raw_prefix, stop)), stop - self._start
            )
            self._start = stop
            start = self._rule.raw_prefix
            rest = self._store.versions(start, _before(start, stop), f"{start}{self._end}")

    def _measured(self, pages: Iterator[Page], millis: int) -> Iterator[Page]:
        count = 0
        for page in pages:
            count += 1
            yield page
        self._page_ms = min(GROWTH * self._page_ms, max(1, millis // max(1, count)))


def _listings(
    store: Store, pieces: list[tuple[str, str]], hour: Hour | Span, layout: KeyLayout
) -> Iterator[Iterator[Page]]:
    """Yield the listings in which an hour's keys of a layout lie, in the order of their keys."""
    prefix = ""
    for place, (name, text) in enumerate(pieces):
        if not name:
            prefix += text
        elif layout.is_folder(place):
            (_, behind), *rest = pieces[place + 1 :]
            for folder in store.folders(prefix):  # which ends with the slash that comes next
                into = [*[("", "")] * place, ("", folder), ("", behind[1:]), *rest]
                yield from _listings(store, into, hour, layout)
            return
        elif name in _EPOCH_MS:
            yield store.versions(prefix, *_epochs(prefix, _EPOCH_MS[name], hour, layout))
            return
        else:
            break
    yield store.versions(prefix)


def _epochs(prefix: str, unit: int, hour: Hour | Span, layout: KeyLayout) -> tuple[str, str]:
    """Return between which keys an hour's lie that count milliseconds or seconds behind a prefix. In the first hour of
    a folder's day are also those before it, and in its last those after.
    """
    first, end = layout.named(Hour.of_millis(hour.start_ms))
    after = "" if hour.start_ms == first else f"{prefix}{hour.start_ms // unit - 1}~"
    return after, "" if hour.end_ms == end else f"{prefix}{hour.end_ms // unit}"


_EPOCH_MS = {"millis": 1, "seconds": 1000}
"""Instants in keys of which a range of time is a range of keys, and their unit in milliseconds."""


def _before(start: str, millis: int) -> str:
    """Return what follows every key of the millisecond before that a rule writes: "." follows "-" and precedes the
    digits.
    """
    return f"{start}{millis - 1}."


def _from(first: str, pages: Iterator[Page]) -> Iterator[Page]:
    """Yield pages without what precedes a key: foreign keys of the millisecond before, which sort behind its own."""
    for page in pages:
        yield page if not page or page[0].key >= first else [version for version in page if version.key >= first]


def _up_to(pages: Iterator[Page], last: str) -> Iterator[Page]:
    for page in pages:
        if page and page[-1].key > last:
            yield [version for version in page if version.key <= last]
            return
        yield page


def _side_by_side(ranges: Iterable[Iterator[Page]]) -> Iterator[Page]:
    """Yield the pages of all ranges in their order, while the next ranges are fetched."""
    underway: deque[_Ahead] = deque()
    try:
        for pages in ranges:
            underway.append(_Ahead(pages))
            if len(underway) == LISTERS:
                yield from underway[0]
                underway.popleft()
        while underway:
            yield from underway[0]
            underway.popleft()
    finally:
        for each in underway:
            each.close()


class _Ahead:
    """Pages that a thread of their own fetches, some before they are asked for."""

    def __init__(self, pages: Iterator[Page]) -> None:
        self._pages, self._pool = pages, ThreadPoolExecutor(1)
        self._coming = deque(self._ask() for _ in range(PAGES))

    def _ask(self) -> Future[Page | None]:
        return self._pool.submit(next, self._pages, None)

    def __iter__(self) -> Iterator[Page]:
        while (page := self._coming.popleft().result()) is not None:
            self._coming.append(self._ask())
            yield page
        self.close()

    def close(self) -> None:
        """Fetch no more."""
        self._pool.shutdown(cancel_futures=True)
