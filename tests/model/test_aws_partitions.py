"""The parts of AWS that have accounts of their own: China, GovCloud, the isolated regions, the European Sovereign Cloud."""

import botocore.session
import pytest

from fleet_pipeline.aws.store.s3 import address, amazons
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.partitions import AWS, PARTITIONS

BOTOCORES = botocore.session.get_session().get_component("data_loader").load_data("partitions")["partitions"]
REGIONS = [
    (partition["id"], region)
    for partition in BOTOCORES
    for region in partition["regions"]
    if not region.endswith("-global")
]


@pytest.mark.parametrize(("partition", "region"), REGIONS)
def test_every_region_that_botocore_knows_is_taken_and_its_arns_and_hosts_are_its_partitions(partition, region):
    fleet = Fleet(region=region)
    [theirs] = [each for each in BOTOCORES if each["id"] == partition]
    assert fleet.role_arn("x") == f"arn:{partition}:iam::{fleet.account}:role/x"
    assert amazons(f"https://s3.{region}.{theirs['outputs']['dnsSuffix']}")
    assert address(f"https://s3.{region}.{theirs['outputs']['dnsSuffix']}", "b")[1] == "/"


def test_the_domains_are_botocores():
    assert {each.name: each.domain for each in (AWS, *PARTITIONS.values())} == {
        each["id"]: each["outputs"]["dnsSuffix"] for each in BOTOCORES
    }


def test_a_page_of_the_console_is_named_where_there_is_one():
    assert (
        Fleet(region="cn-north-1").console_url("s3/buckets/b") == "https://cn-north-1.console.amazonaws.cn/s3/buckets/b"
    )
    assert Fleet(region="us-gov-west-1").console_url("s3") == "https://us-gov-west-1.console.amazonaws-us-gov.com/s3"
    assert Fleet(region="us-iso-east-1").console_url("s3") is None
