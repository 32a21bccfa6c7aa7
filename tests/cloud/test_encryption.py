"""A key of KMS: one that a bucket has is left alone, and the one of the settings encrypts all that a fleet makes."""

import json
from dataclasses import replace
from datetime import date

import pytest
from aws_calls import answer, watch
from botocore.awsrequest import AWSResponse
from click.testing import CliRunner

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cli.main import fleet_command
from fleet_pipeline.cloud.blueprint import blueprint, resources
from fleet_pipeline.cloud.claims import life
from fleet_pipeline.cloud.claims.certificates import Claims, held, read_claim
from fleet_pipeline.cloud.documents.iam import boundary_policy, key_policy
from fleet_pipeline.cloud.hardening.review import MISSING, reviewed
from fleet_pipeline.cloud.kinds.role import Role
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations.apply import apply_all, plan_all
from fleet_pipeline.cloud.operations.cloudformation import KMS_KEY, cloudformation
from fleet_pipeline.cloud.operations.destroy import destroy
from fleet_pipeline.cloud.reconcile import Action, look, reconcile
from fleet_pipeline.model.errors import FleetError, InvalidSetting
from fleet_pipeline.model.fleet import Fleet

ALIAS = "alias/company"
KEY = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def key(aws):
    """A key of the account, which has an alias."""
    made = aws.kms.create_key()["KeyMetadata"]
    aws.kms.create_alias(AliasName=ALIAS, TargetKeyId=made["KeyId"])
    return made["Arn"]


def apply(fleet, aws):
    with Lock(aws, fleet.bucket, "a test") as lock:
        return list(apply_all(fleet, aws, lock))


def everything(fleet, key):
    return replace(fleet, kms_key=key, allow_list="dynamodb", claim_store="secretsmanager")


def keys_in_use(fleet, aws):
    """Return the KMS key of each thing that can have one, as AWS tells it."""
    buckets = {}
    for name in (fleet.bucket, fleet.lake_bucket):
        [rule] = aws.s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
        buckets[name] = rule["ApplyServerSideEncryptionByDefault"].get("KMSMasterKeyID")
    names = [each["Name"] for each in aws.secrets.list_secrets()["SecretList"]]
    secrets = {name: aws.secrets.describe_secret(SecretId=name).get("KmsKeyId") for name in names}
    table = (
        aws.dynamodb.describe_table(TableName=fleet.allow_list_table)["Table"]
        .get("SSEDescription", {})
        .get("KMSMasterKeyArn")
    )
    logs = {
        each["logGroupName"]: each.get("kmsKeyId")
        for each in aws.logs.describe_log_groups(logGroupNamePrefix="/aws/lambda")["logGroups"]
    }
    return {**buckets, **secrets, "table": table, **logs}


@pytest.mark.parametrize(
    "spelt", [lambda arn: arn, lambda arn: arn.rsplit("/", 1)[1], lambda _: ALIAS], ids=["arn", "id", "alias"]
)
def test_a_key_is_the_same_however_the_settings_and_aws_spell_it(aws, fleet, key, spelt):
    bucket = blueprint(replace(fleet, kms_key=spelt(key)))["bucket"].resource
    assert reconcile(bucket, aws).action is Action.CREATE
    for found in (key, key.rsplit("/", 1)[1], ALIAS, key.rsplit(":", 1)[0] + f":{ALIAS}"):
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": found}}
        aws.s3.put_bucket_encryption(Bucket=fleet.bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
        assert look(bucket, aws).changes == ()


def test_the_key_of_the_settings_encrypts_everything_that_a_fleet_makes(aws, fleet, key):
    fleet = everything(fleet, ALIAS)
    apply(fleet, aws)
    found = keys_in_use(fleet, aws)
    assert len(found) == 5
    assert {name for name, each in found.items() if each != key} == set()
    assert {step.action for step in plan_all(fleet, aws)} == {Action.UNCHANGED}


def test_a_fleet_that_stands_is_brought_to_the_key_with_the_key_of_its_claim_certificate_unharmed(aws, fleet, key):
    before = everything(fleet, "")
    apply(before, aws)
    life.rotate(before, aws)
    claim = read_claim(before, aws)
    after = everything(fleet, key)
    assert {step.title.split(" '")[0] for step in apply(after, aws) if step.action is not Action.UNCHANGED} == {
        "S3 bucket",
        "DynamoDB table",
        "claim certificate",
        "log group",
        "IAM role",
    }
    found = keys_in_use(after, aws)
    assert len(found) == 6  # the former claim certificate's secret, too
    assert {name for name, each in found.items() if each != key} == set()
    assert read_claim(after, aws) == claim
    assert {step.action for step in plan_all(after, aws)} == {Action.UNCHANGED}


def test_whoever_takes_the_key_away_is_seen_as_drift(aws, fleet, key):
    fleet = everything(fleet, key)
    apply(fleet, aws)
    other = aws.kms.create_key()["KeyMetadata"]["Arn"]
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": other}}
    aws.s3.put_bucket_encryption(Bucket=fleet.bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    aws.s3.delete_bucket_encryption(Bucket=fleet.lake_bucket)
    aws.dynamodb.update_table(
        TableName=fleet.allow_list_table, SSESpecification={"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": other}
    )
    [secret] = aws.secrets.list_secrets()["SecretList"]
    aws.secrets.update_secret(SecretId=secret["Name"], KmsKeyId=other)
    drifted = [step for step in plan_all(fleet, aws) if step.action is not Action.UNCHANGED]
    assert {(step.wanted.kind, *(change.field for change in step.changes)) for step in drifted} == {
        ("S3 bucket", "kms_key"),
        ("S3 bucket", "encryption", "kms_key"),
        ("DynamoDB table", "kms_key"),
        ("claim certificate", "kms_key"),
    }
    apply(fleet, aws)
    assert set(keys_in_use(fleet, aws).values()) == {key}


def test_a_log_that_lambda_has_made_before_gets_the_key(aws, fleet, key):
    log = blueprint(everything(fleet, key))["hook_log"].resource
    aws.logs.create_log_group(logGroupName=log.name)
    assert [change.field for change in look(log, aws).changes] == ["kms_key"]
    made = []

    def associate(params, **_):  # AWS on this machine does not know the call
        made.append(json.loads(params["body"]))
        aws.logs.delete_log_group(logGroupName=log.name)
        aws.logs.create_log_group(**made[-1])
        return AWSResponse("", 200, {}, None), {"ResponseMetadata": {}}

    answer(aws.logs, "AssociateKmsKey", associate)
    assert reconcile(log, aws).action is Action.UPDATE
    assert made == [{"logGroupName": log.name, "kmsKeyId": key}]


@pytest.mark.parametrize("algorithm", ["aws:kms", "aws:kms:dsse"])
def test_a_buckets_own_key_is_neither_drift_nor_changed_whatever_else_is(aws, fleet, key, algorithm):
    apply(fleet, aws)
    rule = {
        "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": algorithm, "KMSMasterKeyID": key},
        "BucketKeyEnabled": True,
    }
    aws.s3.put_bucket_encryption(Bucket=fleet.bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    assert {step.action for step in plan_all(fleet, aws)} == {Action.UNCHANGED}
    aws.s3.delete_public_access_block(Bucket=fleet.bucket)
    apply(replace(fleet, application="other"), aws)
    assert aws.s3.get_bucket_encryption(Bucket=fleet.bucket)["ServerSideEncryptionConfiguration"]["Rules"] == [rule]


def test_a_buckets_own_key_that_the_rules_may_not_use_is_reported_with_the_setting_that_lets_them(aws, fleet, key):
    apply(fleet, aws)
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}}
    aws.s3.put_bucket_encryption(Bucket=fleet.bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    today = date(2026, 11, 29)
    assert found_there(fleet, aws, today) == [(f"S3 bucket '{fleet.bucket}'", f"set FLEET_KMS_KEY={key}")]
    assert found_there(replace(fleet, kms_key=key), aws, today) == []


def found_there(fleet, aws, today):
    return [(where, found.fix) for where, found in reviewed(fleet, aws, today) if found.what != MISSING]


@pytest.mark.parametrize("state", ["disabled", "about to be deleted", "not there", "for signing"])
def test_a_key_that_cannot_encrypt_is_refused_by_plan_and_apply_before_anything_is_made(aws, fleet, key, state):
    if state == "disabled":
        aws.kms.disable_key(KeyId=key)
    if state == "about to be deleted":
        aws.kms.schedule_key_deletion(KeyId=key)
    if state == "for signing":
        key = aws.kms.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    fleet = replace(fleet, kms_key=KEY if state == "not there" else key)
    fresh = Aws(aws.region, aws.account, aws.endpoint_url)
    calls = watch(fresh.session)
    for action in (plan_all, apply):
        with pytest.raises(FleetError, match="FLEET_KMS_KEY"):
            action(fleet, fresh)
    assert calls.writing == []


def test_a_fleet_whose_key_is_lost_can_still_be_destroyed_and_the_key_stays(aws, fleet, key):
    fleet = everything(fleet, key)
    apply(fleet, aws)
    aws.kms.disable_key(KeyId=key)
    list(destroy(fleet, aws, confirmed=fleet.bucket, with_data=True))
    assert aws.logs.describe_log_groups()["logGroups"] == []
    assert aws.secrets.list_secrets()["SecretList"] == []
    assert aws.kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Disabled"


def test_the_exported_template_holds_the_key_for_all_that_it_makes():
    template = cloudformation(Fleet(kms_key=KEY, allow_list="dynamodb", own_ca="none"))
    assert template["Parameters"][KMS_KEY]["Default"] == f"arn:aws:kms:eu-central-1:123456789012:key/{KEY}"
    using = [name for name, each in template["Resources"].items() if json.dumps({"Ref": KMS_KEY}) in json.dumps(each)]
    assert sorted(using) == ["AllowListTable", "Bucket", "HookLog", "LakeBucket"]
    assert "HookLog" in template["Resources"]["Hook"]["DependsOn"]
    assert "Default" not in cloudformation(Fleet(kms_key=ALIAS))["Parameters"][KMS_KEY]
    assert KMS_KEY not in cloudformation(Fleet())["Parameters"]


WITH_KEY = Fleet(kms_key=ALIAS, allow_list="dynamodb", bulk_registration="on")


def test_each_role_of_the_fleet_may_use_the_key_for_what_it_does_through_that_service_and_no_more():
    rights = {}
    for part, resource in ((name, part.resource) for name, part in blueprint(WITH_KEY).items()):
        for document in resource.inline.values() if isinstance(resource, Role) else ():
            for each in document["Statement"]:
                if any(
                    action.startswith("kms:")
                    for action in ([each["Action"]] if isinstance(each["Action"], str) else each["Action"])
                ):
                    rights[part] = (each["Action"], each["Condition"]["StringEquals"]["kms:ViaService"])
                    assert each["Condition"]["ForAnyValue:StringEquals"] == {"kms:ResourceAliases": ALIAS}
    s3, table = "s3.eu-central-1.amazonaws.com", "dynamodb.eu-central-1.amazonaws.com"
    assert rights == {
        "rule_role": (["kms:GenerateDataKey"], [s3]),
        "rule_error_role": (["kms:GenerateDataKey"], [s3]),
        "hook_role": (["kms:Decrypt"], [table, s3]),
        "bulk_role": (["kms:Decrypt"], [s3]),
    }
    [bound] = [each for each in boundary_policy(WITH_KEY)["Statement"] if each["Sid"] == "TheFleetsKey"]
    assert {action for actions, _ in rights.values() for action in actions} == set(bound["Action"])


def test_without_a_key_no_document_speaks_of_kms_and_no_part_is_added():
    assert "kms" not in json.dumps([each.inline for each in resources(blueprint(Fleet())) if isinstance(each, Role)])
    assert "hook_log" not in blueprint(Fleet())
    with pytest.raises(InvalidSetting, match="FLEET_KMS_KEY"):
        key_policy(Fleet())


def test_the_keys_policy_lets_the_accounts_policies_decide_through_three_services_and_cloudwatch_logs_encrypt_two_logs():
    printed = CliRunner().invoke(
        fleet_command, ["iam", "kms"], env={"FLEET_KMS_KEY": KEY, "FLEET_REGION": "cn-north-1"}
    )
    seen, used, logs = json.loads(printed.output)["Statement"]
    assert seen["Principal"] == used["Principal"] == {"AWS": "arn:aws-cn:iam::123456789012:root"}
    assert used["Condition"]["StringEquals"]["kms:ViaService"] == [
        f"{each}.cn-north-1.amazonaws.com.cn" for each in ("s3", "dynamodb", "secretsmanager")
    ]
    assert logs["Principal"] == {"Service": "logs.cn-north-1.amazonaws.com.cn"}
    wanted = blueprint(Fleet(kms_key=KEY, region="cn-north-1"))["hook_log"].resource.arn
    assert wanted in logs["Condition"]["ArnEquals"]["kms:EncryptionContext:aws:logs:arn"]


@pytest.mark.parametrize(
    "key",
    [
        "alias/aws/s3",
        "key",
        "arn:aws:kms:us-east-1:123456789012:key/" + KEY,
        "arn:aws:kms:eu-central-1:123456789012:key/x",
        f"key/{KEY}",
    ],
)
def test_what_is_no_key_of_the_region_is_refused(key):
    with pytest.raises(InvalidSetting, match="FLEET_KMS_KEY"):
        Fleet(kms_key=key)


def test_secrets_of_former_claim_certificates_are_compared_too(aws, fleet, key):
    fleet = everything(fleet, key)
    apply(fleet, aws)
    life.rotate(fleet, aws)
    claims = Claims.of(fleet)
    [former] = [each for each in held(claims, aws) if not each.current]
    other = aws.kms.create_key()["KeyMetadata"]["Arn"]
    replace(claims, keys=replace(claims.keys, kms_key=other)).keys.encrypt(aws, former.certificate_pem)
    assert [step.wanted.kind for step in plan_all(fleet, aws) if step.action is not Action.UNCHANGED] == [
        "claim certificate"
    ]
