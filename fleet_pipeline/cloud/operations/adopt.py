"""Resources that carry our names and not our tag, made by the CDK app or by hand: taken over without being made anew.

Adopting sets the tags and nothing else. What differs besides is then an update like any other, which a plan shows
first.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fleet_pipeline.aws.clients import Aws, doing
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations.apply import plan_all
from fleet_pipeline.cloud.reconcile import STACK_TAG, Action, Step
from fleet_pipeline.model.fleet import Fleet


def foreign(fleet: Fleet, aws: Aws) -> list[Step]:
    """Return the resources of our names that lack our tag, each with its differences. Reads only.

    A certificate, its policy's attachment and a function's statements carry no tags: they are ours as soon as their
    bucket and their function are.
    """
    return [step for step in plan_all(fleet, aws) if step.action is Action.NOT_OURS]


def adopt(fleet: Fleet, aws: Aws, lock: Lock) -> list[Step]:
    """Tag what `foreign` lists, and nothing else; return what was tagged. A second time there is nothing to tag.

    Raises NotOurs, before anything is changed, when one of them carries the tag of another fleet. Raises LockHeld.
    """
    found = foreign(fleet, aws)
    _refuse_those_of_other_fleets(found)
    for step in found:
        lock.take()
        _tag(step, aws)
    return found


def _tag(step: Step, aws: Aws) -> None:
    # What is wanted here is what was found, with our tags: the resource's own update then has only the tags to set.
    live: Any = step.live
    wanted: Any = step.wanted
    with doing(f"tag {step.title}"):
        replace(live, tags=wanted.tags).update(aws, live)


def _refuse_those_of_other_fleets(found: Sequence[Step]) -> None:
    for step in found:
        live: Any = step.live
        if STACK_TAG in live.tags and step.refusal:
            raise step.refusal
