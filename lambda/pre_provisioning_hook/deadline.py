"""One deadline over a whole decision, whatever a server does: hang, drip its answer, or let a name be looked up for
ever.

The decision runs in a thread of its own, as no time-out of a socket covers all of this. One that is late is left alone:
it looks at the clock before each step that changes something, and nobody waits for it any more.
"""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import TypeVar

DEADLINE_S = 3.5
"""AWS IoT waits 5 s for the answer, the start of a new process included; the rest is for that start."""

T = TypeVar("T")


class TooLate(Exception):
    """The answer was given without waiting for this decision."""


@dataclass(frozen=True)
class Deadline:
    """An instant of the monotonic clock after which nothing may be changed."""

    at: float = math.inf

    def check(self) -> None:
        """Raise TooLate when it has passed."""
        if time.monotonic() > self.at:
            raise TooLate


def within(seconds: float, work: Callable[[Deadline], T]) -> T:
    """Return what the work returns or raise what it raises; raise TooLate after so many seconds."""
    answer: Future[T] = Future()
    deadline = Deadline(time.monotonic() + seconds)
    threading.Thread(target=_into, args=(answer, work, deadline), daemon=True).start()
    done, _ = wait([answer], seconds)
    if not done:
        raise TooLate
    return answer.result()


def _into(answer: "Future[T]", work: Callable[[Deadline], T], deadline: Deadline) -> None:
    try:
        answer.set_result(work(deadline))
    except Exception as error:  # noqa: BLE001 (the thread's outermost frame: whoever waits is told)
        answer.set_exception(error)
