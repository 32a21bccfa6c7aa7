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
    return f"thing '{THING}' has certificate {id_of(arn)} with no policy, and not {fleet.device_policy_name}; `fleet vehicle restore --serial {SERIAL}` puts it back"


def inactive(_, aws, arn):
    aws.iot.update_certificate(certificateId=id_of(arn), newStatus="INACTIVE")
    return f"thing '{THING}' has certificate {id_of(arn)}, which is INACTIVE; unless somebody meant that, turn it on with `fleet vehicle restore --serial {SERIAL}`"


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


@pytest.mark.parametrize("cut", [without_policy, inactive, without_thing])
def test_what_the_remedy_says_lets_the_vehicle_in_again(fleet, aws, register, command, cut):
    arn = register()
    cut(fleet, aws, arn)
    named = ("--certificate", id_of(arn)) if cut is without_thing else ()
    code, said = command(fleet, "vehicle", "restore", "--serial", SERIAL, *named)
    assert (code, said.count(" again")) == (0, 1), said
    assert command(fleet, "vehicle", "check")[0] == 0
    assert "nothing was missing" in command(fleet, "vehicle", "restore", "--serial", SERIAL)[1]


def test_a_certificate_of_others_or_one_that_was_revoked_is_not_put_back(fleet, aws, register, command):
    aws.iot.create_policy(policyName="theirs", policyDocument='{"Version": "2012-10-17", "Statement": []}')
    theirs, of_another = register(policy="theirs"), register(f"{THING}2")
    revoked = register(f"{THING}3")
    aws.iot.update_certificate(certificateId=id_of(revoked), newStatus="REVOKED")
    for why, *asked in [
        ("it has no certificate of this fleet's", SERIAL),
        ("it has policies of others, theirs", SERIAL, "--certificate", id_of(theirs)),
        (f"thing '{THING}2' has it", SERIAL, "--certificate", id_of(of_another)),
        ("AWS IoT knows none of this id", SERIAL, "--certificate", "0" * 64),
        ("it is REVOKED, and stays so", f"{SERIAL}3"),
        ("there is none", f"{SERIAL}4"),
    ]:
        code, said = command(fleet, "vehicle", "restore", "--serial", *asked)
        assert (code, why in said) == (1, True), said
    assert aws.iot.describe_certificate(certificateId=id_of(revoked))["certificateDescription"]["status"] == "REVOKED"


def test_a_thing_of_another_fleet_in_the_account_is_counted_and_not_named(fleet, aws, register, command):
    aws.iot.create_policy(policyName="theirs", policyDocument='{"Version": "2012-10-17", "Statement": []}')
    register(policy="theirs")
    code, said = command(fleet, "vehicle", "check")
    assert (code, "cut off" in said) == (0, False)
    assert "1 things have certificates with policies of others alone" in said
    assert f"with theirs, and not {fleet.device_policy_name}" in command(fleet, "vehicle", "why", "--serial", SERIAL)[1]


def another(fleet, aws, thing=THING, policy=None, *, active=True):
    """Give a thing one more certificate, as a registration that was allowed would; return its ARN."""
    made = aws.iot.create_keys_and_certificate(setAsActive=active)["certificateArn"]
    aws.iot.attach_thing_principal(thingName=thing, principal=made)
    aws.iot.attach_policy(policyName=policy or fleet.device_policy_name, target=made)
    return made


def test_a_vehicle_that_was_replaced_and_whose_former_certificate_works_still_is_named(fleet, aws, register, command):
    former = register()
    made = another(fleet, aws)
    code, said = command(fleet, "vehicle", "check")
    assert code == 0
    assert f"more than one: thing '{THING}' can connect by 2 certificates" in said
    assert all(id_of(each) in said for each in (former, made))
    assert "can connect by 2 certificates" in command(fleet, "vehicle", "why", "--serial", SERIAL)[1]
    assert f"`fleet vehicle retire --serial {SERIAL}` ends the former ones" in said
    assert (
        f"`fleet vehicle retire --serial {SERIAL}`"
        in command(fleet, *f"vehicle allow --replace --serial {SERIAL}".split())[1]
    )
    assert command(fleet, "vehicle", "retire", "--serial", SERIAL, "--yes")[0] == 0
    assert "more than one" not in command(fleet, "vehicle", "check")[1]
    assert statuses(aws) == {former: "INACTIVE", made: "ACTIVE"}


def statuses(aws):
    return {each["certificateArn"]: each["status"] for each in aws.iot.list_certificates()["certificates"]}


def retire(command, fleet, *options):
    return command(fleet, "vehicle", "retire", *options, "--yes")


def test_a_former_certificate_is_turned_off_and_then_deleted_and_the_newest_works_on(fleet, aws, register, command):
    former, newest = register(), another(fleet, aws)
    code, said = command(fleet, "vehicle", "retire", "--serial", SERIAL)
    assert (code, "`--yes` does" in said, statuses(aws)[former]) == (1, True, "ACTIVE")
    assert said.index(id_of(newest)) < said.index(id_of(former))
    assert f"certificate {id_of(former)} is off" in retire(command, fleet, "--serial", SERIAL)[1]
    assert statuses(aws) == {former: "INACTIVE", newest: "ACTIVE"}
    assert "no former certificate" in retire(command, fleet, "--serial", SERIAL)[1]
    assert "is deleted" in retire(command, fleet, "--serial", SERIAL, "--delete")[1]
    assert statuses(aws) == {newest: "ACTIVE"}
    assert "it can connect" in command(fleet, "vehicle", "why", "--serial", SERIAL)[1]


def test_after_a_theft_the_newest_certificate_is_ended_too(fleet, aws, register, command):
    stolen = register()
    assert "is off" in retire(command, fleet, "--serial", SERIAL, "--every")[1]
    assert statuses(aws) == {stolen: "INACTIVE"}


def test_no_certificate_is_ended_that_others_own_or_while_none_works_or_the_newest_is_not_clear(
    fleet, aws, register, command
):
    aws.iot.create_policy(policyName="theirs", policyDocument='{"Version": "2012-10-17", "Statement": []}')
    first, theirs, newest = register(), another(fleet, aws, policy="theirs"), another(fleet, aws)
    waiting = another(fleet, aws, active=False)
    aws.iot.attach_policy(policyName="theirs", target=first)
    code, said = retire(command, fleet, "--serial", SERIAL, "--delete")
    assert (code, said.count("has theirs, which is not this fleet's")) == (0, 2), said
    assert f"certificate {id_of(waiting)} is INACTIVE and was made after the newest" in said
    aws.iot.detach_policy(policyName="theirs", target=first)
    let_in = {"attributes": {"replacement": f"{id_of(first)}/1796000000"}, "merge": True}
    aws.iot.update_thing(thingName=THING, attributePayload=let_in)
    code, said = retire(command, fleet, "--serial", SERIAL)
    assert (code, "it is not clear which is its newest: say --keep" in said) == (1, True), said
    none = register(f"{THING}2")
    another(fleet, aws, f"{THING}2", active=False)
    aws.iot.update_certificate(certificateId=id_of(none), newStatus="INACTIVE")
    code, said = retire(command, fleet, "--serial", f"{SERIAL}2", "--delete")
    assert (code, "no certificate of it works" in said) == (1, True)
    assert len(statuses(aws)) == 6
    assert "there work: " in retire(command, fleet, "--serial", SERIAL, "--keep", id_of(theirs))[1]
    assert retire(command, fleet, "--serial", SERIAL, "--keep", id_of(first))[0] == 0
    assert statuses(aws) | {first: "ACTIVE", newest: "INACTIVE", theirs: "ACTIVE"} == statuses(aws)


def test_of_all_vehicles_the_former_certificates_go_and_what_a_stopped_deletion_left(fleet, aws, register, command):
    former, newest, only = register(), another(fleet, aws), register(f"{THING}2")
    stopped = register(f"{THING}3")
    aws.iot.update_certificate(certificateId=id_of(stopped), newStatus="INACTIVE")
    aws.iot.detach_thing_principal(thingName=f"{THING}3", principal=stopped)
    assert "`fleet vehicle retire --all --delete` deletes it" in command(fleet, "vehicle", "check")[1]
    assert retire(command, fleet, "--all")[0] == 0
    assert statuses(aws) == {former: "INACTIVE", newest: "ACTIVE", only: "ACTIVE", stopped: "INACTIVE"}
    assert retire(command, fleet, "--all", "--delete")[0] == 0
    assert statuses(aws) == {newest: "ACTIVE", only: "ACTIVE"}
    assert retire(command, fleet, "--all", "--serial", SERIAL)[0] == 2
    assert retire(command, fleet, "--all", "--every")[0] == 2


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
