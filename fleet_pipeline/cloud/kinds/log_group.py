"""The log of a function, where it is to be encrypted: Lambda would make it by itself, with a key of AWS's."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from fleet_pipeline.aws.clients import Aws, absent
from fleet_pipeline.cloud import encryption


def described(aws: Aws, name: str) -> Any:
    """Return what CloudWatch Logs says of a log group, or None where there is none."""
    pages = aws.logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=name)
    return next((each for page in pages for each in page["logGroups"] if each["logGroupName"] == name), None)


@dataclass(frozen=True)
class LogGroup:
    """A log group and its key. It has no tags: it is ours as its function is, which may have made it before."""

    kind: ClassVar[str] = "log group"
    fixed: ClassVar[frozenset[str]] = frozenset()

    name: str
    arn: str
    kms_key: str

    def console_path(self) -> str:
        """The log group's page."""
        return f"cloudwatch/home#logsV2:log-groups/log-group/{self.name.replace('/', '$252F')}"

    def read(self, aws: Aws) -> Self | None:
        """Return the log group as it is, or None."""
        found = described(aws, self.name)
        return None if found is None else replace(self, kms_key=encryption.compared(aws, self.kms_key, found.get("kmsKeyId", "")))

    def create(self, aws: Aws) -> None:
        """Make the log group with its key."""
        aws.logs.create_log_group(logGroupName=self.name, kmsKeyId=encryption.usable(aws, self.kms_key))

    def update(self, aws: Aws, _found: Self) -> None:
        """Encrypt with the key what is logged from now on; what was logged before stays as it is."""
        aws.logs.associate_kms_key(logGroupName=self.name, kmsKeyId=encryption.usable(aws, self.kms_key))

    def delete(self, aws: Aws) -> None:
        """Remove the log with all that was logged."""
        with absent("ResourceNotFoundException"):
            aws.logs.delete_log_group(logGroupName=self.name)
