"""Taking a fleet down again, in reverse order, without losing anything that nobody meant to lose.

What is kept: the two buckets with their data, unless they are asked for. What is not: everything else that the fleet made, the
vehicles' things and certificates (a thing that stayed would be refused when its vehicle registers with the next fleet), the claim
certificate with every version of its keys, the hook's log.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fleet_pipeline.aws import Aws, absent, doing
from fleet_pipeline.errors import AwsRefused, WouldLose
from fleet_pipeline.fleet import Fleet
from fleet_pipeline.provision import enrolled
from fleet_pipeline.provision.attachment import PolicyAttachment
from fleet_pipeline.provision.blueprint import blueprint
from fleet_pipeline.provision.bucket import Bucket
from fleet_pipeline.provision.claim import making
from fleet_pipeline.provision.claim.claims import FOLDER, stored_pem
from fleet_pipeline.provision.claim_certificate import ClaimCertificate
from fleet_pipeline.provision.function import Function
from fleet_pipeline.provision.iot_policy import IotPolicy
from fleet_pipeline.provision.leftovers import leftovers, lost_with
from fleet_pipeline.provision.objects import delete_objects
from fleet_pipeline.provision.reconcile import Action, Resource, Sleep, Step, look, remove

DETACHED_PAUSES_S = (10, 20, 30, *[60] * 5)
"""Waits for a policy that can be deleted "up to five minutes after it is detached". Source: API_DeletePolicy."""


EXAMPLES = 3
"""Vehicles that are named where many would be lost."""


@dataclass(frozen=True, slots=True)
class Gone:
    """One thing that is no longer there, or that was kept. `part` is its name in the blueprint, if it is one of its resources."""

    what: str
    action: str
    part: str = ""


def losses(fleet: Fleet, aws: Aws, *, with_data: bool = False) -> tuple[str, ...]:
    """Return in words what a teardown would lose for good. Reads only."""
    found = [_vehicles(fleet, aws), _claim(fleet, aws)]
    if with_data:
        found += [_objects(aws, fleet.bucket), _objects(aws, fleet.lake_bucket)]
    if fleet.allow_list == "dynamodb":
        found.append(_listed(fleet, aws))
    return (*(loss for loss in found if loss), *lost_with(leftovers(fleet, aws), aws))


def destroy(  # noqa: PLR0913 (each is a decision of its own)
    fleet: Fleet,
    aws: Aws,
    *,
    confirmed: str = "",
    with_data: bool = False,
    permit: Callable[[], None] = lambda: None,
    sleep: Sleep = time.sleep,
) -> Iterator[Gone]:
    """Remove the fleet, and yield what was removed as it goes. `permit` is asked before the first writing call.

    A second run finds nothing and does nothing. Stopped at any moment, the next run removes the rest. Raises, before anything is
    changed: WouldLose unless `confirmed` is the name of the raw bucket or nothing would be lost; NotOurs for what others made; what
    `permit` raises.
    """
    parts = {name: part.resource for name, part in blueprint(fleet).items()}
    going = leftovers(fleet, aws)
    standing = _standing(parts, aws) or bool(going)
    lost = losses(fleet, aws, with_data=with_data)
    if lost and confirmed != fleet.bucket:
        raise WouldLose(lost, fleet.bucket)
    if standing:
        permit()
    for each in going:
        step = _removed(each.wanted, aws, sleep)
        yield Gone(step.title, step.action)
        yield from _traces(aws, each.wanted)
    for name, resource in reversed(parts.items()):
        if isinstance(resource, Bucket) and not with_data:
            yield Gone(f"{resource.kind} {resource.name!r}", "kept", name)
        else:
            yield from _without_contents(fleet, aws, resource)
            step = _removed(resource, aws, sleep)
            yield Gone(step.title, step.action, name)
        yield from _traces(aws, resource)


def _standing(parts: dict[str, Resource], aws: Aws) -> bool:
    """Say whether any of the resources exists. Raises NotOurs."""
    steps = [look(resource, aws) for resource in parts.values()]
    for step in steps:
        if step.action is Action.NOT_OURS and step.refusal:
            raise step.refusal
    return any(step.live for step in steps)


def _without_contents(fleet: Fleet, aws: Aws, resource: Resource) -> Iterator[Gone]:
    """Remove what stands in the way of a resource's removal."""
    if isinstance(resource, IotPolicy):
        count = enrolled.remove_certificates(fleet, aws, resource.name)
        if count:
            yield Gone(f"{count} certificates with {resource.kind} {resource.name!r}, and their things", Action.DELETE)
    if isinstance(resource, PolicyAttachment):
        with doing("undo the making of a claim certificate that was stopped"):
            making.abandon(resource.claims, aws)
    if isinstance(resource, Bucket):
        _empty(aws, resource.name)


def _removed(resource: Resource, aws: Aws, sleep: Sleep) -> Step:
    if not isinstance(resource, IotPolicy):
        return remove(resource, aws, sleep=sleep)
    for pause_s in DETACHED_PAUSES_S:
        try:
            return remove(resource, aws, sleep=sleep)
        except AwsRefused as refusal:
            if refusal.code != "DeleteConflictException" or any(enrolled.certificates(aws, resource.name)):
                raise
            sleep(pause_s)
    return remove(resource, aws, sleep=sleep)


def _traces(aws: Aws, resource: Resource) -> Iterator[Gone]:
    """Remove what a resource leaves behind: versions of keys, a log."""
    if isinstance(resource, ClaimCertificate):
        _forget_keys(resource, aws)
    if isinstance(resource, Function):
        yield from _log(aws, f"/aws/lambda/{resource.name}")


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
        found = aws.logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
        if any(each["logGroupName"] == group for each in found):
            aws.logs.delete_log_group(logGroupName=group)
            yield Gone(f"log group {group!r}", Action.DELETE)


def _vehicles(fleet: Fleet, aws: Aws) -> str:
    found = list(enrolled.certificates(aws, fleet.device_policy_name))
    things = [thing for arn in found[:EXAMPLES] for thing in enrolled.things(aws, arn)]
    return f"{len(found)} certificates of registered vehicles, such as {', '.join(things)}" if found else ""


def _claim(fleet: Fleet, aws: Aws) -> str:
    found = list(enrolled.certificates(aws, fleet.claim_policy_name))
    return "the claim certificate, with which vehicles may have been shipped" if found else ""


def _objects(aws: Aws, bucket: str) -> str:
    with doing(f"list the objects of {bucket}"), absent("NoSuchBucket"):
        page: Any = aws.s3.list_object_versions(Bucket=bucket)
        count = len([each for each in page.get("Versions", []) if not each["Key"].startswith(f"{FOLDER}/")])
        return f"{'more than ' if page.get('IsTruncated') else ''}{count} object versions in bucket {bucket}" if count else ""
    return ""


def _listed(fleet: Fleet, aws: Aws) -> str:
    with doing(f"count the serials of {fleet.allow_list_table}"), absent("ResourceNotFoundException"):
        count = aws.dynamodb.scan(TableName=fleet.allow_list_table, Select="COUNT", Limit=1000)["Count"]
        return f"{count} serials of the allow-list" if count else ""
    return ""
