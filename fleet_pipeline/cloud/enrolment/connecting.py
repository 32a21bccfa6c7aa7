"""Whether registered vehicles can connect, as AWS IoT has them: a thing, its certificate, the device policy on it.

Each of the three is somebody's to take away by hand, and no resource of the blueprint shows it. Reads only.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from fleet_pipeline.aws.clients import Aws, absent, doing
from fleet_pipeline.cloud.claims.certificates import status
from fleet_pipeline.cloud.enrolment import enrolled
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.thing import THING_NAME

LEFT_BEHIND = 1_000
"""Things that are looked at after a teardown: in an account of several fleets most are another's."""


@dataclass(frozen=True, slots=True)
class Noticed:
    """What is to be said of a thing or a certificate: what is so, and what changes it.

    `cut off`: its vehicle cannot connect. `others`: nor can it here, as its certificates have policies, but not ours:
    those of another fleet in the account do. `twofold`: it can, by more certificates than one, as after a replacement.
    """

    what: str
    why: str
    remedy: str
    kind: Literal["cut off", "others", "twofold"] = "cut off"

    def __str__(self) -> str:
        return f"{self.what} {self.why}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class _Held:
    """What is known of certificates: the status of each, and which have the device policy."""

    statuses: Mapping[str, str]
    having: Collection[str]


def of_vehicle(fleet: Fleet, aws: Aws, serial: str) -> str | Noticed:
    """Say in words that a vehicle can connect or was never registered, or return why it cannot.

    Asks once, and twice for each of its certificates.
    """
    thing = fleet.thing_name(serial)
    certificates = _certificates(aws, thing) if THING_NAME.fullmatch(thing) else None
    if certificates is None:
        return f"there is no thing {thing!r}: it is not registered"
    with doing(f"show the certificates of thing {thing!r}"):
        statuses = {each: status(aws, _id(each)) or "gone" for each in certificates}
    having = {each for each in certificates if fleet.device_policy_name in enrolled.policies(aws, each)}
    return _noticed(fleet, aws, thing, certificates, _Held(statuses, having)) or (
        f"thing {thing!r} has an active certificate with {fleet.device_policy_name}: it can connect"
    )


def named_as_ours(fleet: Fleet, aws: Aws) -> list[str]:
    """Return the things that are named as the fleet's; all things of the account are listed, 250 by each call."""
    with doing("list the things"):
        pages = aws.iot.get_paginator("list_things").paginate(PaginationConfig={"PageSize": enrolled.PAGE})
        return [
            each["thingName"]
            for page in pages
            for each in page["things"]
            if each["thingName"].startswith(fleet.thing_prefix)
        ]


def is_made(fleet: Fleet, aws: Aws) -> bool:
    """Say whether there is a device policy, without which no vehicle registers."""
    with doing(f"show IoT policy {fleet.device_policy_name!r}"), absent("ResourceNotFoundException"):
        return bool(aws.iot.get_policy(policyName=fleet.device_policy_name))
    return False


def looked_at(fleet: Fleet, aws: Aws, things: Collection[str]) -> Iterator[Noticed | None]:
    """Yield of each thing why its vehicle cannot connect, or that it can by more certificates than one; None if it can
    by one, or the thing is gone; and then of each certificate with the device policy that has no thing.

    Asks once for each thing, and for the account's certificates by pages of 250.
    """
    with doing("list the certificates"):
        pages = aws.iot.get_paginator("list_certificates").paginate(PaginationConfig={"PageSize": enrolled.PAGE})
        statuses = {each["certificateArn"]: str(each["status"]) for page in pages for each in page["certificates"]}
    having = set(enrolled.certificates(aws, fleet.device_policy_name))
    held = _Held(statuses, having)
    seen: set[str] = set()
    for thing in things:
        certificates = _certificates(aws, thing)
        seen |= {*(certificates or ())}
        yield None if certificates is None else _noticed(fleet, aws, thing, certificates, held)
    for each in sorted(having - seen):
        if not enrolled.things(aws, each):
            back = (
                f"`fleet vehicle restore --certificate {_id(each)} --serial …` gives it back to the thing that it was "
                "taken from"
            )
            gone = "; `fleet vehicle retire --all --delete` deletes it" if statuses.get(each) == "INACTIVE" else ""
            yield Noticed(f"certificate {_id(each)}", f"has {fleet.device_policy_name} and no thing", back + gone)


def left_behind(fleet: Fleet, aws: Aws, known: Collection[str]) -> Iterator[str]:
    """Yield in words which things named as ours stay after a teardown, but those that are `known`: whose certificate,
    if any, has no policy. Of what has policies of others nothing is said.
    """
    staying = [thing for thing in named_as_ours(fleet, aws) if thing not in known]
    for thing in staying[:LEFT_BEHIND]:
        certificates = _certificates(aws, thing)
        if certificates is None or any(enrolled.policies(aws, each) for each in certificates):
            continue
        why = f"its certificate {_ids(certificates)} has no policy" if certificates else "it has no certificate"
        yield (
            f"thing {thing!r}, because {why}, so that nothing says whose it is: while it stays, its vehicle is refused "
            "when it registers; if it was this fleet's, delete it, or let its vehicle in again with "
            f"{_replace(fleet, thing)}"
        )
    if more := len(staying) - LEFT_BEHIND:
        yield from [f"{more:,} more things named as this fleet's, which nobody looked at"] * (more > 0)


def _noticed(fleet: Fleet, aws: Aws, thing: str, certificates: Collection[str], held: _Held) -> Noticed | None:
    named, anew = f"thing {thing!r}", f"{_replace(fleet, thing)} lets it register anew"
    restore = _command(fleet, "restore", thing)
    ours = [each for each in certificates if each in held.having]
    active = [each for each in ours if held.statuses.get(each) == "ACTIVE"]
    if len(active) > 1:
        ending = f"{_command(fleet, 'retire', thing)} ends the former ones"
        return Noticed(named, f"can connect by {len(active)} certificates, {_ids(active)}", ending, "twofold")
    if active:
        return None
    if not certificates:
        return Noticed(named, "has no certificate", anew)
    if ours:
        off = any(held.statuses.get(each) == "INACTIVE" for each in ours)
        on = f"unless somebody meant that, turn it on with {restore}; or " if off else ""
        said = f"has certificate {_id(ours[0])}, which is {held.statuses.get(ours[0], 'gone')}"
        return Noticed(named, said, on + anew)
    others = sorted({policy for each in certificates for policy in enrolled.policies(aws, each)})
    has = " and ".join(others) or "no policy"
    said = f"has certificate {_ids(certificates)} with {has}, and not {fleet.device_policy_name}"
    if others:
        return Noticed(named, said, f"if it is this fleet's vehicle, {anew}", "others")
    return Noticed(named, said, f"{restore} puts it back; or {anew}")


def _certificates(aws: Aws, thing: str) -> list[str] | None:
    """Return the ARNs of a thing's certificates, or None when there is no such thing."""
    with doing(f"list the certificates of thing {thing!r}"), absent("ResourceNotFoundException"):
        return [each for each in enrolled.principals(aws, thing) if enrolled.CERTIFICATE in each]
    return None


def _replace(fleet: Fleet, thing: str) -> str:
    return _command(fleet, "allow --replace", thing)


def _command(fleet: Fleet, verb: str, thing: str) -> str:
    return f"`fleet vehicle {verb} --serial {thing.removeprefix(fleet.thing_prefix)}`"


def _ids(certificates: Collection[str]) -> str:
    return " and ".join(map(_id, certificates))


def _id(certificate: str) -> str:
    return certificate.partition(enrolled.CERTIFICATE)[2]
