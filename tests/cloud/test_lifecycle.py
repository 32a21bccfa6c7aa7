"""Lifecycle rules are planned, applied, compared, exported and taken away like all else; those of others stay, and another team's bucket has none of ours."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from test_export import lint

from fleet_pipeline.aws.clients import absent
from fleet_pipeline.cli.main import fleet_command
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations.adopt import adopt
from fleet_pipeline.cloud.operations.apply import apply_all
from fleet_pipeline.cloud.operations.cloudformation import cloudformation
from fleet_pipeline.cloud.operations.destroy import destroy
from fleet_pipeline.cloud.operations.foreign import findings
from fleet_pipeline.cloud.reconcile import Action, look, reconcile
from fleet_pipeline.model.fleet import Fleet

AGES = {"raw_retention_days": 30, "report_retention_days": 90, "upload_retention_days": 7}
THEIRS = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "notes/"}, "Expiration": {"Days": 9}}


def bucket_of(fleet, part="bucket"):
    return blueprint(fleet)[part].resource


def rules(aws, bucket):
    """Every lifecycle rule of a bucket by its name."""
    with absent("NoSuchLifecycleConfiguration"):
        return {each["ID"]: each for each in aws.s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]}
    return {}


def put(aws, bucket, *said):
    aws.s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [*said]})


@pytest.fixture
def aging(fleet):
    return replace(fleet, **AGES)


def test_by_default_there_is_no_rule_and_none_is_looked_for_twice(aws, fleet):
    reconcile(bucket_of(fleet), aws)
    assert rules(aws, fleet.bucket) == {}


def test_the_settings_rules_are_made_with_the_bucket_and_a_second_time_nothing_is(aws, aging):
    assert reconcile(bucket_of(aging), aws).action is Action.CREATE
    reconcile(bucket_of(aging, "lake_bucket"), aws)
    found = rules(aws, aging.bucket)
    assert found["fleet_pipeline:reports"]["Expiration"] == {"Days": 90}
    assert found["fleet_pipeline:reports"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    assert found["fleet_pipeline:reports"]["Filter"] == {"Prefix": "errors/"}
    assert found["fleet_pipeline:uploads"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert found["fleet_pipeline:delete-markers:test-rule"]["Expiration"] == {"ExpiredObjectDeleteMarker": True}
    assert set(rules(aws, aging.lake_bucket)) == {"fleet_pipeline:uploads"}
    assert reconcile(bucket_of(aging), aws).action is Action.UNCHANGED


def test_no_rule_of_ours_ever_deletes_a_version_of_a_message_or_a_row():
    fleet = Fleet(**AGES, lake_retention_days=60, derived_retention_days=60)
    for part in ("bucket", "lake_bucket"):
        for name, rule in bucket_of(fleet, part).lifecycle.items():
            deletes = {"Days", "Date"} & {*rule.get("Expiration", {})} or "NoncurrentVersionExpiration" in rule
            assert not deletes or rule["Filter"]["Prefix"] == "errors/", name


def test_rules_of_others_stay_whatever_is_made_changed_or_taken_away(aws, fleet, aging):
    reconcile(bucket_of(fleet), aws)
    put(aws, fleet.bucket, THEIRS)
    assert look(bucket_of(fleet), aws).action is Action.UNCHANGED
    step = reconcile(bucket_of(aging), aws)
    assert [change.field for change in step.changes] == ["lifecycle"]
    assert rules(aws, fleet.bucket)["theirs"]["Expiration"] == {"Days": 9}
    assert len(rules(aws, fleet.bucket)) == 4
    reconcile(bucket_of(replace(aging, report_retention_days=10)), aws)
    assert rules(aws, fleet.bucket)["fleet_pipeline:reports"]["Expiration"] == {"Days": 10}
    reconcile(bucket_of(fleet), aws)
    assert set(rules(aws, fleet.bucket)) == {"theirs"}


def test_a_bucket_that_is_taken_over_gets_its_rules_with_the_next_apply_and_keeps_those_that_it_had(aws, aging):
    aws.s3.create_bucket(Bucket=aging.bucket, CreateBucketConfiguration={"LocationConstraint": aging.region})
    put(aws, aging.bucket, THEIRS)
    with Lock(aws, aging.bucket, "a test") as lock:
        adopt(aging, aws, lock)
    assert set(rules(aws, aging.bucket)) == {"theirs"}
    reconcile(bucket_of(aging), aws)
    assert len(rules(aws, aging.bucket)) == 4


def test_destroyed_a_bucket_that_is_kept_loses_our_rules_and_keeps_others(aws, aging):
    with Lock(aws, aging.bucket, "a test") as lock:
        list(apply_all(aging, aws, lock))
    put(aws, aging.bucket, THEIRS, *rules(aws, aging.bucket).values())
    said = [each.what for each in destroy(aging, aws, confirmed=aging.bucket)]
    assert f"3 lifecycle rules of S3 bucket '{aging.bucket}'" in said
    assert (set(rules(aws, aging.bucket)), rules(aws, aging.lake_bucket)) == ({"theirs"}, {})


def test_another_teams_bucket_gets_no_rule_and_the_plan_says_what_is_left_to_its_owner(
    aws, aging, monkeypatch, tmp_path
):
    given = replace(aging, given_buckets=("raw",))
    aws.s3.create_bucket(Bucket=given.bucket, CreateBucketConfiguration={"LocationConstraint": given.region})
    aws.s3.put_bucket_versioning(Bucket=given.bucket, VersioningConfiguration={"Status": "Enabled"})
    with Lock(aws, given.bucket, "a test") as lock:
        list(apply_all(given, aws, lock))
    assert rules(aws, given.bucket) == {}
    assert set(rules(aws, given.lake_bucket)) == {"fleet_pipeline:uploads"}
    monkeypatch.chdir(tmp_path)
    names = ("account", "bucket", "home", "serial_prefix", *AGES)
    env = {f"FLEET_{name.upper()}": str(getattr(given, name)) for name in names}
    env |= {"FLEET_GIVEN_BUCKETS": "raw", "COLUMNS": "200"}
    said = CliRunner().invoke(fleet_command, ["plan"], env=env)
    assert said.exit_code == 0, said.output
    for name in ("reports", "uploads", "delete-markers:test-rule"):
        line = f"left to its owner: the lifecycle rule fleet_pipeline:{name} of given S3 bucket '{given.bucket}'"
        assert line in said.output
    found = json.loads(CliRunner().invoke(fleet_command, ["plan", "--json"], env=env).output)
    [bucket] = [each for each in found["resources"] if "left to its owner" in each]
    assert len(bucket["left to its owner"]) == 3


@pytest.mark.parametrize(
    ("said", "dangerous"),
    [
        ({"Filter": {"Prefix": "test-rule/"}, "Expiration": {"Days": 30}}, True),
        ({"Filter": {"Prefix": "test-rule/rule1/"}, "NoncurrentVersionExpiration": {"NoncurrentDays": 1}}, True),
        ({"Filter": {"Prefix": ""}, "Expiration": {"Days": 400}}, True),
        ({"Filter": {"Prefix": "notes/"}, "Expiration": {"Days": 1}}, False),
        ({"Filter": {"Prefix": ""}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}, False),
        ({"Filter": {"Prefix": ""}, "Transitions": [{"Days": 30, "StorageClass": "GLACIER_IR"}]}, False),
    ],
)
def test_a_rule_of_others_that_deletes_messages_by_their_age_is_named(aws, fleet, said, dangerous):
    reconcile(bucket_of(fleet), aws)
    put(aws, fleet.bucket, {"ID": "somebody", "Status": "Enabled"} | said)
    found = findings(fleet, aws, "bucket")
    assert [("somebody" in str(each), each.part) for each in found] == ([(True, "bucket")] if dangerous else [])


@pytest.mark.whole
def test_cloudformation_has_the_rules_and_cfn_lint_nothing_to_say(tmp_path):
    template = cloudformation(replace(Fleet(), **AGES))
    said = template["Resources"]["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert {each["Id"] for each in said} == {
        "fleet_pipeline:reports",
        "fleet_pipeline:uploads",
        "fleet_pipeline:delete-markers:test-rule",
    }
    assert next(each for each in said if each["Id"].endswith("reports"))["ExpirationInDays"] == 90
    assert lint(template, tmp_path / "template.json").stdout == ""
