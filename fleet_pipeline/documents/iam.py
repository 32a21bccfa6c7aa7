"""What the people and machines around a fleet may do: IAM policies for the roles that this package runs as, and does not make itself.

Least privilege: each names this fleet's resources and no others. Neither may delete a message or a part of the lake.
"""

from fleet_pipeline.documents.filled import Document, filled_in
from fleet_pipeline.fleet import Fleet

MANAGED_POLICY_LIMIT = 6144
"""Characters of a managed policy without white space. Source: IAM User Guide, reference_iam-quotas."""


def compaction_policy(fleet: Fleet) -> Document:
    """Who compacts reads messages, adds to the lake, and keeps the lake's tables in step."""
    return filled_in("compaction-policy", fleet, _names(fleet))


def provisioner_policy(fleet: Fleet) -> Document:
    """Who provisions makes, changes and removes the fleet's resources, and reads no message."""
    document = filled_in("provisioner-policy", fleet, _names(fleet))
    if fleet.allow_list == "dynamodb":
        document["Statement"].append(_table(fleet))
    return document


def _names(fleet: Fleet) -> dict[str, str | list[str]]:
    return {
        "bucket": fleet.bucket,
        "lake-bucket": fleet.lake_bucket,
        "raw-prefix": fleet.raw_prefix,
        "prefix": fleet.prefix,
        "thing-prefix": fleet.thing_prefix,
        "topic-rules": [rule.aws_name for rule in fleet.rules],
        "own-prefixes": ["allow-list", "claim-certificate", "provisioning"],
        "database": fleet.database,
        "registration-policy": f"arn:{fleet.partition}:iam::aws:policy/service-role/AWSIoTThingsRegistration",
    }


def _table(fleet: Fleet) -> Document:
    verbs = ("CreateTable", "DeleteTable", "DescribeTable", "ListTagsOfResource", "PutItem", "Scan", "TagResource")
    actions = [f"dynamodb:{verb}" for verb in verbs]
    return {"Sid": "AllowList", "Effect": "Allow", "Action": actions, "Resource": fleet.arn("dynamodb", f"table/{fleet.allow_list_table}")}
