"""What the documents of `fleet iam` allow of buckets that exist, and of the inventories of which their hours are read."""

import pytest

from fleet_pipeline.cloud.documents.iam import compaction_policy, retention_policy
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.rule_table import RuleTable

ID = "11111111-2222-3333-4444-555555555555"


def fleet(*, layout="raw/{device}/{*}.json", inventory="s3://lists/daily/others/all", **settings):
    table = RuleTable(key="old", bucket="others", layout=layout, inventory=inventory)
    return Fleet(rule_keys=("rule1",), rule_tables=(table,), **settings)


def statements(document):
    return {each["Sid"]: (each["Action"], each["Resource"]) for each in document["Statement"]}


def test_whoever_compacts_may_see_find_and_read_inventories_and_nothing_else_of_their_bucket():
    said = statements(compaction_policy(fleet()))
    assert said["SeeInventories"] == (["s3:GetInventoryConfiguration"], ["arn:aws:s3:::others"])
    assert said["FindInventories"] == (["s3:ListBucketVersions"], ["arn:aws:s3:::lists"])
    assert said["ReadInventories"] == (["s3:GetObject"], ["arn:aws:s3:::lists/daily/others/all/*"])
    assert [sid for sid, (_, resource) in said.items() if "lists" in str(resource)] == [
        "FindInventories",
        "ReadInventories",
    ]


def test_where_keys_go_with_the_time_nothing_is_said_of_inventories():
    said = statements(compaction_policy(fleet(layout="firehose", inventory="")))
    assert not [sid for sid in said if "Inventories" in sid]


def test_a_retention_lists_the_bucket_itself_and_reads_no_inventory():
    assert not [sid for sid in statements(retention_policy(fleet())) if "Inventories" in sid]


@pytest.mark.parametrize(("key", "resource"), [(ID, f"key/{ID}"), ("alias/company", "key/*")])
def test_lists_that_the_fleets_own_key_encrypts_can_be_read_through_s3(key, resource):
    [right] = [
        each for each in compaction_policy(fleet(kms_key=key))["Statement"] if "kms:Decrypt" in str(each["Action"])
    ]
    assert right["Effect"] == "Allow"
    assert right["Resource"].endswith(f":{resource}")
    assert right["Condition"]["StringEquals"]["kms:ViaService"] == ["s3.eu-central-1.amazonaws.com"]


def test_without_a_key_of_the_fleets_no_document_speaks_of_one():
    assert "kms:" not in str(compaction_policy(fleet()))
