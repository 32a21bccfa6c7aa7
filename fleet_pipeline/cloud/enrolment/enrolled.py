"""The certificates that carry one of our policies, and their things: those of registered vehicles, and the claim
certificates.

Registered vehicles are known by the device policy: things of several fleets in one account may be named alike. A
listing of AWS IoT may be
seconds old, and a detachment may take as long: so nothing here trusts a listing to have become empty, and what is
refused meanwhile is waited for.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from fleet_pipeline.aws.clients import Aws, absent, doing
from fleet_pipeline.cloud.spreading import Sleep, delete_certificate, once_detached
from fleet_pipeline.model.fleet import Fleet

LEAVING = "fleet_pipeline_leaving"
"""Attribute of a thing that is about to be deleted.

Without it, a thing whose removal was stopped would no longer be known as ours.
"""

BATCH = 100
"""Certificates that are detached before the first of them is deleted, so that AWS IoT's delays pass
beside each other.
"""

PAGE = 250
"""Things, certificates or holders of a policy that AWS IoT names in one answer, at most; unasked it names fewer."""

CERTIFICATE = ":cert/"
"""What the ARN of a certificate has, and no other principal's."""


@dataclass(frozen=True, slots=True)
class Removed:
    """How many certificates were deleted, which things, and of each thing that stays in words why."""

    certificates: int
    things: frozenset[str]
    kept: Mapping[str, str]


def certificates(aws: Aws, policy: str) -> Iterator[str]:
    """Yield the ARNs of the certificates that carry a policy; nothing when there is no such policy."""
    return (each for each in _targets(aws, policy) if CERTIFICATE in each)


def others(aws: Aws, policy: str) -> list[str]:
    """Return what carries a policy and is no certificate, such as a thing group: this package puts its policies on
    certificates only.
    """
    return [each for each in _targets(aws, policy) if CERTIFICATE not in each]


def things(aws: Aws, certificate_arn: str) -> list[str]:
    """Return the things of a certificate; none when there is no such certificate."""
    with doing(f"list the things of {certificate_arn}"), absent("ResourceNotFoundException"):
        pages = aws.iot.get_paginator("list_principal_things").paginate(principal=certificate_arn)
        return [thing for page in pages for thing in page["things"]]
    return []


def policies(aws: Aws, target: str) -> list[str]:
    """Return the policies of a certificate; none when there is no such certificate."""
    with doing(f"list the policies of {target}"), absent("ResourceNotFoundException"):
        pages = aws.iot.get_paginator("list_attached_policies").paginate(target=target)
        return [policy["policyName"] for page in pages for policy in page["policies"]]
    return []


def remove_certificates(fleet: Fleet, aws: Aws, policy: str, sleep: Sleep = time.sleep) -> Removed:
    """Delete every certificate that carries a policy, and its things where they are named as ours and have no
    certificate of others. A certificate of such a thing from which somebody took the policy, and that has no other, is
    the fleet's: it goes with the thing.

    Stopped at any moment, the next run deletes the rest: the policy leaves a certificate together with the certificate,
    and last.
    """
    gone, leaving, count = set[str](), set[str](), 0
    while batch := list(islice((each for each in certificates(aws, policy) if each not in gone), BATCH)):
        gone |= set(batch)
        for arn in batch:
            leaving |= _take_from_things(fleet, aws, arn, policy)
        count += sum([_is_deleted(aws, arn, sleep) for arn in batch])
    looked_at = {}
    for thing in sorted(leaving | _left(fleet, aws)):
        count += sum([_is_deleted(aws, arn, sleep) for arn in _taken_without_policy(aws, thing, policy, gone)])
        looked_at[thing] = _kept(aws, thing, gone, sleep)
    kept = {thing: why for thing, why in looked_at.items() if why}
    return Removed(count, frozenset(looked_at.keys() - kept.keys()), kept)


def remove_vehicle(fleet: Fleet, aws: Aws, thing: str, sleep: Sleep = time.sleep) -> str:
    """Delete a thing with its certificates; nothing happens when there is no such thing.

    What another fleet has given it stays, and so does the thing then: fleets of one account may name theirs alike.
    Return why it stays; nothing where it is gone. A certificate without any policy lets nobody in, and goes.
    """
    with doing(f"list the certificates of thing {thing!r}"), absent("ResourceNotFoundException"):
        of_it = [arn for arn in principals(aws, thing) if CERTIFICATE in arn]
        said = {arn: policies(aws, arn) for arn in of_it}
        found = {arn for arn in of_it if not said[arn] or fleet.device_policy_name in said[arn]}
        for arn in found:
            _take_from_things(fleet, aws, arn, fleet.device_policy_name)
        for arn in found:
            _is_deleted(aws, arn, sleep)
        return _kept(aws, thing, found, sleep)
    return ""


def _targets(aws: Aws, policy: str) -> Iterator[str]:
    with doing(f"list what carries IoT policy {policy!r}"), absent("ResourceNotFoundException"):
        for page in aws.iot.get_paginator("list_targets_for_policy").paginate(
            policyName=policy, PaginationConfig={"PageSize": PAGE}
        ):
            yield from page["targets"]


def _take_from_things(fleet: Fleet, aws: Aws, arn: str, policy: str) -> set[str]:
    """Take a certificate from its things; return those named as ours.

    One that is about to be deleted is marked before it is no longer known.
    """
    found = things(aws, arn)
    for thing in found:
        with doing(f"take {thing!r} from {arn}"), absent("ResourceNotFoundException"):
            if thing.startswith(fleet.thing_prefix) and not _others(aws, thing, policy):
                aws.iot.update_thing(
                    thingName=thing, attributePayload={"attributes": {LEAVING: fleet.prefix}, "merge": True}
                )
            aws.iot.detach_thing_principal(thingName=thing, principal=arn)
    return {thing for thing in found if thing.startswith(fleet.thing_prefix)}


def _taken_without_policy(aws: Aws, thing: str, policy: str, gone: set[str]) -> list[str]:
    """Take from a thing its certificates without any policy, if it has no other, and return them; they join those that
    are `gone`. One that another thing has, too, stays.
    """
    with doing(f"list the certificates of thing {thing!r}"), absent("ResourceNotFoundException"):
        found = [each for each in principals(aws, thing) if each not in gone and _exists(aws, each)]
        if any(CERTIFICATE not in each or policies(aws, each) or things(aws, each) != [thing] for each in found):
            return []
        for arn in found:
            aws.iot.update_certificate(certificateId=arn.split(CERTIFICATE)[1], newStatus="INACTIVE")
            aws.iot.attach_policy(
                policyName=policy, target=arn
            )  # by which the next run knows it, if this one is stopped
            aws.iot.detach_thing_principal(thingName=thing, principal=arn)
        gone |= set(found)
        return found
    return []


def _is_deleted(aws: Aws, arn: str, sleep: Sleep) -> bool:
    """Delete a certificate; say whether there was one."""
    certificate_id = arn.split(CERTIFICATE)[1]
    with doing(f"delete certificate {certificate_id}"), absent("ResourceNotFoundException"):
        aws.iot.update_certificate(certificateId=certificate_id, newStatus="INACTIVE")
        delete_certificate(aws, certificate_id, sleep)
        return True
    return False


def _kept(aws: Aws, thing: str, gone: set[str], sleep: Sleep) -> str:
    """Delete a thing that has no certificate but those that are gone; otherwise return why it stays."""
    with doing(f"delete thing {thing!r}"), absent("ResourceNotFoundException"):
        staying = [each for each in principals(aws, thing) if each not in gone and _exists(aws, each)]
        if staying:
            return f"thing {thing!r}, because it also has {' and '.join(staying)}, which this fleet did not give it"
        once_detached(lambda: aws.iot.delete_thing(thingName=thing), sleep)
    return ""


def _left(fleet: Fleet, aws: Aws) -> set[str]:
    """Return the things whose removal was stopped halfway."""
    with doing("list the things that were about to be deleted"):
        pages = aws.iot.get_paginator("list_things").paginate(attributeName=LEAVING, attributeValue=fleet.prefix)
        return {thing["thingName"] for page in pages for thing in page["things"]}


def principals(aws: Aws, thing: str) -> list[str]:
    """Return the ARNs of what a thing is known by: certificates, for the most part."""
    pages = aws.iot.get_paginator("list_thing_principals").paginate(thingName=thing)
    return [principal for page in pages for principal in page["principals"]]


def _others(aws: Aws, thing: str, policy: str) -> bool:
    """Say whether a thing has a certificate with policies of others alone: then it stays."""
    found = principals(aws, thing)
    return len(found) > 1 and any(_exists(aws, each) and _of_others(aws, each, policy) for each in found)


def _of_others(aws: Aws, principal: str, policy: str) -> bool:
    found = policies(aws, principal)
    return policy not in found and (bool(found) or CERTIFICATE not in principal)


def _exists(aws: Aws, principal: str) -> bool:
    if CERTIFICATE not in principal:
        return True
    with absent("ResourceNotFoundException"):
        return bool(aws.iot.describe_certificate(certificateId=principal.split(CERTIFICATE)[1]))
    return False
