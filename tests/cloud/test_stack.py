"""The exported template, deployed by CloudFormation on this machine: what it makes is what the settings want, and its data outlive the stack."""

import json
import time
from dataclasses import replace

import pytest

from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.claims.certificates import CERTIFICATE, PUBLIC_KEY, Claims
from fleet_pipeline.cloud.kinds.function import HOOK_FOLDER, zipped
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations import cloudformation as exported
from fleet_pipeline.cloud.operations.adopt import adopt, foreign
from fleet_pipeline.cloud.operations.apply import apply_all, plan_all
from fleet_pipeline.cloud.reconcile import Action

STACK = "fleet"


@pytest.fixture
def formation(aws):
    return aws.session.client("cloudformation", endpoint_url=aws.endpoint_url)


@pytest.fixture
def claim(aws):
    """A claim certificate that was made elsewhere, as a stack wants it."""
    return aws.iot.create_keys_and_certificate(setAsActive=True)


def deployed(formation, aws, fleet, claim, template=None):
    """Deploy the template as docs/operations.md says, and return what the stack holds, by logical name."""
    code = f"{fleet.bucket}-code"[:63]
    aws.s3.create_bucket(Bucket=code, CreateBucketConfiguration={"LocationConstraint": fleet.region})
    aws.s3.put_object(Bucket=code, Key="hook.zip", Body=zipped(HOOK_FOLDER))
    template = template or exported.cloudformation(fleet)
    given = {exported.CERTIFICATE: claim["certificateArn"], exported.CODE_BUCKET: code}
    given |= {name: "hook.zip" for name in template["Parameters"] if name.startswith("CodeKey")}
    parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()]
    formation.create_stack(
        StackName=STACK, TemplateBody=json.dumps(template), Parameters=parameters, Capabilities=["CAPABILITY_NAMED_IAM"]
    )
    assert state(formation) == "CREATE_COMPLETE"
    _tag_buckets(aws, template)
    return {each["LogicalResourceId"] for each in formation.describe_stack_resources(StackName=STACK)["StackResources"]}


def _tag_buckets(aws, template):
    """Do what AWS on this machine leaves out: CloudFormation tags buckets."""
    for each in template["Resources"].values():
        if each["Type"] == "AWS::S3::Bucket" and "Tags" in each["Properties"]:
            aws.s3.put_bucket_tagging(
                Bucket=each["Properties"]["BucketName"], Tagging={"TagSet": each["Properties"]["Tags"]}
            )


def state(formation, stack=STACK):
    """Return how a stack ends."""
    deadline = time.monotonic() + 60
    while (found := formation.describe_stacks(StackName=stack)["Stacks"][0])["StackStatus"].endswith("IN_PROGRESS"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "FAILED" not in found["StackStatus"], found
    return found["StackStatus"]


def keep(fleet, aws, claim):
    """Put the claim certificate where the fleet gives it out, and its key where the settings say."""
    Claims.of(fleet).keys.put(aws, claim["certificatePem"], claim["keyPair"]["PrivateKey"])
    for key, text in ((CERTIFICATE, claim["certificatePem"]), (PUBLIC_KEY, claim["keyPair"]["PublicKey"])):
        aws.s3.put_object(Bucket=fleet.bucket, Key=key, Body=text.encode())


def apply(fleet, aws):
    with Lock(aws, fleet.bucket, "a test") as lock:
        return list(apply_all(fleet, aws, lock))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"allow_list": "dynamodb", "bulk_registration": "on", "raw_key_format": "timestamp"},
        {"delivery": "firehose"},
    ],
    ids=str,
)
def test_what_cloudformation_makes_is_planned_as_unchanged_there_is_nothing_to_adopt_and_its_data_outlive_the_stack(
    aws, make_fleet, formation, claim, settings
):
    fleet = replace(make_fleet(**settings), account=aws.account)
    made = deployed(formation, aws, fleet, claim)
    assert len(made) == len(blueprint(fleet)) - 1 + 2
    keep(fleet, aws, claim)
    assert foreign(fleet, aws) == []
    assert {
        step.title: [change.field for change in step.changes]
        for step in plan_all(fleet, aws)
        if step.action is not Action.UNCHANGED
    } == {}
    for bucket in (fleet.bucket, fleet.lake_bucket):
        aws.s3.put_object(Bucket=bucket, Key="test-rule/rule1/1795442400123", Body=b"{}", IfNoneMatch="*")
    formation.delete_stack(StackName=STACK)
    stack = formation.list_stacks()["StackSummaries"][0]["StackId"]
    assert state(formation, stack) == "DELETE_COMPLETE"
    for bucket in (fleet.bucket, fleet.lake_bucket):
        assert aws.s3.head_object(Bucket=bucket, Key="test-rule/rule1/1795442400123")["ContentLength"] == 2
    kept = {step.wanted.kind for step in apply(fleet, aws) if step.action is Action.UNCHANGED}
    assert kept == {"S3 bucket", "claim certificate", *(["DynamoDB table"] if fleet.allow_list == "dynamodb" else [])}
    assert {step.action for step in plan_all(fleet, aws)} == {Action.UNCHANGED}


def test_a_stack_without_our_tags_is_adopted_and_then_unchanged(aws, fleet, formation, claim):
    template = exported.cloudformation(fleet)
    for each in template["Resources"].values():
        each["Properties"].pop("Tags", None)
    deployed(formation, aws, fleet, claim, template)
    keep(fleet, aws, claim)
    assert len(foreign(fleet, aws)) == sum(hasattr(part.resource, "tags") for part in blueprint(fleet).values())
    with Lock(aws, fleet.bucket, "a test") as lock:
        adopt(fleet, aws, lock)
    assert {
        step.title: [change.field for change in step.changes]
        for step in plan_all(fleet, aws)
        if step.action is not Action.UNCHANGED
    } == {}
