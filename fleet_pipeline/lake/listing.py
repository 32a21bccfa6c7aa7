"""An hour's raw objects, listed ahead of whoever reads them: a long hour in ranges of time side by side, because S3
takes 0.1 s and more for each page.

Keys begin with milliseconds of a fixed number of digits, so any range of time is a range of keys that can be listed
by itself.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice

from fleet_pipeline.aws.store import ObjectVersion, Store
from fleet_pipeline.model.hour import Hour, Span
from fleet_pipeline.model.key_layout import KeyLayout
from fleet_pipeline.model.rule import Rule

PAGES = 5
"""Pages of a range, and pages that are fetched before they are needed.

Half of a range's last page is in vain: 10 % of all.
"""

PROBE = 2
"""Pages that say how full an hour is. Most hours have no more."""

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

Page = list[ObjectVersion]


def pages(store: Store, rule: Rule, hour: Hour | Span) -> Iterator[Page]:
    """Yield all versions between the hour's first key and its last, in the order of their keys, newest first.

    Each version of a rule is in one hour, whatever its key adds to the digits. Costs a request for each thousand
    versions, and in a long hour one more for each range. Of a bucket that exists those are yielded, too, that are
    listed to find the hour's: of its day, of each device, or all.
    """
    if rule.layout is not None:
        at = hour if isinstance(hour, Hour) else Hour.of_millis(hour.start_ms)
        yield from _side_by_side(_listings(store, rule.layout.filled(at), hour, rule.layout))
        return
    whole = _from(
        f"{rule.raw_prefix}{hour.start_ms}",
        store.versions(rule.raw_prefix, _before(rule, hour.start_ms), f"{rule.raw_prefix}{hour.end_ms}"),
    )
    page: Page = []
    for page in islice(whole, PROBE):
        yield page
    following = next(whole, None)
    if following is None:
        return
    last, rest = rule.parse_raw_key(page[-1].key) if page else None, chain([following], whole)
    # In the last millisecond there is nothing left to cut: the rest are further messages of it.
    start = last.millis + 1 if last else hour.end_ms
    yield from _side_by_side(_Stretches(store, rule, hour, start).of(rest) if start < hour.end_ms else [rest])


def spans(store: Store, rule: Rule, hour: Hour, versions: int = SPAN_VERSIONS) -> list[Span]:
    """Return spans that make up an hour and hold about so many versions each; none for an hour that has fewer than
    twice as many, as far as some pages tell, and none where keys do not begin with the time.

    Costs one request for an hour of one page, and ten at most.
    """
    if rule.layout is not None:
        return []
    whole = store.versions(rule.raw_prefix, _before(rule, hour.start_ms), f"{rule.raw_prefix}{hour.end_ms}")
    if len(list(islice(whole, PROBE))) < PROBE:
        return []
    step = (hour.end_ms - hour.start_ms) // SAMPLES
    counts = [_estimate(store, rule, Span(start, start + step)) for start in range(hour.start_ms, hour.end_ms, step)]
    wanted = sum(counts) // versions
    if wanted <= 1:
        return []
    cuts = [_place(counts, sum(counts) * number / wanted) for number in range(wanted + 1)]
    millis = sorted({hour.start_ms + int(cut * step) for cut in cuts[1:-1]} - {hour.start_ms, hour.end_ms})
    return [Span(*pair) for pair in zip([hour.start_ms, *millis], [*millis, hour.end_ms], strict=True)]


def _estimate(store: Store, rule: Rule, span: Span) -> int:
    """Return about how many versions a span has, by its first page."""
    found = store.versions(rule.raw_prefix, _before(rule, span.start_ms), f"{rule.raw_prefix}{span.end_ms}")
    page = next(found, [])
    last = rule.parse_raw_key(page[-1].key) if page else None
    if last is None or next(found, None) is None:
        return len(page)
    return len(page) * (span.end_ms - span.start_ms) // max(1, last.millis + 1 - span.start_ms)


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
                rest if stop == self._end else _up_to(rest, _before(self._rule, stop)), stop - self._start
            )
            self._start = stop
            rest = self._store.versions(
                self._rule.raw_prefix, _before(self._rule, stop), f"{self._rule.raw_prefix}{self._end}"
            )

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


def _before(rule: Rule, millis: int) -> str:
    """Return what follows every key of the millisecond before that a rule writes: "." follows "-" and precedes the
    digits.
    """
    return f"{rule.raw_prefix}{millis - 1}."


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
