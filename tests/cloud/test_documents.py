"""The JSON documents: filled in to the last placeholder, within AWS's limits, and allowing what is meant and nothing else."""

import json
import re
from dataclasses import replace

import pytest

from fleet_pipeline.cloud.documents import device, filled
from fleet_pipeline.cloud.hardening import access_cases
from fleet_pipeline.cloud.hardening.evaluation import ClientConnection, allows
from fleet_pipeline.model.errors import CannotJudge
from fleet_pipeline.model.fleet import Fleet

FLEET = Fleet()
LONGEST = Fleet(
    region="cn-northwest-1",
    service="s" * 8,
    environment="e" * 8,
    bucket="b" * 63,
    lake_bucket="l" * 63,
    serial_prefix="1" * 20,
    raw_prefix="r" * 60,
    errors_prefix="e" * 60,
    rule_keys=tuple(f"rule{n}".ljust(64, "_") for n in range(4)),
    claim_client_prefix="c" * 40,
    allow_list="dynamodb",
)
FLEETS = {
    "default": FLEET,
    "allow-list in S3": replace(FLEET, allow_list="s3"),
    "allow-list in DynamoDB": replace(FLEET, allow_list="dynamodb"),
    "any claim client": replace(FLEET, claim_client_prefix=""),
    "most rules": replace(FLEET, rule_keys=tuple(f"rule{n}" for n in range(1, 19))),
    "GovCloud": replace(FLEET, region="us-gov-west-1"),
    "longest": LONGEST,
}

DOCUMENTS = {
    "device policy": (device.device_policy, 2048),
    "claim policy": (filled.claim_policy, 2048),
    "provisioning template": (filled.provisioning_template, 10_240),
    "rule role's policy": (lambda fleet: filled.write_policy(fleet, fleet.raw_prefix), 10_240),
    "hook role's policy": (filled.hook_policy, 10_240),
    "just-in-time role's policy": (filled.just_in_time_policy, 10_240),
    "template of just-in-time provisioning": (filled.jitp_template, 10_240),
    "template of bulk registration": (filled.bulk_template, 10_240),
    "bulk role's policy": (lambda fleet: filled.read_policy(fleet, fleet.bulk_prefix), 10_240),
    "trust in AWS Lambda": (filled.lambda_trust, 2048),
    "trust in AWS IoT": (filled.iot_trust, 2048),
    "bucket policy": (filled.bucket_policy, 20_480),
    "lake bucket policy": (filled.lake_bucket_policy, 20_480),
}
"""Each document and how many characters AWS takes of it. Sources: the quota pages of AWS IoT Core, IAM and Amazon S3."""

every_fleet = pytest.mark.parametrize("fleet", FLEETS.values(), ids=FLEETS)
every_document = pytest.mark.parametrize(("document", "limit"), DOCUMENTS.values(), ids=DOCUMENTS)


@every_fleet
@every_document
def test_a_document_is_filled_in_and_within_the_limit_of_aws(fleet, document, limit):
    text = json.dumps(document(fleet), separators=(",", ":"))
    assert not re.search(r"<[a-z0-9-]*>", text)
    assert len(text) <= limit


def iot(resource):
    return FLEET.arn("iot", resource)


SEED_DEVICE_POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": ["iot:Publish", "iot:Receive", "iot:RetainPublish"],
            "Resource": [iot("topic/$aws/rules/*"), iot("topic/${iot:ClientId}")],
        },
        {"Effect": "Allow", "Action": "iot:Subscribe", "Resource": iot("topicfilter/${iot:ClientId}")},
    ],
}
"""The device policy of the CDK app: the control, which shows that the attacks below would be seen."""

VEHICLES, CLAIMS = access_cases.device_cases(FLEET), access_cases.claim_cases(FLEET)

each_action_of_a_vehicle = pytest.mark.parametrize("case", VEHICLES, ids=lambda case: case.title)
each_action_of_a_claim = pytest.mark.parametrize("case", CLAIMS, ids=lambda case: case.title)


@each_action_of_a_vehicle
def test_a_vehicle_may_do_what_it_is_made_for_and_nothing_else(case):
    assert access_cases.misjudged(FLEET, device.device_policy(FLEET), [case]) == []


@each_action_of_a_claim
def test_the_claim_certificate_lets_a_vehicle_register_and_nobody_do_anything_else(case):
    assert access_cases.misjudged(FLEET, filled.claim_policy(FLEET), [case]) == []


@every_fleet
def test_both_policies_judge_rightly_whatever_the_settings(fleet):
    assert access_cases.misjudged(fleet, device.device_policy(fleet), access_cases.device_cases(fleet)) == []
    if fleet.claim_client_prefix:
        assert access_cases.misjudged(fleet, filled.claim_policy(fleet), access_cases.claim_cases(fleet)) == []


def test_the_cdk_apps_device_policy_fails_on_eleven_of_the_eighteen_attacks():
    """The control: attacks that a policy allows are seen."""
    stopped = {
        "asks for further certificates",
        "registers another vehicle",
        "hears everything",
        "hears the other vehicles",
        "changes another vehicle's shadow",
        "takes another vehicle's jobs",
        "answers another vehicle's command",
    }
    attacks = [case for case in VEHICLES if not case.legitimate]
    assert len(attacks) == 18
    assert {case.title for case in access_cases.misjudged(FLEET, SEED_DEVICE_POLICY, VEHICLES)} == {
        case.title for case in attacks
    } - stopped


def test_without_a_prefix_any_client_id_may_claim_and_that_is_seen():
    fleet = replace(FLEET, claim_client_prefix="")
    wrong = [
        case.title
        for case in access_cases.misjudged(fleet, filled.claim_policy(fleet), access_cases.claim_cases(fleet))
    ]
    assert wrong == ["connects as a vehicle and so cuts it off", "connects as the wildcard client"]


def test_a_policy_that_allows_nothing_fails_on_every_legitimate_case():
    nothing = {"Version": "2012-10-17", "Statement": []}
    assert access_cases.misjudged(FLEET, nothing, VEHICLES + CLAIMS) == [
        case for case in VEHICLES + CLAIMS if case.legitimate
    ]


UNKNOWN = {
    "an element": {"Effect": "Allow", "NotAction": "iot:Connect", "Resource": "*"},
    "an operator": {
        "Effect": "Allow",
        "Action": "iot:*",
        "Resource": "*",
        "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}},
    },
    "a key": {
        "Effect": "Allow",
        "Action": "iot:*",
        "Resource": "*",
        "Condition": {"Bool": {"aws:SecureTransport": "true"}},
    },
    "a variable": {"Effect": "Allow", "Action": "iot:*", "Resource": "${aws:SourceIp}"},
}


@pytest.mark.parametrize("statement", UNKNOWN.values(), ids=UNKNOWN)
def test_what_the_evaluation_does_not_know_is_an_error_and_never_an_answer(statement):
    with pytest.raises(CannotJudge):
        allows({"Statement": [statement]}, "iot:Publish", iot("topic/x"), ClientConnection("x", "x"))


def test_an_action_is_the_same_in_capitals():
    assert allows(
        {"Statement": [{"Effect": "Allow", "Action": "IOT:*", "Resource": "*"}]}, "iot:Publish", iot("topic/x")
    )


@pytest.mark.parametrize(
    "key",
    [
        "claim-certificate/claim.private.key",
        "allow-list/serials.txt",
        "errors/x",
        "test-rule",
        "test-rules/x",
        "/x",
        "lake/x",
    ],
)
def test_the_rule_role_writes_nothing_outside_the_raw_prefix(key):
    policy = filled.write_policy(FLEET, FLEET.raw_prefix)
    assert allows(policy, "s3:PutObject", f"arn:aws:s3:::{FLEET.bucket}/test-rule/rule1/1672900000000")
    assert not allows(policy, "s3:PutObject", f"arn:aws:s3:::{FLEET.bucket}/{key}")
    assert not allows(policy, "s3:GetObject", f"arn:aws:s3:::{FLEET.bucket}/test-rule/rule1/1672900000000")


HOOK_DEEDS = [
    ("iot:DescribeThing", iot("thing/test-thing-297468OWN001"), {"none", "s3", "dynamodb"}),
    ("iot:UpdateThing", iot("thing/test-thing-297468OWN001"), {"none", "s3", "dynamodb"}),
    ("iot:DescribeThing", iot("thing/other-297468OWN001"), set()),
    ("iot:CreateThing", iot("thing/test-thing-297468OWN001"), {"none", "s3", "dynamodb"}),
    ("iot:CreateThing", iot("thing/other-297468OWN001"), set()),
    ("iot:ListThingPrincipals", iot("thing/test-thing-297468OWN001"), {"none", "s3", "dynamodb"}),
    ("iot:DeleteThing", iot("thing/test-thing-297468OWN001"), set()),
    ("iot:AttachThingPrincipal", iot("thing/test-thing-297468OWN001"), set()),
    ("iot:UpdateCertificate", iot(f"cert/{'a' * 64}"), set()),
    (
        "logs:PutLogEvents",
        FLEET.arn("logs", f"log-group:/aws/lambda/{FLEET.hook_name}:log-stream:x"),
        {"none", "s3", "dynamodb"},
    ),
    ("logs:PutLogEvents", FLEET.arn("logs", "log-group:/aws/lambda/other:log-stream:x"), set()),
    ("s3:GetObject", f"arn:aws:s3:::{FLEET.bucket}/allow-list/serials.txt", {"s3"}),
    ("s3:GetObject", f"arn:aws:s3:::{FLEET.bucket}/claim-certificate/claim.private.key", set()),
    ("s3:GetObject", f"arn:aws:s3:::{FLEET.bucket}/claim-certificate/temporary/{'a' * 64}", {"none", "s3", "dynamodb"}),
    ("s3:PutObject", f"arn:aws:s3:::{FLEET.bucket}/claim-certificate/temporary/{'a' * 64}", set()),
    ("dynamodb:GetItem", FLEET.arn("dynamodb", f"table/{FLEET.allow_list_table}"), {"dynamodb"}),
    ("dynamodb:PutItem", FLEET.arn("dynamodb", f"table/{FLEET.allow_list_table}"), set()),
]
"""What the hook does, to what, and with which allow-lists it may."""


@pytest.mark.parametrize(("action", "arn", "lists"), HOOK_DEEDS)
def test_the_hook_reads_the_allow_list_that_there_is_and_no_more(action, arn, lists):
    found = {
        name
        for name in ("none", "s3", "dynamodb")
        if allows(filled.hook_policy(replace(FLEET, allow_list=name)), action, arn)
    }
    assert found == lists


def test_aws_iot_takes_on_a_role_for_this_account_and_region_only():
    (statement,) = filled.iot_trust(FLEET)["Statement"]
    assert statement["Principal"] == {"Service": "iot.amazonaws.com"}
    assert statement["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "123456789012"},
        "ArnLike": {"aws:SourceArn": "arn:aws:iot:eu-central-1:123456789012:*"},
    }


@pytest.mark.parametrize(
    ("document", "bucket"), [(filled.bucket_policy, FLEET.bucket), (filled.lake_bucket_policy, FLEET.lake_bucket)]
)
def test_both_buckets_refuse_every_request_without_tls(document, bucket):
    statement = document(FLEET)["Statement"][0]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Resource"] == [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_lake_refuses_to_overwrite_and_the_raw_bucket_does_not_so_that_rules_can_write():
    (_, statement) = filled.lake_bucket_policy(FLEET)["Statement"]
    assert (statement["Effect"], statement["Action"], statement["Resource"]) == (
        "Deny",
        "s3:PutObject",
        f"arn:aws:s3:::{FLEET.lake_bucket}/*",
    )
    assert statement["Condition"] == {
        "Null": {"s3:if-none-match": "true"},
        "Bool": {"s3:ObjectCreationOperation": "true"},
    }
    assert len(filled.bucket_policy(FLEET)["Statement"]) == 1


def test_the_template_makes_the_thing_of_the_serial_with_the_device_policy_as_the_cdk_app_did():
    assert filled.provisioning_template(FLEET) == {
        "Parameters": {
            name: {"Type": "String"} for name in ("SerialNumber", "ClaimCertificateId", "AWS::IoT::Certificate::Id")
        },
        "Resources": {
            "certificate": {
                "Type": "AWS::IoT::Certificate",
                "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"},
            },
            "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "cdk-test-dev-device-policy"}},
            "thing": {
                "Type": "AWS::IoT::Thing",
                "Properties": {
                    "ThingName": {"Fn::Join": ["", ["test-thing-", {"Ref": "SerialNumber"}]]},
                    "AttributePayload": {FLEET.registered_by: {"Ref": "ClaimCertificateId"}},
                    "ThingGroups": [],
                },
                "OverrideSettings": {
                    "AttributePayload": "MERGE",
                    "ThingTypeName": "REPLACE",
                    "ThingGroups": "DO_NOTHING",
                },
            },
        },
    }
