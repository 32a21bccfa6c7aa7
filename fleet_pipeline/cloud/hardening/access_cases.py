"""Who may do what to what: legitimate cases and attacks, for the two policies that devices are given.

Sources of the attacks: AWS IoT Device Defender's audit checks for policies, AWS IoT Core Developer Guide
(basic-policy-variables, iot-basic-ingest), and the policies of the CDK app, which allow most of them.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from fleet_pipeline.cloud.documents.device import added, device_policy
from fleet_pipeline.cloud.hardening.evaluation import ClientConnection, allows
from fleet_pipeline.model.errors import CannotJudge
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.rule import Rule

OWN, OTHER = "297468OWN001", "297468OTHER1"
"""The serials of whoever acts and of whoever is acted upon."""


@dataclass(frozen=True, slots=True)
class AccessCase:
    """Something that a holder of a certificate tries, and whether AWS IoT is to allow it.

    `resource` is what follows the account in the ARN.
    """

    title: str
    connection: ClientConnection
    action: str
    resource: str
    legitimate: bool = False


def device_cases(fleet: Fleet, serial: str = OWN) -> tuple[AccessCase, ...]:
    """Return what a registered vehicle does, and what someone with its certificate would try."""
    own, other, first = fleet.thing_name(serial), fleet.thing_name(OTHER), fleet.made_rules[0]
    vehicle, plus = ClientConnection(own, own), ClientConnection("+", own)
    ingest = f"topic/$aws/rules/{first.aws_name}"
    published = [
        (rule, place, topic) for rule in fleet.made_rules for place, topic in enumerate(rule.published_by(own))
    ]
    return (
        AccessCase("connects as its own thing", vehicle, "iot:Connect", f"client/{own}", legitimate=True),
        *(
            AccessCase(f"publishes to {_named(rule, place)}", vehicle, "iot:Publish", f"topic/{topic}", legitimate=True)
            for rule, place, topic in published
        ),
        *(
            AccessCase(
                f"publishes to {_named(rule, place)} as another vehicle",
                vehicle,
                "iot:Publish",
                f"topic/{rule.published_by(other)[place]}",
            )
            for rule, place, topic in published
            if rule.published_by(other)[place] != topic
        ),
        AccessCase("connects as another vehicle", ClientConnection(other, own), "iot:Connect", f"client/{other}"),
        AccessCase(
            "connects as a client of the back end",
            ClientConnection("dashboard", own),
            "iot:Connect",
            "client/dashboard",
        ),
        AccessCase("connects as the wildcard client", plus, "iot:Connect", "client/+"),
        AccessCase("connects with a certificate of no thing", ClientConnection(own), "iot:Connect", f"client/{own}"),
        AccessCase(
            "publishes to another rule of the account",
            vehicle,
            "iot:Publish",
            f"topic/$aws/rules/billing/{first.topic}",
        ),
        AccessCase(
            "publishes over the claim certificate", vehicle, "iot:Publish", f"{ingest}/claim-certificate/claim.pem"
        ),
        AccessCase(
            "publishes another rule's topic by this rule", vehicle, "iot:Publish", f"{ingest}/{fleet.raw_prefix}/other"
        ),
        *(
            AccessCase(
                f"publishes below the topic of {_named(rule, place)}", vehicle, "iot:Publish", f"topic/{topic}/x"
            )
            for rule, place, topic in published[:1]
        ),
        AccessCase("publishes without a topic", vehicle, "iot:Publish", f"{ingest}/"),
        *(
            AccessCase("retains a message", vehicle, "iot:RetainPublish", f"topic/{topic}")
            for _, _, topic in published[:1]
        ),
        AccessCase("hears what clients publish to their own topics", plus, "iot:Subscribe", "topicfilter/+"),
        AccessCase("asks for further certificates", vehicle, "iot:Publish", "topic/$aws/certificates/create/json"),
        AccessCase(
            "registers another vehicle",
            vehicle,
            "iot:Publish",
            f"topic/$aws/provisioning-templates/{fleet.template_name}/provision/json",
        ),
        AccessCase("hears everything", vehicle, "iot:Subscribe", "topicfilter/#"),
        AccessCase("hears the other vehicles", vehicle, "iot:Receive", f"topic/{first.topic}"),
        AccessCase(
            "changes another vehicle's shadow", vehicle, "iot:Publish", f"topic/$aws/things/{other}/shadow/update"
        ),
        AccessCase(
            "takes another vehicle's jobs", vehicle, "iot:Publish", f"topic/$aws/things/{other}/jobs/start-next"
        ),
        AccessCase(
            "answers another vehicle's command",
            vehicle,
            "iot:Publish",
            f"topic/$aws/commands/things/{other}/executions/1/response/json",
        ),
        *_added_cases(fleet, vehicle, other),
    )


def _added_cases(fleet: Fleet, vehicle: ClientConnection, other: str) -> Iterator[AccessCase]:
    """Yield the cases that statements of the settings are about: each on the vehicle's own, and the same on another
    vehicle's, which is an attack.

    Conditions that cannot be judged here are left to AWS IoT: the policy's check says so.
    """
    whole, own = device_policy(fleet), str(vehicle.thing)
    for statement in added(fleet):
        for resource in _listed(statement["Resource"]):
            for action in _asked(statement, resource):
                mine, theirs = (_filled(resource, name).split(":", 5)[5] for name in (own, other))
                with suppress(CannotJudge):
                    legitimate = allows(whole, action, fleet.arn("iot", mine), vehicle)
                    yield AccessCase(
                        f"{_VERBS[action]} {mine.partition('/')[2]}", vehicle, action, mine, legitimate=legitimate
                    )
                    if theirs != mine:
                        yield AccessCase(f"{_VERBS[action]} {theirs.partition('/')[2]}", vehicle, action, theirs)


_VERBS = {
    "iot:Connect": "connects as",
    "iot:Publish": "publishes to",
    "iot:RetainPublish": "retains a message of",
    "iot:Subscribe": "awaits",
    "iot:Receive": "hears",
}
_KINDS = {
    "client": {"iot:Connect"},
    "topic": {"iot:Publish", "iot:RetainPublish", "iot:Receive"},
    "topicfilter": {"iot:Subscribe"},
}


def _asked(statement: dict[str, Any], resource: str) -> list[str]:
    """Return the actions of a statement that are done to this kind of resource."""
    possible = _KINDS.get(resource.split(":", 5)[-1].partition("/")[0], set())
    return [
        each
        for each in _VERBS
        if each in possible and any(fnmatchcase(each.lower(), said.lower()) for said in _listed(statement["Action"]))
    ]


def _filled(resource: str, thing: str) -> str:
    """Return one resource of a pattern: what is variable is the vehicle's name, and what is wild a word."""
    named = re.sub(r"[$][{]iot:(Connection[.]Thing[.]ThingName|ClientId)[}]", thing, resource)
    return named.replace("*", "x").replace("?", "x")


def _listed(said: str | list[str]) -> list[str]:
    return [said] if isinstance(said, str) else list(said)


def _named(rule: Rule, place: int) -> str:
    return rule.key if len(rule.publish) == 1 else f"{rule.key}, topic {place + 1}"


def claim_cases(fleet: Fleet) -> tuple[AccessCase, ...]:
    """Return what a vehicle does with the claim certificate, and what someone who has stolen it would try."""
    requests = (
        "certificates/create",
        "certificates/create-from-csr",
        f"provisioning-templates/{fleet.template_name}/provision",
    )
    topics = [f"$aws/{request}/{spelling}" for request in requests for spelling in ("json", "cbor")]
    create = topics[0]
    claimant, other, first = (
        ClientConnection(f"{fleet.claim_client_prefix}{OWN}"),
        fleet.thing_name(OTHER),
        fleet.made_rules[0],
    )
    answers = [
        AccessCase(
            f"{verb} {topic.removeprefix('$aws/')} {answer}",
            claimant,
            action,
            f"{kind}/{topic}/{answer}",
            legitimate=True,
        )
        for verb, action, kind in (("awaits", "iot:Subscribe", "topicfilter"), ("hears", "iot:Receive", "topic"))
        for topic in topics
        for answer in ("accepted", "rejected")
    ]
    return (
        AccessCase("connects", claimant, "iot:Connect", f"client/{claimant.client_id}", legitimate=True),
        *(
            AccessCase(
                f"asks by {topic.removeprefix('$aws/')}", claimant, "iot:Publish", f"topic/{topic}", legitimate=True
            )
            for topic in topics
        ),
        *answers,
        AccessCase(
            "connects as a vehicle and so cuts it off", ClientConnection(other), "iot:Connect", f"client/{other}"
        ),
        AccessCase("connects as the wildcard client", ClientConnection("+"), "iot:Connect", "client/+"),
        *(
            AccessCase("publishes messages", claimant, "iot:Publish", f"topic/{topic}")
            for topic in first.published_by(other)[:1]
        ),
        AccessCase("publishes to the rule's topic itself", claimant, "iot:Publish", f"topic/{first.topic}"),
        AccessCase(
            "registers by another template",
            claimant,
            "iot:Publish",
            "topic/$aws/provisioning-templates/other/provision/json",
        ),
        AccessCase("asks in another spelling", claimant, "iot:Publish", "topic/$aws/certificates/create/yaml"),
        AccessCase(
            "hears all answers to those who ask for a certificate",
            claimant,
            "iot:Subscribe",
            "topicfilter/$aws/certificates/create/+/accepted",
        ),
        AccessCase("hears what everyone asks for", claimant, "iot:Subscribe", f"topicfilter/{create}"),
        AccessCase("retains a request", claimant, "iot:RetainPublish", f"topic/{create}"),
        AccessCase("forges an answer", claimant, "iot:Publish", f"topic/{create}/accepted"),
        AccessCase("hears everything", claimant, "iot:Subscribe", "topicfilter/#"),
        AccessCase("hears all of AWS IoT's topics", claimant, "iot:Subscribe", "topicfilter/$aws/#"),
        AccessCase("changes a vehicle's shadow", claimant, "iot:Publish", f"topic/$aws/things/{other}/shadow/update"),
    )


def misjudged(fleet: Fleet, document: dict[str, Any], cases: Iterable[AccessCase]) -> list[AccessCase]:
    """Return the cases that a policy judges wrongly: attacks that it allows, and legitimate ones that it does not."""
    return [
        case
        for case in cases
        if allows(document, case.action, fleet.arn("iot", case.resource), case.connection) != case.legitimate
    ]
