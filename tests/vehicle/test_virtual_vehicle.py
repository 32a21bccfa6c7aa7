"""The virtual vehicle: green on a sound fleet, red for each thing that is broken on purpose, and gone afterwards."""

import io
import json
import re
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fleet_pipeline.account import Account
from fleet_pipeline.cloud.blueprint import blueprint, resources
from fleet_pipeline.cloud.enrolment import allow_list
from fleet_pipeline.cloud.reconcile import reconcile
from fleet_pipeline.virtual_vehicle import tried


@pytest.fixture(scope="module")
def fleet(make_fleet):
    return make_fleet(rule_keys=("rule1",), allow_list="dynamodb")


@pytest.fixture(scope="module")
def account(fleet):
    account = Account.of(fleet)
    for resource in resources(blueprint(fleet)):
        reconcile(resource, account.aws)
    return account


@pytest.fixture
def repaired(fleet, account):
    """Put everything back after a test that broke something."""
    yield
    for resource in resources(blueprint(fleet)):
        reconcile(resource, account.aws)


CREDULOUS_HOOK = """
def lambda_handler(event, context):
    return {"allowProvisioning": True, "parameterOverrides": {"ClaimCertificateId": event["claimCertificateId"]}}
"""


def wrong(fleet, account):
    return [trial.what for trial in tried(fleet, account) if not trial.so]


def traces(fleet, account):
    aws = account.aws
    return {
        "things": aws.iot.list_things()["things"],
        "active": [each for each in aws.iot.list_certificates()["certificates"] if each["status"] == "ACTIVE"],
        "objects": aws.s3.list_object_versions(Bucket=fleet.bucket, Prefix=fleet.raw_prefix).get("Versions", []),
        "serials": aws.dynamodb.scan(TableName=fleet.allow_list_table)["Items"],
    }


def test_on_a_sound_fleet_every_trial_goes_as_it_should_and_nothing_is_left(fleet, account):
    before = traces(fleet, account)
    trials = tried(fleet, account)
    assert [trial for trial in trials if not trial.so] == []
    assert len(trials) == 7
    assert traces(fleet, account) == before


def test_a_hook_that_lets_everyone_in_is_seen(fleet, account, repaired):
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("lambda_function.py", CREDULOUS_HOOK)
    account.aws.functions.update_function_code(FunctionName=fleet.hook_name, ZipFile=code.getvalue())
    before = traces(fleet, account)
    assert wrong(fleet, account) == ["a foreign serial is refused", "a registered vehicle cannot be taken over"]
    assert traces(fleet, account) == before


def test_a_policy_that_allows_every_topic_is_seen(fleet, account, repaired):
    document = blueprint(fleet)["device_policy"].resource.document
    wide = document | {
        "Statement": [*document["Statement"], {"Effect": "Allow", "Action": "iot:Publish", "Resource": "*"}]
    }
    account.aws.iot.create_policy_version(
        policyName=fleet.device_policy_name, policyDocument=json.dumps(wide), setAsDefault=True
    )
    assert wrong(fleet, account) == ["a foreign topic is refused"]


def test_a_disabled_template_is_seen(fleet, account, repaired):
    account.aws.iot.update_provisioning_template(templateName=fleet.template_name, enabled=False)
    assert wrong(fleet, account) == ["an allowed serial registers"]


@pytest.mark.parametrize(
    ("minutes", "said"), [(3, r"policy '{}' yet.*: try again after \d\d:\d\d UTC$"), (9, "NOT_AUTHORIZED$")]
)
def test_in_an_account_what_fails_minutes_after_a_policy_was_changed_says_when_to_try_again(
    fleet, account, repaired, minutes, said
):
    document = blueprint(fleet)["device_policy"].resource.document
    mute = document | {"Statement": document["Statement"][:1]}
    account.aws.iot.create_policy_version(
        policyName=fleet.device_policy_name, policyDocument=json.dumps(mute), setAsDefault=True
    )
    changed = datetime.now(UTC) - timedelta(minutes=minutes)

    def tell(parsed, **_):  # AWS on this machine does not say when a policy was changed
        parsed["lastModifiedDate"] = changed

    account.aws.iot.meta.events.register("after-call.iot.GetPolicy", tell)
    wrong = [trial for trial in tried(replace(fleet, profile="aws", claim_store="s3"), account) if not trial.so]
    account.aws.iot.meta.events.unregister("after-call.iot.GetPolicy", tell)
    assert [trial.what for trial in wrong] == ["a message of rule1 arrives"]
    assert re.search(said.format(fleet.device_policy_name), wrong[0].said)
    assert ("try again after" in wrong[0].said) == (minutes < 8)


@pytest.mark.parametrize("kind", ["s3", "dynamodb"])
def test_a_serial_that_was_taken_off_the_allow_list_is_no_longer_on_it(fleet, account, kind):
    listed = replace(fleet, allow_list=kind)
    for serial in ("297468000001", "297468000002"):
        allow_list.add(listed, account.aws, serial)
    for _ in range(2):
        allow_list.take_off(listed, account.aws, "297468000001")
    if kind == "s3":
        assert (
            account.aws.s3.get_object(Bucket=fleet.bucket, Key=fleet.allow_list_key)["Body"].read() == b"297468000002\n"
        )
    else:
        assert traces(listed, account)["serials"] == [{"serial": {"S": "297468000002"}}]
