"""The same deeds, judged by AWS IoT itself. AWS on this machine has no TestAuthorization, so this is for accounts."""

from collections.abc import Iterable, Iterator
from typing import Any

from fleet_pipeline.aws.clients import Aws, doing
from fleet_pipeline.cloud.enrolment import enrolled
from fleet_pipeline.cloud.hardening.access_cases import Deed, claim_deeds, device_deeds
from fleet_pipeline.model.fleet import Fleet

_TYPES = {"iot:Connect": "CONNECT", "iot:Publish": "PUBLISH", "iot:Receive": "RECEIVE", "iot:Subscribe": "SUBSCRIBE"}
"""What TestAuthorization can be asked. It knows no retained messages. Source: API_AuthInfo."""

BATCH = 10
"""Questions in one call. Source: API_TestAuthorization."""


def misjudged_by_aws(fleet: Fleet, aws: Aws, policy: str) -> list[Deed] | None:
    """Return the deeds that AWS IoT judges wrongly for a certificate with this policy; None when no certificate has it.

    A vehicle's deeds are put for its own thing, so a certificate of no thing cannot be tried here. Reads only.
    """
    for arn in enrolled.certificates(aws, policy):
        if policy == fleet.claim_policy_name:
            return list(_misjudged(fleet, aws, arn, [deed for deed in claim_deeds(fleet) if deed.action in _TYPES]))
        for thing in enrolled.things(aws, arn):
            deeds = device_deeds(fleet, thing.removeprefix(fleet.thing_prefix))
            return list(
                _misjudged(fleet, aws, arn, [deed for deed in deeds if deed.action in _TYPES and deed.connection.thing])
            )
    return None


def _misjudged(fleet: Fleet, aws: Aws, principal: str, deeds: Iterable[Deed]) -> Iterator[Deed]:
    for client_id, asked in _questions(deeds):
        infos: Any = [
            {"actionType": _TYPES[deed.action], "resources": [fleet.arn("iot", deed.resource)]} for deed in asked
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
            deed
            for deed, info in zip(asked, infos, strict=True)
            if decided[info["actionType"], info["resources"][0]] != deed.legitimate
        )


def _questions(deeds: Iterable[Deed]) -> Iterator[tuple[str, list[Deed]]]:
    """Yield a client id and at most ten deeds of it: a call is about one client."""
    by_client: dict[str, list[Deed]] = {}
    for deed in deeds:
        by_client.setdefault(deed.connection.client_id, []).append(deed)
    for client_id, its in by_client.items():
        yield from ((client_id, its[first : first + BATCH]) for first in range(0, len(its), BATCH))
