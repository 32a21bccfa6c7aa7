"""What the people and machines around a fleet may do: IAM policies for the roles that this package runs as, and does not make itself.

Least privilege: each names this fleet's resources and no others. Neither may delete a message or a part of the lake.
"""

from fleet_pipeline.cloud.documents.filled import Document, filled_in
from fleet_pipeline.model.fleet import Fleet

MANAGED_POLICY_LIMIT = 6144
"""Characters of a managed policy without white space. Source: IAM User Guide, reference_iam-quotas."""


def compaction_policy(fleet: Fleet) -> Document:
    """Who compacts reads messages, adds to the lake, and keeps the lake's tables in step."""
    return filled_in("compaction-policy", fleet, _names(fleet))


def provisioner_policy(fleet: Fleet) -> Document:
    """Who provisions makes, changes and removes the fleet's resources, and reads no message."""
    document = filled_in("provisioner-policy", fleet, _names(fleet))
    [without_resource] = [each for each in document["Statement"] if each["Sid"] == "WhatHasNoResource"]
    without_resource["Action"] += [f"iot:{verb}" for verb in (*(_PROOF if fleet.own_ca != "none" else ()), *(_BULK if fleet.bulk_registration == "on" else ()))]
    document["Statement"] += [*_optional(fleet), *_former(fleet)]
    return document


def _names(fleet: Fleet) -> dict[str, str | list[str]]:
    return {
        "bucket": fleet.bucket,
        "lake-bucket": fleet.lake_bucket,
        "raw-prefix": fleet.raw_prefix,
        "prefix": fleet.prefix,
        "thing-prefix": fleet.thing_prefix,
        "topic-rules": [*(rule.aws_name for rule in fleet.rules), *([fleet.just_in_time_rule_name] if fleet.own_ca == "jitr" else [])],
        "own-prefixes": ["allow-list", "claim-certificate", "provisioning", *([fleet.bulk_prefix] if fleet.bulk_registration == "on" else [])],
        "database": fleet.database,
        "registration-policy": fleet.registration_policy_arn,
    }


def _optional(fleet: Fleet) -> list[Document]:
    """Return what only some settings need."""
    return [
        *([_allowed("AllowList", "dynamodb", _TABLE, _table(fleet))] if fleet.allow_list == "dynamodb" else []),
        *([_allowed("ClaimKeys", "secretsmanager", _SECRETS, _secrets(fleet))] if fleet.claim_store == "secretsmanager" else []),
        *([_allowed("OwnCa", "iot", _CA, fleet.arn("iot", "cacert/*"))] if fleet.own_ca != "none" else []),
    ]


def _former(fleet: Fleet) -> list[Document]:
    """Return what is needed to find and delete what other settings made: by the fleet's tag, or by the name that they gave it."""
    tagged = {"Condition": {"StringEquals": {f"aws:ResourceTag/{key}": value for key, value in fleet.tags.items() if key.endswith(":stack")}}}
    return [
        _allowed("FormerRules", "iot", ("DeleteTopicRule", "GetTopicRule"), fleet.arn("iot", "rule/*")) | tagged,
        *([_allowed("FormerCa", "iot", _FORMER_CA, fleet.arn("iot", "cacert/*")) | tagged] if fleet.own_ca == "none" else []),
        *([_allowed("FormerAllowList", "dynamodb", _FORMER_TABLE, _table(fleet))] if fleet.allow_list != "dynamodb" else []),
    ]


def _table(fleet: Fleet) -> str:
    return fleet.arn("dynamodb", f"table/{fleet.allow_list_table}")


_TABLE = ("CreateTable", "DeleteItem", "DeleteTable", "DescribeTable", "ListTagsOfResource", "PutItem", "Scan", "TagResource")
_SECRETS = ("CreateSecret", "DeleteSecret", "DescribeSecret", "GetSecretValue")
_CA = ("DeleteCACertificate", "DescribeCACertificate", "TagResource", "UpdateCACertificate")
_FORMER_CA = ("DeleteCACertificate", "DescribeCACertificate", "UpdateCACertificate")
_FORMER_TABLE = ("DeleteTable", "DescribeTable", "ListTagsOfResource", "Scan")
_PROOF = ("GetRegistrationCode", "RegisterCACertificate")
_BULK = ("DescribeThingRegistrationTask", "ListThingRegistrationTaskReports", "StartThingRegistrationTask")


def _secrets(fleet: Fleet) -> str:
    return fleet.arn("secretsmanager", f"secret:{fleet.prefix}/claim-certificate/*")


def _allowed(sid: str, service: str, verbs: tuple[str, ...], resource: str) -> Document:
    return {"Sid": sid, "Effect": "Allow", "Action": [f"{service}:{verb}" for verb in verbs], "Resource": resource}
