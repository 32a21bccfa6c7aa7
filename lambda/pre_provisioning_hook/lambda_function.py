"""The pre-provisioning hook: AWS IoT asks it before it registers a vehicle, and goes on only when it says so.

It denies by default. A serial is allowed when its form and prefix are right, the request came through our template with no
parameter but the serial, the claim certificate works (so that one that was revoked registers nothing, not even over a connection
that is still open), the allow-list (if there is one) names it, and no thing of that name exists. A thing that exists is given a new
certificate only when its attribute `replacement` is `allowed`, and that permission is used up in the same step.

The thing is told which claim certificate it was registered with, by the template's parameter `ClaimCertificateId`.

Standard library and boto3 only; this folder is zipped as it is.
Source: docs.aws.amazon.com/iot/latest/developerguide/pre-provisioning-hook.html
"""

import json
import os
import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import boto3
from botocore.config import Config

IMPATIENT = Config(connect_timeout=0.3, read_timeout=0.8, retries={"total_max_attempts": 1})
"""Four calls at most, 4.4 s in all: AWS IoT waits 5 s for the answer."""

ALLOW_LIST_LIMIT_BYTES = 8_000_000
"""An S3 allow-list beyond this would not be read in time; a longer one belongs in DynamoDB."""

REPLACEMENT = "replacement"
"""Thing attribute by which an operator lets an existing thing be given a new certificate, once."""


@dataclass(frozen=True)
class Decision:
    """What the hook answers, and why, in words for the log."""

    allowed: bool
    reason: str


class Things(Protocol):
    """The registry, as far as the hook needs it."""

    def claim_status(self, certificate_id: str) -> str | None:
        """Return the status of a claim certificate, or None for one that the registry does not list, as temporary ones are not."""

    def describe(self, thing_name: str) -> dict[str, Any] | None:
        """Return DescribeThing's answer, or None when there is no such thing."""

    def use_replacement(self, thing_name: str, version: int) -> bool:
        """Take the permission back, if the thing is still at this version; say whether it was ours to take."""


class AllowList(Protocol):
    """The serials that may register."""

    def names(self, serial: str) -> bool:
        """Say whether the list has this serial."""


@dataclass(frozen=True)
class Expected:
    """What a request must look like."""

    serial_prefix: str
    thing_prefix: str
    template_arn: str


def lambda_handler(event: Any, _context: object) -> dict[str, Any]:
    """Return `{"allowProvisioning": bool}`, whatever happens. Logs the serial and the reason, never a certificate."""
    try:
        expected = Expected(os.environ["SERIAL_PREFIX"], os.environ["THING_PREFIX"], os.environ["TEMPLATE_ARN"])
        decision = decide(event, expected, IotThings(client("iot")), allow_list(os.environ.get("ALLOW_LIST", "")))
    except Exception as error:  # noqa: BLE001 (the outermost frame: whatever went wrong, the answer is no)
        decision = Decision(allowed=False, reason=f"the hook failed: {error!r}"[:500])
    print(log_line(event, decision))  # noqa: T201 (Lambda's log)
    if not decision.allowed:
        return {"allowProvisioning": False}
    return {"allowProvisioning": True, "parameterOverrides": {"ClaimCertificateId": event["claimCertificateId"]}}


def decide(event: Any, expected: Expected, things: Things, allowed: AllowList | None) -> Decision:
    """Decide on one request. `allowed` is None when there is no allow-list."""
    wrong = _wrong(event, expected)
    if wrong:
        return Decision(allowed=False, reason=wrong)
    if things.claim_status(event["claimCertificateId"]) not in {"ACTIVE", None}:
        return Decision(allowed=False, reason="the claim certificate is not active")
    serial = event["parameters"]["SerialNumber"]
    if allowed is not None and not allowed.names(serial):
        return Decision(allowed=False, reason="the serial is not on the allow-list")
    return decide_on_thing(expected.thing_prefix + serial, things)


def _wrong(event: Any, expected: Expected) -> str:
    """Say what is wrong with the request itself, or nothing."""
    serial = _serial(event)
    if serial is None:
        return "the request does not have SerialNumber as its one parameter"
    if event.get("templateArn") != expected.template_arn:
        return "the request came through another template"
    if not matches(r"[0-9a-f]{64}", event.get("claimCertificateId")):
        return "the request does not name its claim certificate"
    if not matches(re.escape(expected.serial_prefix) + r"[0-9A-Z]{6,26}", serial):
        return f"the serial is not {expected.serial_prefix} and 6 to 26 of 0-9 and A-Z"
    return ""


def matches(pattern: str, text: object) -> bool:
    """Say whether all of a text is of this form; what is no text is not."""
    return isinstance(text, str) and re.fullmatch(pattern, text, re.ASCII) is not None


def _serial(event: Any) -> str | None:
    parameters = event.get("parameters") if isinstance(event, dict) else None
    if not isinstance(parameters, dict) or set(parameters) != {"SerialNumber"}:
        return None
    serial = parameters["SerialNumber"]
    return serial if isinstance(serial, str) else None


def decide_on_thing(thing_name: str, things: Things) -> Decision:
    """Decide on a vehicle about which nothing else is wrong: a new one, or one whose replacement was allowed."""
    thing = things.describe(thing_name)
    if thing is None:
        return Decision(allowed=True, reason="a new vehicle")
    if thing.get("attributes", {}).get(REPLACEMENT) != "allowed":
        return Decision(allowed=False, reason="a thing of this serial exists and no replacement was allowed")
    if not things.use_replacement(thing_name, thing["version"]):
        return Decision(allowed=False, reason="the replacement that was allowed has just been used")
    return Decision(allowed=True, reason="a replacement that was allowed")


def log_line(event: Any, decision: Decision) -> str:
    """Return what is logged: one short line of JSON, whatever the request holds, and no certificate."""
    told = event if isinstance(event, dict) else {}
    facts = {"serial": _serial(event), **{name: told.get(name) for name in ("clientId", "claimCertificateId", "templateArn")}}
    shown = {name: repr(fact)[:200] if isinstance(fact, str) else type(fact).__name__ for name, fact in facts.items()}
    return json.dumps({"allowed": decision.allowed, "reason": decision.reason, **shown})


@cache
def client(service: str) -> Any:
    """Return the one impatient client of a service."""
    session: Any = boto3  # the stubs overload by literal name
    return session.client(service, config=IMPATIENT)


@dataclass(frozen=True)
class IotThings:
    """The registry of AWS IoT Core."""

    iot: Any

    def claim_status(self, certificate_id: str) -> str | None:
        """Return DescribeCertificate's status, or None for one that AWS IoT does not list, as temporary ones are not."""
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

    def use_replacement(self, thing_name: str, version: int) -> bool:
        """Remove the attribute under the condition that nobody else has; two requests at once cannot both succeed."""
        without = {"attributes": {REPLACEMENT: ""}, "merge": True}
        try:
            self.iot.update_thing(thingName=thing_name, attributePayload=without, expectedVersion=version)
        except self.iot.exceptions.VersionConflictException:
            return False
        return True


def allow_list(where: str) -> AllowList | None:
    """Return the list that `s3://bucket/key` or `dynamodb://table` names; None for an empty name."""
    scheme, _, rest = where.partition("://")
    if not where:
        return None
    if scheme == "s3":
        return S3AllowList(client("s3"), *rest.split("/", 1))
    if scheme == "dynamodb":
        return DynamoDbAllowList(client("dynamodb"), rest)
    raise ValueError("ALLOW_LIST must begin with s3:// or dynamodb://")


@dataclass(frozen=True)
class S3AllowList:
    """An object with one serial a line."""

    s3: Any
    bucket: str
    key: str

    def names(self, serial: str) -> bool:
        """Say whether a line is this serial; a missing object names nobody."""
        try:
            answer = self.s3.get_object(Bucket=self.bucket, Key=self.key)
        except self.s3.exceptions.NoSuchKey:
            return False
        if answer["ContentLength"] > ALLOW_LIST_LIMIT_BYTES:
            raise ValueError("the allow-list is too long to be read in time: use DynamoDB")
        return serial.encode() in (line.strip() for line in answer["Body"].iter_lines())


@dataclass(frozen=True)
class DynamoDbAllowList:
    """A table with the key `serial`."""

    dynamodb: Any
    table: str

    def names(self, serial: str) -> bool:
        """Say whether the table has an item of this serial; a missing table names nobody."""
        try:
            answer = self.dynamodb.get_item(TableName=self.table, Key={"serial": {"S": serial}}, ConsistentRead=True)
        except self.dynamodb.exceptions.ResourceNotFoundException:
            return False
        return "Item" in answer
