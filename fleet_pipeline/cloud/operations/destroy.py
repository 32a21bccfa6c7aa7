"""Taking a fleet down again, in reverse order, without losing anything that nobody meant to lose.

What is kept: the two buckets with their data, unless they are asked for; one that is another team's in any case. What
is not: everything else that the fleet made, the vehicles' things and certificates (a thing that stayed would be refused
when its vehicle registers with the next fleet), the claim certificate with every version of its keys, the hook's log.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from fleet_pipeline.aws.clients import Aws, absent, doing
from fleet_pipeline.aws.objects import delete_objects
from fleet_pipeline.cloud import lifecycle_rules
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.claims import making
from fleet_pipeline.cloud.claims.certificates import FOLDER, stored_certificate_id, stored_pem
from fleet_pipeline.cloud.enrolment import allow_list, connecting, enrolled
from fleet_pipeline.cloud.enrolment.further_policy import FurtherDevicePolicy
from fleet_pipeline.cloud.kinds.attachment import PolicyAttachment
from fleet_pipeline.cloud.kinds.bucket import Bucket
from fleet_pipeline.cloud.kinds.claim_certificate import ClaimCertificate
from fleet_pipeline.cloud.kinds.function import Function
from fleet_pipeline.cloud.kinds.given_bucket import GivenBucket
from fleet_pipeline.cloud.kinds.iot_policy import IotPolicy
from fleet_pipeline.cloud.kinds.log_group import described
from fleet_pipeline.cloud.kinds.thing_type import ThingType
from fleet_pipeline.cloud.operations.leftovers import leftovers, lost_with
from fleet_pipeline.cloud.reconcile import Action, Resource, look, remove
from fleet_pipeline.cloud.spreading import Sleep
from fleet_pipeline.model.errors import AwsRefused, StillUsed, WouldLose
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.names import log_of

DETACHED_PAUSES_S = (10, 20, 30, *[60] * 5)
"""Waits for a policy that can be deleted "up to five minutes after it is detached". Source: API_DeletePolicy."""

STANDS_IN_THE_WAY = {"BucketNotEmpty", "CertificateStateException", "DeleteConflict", "DeleteConflictException"}
"""What AWS answers while something is still on what is to be deleted, or came after its contents were listed."""

TOO_SOON = "InvalidRequestException"
"""What AWS IoT answers of a thing type that was deprecated less than five minutes ago, or that a thing still has."""

EXAMPLES = 3
"""Vehicles that are named where many would be lost."""


@dataclass(frozen=True, slots=True)
class Gone:
    """One thing that is no longer there, or that was kept.

    `part` is its name in the blueprint, if it is one of its resources; `things` are those that it tells of.
    """

    what: str
    action: str
    part: str = ""
    things: frozenset[str] = frozenset()


def losses(fleet: Fleet, aws: Aws, *, with_data: bool = False) -> tuple[str, ...]:
    """Return in words what a teardown would lose for good. Reads only."""
    found = [_vehicles(fleet, aws), _claim(fleet, aws)]
    if with_data:
        found += [_objects(aws, name) for name in (fleet.bucket, fleet.lake_bucket) if name not in fleet.given]
    if fleet.allow_list == "dynamodb":
        found.append(allow_list.counted(aws, fleet.allow_list_table))
    return (*(loss for loss in found if loss), *lost_with(leftovers(fleet, aws), aws))


def destroy(  # noqa: PLR0913 (each is a decision of its own)
    fleet: Fleet,
    aws: Aws,
    *,
    confirmed: str = "",
    with_data: bool = False,
    before_write: Callable[[], None] = lambda: None,
    sleep: Sleep = time.sleep,
) -> Iterator[Gone]:
    """Remove the fleet, and yield what was removed as it goes. `before_write` is asked before the first writing call.

    A second run finds nothing and does nothing. Stopped at any moment, the next run removes the rest. Raises, before
    anything is
    changed: WouldLose unless `confirmed` is the name of the raw bucket or nothing would be lost; NotOurs for what
        others made; StillUsed for a
    policy that others have put on something of theirs; what `before_write` raises.
    """
    parts = {name: part.resource for name, part in blueprint(fleet).items()}
    going = leftovers(fleet, aws)
    standing = _standing(parts, aws) or bool(going)
    for resource in parts.values():
        _refuse_to_take_from_others(fleet, resource, aws)
    lost = losses(fleet, aws, with_data=with_data)
    if lost and confirmed != fleet.bucket:
        raise WouldLose(lost, fleet.bucket, "destroying the fleet")
    if standing:
        before_write()
    for each in going:
        yield from _removed(fleet, aws, each.wanted, "", sleep)
    known: set[str] = set()
    for name, resource in reversed(parts.items()):
        if isinstance(resource, GivenBucket) or (isinstance(resource, Bucket) and not with_data):
            yield from _kept(aws, resource, name)
        else:
            for gone in _removed(fleet, aws, resource, name, sleep):
                known |= gone.things
                yield gone
    yield from (Gone(why, "kept") for why in connecting.left_behind(fleet, aws, known))
    yield from _boundary(fleet, aws)


def _kept(aws: Aws, bucket: GivenBucket | Bucket, name: str) -> Iterator[Gone]:
    """Leave a bucket with its data, if it is there, without our lifecycle rules."""
    title = f"{bucket.kind} {bucket.name!r}"
    found = look(bucket, aws).live
    if found is None or (isinstance(found, GivenBucket) and found.bucket is None):
        yield Gone(title, Action.ABSENT, name)
        return
    yield from _without_rules(aws, bucket)
    yield Gone(title, "kept", name)


def _boundary(fleet: Fleet, aws: Aws) -> Iterator[Gone]:
    """Name the permissions boundary, which an administrator made and others' roles may have."""
    if arn := fleet.boundary_arn:
        with doing(f"show policy {arn}"), absent("NoSuchEntity"):
            aws.iam.get_policy(PolicyArn=arn)
            yield Gone(f"policy {arn}, the boundary of FLEET_ROLE_BOUNDARY: who made it removes it", "kept")


def _without_rules(aws: Aws, bucket: GivenBucket | Bucket) -> Iterator[Gone]:
    """Take our lifecycle rules from a bucket that is kept: nobody is there who could change them."""
    with doing(f"take lifecycle rules from bucket {bucket.name}"), absent("NoSuchBucket"):
        if isinstance(bucket, Bucket) and (rules := lifecycle_rules.found(aws, bucket.name)):
            lifecycle_rules.put(aws, bucket.name, {})
            yield Gone(f"{len(rules)} lifecycle rules of {bucket.kind} {bucket.name!r}", Action.DELETE)


def _standing(parts: dict[str, Resource], aws: Aws) -> bool:
    """Say whether any of the resources exists. Raises NotOurs."""
    steps = [look(resource, aws) for resource in parts.values()]
    for step in steps:
        if step.action is Action.NOT_OURS and step.refusal:
            raise step.refusal
    return any(step.live for step in steps if not isinstance(step.wanted, GivenBucket))


def _refuse_to_take_from_others(fleet: Fleet, resource: Resource, aws: Aws) -> None:
    found = enrolled.others(aws, resource.name) if isinstance(resource, IotPolicy | FurtherDevicePolicy) else []
    if found:
        raise StillUsed(resource.name, tuple(found), fleet.by_hand)


def _removed(fleet: Fleet, aws: Aws, resource: Resource, name: str, sleep: Sleep) -> Iterator[Gone]:
    """Remove a resource with what is in it or on it, as often as something is still there or comes meanwhile."""
    for pause_s in DETACHED_PAUSES_S:
        yield from _without_contents(fleet, aws, resource, sleep)
        try:
            step = remove(resource, aws, sleep=sleep)
            break
        except AwsRefused as refusal:
            if refusal.code not in STANDS_IN_THE_WAY and not (
                isinstance(resource, ThingType) and refusal.code == TOO_SOON
            ):
                raise
        _refuse_to_take_from_others(fleet, resource, aws)
        sleep(pause_s)
    else:
        step = remove(resource, aws, sleep=sleep)
    yield Gone(step.title, step.action, name)
    yield from _traces(fleet, aws, resource, name)


def _without_contents(fleet: Fleet, aws: Aws, resource: Resource, sleep: Sleep) -> Iterator[Gone]:
    """Remove what stands in the way of a resource's removal."""
    if isinstance(resource, IotPolicy):
        removed = enrolled.remove_certificates(fleet, aws, resource.name, sleep)
        if removed.certificates or removed.things:
            yield Gone(
                f"{removed.certificates} certificates with {resource.kind} {resource.name!r}, and "
                f"{len(removed.things)} things of theirs",
                Action.DELETE,
                things=removed.things,
            )
        yield from (Gone(why, "kept", things=frozenset({thing})) for thing, why in removed.kept.items())
    if isinstance(resource, PolicyAttachment):
        with doing("undo the making of a claim certificate that was stopped"):
            making.abandon(resource.claims, aws)
    if isinstance(resource, ClaimCertificate):
        yield from _freed(resource, aws)
    if isinstance(resource, Bucket):
        _empty(aws, resource.name)


def _freed(certificate: ClaimCertificate, aws: Aws) -> Iterator[Gone]:
    """Take from the claim certificate what others have put on it, with which AWS IoT would not delete it.

    What they put there stays.
    """
    arn = certificate.claims.arn(stored_certificate_id(aws, certificate.claims.bucket) or "")
    for thing in enrolled.things(aws, arn):
        with doing(f"take {thing!r} from the claim certificate"), absent("ResourceNotFoundException"):
            aws.iot.detach_thing_principal(thingName=thing, principal=arn)
            yield Gone(f"thing {thing!r} from the claim certificate", "detached")
    for policy in enrolled.policies(aws, arn):
        if policy != certificate.claims.policy_name:
            with doing(f"take {policy!r} from the claim certificate"), absent("ResourceNotFoundException"):
                aws.iot.detach_policy(policyName=policy, target=arn)
                yield Gone(f"IoT policy {policy!r} from the claim certificate", "detached")


def _traces(fleet: Fleet, aws: Aws, resource: Resource, name: str) -> Iterator[Gone]:
    """Remove what a resource leaves behind: versions of keys, a log that is no part of its own."""
    if isinstance(resource, ClaimCertificate):
        _forget_keys(resource, aws)
    if isinstance(resource, Function) and not (name and fleet.makes_logs):
        yield from _log(aws, log_of(resource.name))


def _forget_keys(certificate: ClaimCertificate, aws: Aws) -> None:
    # The PEM goes last: it says which key is meant, wherever the keys are kept.
    bucket = certificate.claims.bucket
    pem = stored_pem(aws, bucket)
    if pem:
        with doing("delete the key of the claim certificate"):
            certificate.claims.keys.delete(aws, pem)
    _empty(aws, bucket, f"{FOLDER}/")


def _empty(aws: Aws, bucket: str, prefix: str = "") -> None:
    """Delete every version and every delete marker below a prefix."""
    with doing(f"empty bucket {bucket}"), absent("NoSuchBucket"):
        for page in aws.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
            listed: list[Any] = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            delete_objects(aws, bucket, [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in listed])


def _log(aws: Aws, group: str) -> Iterator[Gone]:
    with doing(f"delete log group {group}"):
        if described(aws, group):
            aws.logs.delete_log_group(logGroupName=group)
            yield Gone(f"log group {group!r}", Action.DELETE)


def _vehicles(fleet: Fleet, aws: Aws) -> str:
    found = list(enrolled.certificates(aws, fleet.device_policy_name))
    things = dict.fromkeys(thing for arn in found[:EXAMPLES] for thing in enrolled.things(aws, arn))
    return f"{len(found)} certificates of registered vehicles, such as {', '.join(things)}" if found else ""


def _claim(fleet: Fleet, aws: Aws) -> str:
    found = list(enrolled.certificates(aws, fleet.claim_policy_name))
    return "the claim certificate, with which vehicles may have been shipped" if found else ""


def _objects(aws: Aws, bucket: str) -> str:
    with doing(f"list the objects of {bucket}"), absent("NoSuchBucket"):
        pages: Any = aws.s3.get_paginator("list_object_versions").paginate(Bucket=bucket)
        found = (
            each for page in pages for each in page.get("Versions", []) if not each["Key"].startswith(f"{FOLDER}/")
        )
        count = len(list(islice(found, allow_list.MANY + 1)))
        return (
            (
                f"{'more than ' if count > allow_list.MANY else ''}{min(count, allow_list.MANY)} object versions in "
                f"bucket {bucket}"
            )
            if count
            else ""
        )
    return ""
