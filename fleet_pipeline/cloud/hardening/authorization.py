"""The same cases, judged by AWS IoT itself. AWS on this machine has no TestAuthorization, so this is for accounts."""

from collections.abc import Iterable, Iterator
from typing import Any

from fleet_pipeline.aws.clients import Aws, doing
from fleet_pipeline.cloud.enrolment import enrolled
from fleet_pipeline.cloud.hardening.access_cases import AccessCase, claim_cases, device_cases
from fleet_pipeline.model.fleet import Fleet

_TYPES = {"iot:Connect": "CONNECT", "iot:Publish": "PUBLISH", "iot:Receive": "RECEIVE", "iot:Subscribe": "SUBSCRIBE"}
"""What TestAuthorization can be asked. It knows no retained messages. Source: API_AuthInfo."""

BATCH = 10
"""Questions in one call. Source: API_TestAuthorization."""


def misjudged_by_aws(fleet: Fleet, aws: Aws, policy: str) -> list[AccessCase] | None:
    """Return the cases that AWS IoT judges wrongly for a certificate with this policy; None when no certificate has it.

    A vehicle's cases are put for its own thing, so a certificate of no thing cannot be tried here. Reads only.
    """
    for arn in enrolled.certificates(aws, policy):
        if policy == fleet.claim_policy_name:
            return list(_misjudged(fleet, aws, arn, [case for case in claim_cases(fleet) if case.action in _TYPES]))
        for thing in enrolled.things(aws, arn):
            cases = device_cases(fleet, thing.removeprefix(fleet.thing_prefix))
            return list(
                _misjudged(fleet, aws, arn, [case for case in cases if case.action in _TYPES and case.connection.thing])
            )
    return None


def _misjudged(fleet: Fleet, aws: Aws, principal: str, cases: Iterable[AccessCase]) -> Iterator[AccessCase]:
    for client_id, asked in _questions(cases):
        infos: Any = [
            {"actionType": _TYPES[case.action], "resources": [fleet.arn("iot", case.resource)]} for case in asked
        ]
        with doing(f"test what {principal} may do"):
            results = aws.iot.test_authorization(principal=principal, clientId=client_id, authInfos=infos)[
                "authResults"
            ]
        decided = {
            (each["authInfo"]["actionType"], each["authInfo"]["resources"][0]): each["authDecision"] == "ALLOWED"
            for each in results
        }
        yield from (
            case
            for case, info in zip(asked, infos, strict=True)
            if decided[info["actionType"], info["resources"][0]] != case.legitimate
        )


def _questions(cases: Iterable[AccessCase]) -> Iterator[tuple[str, list[AccessCase]]]:
    """Yield a client id and at most ten cases of it: a call is about one client."""
    by_client: dict[str, list[AccessCase]] = {}
    for case in cases:
        by_client.setdefault(case.connection.client_id, []).append(case)
    for client_id, its in by_client.items():
        yield from ((client_id, its[first : first + BATCH]) for first in range(0, len(its), BATCH))
