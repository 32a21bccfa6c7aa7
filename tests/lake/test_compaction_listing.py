"""A long hour is listed in ranges side by side: what comes is what one listing would have said, at hardly more requests."""

import threading
import time
from datetime import timedelta
from itertools import islice
from unittest import mock

import pytest
from dict_store import DictStore
from hypothesis import given, settings
from hypothesis import strategies as st
from test_compaction import HOUR, RULE, key

from fleet_pipeline.lake import listing
from fleet_pipeline.lake.listing import LISTERS, PAGES, PROBE, pages
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName

LENGTH_MS = HOUR.end_ms - HOUR.start_ms

_offsets = st.one_of(
    st.integers(0, LENGTH_MS - 1),
    st.integers(0, 40),  # a burst as the hour begins
    st.integers(LENGTH_MS - 40, LENGTH_MS - 1),  # and as it ends
    st.integers(1_800_000, 1_800_040),
)
FOREIGN = ["", ".", "./x", "/x", "0", "-", "-x", "~", "\x00"]


def listed(store):
    return [version for page in pages(store, RULE, HOUR) for version in page]


def in_one(store):
    """What a single listing says."""
    first, end = f"{RULE.raw_prefix}{HOUR.start_ms}", f"{RULE.raw_prefix}{HOUR.end_ms}"
    whole = store.versions(RULE.raw_prefix, f"{RULE.raw_prefix}{HOUR.start_ms - 1}.", end)
    return [version for page in whole for version in page if version.key >= first]


@pytest.mark.parametrize("page", range(1, 6))
@pytest.mark.parametrize("range_pages", range(2, 5))
def test_a_seam_loses_and_doubles_nothing_wherever_it_falls(page, range_pages):
    store = DictStore(page=page)
    for _ in range(PROBE * page):
        store.put(key(0, bare=True), b"{}")  # versions of one key are all that is seen before the first range begins
    for offset in [-1, *range(1, 60), LENGTH_MS - 1, LENGTH_MS]:
        store.put(key(offset), b"{}")
        for foreign in FOREIGN:
            store.put(f"{RULE.raw_prefix}{HOUR.start_ms + offset}{foreign}", b"{}")
    with mock.patch.object(listing, "PAGES", range_pages):
        assert listed(store) == in_one(store)


@pytest.mark.parametrize("page", [1, 3, 1000])
def test_each_version_of_a_rule_is_in_one_hour_whatever_its_key_adds_to_the_digits(page):
    store, hours = DictStore(page=page), [Hour(HOUR.start + timedelta(hours=number)) for number in (-1, 0, 1)]
    for offset in [-1, 0, LENGTH_MS - 1, LENGTH_MS]:
        for added in [*FOREIGN, ".json", "\N{LATIN SMALL LETTER U WITH DIAERESIS}"]:
            store.put(f"{RULE.raw_prefix}{HOUR.start_ms + offset}{added}", b"{}")
    assert sorted(version.key for hour in hours for page in pages(store, RULE, hour) for version in page) == sorted(
        store.objects
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(_offsets, st.booleans(), st.sampled_from(FOREIGN)), max_size=150),
    st.integers(1, 4),
    st.integers(2, 4),
)
def test_ranges_together_are_what_one_listing_says(messages, page, range_pages):
    store = DictStore(page=page)
    for offset, bare, foreign in messages:
        store.put(f"{RULE.raw_prefix}{HOUR.start_ms + offset}{foreign}" if foreign else key(offset, bare=bare), b"{}")
    with mock.patch.object(listing, "PAGES", range_pages):  # so that there are many seams
        assert listed(store) == in_one(store)


@pytest.mark.whole
@pytest.mark.parametrize(
    "offset",
    [
        lambda number: number * LENGTH_MS // 20_000,
        lambda number: number,
        lambda number: LENGTH_MS - 20_000 + number,
        lambda number: number if number < 10_000 else LENGTH_MS - 20_000 + number,
        lambda _: 7,
    ],
    ids=["even", "as it begins", "as it ends", "both", "one millisecond"],
)
def test_a_long_hour_costs_hardly_more_requests_than_it_has_pages(offset):
    store = DictStore(page=50)
    for number in range(20_000):
        store.put(key(offset(number)), b"{}")
    assert len(listed(store)) == 20_000
    assert store.requests["LIST"] <= 400 * 1.25 + 20


class Watched(DictStore):
    """A store whose pages take a moment, and that knows how many are asked for at once."""

    at_once = most = 0

    def versions(self, *limits):
        found = super().versions(*limits)
        while True:
            with self._counting:
                self.at_once += 1
                self.most = max(self.most, self.at_once)
            time.sleep(0.005)
            page = next(found, None)
            with self._counting:
                self.at_once -= 1
            if page is None:
                return
            yield page


@pytest.fixture
def watched():
    store = Watched(page=10)
    for number in range(3000):
        store.put(key(number * LENGTH_MS // 3000), b"{}")
    return store


def test_several_ranges_are_listed_at_once(watched):
    assert len(listed(watched)) == 3000
    assert watched.most == LISTERS


def test_a_reader_who_pauses_is_waited_for_and_one_who_leaves_leaves_no_thread(watched):
    threads = threading.active_count()
    reading = pages(watched, RULE, HOUR)
    assert len([*islice(reading, 4)]) == 4
    time.sleep(1)
    assert watched.requests["LIST"] <= 4 + LISTERS * (PAGES + 1)
    reading.close()
    assert threading.active_count() == threads


def test_further_messages_of_the_last_millisecond_are_listed_wherever_a_page_ends():
    store = DictStore(page=1)
    for number in range(5):
        store.put(RULE.raw_key(RawName(HOUR.end_ms - 1, f"00000000-0000-4000-8000-{number:012d}")), b"{}")
    assert sum(map(len, pages(store, RULE, HOUR))) == 5
