"""The CDK app's stacks are taken over: tagged, upgraded, nothing made anew, and the vehicles registered before still publish."""

import cdk_app
import pytest
from aws_calls import watch

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.claims.certificates import read_claim
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations.adopt import adopt, foreign
from fleet_pipeline.cloud.operations.apply import apply_all, plan_all
from fleet_pipeline.cloud.reconcile import Action
from fleet_pipeline.cloud.tags import spelled
from fleet_pipeline.definitions import build_definitions
from fleet_pipeline.model.errors import ConnectionFailed, NotOurs
from fleet_pipeline.vehicle.connection import Broker, connected
from fleet_pipeline.vehicle.identity import Identity, VehicleFolder
from fleet_pipeline.vehicle.registration import register

SERIAL = "297468000001"

MADE_BY_THE_CDK_APP = {
    "S3 bucket": 1,
    "IAM role": 3,
    "Lambda function": 1,
    "IoT policy": 2,
    "provisioning template": 1,
    "topic rule": 3,
}
"""What of it carries tags, by kind."""


@pytest.fixture
def new_cdk_app(make_fleet, local_aws):
    def make():
        fleet = make_fleet()
        aws = Aws(fleet.region, fleet.account, local_aws.url)
        cdk_app.deploy(fleet, aws)
        return fleet, aws

    return make


@pytest.fixture
def broker(local_aws):
    return Broker(local_aws.mqtt_host, local_aws.mqtt_port, local_aws.ca_path)


def take_over(fleet, aws):
    with Lock(aws, fleet.bucket, "ann") as lock:
        return adopt(fleet, aws, lock)


def apply(fleet, aws):
    with Lock(aws, fleet.bucket, "ann") as lock:
        return list(apply_all(fleet, aws, lock))


def kinds(steps):
    found = [step.wanted.kind for step in steps]
    return {kind: found.count(kind) for kind in found}


def state(fleet, aws):
    return {step.title: [change for change in step.changes if change.field != "tags"] for step in plan_all(fleet, aws)}


def raw_objects(fleet, aws, rule):
    return aws.s3.list_objects_v2(Bucket=fleet.bucket, Prefix=rule.raw_prefix).get("Contents", [])


def test_what_the_cdk_app_made_is_listed_with_its_differences_refused_and_not_touched(new_cdk_app):
    fleet, aws = new_cdk_app()
    reader = Aws(aws.region, aws.account, aws.endpoint_url)
    calls = watch(reader.session)
    found = foreign(fleet, reader)
    with pytest.raises(NotOurs, match="fleet adopt"):
        apply(fleet, reader)
    assert kinds(found) == MADE_BY_THE_CDK_APP
    fields = {step.title: {change.field for change in step.changes} for step in found}
    assert {"runtime", "code_sha256", "tags"} < fields[f"Lambda function {fleet.hook_name!r}"]
    assert {"action", "error_action", "sql_version", "tags"} < fields["topic rule 'test_rule_rule1'"]
    assert calls.writing == []


def test_what_becomes_of_a_vehicle_that_exists_is_no_difference_to_the_cdk_app(new_cdk_app):
    fleet, aws = new_cdk_app()
    (template,) = (step for step in foreign(fleet, aws) if step.wanted.kind == "provisioning template")
    (body,) = (change for change in template.changes if change.field == "body")
    assert body.found["Resources"]["thing"]["OverrideSettings"] == body.wanted["Resources"]["thing"]["OverrideSettings"]


def test_adopting_sets_tags_and_changes_nothing_else_and_a_second_time_nothing_at_all(new_cdk_app):
    fleet, aws = new_cdk_app()
    before = state(fleet, aws)
    assert kinds(take_over(fleet, aws)) == MADE_BY_THE_CDK_APP
    assert state(fleet, aws) == before
    assert {"Key": "aws-cdk:auto-delete-objects", "Value": "true"} in aws.s3.get_bucket_tagging(Bucket=fleet.bucket)[
        "TagSet"
    ]
    assert foreign(fleet, aws) == []
    assert take_over(fleet, aws) == []


def test_a_vehicle_that_the_cdk_app_registered_still_publishes_once_the_stack_is_taken_over_and_upgraded(
    new_cdk_app, broker, tmp_path
):
    fleet, aws = new_cdk_app()
    claim = read_claim(fleet, aws)
    vehicle = register(fleet, broker, Identity(claim.certificate_pem, claim.private_key), SERIAL, tmp_path)
    before = aws.iot.list_certificates()["certificates"]
    publish(fleet, broker, vehicle, fleet.rules[0])
    take_over(fleet, aws)
    steps = {step.title: step for step in apply(fleet, aws)}
    assert {step.action for step in plan_all(fleet, aws)} == {Action.UNCHANGED}
    publish(fleet, broker, vehicle, fleet.rules[1])
    assert [len(raw_objects(fleet, aws, rule)) for rule in fleet.rules] == [1, 1, 0]
    made_anew = {title for title, step in steps.items() if step.action is Action.CREATE}
    assert made_anew == {f"S3 bucket {fleet.lake_bucket!r}", f"IAM role {fleet.rule_error_role_name!r}"}
    assert aws.iot.list_certificates()["certificates"] == before
    assert (
        register(fleet, broker, Identity(claim.certificate_pem, claim.private_key), "297468000002", tmp_path).thing_name
        == "test-thing-297468000002"
    )


def publish(fleet, broker, vehicle, rule):
    with connected(broker, VehicleFolder(vehicle.folder).read(), vehicle.thing_name) as connection:
        connection.publish(rule.ingest[0], b'{"speed_kmh": 50}')


def test_the_upgrade_ends_the_connections_of_vehicles_whose_client_id_is_not_their_things_name(
    new_cdk_app, broker, tmp_path
):
    fleet, aws = new_cdk_app()
    claim = read_claim(fleet, aws)
    vehicle = register(fleet, broker, Identity(claim.certificate_pem, claim.private_key), SERIAL, tmp_path)
    own = VehicleFolder(vehicle.folder).read()
    with connected(broker, own, "any-client-id") as connection:
        connection.publish(fleet.rules[0].ingest[0], b"{}")
    take_over(fleet, aws)
    apply(fleet, aws)
    with pytest.raises(ConnectionFailed), connected(broker, own, "any-client-id"):
        pass


def test_the_statement_by_which_any_aws_iot_may_invoke_the_hook_is_replaced_by_one_for_our_template(new_cdk_app):
    fleet, aws = new_cdk_app()
    take_over(fleet, aws)
    permission = {step.wanted.kind: step for step in plan_all(fleet, aws)}["invoke permission"]
    assert permission.action is Action.REPLACE
    assert {"others", "source_arn"} <= {change.field for change in permission.changes}
    apply(fleet, aws)
    assert permission.wanted.read(aws) == permission.wanted


def test_the_job_adopt_lists_and_with_apply_tags(new_cdk_app):
    fleet, aws = new_cdk_app()
    job = build_definitions(fleet).resolve_job_def("adopt")
    found = []
    for config in ({}, {"ops": {"adopt_op": {"config": {"apply": True}}}}):
        assert job.execute_in_process(run_config=config).success
        found.append(len(foreign(fleet, aws)))
    assert found == [sum(MADE_BY_THE_CDK_APP.values()), 0]


def test_what_carries_the_tag_of_another_fleet_is_not_adopted_and_neither_is_anything_beside_it(new_cdk_app):
    fleet, aws = new_cdk_app()
    aws.iot.tag_resource(
        resourceArn=fleet.policy_arn(fleet.claim_policy_name), tags=spelled({"fleet_pipeline:stack": "another"})
    )
    with pytest.raises(NotOurs, match=rf"{fleet.claim_policy_name}.* belongs to another fleet, 'another'"):
        take_over(fleet, aws)
    assert kinds(foreign(fleet, aws)) == MADE_BY_THE_CDK_APP
