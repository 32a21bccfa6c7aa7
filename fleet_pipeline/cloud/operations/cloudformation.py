"""The same blueprint as a CloudFormation template, for teams that must hand it to a platform group.

Two things it cannot hold: the claim certificate, whose private key everyone who may read the stack would see, so its
ARN is a parameter; and the hook's code, which is longer than the 4,096 characters that a template takes, so its place
in S3 is two. Buckets with their policies and tables are retained when the stack is deleted. Source: AWS CloudFormation
Template Reference.
"""

import json
from collections.abc import Callable
from functools import singledispatch
from typing import Any

from fleet_pipeline.cloud.blueprint import BlueprintPart, blueprint
from fleet_pipeline.cloud.enrolment.allow_list import AllowListTable
from fleet_pipeline.cloud.enrolment.further_policy import FurtherDevicePolicy
from fleet_pipeline.cloud.kinds.attachment import PolicyAttachment
from fleet_pipeline.cloud.kinds.billing_group import BillingGroup
from fleet_pipeline.cloud.kinds.bucket import Bucket
from fleet_pipeline.cloud.kinds.delivery_stream import DeliveryStream
from fleet_pipeline.cloud.kinds.function import Function
from fleet_pipeline.cloud.kinds.iot_policy import IotPolicy
from fleet_pipeline.cloud.kinds.log_group import LogGroup
from fleet_pipeline.cloud.kinds.permission import InvokePermission
from fleet_pipeline.cloud.kinds.role import Role
from fleet_pipeline.cloud.kinds.template import Template
from fleet_pipeline.cloud.kinds.thing_group import ThingGroup
from fleet_pipeline.cloud.kinds.thing_type import ThingType
from fleet_pipeline.cloud.kinds.topic_rule import TopicRule
from fleet_pipeline.cloud.lifecycle_rules import Rules
from fleet_pipeline.cloud.reconcile import Resource
from fleet_pipeline.cloud.tags import spelled
from fleet_pipeline.model.fleet import Fleet

Properties = dict[str, Any]

CERTIFICATE = "ClaimCertificateArn"
"""Parameter: the ARN of a claim certificate that was made elsewhere."""

CODE_BUCKET = "CodeBucket"
"""Parameter: the bucket in which the functions' code lies."""

KMS_KEY = "KmsKeyArn"
"""Parameter, where a KMS key is chosen: its ARN. CloudWatch Logs takes no alias."""

_MAPS = {"clientProperties", "tags"}
"""Parameters of actions whose own names are not AWS's: of Kafka's client, and of InfluxDB's tags.

A test compares them with botocore's model.
"""

_RETAINED = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}


def cloudformation(fleet: Fleet) -> dict[str, Any]:
    """Return the template of a fleet. Parts that CloudFormation cannot make are named in its metadata."""
    parts = {name: (part, exported(part.resource)) for name, part in blueprint(fleet).items()}
    made = {name: each for name, each in parts.items() if each[1]}
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"The vehicle fleet {fleet.prefix} in {fleet.account}, {fleet.region}",
        "Metadata": {"NotExported": [name for name, each in parts.items() if not each[1]]},
        "Parameters": {
            CERTIFICATE: {"Type": "String"},
            **_key_parameter(fleet),
            **_code_parameters([part.resource for part, _ in made.values()]),
        },
        "Resources": {
            _logical(name, suffix): _resource(part, one, made)
            for name, (part, all_of_it) in made.items()
            for suffix, one in all_of_it.items()
        },
    }


@singledispatch
def exported(_resource: Resource) -> dict[str, Properties]:
    """Return what a resource is in CloudFormation, by suffixes of its logical name; nothing for what CloudFormation
    cannot make.
    """
    return {}


@exported.register
def _bucket(bucket: Bucket) -> dict[str, Properties]:
    blocked = dict.fromkeys(
        ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"),
        bucket.public_access_blocked,
    )
    properties = {
        "BucketName": bucket.name,
        "VersioningConfiguration": {"Status": "Enabled" if bucket.versioned else "Suspended"},
        "PublicAccessBlockConfiguration": blocked,
        "BucketEncryption": {"ServerSideEncryptionConfiguration": [_encryption(bucket)]},
        **({"LoggingConfiguration": _access_logs(bucket.access_logs)} if bucket.access_logs else {}),
        **({"LifecycleConfiguration": {"Rules": _lifecycle(bucket.lifecycle)}} if bucket.lifecycle else {}),
        "Tags": spelled(bucket.tags),
    }
    policy = {
        "Type": "AWS::S3::BucketPolicy",
        **_RETAINED,
        "Properties": {"Bucket": bucket.name, "PolicyDocument": bucket.policy},
    }
    return {"": {"Type": "AWS::S3::Bucket", **_RETAINED, "Properties": properties}, "Policy": policy}


def _lifecycle(rules: Rules) -> list[Properties]:
    """Return lifecycle rules as CloudFormation spells them."""
    spelt: dict[str, Callable[[Any], Properties]] = {
        "Expiration": lambda said: (
            {"ExpirationInDays": said["Days"]} if "Days" in said else {"ExpiredObjectDeleteMarker": True}
        ),
        "NoncurrentVersionExpiration": lambda said: {"NoncurrentVersionExpiration": said},
        "AbortIncompleteMultipartUpload": lambda said: {"AbortIncompleteMultipartUpload": said},
        "Status": lambda said: {"Status": said},
        "Filter": lambda said: {"Prefix": said["Prefix"]} if said["Prefix"] else {},
    }
    return [
        {"Id": name} | {key: each for field, said in rule.items() for key, each in spelt[field](said).items()}
        for name, rule in rules.items()
    ]


def _access_logs(where: str) -> Properties:
    bucket, _, prefix = where.removeprefix("s3://").partition("/")
    return {"DestinationBucketName": bucket, "LogFilePrefix": prefix}


def _encryption(bucket: Bucket) -> Properties:
    key = {"KMSMasterKeyID": {"Ref": KMS_KEY}} if bucket.kms_key else {}
    return {
        "ServerSideEncryptionByDefault": {"SSEAlgorithm": bucket.encryption} | key,
        **({"BucketKeyEnabled": True} if key else {}),
    }


@exported.register
def _log_group(group: LogGroup) -> dict[str, Properties]:
    properties = {
        "LogGroupName": group.name,
        **({"KmsKeyId": {"Ref": KMS_KEY}} if group.kms_key else {}),
        **({"RetentionInDays": group.retention_days} if group.retention_days else {}),
        **({"Tags": spelled(group.tags)} if group.tags else {}),
    }
    return {"": {"Type": "AWS::Logs::LogGroup", "Properties": properties}}


@exported.register
def _role(role: Role) -> dict[str, Properties]:
    properties = {
        "RoleName": role.name,
        **({"Path": role.path} if role.path != "/" else {}),
        "Description": role.description,
        "AssumeRolePolicyDocument": role.trust,
        "Policies": [{"PolicyName": name, "PolicyDocument": document} for name, document in role.inline.items()],
        "ManagedPolicyArns": [*role.managed],
        **({"PermissionsBoundary": role.boundary} if role.boundary else {}),
        "Tags": spelled(role.tags),
    }
    return {"": {"Type": "AWS::IAM::Role", "Properties": properties}}


@exported.register
def _function(function: Function) -> dict[str, Properties]:
    properties = {
        "FunctionName": function.name,
        "Description": function.description,
        "Role": function.role_arn,
        "Runtime": function.runtime,
        "Handler": function.handler,
        "Timeout": function.timeout_s,
        "MemorySize": function.memory_mb,
        "Environment": {"Variables": function.environment},
        "Code": {"S3Bucket": {"Ref": CODE_BUCKET}, "S3Key": {"Ref": _code_key(function)}},
        **({"ReservedConcurrentExecutions": function.concurrency} if function.concurrency else {}),
        **({"DeadLetterConfig": {"TargetArn": function.dead_letters}} if function.dead_letters else {}),
        **(
            {"VpcConfig": {"SubnetIds": [*function.subnets], "SecurityGroupIds": [*function.security_groups]}}
            if function.subnets
            else {}
        ),
        "Tags": spelled(function.tags),
    }
    return {"": {"Type": "AWS::Lambda::Function", "Properties": properties}}


@exported.register
def _permission(permission: InvokePermission) -> dict[str, Properties]:
    properties = {
        "FunctionName": permission.name,
        "Action": permission.action,
        "Principal": permission.principal,
        "SourceArn": permission.source_arn,
        "SourceAccount": permission.source_account,
    }
    return {"": {"Type": "AWS::Lambda::Permission", "Properties": properties}}


@exported.register
def _policy(policy: IotPolicy | FurtherDevicePolicy) -> dict[str, Properties]:
    properties = {"PolicyName": policy.name, "PolicyDocument": policy.document, "Tags": spelled(policy.tags)}
    return {"": {"Type": "AWS::IoT::Policy", "Properties": properties}}


@exported.register
def _attachment(attachment: PolicyAttachment) -> dict[str, Properties]:
    properties = {"PolicyName": attachment.name, "Principal": {"Ref": CERTIFICATE}}
    return {"": {"Type": "AWS::IoT::PolicyPrincipalAttachment", "Properties": properties}}


@exported.register
def _template(template: Template) -> dict[str, Properties]:
    hook = (
        {"PreProvisioningHook": {"PayloadVersion": template.payload_version, "TargetArn": template.hook_arn}}
        if template.hook_arn
        else {}
    )
    properties = {
        "TemplateName": template.name,
        "Description": template.description,
        "Enabled": template.enabled,
        "ProvisioningRoleArn": template.role_arn,
        "TemplateBody": json.dumps(template.body),
        "TemplateType": template.type,
        **hook,
        "Tags": spelled(template.tags),
    }
    return {"": {"Type": "AWS::IoT::ProvisioningTemplate", "Properties": properties}}


@exported.register
def _topic_rule(rule: TopicRule) -> dict[str, Properties]:
    payload = {
        "Sql": rule.sql,
        "Description": rule.description,
        "Actions": [_capitalized(each) for each in (rule.action, *rule.further_actions)],
        "ErrorAction": _capitalized(rule.error_action),
        "AwsIotSqlVersion": rule.sql_version,
        "RuleDisabled": rule.disabled,
    }
    return {
        "": {
            "Type": "AWS::IoT::TopicRule",
            "Properties": {"RuleName": rule.name, "TopicRulePayload": payload, "Tags": spelled(rule.tags)},
        }
    }


@exported.register
def _delivery_stream(stream: DeliveryStream) -> dict[str, Properties]:
    properties = {
        "DeliveryStreamName": stream.name,
        "DeliveryStreamType": stream.source,
        "DeliveryStreamEncryptionConfigurationInput": {"KeyType": "AWS_OWNED_CMK"},
        "ExtendedS3DestinationConfiguration": stream.to_s3(),
        "Tags": spelled(stream.tags),
    }
    return {"": {"Type": "AWS::KinesisFirehose::DeliveryStream", "Properties": properties}}


@exported.register
def _thing_type(each: ThingType) -> dict[str, Properties]:
    properties = {"ThingTypeName": each.name, "DeprecateThingType": each.deprecated, "Tags": spelled(each.tags)}
    return {"": {"Type": "AWS::IoT::ThingType", "Properties": properties}}


@exported.register
def _thing_group(each: ThingGroup) -> dict[str, Properties]:
    return {
        "": {"Type": "AWS::IoT::ThingGroup", "Properties": {"ThingGroupName": each.name, "Tags": spelled(each.tags)}}
    }


@exported.register
def _billing_group(each: BillingGroup) -> dict[str, Properties]:
    return {
        "": {
            "Type": "AWS::IoT::BillingGroup",
            "Properties": {"BillingGroupName": each.name, "Tags": spelled(each.tags)},
        }
    }


@exported.register
def _table(table: AllowListTable) -> dict[str, Properties]:
    properties = {
        "TableName": table.name,
        "AttributeDefinitions": [{"AttributeName": table.key, "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": table.key, "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
        **(
            {"SSESpecification": {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": {"Ref": KMS_KEY}}}
            if table.kms_key
            else {}
        ),
        "Tags": spelled(table.tags),
    }
    return {"": {"Type": "AWS::DynamoDB::Table", **_RETAINED, "Properties": properties}}


def _resource(part: BlueprintPart, one: Properties, made: dict[str, Any]) -> Properties:
    """Return a resource that waits for what the blueprint says, and a bucket's policy also for its bucket."""
    before = [_logical(name) for name in part.after if name in made]
    if one["Type"] == "AWS::S3::BucketPolicy":
        before = [_logical(name) for name, (other, _) in made.items() if other is part]
    return {**one, **({"DependsOn": before} if before else {})}


def _logical(part_name: str, suffix: str = "") -> str:
    """Return the logical name of a part: `claim_policy` is ClaimPolicy."""
    return "".join(word[:1].upper() + word[1:] for word in part_name.split("_")) + suffix


def _key_parameter(fleet: Fleet) -> dict[str, Any]:
    """Return the parameter of the KMS key, which need not be given where the settings name its ARN."""
    known = {} if ":alias/" in fleet.kms_key_arn else {"Default": fleet.kms_key_arn}
    return {KMS_KEY: {"Type": "String", **known}} if fleet.kms_key else {}


def _code_key(function: Function) -> str:
    return f"CodeKey{''.join(word.capitalize() for word in function.handler.split('.')[0].split('_'))}"


def _code_parameters(resources: list[Resource]) -> dict[str, Any]:
    functions = [each for each in resources if isinstance(each, Function)]
    return {
        name: {"Type": "String"}
        for name in ([CODE_BUCKET] if functions else []) + [_code_key(each) for each in functions]
    }


def _capitalized(node: Any) -> Any:
    """Return an action as CloudFormation spells it: `roleArn` is RoleArn. Names in a map are the user's, and stay."""
    if isinstance(node, list):
        return [_capitalized(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {key[:1].upper() + key[1:]: value if key in _MAPS else _capitalized(value) for key, value in node.items()}
