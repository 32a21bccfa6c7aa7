"""Compaction, rewrite with its switch, and purge beside each other: one of them comes in whole before any request of another, or ends it there."""

from contextlib import suppress
from datetime import timedelta
from itertools import count, product

import pytest
from dict_store import DictStore
from test_compaction import HOUR, RULE, key

from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.rewrite import has_grown, rewrite_hour
from fleet_pipeline.lake.operations.verify import purge_hour
from fleet_pipeline.lake.reading import opened
from fleet_pipeline.model.errors import NotVerified


class Killed(BaseException):
    """The process ended before its next request."""


class Watched(DictStore):
    """A bucket in which something may happen before a request."""

    def __init__(self, before):
        super().__init__()
        self._before = before

    def versions(self, *limits):
        self._before()
        yield from super().versions(*limits)

    def read(self, *place):
        self._before()
        return super().read(*place)

    def put_new(self, *object_):
        self._before()
        return super().put_new(*object_)

    def delete(self, versions):
        for version in versions:
            self._before()
            super().delete([version])


class Blind(Lake):
    """A table whose writers do not look whether another generation is coming: the guard taken away."""

    def coming(self):
        return []


class World:
    """Two buckets with a compacted hour and a late message, and what is to happen before the request of a number."""

    def __init__(self, table=Lake):
        self.table, self.left, self.happens = table, None, lambda: None
        self.raw, self.store = Watched(self._before), Watched(self._before)
        self.sent, self.promise_broken = set(), False
        for _ in range(3):
            self.late()
        self.compact()
        self.late()

    def _before(self):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                self.happens()

    @property
    def lake(self):
        return self.table.current(self.store, "lake")

    def late(self):
        self.sent.add(self.raw.put(key(len(self.sent)), b'{"speed": 2.5}').key)

    def compact(self):
        sent = {*self.sent}
        compact_hour(self.raw, self.lake, RULE, HOUR)
        self.promise_broken |= not sent <= {*self.rows()}

    def rewrite(self):
        old = self.lake
        new = old.next_generation
        new.begin()
        done = rewrite_hour(old, new, RULE, HOUR)
        while has_grown(old, RULE, HOUR, done):
            done = rewrite_hour(old, new, RULE, HOUR)
        readable = {*self.rows()}
        new.switch()
        self.promise_broken |= not readable <= {*self.rows()}

    def stray(self):
        """Readers switch, and then a message comes into the old generation, as if nobody looked."""
        old = self.lake
        self.rewrite()
        self.late()
        compact_hour(self.raw, Blind(old.store, old.prefix, old.generation), RULE, HOUR)

    def purge(self):
        with suppress(NotVerified):
            purge_hour(self.raw, self.lake, RULE, HOUR, now=HOUR.end + timedelta(days=1))

    def rows(self):
        files = [opened(self.store, part) for part in self.lake.parts(RULE, HOUR)]
        return [key for file in files for key in file.read(["_key"])["_key"].to_pylist()]

    def broken(self):
        """Whether a message has no row, or two, for whoever reads now and after one more compaction; or readers saw fewer rows."""
        lost = self.sent - {*self.rows()} - {*self.raw.objects}
        self.compact()
        return bool(lost) or self.promise_broken or sorted(self.rows()) != sorted(self.sent)


def met(first, second, *, table=Lake, killed=False):
    """Yield the worlds in which `second` ran whole before each of the requests of `first`, which went on after it, or was killed."""
    for number in count():
        world = World(table)

        def happens(world=world):
            world.late()
            getattr(world, second)()
            if killed:
                raise Killed

        world.left, world.happens = number, happens
        with suppress(Killed):
            getattr(world, first)()
        if world.left is not None:  # it made no such request
            return
        yield number, world


ACTIONS = ("compact", "rewrite", "purge")


@pytest.mark.whole
@pytest.mark.parametrize("killed", [False, pytest.param(True, marks=pytest.mark.whole)])
@pytest.mark.parametrize(("first", "second"), [*product(ACTIONS, repeat=2), ("purge", "stray")])
def test_whatever_comes_in_between_and_wherever_it_dies_every_message_is_one_row(first, second, killed):
    worlds = list(met(first, second, killed=killed))
    assert len(worlds) > 5
    assert not [number for number, world in worlds if world.broken()]


@pytest.mark.whole
@pytest.mark.parametrize(("first", "second"), [("compact", "rewrite"), ("purge", "stray")])
def test_without_a_look_at_generations_that_are_coming_the_same_search_finds_what_is_lost(first, second):
    assert [number for number, world in met(first, second, table=Blind) if world.broken()]
