"""A vehicle whose policy, certificate or thing somebody took away by hand is named, with what lets it in again."""

import json

import pytest
from aws_calls import watch

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.blueprint import blueprint, resources
from fleet_pipeline.cloud.documents.iam import boundary_policy
from fleet_pipeline.cloud.enrolment import connecting
from fleet_pipeline.cloud.operations.destroy import destroy
from fleet_pipeline.cloud.reconcile import reconcile

SERIAL = "297468000001"
THING = f"test-thing-{SERIAL}"


@pytest.fixture
def aws(fleet, local_aws):
    return Aws(fleet.region, fleet.account, local_aws.url)


@pytest.fixture
def register(fleet, aws):
    """Make a vehicle as RegisterThing would, and return its certificate's ARN."""
    reconcile(blueprint(fleet)["device_policy"].resource, aws)

    def make(thing=THING, policy=fleet.device_policy_name):
        made = aws.iot.create_keys_and_certificate(setAsActive=True)
        aws.iot.create_thing(thingName=thing)
        aws.iot.attach_thing_principal(thingName=thing, principal=made["certificateArn"])
        aws.iot.attach_policy(policyName=policy, target=made["certificateArn"])
        return made["certificateArn"]

    return make


def without_policy(fleet, aws, arn):
    aws.iot.detach_policy(policyName=fleet.device_policy_name, target=arn)
    return f"thing '{THING}' has certificate {id_of(arn)} with no policy, and not {fleet.device_policy_name}; `aws iot attach-policy"


def inactive(_, aws, arn):
    aws.iot.update_certificate(certificateId=id_of(arn), newStatus="INACTIVE")
    return f"thing '{THING}' has certificate {id_of(arn)}, which is INACTIVE; unless somebody meant that, turn it on"


def without_thing(_, aws, arn):
    aws.iot.detach_thing_principal(thingName=THING, principal=arn)
    return (
        f"thing '{THING}' has no certificate; `fleet vehicle allow --replace --serial {SERIAL}` lets it register anew"
    )


def id_of(arn):
    return arn.split(":cert/")[1]


@pytest.mark.parametrize("cut", [without_policy, inactive, without_thing])
def test_a_vehicle_that_is_cut_off_by_hand_is_named_of_itself_and_among_all(fleet, aws, register, command, cut):
    arn = register()
    register(f"{THING}2")
    assert command(fleet, "vehicle", "check")[0] == 0
    assert "it can connect" in command(fleet, "vehicle", "why", "--serial", SERIAL)[1]
    said = cut(fleet, aws, arn)
    _, of_it = command(fleet, "vehicle", "why", "--serial", SERIAL)
    assert f"now: {said}" in of_it
    code, of_all = command(fleet, "vehicle", "check")
    assert (code, f"cut off: {said}" in of_all) == (1, True), of_all
    assert f"2 things are named test-thing-…; {2 if cut is without_thing else 1} vehicles cannot connect" in of_all
    assert (f"certificate {id_of(arn)} has {fleet.device_policy_name} and no thing" in of_all) == (cut is without_thing)


def test_what_the_remedy_says_lets_the_vehicle_in_again(fleet, aws, register, command):
    arn = register()
    without_policy(fleet, aws, arn)
    aws.iot.attach_policy(policyName=fleet.device_policy_name, target=arn)
    assert command(fleet, "vehicle", "check")[0] == 0


def test_a_thing_of_another_fleet_in_the_account_is_counted_and_not_named(fleet, aws, register, command):
    aws.iot.create_policy(policyName="theirs", policyDocument='{"Version": "2012-10-17", "Statement": []}')
    register(policy="theirs")
    code, said = command(fleet, "vehicle", "check")
    assert (code, "cut off" in said) == (0, False)
    assert "1 things have certificates with policies of others alone" in said
    assert f"with theirs, and not {fleet.device_policy_name}" in command(fleet, "vehicle", "why", "--serial", SERIAL)[1]


def test_a_vehicle_that_was_replaced_and_whose_former_certificate_works_still_is_named(fleet, aws, register, command):
    former = register()
    made = aws.iot.create_keys_and_certificate(setAsActive=True)["certificateArn"]
    aws.iot.attach_thing_principal(thingName=THING, principal=made)
    aws.iot.attach_policy(policyName=fleet.device_policy_name, target=made)
    code, said = command(fleet, "vehicle", "check")
    assert code == 0
    assert f"more than one: thing '{THING}' can connect by 2 certificates" in said
    assert all(id_of(each) in said for each in (former, made))
    assert "can connect by 2 certificates" in command(fleet, "vehicle", "why", "--serial", SERIAL)[1]
    aws.iot.update_certificate(certificateId=id_of(former), newStatus="INACTIVE")
    assert "more than one" not in command(fleet, "vehicle", "check")[1]


def test_a_serial_that_never_registered_has_no_thing(fleet, register, command):
    for serial in (SERIAL, "no such/serial\x1b"):
        assert "it is not registered" in command(fleet, "vehicle", "why", "--serial", serial)[1]


def test_a_look_at_all_vehicles_asks_once_for_each(fleet, aws, register, local_aws):
    for number in range(4):
        register(f"{THING}{number}")
    other = Aws(fleet.region, fleet.account, local_aws.url)
    calls = watch(other.session)
    assert list(connecting.looked_at(fleet, other, connecting.named_as_ours(fleet, other))) == [None] * 4
    assert calls.writing == []
    assert len(calls.made) == 3 + 4


def test_a_teardown_names_what_stays_and_why(make_fleet, local_aws):
    fleet = make_fleet(rule_keys=("rule1",), role_boundary="own")
    aws = Aws(fleet.region, fleet.account, local_aws.url)
    aws.iam.create_policy(
        PolicyName=fleet.boundary_arn.rsplit("/", 1)[1], PolicyDocument=json.dumps(boundary_policy(fleet))
    )
    for resource in resources(blueprint(fleet)):
        reconcile(resource, aws)
    arns = {}
    for thing in (THING, f"{THING}2", f"{THING}3"):
        arns[thing] = aws.iot.create_keys_and_certificate(setAsActive=True)["certificateArn"]
        aws.iot.create_thing(thingName=thing)
        aws.iot.attach_thing_principal(thingName=thing, principal=arns[thing])
    aws.iot.attach_policy(policyName=fleet.device_policy_name, target=arns[f"{THING}3"])
    aws.iot.detach_thing_principal(thingName=f"{THING}2", principal=arns[f"{THING}2"])
    kept = [each.what for each in destroy(fleet, aws, confirmed=fleet.bucket, with_data=True) if each.action == "kept"]
    assert [each.partition(", so that")[0] for each in kept] == [
        f"thing '{THING}', because its certificate {id_of(arns[THING])} has no policy",
        f"thing '{THING}2', because it has no certificate",
        f"policy {fleet.boundary_arn}, the boundary of FLEET_ROLE_BOUNDARY: who made it removes it",
    ]
    assert f"`fleet vehicle allow --replace --serial {SERIAL}`" in kept[0]
    again = {each.part: each.action for each in destroy(fleet, aws, confirmed=fleet.bucket) if each.part}
    assert (again["bucket"], again["lake_bucket"]) == ("absent", "absent")
