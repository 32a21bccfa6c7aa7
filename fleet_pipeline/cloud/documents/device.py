"""What a registered vehicle may do, as one policy or, where AWS IoT takes no document so long, as several. Pure.

A vehicle connects as its own thing. It publishes to the rules' Basic Ingest topics, where they name a vehicle below its
own name; and it does what the settings add. Sources: AWS IoT Core Developer Guide, thing-policy-variables,
device-shadow-mqtt, jobs-mqtt-api, reserved-topics-command.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from fleet_pipeline.cloud.documents.filled import Document, filled_in
from fleet_pipeline.model.device import POLICIES, POLICY_DOCUMENT_LIMIT
from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.rule_table import THING

THING_VARIABLE = "${iot:Connection.Thing.ThingName}"
"""What stands in a policy for the name of the vehicle that is connected."""

RIGHTS: dict[str, dict[str, str]] = {
    "shadow": {"Publish": f"$aws/things/{THING_VARIABLE}/shadow/*", "hear": f"$aws/things/{THING_VARIABLE}/shadow/*"},
    "jobs": {"Publish": f"$aws/things/{THING_VARIABLE}/jobs/*", "hear": f"$aws/things/{THING_VARIABLE}/jobs/*"},
    "commands": {
        "Publish": f"$aws/commands/things/{THING_VARIABLE}/executions/*/response/*",
        "hear": f"$aws/commands/things/{THING_VARIABLE}/executions/*",
    },
}
"""Of each ready right: to which topics a vehicle publishes, and which it hears. Its own all of them."""


def device_policy(fleet: Fleet) -> Document:
    """Return all that a registered vehicle may do, as one document, however long."""
    document = filled_in(
        "device-policy",
        fleet,
        {"publish-topics": [_in_policy(topic) for rule in fleet.made_rules for topic in rule.ingest]},
    )
    statements = [each for each in document["Statement"] if each["Resource"]] + added(fleet)
    return {**document, "Statement": statements}


def added(fleet: Fleet) -> list[Document]:
    """Return the statements that the settings add: those of the ready rights, and the company's own."""
    ready = [statement for right in fleet.device_rights for statement in ready_statements(fleet, right)]
    return ready + [{**each, "Resource": _spelled_out(fleet, each["Resource"])} for each in fleet.policy_statements]


def device_policies(fleet: Fleet) -> list[Document]:
    """Return the same in documents that AWS IoT takes, the fewest that keep its order.

    Raises InvalidSetting where a certificate would need too many.
    """
    whole = device_policy(fleet)
    documents: list[Document] = [{**whole, "Statement": []}]
    for piece in (piece for statement in whole["Statement"] for piece in _pieces(statement)):
        longer = {**whole, "Statement": _joined(documents[-1]["Statement"], piece)}
        if size(longer) > POLICY_DOCUMENT_LIMIT and documents[-1]["Statement"]:
            documents.append({**whole, "Statement": [piece]})
        else:
            documents[-1] = longer
    _refuse_too_many(documents)
    return documents


def device_policy_names(fleet: Fleet) -> list[str]:
    """Return the names of the policies that every vehicle has."""
    return [
        fleet.device_policy_name,
        *(fleet.further_device_policy_name(number) for number in range(2, len(device_policies(fleet)) + 1)),
    ]


def with_device_policies(fleet: Fleet, template: Document) -> Document:
    """Return a provisioning template that gives each vehicle all of these policies, not the first alone."""
    further = {f"policy{number}": name for number, name in enumerate(device_policy_names(fleet)[1:], 2)}
    resources = {key: {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": name}} for key, name in further.items()}
    return {**template, "Resources": {**template["Resources"], **resources}}


def size(document: Any) -> int:
    """Return how many characters AWS counts: those of a document without white space."""
    return len(json.dumps(document, separators=(",", ":")))


def ready_statements(fleet: Fleet, right: str) -> list[Document]:
    """Return the statements of a ready right."""
    publish, hear = RIGHTS[right]["Publish"], RIGHTS[right]["hear"]
    name = right.capitalize()
    return [
        {
            "Sid": f"Own{name}Publish",
            "Effect": "Allow",
            "Action": "iot:Publish",
            "Resource": fleet.arn("iot", f"topic/{publish}"),
        },
        {
            "Sid": f"Own{name}Subscribe",
            "Effect": "Allow",
            "Action": "iot:Subscribe",
            "Resource": fleet.arn("iot", f"topicfilter/{hear}"),
        },
        {
            "Sid": f"Own{name}Receive",
            "Effect": "Allow",
            "Action": "iot:Receive",
            "Resource": fleet.arn("iot", f"topic/{hear}"),
        },
    ]


def _spelled_out(fleet: Fleet, said: str | Sequence[str]) -> str | list[str]:
    """Return resources as ARNs; `topic/…`, `topicfilter/…` and `client/…` are those of the fleet's
    account and region.
    """
    if not isinstance(said, str):
        return [text for each in said for text in [_spelled_out(fleet, each)] if isinstance(text, str)]
    return fleet.arn("iot", said) if re.match("(topic|topicfilter|client)/", said) else said


def _in_policy(topic: str) -> str:
    """Return a topic to which vehicles publish as policies write it: for each vehicle its own."""
    return re.sub("#$", "*", topic.replace(THING, THING_VARIABLE))


def _pieces(statement: Document) -> Iterable[Document]:
    """Return a statement in as many as it has resources, as the rules' topics may stand in several documents.

    One with a condition stays whole.
    """
    if isinstance(statement["Resource"], str) or "Condition" in statement:
        return [statement]
    return [{**statement, "Resource": [each]} for each in statement["Resource"]]


def _joined(statements: list[Document], piece: Document) -> list[Document]:
    """Return statements with one more, which becomes part of the last where they differ in resources alone."""
    last = statements[-1] if statements else {}
    if (
        isinstance(piece["Resource"], list)
        and isinstance(last.get("Resource"), list)
        and {**last, "Resource": 0} == {**piece, "Resource": 0}
    ):
        return [*statements[:-1], {**last, "Resource": [*last["Resource"], *piece["Resource"]]}]
    return [*statements, piece]


def _refuse_too_many(documents: Sequence[Document]) -> None:
    for document in documents:
        if size(document) > POLICY_DOCUMENT_LIMIT:
            why = (
                f"a statement makes a document of {size(document)} characters, and AWS IoT takes "
                f"{POLICY_DOCUMENT_LIMIT}: say it in several"
            )
            raise InvalidSetting("policy_statements", None, why)
    if len(documents) > POLICIES:
        why = (
            f"vehicles would need {len(documents)} policies, and AWS IoT gives a certificate {POLICIES}; use fewer "
            "rules or shorter names"
        )
        raise InvalidSetting("FLEET_RULE_KEYS", None, why)
