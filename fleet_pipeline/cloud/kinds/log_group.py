"""The log of a function, where it is to be encrypted, tagged or kept for a time.

Lambda would make it by itself, untagged, with a key of AWS's, for ever.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from fleet_pipeline.aws.clients import Aws, absent
from fleet_pipeline.cloud import encryption
from fleet_pipeline.cloud import tags as tagging


def described(aws: Aws, name: str) -> Any:
    """Return what CloudWatch Logs says of a log group, or None where there is none."""
    pages = aws.logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=name)
    return next((each for page in pages for each in page["logGroups"] if each["logGroupName"] == name), None)


@dataclass(frozen=True)
class LogGroup:
    """A log group, its key and how long it keeps what is logged.

    `tags` are the company's alone: it is ours as its function is, which may have made it before.

    Without a wanted key or number of days, those that somebody has set stay. `retention_days` is 0 for no end.
    """

    kind: ClassVar[str] = "log group"
    fixed: ClassVar[frozenset[str]] = frozenset()

    name: str
    arn: str
    kms_key: str = ""
    retention_days: int = 0
    tags: dict[str, str] = field(default_factory=dict)

    def console_path(self) -> str:
        """The log group's page."""
        return f"cloudwatch/home#logsV2:log-groups/log-group/{self.name.replace('/', '$252F')}"

    def read(self, aws: Aws) -> Self | None:
        """Return the log group as it is, or None."""
        found = described(aws, self.name)
        if found is None:
            return None
        return replace(
            self,
            kms_key=encryption.compared(aws, self.kms_key, found.get("kmsKeyId", "")) if self.kms_key else "",
            retention_days=found.get("retentionInDays", 0) if self.retention_days else 0,
            tags=self._found_tags(aws),
        )

    def create(self, aws: Aws) -> None:
        """Make the log group with its key and its tags, and then say how long it keeps what is logged."""
        key: Any = {"kmsKeyId": encryption.usable(aws, self.kms_key)} if self.kms_key else {}
        tags: Any = {"tags": self.tags} if self.tags else {}
        aws.logs.create_log_group(logGroupName=self.name, **key, **tags)
        self._keep(aws, 0)

    def update(self, aws: Aws, found: Self) -> None:
        """Encrypt with the key what is logged from now on; what was logged before stays as it is."""
        if found.tags != self.tags:
            aws.logs.tag_resource(resourceArn=self.arn, tags=self.tags)
        if found.kms_key != self.kms_key:
            aws.logs.associate_kms_key(logGroupName=self.name, kmsKeyId=encryption.usable(aws, self.kms_key))
        self._keep(aws, found.retention_days)

    def delete(self, aws: Aws) -> None:
        """Remove the log with all that was logged."""
        with absent("ResourceNotFoundException"):
            aws.logs.delete_log_group(logGroupName=self.name)

    def _keep(self, aws: Aws, found: int) -> None:
        if self.retention_days != found:
            aws.logs.put_retention_policy(logGroupName=self.name, retentionInDays=self.retention_days)

    def _found_tags(self, aws: Aws) -> dict[str, str]:
        answer = aws.logs.list_tags_for_resource(resourceArn=self.arn)["tags"] if self.tags else {}
        return tagging.found(self.tags, tagging.spelled(answer))
