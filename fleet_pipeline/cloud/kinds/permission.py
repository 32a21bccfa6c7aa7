"""Who may invoke the hook: AWS IoT for our template, and nobody else. The function's policy is declared whole.

A statement cannot be changed. So the new one is added under another id before the old one is taken away: AWS IoT may
invoke at every moment.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from fleet_pipeline.aws.clients import Aws, absent


@dataclass(frozen=True)
class InvokePermission:
    """The one statement of a function's resource policy; `others` are the statements beside it, of which there should
    be none.
    """

    kind: ClassVar[str] = "invoke permission"
    fixed: ClassVar[frozenset[str]] = frozenset()
    replaced: ClassVar[frozenset[str]] = frozenset({"source_arn", "source_account", "principal", "action"})

    name: str
    arn: str
    source_arn: str
    source_account: str
    statement: str = "InvokePermission"
    principal: str = "iot.amazonaws.com"
    action: str = "lambda:InvokeFunction"
    others: tuple[dict[str, Any], ...] = ()

    def console_path(self) -> str:
        """The function's permissions."""
        return f"lambda/home#/functions/{self.name}?tab=permissions"

    def read(self, aws: Aws) -> Self | None:
        """Return the function's statements as they are, or None if it has no policy.

        What a missing statement of ours says is empty.
        """
        statements = self._statements(aws)
        named = [each for each in statements if each["Sid"] in self._ids]
        right = [each for each in statements if self._found(each, ()) == replace(self, others=())]
        # CloudFormation gives a statement an id of its own. One that says what is wanted is the one that is wanted.
        ours = next(iter([*(each for each in right if each in named), *right, *named]), {})
        others = tuple(each for each in statements if each != ours)
        return self._found(ours, others) if statements else None

    def create(self, aws: Aws) -> None:
        """Add the statement."""
        self._add(aws, self.statement)

    def update(self, aws: Aws, found: Self) -> None:
        """Add the statement if it differs or is not there, and only then take away what else there is."""
        if replace(found, others=()) == self:
            self._take_away(aws, found.others)
        else:
            self._replace(aws)

    def delete(self, aws: Aws) -> None:
        """Take every statement away."""
        self._take_away(aws, self._statements(aws))

    @property
    def _ids(self) -> tuple[str, str]:
        return self.statement, f"{self.statement}-next"

    def _replace(self, aws: Aws) -> None:
        taken = {each["Sid"] for each in self._statements(aws)}
        new = self._ids[0] if self._ids[0] not in taken else self._ids[1]
        self._take_away(aws, [{"Sid": new}] if new in taken else [])  # of one that was stopped; the other still stands
        self._add(aws, new)
        self._take_away(aws, [each for each in self._statements(aws) if each["Sid"] != new])

    def _add(self, aws: Aws, statement: str) -> None:
        aws.functions.add_permission(
            FunctionName=self.name,
            StatementId=statement,
            Action=self.action,
            Principal=self.principal,
            SourceArn=self.source_arn,
            SourceAccount=self.source_account,
        )

    def _take_away(self, aws: Aws, statements: Iterable[dict[str, Any]]) -> None:
        for statement in statements:
            aws.functions.remove_permission(FunctionName=self.name, StatementId=statement["Sid"])

    def _statements(self, aws: Aws) -> list[dict[str, Any]]:
        with absent("ResourceNotFoundException"):
            statements: list[dict[str, Any]] = json.loads(aws.functions.get_policy(FunctionName=self.name)["Policy"])[
                "Statement"
            ]
            return statements
        return []

    def _found(self, statement: dict[str, Any], others: tuple[dict[str, Any], ...]) -> Self:
        conditions = {
            key.lower(): value for block in statement.get("Condition", {}).values() for key, value in block.items()
        }
        principal = statement.get("Principal", "")
        return replace(
            self,
            source_arn=conditions.get("aws:sourcearn", ""),
            source_account=conditions.get("aws:sourceaccount", ""),
            principal=principal.get("Service", str(principal)) if isinstance(principal, dict) else principal,
            action=statement.get("Action", ""),
            others=others,
        )
