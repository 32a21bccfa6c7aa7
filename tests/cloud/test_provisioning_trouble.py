"""Provisioning when something is in the way: roles that spread slowly, uploads that fail, the wrong account, AWS's own order and limits."""

import io
import json
import logging
import traceback
import zipfile
from dataclasses import replace

import pytest
from aws_calls import Refusals, answer, watch
from botocore.awsrequest import AWSResponse
from botocore.exceptions import EndpointConnectionError
from moto import mock_aws

from fleet_pipeline.account import Account
from fleet_pipeline.aws.clients import Aws, check_whereabouts
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.claims.certificates import read_claim
from fleet_pipeline.cloud.claims.keys import PRIVATE_KEY
from fleet_pipeline.cloud.kinds.function import HOOK_FOLDER, ZIP_EPOCH, zipped
from fleet_pipeline.cloud.reconcile import PAUSES_S, STACK_TAG, Action, plan, reconcile, remove
from fleet_pipeline.cloud.tags import spelled
from fleet_pipeline.model.errors import AwsRefused, AwsUnavailable, NotOurs, WrongAccount, WrongRegion
from fleet_pipeline.model.fleet import Fleet


class Clock:
    """A sleep that takes no time and remembers."""

    def __init__(self):
        self.slept = []

    def __call__(self, seconds):
        self.slept.append(seconds)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(fleet, aws):
    """Make parts of the blueprint, so that another may be tried."""

    def made(*names):
        for name in names:
            reconcile(blueprint(fleet)[name].resource, aws)

    return made


BEFORE_THE_TEMPLATE = ("hook_role", "hook", "hook_permission", "provisioning_role")
ROLE = "arn:aws:iam::123456789012:role/rule-engine-role"

SPREADING = {
    "a role is new to Lambda": (
        ("hook", ("hook_role",)),
        ("functions", "CreateFunction"),
        ("InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda."),
    ),
    "a role is new to provisioning": (
        ("provisioning_template", BEFORE_THE_TEMPLATE),
        ("iot", "CreateProvisioningTemplate"),
        ("InvalidRequestException", "The provisioning role cannot be assumed by AWS IoT"),
    ),
    "a permission is new to provisioning": (
        ("provisioning_template", BEFORE_THE_TEMPLATE),
        ("iot", "CreateProvisioningTemplate"),
        (
            "InvalidRequestException",
            "Access denied during lambda validation: arn:aws:lambda:eu-central-1:123456789012:function:hook",
        ),
    ),
    "a role is new to the rules engine": (
        ("topic_rule_rule1", ("rule_role", "rule_error_role")),
        ("iot", "CreateTopicRule"),
        (
            "InvalidRequestException",
            f"AWS IoT (iot.amazonaws.com) is unable to assume role (sts:AssumeRole) on resource: {ROLE}. If the role was just…",
        ),
    ),
    "there were too many calls": (
        ("device_policy", ()),
        ("iot", "CreatePolicy"),
        ("ThrottlingException", "Rate exceeded"),
    ),
}
"""What is not there yet: the part and what it stands on, the call that AWS refuses, and the words in which it does."""


@pytest.mark.parametrize("trouble", SPREADING)
def test_what_has_not_spread_yet_is_waited_for(fleet, aws, make, clock, trouble):
    (part, before), (service, operation), refusal = SPREADING[trouble]
    make(*before)
    answer(getattr(aws, service), operation, by=Refusals(*refusal, times=3))
    assert reconcile(blueprint(fleet)[part].resource, aws, sleep=clock).action is Action.CREATE
    assert clock.slept == list(PAUSES_S[:3])


def test_after_a_minute_of_waiting_the_error_says_what_aws_said_and_that_it_may_pass(fleet, aws, clock):
    answer(aws.iot, "CreatePolicy", by=Refusals("ThrottlingException", "Rate exceeded", times=99))
    with pytest.raises(AwsUnavailable) as caught:
        reconcile(blueprint(fleet)["device_policy"].resource, aws, sleep=clock)
    assert (
        str(caught.value)
        == "AWS would not create IoT policy 'cdk-test-dev-device-policy': Rate exceeded (ThrottlingException)"
    )
    assert caught.value.retryable
    assert 60 <= sum(clock.slept) < 120


def test_a_refusal_that_will_not_pass_is_not_waited_for(fleet, aws, clock):
    answer(aws.iot, "CreatePolicy", by=Refusals("MalformedPolicyException", "Policy document is malformed", times=99))
    with pytest.raises(AwsRefused) as caught:
        reconcile(blueprint(fleet)["device_policy"].resource, aws, sleep=clock)
    assert not caught.value.retryable
    assert clock.slept == []


def test_what_aws_does_not_show_at_once_is_looked_for_again_and_not_made_twice(fleet, aws, clock):
    role = blueprint(fleet)["provisioning_role"].resource
    calls = watch(aws.session)
    answer(aws.iam, "GetRole", by=Refusals("NoSuchEntity", "cannot be found", times=2, skip=2))
    assert reconcile(role, aws, sleep=clock).live == role
    assert clock.slept == list(PAUSES_S[:2])
    assert calls.made.count("iam.CreateRole") == 1


def test_a_rule_is_sent_the_version_of_its_sql_because_aws_would_take_an_older_one(fleet, aws, make):
    sent = []
    aws.iot.meta.events.register(
        "provide-client-params.iot.CreateTopicRule", lambda params, **_: sent.append(params["topicRulePayload"])
    )
    make("bucket", "rule_role", "rule_error_role", "topic_rule_rule1")
    assert [payload["awsIotSqlVersion"] for payload in sent] == ["2016-03-23"]


def test_half_of_a_resource_is_completed_by_the_next_try(fleet, aws, clock):
    role = blueprint(fleet)["provisioning_role"].resource
    answer(aws.iam, "AttachRolePolicy", by=Refusals("ThrottlingException", "Rate exceeded", times=1))
    step = reconcile(role, aws, sleep=clock)
    assert (step.action, step.live) == (Action.CREATE, role)
    assert clock.slept == [PAUSES_S[0]]


def test_a_template_whose_hook_may_not_be_invoked_is_refused_and_so_comes_after_the_permission(fleet, aws, make, clock):
    make("hook_role", "hook", "provisioning_role")
    with pytest.raises(AwsUnavailable, match="Access denied during lambda validation"):
        reconcile(blueprint(fleet)["provisioning_template"].resource, aws, sleep=clock)


def test_a_bucket_of_another_account_is_not_touched_and_the_error_says_what_to_do(fleet, aws):
    stranger = replace(aws, account="210987654321")
    stranger.s3.create_bucket(Bucket=fleet.bucket, CreateBucketConfiguration={"LocationConstraint": fleet.region})
    calls = watch(aws.session)
    with pytest.raises(AwsRefused, match=r"belongs to another account.*FLEET_BUCKET"):
        reconcile(blueprint(fleet)["bucket"].resource, aws)
    assert calls.made == ["s3.HeadBucket"]


def test_every_call_names_the_account_as_the_owner_of_the_bucket(fleet, aws, make):
    named = []
    aws.s3.meta.events.register(
        "before-call.s3",
        lambda model, params, **_: named.append((model.name, params["headers"].get("x-amz-expected-bucket-owner"))),
    )
    make("bucket", "claim_certificate")
    remove(blueprint(fleet)["claim_certificate"].resource, aws)
    assert {owner for name, owner in named if name != "CreateBucket"} == {fleet.account}


def unreachable(**_):
    raise EndpointConnectionError(endpoint_url="https://s3")


@pytest.mark.parametrize("stored", [0, 1, 2])
def test_a_claim_certificate_whose_keys_cannot_be_stored_is_not_left_behind(fleet, aws, make, clock, stored):
    make("bucket")
    certificate = blueprint(fleet)["claim_certificate"].resource
    answer(aws.s3, "PutObject", by=Refusals("AccessDenied", "Access Denied", times=1, skip=stored))
    with pytest.raises(AwsRefused, match="Access Denied"):
        reconcile(certificate, aws, sleep=clock)
    assert aws.iot.list_certificates()["certificates"] == []
    assert reconcile(certificate, aws, sleep=clock).action is Action.CREATE
    assert [each["status"] for each in aws.iot.list_certificates()["certificates"]] == ["INACTIVE"]


def test_a_bucket_that_cannot_be_reached_leaves_no_claim_certificate_either(fleet, aws, make, clock):
    make("bucket")
    answer(aws.s3, "PutObject", by=unreachable)
    with pytest.raises(AwsUnavailable):
        reconcile(blueprint(fleet)["claim_certificate"].resource, aws, sleep=clock)
    assert aws.iot.list_certificates()["certificates"] == []


def test_a_claim_certificate_that_was_stored_and_not_yet_activated_is_activated_by_the_next_run(fleet, aws, make):
    make("bucket", "claim_policy", "claim_certificate")
    attachment = blueprint(fleet)["claim_attachment"].resource
    answer(aws.iot, "UpdateCertificate", by=Refusals("UnauthorizedException", "not now", times=1))
    with pytest.raises(AwsRefused):
        reconcile(attachment, aws)
    step = reconcile(attachment, aws)
    assert [(change.field, change.found, change.wanted) for change in step.changes] == [
        ("status", "INACTIVE", "ACTIVE")
    ]
    assert len(aws.iot.list_certificates()["certificates"]) == 1


def test_a_claim_certificate_that_aws_iot_no_longer_knows_is_made_anew(fleet, aws, make):
    make("bucket", "claim_certificate")
    certificate = blueprint(fleet)["claim_certificate"].resource
    former = certificate.read(aws).certificate_id
    aws.iot.update_certificate(certificateId=former, newStatus="INACTIVE")
    aws.iot.delete_certificate(certificateId=former)
    assert reconcile(certificate, aws).live.certificate_id != former


@pytest.mark.parametrize("part", ["claim_policy", "claim_certificate"])
def test_aws_refuses_to_remove_what_something_else_stands_on_and_the_claim_keeps_its_keys(fleet, aws, make, part):
    make("bucket", "claim_policy", "claim_certificate", "claim_attachment")
    with pytest.raises(AwsRefused, match="DeleteConflict"):
        remove(blueprint(fleet)[part].resource, aws)
    assert read_claim(fleet, aws).private_key


def test_with_the_claim_certificate_every_version_of_its_keys_is_removed(fleet, aws, make):
    make("bucket", "claim_certificate")
    aws.s3.put_object(Bucket=fleet.bucket, Key=PRIVATE_KEY, Body=b"an older key")
    aws.s3.delete_object(Bucket=fleet.bucket, Key=PRIVATE_KEY)
    remove(blueprint(fleet)["claim_certificate"].resource, aws)
    left = aws.s3.list_object_versions(Bucket=fleet.bucket)
    assert "Versions" not in left
    assert "DeleteMarkers" not in left


def test_no_error_and_no_log_of_a_claim_certificate_holds_its_private_key(fleet, aws, make, caplog):
    caplog.set_level(logging.DEBUG)
    make("bucket")
    certificate = blueprint(fleet)["claim_certificate"].resource
    keys = []
    aws.s3.meta.events.register("provide-client-params.s3.PutObject", lambda params, **_: keys.extend(_key_in(params)))
    answer(aws.s3, "PutObject", by=Refusals("AccessDenied", "Access Denied", times=1, skip=2))
    with pytest.raises(AwsRefused) as caught:
        reconcile(certificate, aws)
    said = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caplog.text
    assert not any(line in said for key in keys for line in key.splitlines()[1:-1])
    assert len(keys) == 1


def _key_in(params):
    return [params["Body"].decode()] if params["Key"] == PRIVATE_KEY else []


def test_botocore_would_log_the_private_key_if_it_were_let(fleet, aws, make, caplog):
    """The control of the test above."""
    make("bucket")
    with caplog.at_level(logging.DEBUG, logger="botocore"):
        reconcile(blueprint(replace(fleet, claim_keys="aws"))["claim_certificate"].resource, aws)
    assert read_claim(fleet, aws).private_key.splitlines()[1] in caplog.text


def test_while_the_permission_is_replaced_aws_iot_may_invoke_the_hook_at_every_moment(fleet, aws, make):
    make("hook_role", "hook", "hook_permission")
    permission, calls = blueprint(fleet)["hook_permission"].resource, []
    for number in range(3):  # the ids take turns
        wanted = replace(permission, source_arn=f"{permission.source_arn}-{number}")
        changing = Aws(aws.region, aws.account, aws.endpoint_url)
        calls = watch(changing.session)
        assert reconcile(wanted, changing).live == wanted
        assert calls.writing == ["lambda.AddPermission", "lambda.RemovePermission"]
        assert len(json.loads(aws.functions.get_policy(FunctionName=permission.name)["Policy"])["Statement"]) == 1


def test_where_a_bucket_cannot_be_born_with_tags_it_is_tagged_at_once(fleet, aws):
    bucket = blueprint(fleet)["bucket"].resource
    answer(aws.s3, "CreateBucket", by=Refusals("UnsupportedArgument", "Tags are not supported", times=1))
    assert reconcile(bucket, aws).live == bucket


@pytest.mark.parametrize("kind", ["aws:kms", "aws:kms:dsse"])
def test_the_default_encryption_of_a_company_is_left_alone(fleet, aws, make, kind):
    make("bucket")
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": kind, "KMSMasterKeyID": "theirs"}}
    aws.s3.put_bucket_encryption(Bucket=fleet.bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    assert plan(blueprint(fleet)["bucket"].resource, aws).action is Action.UNCHANGED


def test_a_rule_of_encryption_that_names_no_default_is_a_difference_and_no_crash(fleet, aws, make):
    make("bucket")
    bare = {"ServerSideEncryptionConfiguration": {"Rules": [{"BucketKeyEnabled": True}]}}
    answer(aws.s3, "GetBucketEncryption", by=lambda **_: (AWSResponse("", 200, {}, None), bare))
    assert [(change.field, change.found) for change in plan(blueprint(fleet)["bucket"].resource, aws).changes] == [
        ("encryption", "none")
    ]


def test_what_stands_on_a_later_page_of_a_roles_policies_and_tags_is_seen(fleet, aws, make):
    make("bucket", "rule_role")
    role = blueprint(fleet)["rule_role"].resource
    name, document = next(iter(role.inline.items()))
    aws.iam.put_role_policy(RoleName=role.name, PolicyName="zz-another", PolicyDocument=json.dumps(document))

    def second(items, what):
        def page(params, **_):
            last = (
                b"Marker=2" in params["body"]
                if isinstance(params["body"], bytes)
                else params["body"].get("Marker") == "2"
            )
            return AWSResponse("", 200, {}, None), {
                what: items[1:] if last else items[:1],
                "IsTruncated": not last,
                **({} if last else {"Marker": "2"}),
            }

        return page

    answer(aws.iam, "ListRolePolicies", by=second([name, "zz-another"], "PolicyNames"))
    answer(aws.iam, "ListRoleTags", by=second(spelled(fleet.all_tags), "Tags"))
    assert set(role.read(aws).inline) == {name, "zz-another"}
    assert role.read(aws).tags == fleet.all_tags


def test_the_hooks_zip_is_the_same_on_every_machine():
    with zipfile.ZipFile(io.BytesIO(zipped(HOOK_FOLDER))) as archive:
        found = {
            (each.compress_type, each.create_system, each.external_attr, each.date_time) for each in archive.infolist()
        }
    assert found == {(zipfile.ZIP_STORED, 3, 0o644 << 16, ZIP_EPOCH)}


@pytest.fixture
def others_credentials(local_aws, monkeypatch):
    """The environment of someone who works in another account, on AWS's ordinary chain of credentials."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", local_aws.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "210987654321")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    monkeypatch.delenv("AWS_PROFILE", raising=False)


def test_credentials_of_another_account_stop_everything_before_anything_is_changed(fleet, others_credentials):
    with pytest.raises(WrongAccount) as caught:
        Account.of(replace(fleet, profile="aws")).aws  # noqa: B018 (a property that checks)
    assert fleet.account in str(caught.value)
    assert "210987654321" in str(caught.value)


def test_the_check_of_the_account_only_asks_whose_credentials_they_are(fleet, others_credentials):
    aws = Aws(fleet.region, fleet.account)
    calls = watch(aws.session)
    with pytest.raises(WrongAccount):
        check_whereabouts(aws)
    assert calls.made == ["sts.GetCallerIdentity"]


def test_a_region_that_is_not_the_one_the_credentials_are_set_up_for_stops_before_any_call(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    aws = Aws(region="eu-central-1", account="123456789012")
    calls = watch(aws.session)
    with pytest.raises(WrongRegion) as caught:
        check_whereabouts(aws)
    assert "eu-central-1" in str(caught.value)
    assert "us-east-1" in str(caught.value)
    assert calls.made == []


@pytest.mark.parametrize(
    ("region", "host"),
    [("eu-west-1", "sts.eu-west-1.amazonaws.com"), ("cn-north-1", "sts.cn-north-1.amazonaws.com.cn")],
)
def test_the_account_is_asked_for_in_the_region_that_is_meant(monkeypatch, region, host):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    assert Aws(region, "123456789012").sts.meta.endpoint_url == f"https://{host}"


def test_credentials_of_the_account_that_is_meant_are_let_through(fleet, others_credentials):
    assert Account.of(replace(fleet, profile="aws", account="210987654321")).aws.account == "210987654321"


@pytest.fixture
def strict(monkeypatch):
    """Moto, which keeps some of AWS's rules that the emulator does not."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "moto")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "moto")
    with mock_aws():
        aws = Aws(Fleet().region, "123456789012")
        answer(
            aws.iot,
            "ListTagsForResource",
            by=lambda **_: (AWSResponse("", 200, {}, None), {"tags": spelled(Fleet().all_tags)}),
        )  # moto cannot
        yield aws


def versions_of(aws, policy):
    return aws.iot.list_policy_versions(policyName=policy.name)["policyVersions"]


def with_topics(policy, count):
    statement = {
        "Effect": "Allow",
        "Action": "iot:Publish",
        "Resource": [f"{policy.arn}/{number}" for number in range(count)],
    }
    return replace(policy, document={"Version": "2012-10-17", "Statement": [statement]})


def test_a_policy_can_be_changed_more_often_than_aws_keeps_versions(strict):
    policy = blueprint(Fleet())["device_policy"].resource
    for number in range(1, 9):
        assert reconcile(with_topics(policy, number), strict).live == with_topics(policy, number)
    assert len(versions_of(strict, policy)) == 5


def test_aws_refuses_a_sixth_version(strict):
    """The control of the test above."""
    policy = blueprint(Fleet())["device_policy"].resource
    policy.create(strict)
    document = json.dumps(with_topics(policy, 2).document)
    for _ in range(4):
        strict.iot.create_policy_version(policyName=policy.name, policyDocument=document, setAsDefault=True)
    with pytest.raises(strict.iot.exceptions.VersionsLimitExceededException):
        strict.iot.create_policy_version(policyName=policy.name, policyDocument=document, setAsDefault=True)


def test_a_policy_with_versions_is_removed(strict):
    policy = blueprint(Fleet())["device_policy"].resource
    for number in range(1, 4):
        reconcile(with_topics(policy, number), strict)
    assert remove(policy, strict).action is Action.DELETE
    assert plan(policy, strict).action is Action.CREATE


def test_a_malformed_policy_is_refused_in_one_sentence(strict):
    role = replace(
        blueprint(Fleet())["rule_role"].resource, inline={"iotCoreRolePolicy": {"Statement": [{"Effect": "Perhaps"}]}}
    )
    with pytest.raises(AwsRefused) as caught:
        reconcile(role, strict)
    assert str(caught.value).startswith("AWS would not create IAM role 'cdk-test-dev-rule-engine-role': ")
    assert str(caught.value).endswith("(MalformedPolicyDocument)")


CONFLICTS = {
    "another change": (409, "ConflictException"),
    "another change of a role": (409, "ConcurrentModification"),
    "another change of a resource": (409, "ConflictingResourceUpdateException"),
    "too many calls, by no name that botocore knows": (429, "TooManyRequests"),
    "a server's error": (500, "InternalServiceException"),
    "a server's error, by its number": (503, "503"),
    "a server's error of AWS Lambda": (500, "ServiceException"),
}


@pytest.mark.parametrize("conflict", CONFLICTS)
def test_a_call_that_meets_what_passes_is_sent_again_by_whatever_command(fleet, aws, conflict):
    status, code = CONFLICTS[conflict]
    left = [1]

    def refuse(**_):
        left[0] -= 1
        body = json.dumps({"message": "not now", "__type": code}).encode()
        raw = io.BytesIO(body)
        raw.stream = lambda *_, **__: iter([body])
        return AWSResponse("", status, {"x-amzn-errortype": code}, raw) if left[0] >= 0 else None

    aws.iot.meta.events.register_first("before-send.iot.ListThings", refuse)
    assert aws.iot.list_things()["things"] == []
    assert left[0] < 0


def test_a_call_that_is_refused_for_good_is_sent_once(fleet, aws):
    calls = []
    aws.iot.meta.events.register("before-send.iot.DescribeThing", lambda **_: calls.append(1))
    with pytest.raises(aws.iot.exceptions.ResourceNotFoundException):
        aws.iot.describe_thing(thingName="nobody")
    assert len(calls) == 1


NAMED_BY = {
    "bucket": "FLEET_BUCKET and FLEET_LAKE_BUCKET",
    "topic_rule_rule1": "FLEET_RAW_PREFIX or FLEET_RULE_KEYS",
    "device_policy": "FLEET_SERVICE or FLEET_ENVIRONMENT",
}


@pytest.mark.parametrize("part", NAMED_BY)
def test_what_others_made_under_our_name_is_refused_with_the_settings_that_would_name_ours_otherwise(
    fleet, aws, make, part
):
    make("bucket", "rule_role", "rule_error_role", part)
    wanted = blueprint(fleet)[part].resource
    with pytest.raises(NotOurs, match=f"belongs to another fleet, .* choose another name by {NAMED_BY[part]}$"):
        plan(replace(wanted, tags=wanted.tags | {STACK_TAG: "a second fleet"}), aws)
