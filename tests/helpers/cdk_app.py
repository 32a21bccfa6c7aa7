"""The stacks of the CDK app that this project takes over, made by boto3 call for call, as it would have left them in an account."""

import io
import json
import zipfile
from typing import Any

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.model.fleet import Fleet

HOOK = """
import json, logging

logger = logging.getLogger()
logger.setLevel(logging.INFO)

def lambda_handler(event, context):
    logger.info(json.dumps(event))
    serial = event["parameters"]["SerialNumber"]
    return {"allowProvisioning": serial.startswith("297468")}
"""


def deploy(fleet: Fleet, aws: Aws) -> None:
    """Deploy both stacks."""
    _deploy_provisioning(fleet, aws)
    _deploy_rules(fleet, aws)


def _deploy_provisioning(fleet: Fleet, aws: Aws) -> None:
    iot = fleet.arn("iot", "")[:-1]
    aws.iot.create_policy(policyName=fleet.device_policy_name, policyDocument=_policy(*_device_statements(iot)))
    _role(aws, fleet.hook_role_name, "lambda.amazonaws.com", "AWS IAM role for pre-provisioning lambda")
    aws.functions.create_function(
        FunctionName=fleet.hook_name,
        Runtime="python3.9",
        Handler="lambda_function.lambda_handler",
        Role=fleet.role_arn(fleet.hook_role_name),
        Code={"ZipFile": _zip(HOOK)},
    )
    # CloudFormation makes the statement's id of the stack's and the resource's name.
    aws.functions.add_permission(
        FunctionName=fleet.hook_name,
        StatementId="AwsIotCoreProvisioningInfraStack-InvokePermission-1TJ5KEXAMPLE",
        Action="lambda:InvokeFunction",
        Principal="iot.amazonaws.com",
    )
    _role(aws, fleet.provisioning_role_name, "iot.amazonaws.com")
    registration = "arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration"
    aws.iam.attach_role_policy(RoleName=fleet.provisioning_role_name, PolicyArn=registration)
    aws.iot.create_provisioning_template(
        templateName=fleet.template_name,
        templateBody=json.dumps(_template(fleet)),
        enabled=True,
        provisioningRoleArn=fleet.role_arn(fleet.provisioning_role_name),
        preProvisioningHook={"payloadVersion": "2020-04-01", "targetArn": fleet.hook_arn},
    )
    _bucket(fleet, aws)
    aws.iot.create_policy(policyName=fleet.claim_policy_name, policyDocument=_policy(*_claim_statements(fleet, iot)))
    _claim_certificate(fleet, aws)


def _deploy_rules(fleet: Fleet, aws: Aws) -> None:
    _role(aws, fleet.rule_role_name, "iot.amazonaws.com")
    statement = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{fleet.bucket}/*"}
    aws.iam.put_role_policy(
        RoleName=fleet.rule_role_name, PolicyName="iotCoreRolePolicy", PolicyDocument=_policy(statement)
    )
    for rule in fleet.rules:
        action: Any = {
            "s3": {
                "bucketName": fleet.bucket,
                "key": "${topic()}/${timestamp()}",
                "roleArn": fleet.role_arn(fleet.rule_role_name),
            }
        }
        # The app names no version of SQL; AWS then takes the oldest, the emulator the newest.
        aws.iot.create_topic_rule(
            ruleName=rule.aws_name,
            topicRulePayload={"sql": rule.sql, "actions": [action], "awsIotSqlVersion": "2015-10-08"},
        )


def _bucket(fleet: Fleet, aws: Aws) -> None:
    where: Any = {"LocationConstraint": fleet.region}
    aws.s3.create_bucket(Bucket=fleet.bucket, CreateBucketConfiguration=where)
    every: Any = dict.fromkeys(
        ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
    )
    aws.s3.put_public_access_block(Bucket=fleet.bucket, PublicAccessBlockConfiguration=every)
    aws.s3.put_bucket_versioning(Bucket=fleet.bucket, VersioningConfiguration={"Status": "Enabled"})
    aws.s3.put_bucket_tagging(
        Bucket=fleet.bucket, Tagging={"TagSet": [{"Key": "aws-cdk:auto-delete-objects", "Value": "true"}]}
    )


def _claim_certificate(fleet: Fleet, aws: Aws) -> None:
    made = aws.iot.create_keys_and_certificate(setAsActive=True)
    parts = {
        "claim.pem": made["certificatePem"],
        "claim.public.key": made["keyPair"]["PublicKey"],
        "claim.private.key": made["keyPair"]["PrivateKey"],
    }
    for name, text in parts.items():
        aws.s3.put_object(Bucket=fleet.bucket, Key=f"claim-certificate/{name}", Body=text.encode())
    aws.iot.attach_policy(policyName=fleet.claim_policy_name, target=made["certificateArn"])


def _device_statements(iot: str) -> list[dict[str, Any]]:
    own = f"{iot}:topic/${{iot:ClientId}}"
    return [
        {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": ["iot:Publish", "iot:Receive", "iot:RetainPublish"],
            "Resource": [f"{iot}:topic/$aws/rules/*", own],
        },
        {"Effect": "Allow", "Action": "iot:Subscribe", "Resource": f"{iot}:topicfilter/${{iot:ClientId}}"},
    ]


def _claim_statements(fleet: Fleet, iot: str) -> list[dict[str, Any]]:
    topics = ("$aws/certificates/create/*", f"$aws/provisioning-templates/{fleet.template_name}/provision/*")
    return [
        {"Effect": "Allow", "Action": ["iot:Connect", "iot:RetainPublish"], "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": ["iot:Publish", "iot:Receive", "iot:RetainPublish"],
            "Resource": [f"{iot}:topic/{topic}" for topic in topics],
        },
        {"Effect": "Allow", "Action": "iot:Subscribe", "Resource": [f"{iot}:topicfilter/{topic}" for topic in topics]},
    ]


def _template(fleet: Fleet) -> dict[str, Any]:
    thing = {
        "ThingName": {"Fn::Join": ["", ["test-thing-", {"Ref": "SerialNumber"}]]},
        "AttributePayload": {},
        "ThingGroups": [],
    }
    certificate = {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}
    overriding = {"AttributePayload": "MERGE", "ThingTypeName": "REPLACE", "ThingGroups": "DO_NOTHING"}
    return {
        "Parameters": {"SerialNumber": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
        "Resources": {
            "certificate": {"Type": "AWS::IoT::Certificate", "Properties": certificate},
            "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": fleet.device_policy_name}},
            "thing": {"Type": "AWS::IoT::Thing", "Properties": thing, "OverrideSettings": overriding},
        },
    }


def _role(aws: Aws, name: str, service: str, description: str = "") -> None:
    trust = _policy({"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"})
    aws.iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust, Description=description)


def _policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def _zip(source: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("lambda_function.py", source)
    return buffer.getvalue()
