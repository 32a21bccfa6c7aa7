"""What the settings add to a vehicle's rights: each on its own alone, in as many policies as AWS IoT needs, and put to attacks of its own."""

import json
from dataclasses import replace

import pytest

from fleet_pipeline.cloud.blueprint import blueprint, resources
from fleet_pipeline.cloud.documents import device
from fleet_pipeline.cloud.hardening.access_cases import device_cases, misjudged
from fleet_pipeline.cloud.hardening.review import wrongly_judged
from fleet_pipeline.cloud.operations.destroy import destroy
from fleet_pipeline.cloud.operations.leftovers import leftovers
from fleet_pipeline.cloud.reconcile import Action, look, reconcile, remove
from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.rule_table import RuleTable

OWN = {
    "Effect": "Allow",
    "Action": ["iot:Subscribe", "iot:Receive"],
    "Resource": ["topicfilter/cmd/${iot:Connection.Thing.ThingName}/#", "topic/news/*"],
}
FLEETS = {
    "shadow": Fleet(device_rights=("shadow",)),
    "jobs": Fleet(device_rights=("jobs",)),
    "commands": Fleet(device_rights=("commands",)),
    "own statements": Fleet(policy_statements=(OWN,)),
    "a denial": Fleet(policy_statements=(OWN, {"Effect": "Deny", "Action": "iot:Receive", "Resource": "topic/news/*"})),
    "a topic a vehicle": Fleet(
        rule_tables=(
            RuleTable(key="status", topic="vehicles/+/#", publish=("vehicles/{thing}/#", "vehicles/{thing}/door")),
        )
    ),
    "all, and many rules": Fleet(
        device_rights=("shadow", "jobs", "commands"),
        policy_statements=(OWN,),
        rule_keys=tuple(f"rule{n}" for n in range(60)),
    ),
}


def judged(fleet, document):
    return misjudged(fleet, document, device_cases(fleet))


@pytest.mark.parametrize("fleet", FLEETS.values(), ids=FLEETS)
def test_every_right_is_the_vehicles_own_and_no_attack_is_allowed(fleet):
    assert judged(fleet, device.device_policy(fleet)) == []


@pytest.mark.parametrize("fleet", FLEETS.values(), ids=FLEETS)
def test_several_policies_say_together_what_one_would_and_each_fits(fleet):
    documents = device.device_policies(fleet)
    assert all(device.size(each) <= 2048 for each in documents)
    whole = {"Version": "2012-10-17", "Statement": [statement for each in documents for statement in each["Statement"]]}
    assert judged(fleet, whole) == []
    assert len({json.dumps(each) for each in documents}) == len(documents)


NEW = {
    "shadow": {
        "publishes to $aws/things/test-thing-297468OTHER1/shadow/x",
        "awaits $aws/things/test-thing-297468OTHER1/shadow/x",
    },
    "jobs": {
        "publishes to $aws/things/test-thing-297468OTHER1/jobs/x",
        "hears $aws/things/test-thing-297468OTHER1/jobs/x",
    },
    "commands": {"publishes to $aws/commands/things/test-thing-297468OTHER1/executions/x/response/x"},
    "own statements": {"awaits cmd/test-thing-297468OTHER1/#"},
    "a topic a vehicle": {"publishes to status, topic 1 as another vehicle"},
}


@pytest.mark.parametrize("name", NEW)
def test_a_new_right_brings_the_attack_on_another_vehicles(name):
    fleet = FLEETS[name]
    assert NEW[name] <= {case.title for case in device_cases(fleet) if not case.legitimate}
    wide = json.loads(json.dumps(device.device_policy(fleet)).replace(device.THING_VARIABLE, "*"))
    assert NEW[name] <= {case.title for case in judged(fleet, wide)}
    assert {case.title for case in judged(fleet, device.device_policy(Fleet()))} == {
        case.title for case in device_cases(fleet) if case.legitimate
    } - {case.title for case in device_cases(Fleet()) if case.legitimate}


def test_without_settings_there_is_one_policy_as_before():
    assert device.device_policies(Fleet()) == [device.device_policy(Fleet())]
    assert device.device_policy_names(Fleet()) == ["cdk-test-dev-device-policy"]
    assert [name for name in blueprint(Fleet()) if name.startswith("device_policy")] == ["device_policy"]


def test_the_templates_give_a_vehicle_all_of_its_policies():
    fleet = FLEETS["all, and many rules"]
    named = [
        each["Properties"]["PolicyName"]
        for each in blueprint(fleet)["provisioning_template"].resource.body["Resources"].values()
        if "Policy" in each["Type"]
    ]
    assert named == device.device_policy_names(fleet)
    assert len(named) > 3


WRONG = {
    "an effect": ({**OWN, "Effect": "allow"}, "policy_statements[0].Effect"),
    "an element of IAM": ({**OWN, "NotAction": "iot:Publish"}, "policy_statements[0]"),
    "an action of another service": ({**OWN, "Action": "s3:GetObject"}, "policy_statements[0].Action"),
    "no resource": ({"Effect": "Allow", "Action": "iot:Publish"}, "policy_statements[0].Resource"),
    "a resource that is none": ({**OWN, "Resource": "things/x"}, "policy_statements[0].Resource"),
    "no table of conditions": ({**OWN, "Condition": "x"}, "policy_statements[0]"),
}


@pytest.mark.parametrize(("statement", "place"), WRONG.values(), ids=WRONG)
def test_a_statement_that_aws_iot_would_not_take_is_named_by_its_place(statement, place):
    with pytest.raises(InvalidSetting) as caught:
        Fleet(policy_statements=(statement,))
    assert caught.value.setting == place


def test_a_statement_too_long_for_a_policy_is_refused_before_any_call():
    long = {"Effect": "Allow", "Action": "iot:Publish", "Resource": f"topic/{'x' * 2000}"}
    with pytest.raises(InvalidSetting, match="say it in several"):
        blueprint(Fleet(policy_statements=(long,)))


@pytest.fixture
def many(fleet):
    return replace(fleet, rule_keys=tuple(f"rule{n}" for n in range(30)))


def policies_of(aws, certificate):
    return {each["policyName"] for each in aws.iot.list_attached_policies(target=certificate)["policies"]}


def test_vehicles_that_are_there_already_get_a_further_policy_and_lose_it_again_and_nothing_else(aws, fleet, many):
    reconcile(blueprint(fleet)["device_policy"].resource, aws)
    vehicle = aws.iot.create_keys_and_certificate(setAsActive=True)["certificateArn"]
    aws.iot.attach_policy(policyName=fleet.device_policy_name, target=vehicle)
    further = blueprint(many)["device_policy_2"].resource
    assert reconcile(further, aws).action is Action.CREATE
    assert policies_of(aws, vehicle) == {fleet.device_policy_name, further.name}
    later = aws.iot.create_keys_and_certificate(setAsActive=True)["certificateArn"]
    aws.iot.attach_policy(policyName=fleet.device_policy_name, target=later)
    assert [(each.field, each.found, each.wanted) for each in look(further, aws).changes] == [("lack", 1, 0)]
    assert reconcile(further, aws).action is Action.UPDATE
    assert policies_of(aws, later) == {fleet.device_policy_name, further.name}
    [step] = [each for each in leftovers(fleet, aws) if each.wanted.kind == further.kind]
    assert remove(step.wanted, aws).action is Action.DELETE
    assert policies_of(aws, vehicle) == policies_of(aws, later) == {fleet.device_policy_name}


def test_a_vehicles_policies_are_judged_together_as_they_are_in_aws(aws, many):
    for name in ("device_policy", "device_policy_2"):
        reconcile(blueprint(many)[name].resource, aws)
    policy = look(blueprint(many)["device_policy"].resource, aws).live
    assert wrongly_judged(many, aws, policy) == []
    wide = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:Subscribe", "Resource": "*"}]}
    aws.iot.create_policy_version(
        policyName=many.further_device_policy_name(2), policyDocument=json.dumps(wide), setAsDefault=True
    )
    assert any("hears everything" in each.why for each in wrongly_judged(many, aws, policy))


def test_a_teardown_removes_further_policies_too(aws, many):
    for resource in resources(blueprint(many)):
        reconcile(resource, aws)
    list(destroy(many, aws, confirmed=many.bucket, with_data=True, sleep=lambda _: None))
    left = [
        each["policyName"] for page in aws.iot.get_paginator("list_policies").paginate() for each in page["policies"]
    ]
    assert left == []
