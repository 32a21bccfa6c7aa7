"""What another team has in the account: of every kind that this package makes, some of it named as ours would be; and all of it as AWS tells it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fleet_pipeline.aws.clients import Aws, absent
from fleet_pipeline.cloud.documents.filled import provisioning_template
from fleet_pipeline.cloud.reconcile import STACK_TAG
from fleet_pipeline.model.fleet import Fleet

POLICY = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}]}
)
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)
TAGS = [{"Key": STACK_TAG, "Value": "another-fleet"}, {"Key": "team", "Value": "another"}]

Snapshot = dict[tuple[str, str], Any]


def settle(aws: Aws, fleet: Fleet) -> None:
    """Give another team some of everything. Names that begin as ours do are those of a fleet whose environment begins as ours does."""
    prefix = f"{fleet.prefix}2"
    _certificates_and_things(aws, fleet, prefix)
    role = aws.iam.create_role(RoleName=f"{prefix}-rule-engine-role", AssumeRolePolicyDocument=TRUST, Tags=TAGS)[
        "Role"
    ]["Arn"]
    aws.iam.put_role_policy(
        RoleName=f"{prefix}-rule-engine-role", PolicyName="iotCoreRolePolicy", PolicyDocument=POLICY
    )
    aws.functions.create_function(
        FunctionName=f"{prefix}-hook",
        Runtime="python3.12",
        Handler="x.y",
        Role=role,
        Code={"ZipFile": empty_zip()},
        Tags={"team": "another"},
    )
    aws.functions.add_permission(
        FunctionName=f"{prefix}-hook",
        StatementId="theirs",
        Action="lambda:InvokeFunction",
        Principal="iot.amazonaws.com",
    )
    _rules_and_template(aws, fleet, prefix, role)
    _data(aws, fleet, prefix)


def put_ours_on_their_group(aws: Aws, policy: str) -> None:
    """Their thing group gets a policy of ours, as an administrator might do by hand."""
    aws.iot.attach_policy(
        policyName=policy, target=aws.iot.describe_thing_group(thingGroupName="another-group")["thingGroupArn"]
    )


def make_certificates_beside(aws: Aws, note: Path) -> None:
    """Let them make an inactive certificate before and after each that these clients make, within the same second, and note its id."""
    theirs = Aws(aws.region, aws.account, aws.endpoint_url)

    def make(**_: Any) -> None:
        with note.open("a") as file:
            file.write(f"{inactive_certificate(theirs)}\n")

    for call in ("CreateCertificateFromCsr", "CreateKeysAndCertificate"):
        for when in ("before-call", "after-call"):
            aws.iot.meta.events.register_first(f"{when}.iot.{call}", make)


def inactive_certificate(aws: Aws) -> str:
    """Make a certificate that is inactive and stands on nothing; return its id."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "another team")])
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    return aws.iot.create_certificate_from_csr(
        certificateSigningRequest=request.public_bytes(Encoding.PEM).decode(), setAsActive=False
    )["certificateId"]


def snapshot(aws: Aws) -> Snapshot:
    """Return everything that there is in the account, by kind and name, whoever made it."""
    return {(kind, name): found for kind, search in KINDS.items() for name, found in search(aws)}


def lost(before: Snapshot, now: Snapshot) -> dict[tuple[str, str], Any]:
    """Return what is missing or no longer as it was, with what it was and what it is."""
    return {each: (found, now.get(each)) for each, found in before.items() if now.get(each) != found}


def _certificates_and_things(aws: Aws, fleet: Fleet, prefix: str) -> None:
    aws.iot.create_policy(policyName=f"{prefix}-device-policy", policyDocument=POLICY, tags=TAGS)
    aws.iot.create_policy_version(policyName=f"{prefix}-device-policy", policyDocument=POLICY, setAsDefault=True)
    aws.iot.create_thing_group(thingGroupName="another-group")
    for thing in (f"{fleet.thing_prefix}ANOTHER", "another-thing"):  # one of them named as a vehicle of ours
        arn = aws.iot.create_keys_and_certificate(setAsActive=True)["certificateArn"]
        aws.iot.create_thing(thingName=thing, attributePayload={"attributes": {"team": "another"}})
        aws.iot.attach_thing_principal(thingName=thing, principal=arn)
        aws.iot.attach_policy(policyName=f"{prefix}-device-policy", target=arn)
        aws.iot.add_thing_to_thing_group(thingGroupName="another-group", thingName=thing)
    aws.iot.create_thing(thingName=f"{fleet.thing_prefix}BARE")
    inactive_certificate(aws)
    revoked = inactive_certificate(aws)
    aws.iot.update_certificate(certificateId=revoked, newStatus="REVOKED")


def _rules_and_template(aws: Aws, fleet: Fleet, prefix: str, role: str) -> None:
    raw = fleet.raw_prefix.replace("-", "_")
    action: Any = {"lambda": {"functionArn": fleet.arn("lambda", f"function:{prefix}-hook")}}
    for key, tags in (
        ("theirs", {"tags": f"{STACK_TAG}=another-fleet"}),
        ("untagged", {}),
    ):  # named after their topic, as ours are
        payload: Any = {"sql": f"SELECT * FROM '{fleet.raw_prefix}/{key}'", "actions": [action]}
        aws.iot.create_topic_rule(ruleName=f"{raw}_{key}", topicRulePayload=payload, **tags)
    body = json.dumps(provisioning_template(fleet))
    aws.iot.create_provisioning_template(
        templateName=f"{prefix}-t", templateBody=body, enabled=True, provisioningRoleArn=role, tags=TAGS
    )


def _data(aws: Aws, fleet: Fleet, prefix: str) -> None:
    bucket = f"{fleet.bucket}-another"[-63:]
    aws.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": fleet.region})
    aws.s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "team", "Value": "another"}]})
    for key in ("claim-certificate/claim.pem", f"{fleet.raw_prefix}/rule1/1795442400123", "provisioning/lock.json"):
        aws.s3.put_object(Bucket=bucket, Key=key, Body=b"theirs")
    aws.dynamodb.create_table(
        TableName=f"{prefix}-allow-list",
        KeySchema=[{"AttributeName": "serial", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "serial", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        Tags=TAGS,
    )
    aws.dynamodb.put_item(TableName=f"{prefix}-allow-list", Item={"serial": {"S": f"{fleet.serial_prefix}000001"}})
    aws.secrets.create_secret(Name=f"{fleet.prefix}/claim-certificate/theirs", SecretString="theirs")
    aws.logs.create_log_group(logGroupName=f"/aws/lambda/{fleet.hook_name}-2")
    aws.glue.create_database(DatabaseInput={"Name": f"{fleet.database}_2", "Description": "theirs"})


def empty_zip() -> bytes:
    """Return a zip file without an entry."""
    return b"PK\x05\x06" + bytes(18)


def _certificates(aws: Aws) -> Any:
    for each in _all(aws.iot, "list_certificates", "certificates"):
        described = aws.iot.describe_certificate(certificateId=each["certificateId"])["certificateDescription"]
        on = _all(aws.iot, "list_attached_policies", "policies", target=each["certificateArn"])
        things = _all(aws.iot, "list_principal_things", "things", principal=each["certificateArn"])
        yield (
            each["certificateId"],
            (
                described["status"],
                described["certificatePem"],
                sorted(policy["policyName"] for policy in on),
                sorted(things),
            ),
        )


def _policies(aws: Aws) -> Any:
    for each in _all(aws.iot, "list_policies", "policies"):
        name = each["policyName"]
        versions = aws.iot.list_policy_versions(policyName=name)["policyVersions"]
        yield (
            name,
            (
                aws.iot.get_policy(policyName=name)["policyDocument"],
                sorted((version["versionId"], version["isDefaultVersion"]) for version in versions),
                _tags(aws, each["policyArn"]),
                sorted(_all(aws.iot, "list_targets_for_policy", "targets", policyName=name)),
            ),
        )


def _things(aws: Aws) -> Any:
    for each in _all(aws.iot, "list_things", "things"):
        found = aws.iot.describe_thing(thingName=each["thingName"])
        principals = _all(aws.iot, "list_thing_principals", "principals", thingName=each["thingName"])
        groups = _all(aws.iot, "list_thing_groups_for_thing", "thingGroups", thingName=each["thingName"])
        yield (
            each["thingName"],
            (found["attributes"], found["version"], sorted(principals), [group["groupName"] for group in groups]),
        )


def _groups(aws: Aws) -> Any:
    for each in _all(aws.iot, "list_thing_groups", "thingGroups"):
        found = aws.iot.describe_thing_group(thingGroupName=each["groupName"])
        policies = _all(aws.iot, "list_attached_policies", "policies", target=each["groupArn"])
        things = _all(aws.iot, "list_things_in_thing_group", "things", thingGroupName=each["groupName"])
        yield each["groupName"], (found["version"], sorted(policy["policyName"] for policy in policies), sorted(things))


def _rules(aws: Aws) -> Any:
    for each in _all(aws.iot, "list_topic_rules", "rules"):
        yield each["ruleName"], (aws.iot.get_topic_rule(ruleName=each["ruleName"])["rule"], _tags(aws, each["ruleArn"]))


def _templates(aws: Aws) -> Any:
    for each in _all(aws.iot, "list_provisioning_templates", "templates"):
        found = aws.iot.describe_provisioning_template(templateName=each["templateName"])
        yield (
            each["templateName"],
            (found["templateBody"], found["enabled"], found["defaultVersionId"], _tags(aws, each["templateArn"])),
        )


def _roles(aws: Aws) -> Any:
    for each in _all(aws.iam, "list_roles", "Roles"):
        name = each["RoleName"]
        inline = {
            policy: aws.iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
            for policy in aws.iam.list_role_policies(RoleName=name)["PolicyNames"]
        }
        yield (
            name,
            (
                each["AssumeRolePolicyDocument"],
                inline,
                aws.iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"],
                aws.iam.list_role_tags(RoleName=name)["Tags"],
            ),
        )


def _functions(aws: Aws) -> Any:
    for each in _all(aws.functions, "list_functions", "Functions"):
        found = aws.functions.get_function(FunctionName=each["FunctionName"])
        with absent("ResourceNotFoundException"):
            found["Policy"] = aws.functions.get_policy(FunctionName=each["FunctionName"])["Policy"]
        yield (
            each["FunctionName"],
            (
                found["Configuration"]["CodeSha256"],
                found["Configuration"]["LastModified"],
                found.get("Tags"),
                found.get("Policy"),
            ),
        )


def _buckets(aws: Aws) -> Any:
    for each in aws.s3.list_buckets()["Buckets"]:
        name, tags = each["Name"], []
        with absent("NoSuchTagSet"):
            tags = aws.s3.get_bucket_tagging(Bucket=name)["TagSet"]
        versions = _all(aws.s3, "list_object_versions", "Versions", Bucket=name)
        yield (
            name,
            (
                tags,
                aws.s3.get_bucket_versioning(Bucket=name).get("Status"),
                sorted((each["Key"], each["VersionId"], each["ETag"]) for each in versions),
            ),
        )


def _tables(aws: Aws) -> Any:
    for name in _all(aws.dynamodb, "list_tables", "TableNames"):
        arn = aws.dynamodb.describe_table(TableName=name)["Table"]["TableArn"]
        yield (
            name,
            (aws.dynamodb.scan(TableName=name)["Items"], aws.dynamodb.list_tags_of_resource(ResourceArn=arn)["Tags"]),
        )


def _secrets(aws: Aws) -> Any:
    for each in aws.secrets.list_secrets()["SecretList"]:
        yield each["Name"], aws.secrets.get_secret_value(SecretId=each["Name"])["SecretString"]


def _logs(aws: Aws) -> Any:
    for each in _all(aws.logs, "describe_log_groups", "logGroups"):
        yield each["logGroupName"], each["creationTime"]


def _databases(aws: Aws) -> Any:
    for each in _all(aws.glue, "get_databases", "DatabaseList"):
        yield each["Name"], each.get("Description")


def _all(client: Any, operation: str, listed: str, **of: Any) -> list[Any]:
    return [each for page in client.get_paginator(operation).paginate(**of) for each in page.get(listed, [])]


def _tags(aws: Aws, arn: str) -> Any:
    return sorted(
        (tag["Key"], tag["Value"]) for tag in _all(aws.iot, "list_tags_for_resource", "tags", resourceArn=arn)
    )


KINDS: dict[str, Callable[[Aws], Any]] = {
    "certificate": _certificates,
    "IoT policy": _policies,
    "thing": _things,
    "thing group": _groups,
    "topic rule": _rules,
    "provisioning template": _templates,
    "role": _roles,
    "function": _functions,
    "bucket": _buckets,
    "table": _tables,
    "secret": _secrets,
    "log group": _logs,
    "database": _databases,
}
"""Every kind of which this package makes one, and thing groups, which it never makes."""
