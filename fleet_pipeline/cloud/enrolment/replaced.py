"""The certificates that a vehicle had before its newest: ended, once the newest works; and one that somebody cut off,
put back.

Registration cannot end the former one: until the new one has connected, the former is all that the vehicle has.
A certificate with a policy of another fleet or of a stranger is left alone, whatever thing it is on.
"""

import re
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fleet_pipeline.aws.clients import Aws, absent, doing
from fleet_pipeline.cloud.claims.certificates import set_status
from fleet_pipeline.cloud.documents.device import device_policy_names
from fleet_pipeline.cloud.enrolment import enrolled
from fleet_pipeline.cloud.spreading import Sleep, delete_certificate
from fleet_pipeline.model.errors import InvalidName
from fleet_pipeline.model.fleet import Fleet

_RESERVATION = re.compile(r"([0-9a-f]{64})/[0-9]{1,12}", re.ASCII)
"""What the hook writes into a thing's `replacement` as it lets a certificate take the place of another."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate of a thing, as AWS IoT has it."""

    arn: str
    status: str
    created: datetime
    policies: tuple[str, ...]

    @property
    def certificate_id(self) -> str:
        """Its id, by which calls name it."""
        return self.arn.partition(enrolled.CERTIFICATE)[2]


@dataclass(frozen=True, slots=True)
class Replaced:
    """What there is to end of a thing: its `former` certificates, and the one that it keeps, if any.

    `unclear` says in words why nothing is ended, `left` which certificates are left alone and why.
    """

    thing: str
    kept: Certificate | None
    former: tuple[Certificate, ...] = ()
    unclear: str = ""
    left: tuple[str, ...] = ()


def replaced(fleet: Fleet, aws: Aws, thing: str, keep: str = "", *, every: bool = False) -> Replaced | None:
    """Return what there is to end of a thing; None when there is no such thing. Reads only.

    Kept is the newest certificate that works, or the one whose id is `keep`; with `every`, as after a theft, none is.
    Where the newest by its date is not the one that the hook let in last, nothing is ended until one is named. Without
    one that works nothing is former. Raises InvalidName when `keep` is no certificate of the thing that works.
    """
    with doing(f"show the certificates of thing {thing!r}"), absent("ResourceNotFoundException"):
        found = [each for arn in enrolled.principals(aws, thing) for each in _certificate(aws, arn)]
        ours = [each for each in found if all(is_ours(fleet, policy) for policy in each.policies)]
        left = _not_ours(fleet, [each for each in found if each not in ours])
        if every:
            return Replaced(thing, None, tuple(ours), left=left)
        works = sorted((each for each in ours if _works(fleet, each)), key=lambda each: each.created)
        if keep:
            [kept] = [each for each in works if each.certificate_id == keep] or [_not_working(thing, keep, works)]
            return Replaced(thing, kept, tuple(each for each in ours if each != kept), left=left)
        if not works:
            why = "no certificate of it works, so that none is former" if ours else ""
            return Replaced(thing, None, unclear=why, left=left)
        return _by_date(aws, thing, works[-1], ours, left)
    return None


def _by_date(aws: Aws, thing: str, newest: Certificate, ours: Sequence[Certificate], left: tuple[str, ...]) -> Replaced:
    others = [each for each in ours if each != newest]
    let_in = _let_in_last(aws, thing) if others else ""
    if any(each.certificate_id == let_in or each.created == newest.created for each in others):
        ids = " or ".join(each.certificate_id for each in (newest, *others))
        return Replaced(thing, newest, unclear=f"it is not clear which is its newest: say --keep {ids}", left=left)
    later = tuple(
        f"certificate {each.certificate_id} is {each.status} and was made after the newest that works"
        for each in others
        if each.created > newest.created
    )
    return Replaced(thing, newest, tuple(each for each in others if each.created < newest.created), left=left + later)


def all_replaced(fleet: Fleet, aws: Aws, things: Collection[str]) -> Iterator[Replaced | None]:
    """Yield of each thing what there is to end of it, None where that is nothing; and last, of no thing, certificates
    with the device policy that are off and have none, as a deletion that was stopped leaves them.

    Asks once for each thing and more for those with several certificates; of the account's by pages of 250.
    """
    with doing("list the certificates"):
        pages = aws.iot.get_paginator("list_certificates").paginate(PaginationConfig={"PageSize": enrolled.PAGE})
        off = {
            each["certificateArn"] for page in pages for each in page["certificates"] if each["status"] == "INACTIVE"
        }
    off &= set(enrolled.certificates(aws, fleet.device_policy_name))
    for thing in things:
        with doing(f"list the certificates of thing {thing!r}"), absent("ResourceNotFoundException"):
            principals = enrolled.principals(aws, thing)
            off -= {*principals}
            yield replaced(fleet, aws, thing) if len(principals) > 1 else None
            continue
        yield None
    alone = [each for arn in sorted(off) if not enrolled.things(aws, arn) for each in _certificate(aws, arn)]
    ours = tuple(each for each in alone if all(is_ours(fleet, policy) for policy in each.policies))
    yield Replaced("", None, ours) if ours else None


def end(
    fleet: Fleet, aws: Aws, certificates: Collection[Certificate], *, delete: bool = False, sleep: Sleep = time.sleep
) -> Iterator[str]:
    """Deactivate certificates, or delete them, and yield in words what was done; a second time nothing is.

    AWS IoT ends the connections of one that is deactivated within minutes. It keeps its policy and its thing, so that
    it is known as this fleet's, until it is deleted. One that has a thing named otherwise is not deleted.
    """
    for each in certificates:
        with doing(f"end certificate {each.certificate_id}"), absent("ResourceNotFoundException"):
            if each.status == "ACTIVE":
                set_status(aws, each.certificate_id, "INACTIVE")
            if not delete:
                yield f"certificate {each.certificate_id} is off"
                continue
            things = enrolled.things(aws, each.arn)
            if others := [thing for thing in things if not thing.startswith(fleet.thing_prefix)]:
                yield f"certificate {each.certificate_id} is off and stays, because {others[0]!r} has it, too"
                continue
            for thing in things:
                aws.iot.detach_thing_principal(thingName=thing, principal=each.arn)
            delete_certificate(aws, each.certificate_id, sleep)
            yield f"certificate {each.certificate_id} is deleted"


def put_back(fleet: Fleet, aws: Aws, thing: str, certificate_id: str = "") -> Iterator[str]:
    """Let a thing's newest certificate, or the one that is named, connect again, and yield in words what was done:
    it is active, it has the device policies, and the thing has it. Nothing is done where that is so.

    Raises InvalidName when the thing has no certificate of this fleet's, or the one that is named is not known, was
    revoked, or has a policy or a thing of others.
    """
    with doing(f"show the certificates of thing {thing!r}"), absent("ResourceNotFoundException"):
        on_it = [each for arn in enrolled.principals(aws, thing) for each in _certificate(aws, arn)]
        yield from _put_back(fleet, aws, thing, _meant(fleet, aws, on_it, thing, certificate_id), on_it)
        return
    raise InvalidName("thing", thing, "there is none: `fleet vehicle register` registers its vehicle")


def _meant(fleet: Fleet, aws: Aws, on_it: Sequence[Certificate], thing: str, certificate_id: str) -> Certificate:
    """Return the certificate that is to be put back: of those of the thing the newest, unless one is named."""
    anew = f"`fleet vehicle allow --replace --serial {thing.removeprefix(fleet.thing_prefix)}` lets it register anew"
    if certificate_id:
        found = list(_certificate(aws, fleet.arn("iot", f"cert/{certificate_id}")))
        if not found:
            raise InvalidName("certificate", certificate_id, f"AWS IoT knows none of this id; {anew}")
        elsewhere = [each for each in enrolled.things(aws, found[0].arn) if each != thing]
        if elsewhere:
            raise InvalidName("certificate", certificate_id, f"thing {elsewhere[0]!r} has it")
    else:
        found = [each for each in on_it if all(is_ours(fleet, policy) for policy in each.policies)]
        if not found:
            raise InvalidName("thing", thing, f"it has no certificate of this fleet's; {anew}")
    meant = max(found, key=lambda each: each.created)
    if not all(is_ours(fleet, policy) for policy in meant.policies):
        raise InvalidName(
            "certificate", meant.certificate_id, f"it has policies of others, {', '.join(meant.policies)}"
        )
    if meant.status not in {"ACTIVE", "INACTIVE"}:
        raise InvalidName("certificate", meant.certificate_id, f"it is {meant.status}, and stays so; {anew}")
    return meant


def _put_back(fleet: Fleet, aws: Aws, thing: str, meant: Certificate, on_it: Collection[Certificate]) -> Iterator[str]:
    with doing(f"put certificate {meant.certificate_id} back"):
        for policy in device_policy_names(fleet):
            if policy not in meant.policies:
                aws.iot.attach_policy(policyName=policy, target=meant.arn)
                yield f"certificate {meant.certificate_id} has {policy} again"
        if meant.arn not in {each.arn for each in on_it}:
            aws.iot.attach_thing_principal(thingName=thing, principal=meant.arn)
            yield f"thing {thing!r} has certificate {meant.certificate_id} again"
        if meant.status != "ACTIVE":
            set_status(aws, meant.certificate_id, "ACTIVE")
            yield f"certificate {meant.certificate_id} is active again"


def is_ours(fleet: Fleet, policy: str) -> bool:
    """Say whether a policy is the fleet's device policy, or a further one."""
    further = policy.removeprefix(fleet.further_device_policy_name(""))
    return policy == fleet.device_policy_name or (further != policy and further.isdecimal())


def _works(fleet: Fleet, each: Certificate) -> bool:
    return each.status == "ACTIVE" and fleet.device_policy_name in each.policies


def _certificate(aws: Aws, arn: str) -> Iterator[Certificate]:
    """Yield the certificate; nothing when it is gone, or the ARN is of another kind of principal."""
    if enrolled.CERTIFICATE in arn:
        with absent("ResourceNotFoundException"):
            certificate_id = arn.partition(enrolled.CERTIFICATE)[2]
            found: Any = aws.iot.describe_certificate(certificateId=certificate_id)["certificateDescription"]
            yield Certificate(arn, found["status"], found["creationDate"], tuple(enrolled.policies(aws, arn)))


def _let_in_last(aws: Aws, thing: str) -> str:
    """Return the id of the certificate that the hook let in last as a replacement; nothing where it let in none."""
    attributes = aws.iot.describe_thing(thingName=thing).get("attributes", {})
    found = _RESERVATION.fullmatch(attributes.get("replacement", ""))
    return found[1] if found else ""


def _not_ours(fleet: Fleet, certificates: Collection[Certificate]) -> tuple[str, ...]:
    return tuple(
        f"certificate {each.certificate_id} has "
        f"{' and '.join(policy for policy in each.policies if not is_ours(fleet, policy))}, which is not this fleet's"
        for each in certificates
    )


def _not_working(thing: str, keep: str, works: Collection[Certificate]) -> Certificate:
    there = ", ".join(each.certificate_id for each in works) or "none"
    raise InvalidName("certificate to keep", keep, f"of those of thing {thing!r} there work: {there}")
