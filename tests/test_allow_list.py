"""The allow-list: what is put on it is what the hook finds, in an S3 object and in a DynamoDB table alike."""

from dataclasses import replace

import lambda_function as hook
import pytest
from aws_calls import answer

from fleet_pipeline.errors import AwsUnavailable, InvalidSetting
from fleet_pipeline.provision import allow_list
from fleet_pipeline.provision.blueprint import blueprint
from fleet_pipeline.provision.reconcile import reconcile

ONE, TWO, THREE = "297468000001", "297468000002", "297468000003"


@pytest.fixture(params=["s3", "dynamodb"])
def listed(request, fleet, aws):
    """The fleet with a list of this kind, and the list as the hook reads it."""
    chosen = replace(fleet, allow_list=request.param)
    parts = blueprint(chosen)
    if request.param == "s3":
        reconcile(parts["bucket"].resource, aws)
        return chosen, hook.S3AllowList(aws.s3, chosen.bucket, chosen.allow_list_key)
    reconcile(parts["allow_list_table"].resource, aws)
    return chosen, hook.DynamoDbAllowList(aws.dynamodb, chosen.allow_list_table)


def test_the_hook_finds_the_serials_that_were_put_on_the_list_and_no_others(listed, aws):
    fleet, found = listed
    assert not found.names(ONE)
    for serial in (ONE, TWO, ONE):
        allow_list.add(fleet, aws, serial)
    assert [found.names(serial) for serial in (ONE, TWO, THREE, ONE[:-1])] == [True, True, False, False]


def test_a_serial_is_listed_once_however_often_it_is_added(fleet, aws):
    reconcile(blueprint(fleet)["bucket"].resource, aws)
    for serial in (ONE, TWO, ONE):
        allow_list.add(replace(fleet, allow_list="s3"), aws, serial)
    assert aws.s3.get_object(Bucket=fleet.bucket, Key=fleet.allow_list_key)["Body"].read().decode().split() == [ONE, TWO]


@pytest.mark.parametrize("there_before", [(), (ONE,)])
def test_of_two_who_write_the_list_at_once_neither_overwrites_the_other(fleet, aws, there_before):
    fleet, rival = replace(fleet, allow_list="s3"), replace(aws)
    reconcile(blueprint(fleet)["bucket"].resource, aws)
    for serial in there_before:
        allow_list.add(fleet, aws, serial)
    answer(aws.s3, "PutObject", by=lambda **_: allow_list.add(fleet, rival, TWO))
    with pytest.raises(AwsUnavailable, match="PreconditionFailed"):
        allow_list.add(fleet, aws, THREE)
    allow_list.add(fleet, rival, THREE)
    assert aws.s3.get_object(Bucket=fleet.bucket, Key=fleet.allow_list_key)["Body"].read().decode().split() == [*there_before, TWO, THREE]


def test_without_a_list_nothing_can_be_put_on_it(fleet, aws):
    with pytest.raises(InvalidSetting, match="FLEET_ALLOW_LIST"):
        allow_list.add(fleet, aws, ONE)


def test_a_replacement_that_was_allowed_is_used_once(fleet, aws):
    thing, things = fleet.thing_name(ONE), hook.IotThings(aws.iot)
    aws.iot.create_thing(thingName=thing, attributePayload={"attributes": {"colour": "red"}})
    expected = hook.Expected(fleet.serial_prefix, fleet.thing_prefix, fleet.template_arn)
    request = {"templateArn": fleet.template_arn, "claimCertificateId": "0" * 64, "parameters": {"SerialNumber": ONE}}
    assert not hook.decide(request, expected, things, None).allowed
    allow_list.allow_replacement(fleet, aws, ONE)
    assert [hook.decide(request, expected, things, None).allowed for _ in range(2)] == [True, False]
    assert aws.iot.describe_thing(thingName=thing)["attributes"] == {"colour": "red"}
