"""The roles that this package runs as: each may do all that its code does, and nothing that it must not."""

import base64
import copy
import json
import re
import uuid
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import boto3
import botocore.session
import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from click.testing import CliRunner
from iam_documents import documents

from fleet_pipeline.account import Account
from fleet_pipeline.aws.clients import Aws, doing, error_code
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.cli.main import fleet_command
from fleet_pipeline.cloud.blueprint import blueprint, resources
from fleet_pipeline.cloud.documents.iam import (
    PROVISIONER,
    boundary_policy,
    compaction_policy,
    erasure_policy,
    provisioner_policies,
    replay_policy,
    retention_policy,
    virtual_vehicle_policy,
)
from fleet_pipeline.cloud.operations.leftovers import leftovers
from fleet_pipeline.cloud.reconcile import Action, reconcile, remove
from fleet_pipeline.lake.analytics.vehicles import rolled_up, seen
from fleet_pipeline.lake.catalog.tables import database, table
from fleet_pipeline.lake.contract import Contract
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.replay import replay, waiting
from fleet_pipeline.lake.privacy.places import FUNCTION_LOGS, NoHistory
from fleet_pipeline.lake.privacy.retention import age_out
from fleet_pipeline.model.errors import AwsRefused, InvalidSetting
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.names import log_of
from fleet_pipeline.model.rule import RawName
from fleet_pipeline.model.rule_table import RuleTable
from fleet_pipeline.model.thing import ThingTable
from fleet_pipeline.personal_data import Order, erase_vehicle
from fleet_pipeline.places import places
from fleet_pipeline.virtual_vehicle import tried

FLEET, HOUR = Fleet(role_boundary="own"), Hour.parse("2026-11-23-07:00")
SOURCE = Path(__file__).parents[2] / "fleet_pipeline"

UNLIKE_THE_API = {
    "s3:DeleteBucketLifecycle": "s3:PutLifecycleConfiguration",
    "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "s3:GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "s3:GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:PutBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "s3:DeleteObjects": "s3:DeleteObject",
}
"""Actions that are not named as their call is. Source: Service Authorization Reference, Amazon S3."""

WAITERS = {
    "function_active_v2": "lambda:GetFunction",
    "function_updated_v2": "lambda:GetFunction",
    "table_exists": "dynamodb:DescribeTable",
}

NOT_THE_PROVISIONERS = {"sts:GetCallerIdentity"}
"""Needs no permission."""

THE_ERASURES = {"logs:DescribeLogStreams", "logs:DeleteLogStream"}
"""What the functions' logs hold of a vehicle is looked for, and removed, with the erasure's policy."""

COMPANY = {
    "tags": (("cost-centre", "42"),),
    "role_path": "/cars/",
    "log_retention_days": 30,
    "hook_concurrency": 5,
    "hook_dead_letters": "arn:aws:sqs:eu-central-1:123456789012:cdk-dead-letters",
    "hook_subnets": ("subnet-0123456789abcdef0",),
    "hook_security_groups": ("sg-0123456789abcdef0",),
    "access_log_bucket": "cdk-access-logs",
    "thing": ThingTable(type="cdk-car", groups=("cdk-cars",), billing_group="cdk-cars"),
}
EVERY_CHOICE = {
    "allow_list": "dynamodb",
    "claim_store": "secretsmanager",
    "own_ca": "jitr",
    "bulk_registration": "on",
    "kms_key": "alias/company",
    **COMPANY,
}
SETTINGS = [{}, {"allow_list": "s3"}, {"allow_list": "dynamodb"}, COMPANY, EVERY_CHOICE]


def at_once(_seconds):
    """A denial is final: nothing is waited for."""


def actions(document):
    return {action for statement in document["Statement"] for action in listed(statement["Action"])}


def allowed_by(document):
    return {
        action
        for statement in document["Statement"]
        if statement["Effect"] == "Allow"
        for action in listed(statement["Action"])
    }


def listed(said):
    return [said] if isinstance(said, str) else said


def provisioner_of(aws, fleet):
    """Return the clients of a role that has the provisioner's policies, in an account in which an administrator made the boundary."""
    aws.iam.create_policy(
        PolicyName=fleet.boundary_arn.rsplit("/", 1)[1], PolicyDocument=json.dumps(boundary_policy(fleet))
    )
    return acting_as(aws, fleet, *map(as_the_emulator_checks, provisioner_policies(fleet).values()))


def acting_as(aws, fleet, *documents):
    """Return the clients of a role that has these policies and no others."""
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": fleet.role_arn("x").replace("role/x", "root")},
                "Action": "sts:AssumeRole",
            }
        ],
    }
    aws.iam.create_role(RoleName="someone", AssumeRolePolicyDocument=json.dumps(trust))
    for number, document in enumerate(documents):
        named = aws.iam.create_policy(PolicyName=f"part-{number}", PolicyDocument=json.dumps(document))["Policy"]["Arn"]
        aws.iam.attach_role_policy(RoleName="someone", PolicyArn=named)
    given = aws.sts.assume_role(RoleArn=fleet.role_arn("someone"), RoleSessionName="someone")["Credentials"]
    someone = Aws(aws.region, aws.account, aws.endpoint_url)
    session = boto3.Session(
        given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], region_name=fleet.region
    )
    someone.__dict__["session"] = session
    return someone


NOT_LOOKED_UP = {"iam:PolicyARN", "iam:PermissionsBoundary", "lambda:Principal"}
"""Conditions that the emulator does not fill in when it is called. `test_iam_escalation.py` gives its evaluator their values."""


def as_the_emulator_checks(document):
    """Return the policy with what the emulator does not look up: names that stand in a call's body or headers, and some conditions."""
    relaxed = copy.deepcopy(document)
    for statement in relaxed["Statement"]:
        if {key for keys in statement.get("Condition", {}).values() for key in keys} & NOT_LOOKED_UP:
            del statement["Condition"]
    names = [
        "dynamodb:ListTagsOfResource",
        "dynamodb:TagResource",
        "iot:AttachPolicy",
        "iot:DetachPolicy",
        "glue:DeleteDatabase",
        "glue:GetDatabase",
        "iot:CreateProvisioningTemplate",
        "iot:ListAttachedPolicies",
        "iot:DetachThingPrincipal",
        "iot:ListPrincipalThings",
        "iot:ListTargetsForPolicy",
        "lambda:CreateFunction",
    ]
    relaxed["Statement"].append({"Effect": "Allow", "Action": names, "Resource": "*"})
    return relaxed


def denied(attack):
    try:
        attack()
    except ClientError as error:
        return "AccessDenied" in error_code(error)
    return False


def test_the_provisioner_makes_changes_and_removes_everything_with_its_policy_alone(aws, fleet):
    fleet = replace(fleet, allow_list="dynamodb", role_boundary="own")
    provisioner = provisioner_of(aws, fleet)
    lake = Lake(S3Store(aws, fleet.lake_bucket), fleet.parquet_prefix)
    tables = [database(fleet), *(table(fleet, lake, rule, Contract()) for rule in fleet.rules)]
    wanted = [*resources(blueprint(fleet)), *tables]
    assert {reconcile(each, provisioner, sleep=at_once).action for each in wanted} == {Action.CREATE}
    other = replace(
        fleet,
        application="other",
        hook_runtime="python3.12",
        serial_prefix="29746",
        claim_client_prefix="new-",
        raw_key_format="timestamp",
    )
    done = [reconcile(each, provisioner, sleep=at_once) for each in resources(blueprint(other))]
    assert {"IAM role", "Lambda function", "IoT policy", "topic rule", "S3 bucket"} <= {
        step.wanted.kind for step in done if step.action is Action.UPDATE
    }
    assert {remove(each, provisioner, sleep=at_once).action for each in reversed(wanted)} == {Action.DELETE}


def test_a_role_without_a_boundary_is_put_into_it_before_anything_else_of_it_is_changed(aws, fleet):
    unbound, bound = (
        blueprint(each)["hook_role"].resource
        for each in (fleet, replace(fleet, role_boundary="own", serial_prefix="29746"))
    )
    reconcile(unbound, aws)
    provisioner, calls = provisioner_of(aws, replace(fleet, role_boundary="own")), []
    provisioner.iam.meta.events.register("before-call.iam", lambda model, **_: calls.append(model.name))
    step = reconcile(bound, provisioner, sleep=at_once)
    assert step.action is Action.UPDATE
    assert [call for call in calls if call.startswith(("Put", "Update"))] == [
        "PutRolePermissionsBoundary",
        "PutRolePolicy",
    ]
    assert (
        aws.iam.get_role(RoleName=bound.name)["Role"]["PermissionsBoundary"]["PermissionsBoundaryArn"] == bound.boundary
    )


def test_a_boundary_that_others_set_stays_where_none_is_wanted(aws, fleet):
    bound = blueprint(replace(fleet, role_boundary="own"))["hook_role"].resource
    aws.iam.create_policy(
        PolicyName=bound.boundary.rsplit("/", 1)[1], PolicyDocument=json.dumps(boundary_policy(fleet))
    )
    reconcile(bound, aws)
    unbound = blueprint(replace(fleet, serial_prefix="29746"))["hook_role"].resource
    assert reconcile(unbound, aws).action is Action.UPDATE
    assert reconcile(unbound, aws).action is Action.UNCHANGED
    assert (
        aws.iam.get_role(RoleName=bound.name)["Role"]["PermissionsBoundary"]["PermissionsBoundaryArn"] == bound.boundary
    )


def test_the_provisioner_finds_and_deletes_what_left_the_settings_and_not_what_others_made(aws, fleet):
    provisioner = acting_as(
        aws, fleet, *provisioner_policies(replace(fleet, rule_keys=("rule1",), role_boundary="own")).values()
    )
    for name in ("bucket", "rule_role", "rule_error_role", "topic_rule_rule2"):
        reconcile(blueprint(fleet)[name].resource, aws)
    aws.iot.create_topic_rule(
        ruleName="theirs_rule", topicRulePayload={"sql": "SELECT * FROM 'theirs/rule'", "actions": []}
    )
    [step] = leftovers(replace(fleet, rule_keys=("rule1",)), provisioner)
    assert remove(step.wanted, provisioner).action is Action.DELETE
    assert denied(lambda: provisioner.iot.delete_topic_rule(ruleName="theirs_rule"))


def test_the_provisioner_can_do_nothing_else(aws, fleet):
    provisioner = acting_as(aws, fleet, *provisioner_policies(replace(fleet, role_boundary="own")).values())
    for name in ("bucket", "lake_bucket"):
        reconcile(blueprint(fleet)[name].resource, aws)
    aws.s3.put_object(Bucket=fleet.bucket, Key=f"{fleet.rules[0].raw_prefix}1795442400123", Body=b"{}")
    attacks = [
        lambda: provisioner.s3.get_object(Bucket=fleet.bucket, Key=f"{fleet.rules[0].raw_prefix}1795442400123"),
        lambda: provisioner.s3.delete_object(Bucket=fleet.bucket, Key=f"{fleet.rules[0].raw_prefix}1795442400123"),
        lambda: provisioner.s3.put_object(Bucket=fleet.lake_bucket, Key="lake/x", Body=b"", IfNoneMatch="*"),
        lambda: provisioner.s3.create_bucket(
            Bucket=f"other-{fleet.bucket}"[:60], CreateBucketConfiguration={"LocationConstraint": fleet.region}
        ),
        lambda: provisioner.iam.create_role(RoleName="other", AssumeRolePolicyDocument="{}"),
        lambda: provisioner.iam.put_role_policy(RoleName="someone", PolicyName="more", PolicyDocument="{}"),
        lambda: provisioner.iam.create_user(UserName="other"),
        lambda: provisioner.iot.create_policy(policyName="other", policyDocument="{}"),
        lambda: provisioner.iot.delete_topic_rule(ruleName="other"),
        lambda: provisioner.functions.delete_function(FunctionName="other"),
        lambda: provisioner.glue.delete_database(Name="other"),
    ]
    assert [number for number, attack in enumerate(attacks) if not denied(attack)] == []


def test_compaction_does_its_work_with_its_policy_alone(aws, fleet):
    for name in ("bucket", "lake_bucket"):
        reconcile(blueprint(fleet)[name].resource, aws)
    rule = fleet.rules[0]
    key = rule.raw_key(RawName(HOUR.start_ms, str(uuid.uuid4())))
    aws.s3.put_object(Bucket=fleet.bucket, Key=key, Body=b'{"serial": "297468000001", "speed_kmh": 48.2}')
    aws.s3.put_object(Bucket=fleet.bucket, Key="claim-certificate/claim.private.key", Body=b"secret")
    someone = acting_as(aws, fleet, as_the_emulator_checks(compaction_policy(fleet)))
    lake = Lake(S3Store(someone, fleet.lake_bucket), fleet.parquet_prefix)
    assert compact_hour(S3Store(someone, fleet.bucket), lake, rule, HOUR).rows == 1
    assert seen(fleet, lake, HOUR).rows.num_rows == 1
    assert rolled_up(lake.store, date(2026, 11, 23)).rows.num_rows == 1
    for each in (database(fleet), table(fleet, lake, rule, lake.contract(rule))):
        assert reconcile(each, someone, sleep=at_once).action is Action.CREATE
    part = lake.parts(rule, HOUR)[0].key
    attacks = [
        lambda: someone.s3.delete_object(Bucket=fleet.bucket, Key=key),
        lambda: someone.s3.put_object(Bucket=fleet.bucket, Key=key, Body=b"{}"),
        lambda: someone.s3.get_object(Bucket=fleet.bucket, Key="claim-certificate/claim.private.key"),
        lambda: someone.s3.delete_object(Bucket=fleet.lake_bucket, Key=part),
        lambda: someone.glue.delete_table(DatabaseName=fleet.database, Name=rule.key),
        someone.iot.list_things,
    ]
    assert [number for number, attack in enumerate(attacks) if not denied(attack)] == []


def test_the_virtual_vehicle_registers_publishes_and_leaves_nothing_with_its_policy_alone_in_a_fleet_within_its_boundary(
    aws, make_fleet
):
    fleet = make_fleet(role_boundary="own", rule_keys=("rule1",), allow_list="dynamodb", claim_store="secretsmanager")
    account = Account.of(fleet)
    account.aws.iam.create_policy(
        PolicyName=fleet.boundary_arn.rsplit("/", 1)[1], PolicyDocument=json.dumps(boundary_policy(fleet))
    )
    for resource in resources(blueprint(fleet)):
        reconcile(resource, account.aws)
    someone, theirs = (
        acting_as(account.aws, fleet, as_the_emulator_checks(virtual_vehicle_policy(fleet))),
        Account.of(fleet),
    )
    theirs.__dict__["aws"] = someone
    assert [trial for trial in tried(fleet, theirs) if not trial.so] == []
    assert account.aws.iot.list_things()["things"] == []
    assert account.aws.s3.list_object_versions(Bucket=fleet.bucket, Prefix=fleet.raw_prefix).get("Versions", []) == []
    assert denied(lambda: someone.s3.delete_object(Bucket=fleet.bucket, Key="claim-certificate/claim.pem"))
    assert denied(lambda: someone.iot.delete_thing(thingName="test-thing-297468000001"))


def test_a_replay_does_its_work_with_its_policy_alone(aws, fleet):
    reconcile(blueprint(fleet)["bucket"].resource, aws)
    rule, message = fleet.rules[0], b'{"serial": "297468000001"}'
    report = {
        "ruleName": rule.aws_name,
        "topic": rule.topic,
        "base64OriginalPayload": base64.b64encode(message).decode(),
        "failures": [],
    }
    reported = f"{fleet.report_prefix(rule)}{HOUR.start_ms}-{uuid.uuid4()}"
    aws.s3.put_object(Bucket=fleet.bucket, Key=reported, Body=json.dumps(report).encode())
    S3Store(aws, fleet.bucket).put_new(
        f"{rule.raw_prefix}{HOUR.start_ms}", b"{}"
    )  # the proof of the store is the administrator's here: AWS needs none
    someone = acting_as(aws, fleet, as_the_emulator_checks(replay_policy(fleet)))
    assert waiting(fleet, someone, rule).reports == 1
    assert replay(fleet, someone, rule).returned == 1
    assert waiting(fleet, someone, rule).reports == 0
    assert denied(lambda: someone.s3.list_objects_v2(Bucket=fleet.bucket))
    assert denied(lambda: someone.s3.get_object(Bucket=fleet.bucket, Key=f"{rule.raw_prefix}{HOUR.start_ms}"))


def test_a_vehicle_is_erased_with_the_erasures_policy_alone_and_the_record_of_it_stays(aws, fleet):
    for name in ("bucket", "lake_bucket"):
        reconcile(blueprint(fleet)[name].resource, aws)
    rule, store = fleet.rules[0], S3Store(aws, fleet.bucket)
    for number in range(2):
        body = json.dumps({"serial": f"29746800000{number}", "speed_kmh": 48.2}).encode()
        store.put_new(rule.raw_key(RawName(HOUR.start_ms + number, str(uuid.uuid4()))), body)
    S3Store(aws, fleet.bucket).prove()
    lake = Lake(S3Store(aws, fleet.lake_bucket), fleet.parquet_prefix)
    compact_hour(store, lake, rule, HOUR)
    seen(fleet, lake, HOUR)
    aws.iot.create_thing(thingName=fleet.thing_name("297468000001"))
    someone = acting_as(aws, fleet, as_the_emulator_checks(erasure_policy(fleet)))
    theirs = Account.of(fleet)
    theirs.__dict__["aws"] = someone
    group = log_of(fleet.hook_name)
    aws.logs.create_log_group(logGroupName=group)
    aws.logs.create_log_stream(logGroupName=group, logStreamName="one")
    event = {"timestamp": int(datetime.now(UTC).timestamp() * 1000), "message": '{"serial": "297468000001"}'}
    aws.logs.put_log_events(logGroupName=group, logStreamName="one", logEvents=[event])
    order = Order("297468000001", with_thing=True, with_logs=True)
    erased = erase_vehicle(replace(fleet, iceberg="off"), theirs, order, confirm="297468000001")
    assert (erased.clean, erased.removed.messages, erased.removed.rows) == (True, 1, 1)
    assert aws.iot.list_things()["things"] == []
    assert "1 streams that are in use stay" in erased.elsewhere[FUNCTION_LOGS]
    attacks = [
        lambda: someone.s3.delete_object(Bucket=fleet.lake_bucket, Key=erased.certificate),
        lambda: someone.s3.delete_object(Bucket=fleet.bucket, Key="claim-certificate/claim.pem"),
        lambda: someone.s3.get_object(Bucket=fleet.bucket, Key="claim-certificate/claim.private.key"),
        lambda: someone.iot.delete_thing(thingName="another-thing"),
    ]
    assert [number for number, attack in enumerate(attacks) if not denied(attack)] == []


def test_what_is_too_old_goes_with_the_retentions_policy_alone_and_nothing_can_be_written_with_it(aws, fleet):
    fleet = replace(fleet, iceberg="off", raw_retention_days=1, lake_retention_days=1, derived_retention_days=1)
    for name in ("bucket", "lake_bucket"):
        reconcile(blueprint(fleet)[name].resource, aws)
    rule, store = fleet.rules[0], S3Store(aws, fleet.bucket)
    store.put_new(rule.raw_key(RawName(HOUR.start_ms, str(uuid.uuid4()))), b'{"serial": "297468000001"}')
    lake = Lake(S3Store(aws, fleet.lake_bucket), fleet.parquet_prefix)
    compact_hour(store, lake, rule, HOUR)
    part = lake.parts(rule, HOUR)[0].key
    record = f"{fleet.parquet_prefix}/_erasures/runs/one/certificate-00000.json"
    lake.store.put_new(record, b"a record")
    seen(fleet, lake, HOUR)
    someone = acting_as(aws, fleet, as_the_emulator_checks(retention_policy(fleet)))
    attacks = [
        lambda: someone.s3.put_object(Bucket=fleet.lake_bucket, Key=part, Body=b""),
        lambda: someone.s3.put_object(Bucket=fleet.bucket, Key=f"{rule.raw_prefix}{HOUR.start_ms}", Body=b""),
        lambda: someone.s3.delete_object(Bucket=fleet.lake_bucket, Key=record),
        lambda: someone.s3.delete_object(Bucket=fleet.bucket, Key="claim-certificate/claim.pem"),
        lambda: someone.s3.get_object(Bucket=fleet.bucket, Key="claim-certificate/claim.private.key"),
    ]
    assert [number for number, attack in enumerate(attacks) if not denied(attack)] == []
    there = places(fleet, with_clients(fleet, someone), NoHistory())
    gone = age_out(there, HOUR.end + timedelta(days=3))
    assert (gone.in_the_way, gone.raw_versions, gone.lake_hours, gone.days) == ([], 1, 1, 1)
    assert record in [version.key for page in lake.store.versions("lake/") for version in page]


def with_clients(fleet, someone):
    theirs = Account.of(fleet)
    theirs.__dict__["aws"] = someone
    return theirs


def test_a_denial_is_not_taken_for_a_role_that_is_still_spreading(aws, fleet):
    provisioner = acting_as(aws, fleet, *provisioner_policies(replace(fleet, role_boundary="own")).values())
    with pytest.raises(AwsRefused, match="assumed-role") as denied, doing("list the keys"):
        provisioner.s3.list_buckets()
    assert not denied.value.retryable


FURTHER = RuleTable(
    key="further",
    actions=(
        {"lambda": {"functionArn": "arn:aws:lambda:eu-central-1:123456789012:function:f"}},
        {"kafka": {"destinationArn": "arn:aws:iot:eu-central-1:123456789012:ruledestination/vpc/1", "topic": "t"}},
    ),
)


def test_every_call_in_the_source_is_in_the_provisioners_policy():
    """Every `aws.service.call(…)` that provisioning and the catalog can make, found in their source, whether a test makes it or not."""
    session = botocore.session.get_session()
    services = {
        "iot": "iot",
        "iam": "iam",
        "functions": "lambda",
        "s3": "s3",
        "dynamodb": "dynamodb",
        "logs": "logs",
        "sts": "sts",
        "glue": "glue",
        "secrets": "secretsmanager",
        "kms": "kms",
    }
    calls = {
        service: {xform_name(name): name for name in session.get_service_model(service).operation_names}
        for service in services.values()
    }
    needed = set()
    for file in [
        *(SOURCE / "cloud").rglob("*.py"),
        *(SOURCE / "lake" / "catalog").rglob("*.py"),
        SOURCE / "aws" / "objects.py",
        SOURCE / "lake" / "operations" / "replay.py",
    ]:
        text = file.read_text()
        for client, call in re.findall(r"aws\.(\w+)\.(?:get_paginator\(\")?(\w+)", text):
            if client in services and call in calls[services[client]]:
                action = f"{services[client]}:{calls[services[client]][call]}"
                needed.add(UNLIKE_THE_API.get(action, action))
        needed |= {WAITERS[name] for name in re.findall(r"get_waiter\(\"(\w+)\"", text)}
    allowed = {
        action
        for document in provisioner_policies(replace(FLEET, **EVERY_CHOICE, rule_tables=(FURTHER,))).values()
        for action in allowed_by(document)
    }
    assert len(needed) > 60
    assert needed - allowed - NOT_THE_PROVISIONERS == THE_ERASURES
    assert set(allowed_by(erasure_policy(FLEET))) >= THE_ERASURES


WITHOUT_A_NAME = (
    "WhatHasNoResource",
    "WhatRegistrationMayAsk",
    "FindLogs",
    "FindTheNetwork",
    "FindInterfaces",
    "ChangeInterfaces",
    "MakeInterfaces",
)
"""Statements about actions for which AWS takes no resource, and what a boundary lets AWS IoT read of the groups and types of others."""


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_policies_name_this_fleets_resources(settings):
    for document in documents(replace(FLEET, **settings)).values():
        assert not any("*" in action for action in actions(document))
        for statement in document["Statement"]:
            tagged = (
                statement.get("Condition", {}).get("StringEquals", {}).get("aws:ResourceTag/fleet_pipeline:stack")
                == FLEET.prefix
            )
            if statement["Sid"] not in WITHOUT_A_NAME and not tagged:
                names = [
                    arn
                    for arn in listed(statement["Resource"])
                    if statement["Sid"] != "WhoseTheyAre" or not arn.endswith(":rule/*")
                ]
                assert "kms" not in str(statement["Action"]) or statement["Condition"]["ForAnyValue:StringEquals"] == {
                    "kms:ResourceAliases": "alias/company"
                }
                assert all(
                    re.search(r"cdk|test-thing-|test_rule_|:(ca)?cert/|:catalog$|:key/\*$", arn) for arn in names
                ), statement


def test_nobody_may_delete_messages_or_parts_of_the_lake_but_the_virtual_vehicle_its_own_and_who_erases_or_removes_what_is_old():
    old = [
        f"arn:aws:s3:::{FLEET.bucket}/{FLEET.raw_prefix}/*",
        f"arn:aws:s3:::{FLEET.lake_bucket}/lake/v*/rule=*",
        f"arn:aws:s3:::{FLEET.lake_bucket}/lake/_iceberg/*",
        f"arn:aws:s3:::{FLEET.lake_bucket}/vehicles_hourly/*",
        f"arn:aws:s3:::{FLEET.lake_bucket}/vehicles_daily/*",
    ]
    own = [f"arn:aws:s3:::{FLEET.bucket}/{prefix}/*" for prefix in ("allow-list", "claim-certificate", "provisioning")]
    may_delete = {
        "provisioner storage": own,
        "compaction": [f"arn:aws:s3:::{FLEET.lake_bucket}/lake/_iceberg/*"],
        "erasure": [
            f"arn:aws:s3:::{FLEET.bucket}/{FLEET.raw_prefix}/*",
            f"arn:aws:s3:::{FLEET.bucket}/errors/*",
            f"arn:aws:s3:::{FLEET.lake_bucket}/lake/v*/rule=*",
            f"arn:aws:s3:::{FLEET.lake_bucket}/lake/_iceberg/*",
            f"arn:aws:s3:::{FLEET.lake_bucket}/vehicles_hourly/*",
            f"arn:aws:s3:::{FLEET.lake_bucket}/vehicles_daily/*",
            f"arn:aws:s3:::{FLEET.lake_bucket}/lake/_verdicts/*",
        ],
        "replay": [f"arn:aws:s3:::{FLEET.bucket}/errors/*"],
        "retention": old,
        "virtual-vehicle": [f"arn:aws:s3:::{FLEET.bucket}/{FLEET.raw_prefix}/*"],
    }
    found: dict[str, list[str]] = {}
    for name, document in documents(FLEET).items():
        for statement in document["Statement"]:
            if any(action.startswith("s3:DeleteObject") for action in listed(statement["Action"])):
                found.setdefault(name, []).extend(listed(statement["Resource"]))
    assert found == may_delete


def test_compaction_may_list_messages_and_nothing_else_of_their_bucket():
    [listing] = [
        each for each in compaction_policy(FLEET)["Statement"] if each["Resource"] == f"arn:aws:s3:::{FLEET.bucket}"
    ]
    assert listing["Condition"] == {"StringLike": {"s3:prefix": f"{FLEET.raw_prefix}/*"}}


def test_the_one_managed_policy_that_may_be_attached_is_the_blueprints():
    [managed] = blueprint(FLEET)["provisioning_role"].resource.managed
    [statement] = [each for each in PROVISIONER["roles"](FLEET)["Statement"] if each["Sid"] == "AttachOneManagedPolicy"]
    assert statement["Condition"]["ArnEquals"] == {"iam:PolicyARN": managed}


@pytest.mark.parametrize("command", documents(FLEET))
def test_the_command_prints_the_document(command):
    env = {"FLEET_SERVICE": "cars", "FLEET_ROLE_BOUNDARY": "own"}
    printed = CliRunner().invoke(fleet_command, ["iam", *command.split()], env=env)
    assert json.loads(printed.output) == documents(replace(FLEET, service="cars"))[command]


def test_no_rights_to_make_roles_are_printed_for_a_fleet_without_a_boundary():
    with pytest.raises(InvalidSetting, match="FLEET_ROLE_BOUNDARY=own"):
        PROVISIONER["roles"](replace(FLEET, role_boundary=""))


@pytest.mark.parametrize("catalog", ["off", "sql", "glue"])
def test_who_compacts_deletes_icebergs_metadata_alone_and_only_where_there_is_a_catalog(catalog):
    place = {"iceberg_namespace": "tables"} if catalog == "glue" else {}
    statements = compaction_policy(replace(FLEET, iceberg=catalog, **place))["Statement"]
    deleting = [each for each in statements if any("Delete" in action for action in each["Action"])]
    metadata = {
        "Sid": "RemoveUnusedIcebergMetadata",
        "Effect": "Allow",
        "Action": ["s3:DeleteObjectVersion"],
        "Resource": f"arn:aws:s3:::{FLEET.lake_bucket}/{FLEET.parquet_prefix}/_iceberg/*",
    }
    assert deleting == ([] if catalog == "off" else [metadata])
    reached = {resource for each in statements for resource in each["Resource"] if "/tables" in resource}
    assert bool(reached) is (catalog == "glue")
