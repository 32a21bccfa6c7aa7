"""A topic rule that writes every message of its topic to S3, and tells what it could not write."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Self
from urllib.parse import quote, urlencode

from botocore.exceptions import ClientError
from botocore.model import ServiceModel
from botocore.session import get_session
from botocore.validate import ParamValidator

from fleet_pipeline.aws.clients import Aws, error_code
from fleet_pipeline.cloud import tags as tagging
from fleet_pipeline.model.errors import InvalidSetting

SQL_VERSION = "2016-03-23"
"""The version of AWS IoT SQL that reads arrays at the top of a message.

Source: AWS IoT Core Developer Guide, iot-rule-sql-version.
"""


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
    further_actions: tuple[dict[str, Any], ...] = ()
    sql_version: str = SQL_VERSION
    disabled: bool = False

    @property
    def named_by(self) -> str:
        """The settings from which its name comes: a second fleet with the same raw prefix would have the same rules."""
        return (
            "FLEET_SERVICE or FLEET_ENVIRONMENT" if "lambda" in self.action else "FLEET_RAW_PREFIX or FLEET_RULE_KEYS"
        )

    def console_path(self) -> str:
        """The rule's page."""
        return f"iot/home#/rule/{self.name}"

    def read(self, aws: Aws) -> Self | None:
        """Return the rule as it is, or None."""
        found = self._found(aws)
        if found is None:
            return None
        first, *further = found.get("actions", []) or [{}]
        asked = [*self.further_actions, *({} for _ in further)]
        return replace(
            self,
            description=found.get("description", ""),
            sql=found["sql"],
            action=_declared(first, self.action),
            further_actions=tuple(_declared(each, wanted) for each, wanted in zip(further, asked, strict=False)),
            error_action=_declared(found.get("errorAction", {}), self.error_action),
            sql_version=found.get("awsIotSqlVersion", "2015-10-08"),
            disabled=found.get("ruleDisabled", False),
            tags=tagging.of_iot(self.tags, aws, self.arn),
        )

    def create(self, aws: Aws) -> None:
        """Make the rule."""
        aws.iot.create_topic_rule(
            ruleName=self.name, topicRulePayload=self._payload(), tags=urlencode(self.tags, quote_via=quote)
        )

    def update(self, aws: Aws, found: Self) -> None:
        """Replace the rule whole."""
        if found.tags != self.tags:
            aws.iot.tag_resource(resourceArn=self.arn, tags=tagging.spelled(self.tags))
        if replace(found, tags=self.tags) != self:
            aws.iot.replace_topic_rule(ruleName=self.name, topicRulePayload=self._payload())

    def delete(self, aws: Aws) -> None:
        """Remove the rule; messages published to it from now on are lost."""
        aws.iot.delete_topic_rule(ruleName=self.name)

    def _found(self, aws: Aws) -> Any:
        """Return AWS's answer, or None.

        GetTopicRule says "unauthorized" of a missing rule; only then the list decides, which may be long.
        """
        try:
            return aws.iot.get_topic_rule(ruleName=self.name)["rule"]
        except ClientError as error:
            if error_code(error) == "ResourceNotFoundException" or (
                error_code(error) == "UnauthorizedException" and not self._is_listed(aws)
            ):
                return None
            raise

    def _is_listed(self, aws: Aws) -> bool:
        pages = aws.iot.get_paginator("list_topic_rules").paginate()
        return any(rule["ruleName"] == self.name for page in pages for rule in page["rules"])

    def _payload(self) -> Any:
        return {
            "sql": self.sql,
            "description": self.description,
            "actions": [self.action, *self.further_actions],
            "errorAction": self.error_action,
            "awsIotSqlVersion": self.sql_version,
            "ruleDisabled": self.disabled,
        }


def s3_action(role_arn: str, bucket: str, key: str) -> dict[str, Any]:
    """Return the action that puts a message into S3 as one object."""
    return {"s3": {"roleArn": role_arn, "bucketName": bucket, "key": key}}


def stream_action(role_arn: str, stream: str) -> dict[str, Any]:
    """Return the action that hands a message to a stream of Firehose, as a line."""
    return {"firehose": {"roleArn": role_arn, "deliveryStreamName": stream, "separator": "\n"}}


def refuse_unknown(place: str, action: Mapping[str, Any], role_wanted: str = "") -> None:
    """Raise InvalidSetting, which names the place, unless this is an action as AWS IoT takes it: by botocore's own
    model of the service. Calls nobody.

    That it names no role is said in the words of `role_wanted`, and only where nothing else is wrong.
    """
    model = _model()
    found = ParamValidator().validate(action, model.shape_for("Action"))
    if found.has_errors():
        report = re.sub(r"<class '([a-z]+)'>", r"\1", found.generate_report())
        problems = [line for line in report.splitlines() if not (role_wanted and _NO_ROLE.search(line))]
        why = f"AWS IoT does not take it: {'; '.join(problems)}" if problems else role_wanted
        raise InvalidSetting(place, None, why)


_NO_ROLE = re.compile(r'Missing required parameter .*"roleArn"')


@cache
def _model() -> ServiceModel:
    return get_session().get_service_model("iot")


ADDED = {"cannedAcl": "private", "messageFormat": "RAW", "qos": 0}
"""What AWS IoT adds to an action by itself, beside what is false or empty.

Source: API_Action and the pages of the actions.
"""


def _declared(action: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what AWS adds by itself and nobody has asked for."""

    def is_added(name: str, value: Any, asked: Any) -> bool:
        return not (isinstance(asked, Mapping) and name in asked) and (not value or value == ADDED.get(name))

    return {
        kind: {name: value for name, value in body.items() if not is_added(name, value, wanted.get(kind))}
        for kind, body in action.items()
    }
