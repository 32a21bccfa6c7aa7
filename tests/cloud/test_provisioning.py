"""Every resource of the blueprint: made once, left alone, repaired by name where it drifts, removed, and never taken from others.

One table of the kinds of drift covers every resource: a new one joins the table and inherits every promise.
"""

import io
import json
import zipfile
from dataclasses import dataclass, fields, replace

import pytest
from aws_calls import Calls, watch

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.blueprint import Blueprint, blueprint
from fleet_pipeline.cloud.claims.certificates import read_claim
from fleet_pipeline.cloud.claims.keys import PRIVATE_KEY
from fleet_pipeline.cloud.claims.making import INTENT
from fleet_pipeline.cloud.enrolment.allow_list import AllowListTable
from fleet_pipeline.cloud.kinds.attachment import PolicyAttachment
from fleet_pipeline.cloud.kinds.bucket import Bucket
from fleet_pipeline.cloud.kinds.claim_certificate import ClaimCertificate
from fleet_pipeline.cloud.kinds.function import Function
from fleet_pipeline.cloud.kinds.iot_policy import IotPolicy
from fleet_pipeline.cloud.kinds.permission import InvokePermission
from fleet_pipeline.cloud.kinds.role import Role
from fleet_pipeline.cloud.kinds.template import Template
from fleet_pipeline.cloud.kinds.topic_rule import TopicRule
from fleet_pipeline.cloud.reconcile import Action, declared, plan, reconcile, remove
from fleet_pipeline.cloud.tags import spelled
from fleet_pipeline.model.errors import CannotChange, NotOurs
from fleet_pipeline.model.fleet import Fleet

OPTIONAL = {"allow_list": "dynamodb", "bulk_registration": "on"}
EVERY_RESOURCE = replace(Fleet(), **OPTIONAL)
PARTS = blueprint(EVERY_RESOURCE)

each_part = pytest.mark.parametrize("part", PARTS)


@dataclass(frozen=True)
class Stack:
    """A fleet, its account, and what was asked of AWS."""

    fleet: Fleet
    aws: Aws
    calls: Calls

    @property
    def parts(self) -> Blueprint:
        return blueprint(self.fleet)

    def resource(self, part):
        return self.parts[part].resource


@pytest.fixture(scope="module")
def new_stack(make_fleet, local_aws):
    def make():
        fleet = make_fleet(**OPTIONAL)
        aws = Aws(fleet.region, fleet.account, local_aws.url)
        return Stack(fleet, aws, watch(aws.session))

    return make


@pytest.fixture(scope="module")
def stack(new_stack):
    """One stack that stands for the whole file; a test that changes something puts it back."""
    stack = new_stack()
    for part in stack.parts.values():
        reconcile(part.resource, stack.aws)
    return stack


RUNS = {
    "first run": (reconcile, 1, Action.CREATE),
    "second run": (reconcile, 1, Action.UNCHANGED),
    "removal": (remove, -1, Action.DELETE),
    "second removal": (remove, -1, Action.ABSENT),
}


@pytest.fixture(scope="module")
def lifetime(new_stack):
    """What each run did to each part, with the writing calls that it made."""
    stack, seen = new_stack(), {}
    for run, (action, direction, _) in RUNS.items():
        for name, part in list(stack.parts.items())[::direction]:
            stack.calls.made.clear()
            seen[run, name] = action(part.resource, stack.aws), stack.calls.writing
    return stack, seen


@each_part
@pytest.mark.parametrize("run", RUNS)
def test_a_resource_is_created_then_unchanged_then_removed_then_absent(lifetime, run, part):
    step, writing = lifetime[1][run, part]
    assert step.action is RUNS[run][2]
    assert bool(writing) == (step.action in {Action.CREATE, Action.DELETE})


def test_after_the_removal_nothing_is_left(lifetime):
    aws = lifetime[0].aws
    assert aws.iot.list_policies()["policies"] == []
    assert aws.iot.list_certificates()["certificates"] == []
    assert aws.iot.list_provisioning_templates()["templates"] == []
    assert aws.iot.list_topic_rules()["rules"] == []
    assert aws.iam.list_roles()["Roles"] == []
    assert aws.functions.list_functions()["Functions"] == []
    assert aws.dynamodb.list_tables()["TableNames"] == []
    assert aws.s3.list_buckets()["Buckets"] == []


FIRST_THEN = [
    ("hook_role", "hook"),
    ("allow_list_table", "hook"),
    ("hook", "hook_permission"),
    ("hook_permission", "provisioning_template"),
    ("provisioning_role", "provisioning_template"),
    ("device_policy", "provisioning_template"),
    ("bucket", "claim_certificate"),
    ("claim_certificate", "claim_attachment"),
    ("claim_policy", "claim_attachment"),
    ("bucket", "rule_role"),
    *((role, f"topic_rule_{key}") for role in ("rule_role", "rule_error_role") for key in EVERY_RESOURCE.rule_keys),
]
"""AWS's own order: what is on the left is asked for when what is on the right is made."""


@pytest.mark.parametrize(("first", "then"), FIRST_THEN)
def test_a_resource_is_made_after_those_that_aws_asks_for(first, then):
    order = list(PARTS)
    assert order.index(first) < order.index(then)


OTHER_DOCUMENT = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}]}
OTHER_TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
OTHER_TAG = {"fleet_pipeline:application": "another"}
OTHER_TAGS = spelled(OTHER_TAG)
BEGUN = json.dumps({"attempt": "of someone who was stopped", "since": 0, "before": []}).encode()


def other_code():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(
            "lambda_function.py", "def lambda_handler(event, context):\n    return {'allowProvisioning': True}\n"
        )
    return buffer.getvalue()


def configure(**changed):
    return lambda aws, it: aws.functions.update_function_configuration(FunctionName=it.name, **changed)


def without_statements(aws, it):
    for statement in json.loads(aws.functions.get_policy(FunctionName=it.name)["Policy"])["Statement"]:
        aws.functions.remove_permission(FunctionName=it.name, StatementId=statement["Sid"])


def permit(**changed):
    def inject(aws, it):
        said = {
            "Action": it.action,
            "Principal": it.principal,
            "SourceArn": it.source_arn,
            "SourceAccount": it.source_account,
        }
        without_statements(aws, it)
        aws.functions.add_permission(FunctionName=it.name, StatementId=it.statement, **(said | changed))

    return inject


def rewrite(**changed):
    return lambda aws, it: aws.iot.replace_topic_rule(ruleName=it.name, topicRulePayload=it._payload() | changed)


def tag_bucket(aws, it, tags):
    aws.s3.put_bucket_tagging(Bucket=it.name, Tagging={"TagSet": spelled(tags)})


def tag_in_iot(aws, it):
    aws.iot.tag_resource(resourceArn=it.arn, tags=OTHER_TAGS)


def deny_nothing(aws, it):
    statement = it.policy["Statement"][0] | {"Action": "s3:DeleteBucket"}
    aws.s3.put_bucket_policy(Bucket=it.name, Policy=json.dumps(it.policy | {"Statement": [statement]}))


DRIFTS = {
    Bucket: {
        "policy": deny_nothing,
        "tags": lambda aws, it: tag_bucket(aws, it, it.tags | OTHER_TAG),
        "public_access_blocked": lambda aws, it: aws.s3.delete_public_access_block(Bucket=it.name),
        "versioned": lambda aws, it: aws.s3.put_bucket_versioning(
            Bucket=it.name, VersioningConfiguration={"Status": "Suspended"}
        ),
        "encryption": lambda aws, it: aws.s3.put_bucket_encryption(
            Bucket=it.name, ServerSideEncryptionConfiguration={"Rules": [{"BucketKeyEnabled": True}]}
        ),
        "lifecycle": lambda aws, it: aws.s3.put_bucket_lifecycle_configuration(
            Bucket=it.name,
            LifecycleConfiguration={
                "Rules": [
                    {
                        "ID": "fleet_pipeline:uploads",
                        "Status": "Enabled",
                        "Filter": {"Prefix": ""},
                        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 3},
                    }
                ]
            },
        ),
    },
    Role: {
        "description": lambda aws, it: aws.iam.update_role(RoleName=it.name, Description="another"),
        "trust": lambda aws, it: aws.iam.update_assume_role_policy(
            RoleName=it.name, PolicyDocument=json.dumps(OTHER_TRUST)
        ),
        "tags": lambda aws, it: aws.iam.tag_role(RoleName=it.name, Tags=OTHER_TAGS),
        "inline": lambda aws, it: aws.iam.put_role_policy(
            RoleName=it.name, PolicyName="added", PolicyDocument=json.dumps(OTHER_DOCUMENT)
        ),
        "managed": lambda aws, it: aws.iam.attach_role_policy(
            RoleName=it.name, PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess"
        ),
    },
    Function: {
        "description": configure(Description="another"),
        "role_arn": lambda aws, it: configure(
            Role=it.role_arn.replace("pre-provisioning-lambda-role", "provisioning-template-role")
        )(aws, it),
        "runtime": configure(Runtime="python3.12"),
        "environment": configure(Environment={"Variables": {"SERIAL_PREFIX": ""}}),
        "handler": configure(Handler="verify.handler"),
        "timeout_s": configure(Timeout=60),
        "memory_mb": configure(MemorySize=1024),
        "code_sha256": lambda aws, it: aws.functions.update_function_code(FunctionName=it.name, ZipFile=other_code()),
        "tags": lambda aws, it: aws.functions.tag_resource(Resource=it.arn, Tags=OTHER_TAG),
    },
    InvokePermission: {
        "source_arn": permit(SourceArn="arn:aws:iot:eu-central-1:123456789012:provisioningtemplate/another"),
        "source_account": permit(SourceAccount="210987654321"),
        "principal": permit(Principal="s3.amazonaws.com"),
        "action": permit(Action="lambda:*"),
        "others": lambda aws, it: aws.functions.add_permission(
            FunctionName=it.name, StatementId="another", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com"
        ),
    },
    AllowListTable: {"tags": lambda aws, it: aws.dynamodb.tag_resource(ResourceArn=it.arn, Tags=OTHER_TAGS)},
    IotPolicy: {
        "document": lambda aws, it: aws.iot.create_policy_version(
            policyName=it.name, policyDocument=json.dumps(OTHER_DOCUMENT), setAsDefault=True
        ),
        "tags": tag_in_iot,
    },
    Template: {
        "description": lambda aws, it: aws.iot.update_provisioning_template(
            templateName=it.name, description="another"
        ),
        "enabled": lambda aws, it: aws.iot.update_provisioning_template(templateName=it.name, enabled=False),
        "role_arn": lambda aws, it: aws.iot.update_provisioning_template(
            templateName=it.name, provisioningRoleArn=it.role_arn.replace("provisioning-template", "rule-engine")
        ),
        "hook_arn payload_version": lambda aws, it: aws.iot.update_provisioning_template(
            templateName=it.name, removePreProvisioningHook=True
        ),
        "body": lambda aws, it: aws.iot.create_provisioning_template_version(
            templateName=it.name,
            templateBody=json.dumps(it.body | {"DeviceConfiguration": {"added": "yes"}}),
            setAsDefault=True,
        ),
        "tags": tag_in_iot,
    },
    ClaimCertificate: {
        "unfinished": lambda aws, it: aws.s3.put_object(Bucket=it.claims.bucket, Key=INTENT, Body=BEGUN)
    },
    PolicyAttachment: {
        "status": lambda aws, it: aws.iot.update_certificate(
            certificateId=it.read(aws).certificate_id, newStatus="INACTIVE"
        ),
    },
    TopicRule: {
        "description": rewrite(description="another"),
        "sql": rewrite(sql="SELECT speed FROM 'another'"),
        "action": lambda aws, it: rewrite(actions=[{"s3": it.action["s3"] | {"key": "${topic()}"}}])(aws, it),
        "further_actions": lambda aws, it: rewrite(actions=[it.action, {"s3": it.action["s3"] | {"key": "another"}}])(
            aws, it
        ),
        "error_action": lambda aws, it: rewrite(errorAction={"s3": it.error_action["s3"] | {"bucketName": "another"}})(
            aws, it
        ),
        "sql_version": rewrite(awsIotSqlVersion="2015-10-08"),
        "disabled": lambda aws, it: aws.iot.disable_topic_rule(ruleName=it.name),
        "tags": tag_in_iot,
    },
}
"""For each kind of resource, each field that can drift, and how someone else would change it. Two fields in a row change together."""

FOUND_BY = {"name", "arn", "bucket", "arn_prefix", "policy_name", "statement"}
"""Fields by which a resource is found, and which so cannot differ."""

OF_OTHER_SETTINGS = {
    Role: {"boundary"},
    ClaimCertificate: {"key_left_in_data_bucket", "kms_key", "secret_tags"},
    Bucket: {"kms_key", "access_logs"},
    AllowListTable: {"kms_key"},
    Function: {"concurrency", "dead_letters", "subnets", "security_groups"},
}
"""Fields that are wanted, and can differ, under settings that this fleet has not: FLEET_ROLE_BOUNDARY, FLEET_KMS_KEY, a claim store that is not S3, and those
of `test_company.py`."""


@pytest.mark.parametrize("kind", DRIFTS)
def test_the_table_of_drifts_has_every_field_that_can_drift(kind):
    comparable = {each.name for each in fields(kind) if each.compare}
    assert {
        name for row in DRIFTS[kind] for name in row.split()
    } == comparable - FOUND_BY - kind.fixed - OF_OTHER_SETTINGS.get(kind, set())


def test_the_table_of_drifts_has_every_kind_of_resource():
    assert set(DRIFTS) == {type(part.resource) for part in PARTS.values()}


@pytest.mark.parametrize(
    ("part", "drifted"), [(part, row) for part in PARTS for row in DRIFTS[type(PARTS[part].resource)]]
)
def test_a_field_that_someone_changed_is_named_and_repaired(stack, part, drifted):
    resource = stack.resource(part)
    DRIFTS[type(resource)][drifted](stack.aws, resource)
    planned = plan(resource, stack.aws)
    stack.calls.made.clear()
    step = reconcile(resource, stack.aws)
    replaced = drifted in getattr(resource, "replaced", ())
    assert len(stack.calls.writing) == (2 if replaced else 1)  # a statement cannot be changed, only removed and added
    assert planned.action is step.action is (Action.REPLACE if replaced else Action.UPDATE)
    assert (
        {change.field for change in planned.changes}
        == {change.field for change in step.changes}
        == set(drifted.split())
    )
    assert all(change.found != change.wanted == getattr(resource, change.field) for change in step.changes)
    assert plan(resource, stack.aws).action is Action.UNCHANGED


REMOVED = {
    "hook_permission": without_statements,
    "claim_attachment": lambda aws, it: aws.iot.detach_policy(policyName=it.name, target=it.read(aws).arn),
    "topic_rule_rule1": lambda aws, it: aws.iot.delete_topic_rule(ruleName=it.name),
    "provisioning_template": lambda aws, it: aws.iot.delete_provisioning_template(templateName=it.name),
    "allow_list_table": lambda aws, it: aws.dynamodb.delete_table(TableName=it.name),
}


@pytest.mark.parametrize("part", REMOVED)
def test_a_resource_that_someone_removed_is_made_again(stack, part):
    resource = stack.resource(part)
    REMOVED[part](stack.aws, resource)
    assert reconcile(resource, stack.aws).action is Action.CREATE
    assert plan(resource, stack.aws).action is Action.UNCHANGED


def test_a_plan_changes_nothing(stack):
    resource = stack.resource("device_policy")
    DRIFTS[IotPolicy]["document"](stack.aws, resource)
    stack.calls.made.clear()
    assert plan(resource, stack.aws).action is Action.UPDATE
    assert stack.calls.writing == []
    reconcile(resource, stack.aws)


def test_tags_of_others_are_no_drift_and_stay(stack):
    bucket = stack.resource("bucket")
    tag_bucket(stack.aws, bucket, bucket.tags | {"cost-centre": "42"})
    assert plan(bucket, stack.aws).action is Action.UNCHANGED
    tag_bucket(stack.aws, bucket, bucket.tags | OTHER_TAG | {"cost-centre": "42"})
    assert reconcile(bucket, stack.aws).action is Action.UPDATE
    assert {"Key": "cost-centre", "Value": "42"} in stack.aws.s3.get_bucket_tagging(Bucket=bucket.name)["TagSet"]


def untag_in_iot(aws, it):
    aws.iot.untag_resource(resourceArn=it.arn, tagKeys=list(it.tags))


UNTAG = {
    Bucket: lambda aws, it: aws.s3.delete_bucket_tagging(Bucket=it.name),
    Role: lambda aws, it: aws.iam.untag_role(RoleName=it.name, TagKeys=list(it.tags)),
    Function: lambda aws, it: aws.functions.untag_resource(Resource=it.arn, TagKeys=list(it.tags)),
    AllowListTable: lambda aws, it: aws.dynamodb.untag_resource(ResourceArn=it.arn, TagKeys=list(it.tags)),
    IotPolicy: untag_in_iot,
    Template: untag_in_iot,
    TopicRule: untag_in_iot,
}


@pytest.mark.parametrize("part", [name for name, part in PARTS.items() if hasattr(part.resource, "tags")])
def test_a_resource_of_our_name_without_our_tag_is_refused_and_not_touched(stack, part):
    resource = stack.resource(part)
    UNTAG[type(resource)](stack.aws, resource)
    stack.calls.made.clear()
    for action in (plan, reconcile, remove):
        with pytest.raises(NotOurs, match=resource.name):
            action(resource, stack.aws)
    assert stack.calls.writing == []
    resource.update(stack.aws, resource.read(stack.aws))


def test_a_resource_of_another_stack_is_refused(stack):
    other = replace(
        stack.resource("device_policy"),
        tags={"fleet_pipeline:stack": "cdk-test-prod", "fleet_pipeline:application": "iot"},
    )
    with pytest.raises(NotOurs):
        reconcile(other, stack.aws)


FIXED = {
    "region": ("bucket", "eu-west-1"),
    "path": ("hook_role", "/cars/"),
    "key": ("allow_list_table", "vin"),
    "type": ("provisioning_template", "JITP"),
    "stored": ("claim_certificate", ()),
}


@pytest.mark.parametrize("field", FIXED)
def test_a_field_that_aws_fixes_at_creation_is_named_and_nothing_is_changed(stack, field):
    part, other = FIXED[field]
    stack.calls.made.clear()
    with pytest.raises(CannotChange, match=field):
        reconcile(replace(stack.resource(part), **{field: other}), stack.aws)
    assert stack.calls.writing == []


def test_the_table_of_fixed_fields_is_complete():
    assert set(FIXED) == {name for part in PARTS.values() for name in part.resource.fixed}


def test_a_claim_key_that_was_deleted_is_missed_and_not_papered_over(stack):
    certificate = stack.resource("claim_certificate")
    marker = stack.aws.s3.delete_object(Bucket=stack.fleet.bucket, Key=PRIVATE_KEY)["VersionId"]
    with pytest.raises(CannotChange, match="stored"):
        reconcile(certificate, stack.aws)
    stack.aws.s3.delete_object(Bucket=stack.fleet.bucket, Key=PRIVATE_KEY, VersionId=marker)


ALL_RULES = [f"topic_rule_{key}" for key in EVERY_RESOURCE.rule_keys]

CHANGED_SETTINGS = [
    ({"serial_prefix": "12"}, {"hook_role": "inline", "hook": "environment"}),
    ({"hook_runtime": "python3.12"}, {"hook": "runtime"}),
    ({"claim_client_prefix": ""}, {"claim_policy": "document"}),
    ({"raw_key_format": "timestamp"}, dict.fromkeys(ALL_RULES, "action")),
    ({"errors_prefix": "failed"}, {"rule_error_role": "inline", **dict.fromkeys(ALL_RULES, "error_action")}),
    ({"allow_list": "none"}, {"hook_role": "inline", "hook": "environment"}),
    (
        {"rule_keys": ("rule1", "rule2", "rule3", "rule4")},
        {"device_policy": "document", "topic_rule_rule4": Action.CREATE},
    ),
    ({"application": "cars"}, {name: "tags" for name, part in PARTS.items() if hasattr(part.resource, "tags")}),
    ({"parquet_prefix": "tables", "start": "2026-06-01", "home": "elsewhere"}, {}),
]
"""Settings, and what of the stack they change: the one field, or that the resource is new."""


@pytest.mark.parametrize(("changed", "differing"), CHANGED_SETTINGS)
def test_a_changed_setting_changes_just_what_depends_on_it(stack, changed, differing):
    steps = {name: plan(part.resource, stack.aws) for name, part in blueprint(replace(stack.fleet, **changed)).items()}
    found = {
        name: step.action if step.action is Action.CREATE else " ".join(each.field for each in step.changes)
        for name, step in steps.items()
    }
    assert {name: what for name, what in found.items() if what} == differing


def test_an_update_calls_nothing_but_what_differs(stack):
    stack.calls.made.clear()
    for part in blueprint(replace(stack.fleet, serial_prefix="12")).values():
        reconcile(part.resource, stack.aws)
    assert stack.calls.writing == ["iam.PutRolePolicy", "lambda.UpdateFunctionConfiguration"]
    for part in stack.parts.values():
        reconcile(part.resource, stack.aws)


def test_a_template_can_be_changed_more_often_than_aws_keeps_versions(stack):
    template = stack.resource("provisioning_template")
    for number in range(7):
        body = template.body | {"DeviceConfiguration": {"number": str(number)}}
        assert reconcile(replace(template, body=body), stack.aws).live.body == body
    assert len(stack.aws.iot.list_provisioning_template_versions(templateName=template.name)["versions"]) == 5
    reconcile(template, stack.aws)


def test_a_template_with_versions_is_removed(stack):
    template = stack.resource("provisioning_template")
    reconcile(replace(template, body=template.body | {"DeviceConfiguration": {"number": "8"}}), stack.aws)
    assert remove(template, stack.aws).action is Action.DELETE
    assert reconcile(template, stack.aws).action is Action.CREATE


def test_a_second_run_keeps_the_claim_certificate_and_its_keys(stack):
    certificate, attachment = stack.resource("claim_certificate"), stack.resource("claim_attachment")
    before = reconcile(certificate, stack.aws).live.certificate_id
    stack.aws.iot.update_certificate(certificateId=before, newStatus="INACTIVE")
    assert [reconcile(each, stack.aws).live.certificate_id for each in (certificate, attachment)] == [before, before]
    assert len(stack.aws.iot.list_certificates()["certificates"]) == 1
    versions = stack.aws.s3.list_object_versions(Bucket=stack.fleet.bucket, Prefix=PRIVATE_KEY)["Versions"]
    assert len(versions) == 1


def test_what_is_shown_of_a_stack_holds_no_private_key(stack):
    claim = read_claim(stack.fleet, stack.aws)
    steps = [plan(part.resource, stack.aws) for part in stack.parts.values()]
    shown = " ".join([repr(claim), repr(steps), json.dumps([declared(step.live) for step in steps])])
    assert claim.private_key.startswith("-----BEGIN RSA PRIVATE KEY-----")
    assert "PRIVATE KEY" not in shown
    assert claim.private_key.splitlines()[1] not in shown
