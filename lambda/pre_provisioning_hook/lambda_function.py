"""The pre-provisioning hook: AWS IoT asks it before it registers a vehicle, and goes on only when it says so.

It denies by default. A serial is allowed when its form and prefix are right, the request came through our template with
none but its parameters, the claim certificate works (so that one that was revoked or deleted registers nothing, not
even over a connection that is still open), the allow-list (if there is one) names it, and no thing of that name exists.
A thing that exists is given a new certificate only when its attribute `replacement` is `allowed`, and that permission
is used up in the same step. Before the hook says
yes it reserves the serial for the certificate: of two requests at once, one wins (`things`).

The thing is told which claim certificate it was registered with, by the template's parameter `ClaimCertificateId`.

Standard library and boto3 only; this folder is zipped as it is.
Source: docs.aws.amazon.com/iot/latest/developerguide/pre-provisioning-hook.html
"""

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clients import client, warm
from deadline import DEADLINE_S, Deadline, TooLate, within
from lists import (
    ALLOW_LIST_LIMIT_BYTES,
    AllowList,
    DynamoDbAllowList,
    Lent,
    NobodyLent,
    S3AllowList,
    S3Lent,
    allow_list,
    lent,
)
from own import Refusal, nobody_asked, refusal
from serials import Unclear
from things import (
    LEASE_S,
    REGISTERED_BY,
    REPLACEMENT,
    Decision,
    IotThings,
    Reservation,
    Things,
    decide_on_thing,
    thing_properties,
)

__all__ = [
    "ALLOW_LIST_LIMIT_BYTES",
    "DEADLINE_S",
    "LEASE_S",
    "REGISTERED_BY",
    "REPLACEMENT",
    "AllowList",
    "Deadline",
    "Decision",
    "DynamoDbAllowList",
    "Expected",
    "IotThings",
    "Reservation",
    "S3AllowList",
    "S3Lent",
    "Things",
    "TooLate",
    "Unclear",
    "allow_list",
    "client",
    "decide",
    "decide_on_thing",
    "form_of",
    "lambda_handler",
    "log_line",
    "matches",
    "serial_form",
    "serial_wrong",
    "thing_properties",
    "within",
]

CERTIFICATE_PARAMETER = "AWS::IoT::Certificate::Id"
CLAIM_PARAMETER = "ClaimCertificateId"
PARAMETERS = frozenset({"SerialNumber", CLAIM_PARAMETER, CERTIFICATE_PARAMETER})
"""What our template declares."""

_SHOWN = 200
"""Characters of a text that are logged."""


@dataclass(frozen=True)
class Expected:
    """What a request must look like. `parameters` are the names that the template declares.

    `form` is the regular expression of the whole serial, where it is not the prefix and 6 to 26 of 0-9 and A-Z.
    `patterns` holds for each parameter of the settings the regular expression of the whole value, and whether it must
    be sent.
    """

    serial_prefix: str
    thing_prefix: str
    template_arn: str
    parameters: frozenset[str] = PARAMETERS
    form: str = ""
    patterns: Mapping[str, tuple[str, bool]] = field(default_factory=dict)

    @property
    def serial_form(self) -> str:
        """The regular expression of the whole serial."""
        return self.form or serial_form(self.serial_prefix)


def lambda_handler(event: Any, _context: object) -> dict[str, Any]:
    """Return `{"allowProvisioning": bool}`, whatever happens, and in time.

    Logs the serial and the reason, never a certificate.
    """
    try:
        decision = within(DEADLINE_S, lambda deadline: _decided(event, os.environ, deadline))
    except TooLate:
        slow = "AWS, or the company's check," if os.environ.get("OWN_CHECK") else "AWS"
        decision = Decision(allowed=False, reason=f"{slow} did not answer the hook within {DEADLINE_S} s")
    except Exception as error:  # noqa: BLE001 (the outermost frame: whatever went wrong, the answer is no)
        decision = Decision(allowed=False, reason=f"the hook failed: {error!r}"[:500])
    print(log_line(event, decision))  # noqa: T201 (Lambda's log)
    if not decision.allowed:
        return {"allowProvisioning": False}
    return {"allowProvisioning": True, "parameterOverrides": {CLAIM_PARAMETER: event["claimCertificateId"]}}


def _decided(event: Any, settings: Mapping[str, str], deadline: Deadline) -> Decision:
    declared = frozenset(filter(None, settings.get("PARAMETERS", "").split(","))) or PARAMETERS
    patterns = json.loads(settings.get("PATTERNS") or "{}")
    expected = Expected(
        settings["SERIAL_PREFIX"],
        settings["THING_PREFIX"],
        settings["TEMPLATE_ARN"],
        declared,
        settings.get("SERIAL_FORM", ""),
        patterns,
    )
    allowed = allow_list(settings.get("ALLOW_LIST", ""), expected.serial_form, deadline)
    things = IotThings(client("iot"), deadline, thing_properties(settings))
    return decide(
        event, expected, things, allowed, lent(settings.get("TEMPORARY_CLAIMS", "")), refused=refusal(settings)
    )


def decide(  # noqa: PLR0913, PLR0917 (all that it asks comes in by the front door)
    event: Any,
    expected: Expected,
    things: Things,
    allowed: AllowList | None,
    temporary: Lent = NobodyLent(),  # noqa: B008 (has no state)
    now: float | None = None,
    refused: Refusal = nobody_asked,
) -> Decision:
    """Decide on one request.

    `allowed` is None when there is no allow-list. The company's check (`refused`) is asked before anything is reserved.
    """
    wrong = _wrong(event, expected) or _claim_wrong(event["claimCertificateId"], things, temporary)
    if wrong:
        return Decision(allowed=False, reason=wrong)
    serial = event["parameters"]["SerialNumber"]
    try:
        if allowed is not None and not allowed.names(serial):
            return Decision(allowed=False, reason="the serial is not on the allow-list")
    except Unclear as error:
        return Decision(
            allowed=False, reason=f"the allow-list is not clear: {error}; `fleet vehicle allowed` says more"
        )
    context = {name: str(event.get(name, "")) for name in ("clientId", "claimCertificateId", "certificateId")}
    if no := refused(serial, event["parameters"], context):
        return Decision(allowed=False, reason=no)
    return decide_on_thing(
        expected.thing_prefix + serial, event["certificateId"], things, time.time() if now is None else now
    )


def serial_form(prefix: str) -> str:
    """Return the regular expression of serials that begin so."""
    return re.escape(prefix) + r"[0-9A-Z]{6,26}"


def form_of(settings: Mapping[str, str]) -> str:
    """Return the regular expression of the whole serial, by the function's settings."""
    return settings.get("SERIAL_FORM") or serial_form(settings["SERIAL_PREFIX"])


def serial_wrong(form: str, prefix: str) -> str:
    """Say of a serial that it is not of this form."""
    if form != serial_form(prefix):
        return "the serial does not match the pattern of the settings"
    return f"the serial is not {prefix} and 6 to 26 of 0-9 and A-Z"


def matches(pattern: str, text: object) -> bool:
    """Say whether all of a text is of this form; what is no text is not."""
    return isinstance(text, str) and re.fullmatch(pattern, text, re.ASCII) is not None


def _wrong(event: Any, expected: Expected) -> str:
    """Say what is wrong with the request itself, or nothing."""
    if not isinstance(event, dict) or not isinstance(event.get("parameters"), dict):
        return "the request has no parameters"
    if event.get("templateArn") != expected.template_arn:
        return "the request came through another template"
    for name in ("claimCertificateId", "certificateId"):
        if not matches(r"[0-9a-f]{64}", event.get(name)):
            return f"the request does not name its {name}"
    return _parameters_wrong(event, expected)


def _parameters_wrong(event: dict[str, Any], expected: Expected) -> str:
    parameters = event["parameters"]
    own = {CERTIFICATE_PARAMETER: event["certificateId"], CLAIM_PARAMETER: event["claimCertificateId"]}
    for name, value in parameters.items():
        if name not in expected.parameters:
            return f"the template does not declare the parameter {_shown(name)}"
        if not isinstance(value, str):
            return f"the parameter {_shown(name)} is no text"
        if value != own.get(name, value):
            return f"the parameter {_shown(name)} is not the request's own"
    if "SerialNumber" not in parameters:
        return "the request does not have the parameter 'SerialNumber'"
    if not matches(expected.serial_form, parameters["SerialNumber"]):
        return serial_wrong(expected.serial_form, expected.serial_prefix)
    return _declared_wrong(parameters, expected.patterns)


def _declared_wrong(parameters: dict[str, str], patterns: Mapping[str, tuple[str, bool]]) -> str:
    """Say which parameter of the settings is missing or of another form, or nothing.

    What was sent for it is not repeated.
    """
    for name, (pattern, required) in patterns.items():
        if name not in parameters:
            if required:
                return f"the request does not have the parameter {name!r}"
        elif not matches(pattern, parameters[name]):
            return f"the parameter {name!r} does not match its pattern"
    return ""


def _claim_wrong(certificate_id: str, things: Things, temporary: Lent) -> str:
    """Say what is wrong with the claim certificate, or nothing.

    AWS IoT lists neither temporary ones nor those that were deleted.
    """
    status = things.certificate_status(certificate_id)
    if status is None and not temporary.names(certificate_id):
        return "the claim certificate was deleted, or was lent more than five minutes ago"
    return "" if status in {"ACTIVE", None} else "the claim certificate is not active"


def log_line(event: Any, decision: Decision) -> str:
    """Return what is logged: one short line of JSON, whatever the request holds, and no certificate."""
    request = event if isinstance(event, dict) else {}
    parameters = request.get("parameters")
    serial = _entry(parameters if isinstance(parameters, dict) else {}, "SerialNumber")
    facts = {name: _entry(request, name) for name in ("clientId", "claimCertificateId", "certificateId", "templateArn")}
    return json.dumps({"allowed": decision.allowed, "reason": decision.reason, "serial": serial, **facts})


def _entry(request: dict[str, Any], name: str) -> str:
    return _shown(request[name]) if name in request else "missing"


def _shown(value: object) -> str:
    """Return a value in few characters, all of them ASCII and none a control character; a text in quotation marks."""
    if isinstance(value, str):
        return ascii(value)[:_SHOWN]
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float) and abs(value) < 10**30:
        return f"the number {value}"
    kinds = {list: "a list", dict: "an object", int: "a number", float: "a number"}
    return kinds.get(type(value), type(value).__name__)


warm(os.environ)
