"""Buckets of another team's: checked by every command, and made, changed, tagged, emptied or removed by none."""

import json
from dataclasses import replace
from datetime import date

import pytest
from aws_calls import watch
from test_iam import acting_as, as_the_emulator_checks, at_once, listed

from fleet_pipeline.aws.clients import Aws, absent
from fleet_pipeline.cloud.blueprint import blueprint, resources
from fleet_pipeline.cloud.claims import life
from fleet_pipeline.cloud.documents.iam import provisioner_policies
from fleet_pipeline.cloud.enrolment import allow_list
from fleet_pipeline.cloud.hardening.review import reviewed
from fleet_pipeline.cloud.kinds.bucket import Bucket
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations import foreign
from fleet_pipeline.cloud.operations.adopt import adopt
from fleet_pipeline.cloud.operations.apply import apply_all, plan_all
from fleet_pipeline.cloud.operations.cloudformation import cloudformation
from fleet_pipeline.cloud.operations.destroy import destroy, losses
from fleet_pipeline.cloud.reconcile import Action, look, reconcile, remove
from fleet_pipeline.model.errors import FleetError, GivenBucketUnfit
from fleet_pipeline.model.fleet import Fleet

TODAY = date(2026, 11, 29)
OURS = ("claim-certificate/", "provisioning/", "allow-list/")
"""Where the fleet writes objects of its own into a given bucket, beside messages."""


def apply(fleet, aws):
    with Lock(aws, fleet.bucket, "a test") as lock:
        return list(apply_all(fleet, aws, lock))


def adopt_all(fleet, aws):
    with Lock(aws, fleet.bucket, "a test") as lock:
        adopt(fleet, aws, lock)


@pytest.fixture
def given(aws, fleet):
    """A fleet whose buckets another team has made, in its own way, with objects in them."""
    for name in (fleet.bucket, fleet.lake_bucket):
        aws.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": fleet.region})
        aws.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        aws.s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": [{"Key": "team", "Value": "data-platform"}]})
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        aws.s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [rule]})
        statement = {
            "Sid": "Theirs",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:DeleteBucket",
            "Resource": f"arn:aws:s3:::{name}",
        }
        aws.s3.put_bucket_policy(Bucket=name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
        aws.s3.put_bucket_lifecycle_configuration(
            Bucket=name,
            LifecycleConfiguration={
                "Rules": [
                    {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "old/"}, "Expiration": {"Days": 9}}
                ]
            },
        )
        for body in (b"first", b"second"):
            aws.s3.put_object(Bucket=name, Key="theirs/object", Body=body)
        aws.s3.put_object(Bucket=name, Key="test-rule/rule1/1795442400123", Body=b"{}")
    return replace(fleet, given_buckets=("raw", "lake"))


def everything(aws, name):
    """Return all that S3 tells of a bucket, and each version in it that is not the fleet's own."""
    asked = (
        "get_bucket_location", "get_bucket_versioning", "get_bucket_tagging", "get_bucket_encryption", "get_bucket_policy", "get_public_access_block",
        "get_bucket_lifecycle_configuration", "get_bucket_logging", "get_bucket_acl", "get_bucket_cors", "get_bucket_notification_configuration",
        "get_bucket_ownership_controls", "get_object_lock_configuration", "get_bucket_website",
    )  # fmt: skip
    found = {}
    for call in asked:
        with absent(
            "NoSuchPublicAccessBlockConfiguration", "NoSuchCORSConfiguration", "NoSuchWebsiteConfiguration", "OwnershipControlsNotFoundError",
            "ObjectLockConfigurationNotFoundError",
        ):  # fmt: skip
            answer = getattr(aws.s3, call)(Bucket=name)
            found[call] = {key: value for key, value in answer.items() if key != "ResponseMetadata"}
    versions = aws.s3.list_object_versions(Bucket=name)
    found["versions"] = [
        (each["Key"], each["VersionId"], each.get("ETag"))
        for kind in ("Versions", "DeleteMarkers")
        for each in versions.get(kind, [])
        if not each["Key"].startswith(OURS)
    ]
    return found


COMMANDS = {
    "plan": plan_all,
    "apply": apply,
    "apply, settings changed": lambda fleet, aws: apply(
        replace(fleet, application="cars", tags=(("team", "cars"),)), aws
    ),
    "adopt": adopt_all,
    "check": lambda fleet, aws: (reviewed(fleet, aws, TODAY), foreign.findings(fleet, aws)),
    "claim rotate": life.rotate,
    "claim retire": life.retire,
    "vehicle allow": lambda fleet, aws: allow_list.add(fleet, aws, "297468000001"),
    "export": lambda fleet, _: cloudformation(fleet),
    "destroy": lambda fleet, aws: list(destroy(fleet, aws, confirmed=fleet.bucket)),
    "apply anew": apply,
    "destroy with data": lambda fleet, aws: list(destroy(fleet, aws, confirmed=fleet.bucket, with_data=True)),
}


def test_no_command_changes_a_given_bucket_or_what_others_have_in_it(aws, given, local_aws):
    given = replace(given, allow_list="s3")
    before = {name: everything(aws, name) for name in (given.bucket, given.lake_bucket)}
    theirs = Aws(aws.region, aws.account, local_aws.url)
    calls = watch(theirs.session)
    for command, action in COMMANDS.items():
        action(given, theirs)
        assert {name: everything(aws, name) for name in before} == before, command
    assert [call for call in calls.writing if call.startswith("s3.") and "Bucket" in call] == []
    assert {call for call in calls.writing if call.startswith("s3.")} >= {"s3.PutObject"}  # the watch sees S3


def test_a_given_bucket_counts_for_no_loss_and_is_kept_when_the_data_goes(aws, given):
    apply(given, aws)
    assert [loss for loss in losses(given, aws, with_data=True) if "bucket" in loss] == []
    gone = {each.part: each.action for each in destroy(given, aws, confirmed=given.bucket, with_data=True)}
    assert (gone["bucket"], gone["lake_bucket"]) == ("kept", "kept")
    assert list(destroy(given, aws)) != []  # a second time: nothing is confirmed, and nothing is lost


def without_versioning(aws, name):
    aws.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Suspended"})


def with_a_key(aws, name):
    rule = {
        "ApplyServerSideEncryptionByDefault": {
            "SSEAlgorithm": "aws:kms",
            "KMSMasterKeyID": aws.kms.create_key()["KeyMetadata"]["Arn"],
        }
    }
    aws.s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [rule]})


def empty_and_gone(aws, name):
    aws.s3.delete_bucket_policy(Bucket=name)
    for each in aws.s3.list_object_versions(Bucket=name)["Versions"]:
        aws.s3.delete_object(Bucket=name, Key=each["Key"], VersionId=each["VersionId"])
    aws.s3.delete_bucket(Bucket=name)


UNFIT = {
    "missing": (empty_and_gone, "make it, in eu-central-1"),
    "not versioned": (without_versioning, "enable versioning"),
    "encrypted with a key that the rules may not use": (with_a_key, "set FLEET_KMS_KEY=arn:aws:kms:"),
}


@pytest.mark.parametrize(("make_unfit", "said"), UNFIT.values(), ids=UNFIT)
def test_what_its_owner_has_to_do_is_said_by_plan_apply_and_check_before_anything_is_made(
    aws, given, local_aws, make_unfit, said
):
    make_unfit(aws, given.bucket)
    fresh = Aws(aws.region, aws.account, local_aws.url)
    calls = watch(fresh.session)
    [step] = [each for each in plan_all(given, fresh) if each.wanted.name == given.bucket]
    assert step.action is Action.CANNOT_CHANGE
    assert said in str(step.refusal)
    with pytest.raises(GivenBucketUnfit, match="FLEET_GIVEN_BUCKETS"):
        apply(given, fresh)
    assert said in str([finding.fix for where, finding in reviewed(given, fresh, TODAY) if given.bucket in where])
    assert calls.writing == []


def test_a_given_bucket_of_another_region_is_named_with_the_region_that_is_needed(aws, given):
    step = look(blueprint(replace(given, region="eu-west-1"))["bucket"].resource, aws)
    assert "it is in eu-central-1" in str(step.refusal)
    assert "eu-west-1" in str(step.refusal)


def test_a_given_lake_bucket_needs_no_versions_since_nothing_in_it_is_written_twice(aws, given):
    without_versioning(aws, given.lake_bucket)
    assert look(blueprint(given)["lake_bucket"].resource, aws).action is Action.UNCHANGED


def test_what_a_check_would_say_of_a_bucket_of_ours_it_says_to_the_owner_of_a_given_one(aws, given):
    apply(given, aws)
    aws.s3.delete_public_access_block(Bucket=given.bucket)
    said = {
        finding.what: finding.fix
        for where, finding in reviewed(given, aws, TODAY)
        if where == f"given S3 bucket {given.bucket!r}"
    }
    assert set(said) == {"open to the public", "no TLS"}
    assert all(fix.startswith("its owner: ") for fix in said.values())


def test_a_bucket_that_the_fleet_has_made_can_be_given_away_and_taken_back(aws, fleet):
    apply(fleet, aws)
    away = replace(fleet, given_buckets=("raw", "lake"))
    assert {step.action for step in plan_all(away, aws)} == {Action.UNCHANGED}
    list(destroy(away, aws, confirmed=fleet.bucket, with_data=True))
    assert aws.s3.get_bucket_tagging(Bucket=fleet.bucket)["TagSet"] != []
    assert look(blueprint(fleet)["bucket"].resource, aws).action is Action.UNCHANGED


def test_none_of_its_methods_does_anything(aws, given):
    bucket = blueprint(given)["bucket"].resource
    for action in (
        bucket.create,
        bucket.delete,
        lambda aws: bucket.update(aws, bucket),
        lambda aws: remove(bucket, aws),
    ):
        with pytest.raises(FleetError, match="given bucket"):
            action(aws)


@pytest.mark.parametrize("given_buckets", [("raw",), ("lake",), ("raw", "lake")])
def test_the_provisioner_may_look_at_a_given_bucket_and_change_only_those_of_the_fleet(given_buckets):
    fleet = Fleet(role_boundary="own", given_buckets=given_buckets, access_log_bucket="company-logs")
    may = {}
    for statement in provisioner_policies(fleet)["storage"]["Statement"]:
        for arn in listed(statement["Resource"]):
            may.setdefault(arn, set()).update(listed(statement["Action"]))
    for name in (fleet.bucket, fleet.lake_bucket):
        changing = {
            action
            for action in may[f"arn:aws:s3:::{name}"]
            if action.startswith(("s3:Put", "s3:Create", "s3:Delete", "s3:Tag"))
        }
        assert bool(changing) is (name not in fleet.given)
        assert "s3:ListBucket" in may[f"arn:aws:s3:::{name}"]


def test_the_provisioner_makes_a_fleet_around_given_buckets_with_its_policies_alone(aws, given):
    documents = provisioner_policies(replace(given, role_boundary="own"))
    someone = acting_as(aws, given, as_the_emulator_checks(documents["storage"]))
    for name in ("bucket", "lake_bucket"):
        assert reconcile(blueprint(given)[name].resource, someone, sleep=at_once).action is Action.UNCHANGED


def test_the_exported_template_has_no_given_bucket_and_all_else():
    fleet = Fleet(given_buckets=("raw",))
    template = cloudformation(fleet)
    assert {"Bucket", "BucketPolicy"} & set(template["Resources"]) == set()
    assert "LakeBucket" in template["Resources"]
    assert template["Metadata"]["NotExported"] == ["bucket", "claim_certificate"]


def test_without_the_setting_both_buckets_are_the_fleets():
    assert [type(each) for each in resources(blueprint(Fleet())) if "S3 bucket" in each.kind] == [Bucket, Bucket]
