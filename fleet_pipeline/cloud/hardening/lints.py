"""Settings of resources that invite trouble, each with the reason and the remedy.

Pure: what is looked at was read before.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import singledispatch
from typing import Any

from fleet_pipeline.cloud.enrolment.further_policy import FurtherDevicePolicy
from fleet_pipeline.cloud.kinds.bucket import Bucket
from fleet_pipeline.cloud.kinds.delivery_stream import DeliveryStream
from fleet_pipeline.cloud.kinds.function import Function
from fleet_pipeline.cloud.kinds.given_bucket import GivenBucket
from fleet_pipeline.cloud.kinds.iot_policy import IotPolicy
from fleet_pipeline.cloud.kinds.permission import InvokePermission
from fleet_pipeline.cloud.kinds.role import Role
from fleet_pipeline.cloud.kinds.topic_rule import TopicRule
from fleet_pipeline.cloud.reconcile import Resource
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.rule_table import source_of, within

RUNTIME_ENDS: Mapping[str, date] = {
    "python3.12": date(2028, 10, 31),
    "python3.13": date(2029, 6, 30),
    "python3.14": date(2029, 6, 30),
}
"""When AWS stops patching a runtime; those that are not named here have ended or are unknown.

Source: AWS Lambda Developer Guide, lambda-runtimes.
"""

NOTICE = timedelta(days=180)
"""How long before its end a runtime is reported: time enough for a release and a roll-out."""

HOOK_LIMIT_S = 5
"""AWS IoT's hard limit for a pre-provisioning hook. Source: AWS IoT Core Developer Guide, pre-provisioning-hook."""


@dataclass(frozen=True, slots=True)
class LintFinding:
    """Something that should be otherwise: what, why, and what to do."""

    what: str
    why: str
    fix: str


@singledispatch
def findings(_resource: Resource, _fleet: Fleet, _today: date) -> Iterator[LintFinding]:
    """Yield what should be otherwise about a resource as it was found; nothing for kinds without known traps."""
    yield from ()


@findings.register(IotPolicy)
@findings.register(FurtherDevicePolicy)
def _policy(policy: IotPolicy | FurtherDevicePolicy, _fleet: Fleet, _today: date) -> Iterator[LintFinding]:
    for statement in _statements(policy.document):
        if (
            statement.get("Effect") == "Allow"
            and _covers(statement, "iot:Connect")
            and any(_is_wide(each, statement) for each in _listed(statement, "Resource"))
        ):
            yield LintFinding(
                "wide Connect",
                "a client that takes another vehicle's client id ends its connection",
                "allow ${iot:Connection.Thing.ThingName}, or a prefix",
            )


@findings.register
def _role(role: Role, _fleet: Fleet, _today: date) -> Iterator[LintFinding]:
    for statement in _statements(role.trust):
        keys = {key.lower() for block in statement.get("Condition", {}).values() for key in block}
        if (
            "iot.amazonaws.com" in _listed(statement.get("Principal", {}), "Service")
            and not {"aws:sourcearn", "aws:sourceaccount"} <= keys
        ):
            yield LintFinding(
                "no SourceArn",
                "AWS IoT of another account could be made to act as this role",
                "set aws:SourceArn and aws:SourceAccount in its trust",
            )


@findings.register
def _permission(permission: InvokePermission, _fleet: Fleet, _today: date) -> Iterator[LintFinding]:
    if not permission.source_arn or not permission.source_account:
        yield LintFinding(
            "no SourceArn",
            "AWS IoT of another account could be made to invoke the hook",
            "give the permission our template's ARN and our account",
        )


@findings.register
def _function(function: Function, _fleet: Fleet, today: date) -> Iterator[LintFinding]:
    end = RUNTIME_ENDS.get(function.runtime)
    if end is None or end - today < NOTICE:
        when = (
            f"AWS stops patching {function.runtime} on {end}"
            if end
            else f"{function.runtime} has ended, or is not known here"
        )
        yield LintFinding(
            "runtime near its end",
            when,
            f"set FLEET_HOOK_RUNTIME={max(RUNTIME_ENDS, key=lambda name: int(name.split('.')[1]))}",
        )
    if function.timeout_s > HOOK_LIMIT_S:
        yield LintFinding(
            "slow hook",
            f"AWS IoT waits {HOOK_LIMIT_S} s for the hook, whatever its timeout says",
            f"set the timeout to {HOOK_LIMIT_S} s",
        )


@findings.register
def _topic_rule(rule: TopicRule, fleet: Fleet, _today: date) -> Iterator[LintFinding]:
    if not rule.error_action:
        yield LintFinding(
            "no errorAction",
            "what the rule cannot write is lost without a trace",
            "give the rule an error action that writes elsewhere",
        )
    if rule.sql_version != "2016-03-23":
        yield LintFinding(
            "old SQL version",
            f"{rule.sql_version} does not read arrays at the top of a message",
            "set awsIotSqlVersion to 2016-03-23",
        )
    declared = next((each for each in fleet.made_rules if each.aws_name == rule.name), None)
    if rule.disabled and (declared is None or declared.enabled):
        yield LintFinding("disabled", "messages to the rule are lost", "enable the rule")
    topic, source = declared.topic if declared else None, source_of(rule.sql)
    if topic and source and not within(source, topic):
        yield LintFinding(
            "FROM never matches",
            f"vehicles publish to {topic!r} and the rule reads {source!r}",
            f"select FROM '{topic}'",
        )


@findings.register
def _delivery_stream(stream: DeliveryStream, _fleet: Fleet, _today: date) -> Iterator[LintFinding]:
    if not stream.encrypted:
        yield LintFinding(
            "not encrypted",
            "what the stream gathers lies unencrypted until it is delivered",
            "turn its server-side encryption on",
        )
    if not stream.error_prefix:
        yield LintFinding(
            "no error prefix",
            "what the stream cannot process lies among the messages",
            "give its destination an ErrorOutputPrefix",
        )


@findings.register
def _bucket(bucket: Bucket, _fleet: Fleet, _today: date) -> Iterator[LintFinding]:
    if not bucket.versioned:
        yield LintFinding(
            "unversioned",
            "of two messages of one key the earlier is lost, and a deletion is for good",
            "enable versioning",
        )
    if bucket.encryption == "none":
        yield LintFinding(
            "unencrypted", "objects lie in clear on AWS's disks", "enable server-side encryption (SSE-S3)"
        )
    if bucket.own_kms_key and not bucket.own_kms_key.endswith("alias/aws/s3"):
        why = "AWS IoT writes as the rules' role, which has no right to that key: messages are lost"
        yield LintFinding(
            "encrypted with a key that the rules may not use", why, f"set FLEET_KMS_KEY={bucket.own_kms_key}"
        )
    if not bucket.public_access_blocked:
        yield LintFinding(
            "open to the public",
            "a single wrong policy would publish every message and the claim key",
            "block public access, all four ways",
        )
    if not any(_denies_plain_http(statement) for statement in _statements(bucket.policy)):
        yield LintFinding(
            "no TLS", "requests over plain HTTP are served", "deny s3:* where aws:SecureTransport is false"
        )


@findings.register
def _given_bucket(given: GivenBucket, fleet: Fleet, today: date) -> Iterator[LintFinding]:
    """Yield what its owner should do otherwise: what makes it unfit, and what would be a finding about a bucket of
    ours.
    """
    yield from (
        LintFinding("not as the fleet needs it", "the fleet does not change it", needed) for needed in given.unfit
    )
    if given.bucket is not None:
        yield from (
            replace(each, fix=f"its owner: {each.fix}")
            for each in findings(given.bucket, fleet, today)
            if not given.unfit
        )


def _statements(document: dict[str, Any]) -> list[dict[str, Any]]:
    found = document.get("Statement", [])
    return [found] if isinstance(found, dict) else list(found)


def _listed(said: Any, name: str) -> list[str]:
    found = said.get(name, []) if isinstance(said, dict) else []
    return [found] if isinstance(found, str) else list(found)


def _covers(statement: dict[str, Any], action: str) -> bool:
    return any(
        re.fullmatch(re.escape(each).replace(r"\*", ".*"), action, re.IGNORECASE)
        for each in _listed(statement, "Action")
    )


def _is_wide(resource: str, statement: dict[str, Any]) -> bool:
    """Say whether a resource of Connect covers clients that are not the holder's own."""
    client = resource.partition(":client/")[2]
    attached = statement.get("Condition", {}).get("Bool", {}).get("iot:Connection.Thing.IsAttached") == "true"
    return client in {"", "*"} or (client == "${iot:ClientId}" and not attached)


def _denies_plain_http(statement: dict[str, Any]) -> bool:
    secure = statement.get("Condition", {}).get("Bool", {}).get("aws:SecureTransport")
    return (
        statement.get("Effect") == "Deny"
        and _listed(statement, "Action") == ["s3:*"]
        and str(secure).lower() == "false"
    )
