"""Further actions of rules: AWS's own form, least privilege, and no way round what the fleet promises of its own objects."""

from dataclasses import replace

import botocore.session
import pytest
from click.testing import CliRunner

from fleet_pipeline.cli.main import fleet_command
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.documents.actions import RIGHTS, action_rights, given_roles
from fleet_pipeline.cloud.documents.iam import boundary_policy, roles_policy
from fleet_pipeline.cloud.kinds.topic_rule import TopicRule
from fleet_pipeline.cloud.operations import cloudformation as exported
from fleet_pipeline.cloud.operations.leftovers import leftovers
from fleet_pipeline.cloud.reconcile import look, reconcile
from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.rule_table import RuleTable

ROLE = "arn:aws:iam::123456789012:role/theirs"
EU = "eu-central-1:123456789012"
KINDS = {
    "cloudwatchAlarm": (
        {"alarmName": "hot", "stateReason": "r", "stateValue": "ALARM"},
        {"cloudwatch:SetAlarmState": [f"arn:aws:cloudwatch:{EU}:alarm:hot"]},
    ),
    "cloudwatchLogs": (
        {"logGroupName": "g"},
        {
            ("logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"): [
                f"arn:aws:logs:{EU}:log-group:g:*"
            ]
        },
    ),
    "cloudwatchMetric": (
        {"metricNamespace": "n", "metricName": "m", "metricValue": "1", "metricUnit": "None"},
        {"cloudwatch:PutMetricData": "*"},
    ),
    "dynamoDB": (
        {"tableName": "t", "hashKeyField": "id", "hashKeyValue": "${clientid()}", "operation": "UPDATE"},
        {"dynamodb:UpdateItem": [f"arn:aws:dynamodb:{EU}:table/t"]},
    ),
    "dynamoDBv2": ({"putItem": {"tableName": "t"}}, {"dynamodb:PutItem": [f"arn:aws:dynamodb:{EU}:table/t"]}),
    "elasticsearch": (
        {
            "endpoint": f"https://search-logs-{'a' * 26}.eu-central-1.es.amazonaws.com",
            "index": "i-${topic(2)}",
            "type": "t",
            "id": "${newuuid()}",
        },
        {"es:ESHttpPut": [f"arn:aws:es:{EU}:domain/logs/i-*"]},
    ),
    "firehose": (
        {"deliveryStreamName": "f", "batchMode": True},
        {("firehose:PutRecord", "firehose:PutRecordBatch"): [f"arn:aws:firehose:{EU}:deliverystream/f"]},
    ),
    "kinesis": (
        {"streamName": "s", "partitionKey": "${clientid()}"},
        {"kinesis:PutRecord": [f"arn:aws:kinesis:{EU}:stream/s"]},
    ),
    "location": (
        {"trackerName": "t", "deviceId": "${clientid()}", "latitude": "${lat}", "longitude": "${lon}"},
        {"geo:BatchUpdateDevicePosition": [f"arn:aws:geo:{EU}:tracker/t"]},
    ),
    "openSearch": (
        {
            "endpoint": f"https://vpc-my-logs-{'a' * 26}.eu-central-1.es.amazonaws.com",
            "index": "i",
            "type": "t",
            "id": "1",
        },
        {"es:ESHttpPut": [f"arn:aws:es:{EU}:domain/my-logs/i/*"]},
    ),
    "republish": (
        {"topic": "$$aws/things/${topic(2)}/shadow/update"},
        {"iot:Publish": [f"arn:aws:iot:{EU}:topic/$aws/things/*"]},
    ),
    "s3": ({"bucketName": "copies", "key": "by/${topic()}"}, {"s3:PutObject": ["arn:aws:s3:::copies/by/*"]}),
    "sns": (
        {"targetArn": "arn:aws:sns:us-east-1:210987654321:alarms"},
        {"sns:Publish": ["arn:aws:sns:us-east-1:210987654321:alarms"]},
    ),
    "sqs": (
        {"queueUrl": "https://sqs.eu-west-1.amazonaws.com/210987654321/q"},
        {"sqs:SendMessage": ["arn:aws:sqs:eu-west-1:210987654321:q"]},
    ),
    "stepFunctions": ({"stateMachineName": "m"}, {"states:StartExecution": [f"arn:aws:states:{EU}:stateMachine:m"]}),
    "timestream": (
        {"databaseName": "d", "tableName": "t", "dimensions": [{"name": "v", "value": "${clientid()}"}]},
        {
            "timestream:WriteRecords": [f"arn:aws:timestream:{EU}:database/d/table/t"],
            "timestream:DescribeEndpoints": "*",
        },
    ),
}
"""Each kind whose right can be told from the action: an action of it, and what the fleet's role may then do."""


def fleet_of(*actions, topic="vehicles/+/status", **said):
    return Fleet(rule_keys=(), rule_tables=(RuleTable(key="status", topic=topic, actions=actions, **said),))


def rule_in(fleet) -> TopicRule:
    return blueprint(fleet)["topic_rule_status"].resource


def test_each_kind_with_a_known_right_is_tried_here():
    assert set(KINDS) == set(RIGHTS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_role_may_do_to_the_actions_target_what_the_action_does_and_nothing_else(kind):
    spec, rights = KINDS[kind]
    fleet = fleet_of({kind: spec})
    role = blueprint(fleet)["rule_actions_role"].resource
    [document] = role.inline.values()
    said = {tuple(each["Action"]): each["Resource"] for each in document["Statement"]}
    assert said == {(verbs,) if isinstance(verbs, str) else verbs: arns for verbs, arns in rights.items()}
    assert rule_in(fleet).further_actions == (
        {kind: {**spec, "roleArn": fleet.role_arn("cdk-test-dev-rule-actions-role")}},
    )
    assert "rule_actions_role" in blueprint(fleet)["topic_rule_status"].after


def test_actions_of_one_kind_share_a_statement_and_the_boundary_allows_the_same():
    fleet = fleet_of(
        {"kinesis": {"streamName": "a"}}, {"kinesis": {"streamName": "b"}}, error_action={"sqs": KINDS["sqs"][0]}
    )
    assert [len(each["Resource"]) for each in action_rights(fleet)] == [2, 1]
    assert all(each in boundary_policy(fleet)["Statement"] for each in action_rights(fleet))


def test_a_role_that_an_action_names_is_used_and_not_made_and_may_be_passed_by_the_provisioner():
    fleet = fleet_of(
        {"kinesis": {"streamName": "s", "roleArn": ROLE}},
        {"kafka": {"destinationArn": "arn:d", "topic": "t", "clientProperties": {"acks": "1"}}},
    )
    assert "rule_actions_role" not in blueprint(fleet)
    assert rule_in(fleet).further_actions[0]["kinesis"]["roleArn"] == ROLE
    assert given_roles(fleet) == [ROLE]
    passing = [
        each for each in roles_policy(replace(fleet, role_boundary="own"))["Statement"] if ROLE in each["Resource"]
    ]
    assert [(each["Action"], each.get("Condition")) for each in passing] == [
        (["iam:PassRole"], {"StringEquals": {"iam:PassedToService": "iot.amazonaws.com"}}),
        (["iam:GetRole"], None),
    ]


def test_a_fleet_without_further_actions_has_no_role_for_them():
    assert "rule_actions_role" not in blueprint(Fleet(role_boundary="own"))
    assert not given_roles(Fleet())


def test_an_error_action_of_ones_own_takes_the_place_of_the_report():
    fleet = fleet_of(error_action={"sqs": KINDS["sqs"][0]})
    assert set(rule_in(fleet).error_action) == {"sqs"}
    assert set(rule_in(fleet_of()).error_action) == {"s3"}


WRONG = {
    "no such action": ({"kineses": {"streamName": "s"}}, "actions[0]", "must be one of"),
    "no such parameter": ({"kinesis": {"streamname": "s"}}, "actions[0]", "streamName"),
    "a parameter missing": ({"sqs": {}}, "actions[0]", "queueUrl"),
    "a parameter of another type": ({"sqs": {"queueUrl": 7}}, "actions[0]", "queueUrl"),
    "a role that must be said": ({"iotEvents": {"inputName": "i"}}, "actions[0]", "roleArn"),
    "a queue that has no ARN": ({"sqs": {"queueUrl": "q"}}, "actions[0]", "say roleArn, or write its queueUrl"),
    "our own raw bucket": (
        {"s3": {"bucketName": "cdk-s3-test-bucket", "key": "k"}},
        "actions[0].s3.bucketName",
        "own raw objects",
    ),
    "its own topic": (
        {"republish": {"topic": "vehicles/${clientid()}/status"}},
        "actions[0].republish.topic",
        "again and again",
    ),
}


@pytest.mark.parametrize(("action", "place", "why"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_an_action_is_named_before_any_call(action, place, why):
    with pytest.raises(InvalidSetting) as caught:
        blueprint(fleet_of(action, topic="vehicles/#" if "republish" in action else "vehicles/+/status"))
    assert caught.value.setting == f"rules[0].{place}"
    assert why in str(caught.value)
    assert "class" not in str(caught.value)
    assert '"roleArn"' not in str(caught.value), "that no role is named is said in words of our own, or not at all"


@pytest.mark.parametrize("command", ["settings", "plan"])
def test_what_is_wrong_with_an_action_is_refused_where_the_settings_are_read_as_where_they_are_planned(
    command, tmp_path, monkeypatch
):
    (tmp_path / "fleet.toml").write_text(
        '[[rules]]\nkey = "fast"\ntopic = "vehicles/#"\n[[rules.actions]]\nfaxx = { number = "1" }\n'
    )
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(fleet_command, [command])
    assert isinstance(refused.exception, InvalidSetting)
    assert refused.exception.setting == "rules[0].actions[0]"


def test_cloudformation_has_the_actions_in_its_own_spelling_and_leaves_the_users_names_alone():
    kafka = {
        "kafka": {
            "destinationArn": "arn:d",
            "topic": "t",
            "clientProperties": {"bootstrap.servers": "b"},
            "headers": [{"key": "k", "value": "v"}],
        }
    }
    [rule] = [
        each
        for each in exported.cloudformation(fleet_of(kafka))["Resources"].values()
        if each["Type"] == "AWS::IoT::TopicRule"
    ]
    said = rule["Properties"]["TopicRulePayload"]["Actions"][1]
    assert said["Kafka"]["ClientProperties"] == {"bootstrap.servers": "b"}
    assert said["Kafka"]["Headers"] == [{"Key": "k", "Value": "v"}]


def test_the_parameters_that_are_maps_are_those_of_botocores_model():
    def maps(shape):
        members = getattr(shape, "members", {}) | ({"": shape.member} if shape.type_name == "list" else {})
        return {name for name, each in members.items() if each.type_name == "map"} | {
            found for each in members.values() for found in maps(each)
        }

    assert maps(botocore.session.get_session().get_service_model("iot").shape_for("Action")) == exported._MAPS


def test_what_aws_iot_adds_to_an_action_is_no_drift_and_what_somebody_adds_is(aws, fleet):
    queue = aws.session.client("sqs", endpoint_url=aws.endpoint_url).create_queue(QueueName="q")["QueueUrl"]
    fleet = replace(
        fleet,
        rule_keys=(),
        rule_tables=(RuleTable(key="status", topic="v/+", actions=({"sqs": {"queueUrl": queue}},)),),
    )
    for name in ("bucket", "rule_role", "rule_actions_role", "rule_error_role", "topic_rule_status"):
        reconcile(blueprint(fleet)[name].resource, aws)
    wanted = rule_in(fleet)
    assert wanted.read(aws) == wanted
    payload = wanted._payload()
    payload["actions"][1] = {"sqs": {**payload["actions"][1]["sqs"], "useBase64": False}}
    aws.iot.replace_topic_rule(ruleName=wanted.name, topicRulePayload=payload)
    assert wanted.read(aws) == wanted
    added = {"republish": {"topic": "else/where", "roleArn": fleet.role_arn(fleet.rule_role_name)}}
    aws.iot.replace_topic_rule(
        ruleName=wanted.name, topicRulePayload=payload | {"actions": [*payload["actions"], added]}
    )
    assert wanted.read(aws).further_actions[1] == added
    assert [each.field for each in look(wanted, aws).changes] == ["further_actions"]


def test_the_role_of_further_actions_goes_with_the_last_of_them(aws, fleet):
    queue = {"sqs": {"queueUrl": f"https://sqs.{fleet.region}.amazonaws.com/{fleet.account}/q"}}
    fleet = replace(fleet, rule_keys=(), rule_tables=(RuleTable(key="status", topic="v/+", actions=(queue,)),))
    reconcile(blueprint(fleet)["rule_actions_role"].resource, aws)
    without = replace(fleet, rule_tables=(RuleTable(key="status", topic="v/+"),))
    assert [step.wanted.name for step in leftovers(without, aws)] == [fleet.rule_actions_role_name]
    assert leftovers(fleet, aws) == []


def test_a_rule_of_a_table_that_left_the_settings_is_found_by_its_name_and_deleted(aws, fleet):
    fleet = replace(fleet, rule_keys=("rule1",), rule_tables=(RuleTable(key="status", topic="vehicles/+/status"),))
    for name in ("bucket", "rule_role", "rule_error_role", "topic_rule_status"):
        reconcile(blueprint(fleet)[name].resource, aws)
    assert [step.wanted.name for step in leftovers(replace(fleet, rule_tables=()), aws)] == [fleet.rules[1].aws_name]
