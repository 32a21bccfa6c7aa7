"""A whole fleet at once: what would be done, and doing it."""

import time
from collections.abc import Iterator

from fleet_pipeline.aws import Aws
from fleet_pipeline.fleet import Fleet
from fleet_pipeline.provision.blueprint import blueprint, resources
from fleet_pipeline.provision.lock import Lock
from fleet_pipeline.provision.reconcile import Action, Sleep, Step, look, plan, reconcile


def plan_all(fleet: Fleet, aws: Aws) -> list[Step]:
    """Return what `apply_all` would do to every resource, in the order in which it would. Reads only, and raises no refusal."""
    return [look(resource, aws) for resource in resources(blueprint(fleet))]


def apply_all(fleet: Fleet, aws: Aws, lock: Lock, *, sleep: Sleep = time.sleep) -> Iterator[Step]:
    """Bring every resource to what the settings want, each after those on which it stands; yield each step once it is taken.

    When nothing differs, no writing call is made and the lock is not taken. Run again after it was killed, it goes on. What is refused
    anywhere (NotOurs, CannotChange) is refused before anything is changed. Raises LockHeld while someone else applies.
    """
    wanted = list(resources(blueprint(fleet)))
    steps = [plan(resource, aws) for resource in wanted]
    if all(step.action is Action.UNCHANGED for step in steps):
        yield from steps
    else:
        yield from (reconcile(resource, aws, permit=lock.take, sleep=sleep) for resource in wanted)
