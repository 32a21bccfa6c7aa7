"""Every order in which writers, a reader, crashes and lost answers can meet on one hour: the product's own commit loop, on a model of S3.

A writer is run again from its start at each step, with the answers that it had so far; the question that it asks next is the step.
"""

from dataclasses import dataclass, replace
from functools import cache

import pytest

from fleet_pipeline.lake.commit import append

ROWS = frozenset("abc")
EARLY = (frozenset("a"), frozenset("b"))
"""What the first writer found, in two parts: it listed before `c` came."""
LATE = (ROWS,)


class Asks(BaseException):
    """A writer's next request, which has no answer yet."""


class Replayed:
    """The slots of an hour, as a writer sees them whose earlier answers are known."""

    def __init__(self, answers):
        self._answers, self.known, self.rows = iter(answers), frozenset(), frozenset()

    def _ask(self, *request):
        for answer in self._answers:
            return answer
        raise Asks(*request)

    def look(self):
        parts = self._ask("look")
        self.known = frozenset().union(self.known, *parts)
        return len(parts)

    def put(self, number):
        written = self._ask("put", number, self.rows - self.known)
        self.known |= self.rows if written else frozenset()
        return written

    @property
    def pending(self):
        return len(self.rows - self.known)


def write(slots, chunks):
    seen = slots.look()
    for slots.rows in chunks:
        seen = append(slots, seen)


def next_request(chunks, answers):
    try:
        write(Replayed(answers), chunks)
    except Asks as request:
        return request.args
    return None


@dataclass(frozen=True)
class World:
    """S3's parts, what each writer was answered (None: it is dead), what the reader has listed and how far it has read, faults left."""

    parts: tuple
    answers: tuple
    crashes: int
    losses: int
    listed: tuple | None = None
    read: int = 0


@dataclass(frozen=True)
class Model:
    """S3 with the promise that a taken key is not written again, or without it."""

    writers: tuple
    conditional: bool = True

    def answer(self, parts, request):
        if request[0] == "look":
            return parts, parts
        _, number, rows = request
        if self.conditional and number < len(parts):
            return parts, False
        return (*parts[:number], rows, *parts[number + 1 :]), True

    def steps(self, world):
        """Every world that may come next."""
        for writer, answers in enumerate(world.answers):
            request = answers is not None and next_request(self.writers[writer], answers)
            if request:
                yield from self._writer_steps(world, writer, request)
        if world.listed is None:
            yield replace(world, listed=world.parts)
        elif world.read < len(world.listed):
            yield replace(world, read=world.read + 1)

    def _writer_steps(self, world, writer, request):
        def told(answers, **changes):
            return replace(world, answers=(*world.answers[:writer], answers, *world.answers[writer + 1 :]), **changes)

        so_far = world.answers[writer]
        parts, answer = self.answer(world.parts, request)
        yield told((*so_far, answer), parts=parts)
        if world.crashes:
            yield told(None, crashes=world.crashes - 1)
            yield told(None, crashes=world.crashes - 1, parts=parts)
        if world.losses and answer is True:
            # Written, its answer lost, and sent again by the client: the second try is what the writer hears of.
            parts, answer = self.answer(parts, request)
            yield told((*so_far, answer), losses=world.losses - 1, parts=parts)

    def wrong(self, world):
        """Whether a row is there twice, or the reader's next file is not the one that it listed."""
        twice = sum(map(len, world.parts)) > len(frozenset().union(*world.parts))
        torn = world.listed is not None and any(
            place >= len(world.parts) or world.parts[place] != rows
            for place, rows in enumerate(world.listed)
            if place >= world.read
        )
        return twice or torn

    def wrong_at_the_end(self, world):
        """Whether a row is missing or doubled after one more run, which nothing disturbs; or was missing although its writer had finished."""
        acknowledged = {
            row
            for chunks, answers in zip(self.writers, world.answers, strict=True)
            if answers is not None
            for chunk in chunks
            for row in chunk
        }
        if not acknowledged <= frozenset().union(*world.parts):
            return True
        parts, answers = world.parts, ()
        while request := next_request(LATE, answers):
            parts, answer = self.answer(parts, request)
            answers = (*answers, answer)
        return sorted(row for part in parts for row in part) != sorted(ROWS)


def explore(model, *, crashes, losses):
    """Count the schedules, and those that break a promise."""

    @cache
    def count(world):
        if model.wrong(world):
            return 1, 1
        following = list(model.steps(world))
        if not following:
            return 1, int(model.wrong_at_the_end(world))
        totals = [count(step) for step in following]
        return sum(schedules for schedules, _ in totals), sum(wrong for _, wrong in totals)

    return count(World((), tuple(() for _ in model.writers), crashes, losses))


def test_no_order_of_two_writers_a_crash_a_lost_answer_and_a_reader_loses_doubles_or_tears_anything():
    schedules, wrong = explore(Model((EARLY, LATE)), crashes=1, losses=1)
    assert schedules > 10_000
    assert wrong == 0


def test_no_order_of_three_writers_loses_or_doubles_anything():
    schedules, wrong = explore(Model((EARLY, LATE, (frozenset("bc"),))), crashes=0, losses=0)
    assert schedules > 10_000
    assert wrong == 0


@pytest.mark.parametrize(("crashes", "losses"), [(0, 0), (1, 1)])
def test_without_the_condition_the_same_search_finds_what_is_lost(crashes, losses):
    schedules, wrong = explore(Model((EARLY, LATE), conditional=False), crashes=crashes, losses=losses)
    assert wrong > schedules / 4
