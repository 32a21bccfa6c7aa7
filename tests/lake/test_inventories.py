"""Which of the inventories that are configured of a bucket a rule can be read from. botocore's Stubber answers as S3's model says: AWS on this machine has no inventories."""

import pytest
from botocore.stub import Stubber

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.lake.operations.adoption import as_toml
from fleet_pipeline.lake.operations.inventories import Inventories, inventories, sentences
from fleet_pipeline.model.errors import AwsRefused
from fleet_pipeline.model.rule_table import RuleTable

ACCOUNT, METHOD = "123456789012", "list_bucket_inventory_configurations"
TABLE = RuleTable(key="old", bucket="others", layout="raw/{device}/{*}.json")


@pytest.fixture
def account(monkeypatch):
    """Clients of an account that never leave this process: whatever is not expected is an error."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    aws = Aws("eu-central-1", ACCOUNT)
    with Stubber(aws.s3) as stub:
        yield aws, stub
        stub.assert_no_pending_responses()


def configuration(name="all", destination=(), **said):
    place = {"Bucket": "arn:aws:s3:::lists", "Format": "Parquet", "Prefix": "daily", **dict(destination)}
    return {
        "Id": name,
        "IsEnabled": True,
        "IncludedObjectVersions": "All",
        "Schedule": {"Frequency": "Daily"},
        "OptionalFields": ["Size", "LastModifiedDate", "StorageClass", "ETag"],
        "Destination": {"S3BucketDestination": place},
    } | said


def answer(stub, configurations, asked=None, following=""):
    said = {"IsTruncated": bool(following), "InventoryConfigurationList": configurations}
    said |= {"NextContinuationToken": following} if following else {}
    expected = {"Bucket": "others", "ExpectedBucketOwner": ACCOUNT} | ({"ContinuationToken": asked} if asked else {})
    stub.add_response(METHOD, said, expected)


def found(account, *configurations, table=TABLE):
    aws, stub = account
    answer(stub, list(configurations))
    return inventories(aws, table)


@pytest.mark.parametrize(
    ("destination", "address"),
    [
        ({}, "s3://lists/daily/others/all/"),
        ({"Prefix": "a/b"}, "s3://lists/a/b/others/all/"),
        ({"Prefix": ""}, "s3://lists/others/all/"),
        ({"AccountId": ACCOUNT, "Bucket": "arn:aws-cn:s3:::far"}, "s3://far/daily/others/all/"),
    ],
)
def test_one_that_fits_is_named_as_a_rule_says_it(account, destination, address):
    listed = found(account, configuration(destination=destination))
    assert listed.best
    assert listed.best.address == address
    assert not listed.best.why_not
    table = RuleTable(key="old", bucket="others", layout="raw/{device}/{*}.json", inventory=address)
    assert f'inventory = "{address}"' in as_toml(table)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"IsEnabled": False}, "it is disabled"),
        ({"IncludedObjectVersions": "Current"}, "it has the current versions alone"),
        ({"OptionalFields": ["Size"]}, "it lacks the fields LastModifiedDate, ETag"),
        (
            {"Filter": {"Prefix": "raw/car-1"}},
            "it has the keys below 'raw/car-1' alone, and the rule's begin with 'raw/'",
        ),
        ({"destination": {"Format": "Avro"}}, "its lists are Avro, and Parquet, ORC, CSV are read"),
        ({"destination": {"AccountId": "210987654321"}}, "a bucket of account 210987654321"),
        ({"destination": {"Prefix": "daily/"}}, "its prefix ends with a slash"),
        ({"destination": {"Bucket": "arn:aws:s3:::has.dots"}}, "write it as s3://bucket/prefix"),
        (
            {"IsEnabled": False, "OptionalFields": []},
            "it is disabled; it lacks the fields Size, LastModifiedDate, ETag",
        ),
    ],
)
def test_of_one_that_does_not_fit_it_is_said_why(account, said, why):
    listed = found(account, configuration(**said))
    assert listed.best is None
    [each] = listed.configured
    assert why in each.why_not


def test_one_whose_lists_would_be_messages_of_the_rule_does_not_fit(account):
    table = RuleTable(key="old", bucket="others", layout="{*}/{*}/{*}/{*}/{*}")
    listed = found(account, configuration(destination={"Bucket": "arn:aws:s3:::others"}), table=table)
    assert "its files would be messages of the rule" in listed.configured[0].why_not


def test_a_filter_that_lets_all_keys_of_the_layout_through_fits(account):
    assert found(account, configuration(Filter={"Prefix": "ra"})).best


def test_a_daily_one_comes_before_a_weekly_and_parquet_before_orc_before_csv(account):
    listed = found(
        account,
        configuration("a", IsEnabled=False),
        configuration("b", Schedule={"Frequency": "Weekly"}),
        configuration("c", destination={"Format": "CSV"}),
        configuration("d", destination={"Format": "ORC"}),
        configuration("e"),
    )
    assert [each.name for each in listed.configured] == ["e", "d", "c", "b", "a"]
    assert listed.best == listed.configured[0]


def test_all_pages_are_read(account):
    aws, stub = account
    answer(stub, [configuration("one", IsEnabled=False)], following="next")
    answer(stub, [], asked="next", following="last")
    answer(stub, [configuration("two")], asked="last")
    listed = inventories(aws, TABLE)
    assert [each.name for each in listed.configured] == ["two", "one"]


def test_the_key_that_encrypts_the_lists_is_said(account):
    key = f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/1"
    listed = found(account, configuration(destination={"Encryption": {"SSEKMS": {"KeyId": key}}}))
    assert listed.best
    assert listed.best.key == key


def test_each_is_told_of_in_a_sentence(account):
    said = sentences(
        found(
            account,
            configuration("first", destination={"Encryption": {"SSEKMS": {"KeyId": "the-key"}}}),
            configuration("other", Schedule={"Frequency": "Weekly"}),
            configuration("old", IsEnabled=False),
        )
    )
    assert said[1:] == [
        (
            "first fits (daily, Parquet, encrypted by the-key, of which whoever compacts needs kms:Decrypt), and the rule "
            "names it: leave `inventory` out to list the bucket instead."
        ),
        "other fits, too (weekly, Parquet): s3://lists/daily/others/other/",
        "old does not fit: it is disabled.",
    ]
    assert sentences(Inventories())[1:] == ["None is configured for this bucket."]
    assert "s3:GetInventoryConfiguration" in sentences(Inventories(unseen="AWS would not"))[1]


@pytest.mark.parametrize("code", ["AccessDenied", "NotImplemented"])
def test_whoever_may_not_see_them_is_told_so_and_it_is_no_error(account, code):
    aws, stub = account
    stub.add_client_error(METHOD, code, "not for you", 403)
    listed = inventories(aws, TABLE)
    assert listed.best is None
    assert listed.unseen == f"AWS would not list the inventory configurations of bucket 'others': not for you ({code})"


def test_any_other_answer_is_an_error(account):
    aws, stub = account
    stub.add_client_error(METHOD, "InvalidRequest", "no", 400)
    with pytest.raises(AwsRefused):
        inventories(aws, TABLE)


@pytest.mark.parametrize(
    ("layout", "may"),
    [
        ("raw/{device}/{yyyy}/{MM}/{dd}/{HH}/{*}", True),
        ("raw/{yyyy}/{MM}/{dd}/{*}", True),
        ("raw/{yyyy}/{MM}/{dd}/{HH}/{*}", False),
        ("firehose", False),
    ],
)
def test_a_bucket_whose_keys_go_with_the_time_is_not_asked_for_any(layout, may):
    assert RuleTable(key="old", bucket="others", layout=layout).may_have_inventory == may
