"""A daemon at work on an instance is noticed before a second one starts; one that has ended holds nobody up for long."""

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat

from fleet_pipeline.instance.heartbeats import LOOKED_S, RECENT_S, another_daemon, forget_beats

NOW = 1_795_442_400.0


class World:
    """An instance, and a clock that goes on by sleeping; a living daemon beats every 30 seconds."""

    def __init__(self, instance, *, beat_at, living):
        self.instance, self.now, self.living = instance, NOW, living
        self.beat_at, self.waited = beat_at, []
        self.beat(beat_at)

    def beat(self, at):
        self.instance.add_daemon_heartbeat(DaemonHeartbeat(at, "SENSOR", "one", None))
        self.beat_at = at

    def sleep(self, seconds):
        self.now += seconds
        if self.living and self.now >= self.beat_at + 30:
            self.beat(self.now)

    def answer(self):
        return another_daemon(
            self.instance, on_wait=lambda: self.waited.append(self.now), clock=lambda: self.now, sleep=self.sleep
        )


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.mark.parametrize("ago", [0, 1, 29, 60])
def test_a_daemon_that_beats_is_noticed(instance, ago):
    world = World(instance, beat_at=NOW - ago, living=True)
    assert (world.answer(), world.waited) == (True, [NOW])
    assert world.now - NOW <= 31


def test_one_that_was_just_stopped_is_waited_for_once(instance):
    world = World(instance, beat_at=NOW - 2, living=False)
    assert (world.answer(), world.waited) == (False, [NOW])
    assert world.now - NOW == LOOKED_S


def test_one_that_ended_long_ago_or_whose_beats_were_forgotten_is_not_waited_for(instance):
    world = World(instance, beat_at=NOW - RECENT_S - 1, living=False)
    assert (world.answer(), world.waited) == (False, [])
    world = World(instance, beat_at=NOW - 2, living=False)
    forget_beats(instance)
    assert (world.answer(), world.waited) == (False, [])
