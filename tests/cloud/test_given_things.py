"""What settings name and somebody else makes is looked at before anything is made; what nobody here can see is said."""

import json
from dataclasses import replace

import pytest
from aws_calls import Refusals, answer, watch
from botocore.awsrequest import AWSResponse
from iam_documents import documents
from test_rule_actions import KINDS

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.documents.actions import targets
from fleet_pipeline.cloud.documents.iam import boundary_policy
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations.apply import apply_all
from fleet_pipeline.cloud.operations.given import LOCAL_ACTIONS, LOOKS, looked_at, not_carried
from fleet_pipeline.model.errors import GivenThingMissing
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.rule_table import RuleTable


def kinesis(**said):
    return {"kinesis": {"streamName": "nobodys", "partitionKey": "${topic(2)}", **said}}


STREAM = RuleTable(key="fast", topic="v/+", actions=(kinesis(),))
NAMED = {
    "FLEET_ROLE_BOUNDARY": lambda _: {"role_boundary": "own"},
    "FLEET_HOOK_POLICIES": lambda fleet: {
        "hook_file": "checks.py",
        "hook_policies": (fleet.arn("iam", "policy/nobodys"),),
    },
    "FLEET_HOOK_DEAD_LETTERS": lambda fleet: {"hook_dead_letters": fleet.arn("sqs", "nobodys")},
    "FLEET_ACCESS_LOG_BUCKET": lambda _: {"access_log_bucket": "nobodys-logs"},
    "roleArn of a further action": lambda fleet: {
        "rule_tables": (replace(STREAM, actions=(kinesis(roleArn=fleet.role_arn("nobodys")),)),)
    },
}


def apply(fleet, aws):
    with Lock(aws, fleet.bucket, "a test") as lock:
        return list(apply_all(fleet, aws, lock))


@pytest.mark.parametrize("setting", NAMED)
def test_an_apply_finds_what_somebody_else_should_have_made_before_it_writes_anything(
    aws, fleet, setting, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checks.py").write_text("def verify(serial, parameters, context):\n    return True\n")
    calls = watch(aws.session)
    with pytest.raises(GivenThingMissing, match=setting):
        apply(replace(fleet, **NAMED[setting](fleet)), aws)
    assert calls.writing == []


def test_an_apply_goes_on_once_the_boundary_is_there(aws, fleet):
    bounded = replace(fleet, role_boundary="own")
    with pytest.raises(GivenThingMissing, match=r"`fleet iam boundary > boundary[.]json`, then `aws iam create-policy"):
        apply(bounded, aws)
    name = bounded.boundary_arn.rsplit("/", 1)[1]
    aws.iam.create_policy(PolicyName=name, PolicyDocument=json.dumps(boundary_policy(bounded)))
    assert looked_at(bounded, aws).missing == ()
    apply(bounded, aws)


def test_plan_says_what_is_missing_and_ends_with_1(command, fleet, monkeypatch):
    monkeypatch.setenv("FLEET_ROLE_BOUNDARY", "own")
    code, said = command(fleet, "plan")
    assert code == 1
    assert "missing: FLEET_ROLE_BOUNDARY" in said
    assert "fleet iam boundary" in said
    [missing] = json.loads(command(fleet, "plan", "--json")[1])["missing"]
    assert missing.startswith("FLEET_ROLE_BOUNDARY")


def test_a_thing_for_which_the_credentials_may_not_ask_stops_nothing_and_is_named(aws, fleet):
    bounded = replace(fleet, role_boundary="own")
    answer(aws.iam, "GetPolicy", Refusals("AccessDenied", "not authorized", times=1))
    looked = looked_at(bounded, aws)
    assert looked.missing == ()
    [note] = looked.notes
    assert note.startswith("FLEET_ROLE_BOUNDARY: nobody looked")


def test_a_plan_names_what_a_days_listings_of_a_layout_cost(command, aws, fleet, monkeypatch):
    monkeypatch.setenv("FLEET_RULES", json.dumps([{"key": "old", "bucket": "others-bucket", "layout": "in/{*}"}]))
    _, said = command(fleet, "plan")
    assert "note: rule old: a listing for an hour goes through all keys" in said
    [note] = json.loads(command(fleet, "plan", "--json")[1])["notes"]
    assert note.startswith("rule old")


def in_an_account(fleet, aws, **settings):
    """Return the fleet and the clients as in an account; AWS on this machine answers."""
    return replace(fleet, profile="aws", **settings), Aws(aws.region, aws.account, aws.endpoint_url)


def test_in_an_account_the_stream_of_an_action_must_be_there(aws, fleet):
    said, clients = in_an_account(fleet, aws, rule_tables=(STREAM,))
    [missing] = looked_at(said, clients).missing
    assert missing.startswith("rules[0].actions[0].kinesis: there is no arn:aws:kinesis:")
    clients.looking_at("kinesis").create_stream(StreamName="nobodys", ShardCount=1)
    assert looked_at(said, clients).missing == ()


def test_in_an_account_subnets_and_security_groups_must_be_there(aws, fleet):
    names = {"hook_subnets": ("subnet-0123456789abcdef0",), "hook_security_groups": ("sg-0123456789abcdef0",)}
    said, clients = in_an_account(fleet, aws, **names)
    assert [each.split(":")[0] for each in looked_at(said, clients).missing] == [
        "FLEET_HOOK_SUBNETS",
        "FLEET_HOOK_SECURITY_GROUPS",
    ]
    ec2 = clients.looking_at("ec2")
    subnet = ec2.describe_subnets()["Subnets"][0]
    group = ec2.describe_security_groups()["SecurityGroups"][0]
    there = replace(said, hook_subnets=(subnet["SubnetId"],), hook_security_groups=(group["GroupId"],))
    assert looked_at(there, clients).missing == ()


def test_every_target_that_can_be_looked_at_is_asked_for_by_the_call_that_the_rights_name(aws, fleet):
    made = [{kind: spec} for kind, (spec, _) in KINDS.items()]
    tables = [RuleTable(key=f"t{at}", actions=tuple(made[at : at + 9])) for at in range(0, len(made), 9)]
    said = replace(fleet, rule_tables=tuple(tables))
    seen = [each for each in targets(said) if each.arn]
    assert {each.kind for each in seen} >= {"kinesis", "firehose", "sqs", "sns", "dynamoDBv2", "s3", "stepFunctions"}
    for each in seen:
        clients, calls = Aws(aws.region, aws.account, aws.endpoint_url), []

        def note(model, calls=calls, **_):
            calls.append(model.name)
            return AWSResponse("", 404, {}, None), {
                "Error": {"Code": "ResourceNotFoundException"},
                "ResponseMetadata": {},
            }

        clients.session.events.register_first("before-call", note)
        with pytest.raises(Exception, match="ResourceNotFound"):
            LOOKS[each.kind](clients, each.spec, each.arn)
        assert calls == [each.verb.split(":")[1]], each.kind


def test_the_rights_to_look_name_what_is_looked_at_and_nothing_else():
    fleet = Fleet(role_boundary="own", rule_tables=(STREAM,))
    [right] = [
        each
        for each in documents(fleet)["provisioner storage"]["Statement"]
        if each["Action"] == ["kinesis:DescribeStreamSummary"]
    ]
    assert right["Resource"] == [fleet.arn("kinesis", "stream/nobodys")]
    assert "kinesis" not in json.dumps(documents(Fleet(role_boundary="own")))


def test_plan_and_check_say_that_aws_on_this_machine_does_not_carry_an_action(command, fleet, monkeypatch):
    said = replace(fleet, rule_tables=(STREAM,))
    monkeypatch.setenv("FLEET_RULES", json.dumps([{"key": "fast", "topic": "v/+", "actions": [kinesis()]}]))
    code, shown = command(said, "plan")
    assert code == 2
    assert "rules[0].actions[0].kinesis: not carried by AWS on this machine" in shown
    assert [each.split(":")[0] for each in not_carried(said)] == ["rules[0].actions[0].kinesis"]
    assert not_carried(replace(said, profile="aws")) == []
    carried = RuleTable(key="slow", topic="v/+", actions=({"sns": {"targetArn": "arn:aws:sns:eu-central-1:1:t"}},))
    assert not_carried(replace(said, rule_tables=(carried,))) == []
    assert "sns" in LOCAL_ACTIONS
