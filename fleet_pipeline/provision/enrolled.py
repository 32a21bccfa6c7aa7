"""The certificates that carry one of our policies, and their things: those of registered vehicles, and the claim certificates.

Registered vehicles are known by the device policy: things of several fleets in one account may be named alike.
"""

from collections.abc import Iterator
from itertools import islice

from fleet_pipeline.aws import Aws, absent, doing
from fleet_pipeline.fleet import Fleet

LEAVING = "fleet_pipeline_leaving"
"""Attribute of a thing that is about to be deleted. Without it, a thing whose removal was stopped would no longer be known as ours."""

_CERTIFICATE = ":cert/"


def certificates(aws: Aws, policy: str) -> Iterator[str]:
    """Yield the ARNs of what carries a policy; nothing when there is no such policy."""
    with doing(f"list what carries IoT policy {policy!r}"), absent("ResourceNotFoundException"):
        for page in aws.iot.get_paginator("list_targets_for_policy").paginate(policyName=policy):
            yield from page["targets"]


def things(aws: Aws, certificate_arn: str) -> list[str]:
    """Return the things of a certificate."""
    with doing(f"list the things of {certificate_arn}"):
        pages = aws.iot.get_paginator("list_principal_things").paginate(principal=certificate_arn)
        return [thing for page in pages for thing in page["things"]]


def remove_certificates(fleet: Fleet, aws: Aws, policy: str) -> int:
    """Delete every certificate that carries a policy, and its things where they are named as ours; return how many certificates there were.

    Stopped at any moment, the next run deletes the rest: the policy leaves a certificate together with the certificate, and last.
    """
    count = 0
    while batch := list(islice(certificates(aws, policy), 100)):
        for arn in batch:
            remove_certificate(fleet, aws, arn, policy)
        count += len(batch)
    remove_leaving_things(fleet, aws)
    return count


def remove_certificate(fleet: Fleet, aws: Aws, arn: str, policy: str) -> None:
    """Delete a certificate and its things. What is no certificate, such as a thing group, just loses the policy."""
    if _CERTIFICATE not in arn:
        with doing(f"detach IoT policy {policy!r} from {arn}"):
            aws.iot.detach_policy(policyName=policy, target=arn)
        return
    for thing in things(aws, arn):
        remove_thing(fleet, aws, thing, arn)
    certificate_id = arn.split(_CERTIFICATE)[1]
    with doing(f"delete certificate {certificate_id}"), absent("ResourceNotFoundException"):
        aws.iot.update_certificate(certificateId=certificate_id, newStatus="INACTIVE")
        aws.iot.delete_certificate(certificateId=certificate_id, forceDelete=True)


def remove_thing(fleet: Fleet, aws: Aws, thing: str, arn: str) -> None:
    """Take a thing from its certificate, and delete it if it is named as ours and has no other."""
    ours = thing.startswith(fleet.thing_prefix)
    with doing(f"delete thing {thing!r}"):
        if ours:
            aws.iot.update_thing(thingName=thing, attributePayload={"attributes": {LEAVING: fleet.prefix}, "merge": True})
        aws.iot.detach_thing_principal(thingName=thing, principal=arn)
        if ours:
            _delete_if_bare(aws, thing)


def remove_leaving_things(fleet: Fleet, aws: Aws) -> None:
    """Delete the things whose removal was stopped halfway."""
    with doing("list the things that were about to be deleted"):
        pages = aws.iot.get_paginator("list_things").paginate(attributeName=LEAVING, attributeValue=fleet.prefix)
        left = [thing["thingName"] for page in pages for thing in page["things"]]
    for thing in left:
        with doing(f"delete thing {thing!r}"):
            _delete_if_bare(aws, thing)


def _delete_if_bare(aws: Aws, thing: str) -> None:
    pages = aws.iot.get_paginator("list_thing_principals").paginate(thingName=thing)
    if not any(page["principals"] for page in pages):
        aws.iot.delete_thing(thingName=thing)
