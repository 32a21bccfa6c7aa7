"""What settings would take away without deleting it: rights of vehicles, and the bucket that rules write to.

What vehicles publish by a right that is taken is lost. Counted are the topics of rules, and the ready rights
(`device_rights`). What else stands in a policy may be somebody's slip, which an apply repairs without asking. So may
one rule that writes elsewhere; that all do says that the settings name another bucket.
"""

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.blueprint import resources, shown
from fleet_pipeline.cloud.documents.device import RIGHTS, ready_statements
from fleet_pipeline.cloud.documents.filled import Document
from fleet_pipeline.cloud.enrolment.further_policy import FurtherDevicePolicy
from fleet_pipeline.cloud.kinds.claim_certificate import ClaimCertificate
from fleet_pipeline.cloud.kinds.delivery_stream import DeliveryStream
from fleet_pipeline.cloud.kinds.iot_policy import IotPolicy
from fleet_pipeline.cloud.kinds.topic_rule import TopicRule
from fleet_pipeline.cloud.reconcile import Action, Resource, Step, look
from fleet_pipeline.model.errors import WouldLose
from fleet_pipeline.model.fleet import Fleet

_OF_A_RULE = re.compile(r".*?:topic/(?P<topic>\$aws/rules/(?P<rule>[^/*]+)/.+)")


def is_device_policy(fleet: Fleet, resource: Resource) -> bool:
    """Say whether it is one of the policies that every vehicle has."""
    return isinstance(resource, FurtherDevicePolicy) or (
        isinstance(resource, IotPolicy) and resource.name == fleet.device_policy_name
    )


def may_take(fleet: Fleet, resource: Resource) -> bool:
    """Say whether its change may take away what this module counts: to make the raw bucket is the first step to
    another.
    """
    return (
        _is_counted(fleet, resource)
        or isinstance(resource, ClaimCertificate)
        or resource.name in {fleet.bucket, fleet.rule_role_name}
    )


def _is_counted(fleet: Fleet, resource: Resource) -> bool:
    return is_device_policy(fleet, resource) or isinstance(resource, TopicRule | DeliveryStream)


def buckets_left(steps: Sequence[Step]) -> tuple[str, ...]:
    """Return the buckets to which rules write in AWS, where none writes to one that the settings name."""
    kept = [step for step in steps if step.action is not Action.DELETE]
    wanted = {bucket for step in kept for bucket in _written_to(step.wanted)}
    found = {bucket for step in kept if step.live for bucket in _written_to(step.live)}
    return tuple(sorted(found if wanted.isdisjoint(found) else ()))


def sight_lost(steps: Sequence[Step]) -> tuple[str, ...]:
    """Return in words what it means that buckets are left."""
    return tuple(
        f"sight of the bucket {bucket}, to which rules write until now: this fleet would no longer compact, watch or "
        "remove what lies there, and its claim certificate, which new vehicles have, would not be the fleet's any more"
        for bucket in buckets_left(steps)
    )


def to_confirm(fleet: Fleet, steps: Sequence[Step]) -> str:
    """Return by which bucket's name it is confirmed that these steps lose something: the one that is left, or the raw
    bucket of the settings.
    """
    return next(iter(buckets_left(steps)), fleet.bucket)


def _written_to(resource: Any) -> Iterator[str]:
    if isinstance(resource, DeliveryStream):
        yield resource.bucket_arn.rpartition(":")[2]
    if isinstance(resource, TopicRule) and "s3" in resource.action:
        yield resource.action["s3"].get("bucketName", "")


def rights_taken(fleet: Fleet, steps: Sequence[Step], *, but: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Return in words the rights that the device policies of these steps have in AWS and not in the settings.

    `but` names topic rules that are spoken of elsewhere.
    """
    policies = [step for step in steps if is_device_policy(fleet, step.wanted)]
    wanted = [_document(step.wanted) for step in policies if step.action is not Action.DELETE]
    found = [_document(step.live) for step in policies if step.live]
    return tuple(dict.fromkeys((*_topics(found, wanted, but), *_ready(fleet, found))))


def refuse_to_take(fleet: Fleet, aws: Aws, *, confirmed: str) -> None:
    """Raise WouldLose if vehicles would lose a right, or rules write to another bucket, unless `confirmed` is the name
    of the raw bucket, or of that which is left. Reads only.
    """
    steps = [look(each, aws) for each in resources(shown(fleet)) if _is_counted(fleet, each)]
    bucket = to_confirm(fleet, steps)
    if confirmed != bucket and (taken := (*rights_taken(fleet, steps), *sight_lost(steps))):
        raise WouldLose(taken, bucket, "materializing this")


def _document(policy: Any) -> Document:
    document: Document = policy.document
    return document


def _topics(found: Sequence[Document], wanted: Sequence[Document], but: frozenset[str]) -> Iterator[str]:
    kept = [_plain(each).replace("[", "[[]") for each in _published_to(wanted)]
    for resource in _published_to(found):
        named = _OF_A_RULE.fullmatch(resource)
        if named and named["rule"] not in but and not any(fnmatchcase(_plain(resource), each) for each in kept):
            yield f"vehicles' right to publish to {named['topic']}"


def _ready(fleet: Fleet, found: Sequence[Document]) -> Iterator[str]:
    for right in RIGHTS:
        if right not in fleet.device_rights and any(
            statement in document["Statement"] for statement in ready_statements(fleet, right) for document in found
        ):
            yield f"vehicles' right to their own {right} (FLEET_DEVICE_RIGHTS)"


def _published_to(documents: Sequence[Document]) -> Iterator[str]:
    for statement in (each for document in documents for each in document["Statement"]):
        if statement["Effect"] == "Allow" and "iot:Publish" in _listed(statement["Action"]):
            yield from _listed(statement["Resource"])


def _plain(resource: str) -> str:
    """Return a resource with the vehicle's name in one spelling: it was `${iot:ClientId}` once."""
    return re.sub(r"\$\{[^}]*\}", "{thing}", resource)


def _listed(said: str | list[str]) -> list[str]:
    return [said] if isinstance(said, str) else said
