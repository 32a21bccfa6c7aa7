"""A plan shows every resource with its differences and changes nothing; its exit code says whether there is something to do."""

import copy
import json
import re
from dataclasses import replace

import pytest
from aws_calls import watch

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.difference import difference
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations.apply import apply_all, plan_all
from fleet_pipeline.cloud.operations.foreign import findings
from fleet_pipeline.cloud.reconcile import Action, Change
from fleet_pipeline.model.errors import CannotChange


@pytest.fixture(scope="module")
def fleet(make_fleet):
    return make_fleet()


@pytest.fixture(scope="module")
def aws(fleet, local_aws):
    """An account in which the whole fleet stands; a test that changes something puts it back."""
    aws = Aws(fleet.region, fleet.account, local_aws.url)
    apply(fleet, aws)
    return aws


@pytest.fixture
def watched(fleet, aws, local_aws):
    other = Aws(fleet.region, fleet.account, local_aws.url)
    return other, watch(other.session)


def apply(fleet, aws):
    with Lock(aws, fleet.bucket, "ann") as lock:
        return list(apply_all(fleet, aws, lock))


def test_a_plan_of_an_empty_account_is_to_create_everything_in_the_order_in_which_it_is_made(local_aws, fleet):
    empty = replace(fleet, account="000000000001", bucket=f"{fleet.bucket[:30]}-empty", lake_bucket="")
    steps = plan_all(empty, Aws(empty.region, empty.account, local_aws.url))
    assert [step.wanted for step in steps] == [part.resource for part in blueprint(empty).values()]
    assert {step.action for step in steps} == {Action.CREATE}


def test_a_plan_and_an_apply_with_nothing_to_do_make_no_writing_call(fleet, watched):
    aws, calls = watched
    plan_all(fleet, aws)
    findings(fleet, aws)
    assert {step.action for step in apply(fleet, aws)} == {Action.UNCHANGED}
    assert len(calls.made) > 100
    assert calls.writing == []


def test_a_plan_of_a_changed_setting_makes_no_writing_call_and_names_what_it_changes(fleet, watched):
    aws, calls = watched
    steps = plan_all(replace(fleet, serial_prefix="12"), aws)
    assert {step.wanted.kind: [change.field for change in step.changes] for step in steps if step.changes} == {
        "IAM role": ["inline"],
        "Lambda function": ["environment"],
    }
    assert calls.writing == []


def test_a_fleet_whose_template_would_take_a_replaced_vehicle_out_of_its_groups_is_planned_to_be_mended(fleet, aws):
    wanted = blueprint(fleet)["provisioning_template"].resource
    older = copy.deepcopy(wanted.body)
    older["Resources"]["thing"]["OverrideSettings"] = {
        "AttributePayload": "MERGE",
        "ThingTypeName": "DO_NOTHING",
        "ThingGroups": "REPLACE",
    }
    replace(wanted, body=older).update(aws, wanted)
    (step,) = (step for step in plan_all(fleet, aws) if step.changes)
    assert re.search(r'^\+ +"ThingGroups": "DO_NOTHING"', difference(step.changes), re.MULTILINE)
    step.wanted.update(aws, step.wanted.read(aws))
    assert {step.action for step in plan_all(fleet, aws)} == {Action.UNCHANGED}


def test_the_exit_code_of_a_plan_is_0_for_nothing_2_for_changes_and_1_for_what_would_be_refused(fleet, aws, command):
    assert command(fleet, "plan")[0] == 0
    code, said = command(replace(fleet, serial_prefix="12"), "plan")
    assert (code, "SERIAL_PREFIX" in said) == (2, True)
    aws.iot.untag_resource(resourceArn=fleet.policy_arn(fleet.claim_policy_name), tagKeys=["fleet_pipeline:stack"])
    code, said = command(fleet, "plan")
    assert (code, "not ours" in said, "fleet adopt" in said) == (1, True, True)
    assert command(fleet, "adopt") == (0, ANY_DIFFERENCE_OF_THE_CLAIM_POLICY)
    assert command(fleet, "adopt", "--apply")[0] == 0
    assert command(fleet, "plan")[0] == 0


ANY_DIFFERENCE_OF_THE_CLAIM_POLICY = """not ours IoT policy 'cdk-test-dev-claim-certificate-policy'
      tags:
    @@ -1,3 +1,4 @@
     {
    -  "fleet_pipeline:application": "iot"
    +  "fleet_pipeline:application": "iot",
    +  "fleet_pipeline:stack": "cdk-test-dev"
     }
1 to adopt: `fleet adopt --apply` tags them and changes nothing else
"""


def test_a_plan_as_json_says_each_resource_its_action_and_its_changes(fleet, aws, command):
    code, said = command(replace(fleet, serial_prefix="12"), "plan", "--json")
    told = json.loads(said)
    updates = [each for each in told["resources"] if each["action"] == "update"]
    assert (code, len(told["resources"]), told["findings"]) == (2, len(blueprint(fleet)), [])
    assert [change["field"] for each in updates for change in each["changes"]] == ["inline", "environment"]
    assert updates[1]["changes"][0]["wanted"]["SERIAL_PREFIX"] == "12"


def test_a_first_plan_is_its_table_and_shows_the_documents_when_it_is_asked_to(fleet, command):
    empty = replace(fleet, account="000000000002", bucket=f"{fleet.bucket[:30]}-first", lake_bucket="")
    code, said = command(empty, "plan")
    parts = len(blueprint(empty))
    assert (code, "AssumeRole" in said, f"{parts} create" in said, "`fleet plan --full`" in said) == (
        2,
        False,
        True,
        True,
    )
    assert said.count("\n") < parts + 10
    code, said = command(empty, "plan", "--full")
    assert (code, "AssumeRole" in said, f"{parts} create" in said, "`fleet plan --full`" in said) == (
        2,
        True,
        True,
        False,
    )


def test_an_apply_shows_what_it_did_and_has_it_tried_and_a_plan_then_has_nothing(fleet, aws, command):
    aws.iot.disable_topic_rule(ruleName=fleet.rules[0].aws_name)
    code, said = command(fleet, "apply")
    assert (code, "update" in said, "disabled" in said) == (0, True, True)
    assert "as it should be: an allowed serial registers" in said
    assert "as it should be:" not in command(fleet, "apply")[1]
    assert command(fleet, "plan")[0] == 0


def test_what_would_be_refused_anywhere_stops_an_apply_before_anything_is_changed(fleet, aws, watched):
    other, calls = watched
    key = "claim-certificate/claim.private.key"
    marker = aws.s3.delete_object(Bucket=fleet.bucket, Key=key)["VersionId"]
    with pytest.raises(CannotChange, match="stored"):
        apply(replace(fleet, serial_prefix="12"), other)
    assert calls.writing == []
    aws.s3.delete_object(Bucket=fleet.bucket, Key=key, VersionId=marker)


def test_a_difference_is_one_line_for_a_value_and_a_unified_diff_for_a_document():
    document = {"Statement": [{"Action": "iot:Connect", "Effect": "Allow", "Resource": "*"}], "Version": "2012-10-17"}
    narrow = {"Statement": [{"Action": "iot:Connect", "Effect": "Allow", "Resource": "own"}], "Version": "2012-10-17"}
    said = difference(
        [
            Change("runtime", "python3.9", "python3.13"),
            Change("document", document, narrow),
            Change("name", None, "new"),
        ]
    )
    assert said.splitlines() == [
        '- runtime: "python3.9"',
        '+ runtime: "python3.13"',
        "  document:",
        "@@ -4,5 +4,5 @@",
        '       "Action": "iot:Connect",',
        '       "Effect": "Allow",',
        '-      "Resource": "*"',
        '+      "Resource": "own"',
        "     }",
        "   ],",
        '+ name: "new"',
    ]


def test_a_document_whose_keys_stand_in_another_order_is_no_difference():
    assert difference([Change("document", {"a": [1], "b": {}}, {"b": {}, "a": [1]})]) == "  document:"
