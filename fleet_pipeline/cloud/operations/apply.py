"""A whole fleet at once: what would be done, and doing it."""

import time
from collections.abc import Iterator, Sequence

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.blueprint import blueprint, resources
from fleet_pipeline.cloud.encryption import usable
from fleet_pipeline.cloud.kinds.topic_rule import TopicRule
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations.given import refuse_missing
from fleet_pipeline.cloud.operations.leftovers import leftovers, lost_with
from fleet_pipeline.cloud.operations.taken import rights_taken, sight_lost, to_confirm
from fleet_pipeline.cloud.reconcile import Action, Step, look, plan, reconcile, remove
from fleet_pipeline.cloud.spreading import Sleep
from fleet_pipeline.model.errors import WouldLose
from fleet_pipeline.model.fleet import Fleet


def plan_all(fleet: Fleet, aws: Aws) -> list[Step]:
    """Return what `apply_all` would do to every resource, in the order in which it would.

    Reads only, and raises no refusal.

    Raises InvalidSetting for a KMS key that cannot be used.
    """
    _check_key(fleet, aws)
    return [*(look(resource, aws) for resource in resources(blueprint(fleet))), *leftovers(fleet, aws)]


def losses(fleet: Fleet, steps: Sequence[Step], aws: Aws) -> tuple[str, ...]:
    """Return in words what vehicles or people would miss once these steps of a plan were taken, so that `apply_all`
    wants it confirmed. Reads only.
    """
    going = [step for step in steps if step.action is Action.DELETE]
    rules = frozenset(step.wanted.name for step in going if isinstance(step.wanted, TopicRule))
    return (*lost_with(going, aws), *rights_taken(fleet, steps, but=rules), *sight_lost(steps))


def apply_all(fleet: Fleet, aws: Aws, lock: Lock, *, confirmed: str = "", sleep: Sleep = time.sleep) -> Iterator[Step]:
    """Bring every resource to what the settings want, each after those on which it stands; yield each step once it is
    taken.

    What carries the fleet's tag and is no longer in the settings is deleted last. Raises WouldLose, before anything is
    changed, when vehicles may still use some of it, or lose a right, or rules would write to another bucket, unless
    `confirmed` is the name of the raw bucket, or of the one to which rules would no longer write.

    When nothing differs, no writing call is made and the lock is not taken. Run again after it was killed, it goes on.
    What is refused anywhere (NotOurs, CannotChange), or missing of what the settings name and somebody else makes
    (GivenThingMissing), is refused before anything is changed. Raises LockHeld while someone else applies,
    InvalidSetting for a KMS key that cannot be used.
    """
    _check_key(fleet, aws)
    wanted = list(resources(blueprint(fleet)))
    steps = [plan(resource, aws) for resource in wanted]
    going = leftovers(fleet, aws)
    lost, bucket = losses(fleet, [*steps, *going], aws), to_confirm(fleet, [*steps, *going])
    if lost and confirmed != bucket:
        raise WouldLose(lost, bucket, "applying these settings")
    if not going and all(step.action is Action.UNCHANGED for step in steps):
        yield from steps
        return
    refuse_missing(fleet, aws)
    yield from (reconcile(resource, aws, before_write=lock.take, sleep=sleep) for resource in wanted)
    for step in going:
        lock.take()
        yield remove(step.wanted, aws, sleep=sleep)


def _check_key(fleet: Fleet, aws: Aws) -> None:
    if fleet.kms_key:
        usable(aws, fleet.kms_key_arn)
