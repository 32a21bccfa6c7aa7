"""Just-in-time registration: AWS IoT tells of a certificate of our own CA that it saw for the first time, and this lets
it in or not.

The certificate's common name is the vehicle's serial, and the rules are those of the pre-provisioning hook: form and
prefix, the allow-list if there is one, and no thing of that name, unless a replacement was allowed. What is refused
stays as it is, waiting; the vehicle's next try is looked at anew. What was begun and stopped is finished by the
vehicle's next try.

Standard library and boto3 only. Source: docs.aws.amazon.com/iot/latest/developerguide/auto-register-device-cert.html
"""

import base64
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from lambda_function import (
    DEADLINE_S,
    AllowList,
    Deadline,
    Decision,
    IotThings,
    Things,
    TooLate,
    Unclear,
    allow_list,
    client,
    decide_on_thing,
    form_of,
    log_line,
    matches,
    serial_wrong,
    thing_properties,
    within,
)
from own import Refusal, nobody_asked, refusal

_COMMON_NAME = bytes.fromhex("0603550403")
"""The object identifier 2.5.4.3 in DER."""

_VERSION = 0xA0
"""The tag of a certificate's version, which may be absent."""


class Registry(Things, Protocol):
    """The registry, as far as just-in-time registration needs it."""

    def certificate(self, certificate_id: str) -> dict[str, Any]:
        """Return DescribeCertificate's description."""

    def let_in(self, thing_name: str, certificate: dict[str, Any], policies: str, known: "Known") -> None:
        """Make the thing, give it the certificate and the certificate its policies, parted by commas, and activate it
        last. May be repeated.
        """


@dataclass(frozen=True)
class Known:
    """What a thing is told of itself, and the groups that it joins."""

    attributes: dict[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()


def known_of(serial: str, settings: Mapping[str, str]) -> Known:
    """Return what is known of a vehicle by its serial alone, by the function's settings."""
    said = json.loads(settings.get("ATTRIBUTES") or "{}")
    attributes = {name: text.replace("${SerialNumber}", serial) for name, text in said.items()}
    return Known(attributes, tuple(filter(None, settings.get("THING_GROUPS", "").split(","))))


def lambda_handler(event: Any, _context: object) -> dict[str, bool]:
    """Return `{"allowed": bool}`, whatever happens. Logs the certificate's id and the reason."""
    asked: dict[str, str] = {}  # what is known of the vehicle by now, for the log
    try:
        decision = within(DEADLINE_S, lambda deadline: _decided(event, os.environ, asked, deadline))
    except TooLate:
        decision = Decision(allowed=False, reason=f"AWS did not answer the function within {DEADLINE_S} s")
    except Exception as error:  # noqa: BLE001 (the outermost frame: whatever went wrong, nothing is let in)
        decision = Decision(allowed=False, reason=f"the function failed: {error!r}"[:500])
    print(log_line({"parameters": dict(asked), "certificateId": _certificate_id(event)}, decision))  # noqa: T201 (Lambda's log)
    return {"allowed": decision.allowed}


def _decided(event: Any, settings: Mapping[str, str], asked: dict[str, str], deadline: Deadline) -> Decision:
    things, refused = IotRegistry(client("iot"), deadline, thing_properties(settings)), refusal(settings)
    certificate = _described(event, settings["CA_CERTIFICATE_ID"], things)
    serial = asked["SerialNumber"] = common_name(certificate["certificatePem"])
    allowed = allow_list(settings.get("ALLOW_LIST", ""), form_of(settings), deadline)
    decision = decide(serial, certificate, settings, things, allowed, refused)
    if decision.allowed:
        things.let_in(
            settings["THING_PREFIX"] + serial, certificate, settings["DEVICE_POLICY"], known_of(serial, settings)
        )
    return decision


def decide(  # noqa: PLR0913, PLR0917 (all that it asks comes in by the front door)
    serial: str,
    certificate: dict[str, Any],
    settings: Any,
    things: Things,
    allowed: AllowList | None,
    refused: Refusal = nobody_asked,
) -> Decision:
    """Decide on a certificate that waits for its activation."""
    if certificate["status"] != "PENDING_ACTIVATION":
        return Decision(allowed=False, reason="the certificate does not wait for its activation")
    if not matches(form_of(settings), serial):
        return Decision(
            allowed=False,
            reason=serial_wrong(form_of(settings), settings["SERIAL_PREFIX"]).replace("serial", "common name"),
        )
    if no := _listed_wrong(serial, allowed) or refused(
        serial, {"SerialNumber": serial}, {"certificateId": certificate["certificateId"]}
    ):
        return Decision(allowed=False, reason=no)
    thing = things.describe(settings["THING_PREFIX"] + serial)
    if thing is not None and thing.get("attributes", {}).get("registered_by") == certificate["certificateId"]:
        return Decision(allowed=True, reason="a registration that was stopped")
    return decide_on_thing(settings["THING_PREFIX"] + serial, certificate["certificateId"], things, time.time())


def _listed_wrong(serial: str, allowed: AllowList | None) -> str:
    """Say why the allow-list does not let a serial in, or nothing."""
    try:
        return "the serial is not on the allow-list" if allowed is not None and not allowed.names(serial) else ""
    except Unclear as error:
        return f"the allow-list is not clear: {error}; `fleet vehicle allowed` says more"


def common_name(certificate_pem: str) -> str:
    """Return the common name of a certificate's subject; raises ValueError unless it has just one."""
    der = base64.b64decode("".join(line for line in certificate_pem.splitlines() if not line.startswith("-----")))
    _, certificate = next(_elements(der))
    _, signed = next(_elements(certificate))
    parts = [body for tag, body in _elements(signed) if tag != _VERSION]
    subject = parts[4]  # after serial number, algorithm, issuer and validity
    names = [dict(enumerate(_elements(pair))) for _, group in _elements(subject) for _, pair in _elements(group)]
    found = [name[1][1].decode() for name in names if bytes([name[0][0], len(name[0][1])]) + name[0][1] == _COMMON_NAME]
    if len(found) != 1:
        raise ValueError("the certificate's subject does not have one common name")
    return found[0]


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and body of each DER element, one after the other."""
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size], "big"), at + size
        yield tag, der[at : at + length]
        at += length


def _described(event: Any, ca_id: str, things: Registry) -> dict[str, Any]:
    certificate_id = _certificate_id(event)
    if certificate_id is None or event.get("caCertificateId") != ca_id:
        raise ValueError("the event is not of a certificate of our CA")
    certificate = things.certificate(certificate_id)
    if certificate.get("caCertificateId") != ca_id:
        raise ValueError("the certificate is not of our CA")
    return certificate


def _certificate_id(event: Any) -> str | None:
    found = event.get("certificateId") if isinstance(event, dict) else None
    return found if matches(r"[0-9a-f]{64}", found) else None


class IotRegistry(IotThings):
    """The registry of AWS IoT Core."""

    def certificate(self, certificate_id: str) -> dict[str, Any]:
        """Return DescribeCertificate's description."""
        return dict(self.iot.describe_certificate(certificateId=certificate_id)["certificateDescription"])

    def let_in(self, thing_name: str, certificate: dict[str, Any], policies: str, known: Known) -> None:
        """Make or mark the thing, give it the certificate and the certificate its policies, parted by commas, and
        activate it last.
        """
        self.deadline.check()
        marked = {"attributes": {**known.attributes, "registered_by": certificate["certificateId"]}}
        if self.describe(thing_name) is None:
            self.iot.create_thing(thingName=thing_name, attributePayload=marked, **self.properties)
        else:
            self.iot.update_thing(thingName=thing_name, attributePayload={**marked, "merge": True})
        for group in known.groups:
            self.iot.add_thing_to_thing_group(thingGroupName=group, thingName=thing_name)
        self.iot.attach_thing_principal(thingName=thing_name, principal=certificate["certificateArn"])
        for name in policies.split(","):
            self.iot.attach_policy(policyName=name, target=certificate["certificateArn"])
        self.deadline.check()
        self.iot.update_certificate(certificateId=certificate["certificateId"], newStatus="ACTIVE")
