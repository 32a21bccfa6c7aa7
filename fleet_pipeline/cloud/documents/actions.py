"""Further actions of topic rules: what AWS IoT must be allowed so that it can take them, by kind, each on its own
target. Pure.

An action that names no role is given the fleet's own, `{service}-{environment}-rule-actions-role`. Of kinds whose right
cannot be told from the action, the role must be said. What has no role at all stands under rights elsewhere: a function
under its own policy, Kafka under its VPC destination. Sources: AWS IoT Core Developer Guide, iot-rule-actions and a
page for each action; Service Authorization Reference.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fleet_pipeline.cloud.documents.filled import Document
from fleet_pipeline.model.fleet import Fleet

Right = tuple[tuple[str, ...], str]
"""Actions of IAM, and the ARN of what they act on."""

_QUEUE = re.compile(r"https?://(?:sqs\.(?P<region>[a-z0-9-]+)\.|)[^/]*/(?P<account>[0-9]{12})/(?P<name>[A-Za-z0-9_-]+)")
_DOMAIN = re.compile(r"https://(?:search|vpc)-(?P<name>[a-z0-9-]+)-[a-z0-9]{26}\.[a-z0-9-]+\.es\.")
_ITEM = {"INSERT": "PutItem", "UPDATE": "UpdateItem", "DELETE": "DeleteItem"}


def completed(fleet: Fleet, action: Mapping[str, Any]) -> dict[str, Any]:
    """Return an action with the fleet's own role, where it names none and the right to it is known."""
    [(kind, spec)] = action.items()
    return (
        {kind: {"roleArn": fleet.role_arn(fleet.rule_actions_role_name), **spec}}
        if _rights(fleet, action)
        else {kind: spec}
    )


def action_rights(fleet: Fleet) -> list[Document]:
    """Return what the fleet's own role for further actions may do: a statement for each kind of action, on the targets
    of the rules' actions.
    """
    targets: dict[tuple[str, ...], set[str]] = {}
    for action in _actions(fleet):
        for verbs, arn in _rights(fleet, action):
            targets.setdefault(verbs, set()).add(arn)
    return [
        {"Effect": "Allow", "Action": [*verbs], "Resource": "*" if "*" in arns else sorted(arns)}
        for verbs, arns in sorted(targets.items())
    ]


def given_roles(fleet: Fleet) -> list[str]:
    """Return the roles that actions name: they are others', and whoever makes the rules must be
    allowed to pass them.
    """
    roles = {
        spec["roleArn"]
        for action in _actions(fleet)
        for spec in action.values()
        if isinstance(spec.get("roleArn"), str)
    }
    return sorted(roles)


def _actions(fleet: Fleet) -> Iterator[Mapping[str, Any]]:
    for table in fleet.rule_tables:
        yield from table.actions
        if table.error_action:
            yield table.error_action


def _rights(fleet: Fleet, action: Mapping[str, Any]) -> list[Right]:
    """Return what the fleet's own role needs for an action; nothing where another role takes it, or it is not known."""
    [(kind, spec)] = action.items()
    if "roleArn" in spec or kind not in RIGHTS:
        return []
    try:
        return [(verbs, _up_to_template(arn)) for verbs, arn in RIGHTS[kind](fleet, spec) if arn]
    except (
        KeyError,
        TypeError,
        AttributeError,
    ):  # a parameter is missing or of another type, as the check against AWS's model says
        return []


def _up_to_template(arn: str) -> str:
    """Return an ARN whose first `${…}`, which each message fills in otherwise, stands for anything."""
    return re.sub(r"\$\{.*", "*", arn, flags=re.DOTALL)


def _queue(fleet: Fleet, url: str) -> str:
    found = _QUEUE.fullmatch(url)
    return (
        f"arn:{fleet.partition}:sqs:{found['region'] or fleet.region}:{found['account']}:{found['name']}"
        if found
        else ""
    )


def _documents(fleet: Fleet, spec: Mapping[str, Any]) -> list[Right]:
    found = _DOMAIN.match(spec["endpoint"])
    return [(("es:ESHttpPut",), fleet.arn("es", f"domain/{found['name']}/{spec['index']}/*"))] if found else []


def _object(fleet: Fleet, spec: Mapping[str, Any]) -> list[Right]:
    verbs = ("s3:PutObject", "s3:PutObjectAcl") if spec.get("cannedAcl", "private") != "private" else ("s3:PutObject",)
    return [(verbs, fleet.arn("s3", f"{spec['bucketName']}/{spec['key']}"))]


def _logs(fleet: Fleet, spec: Mapping[str, Any]) -> list[Right]:
    return [
        (
            ("logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"),
            fleet.arn("logs", f"log-group:{spec['logGroupName']}:*"),
        )
    ]


def _delivery(fleet: Fleet, spec: Mapping[str, Any]) -> list[Right]:
    verbs = ("firehose:PutRecord", "firehose:PutRecordBatch") if spec.get("batchMode") else ("firehose:PutRecord",)
    return [(verbs, fleet.arn("firehose", f"deliverystream/{spec['deliveryStreamName']}"))]


def _records(fleet: Fleet, spec: Mapping[str, Any]) -> list[Right]:
    table = fleet.arn("timestream", f"database/{spec['databaseName']}/table/{spec['tableName']}")
    return [(("timestream:WriteRecords",), table), (("timestream:DescribeEndpoints",), "*")]


RIGHTS: Mapping[str, Callable[[Fleet, Mapping[str, Any]], list[Right]]] = {
    "cloudwatchAlarm": lambda fleet, spec: [
        (("cloudwatch:SetAlarmState",), fleet.arn("cloudwatch", f"alarm:{spec['alarmName']}"))
    ],
    "cloudwatchLogs": _logs,
    "cloudwatchMetric": lambda _, __: [(("cloudwatch:PutMetricData",), "*")],  # AWS takes no resource for it
    "dynamoDB": lambda fleet, spec: [
        ((f"dynamodb:{_ITEM[spec.get('operation', 'INSERT')]}",), fleet.arn("dynamodb", f"table/{spec['tableName']}"))
    ],
    "dynamoDBv2": lambda fleet, spec: [
        (("dynamodb:PutItem",), fleet.arn("dynamodb", f"table/{spec['putItem']['tableName']}"))
    ],
    "elasticsearch": _documents,
    "firehose": _delivery,
    "kinesis": lambda fleet, spec: [(("kinesis:PutRecord",), fleet.arn("kinesis", f"stream/{spec['streamName']}"))],
    "location": lambda fleet, spec: [
        (("geo:BatchUpdateDevicePosition",), fleet.arn("geo", f"tracker/{spec['trackerName']}"))
    ],
    "openSearch": _documents,
    "republish": lambda fleet, spec: [
        (("iot:Publish",), fleet.arn("iot", f"topic/{re.sub(r'^[$]{2}', '$', spec['topic'])}"))
    ],
    "s3": _object,
    "sns": lambda _, spec: [(("sns:Publish",), spec["targetArn"])],
    "sqs": lambda fleet, spec: [(("sqs:SendMessage",), _queue(fleet, spec["queueUrl"]))],
    "stepFunctions": lambda fleet, spec: [
        (("states:StartExecution",), fleet.arn("states", f"stateMachine:{spec['stateMachineName']}"))
    ],
    "timestream": _records,
}
"""The kinds whose right can be told from the action."""
