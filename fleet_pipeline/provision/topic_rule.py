"""A topic rule that writes every message of its topic to S3, and tells what it could not write."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from fleet_pipeline.aws import Aws
from fleet_pipeline.provision import tags as tagging


@dataclass(frozen=True)
class TopicRule:
    """A rule; actions are in AWS's own form."""

    kind: ClassVar[str] = "topic rule"
    fixed: ClassVar[frozenset[str]] = frozenset()

    name: str
    arn: str
    description: str
    sql: str
    action: dict[str, Any]
    error_action: dict[str, Any]
    tags: dict[str, str]
    sql_version: str = "2016-03-23"
    disabled: bool = False

    def console_path(self) -> str:
        """The rule's page."""
        return f"iot/home#/rule/{self.name}"

    def read(self, aws: Aws) -> Self | None:
        """Return the rule as it is, or None. GetTopicRule answers "unauthorized" for a missing rule, so the list decides."""
        pages = aws.iot.get_paginator("list_topic_rules").paginate()
        if not any(rule["ruleName"] == self.name for page in pages for rule in page["rules"]):
            return None
        found = aws.iot.get_topic_rule(ruleName=self.name)["rule"]
        actions = found.get("actions", [])
        return replace(
            self,
            description=found.get("description", ""),
            sql=found["sql"],
            action=_declared(actions[0]) if len(actions) == 1 else {"actions": actions},
            error_action=_declared(found.get("errorAction", {})),
            sql_version=found.get("awsIotSqlVersion", "2015-10-08"),
            disabled=found.get("ruleDisabled", False),
            tags=tagging.found(self.tags, aws.iot.list_tags_for_resource(resourceArn=self.arn)["tags"]),
        )

    def create(self, aws: Aws) -> None:
        """Make the rule."""
        pairs = "&".join(f"{key}={value}" for key, value in self.tags.items())
        aws.iot.create_topic_rule(ruleName=self.name, topicRulePayload=self._payload(), tags=pairs)

    def update(self, aws: Aws, found: Self) -> None:
        """Replace the rule whole."""
        if found.tags != self.tags:
            aws.iot.tag_resource(resourceArn=self.arn, tags=tagging.spelled(self.tags))
        if replace(found, tags=self.tags) != self:
            aws.iot.replace_topic_rule(ruleName=self.name, topicRulePayload=self._payload())

    def delete(self, aws: Aws) -> None:
        """Remove the rule; messages published to it from now on are lost."""
        aws.iot.delete_topic_rule(ruleName=self.name)

    def _payload(self) -> Any:
        return {
            "sql": self.sql,
            "description": self.description,
            "actions": [self.action],
            "errorAction": self.error_action,
            "awsIotSqlVersion": self.sql_version,
            "ruleDisabled": self.disabled,
        }


def s3_action(role_arn: str, bucket: str, key: str) -> dict[str, Any]:
    """Return the action that puts a message into S3 as one object."""
    return {"s3": {"roleArn": role_arn, "bucketName": bucket, "key": key}}


def _declared(action: Any) -> dict[str, Any]:
    """Leave out what AWS adds by itself to an S3 action."""
    return {kind: {key: value for key, value in body.items() if key != "cannedAcl" or value != "private"} for kind, body in action.items()}
