"""What leaves the settings leaves AWS, by its tag: planned, deleted by an apply and by a teardown; and nothing of others goes with it."""

import json
from contextlib import suppress
from dataclasses import replace
from datetime import date

import pytest
from click.testing import CliRunner

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cli import hardening
from fleet_pipeline.cli.main import fleet_command
from fleet_pipeline.cloud.blueprint import blueprint, resources
from fleet_pipeline.cloud.hardening.review import reviewed
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations.apply import apply_all, losses, plan_all
from fleet_pipeline.cloud.operations.destroy import destroy
from fleet_pipeline.cloud.operations.taken import may_take, refuse_to_take
from fleet_pipeline.cloud.reconcile import STACK_TAG, Action, reconcile
from fleet_pipeline.model.errors import WouldLose
from fleet_pipeline.model.rule_table import RuleTable

GONE = {
    "rule_keys": ({"rule_keys": ("rule1", "rule2")}, {}, {"topic rule"}),
    "raw_prefix": ({"raw_prefix": "other-topics"}, {}, {"topic rule"}),
    "bulk_registration": ({"bulk_registration": "on"}, {}, {"IAM role"}),
    "delivery": ({"delivery": "firehose"}, {}, {"delivery stream", "IAM role"}),
    "allow_list": ({"allow_list": "dynamodb"}, {}, {"DynamoDB table"}),
    "own_ca jitr": ({"own_ca": "jitr"}, {}, {"CA certificate", "topic rule", "Lambda function", "IAM role"}),
    "own_ca jitp": ({"own_ca": "jitp"}, {}, {"CA certificate", "provisioning template"}),
    "own_ca by the other way": ({"own_ca": "jitr"}, {"own_ca": "jitp"}, {"topic rule", "Lambda function", "IAM role"}),
}
"""By setting: what the fleet was made with, what it is wanted with now, and the kinds that go."""


@pytest.fixture
def changed(make_fleet, local_aws):
    """Make a fleet with some settings, and return it with others."""

    def changed(before, after):
        home = None
        fleet = make_fleet(rule_keys=("rule1",)) if "rule_keys" not in before else make_fleet()
        home = fleet.home
        if "own_ca" in before:
            env = {"FLEET_HOME": home, "FLEET_ACCOUNT": fleet.account, "FLEET_BUCKET": fleet.bucket}
            assert CliRunner().invoke(fleet_command, ["ca", "make"], env=env).exit_code == 0
        own = {"account": fleet.account, "bucket": fleet.bucket, "home": home}
        former, wanted = (make_fleet(**{"rule_keys": ("rule1",), **settings, **own}) for settings in (before, after))
        aws = Aws(fleet.region, fleet.account, local_aws.url)
        for resource in resources(blueprint(former)):
            reconcile(resource, aws)
        return wanted, aws

    return changed


def apply(fleet, aws, confirmed=""):
    with Lock(aws, fleet.bucket, "ann") as lock:
        return list(apply_all(fleet, aws, lock, confirmed=confirmed))


def going(fleet, aws):
    return {step.wanted.kind for step in plan_all(fleet, aws) if step.action is Action.DELETE}


@pytest.mark.parametrize("setting", GONE)
def test_what_leaves_the_settings_is_planned_as_deleted_and_an_apply_deletes_it(changed, setting):
    before, after, kinds = GONE[setting]
    fleet, aws = changed(before, after)
    assert going(fleet, aws) == kinds
    with suppress(WouldLose):
        apply(fleet, aws)
    apply(fleet, aws, confirmed=fleet.bucket)
    assert {step.action for step in plan_all(fleet, aws)} == {Action.UNCHANGED}


def test_a_rule_that_vehicles_may_still_use_is_deleted_only_once_that_is_confirmed(changed):
    fleet, aws = changed({"rule_keys": ("rule1", "rule2")}, {})
    with pytest.raises(WouldLose, match="messages that vehicles publish to topic rule 'test_rule_rule2'"):
        apply(fleet, aws)
    assert len(aws.iot.list_topic_rules()["rules"]) == 2


def test_what_others_named_as_we_would_and_tagged_as_theirs_or_not_at_all_stays(changed):
    fleet, aws = changed({}, {})
    payload = {"sql": "SELECT * FROM 'theirs/rule'", "actions": []}
    aws.iot.create_topic_rule(ruleName="theirs_rule", topicRulePayload=payload, tags=f"{STACK_TAG}=other-prod")
    aws.iam.create_role(RoleName=fleet.bulk_role_name, AssumeRolePolicyDocument="{}")
    assert going(fleet, aws) == set()
    apply(fleet, aws)
    list(destroy(fleet, aws, confirmed=fleet.bucket))
    assert [each["ruleName"] for each in aws.iot.list_topic_rules()["rules"]] == ["theirs_rule"]
    assert [each["RoleName"] for each in aws.iam.list_roles()["Roles"]] == [fleet.bulk_role_name]


def test_a_teardown_finds_what_left_the_settings(changed):
    fleet, aws = changed({"rule_keys": ("rule1", "rule2"), "bulk_registration": "on"}, {})
    list(destroy(fleet, aws, confirmed=fleet.bucket))
    assert aws.iot.list_topic_rules()["rules"] == []
    assert aws.iam.list_roles()["Roles"] == []


def test_a_right_that_leaves_the_settings_wants_the_same_confirmation_and_plan_says_so_beforehand(changed):
    said = RuleTable(key="status", topic="v/+/#", publish=("v/{thing}/door", "v/{thing}/lamp/#"))
    less = replace(said, publish=("v/{thing}/door",))
    fleet, aws = changed(
        {"rule_tables": (said,), "device_rights": ("shadow", "jobs")},
        {"rule_tables": (less,), "device_rights": ("jobs",)},
    )
    lost = losses(fleet, plan_all(fleet, aws), aws)
    assert lost == (
        "vehicles' right to publish to $aws/rules/test_rule_status/v/${iot:Connection.Thing.ThingName}/lamp/*",
        "vehicles' right to their own shadow (FLEET_DEVICE_RIGHTS)",
    )
    with pytest.raises(WouldLose, match=f"applying these settings would lose .*lamp.*`--confirm {fleet.bucket}`"):
        apply(fleet, aws)
    apply(fleet, aws, confirmed=fleet.bucket)
    assert losses(fleet, plan_all(fleet, aws), aws) == ()


def test_rights_that_are_said_otherwise_or_move_to_another_policy_are_not_lost(changed):
    one = RuleTable(key="status", topic="v/+/+", publish=("v/{thing}/door",))
    wider = replace(one, topic="v/+/#", publish=("v/{thing}/#",))
    many = tuple(RuleTable(key=f"k{number}", topic=f"{'t' * 60}/{number}") for number in range(20))
    fleet, aws = changed({"rule_tables": (one,)}, {"rule_tables": (*many, wider)})
    assert losses(fleet, plan_all(fleet, aws), aws) == ()


def test_plan_names_what_apply_will_want_confirmed(changed, command, monkeypatch):
    fleet, _ = changed({"rule_keys": ("rule1", "rule2")}, {})
    monkeypatch.setenv("FLEET_RULE_KEYS", "rule1")
    code, said = command(fleet, "plan")
    assert code == 2
    assert "would lose: messages that vehicles publish to topic rule 'test_rule_rule2'" in said
    assert f"`fleet apply` wants `--confirm {fleet.bucket}`" in said
    [lost] = json.loads(command(fleet, "plan", "--json")[1])["would lose"]
    assert "rule2" in lost
    code, said = command(fleet, "apply", "--no-trial")
    assert code == 1
    assert "applying these settings would lose" in said


@pytest.fixture
def moved(changed):
    """A fleet that was made with one bucket and is wanted with another, which is not there."""
    fleet, aws = changed({}, {})
    return fleet, replace(fleet, bucket=f"{fleet.bucket}-moved", lake_bucket=""), aws


def test_another_bucket_is_planned_and_wants_to_be_confirmed(moved, command):
    fleet, wanted, aws = moved
    code, said = command(wanted, "plan")
    assert (code, "NoSuchBucket" in said) == (2, False), said
    assert f"sight of the bucket {fleet.bucket}" in said
    assert "unless it is in vehicles, from a bucket that was the fleet's before, turn it off with" in said
    before = json.dumps(aws.iot.get_topic_rule(ruleName="test_rule_rule1")["rule"]["actions"])
    with pytest.raises(WouldLose, match=f"sight of the bucket {fleet.bucket}, .*`--confirm {fleet.bucket}`"):
        apply(wanted, aws, confirmed=wanted.bucket)
    assert json.dumps(aws.iot.get_topic_rule(ruleName="test_rule_rule1")["rule"]["actions"]) == before
    assert wanted.bucket not in {each["Name"] for each in aws.s3.list_buckets()["Buckets"]}
    assert f"`fleet apply` wants `--confirm {fleet.bucket}`" in said
    apply(wanted, aws, confirmed=fleet.bucket)
    assert losses(wanted, plan_all(wanted, aws), aws) == ()
    list(destroy(wanted, aws, confirmed=wanted.bucket))


@pytest.mark.parametrize("asset", ["bucket", "rule_role", "claim_certificate", "topic_rule_rule1"])
def test_in_dagster_too_the_first_step_to_another_bucket_wants_to_be_confirmed(moved, asset):
    fleet, wanted, aws = moved
    resource = blueprint(wanted)[asset].resource
    assert may_take(wanted, resource)
    with pytest.raises(WouldLose, match="materializing this would lose sight of the bucket"):
        refuse_to_take(wanted, aws, confirmed=wanted.bucket)
    refuse_to_take(wanted, aws, confirmed=fleet.bucket)


def test_one_rule_that_somebody_sent_elsewhere_is_repaired_unasked(changed):
    fleet, aws = changed({"rule_keys": ("rule1", "rule2")}, {"rule_keys": ("rule1", "rule2")})
    rule = aws.iot.get_topic_rule(ruleName="test_rule_rule1")["rule"]
    rule["actions"][0]["s3"]["bucketName"] = "somebodys"
    said = {name: rule[name] for name in ("sql", "description", "actions", "awsIotSqlVersion", "errorAction")}
    aws.iot.replace_topic_rule(ruleName="test_rule_rule1", topicRulePayload=said)
    assert Action.UPDATE in {step.action for step in plan_all(fleet, aws)}
    assert losses(fleet, plan_all(fleet, aws), aws) == ()


def test_a_check_names_attacks_of_one_kind_once_and_an_apply_where_it_helps(changed, command, monkeypatch):
    fleet, aws = changed({}, {})
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}
    wide = {"policyDocument": json.dumps(document), "setAsDefault": True}
    aws.iot.create_policy_version(policyName=fleet.device_policy_name, **wide)
    found = [each for where, each in reviewed(fleet, aws, date(2026, 11, 30)) if fleet.device_policy_name in where]
    assert {each.fix.partition(" puts back")[0] for each in found} == {"`fleet apply`"}
    monkeypatch.setattr(hardening, "tried_by_a_virtual_vehicle", lambda *_: True)
    code, said = command(fleet, "check")
    assert (code, said.count("allows an attack"), "more" in said) == (1, 1, True), said
    apply(fleet, aws)
    assert not [each for where, each in reviewed(fleet, aws, date(2026, 11, 30)) if fleet.device_policy_name in where]


def test_a_check_names_what_is_missing_and_sends_no_vehicle_into_it(changed, command):
    fleet, aws = changed({}, {})
    aws.iot.delete_policy(policyName=fleet.device_policy_name)
    code, said = command(fleet, "check")
    assert code == 1
    assert "it is not there" in said
    assert "No virtual vehicle was sent" in said
    assert "run `fleet apply`" in said
