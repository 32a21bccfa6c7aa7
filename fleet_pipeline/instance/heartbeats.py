"""Whether a daemon of Dagster's is at work on an instance already: two of them launch every run twice.

The tables tell: each part of a daemon notes there, every half minute, that it lives.
"""

import time
from collections.abc import Callable

import dagster as dg

RECENT_S = 120
"""Seconds after which a beat is that of a daemon that ended: four of a living one's, on a machine that is busy."""

LOOKED_S = 45
"""Seconds for which another beat is waited for: a living daemon's come every 30."""

PAUSE_S = 1.0


def another_daemon(
    instance: dg.DagsterInstance,
    *,
    on_wait: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Say whether a daemon is at work on the instance.

    A recent beat may be the last of one that was just stopped. So the next is waited for, up to LOOKED_S, once
    `on_wait` was called. Where there is no recent one, the answer comes at once.
    """
    first = _latest(instance)
    begun = clock()
    if begun - first > RECENT_S:
        return False
    on_wait()
    while clock() - begun < LOOKED_S:
        sleep(PAUSE_S)
        if _latest(instance) > first:
            return True
    return False


def forget_beats(instance: dg.DagsterInstance) -> None:
    """Let the next start not wait for a daemon that has ended."""
    instance.wipe_daemon_heartbeats()


def _latest(instance: dg.DagsterInstance) -> float:
    return max((each.timestamp for each in instance.get_daemon_heartbeats().values()), default=0.0)
