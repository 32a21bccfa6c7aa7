"""The registry of things, and how a serial is reserved for one certificate before anything is registered.

Two requests for one serial may be decided at the same time. So a yes is given only after a conditional write that one
of them wins: CreateThing for a new vehicle, UpdateThing with the expected version for one that exists. What is written
is the certificate and the time. A new thing has it in `registered_by`, which the template overwrites as it registers
the vehicle; a replacement has it in `replacement`, instead of `allowed`.

A reservation whose vehicle died half-way is free again for its own certificate at once, and for another one after a
minute, as long as the certificate of the reservation has not become active.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from deadline import Deadline

REGISTERED_BY = "registered_by"
"""Thing attribute that the template writes as it registers the vehicle: the claim certificate's id.

Before that, the reservation.
"""

REPLACEMENT = "replacement"
"""Thing attribute by which an operator lets an existing thing be given a new certificate, once: `allowed`.

After that, the reservation.
"""

LEASE_S = 60
"""How long a reservation keeps others away. AWS IoT carries a registration out within seconds of the hook's yes."""

_EXISTS = "a thing of this serial exists and no replacement was allowed"
_RACE = "another certificate is being registered for this serial at this moment"


@dataclass(frozen=True)
class Decision:
    """What is answered, and why, in words for the log."""

    allowed: bool
    reason: str


class Things(Protocol):
    """The registry, as far as a decision needs it."""

    def certificate_status(self, certificate_id: str) -> str | None:
        """Return the status of a certificate, or None for one that the registry does not list."""

    def describe(self, thing_name: str) -> dict[str, Any] | None:
        """Return DescribeThing's answer, or None when there is no such thing."""

    def create(self, thing_name: str, attributes: dict[str, str]) -> bool:
        """Make the thing; False when there is one already, with other attributes."""

    def change(self, thing_name: str, attributes: dict[str, str], version: int) -> bool:
        """Set these attributes, if the thing is still at this version; say whether it was."""

    def has(self, thing_name: str, certificate_id: str) -> bool:
        """Say whether the thing has this certificate."""


@dataclass(frozen=True)
class Reservation:
    """A certificate for which a serial is kept, and since when, in seconds since 1970."""

    certificate_id: str
    since: int

    def __str__(self) -> str:
        return f"{self.certificate_id}/{self.since}"

    @classmethod
    def read(cls, text: str | None) -> "Reservation | None":
        """Return the reservation that an attribute holds, or None for anything else."""
        found = re.fullmatch(r"([0-9a-f]{64})/([0-9]{1,12})", text or "", re.ASCII)
        return cls(found[1], int(found[2])) if found else None


def thing_properties(settings: Mapping[str, str]) -> dict[str, str]:
    """Return what CreateThing is told of every thing, by the function's settings."""
    said = {"thingTypeName": settings.get("THING_TYPE", ""), "billingGroupName": settings.get("BILLING_GROUP", "")}
    return {name: text for name, text in said.items() if text}


def decide_on_thing(thing_name: str, certificate_id: str, things: Things, now: float) -> Decision:
    """Decide on a vehicle about which nothing else is wrong, and reserve its thing for this certificate if the answer
    is yes.
    """
    mine = Reservation(certificate_id, int(now))
    thing = things.describe(thing_name)
    if thing is None:
        return _reserved("a new vehicle", won=things.create(thing_name, {REGISTERED_BY: str(mine)}))
    place, reason = _free_place(thing.get("attributes", {}), mine, things)
    if place:
        return _reserved(reason, won=things.change(thing_name, {place: str(mine)}, thing["version"]))
    if things.has(thing_name, certificate_id) and things.certificate_status(certificate_id) == "ACTIVE":
        return Decision(allowed=True, reason="the vehicle has this certificate already")
    return Decision(allowed=False, reason=reason)


def _reserved(reason: str, *, won: bool) -> Decision:
    return Decision(allowed=True, reason=reason) if won else Decision(allowed=False, reason=_RACE)


def _free_place(attributes: dict[str, str], mine: Reservation, things: Things) -> tuple[str, str]:
    """Return the attribute that a reservation may be written to, or nothing, and the reason."""
    for place in (REGISTERED_BY, REPLACEMENT):
        former = Reservation.read(attributes.get(place))
        if former:
            return _taken_over(place, former, mine, things)
    if attributes.get(REPLACEMENT) == "allowed":
        return REPLACEMENT, "a replacement that was allowed"
    return "", _EXISTS


def _taken_over(place: str, former: Reservation, mine: Reservation, things: Things) -> tuple[str, str]:
    """Say whether a reservation may be taken over.

    A certificate that is gone says nothing about a replacement: AWS IoT deletes one that was never activated, and
    people delete one that was.
    """
    status = things.certificate_status(former.certificate_id)
    if status != "PENDING_ACTIVATION" and (place == REPLACEMENT or status is not None):
        return "", _EXISTS
    if former.certificate_id == mine.certificate_id:
        return place, "a registration that this certificate began"
    if mine.since - former.since < LEASE_S:
        return "", _RACE
    return place, "a registration that another certificate began and gave up"


@dataclass(frozen=True)
class IotThings:
    """The registry of AWS IoT Core. After the deadline it changes nothing."""

    iot: Any
    deadline: Deadline = Deadline()
    properties: Mapping[str, str] = field(default_factory=dict)
    """What CreateThing is told beside name and attributes: the thing's type, its billing group."""

    def certificate_status(self, certificate_id: str) -> str | None:
        """Return DescribeCertificate's status, or None for one that AWS IoT does not list, as deleted and temporary
        ones are not.
        """
        try:
            return str(self.iot.describe_certificate(certificateId=certificate_id)["certificateDescription"]["status"])
        except self.iot.exceptions.ResourceNotFoundException:
            return None

    def describe(self, thing_name: str) -> dict[str, Any] | None:
        """Return DescribeThing's answer, or None when there is no such thing."""
        try:
            return dict(self.iot.describe_thing(thingName=thing_name))
        except self.iot.exceptions.ResourceNotFoundException:
            return None

    def create(self, thing_name: str, attributes: dict[str, str]) -> bool:
        """Make the thing; AWS IoT refuses a second one of the name unless all of it is equal."""
        self.deadline.check()
        try:
            self.iot.create_thing(thingName=thing_name, attributePayload={"attributes": attributes}, **self.properties)
        except self.iot.exceptions.ResourceAlreadyExistsException:
            return False
        return True

    def change(self, thing_name: str, attributes: dict[str, str], version: int) -> bool:
        """Set these attributes under the condition that nobody else has changed the thing."""
        self.deadline.check()
        try:
            self.iot.update_thing(
                thingName=thing_name,
                attributePayload={"attributes": attributes, "merge": True},
                expectedVersion=version,
            )
        except self.iot.exceptions.VersionConflictException:
            return False
        return True

    def has(self, thing_name: str, certificate_id: str) -> bool:
        """Say whether the certificate is one of the thing's principals."""
        pages = self.iot.get_paginator("list_thing_principals").paginate(thingName=thing_name)
        return any(arn.endswith(f":cert/{certificate_id}") for page in pages for arn in page["principals"])
