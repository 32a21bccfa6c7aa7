"""A new generation of the table, written while compactions go on: readers that switch to it never see a row less."""

import json
from datetime import timedelta

import pytest
from dict_store import DictStore
from test_compaction import HOUR, RULE, compact, key

from fleet_pipeline.lake.contract import Column, Contract
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.learning import Evidence
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.rewrite import has_grown, learnt, rewrite_hour
from fleet_pipeline.lake.operations.verify import purge_hour
from fleet_pipeline.lake.reading import Identities, opened
from fleet_pipeline.model.errors import NotVerified

LATER = HOUR.end + timedelta(days=1)


class Between(DictStore):
    """A bucket in which something happens just before the first object of a name is written, or its versions are deleted."""

    def __init__(self, name="", happens=lambda: None):
        super().__init__()
        self.name, self.happens = name, happens

    def _now(self, name):
        if self.name and self.name in name:
            self.name = ""
            self.happens()

    def put_new(self, key, body):
        self._now(key)
        return super().put_new(key, body)

    def delete(self, versions):
        self._now("delete")
        return super().delete(versions)


@pytest.fixture
def raw():
    raw = Between()
    for offset in range(10):
        raw.put(key(offset), json.dumps({"speed": offset}).encode())
    return raw


@pytest.fixture
def lake(raw):
    lake = Lake(Between(), "lake")
    compact(raw, lake)
    return lake


def held(lake):
    known = Identities()
    for part in lake.parts(RULE, HOUR):
        known.add(opened(lake.store, part))
    return known.versions


def test_while_a_generation_is_written_messages_are_added_to_it_first(raw, lake):
    new = lake.next_generation
    new.begin()
    raw.put(key(20), b'{"speed": 1.5}')
    seen = []
    lake.store.name, lake.store.happens = "lake/v1/", lambda: seen.append(held(new))
    assert compact(raw, lake).rows_added == 1
    assert seen == [11]
    rewrite_hour(lake, new, RULE, HOUR)
    assert held(new) == held(lake) == 11


def test_beside_many_generations_each_is_compacted_once(raw, lake):
    """Those of rewrites that were given up, and those to which readers have switched meanwhile."""
    last = lake
    for _ in range(10):
        last = last.next_generation
        last.begin()
    before = raw.requests["GET"], lake.store.requests.total()
    raw.put(key(20), b'{"speed": 1.5}')
    assert compact(raw, lake).rows_added == 1
    assert (
        raw.requests["GET"] - before[0] == 1 + 10 * 11
    )  # the new message here, and all of them in each that has none yet
    asked = lake.store.requests.total() - before[1]
    again = lake.store.requests.total()
    compact(raw, lake)
    assert lake.store.requests.total() - again < asked < 10 * 100
    assert held(last) == held(lake) == 11


def test_a_generation_that_is_begun_just_before_a_part_is_written_gets_its_messages_first(raw, lake):
    new = lake.next_generation
    raw.put(key(20), b'{"speed": 1.5}')
    seen = []

    def begun():
        new.begin()
        lake.store.name, lake.store.happens = "lake/v1/", lambda: seen.append(held(new))

    lake.store.name, lake.store.happens = "lake/_schema/v1/", begun  # the last request before the part's own
    lake.store.objects = {
        name: held for name, held in lake.store.objects.items() if not name.startswith("lake/_schema")
    }
    assert compact(raw, lake).complete
    assert seen == [11]


def test_messages_that_came_into_the_old_generation_after_the_switch_are_in_the_new_one_too(raw, lake):
    new = lake.next_generation
    raw.put(key(20), b'{"speed": 1.5}')

    def switched():
        new.begin()
        rewrite_hour(lake, new, RULE, HOUR)
        new.switch()

    lake.store.name, lake.store.happens = "part-00001", switched  # between the last look and the write
    assert compact(raw, lake).complete
    assert held(new) == held(lake) == 11


def test_of_a_message_that_came_after_the_new_generation_was_filled_no_row_is_added_to_the_old_one_yet(raw, lake):
    new = lake.next_generation
    new.begin()
    raw.put(key(20), b'{"speed": 1.5}')
    lake.store.name, lake.store.happens = "lake/v1/", lambda: None
    original = raw.versions
    late = iter([None, None])

    def listing(*limits):  # one more message each time that somebody has listed the hour
        yield from original(*limits)
        if next(late, "over") is None:
            raw.put(key(30 + raw.requests["LIST"]), b'{"speed": 2.5}')

    raw.versions = listing
    compact(raw, lake)
    assert held(lake) <= held(new)
    assert compact(raw, lake).complete
    assert held(lake) == held(new) == 13


def test_an_hour_that_grew_after_it_was_rewritten_is_noticed_before_the_switch(raw, lake):
    new = lake.next_generation
    done = rewrite_hour(lake, new, RULE, HOUR)
    assert not has_grown(lake, RULE, HOUR, done)
    raw.put(key(20), b'{"speed": 1.5}')
    compact(raw, lake)
    assert has_grown(lake, RULE, HOUR, done)


def test_a_finished_hour_costs_two_more_requests_that_list_and_none_that_writes(raw, lake):
    before = lake.store.requests.copy()
    compact(raw, lake)
    spent = lake.store.requests.copy()
    spent.subtract(before)
    assert spent["PUT"] == 0
    assert spent["LIST"] == 4  # generations, parts, records, batches that begin elsewhere


def test_a_purge_deletes_the_very_versions_that_it_compared_and_none_that_came_since(raw, lake):
    raw.name, raw.happens = "delete", lambda: (raw.put(key(3), b'{"speed": 99}'), raw.put(key(20), b"{}"))
    purged = purge_hour(raw, lake, RULE, HOUR, now=LATER)
    assert (purged.versions, purged.kept) == (10, 0)
    assert [len(raw.objects[name]) for name in sorted(raw.objects)] == [1, 1]
    assert compact(raw, lake).rows_added == 2


@pytest.mark.parametrize("change", ["begin", "switch"])
def test_nothing_is_purged_while_readers_are_about_to_use_another_generation(change, raw, lake):
    getattr(lake.next_generation, change)()
    with pytest.raises(NotVerified, match="end the rewrite first"):
        purge_hour(raw, lake, RULE, HOUR, now=LATER)
    assert raw.requests["DELETE"] == 0


def test_a_rewrite_learns_over_all_hours_before_it_writes_the_first(raw):
    lake = Lake(DictStore(), "lake")
    compact(raw, lake)
    raw.put(key(3_600_000), b'{"speed": 12.5}')
    new, seen = lake.next_generation, Evidence()
    compact_next(raw, lake)
    for hour in (HOUR, HOUR.next):
        seen.add(learnt(lake, new.contract(RULE), RULE, hour))
    new.record(RULE, seen, new.form)
    assert new.contract(RULE).columns["speed"].kind == "double"


def test_a_rewrite_by_a_given_contract_has_its_columns_and_no_others(raw, lake):
    raw.put(key(20), b'{"speed": 12.5, "name": "a"}')
    compact(raw, lake)
    new = lake.next_generation
    new.pin(RULE, Contract({"speed": Column(("speed",), "double")}))
    new.begin()
    done = rewrite_hour(lake, new, RULE, HOUR)
    assert done.complete
    assert list(new.contract(RULE).columns) == ["speed"]


def compact_next(raw, lake):
    return compact_hour(raw, lake, RULE, HOUR.next)
