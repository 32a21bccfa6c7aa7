"""Further actions of topic rules: what AWS IoT must be allowed so that it can take them, by kind, each on its own
target. Pure.

An action that names no role is given the fleet's own, `{service}-{environment}-rule-actions-role`. Of kinds whose right
cannot be told from the action, the role must be said. What has no role at all stands under rights elsewhere: a function
under its own policy, Kafka under its VPC destination. Sources: AWS IoT Core Developer Guide, iot-rule-actions and a
page for each action; Service Authorization Reference.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fleet_pipeline.cloud.documents.filled import Document
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.rule import Rule

Right = tuple[tuple[str, ...], str]
"""Actions of IAM, and the ARN of what they act on."""

_QUEUE = re.compile(r"https?://(?:sqs\.(?P<region>[a-z0-9-]+)\.|)[^/]*/(?P<account>[0-9]{12})/(?P<name>[A-Za-z0-9_-]+)")
_DOMAIN = re.compile(r"https://(?:search|vpc)-(?P<name>[a-z0-9-]+)-[a-z0-9]{26}\.[a-z0-9-]+\.es\.")
_ITEM = {"INSERT": "PutItem", "UPDATE": "UpdateItem", "DELETE": "DeleteItem"}


def completed(fleet: Fleet, action: Mapping[str, Any]) -> dict[str, Any]:
    """Return an action with the fleet's own role, where it names none and the right to it is known."""
    [(kind, spec)] = action.items()
    own = {"roleArn": fleet.role_arn(fleet.rule_actions_role_name)}
    return {kind: {**own, **spec}} if _rights(fleet, action) else {kind: spec}


def role_wanted(action: Mapping[str, Any]) -> str:
    """Return in words why an action must name a role itself; nothing where it need not, or does."""
    [(kind, spec)] = action.items()
    if "roleArn" in spec or kind in WITHOUT_A_ROLE:
        return ""
    if kind in RIGHTS:
        told = {"sqs": "its queueUrl", "openSearch": "its endpoint", "elasticsearch": "its endpoint"}.get(kind, "it")
        return f"say roleArn, or write {told} as AWS does: the fleet's own role gets the right to what {told} names"
    return "say roleArn, a role of yours that AWS IoT may take on: which right this kind needs the fleet cannot tell"


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


@dataclass(frozen=True, slots=True)
class Target:
    """What a further action is taken on: somebody else's stream, queue or the like.

    `place` is where the settings say it. Without an `arn` nobody here can look whether it exists: of this kind AWS
    tells it in no one call, or each message chooses another.
    """

    place: str
    rule: Rule
    kind: str
    spec: Mapping[str, Any]
    verb: str = ""
    """The right to look."""
    arn: str = ""


def targets(fleet: Fleet) -> list[Target]:
    """Return what the rules' further actions and error actions are taken on, in the order of the settings."""
    return [
        Target(f"{place}.{kind}", rule, kind, spec, *_looked_at_by(fleet, kind, spec))
        for place, rule, action in _placed(fleet)
        for kind, spec in action.items()
    ]


def looking_at_targets(fleet: Fleet) -> list[Document]:
    """Return the rights to look whether what further actions are taken on exists; log groups the provisioner may list
    anyhow, for which AWS takes no resource.
    """
    by_verb: dict[str, set[str]] = {}
    for target in targets(fleet):
        if target.arn and target.kind != "cloudwatchLogs":
            by_verb.setdefault(target.verb, set()).add(target.arn)
    return [{"Effect": "Allow", "Action": [verb], "Resource": sorted(arns)} for verb, arns in sorted(by_verb.items())]


def _looked_at_by(fleet: Fleet, kind: str, spec: Mapping[str, Any]) -> tuple[str, str]:
    """Return the right to look at a target and its ARN, or nothing where none tells."""
    verb, arn_of = LOOKED_AT_BY.get(kind, ("", lambda _, __: ""))
    try:
        arn = arn_of(fleet, spec)
    except (KeyError, TypeError, AttributeError):  # as in `_rights`
        return "", ""
    return (verb, arn) if arn and "${" not in arn else ("", "")


WITHOUT_A_ROLE = frozenset({"lambda", "kafka", "http", "salesforce"})
"""Kinds that AWS IoT takes without a role."""

LOOKED_AT_BY: Mapping[str, tuple[str, Callable[[Fleet, Mapping[str, Any]], str]]] = {
    "cloudwatchLogs": (
        "logs:DescribeLogGroups",
        lambda fleet, spec: fleet.arn("logs", f"log-group:{spec['logGroupName']}"),
    ),
    "dynamoDB": ("dynamodb:DescribeTable", lambda fleet, spec: fleet.arn("dynamodb", f"table/{spec['tableName']}")),
    "dynamoDBv2": (
        "dynamodb:DescribeTable",
        lambda fleet, spec: fleet.arn("dynamodb", f"table/{spec['putItem']['tableName']}"),
    ),
    "firehose": (
        "firehose:DescribeDeliveryStream",
        lambda fleet, spec: fleet.arn("firehose", f"deliverystream/{spec['deliveryStreamName']}"),
    ),
    "kafka": ("iot:GetTopicRuleDestination", lambda _, spec: spec["destinationArn"]),
    "kinesis": (
        "kinesis:DescribeStreamSummary",
        lambda fleet, spec: fleet.arn("kinesis", f"stream/{spec['streamName']}"),
    ),
    "lambda": ("lambda:GetFunctionConfiguration", lambda _, spec: spec["functionArn"]),
    "location": ("geo:DescribeTracker", lambda fleet, spec: fleet.arn("geo", f"tracker/{spec['trackerName']}")),
    "s3": ("s3:GetBucketLocation", lambda fleet, spec: fleet.arn("s3", spec["bucketName"])),
    "sns": ("sns:GetTopicAttributes", lambda _, spec: spec["targetArn"]),
    "sqs": ("sqs:GetQueueUrl", lambda fleet, spec: _queue(fleet, spec["queueUrl"])),
    "stepFunctions": (
        "states:DescribeStateMachine",
        lambda fleet, spec: fleet.arn("states", f"stateMachine:{spec['stateMachineName']}"),
    ),
}
"""By which right one looks at a kind of target, and what its ARN is."""


def _placed(fleet: Fleet) -> Iterator[tuple[str, Rule, Mapping[str, Any]]]:
    """Yield each further action and error action with its place in the settings."""
    for number, rule in enumerate(fleet.rules[len(fleet.rule_keys) :]):
        for place, action in enumerate(rule.actions):
            yield f"rules[{number}].actions[{place}]", rule, action
        if rule.error_action:
            yield f"rules[{number}].error_action", rule, rule.error_action


def _actions(fleet: Fleet) -> Iterator[Mapping[str, Any]]:
    return (action for _, _, action in _placed(fleet))


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
