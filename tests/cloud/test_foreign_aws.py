"""A fleet's life on an AWS that others wrote: moto's server, with what it lacks put beside it. `make foreign-aws` starts one and runs this.

FOREIGN_AWS is its address. moto knows no MQTT, so no vehicle connects here; its rules write nothing and its functions are not run.
"""

import os
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from urllib.request import Request, urlopen

import pytest
from another_team import settle, snapshot
from aws_calls import watch
from beside_moto import ACCOUNT, REGION, beside_moto

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.claims import life
from fleet_pipeline.cloud.claims.certificates import Claims, held, read_claim
from fleet_pipeline.cloud.claims.keys import certificate_id, fits
from fleet_pipeline.cloud.hardening.review import reviewed
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations.adopt import adopt, foreign
from fleet_pipeline.cloud.operations.apply import apply_all, plan_all
from fleet_pipeline.cloud.operations.destroy import destroy
from fleet_pipeline.cloud.reconcile import Action, reconcile
from fleet_pipeline.model.fleet import Fleet

pytestmark = [
    pytest.mark.foreign,
    pytest.mark.skipif("FOREIGN_AWS" not in os.environ, reason="no foreign AWS runs: make foreign-aws starts one"),
]

FLEETS = {
    "as it is by default": {},
    "with what can be chosen": {
        "allow_list": "dynamodb",
        "claim_store": "secretsmanager",
        "bulk_registration": "on",
        "tags": (("cost-center", "4711"),),
        "log_retention_days": 30,
        "hook_concurrency": 5,
    },
}


@pytest.fixture
def moto():
    address = os.environ["FOREIGN_AWS"]
    urlopen(Request(f"{address}/moto-api/reset", method="POST")).close()
    with beside_moto(address) as (seen, beside):
        yield Aws(REGION, ACCOUNT, seen.url)
    assert beside.missed == []


@pytest.fixture(params=FLEETS)
def fleet(request):
    return replace(
        Fleet(),
        account=ACCOUNT,
        region=REGION,
        bucket=f"fleet-{uuid.uuid4().hex[:16]}",
        lake_bucket="",
        **FLEETS[request.param],
    )


def apply(fleet, aws, confirmed=""):
    with Lock(aws, fleet.bucket, "ann") as lock:
        return list(apply_all(fleet, aws, lock, confirmed=confirmed, sleep=lambda _: None))


def actions(fleet, aws):
    return {step.action for step in plan_all(fleet, aws)}


def test_what_is_applied_is_there_and_a_second_apply_writes_nothing(fleet, moto):
    assert actions(fleet, moto) == {Action.CREATE}
    apply(fleet, moto)
    assert actions(fleet, moto) == {Action.UNCHANGED}
    again = Aws(REGION, ACCOUNT, moto.endpoint_url)
    calls = watch(again.session)
    apply(fleet, again)
    assert calls.writing == []
    assert reviewed(fleet, moto, datetime.now(UTC).date()) == []


def test_a_claim_is_rotated_retired_lent_and_revoked_and_its_key_fits(fleet, moto):
    apply(fleet, moto)
    first = certificate_id(read_claim(fleet, moto).certificate_pem)
    second = life.rotate(fleet, moto, sleep=lambda _: None)
    assert {each.certificate_id: each.status for each in held(Claims.of(fleet), moto)} == {
        first: "ACTIVE",
        second: "ACTIVE",
    }
    assert life.retire(fleet, moto, sleep=lambda _: None) == [first]
    claim = read_claim(fleet, moto)
    assert (certificate_id(claim.certificate_pem), fits(claim.certificate_pem, claim.private_key.encode())) == (
        second,
        True,
    )
    assert actions(fleet, moto) == {Action.UNCHANGED}
    assert life.temporary(fleet, moto).private_key
    assert life.revoke(fleet, moto) == second
    assert [each.status for each in held(Claims.of(fleet), moto)] == ["REVOKED"]


def test_a_policy_is_changed_more_often_than_aws_keeps_versions(fleet, moto):
    """moto refuses a sixth version, and the deletion of the default one, as AWS IoT does."""
    apply(fleet, moto)
    for number in range(6):
        changed = blueprint(replace(fleet, claim_client_prefix=f"claim{number}-"))["claim_policy"].resource
        assert reconcile(changed, moto, sleep=lambda _: None).action is Action.UPDATE
    assert len(moto.iot.list_policy_versions(policyName=fleet.claim_policy_name)["policyVersions"]) == 5


def test_what_leaves_the_settings_goes(fleet, moto):
    apply(fleet, moto)
    fewer = replace(fleet, rule_keys=("rule1",), allow_list="none", bulk_registration="off")
    assert Action.DELETE in actions(fewer, moto)
    apply(fewer, moto, confirmed=fleet.bucket)
    assert actions(fewer, moto) == {Action.UNCHANGED}
    assert [rule["ruleName"] for rule in moto.iot.list_topic_rules()["rules"]] == [fleet.rules[0].aws_name]


def test_what_has_lost_its_tags_is_adopted(fleet, moto):
    apply(fleet, moto)
    for bucket in (fleet.bucket, fleet.lake_bucket):
        moto.s3.delete_bucket_tagging(Bucket=bucket)
    moto.iot.untag_resource(resourceArn=fleet.template_arn, tagKeys=[*fleet.all_tags])
    moto.iam.untag_role(RoleName=fleet.hook_role_name, TagKeys=[*fleet.all_tags])
    moto.functions.untag_resource(Resource=fleet.hook_arn, TagKeys=[*fleet.all_tags])
    assert Action.NOT_OURS in actions(fleet, moto)
    with Lock(moto, fleet.bucket, "ann") as lock:
        assert len(adopt(fleet, moto, lock)) == 5
    assert foreign(fleet, moto) == []
    assert actions(fleet, moto) == {Action.UNCHANGED}


def test_a_fleet_is_destroyed_and_another_team_keeps_all_that_it_has(fleet, moto):
    settle(moto, fleet)
    theirs = snapshot(moto)
    apply(fleet, moto)
    registered(fleet, moto)
    life.rotate(fleet, moto, sleep=lambda _: None)
    list(destroy(fleet, moto, confirmed=fleet.bucket, with_data=True, sleep=lambda _: None))
    assert snapshot(moto) == theirs


def registered(fleet, aws):
    """A vehicle as RegisterThing would have made it."""
    made = aws.iot.create_keys_and_certificate(setAsActive=True)["certificateArn"]
    aws.iot.create_thing(thingName=f"{fleet.thing_prefix}297468000001")
    aws.iot.attach_thing_principal(thingName=f"{fleet.thing_prefix}297468000001", principal=made)
    aws.iot.attach_policy(policyName=fleet.device_policy_name, target=made)
