"""Look, compare, act, look again: the one way in which a resource of AWS is planned, applied and removed.

A kind of resource is a frozen dataclass that is both what is wanted and what is found; drift is the list of its
differing fields. This module owns absence, refusal, waiting and wording; the kinds just call boto3.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, ClassVar, Protocol, Self, TypeVar

from fleet_pipeline.aws.clients import Aws, doing
from fleet_pipeline.cloud.spreading import Sleep, again
from fleet_pipeline.model.errors import AwsError, AwsRefused, AwsUnavailable, CannotChange, NotOurs

PAUSES_S = (0.5, 1, 2, 4, 8, 15, 30)
"""Waits between tries.

A new IAM role is assumable everywhere within a minute. Source: terraform-provider-aws waits 2 min at most.
"""

OVERTAKEN = {
    "BucketAlreadyOwnedByYou",
    "EntityAlreadyExists",
    "NoSuchBucket",
    "NoSuchEntity",
    "ResourceAlreadyExistsException",
    "ResourceInUseException",
    "ResourceNotFoundException",
    "VersionsLimitExceededException",
}
"""What AWS answers when it is no longer as it was looked at: the call was carried out and its answer lost, so that
botocore sent it a second time, or someone else was faster. Another look tells.
"""

STACK_TAG = "fleet_pipeline:stack"
"""The tag that says whose a resource is."""

T = TypeVar("T")


class Resource(Protocol):
    """One resource of AWS, wanted or found.

    Fields of the dataclass that take part in comparison are what is declared.
    """

    kind: ClassVar[str]
    fixed: ClassVar[frozenset[str]]

    @property
    def name(self) -> str:
        """The name that AWS knows it by."""

    @property
    def arn(self) -> str:
        """Its ARN, or the nearest thing that it has to one."""

    def console_path(self) -> str:
        """Where the AWS console shows it, below `https://console.aws.amazon.com/`."""

    def read(self, aws: Aws) -> Self | None:
        """Return what AWS has under this name, or None."""

    def create(self, aws: Aws) -> None:
        """Make it, as it is wanted."""

    def update(self, aws: Aws, found: Self) -> None:
        """Bring what was found to what is wanted."""

    def delete(self, aws: Aws) -> None:
        """Remove it."""


class Action(StrEnum):
    """What is to be done to a resource, or was."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    UNCHANGED = "unchanged"
    CANNOT_CHANGE = "cannot change"
    NOT_OURS = "not ours"
    DELETE = "delete"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Change:
    """One field that differs. `found` is None when there is no resource yet."""

    field: str
    found: Any
    wanted: Any


@dataclass(frozen=True)
class Step:
    """A resource, what is to be done to it (or was), and because of which fields.

    `live` is the resource as AWS has it now: before acting in a plan, afterwards in what `reconcile` and `remove`
    return.
    """

    wanted: Resource
    live: Resource | None
    action: Action
    changes: tuple[Change, ...] = ()

    @property
    def title(self) -> str:
        """The resource in words: `topic rule 'test_rule_rule1'`."""
        return _title(self.wanted)

    @property
    def refusal(self) -> AwsError | None:
        """Why `reconcile` would not do it, or None."""
        if self.action is Action.NOT_OURS:
            return _not_ours(self.wanted, self.live)
        refused = _refused(self.wanted, self.live)
        if refused:
            return refused
        if self.action is Action.CANNOT_CHANGE:
            fixed = next(change for change in self.changes if change.field in self.wanted.fixed)
            return CannotChange(self.title, fixed.field, fixed.found, fixed.wanted)
        return None


def look(wanted: Resource, aws: Aws) -> Step:
    """Return what AWS has, and what is to be done about it or why nothing can be. Reads only."""
    with doing(f"show {_title(wanted)}"):
        found = wanted.read(aws)
    changes = tuple(_changes(wanted, found))
    return Step(wanted, found, _action(wanted, found, changes), changes)


def plan(wanted: Resource, aws: Aws) -> Step:
    """Return what `reconcile` would do. Reads only. Raises NotOurs or CannotChange where it would."""
    step = look(wanted, aws)
    if step.refusal:
        raise step.refusal
    return step


def reconcile(
    wanted: Resource, aws: Aws, *, before_write: Callable[[], None] = lambda: None, sleep: Sleep = time.sleep
) -> Step:
    """Bring AWS to what is wanted and return the step that it took; when nothing differs, no writing call is made.

    Waits up to a minute while AWS has not heard of what the resource needs, and then until it shows what was done. What
    AWS took is
    not done a second time because AWS does not show it yet: that would make two certificates. `before_write` is asked
    before the first writing call. Raises what it raises, and AwsRefused, AwsUnavailable (after the wait), CannotChange,
    NotOurs.
    """
    first = patiently(lambda: plan(wanted, aws), sleep)
    if first.action is Action.UNCHANGED:
        return first
    before_write()
    patiently(lambda: _act(plan(wanted, aws), aws), sleep)
    return replace(first, live=patiently(lambda: _unchanged(plan(wanted, aws), first.action), sleep).live)


def remove(wanted: Resource, aws: Aws, *, sleep: Sleep = time.sleep) -> Step:
    """Make the resource absent; nothing is done when it is absent already. Raises NotOurs for what others made."""

    def look_and_delete() -> Step:
        with doing(f"show {_title(wanted)}"):
            found = wanted.read(aws)
        if found is None:
            return Step(wanted, None, Action.ABSENT)
        if _foreign(wanted, found):
            raise _not_ours(wanted, found)
        with doing(f"delete {_title(wanted)}"):
            found.delete(aws)
        return Step(wanted, None, Action.DELETE)

    return patiently(look_and_delete, sleep)


def declared(resource: Resource) -> dict[str, Any]:
    """Return what is declared of a resource, field by field, fit for JSON. Bytes and keys are never among it."""
    return {each.name: getattr(resource, each.name) for each in fields(resource) if each.compare}  # type: ignore[arg-type]


def _act(step: Step, aws: Aws) -> None:
    if step.action is not Action.UNCHANGED:
        with doing(f"{step.action} {step.title}"):
            step.wanted.create(aws) if step.live is None else step.wanted.update(aws, step.live)


def _unchanged(step: Step, done: Action) -> Step:
    if step.action is not Action.UNCHANGED:
        raise AwsUnavailable(
            f"{done} {step.title}",
            "NotYetVisible",
            f"still differs: {', '.join(change.field for change in step.changes)}",
        )
    return step


def _changes(wanted: Resource, found: Resource | None) -> list[Change]:
    before = declared(found) if found is not None else {}
    return [
        Change(name, before.get(name), value)
        for name, value in declared(wanted).items()
        if found is None or before[name] != value
    ]


def _action(wanted: Resource, found: Resource | None, changes: tuple[Change, ...]) -> Action:
    if found is None:
        return Action.CREATE
    if _foreign(wanted, found):
        return Action.NOT_OURS
    if _refused(wanted, found) or any(change.field in wanted.fixed for change in changes):
        return Action.CANNOT_CHANGE
    if not changes:
        return Action.UNCHANGED
    replaced: frozenset[str] = getattr(wanted, "replaced", frozenset())
    return Action.REPLACE if any(change.field in replaced for change in changes) else Action.UPDATE


def _refused(wanted: Resource, found: Resource | None) -> AwsError | None:
    """Ask a kind that has reasons of its own not to be changed, so that a plan says what an apply would."""
    refuse: Callable[[Resource], AwsError | None] | None = getattr(wanted, "refuse", None)
    return refuse(found) if refuse and found is not None else None


def _foreign(wanted: Resource, found: Resource) -> bool:
    # What carries no tag of ours is ours as that is on which it stands: a certificate its bucket, a statement its
    # function.
    ours = getattr(wanted, "tags", None)
    return ours is not None and STACK_TAG in ours and getattr(found, "tags", {}).get(STACK_TAG) != ours[STACK_TAG]


def _not_ours(wanted: Resource, found: Resource | None) -> NotOurs:
    """Return the refusal, with the settings by which the resource would be named otherwise, and the
    fleet whose it is.
    """
    owner = getattr(found, "tags", {}).get(STACK_TAG, "")
    return NotOurs(_title(wanted), getattr(wanted, "named_by", "FLEET_SERVICE or FLEET_ENVIRONMENT"), owner)


def _title(resource: Resource) -> str:
    return f"{resource.kind} {resource.name!r}"


def patiently(call: Callable[[], T], sleep: Sleep = time.sleep) -> T:
    """Make a call, from its first look on, again and again for a minute, as long as what AWS answers may pass."""
    return again(
        call,
        PAUSES_S,
        lambda error: isinstance(error, AwsRefused) and (error.retryable or error.code in OVERTAKEN),
        sleep,
    )
