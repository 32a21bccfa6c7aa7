"""The statement by which AWS IoT may invoke the hook, and nobody else's AWS IoT."""

import json
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from fleet_pipeline.aws import Aws, absent


@dataclass(frozen=True)
class InvokePermission:
    """One statement of a function's resource policy."""

    kind: ClassVar[str] = "invoke permission"
    fixed: ClassVar[frozenset[str]] = frozenset()

    name: str
    arn: str
    source_arn: str
    source_account: str
    statement: str = "InvokePermission"
    principal: str = "iot.amazonaws.com"
    action: str = "lambda:InvokeFunction"

    def console_path(self) -> str:
        """The function's permissions."""
        return f"lambda/home#/functions/{self.name}?tab=permissions"

    def read(self, aws: Aws) -> Self | None:
        """Return the statement as it is, or None."""
        with absent("ResourceNotFoundException"):
            policy = json.loads(aws.functions.get_policy(FunctionName=self.name)["Policy"])
            for statement in policy["Statement"]:
                if statement["Sid"] == self.statement:
                    return self._found(statement)
        return None

    def create(self, aws: Aws) -> None:
        """Add the statement."""
        aws.functions.add_permission(
            FunctionName=self.name,
            StatementId=self.statement,
            Action=self.action,
            Principal=self.principal,
            SourceArn=self.source_arn,
            SourceAccount=self.source_account,
        )

    def update(self, aws: Aws, _found: Self) -> None:
        """Take the statement away and add it anew; Lambda has no other way."""
        self.delete(aws)
        self.create(aws)

    def delete(self, aws: Aws) -> None:
        """Take the statement away."""
        aws.functions.remove_permission(FunctionName=self.name, StatementId=self.statement)

    def _found(self, statement: dict[str, Any]) -> Self:
        conditions = {key.lower(): value for block in statement.get("Condition", {}).values() for key, value in block.items()}
        principal = statement["Principal"]
        return replace(
            self,
            source_arn=conditions.get("aws:sourcearn", ""),
            source_account=conditions.get("aws:sourceaccount", ""),
            principal=principal.get("Service", str(principal)) if isinstance(principal, dict) else principal,
            action=statement["Action"],
        )
