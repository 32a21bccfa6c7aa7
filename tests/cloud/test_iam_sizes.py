"""Each document fits into what AWS takes, in every partition, with the longest names that the settings take."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import botocore.session
import pytest
from iam_documents import documents

from fleet_pipeline.cloud.blueprint import blueprint, resources
from fleet_pipeline.cloud.documents.iam import MANAGED_POLICY_LIMIT, PROVISIONER
from fleet_pipeline.cloud.enrolment.further_policy import FurtherDevicePolicy
from fleet_pipeline.cloud.kinds.bucket import Bucket
from fleet_pipeline.cloud.kinds.iot_policy import IotPolicy
from fleet_pipeline.cloud.kinds.role import Role
from fleet_pipeline.model.device import POLICY_DOCUMENT_LIMIT
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.rule_table import RuleTable
from fleet_pipeline.model.thing import ThingTable

INLINE_LIMIT, TRUST_LIMIT, BUCKET_LIMIT = 10_240, 2048, 20_480
"""Characters without white space: of a role's inline policies together, of its trust; bytes of a bucket's policy. Source: IAM and S3 User Guides, quotas."""
PAGE = Path(__file__).parents[2] / "docs" / "iam.md"
BOTOCORES = botocore.session.get_session().get_component("data_loader").load_data("partitions")["partitions"]
PARTITIONS = [each["id"] for each in BOTOCORES]

GIVEN = RuleTable(
    key="given",
    bucket="g" * 63,
    layout="{*}/{device}/{*}.json",
    inventory=f"s3://{'i' * 63}/{'p' * 512}/{'g' * 63}/{'c' * 64}/",
)
"""A rule of a bucket that exists, read from the inventory with the longest name."""


@cache
def longest(partition):
    """Return the fleet with the longest names and every option, in the partition's longest region."""
    [regions] = [each["regions"] for each in BOTOCORES if each["id"] == partition]
    region = max((name for name in regions if not name.endswith("-global")), key=len)
    names = {
        "service": "s" * 8,
        "environment": "e" * 8,
        "bucket": "b" * 63,
        "lake_bucket": "l" * 63,
        "raw_prefix": "r" * 60,
        "errors_prefix": "e" * 60,
    }
    options = {
        "allow_list": "dynamodb",
        "delivery": "firehose",
        "claim_store": "secretsmanager",
        "own_ca": "jitr",
        "bulk_registration": "on",
        "serial_prefix": "9" * 20,
        "kms_key": f"alias/{'k' * 250}",
        "tags": tuple((f"{'t' * 11}{number:02}", "v") for number in range(12)),
        "role_path": f"/{'p' * 510}/",
        "log_retention_days": 365,
        "hook_concurrency": 10,
        "hook_dead_letters": f"arn:{partition}:sqs:{region}:123456789012:{'q' * 80}",
        "access_log_bucket": "a" * 63,
        "hook_file": "checks.py",
        "iceberg": "glue",
        "iceberg_namespace": "i" * 120,
        "hook_policies": tuple(f"arn:{partition}:iam::123456789012:policy/{'p' * 199}{number}" for number in range(2)),
        "hook_subnets": tuple(f"subnet-{number:017x}" for number in range(5)),
        "hook_security_groups": tuple(f"sg-{number:017x}" for number in range(5)),
        "thing": ThingTable(
            name=f"{'n' * 60}${{SerialNumber}}",
            type="t" * 64,
            groups=tuple(f"{'g' * 63}{number}" for number in range(5)),
            billing_group="b" * 64,
        ),
    }
    fleet = Fleet(
        region=region,
        role_boundary=f"arn:{partition}:iam::123456789012:policy/{'p' * 512}",
        parquet_prefix="p" * 60,
        rule_keys=("k",),
        rule_tables=(GIVEN,),
        **names,
        **options,
    )
    return max(
        (most_rules(replace(fleet, raw_prefix="r" * length)) for length in (1, 60)),
        key=lambda each: sum(map(size, documents(each).values())),
    )


def most_rules(fleet):
    """Return the fleet with as many rules as its provisioner's document names one by one."""
    longer = fleet
    while "_*" not in json.dumps(PROVISIONER["things"](longer)):
        fleet, longer = longer, replace(longer, rule_keys=(*longer.rule_keys, f"k{len(longer.rule_keys)}"))
    return fleet


def size(document):
    return len(json.dumps(document, separators=(",", ":")))


@pytest.mark.parametrize("partition", PARTITIONS)
def test_each_document_that_is_printed_fits_into_a_managed_policy(partition):
    assert {
        name: size(document)
        for name, document in documents(longest(partition)).items()
        if size(document) > MANAGED_POLICY_LIMIT
    } == {}


@pytest.mark.parametrize("partition", PARTITIONS)
def test_each_document_of_the_fleets_own_resources_fits(partition):
    for resource in resources(blueprint(replace(longest(partition), own_ca="none", hook_file="", hook_policies=()))):
        if isinstance(resource, Role):
            assert sum(map(size, resource.inline.values())) <= INLINE_LIMIT
            assert size(resource.trust) <= TRUST_LIMIT
        if isinstance(resource, Bucket):
            assert size(resource.policy) <= BUCKET_LIMIT
        if isinstance(resource, IotPolicy | FurtherDevicePolicy):
            assert size(resource.document) <= POLICY_DOCUMENT_LIMIT


def test_the_table_of_sizes_is_what_they_are():
    rows = {
        name: [size(documents(longest(partition))[name]) for partition in PARTITIONS]
        for name in documents(longest("aws"))
    }
    head = f"| `fleet iam …` | {' | '.join(PARTITIONS)} |"
    table = "\n".join(
        [
            head,
            "|---|" + "--:|" * len(PARTITIONS),
            *(f"| `{name}` | {' | '.join(map(str, sizes))} |" for name, sizes in rows.items()),
        ]
    )
    assert table in PAGE.read_text(), table
