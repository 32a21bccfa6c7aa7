"""Hours that are done on an engine, several at once, a long one in spans."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Generic, TypeVar

from fleet_pipeline.lake.containment import outcome_of
from fleet_pipeline.lake.operations.compact_hour import Progress, Unit
from fleet_pipeline.lake.operations.engine import Engine, Lost
from fleet_pipeline.model.errors import FleetError, ProcessLost
from fleet_pipeline.model.hour import Hour, Span

T = TypeVar("T")

TELL_EVERY = 0.5
"""Seconds between two looks at how far the units are."""


@dataclass(frozen=True, slots=True)
class Spans:
    """An hour is so long that spans of it are done one by one."""

    spans: list[Span]


class Hours(Generic[T]):
    """A rule's hours under way on an engine, some of them as spans."""

    def __init__(
        self,
        key: str,
        doing: "Engine[T | Spans | FleetError]",
        joined: Callable[[Hour, Sequence[T]], T],
        on_progress: Callable[[Hour, Progress], None] = lambda *_: None,
    ) -> None:
        """`key` is the rule's; `joined` returns what came of an hour from what came of each of its spans."""
        self._key, self._doing, self._joined, self._on_progress = key, doing, joined, on_progress
        self._asked: dict[Future[Any], Unit] = {}
        self._cut: dict[Hour, dict[Unit, T | FleetError | None]] = {}
        """What came of each span of hours that were cut; None for each that is to come."""
        self._far: dict[Unit, Progress] = {}

    def of(self, hours: Iterable[Hour]) -> Iterator[tuple[Hour, T | FleetError]]:
        """Yield each hour with what came of it, as they are finished.

        Raises ProcessLost when a process of this machine was killed, and EngineUnreachable when nobody is there.
        """
        waiting: Iterator[Unit] = (Unit(hour) for hour in hours)
        try:
            while True:
                for unit in islice(waiting, max(0, self._doing.ahead - len(self._asked))):
                    self._ask(unit)
                if not self._asked:
                    return
                done, _ = wait(self._asked, TELL_EVERY, FIRST_COMPLETED)
                self._tell()
                if not done:
                    self._doing.check()
                for each in done:
                    unit = self._asked.pop(each)
                    try:
                        outcome = self._doing.result(each)
                    except Lost:
                        self._ask(unit)
                        continue
                    if isinstance(outcome, Spans):
                        cut = [Unit(unit.hour, span) for span in outcome.spans]
                        self._cut[unit.hour] = dict.fromkeys(cut)
                        waiting = chain(cut, waiting)
                    elif (finished := self._finished(unit, outcome)) is not None:
                        yield unit.hour, finished
        except BrokenProcessPool as error:
            raise ProcessLost(tuple(sorted({unit.hour.partition_key for unit in self._asked.values()}))) from error

    def _ask(self, unit: Unit) -> None:
        self._asked[self._doing.submit(unit)] = unit

    def _tell(self) -> None:
        underway = set(self._asked.values())
        for unit, progress in self._doing.heard():
            if unit in underway:  # and not done meanwhile
                self._far[unit] = progress
                self._on_progress(unit.hour, self._of_hour(unit))

    def _of_hour(self, unit: Unit) -> Progress:
        """Return how far the hour of a unit is, all of its spans together."""
        if unit.span is None:
            return self._far[unit]
        of_hour = [far for each, far in self._far.items() if each.hour == unit.hour]
        share = sum(far.share for far in of_hour) / len(self._cut[unit.hour])
        return Progress(sum(far.objects for far in of_hour), max(far.seconds for far in of_hour), share)

    def _finished(self, unit: Unit, outcome: T | FleetError) -> T | FleetError | None:
        """Return what came of the hour of a unit that is done; None while other spans of it are under way."""
        if unit.span is None:
            self._far.pop(unit, None)
            return outcome
        found = self._cut[unit.hour]
        found[unit] = outcome
        done = [each for each in found.values() if each is not None]
        if len(done) < len(found):
            return None
        del self._cut[unit.hour]
        self._far = {each: far for each, far in self._far.items() if each.hour != unit.hour}
        for each in done:
            if isinstance(each, FleetError):
                return each
        of_spans = [each for each in done if not isinstance(each, FleetError)]
        return outcome_of(f"{self._key} {unit.hour.partition_key}", lambda: self._joined(unit.hour, of_spans))
