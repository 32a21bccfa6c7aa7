"""The JSON documents: filled in to the last placeholder, within AWS's limits, and allowing what is meant and nothing else."""

import json
import re
from dataclasses import replace

import pytest
from policy_evaluation import Connection, allows

from fleet_pipeline.documents import filled
from fleet_pipeline.fleet import Fleet

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
    rule_keys=tuple(f"{n}".zfill(64) for n in range(4)),
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
    "device policy": (filled.device_policy, 2048),
    "claim policy": (filled.claim_policy, 2048),
    "provisioning template": (filled.provisioning_template, 10_240),
    "rule role's policy": (lambda fleet: filled.write_policy(fleet, fleet.raw_prefix), 10_240),
    "hook role's policy": (filled.hook_policy, 10_240),
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

OWN, OTHER = "test-thing-297468OWN001", "test-thing-297468OTHER1"
VEHICLE = Connection(OWN, OWN)
PLUS = Connection("+", OWN)

LEGITIMATE = {
    "connects as its own thing": (VEHICLE, "iot:Connect", f"client/{OWN}"),
    **{f"publishes to {rule.key}": (VEHICLE, "iot:Publish", f"topic/{rule.publish_topic}") for rule in FLEET.rules},
}
ATTACKS = {
    "connects as another vehicle": (Connection(OTHER, OWN), "iot:Connect", f"client/{OTHER}"),
    "connects as a client of the back end": (Connection("dashboard", OWN), "iot:Connect", "client/dashboard"),
    "connects as the wildcard client": (PLUS, "iot:Connect", "client/+"),
    "connects with a certificate of no thing": (Connection(OWN), "iot:Connect", f"client/{OWN}"),
    "publishes to another rule of the account": (VEHICLE, "iot:Publish", "topic/$aws/rules/billing/test-rule/rule1"),
    "publishes over the claim certificate": (VEHICLE, "iot:Publish", "topic/$aws/rules/test_rule_rule1/claim-certificate/claim.pem"),
    "publishes a rule's topic by another rule": (VEHICLE, "iot:Publish", "topic/$aws/rules/test_rule_rule1/test-rule/rule2"),
    "publishes below a rule's topic": (VEHICLE, "iot:Publish", "topic/$aws/rules/test_rule_rule1/test-rule/rule1/x"),
    "publishes without a topic": (VEHICLE, "iot:Publish", "topic/$aws/rules/test_rule_rule1/"),
    "retains a message": (VEHICLE, "iot:RetainPublish", "topic/$aws/rules/test_rule_rule1/test-rule/rule1"),
    "hears what clients publish to their own topics": (PLUS, "iot:Subscribe", "topicfilter/+"),
    "hears everything": (VEHICLE, "iot:Subscribe", "topicfilter/#"),
    "changes another vehicle's shadow": (VEHICLE, "iot:Publish", f"topic/$aws/things/{OTHER}/shadow/update"),
}
"""Who does what to what. The CDK app's policy stops the last two only."""


@pytest.mark.parametrize("deed", LEGITIMATE)
def test_a_vehicle_may_do_what_it_is_made_for(deed):
    connection, action, resource = LEGITIMATE[deed]
    assert allows(filled.device_policy(FLEET), action, iot(resource), connection)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_vehicle_may_do_nothing_else(attack):
    connection, action, resource = ATTACKS[attack]
    assert not allows(filled.device_policy(FLEET), action, iot(resource), connection)


def test_the_cdk_apps_device_policy_fails_on_all_these_attacks_but_two():
    def allowed(deeds):
        return [name for name, (connection, action, resource) in deeds.items() if allows(SEED_DEVICE_POLICY, action, iot(resource), connection)]

    assert allowed(LEGITIMATE) == list(LEGITIMATE)
    assert allowed(ATTACKS) == list(ATTACKS)[:-2]
    assert len(ATTACKS) == 13


CREATE, PROVISION = "$aws/certificates/create/json", f"$aws/provisioning-templates/{FLEET.template_name}/provision/json"
CLAIMANT = Connection("claim-297468OWN001")

CLAIM_LEGITIMATE = {
    "connects": ("iot:Connect", "client/claim-297468OWN001"),
    "asks for a certificate": ("iot:Publish", f"topic/{CREATE}"),
    "registers": ("iot:Publish", f"topic/{PROVISION}"),
    **{
        f"{verb} {topic.split('/')[1]} {answer}": (action, f"{kind}/{topic}/{answer}")
        for verb, action, kind in (("awaits", "iot:Subscribe", "topicfilter"), ("hears", "iot:Receive", "topic"))
        for topic in (CREATE, PROVISION)
        for answer in ("accepted", "rejected")
    },
}
CLAIM_ATTACKS = {
    "connects as a vehicle and so cuts it off": ("iot:Connect", f"client/{OTHER}"),
    "connects as the wildcard client": ("iot:Connect", "client/+"),
    "publishes messages": ("iot:Publish", f"topic/{FLEET.rules[0].publish_topic}"),
    "publishes to the rule's topic itself": ("iot:Publish", f"topic/{FLEET.rules[0].topic}"),
    "registers by another template": ("iot:Publish", "topic/$aws/provisioning-templates/other/provision/json"),
    "has a key of its own certified": ("iot:Publish", "topic/$aws/certificates/create-from-csr/json"),
    "retains a request": ("iot:RetainPublish", f"topic/{CREATE}"),
    "forges an answer": ("iot:Publish", f"topic/{CREATE}/accepted"),
    "hears everything": ("iot:Subscribe", "topicfilter/#"),
    "hears all of AWS IoT's topics": ("iot:Subscribe", "topicfilter/$aws/#"),
    "changes a vehicle's shadow": ("iot:Publish", f"topic/$aws/things/{OTHER}/shadow/update"),
}


@pytest.mark.parametrize("deed", CLAIM_LEGITIMATE)
def test_the_claim_certificate_lets_a_vehicle_register(deed):
    action, resource = CLAIM_LEGITIMATE[deed]
    assert allows(filled.claim_policy(FLEET), action, iot(resource), CLAIMANT)


@pytest.mark.parametrize("attack", CLAIM_ATTACKS)
def test_the_claim_certificate_lets_nobody_do_anything_else(attack):
    action, resource = CLAIM_ATTACKS[attack]
    assert not allows(filled.claim_policy(FLEET), action, iot(resource), CLAIMANT)


def test_without_a_prefix_any_client_id_may_claim():
    assert allows(filled.claim_policy(replace(FLEET, claim_client_prefix="")), "iot:Connect", iot(f"client/{OTHER}"), Connection(OTHER))


@pytest.mark.parametrize("key", ["claim-certificate/claim.private.key", "allow-list/serials.txt", "errors/x", "test-rule", "test-rules/x", "/x", "lake/x"])
def test_the_rule_role_writes_nothing_outside_the_raw_prefix(key):
    policy = filled.write_policy(FLEET, FLEET.raw_prefix)
    assert allows(policy, "s3:PutObject", f"arn:aws:s3:::{FLEET.bucket}/test-rule/rule1/1672900000000")
    assert not allows(policy, "s3:PutObject", f"arn:aws:s3:::{FLEET.bucket}/{key}")
    assert not allows(policy, "s3:GetObject", f"arn:aws:s3:::{FLEET.bucket}/test-rule/rule1/1672900000000")


HOOK_DEEDS = [
    ("iot:DescribeThing", iot(f"thing/{OWN}"), {"none", "s3", "dynamodb"}),
    ("iot:UpdateThing", iot(f"thing/{OWN}"), {"none", "s3", "dynamodb"}),
    ("iot:DescribeThing", iot("thing/other-297468OWN001"), set()),
    ("iot:CreateThing", iot(f"thing/{OWN}"), set()),
    ("logs:PutLogEvents", FLEET.arn("logs", f"log-group:/aws/lambda/{FLEET.hook_name}:log-stream:x"), {"none", "s3", "dynamodb"}),
    ("logs:PutLogEvents", FLEET.arn("logs", "log-group:/aws/lambda/other:log-stream:x"), set()),
    ("s3:GetObject", f"arn:aws:s3:::{FLEET.bucket}/allow-list/serials.txt", {"s3"}),
    ("s3:GetObject", f"arn:aws:s3:::{FLEET.bucket}/claim-certificate/claim.private.key", set()),
    ("dynamodb:GetItem", FLEET.arn("dynamodb", f"table/{FLEET.allow_list_table}"), {"dynamodb"}),
    ("dynamodb:PutItem", FLEET.arn("dynamodb", f"table/{FLEET.allow_list_table}"), set()),
]
"""What the hook does, to what, and with which allow-lists it may."""


@pytest.mark.parametrize(("action", "arn", "lists"), HOOK_DEEDS)
def test_the_hook_reads_the_allow_list_that_there_is_and_no_more(action, arn, lists):
    found = {name for name in ("none", "s3", "dynamodb") if allows(filled.hook_policy(replace(FLEET, allow_list=name)), action, arn)}
    assert found == lists


def test_aws_iot_takes_on_a_role_for_this_account_and_region_only():
    (statement,) = filled.iot_trust(FLEET)["Statement"]
    assert statement["Principal"] == {"Service": "iot.amazonaws.com"}
    assert statement["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "123456789012"},
        "ArnLike": {"aws:SourceArn": "arn:aws:iot:eu-central-1:123456789012:*"},
    }


@pytest.mark.parametrize(("document", "bucket"), [(filled.bucket_policy, FLEET.bucket), (filled.lake_bucket_policy, FLEET.lake_bucket)])
def test_both_buckets_refuse_every_request_without_tls(document, bucket):
    statement = document(FLEET)["Statement"][0]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Resource"] == [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_lake_refuses_to_overwrite_and_the_raw_bucket_does_not_so_that_rules_can_write():
    (_, statement) = filled.lake_bucket_policy(FLEET)["Statement"]
    assert (statement["Effect"], statement["Action"], statement["Resource"]) == ("Deny", "s3:PutObject", f"arn:aws:s3:::{FLEET.lake_bucket}/*")
    assert statement["Condition"] == {"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}}
    assert len(filled.bucket_policy(FLEET)["Statement"]) == 1


def test_the_template_makes_the_thing_of_the_serial_with_the_device_policy_as_the_cdk_app_did():
    assert filled.provisioning_template(FLEET) == {
        "Parameters": {"SerialNumber": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
        "Resources": {
            "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}},
            "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "cdk-test-dev-device-policy"}},
            "thing": {
                "Type": "AWS::IoT::Thing",
                "Properties": {"ThingName": {"Fn::Join": ["", ["test-thing-", {"Ref": "SerialNumber"}]]}, "AttributePayload": {}, "ThingGroups": []},
                "OverrideSettings": {"AttributePayload": "MERGE", "ThingTypeName": "DO_NOTHING", "ThingGroups": "REPLACE"},
            },
        },
    }
