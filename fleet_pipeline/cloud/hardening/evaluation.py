"""What AWS would allow under a policy document: enough of its evaluation for our documents and for those of the CDK
app.

A condition or an element that is not known here is an error (CannotJudge), never an answer. Where AWS's documentation
leaves something open, the
attacker gets it: every client id counts as the name of a thing. Sources: AWS IoT Core Developer Guide,
basic-policy-variables, thing-policy-variables, pub-sub-policy; IAM User Guide, reference_policies_evaluation-logic.
"""

import re
from dataclasses import dataclass
from typing import Any

from fleet_pipeline.model.errors import CannotJudge

_KNOWN = {"Sid", "Effect", "Action", "Resource", "Condition"}


@dataclass(frozen=True)
class ClientConnection:
    """An MQTT connection: its client id, and the thing that its certificate is attached to."""

    client_id: str
    thing: str | None = None

    @property
    def variables(self) -> dict[str, str]:
        """What `${…}` in a policy stands for."""
        return {
            "iot:ClientId": self.client_id,
            "iot:Connection.Thing.ThingName": self.client_id,
            "iot:Connection.Thing.IsAttached": str(self.client_id == self.thing).lower(),
        }


def allows(document: dict[str, Any], action: str, arn: str, connection: ClientConnection | None = None) -> bool:
    """Say whether a statement allows the action on the resource and none denies it."""
    variables = connection.variables if connection else {}
    effects = {
        statement["Effect"] for statement in document["Statement"] if _speaks_of(statement, action, arn, variables)
    }
    return effects == {"Allow"}


def _speaks_of(statement: dict[str, Any], action: str, arn: str, variables: dict[str, str]) -> bool:
    if set(statement) - _KNOWN:
        raise CannotJudge(", ".join(sorted(set(statement) - _KNOWN)))
    return (
        any(_pattern(each.lower(), {}).fullmatch(action.lower()) for each in _listed(statement["Action"]))
        and any(_pattern(each, variables).fullmatch(arn) for each in _listed(statement["Resource"]))
        and all(_holds(operator, wanted, variables) for operator, wanted in statement.get("Condition", {}).items())
    )


def _holds(operator: str, wanted: dict[str, str], variables: dict[str, str]) -> bool:
    if operator != "Bool":
        raise CannotJudge(operator)
    return all(_value(variables, name) == value for name, value in wanted.items())


def _value(variables: dict[str, str], name: str) -> str:
    if name not in variables:
        raise CannotJudge(name)
    return variables[name]


def _listed(said: str | list[str]) -> list[str]:
    return [said] if isinstance(said, str) else said


def _pattern(text: str, variables: dict[str, str]) -> re.Pattern[str]:
    """Compile a pattern: `*` and `?` are wild, MQTT's `+` and `#` are not, and a variable's value is taken
    letter by letter.
    """
    pieces = re.split(r"(\$\{[^}]*\}|[*?])", text)
    wild = {"*": ".*", "?": "."}
    return re.compile(
        "".join(
            wild.get(piece) or re.escape(_value(variables, piece[2:-1]) if piece.startswith("${") else piece)
            for piece in pieces
        ),
        re.DOTALL,
    )
