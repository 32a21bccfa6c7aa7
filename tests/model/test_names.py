"""Fleet, Rule and Hour: each name and format once, as in the CDK app that this project replaces, and each with its inverse."""

import json
import re
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from examples import tries
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.reconcile import declared
from fleet_pipeline.model.device import POLICY_DOCUMENT_LIMIT
from fleet_pipeline.model.errors import InvalidName, InvalidSetting
from fleet_pipeline.model.fleet import TEMPLATE_NAME_LIMIT, Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName, Rule

RULE = Rule("test-rule", "rule1")
UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"

CDK_NAMES = {
    "bucket": "cdk-s3-test-bucket",
    "device_policy": "cdk-test-dev-device-policy",
    "hook_role": "cdk-test-dev-pre-provisioning-lambda-role",
    "hook": "cdk-test-dev-pre-provisioning-hook-lambda",
    "provisioning_role": "cdk-test-dev-provisioning-template-role",
    "provisioning_template": "cdk-test-dev-provision-template",
    "claim_policy": "cdk-test-dev-claim-certificate-policy",
    "claim_certificate": "s3://cdk-s3-test-bucket/claim-certificate/claim.pem",
    "rule_role": "cdk-test-dev-rule-engine-role",
    "topic_rule_rule1": "test_rule_rule1",
    "topic_rule_rule2": "test_rule_rule2",
    "topic_rule_rule3": "test_rule_rule3",
}
"""The resources of the CDK app that have names, by our parts."""

CDK_FORMATS = {
    "hook's handler": (lambda parts: parts["hook"].handler, "lambda_function.lambda_handler"),
    "hook role's description": (
        lambda parts: parts["hook_role"].description,
        "AWS IAM role for pre-provisioning lambda",
    ),
    "permission's statement": (lambda parts: parts["hook_permission"].statement, "InvokePermission"),
    "hook's payload version": (lambda parts: parts["provisioning_template"].payload_version, "2020-04-01"),
    "claim certificate's objects": (
        lambda parts: set(parts["claim_certificate"].stored),
        {"claim-certificate/claim.pem", "claim-certificate/claim.public.key", "claim-certificate/claim.private.key"},
    ),
    "rule role's policy": (lambda parts: set(parts["rule_role"].inline), {"iotCoreRolePolicy"}),
    "rule's statement": (lambda parts: parts["topic_rule_rule1"].sql, "SELECT * FROM 'test-rule/rule1'"),
    "provisioning role's managed policy": (
        lambda parts: parts["provisioning_role"].managed,
        ("arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration",),
    ),
}


@pytest.mark.parametrize("part", CDK_NAMES)
def test_a_resource_has_the_name_that_the_cdk_app_gave_it(part):
    assert blueprint(Fleet())[part].resource.name == CDK_NAMES[part]


@pytest.mark.parametrize(("found", "wanted"), CDK_FORMATS.values(), ids=CDK_FORMATS)
def test_what_has_no_name_is_as_in_the_cdk_app(found, wanted):
    assert found({name: part.resource for name, part in blueprint(Fleet()).items()}) == wanted


def test_a_rule_has_one_value_at_each_station_of_its_messages():
    assert (RULE.aws_name, RULE.topic, RULE.sql) == (
        "test_rule_rule1",
        "test-rule/rule1",
        "SELECT * FROM 'test-rule/rule1'",
    )
    assert RULE.ingest[0] == "$aws/rules/test_rule_rule1/test-rule/rule1"
    assert RULE.raw_key(RawName(1672900000000)) == "test-rule/rule1/1672900000000"
    assert RULE.path(Hour.of_millis(1672900000000)) == "rule=rule1/date=2023-01-05/hour=06"


def test_a_vehicle_is_the_thing_of_its_serial():
    assert Fleet().thing_name("297468ABC123") == "test-thing-297468ABC123"


@pytest.mark.parametrize("raw_key_format", ["timestamp", "timestamp-uuid", "timestamp-uuid-client"])
def test_what_aws_iot_makes_of_the_key_expression_is_parsed(raw_key_format):
    said = {
        "${topic()}": RULE.topic,
        "${timestamp()}": "1672900000000",
        "${newuuid()}": UUID,
        "${clientid()}": "test-thing-297468ABC123",
    }
    key = re.sub(
        r"\$\{\w+\(\)\}",
        lambda found: said[found[0]],
        replace(Fleet(), raw_key_format=raw_key_format).raw_key_expression,
    )
    parsed = RULE.parse_raw_key(key)
    assert parsed is not None
    assert parsed.millis == 1672900000000
    assert (parsed.uuid is not None, parsed.client_id is not None) == (
        "uuid" in raw_key_format,
        "client" in raw_key_format,
    )


def test_a_message_without_an_mqtt_client_is_parsed_although_its_key_has_one_more_slash():
    assert RULE.parse_raw_key(f"test-rule/rule1/1672900000000-{UUID}-n/a") == RawName(1672900000000, UUID, "n/a")


rules = st.builds(
    Rule, st.from_regex(r"[a-zA-Z0-9_-]{1,60}", fullmatch=True), st.from_regex(r"[a-zA-Z0-9_]{1,64}", fullmatch=True)
)
millis = st.integers(0, 10**13 - 1)
uuids = st.uuids().map(str)
client_ids = st.from_regex(r"[a-zA-Z0-9:_-]{1,128}", fullmatch=True) | st.just("n/a")
raw_names = (
    st.builds(RawName, millis) | st.builds(RawName, millis, uuids) | st.builds(RawName, millis, uuids, client_ids)
)
hours = st.datetimes(datetime(2001, 9, 9, 2), datetime(2286, 11, 20, 16), timezones=st.just(UTC)).map(Hour.of)  # noqa: DTZ001 (hypothesis wants them bare)


@given(rules, raw_names)
def test_a_raw_key_in_any_of_its_forms_says_what_went_into_it(rule, name):
    assert rule.parse_raw_key(rule.raw_key(name)) == name


@given(st.data(), rules, raw_names)
def test_a_key_that_parses_is_the_very_key_that_the_rule_writes(data, rule, name):
    key = rule.raw_key(name)
    place = data.draw(st.integers(0, len(key)))
    bent = key[:place] + data.draw(st.text(max_size=3)) + key[place + data.draw(st.integers(0, 3)) :]
    parsed = rule.parse_raw_key(bent)
    assert parsed is None or rule.raw_key(parsed) == bent


HOSTILE_KEYS = {
    "empty": "",
    "another rule's": "test-rule/rule2/1672900000000",
    "another prefix": "claim-certificate/claim.pem",
    "the prefix alone": "test-rule/rule1/",
    "the rule's name as a beginning": "test-rule/rule10/1672900000000",
    "no topic": "/1672900000000",
    "twelve digits": "test-rule/rule1/167290000000",
    "fourteen digits": "test-rule/rule1/16729000000000",
    "digits of another script": "test-rule/rule1/١٦٧٢٩٠٠٠٠٠٠٠٠",
    "a level more": "test-rule/rule1/x/1672900000000",
    "a way upwards": "test-rule/rule1/../rule2/1672900000000",
    "a line more": "test-rule/rule1/1672900000000\n",
    "a file's ending": "test-rule/rule1/1672900000000.parquet",
    "half a uuid": f"test-rule/rule1/1672900000000-{UUID[:18]}",
    "an upper-case uuid": f"test-rule/rule1/1672900000000-{UUID.upper()}",
    "an empty client id": f"test-rule/rule1/1672900000000-{UUID}-",
    "a client id with a slash": f"test-rule/rule1/1672900000000-{UUID}-a/b",
    "a client id without a uuid": "test-rule/rule1/1672900000000-test-thing-297468ABC123",
    "hive": "test-rule/rule1/date=2023-01-05/hour=06/part-00000.parquet",
}


@pytest.mark.parametrize("key", HOSTILE_KEYS.values(), ids=HOSTILE_KEYS)
def test_a_key_that_the_rule_would_never_write_is_not_parsed(key):
    assert RULE.parse_raw_key(key) is None


@given(hours)
def test_an_hour_is_parsed_from_its_partition_key(hour):
    assert Hour.parse(hour.partition_key) == hour


@given(hours)
def test_an_hour_holds_its_own_milliseconds_and_no_others(hour):
    assert Hour.of_millis(hour.start_ms) == Hour.of_millis(hour.end_ms - 1) == hour
    assert Hour.of_millis(hour.end_ms) == hour.next
    assert hour.next.start == hour.end


@given(hours, st.integers(-14 * 60, 14 * 60))
def test_an_hour_is_the_same_whatever_the_time_zone_of_an_instant_in_it(hour, offset_minutes):
    assert Hour.of(hour.start.astimezone(timezone(timedelta(minutes=offset_minutes)))) == hour


@given(hours, hours)
def test_hours_sort_alike_as_hours_as_partition_keys_and_as_paths(one, other):
    assert (
        (one < other)
        == (one.partition_key < other.partition_key)
        == (one.path < other.path)
        == (one.start_ms < other.start_ms)
    )


HOSTILE_HOURS = [
    "",
    "2026-11-23",
    "2026-11-23-10",
    "2026-11-23-10:30",
    "2026-11-23-24:00",
    "2026-02-30-10:00",
    "2026-1-3-5:00",
    "0999-01-01-00:00",
]
HOSTILE_HOURS += [
    " 2026-11-23-10:00",
    "2026-11-23-10:00\n",
    "2026-11-23T10:00",
    "٢٠٢٦-11-23-10:00",
    "2026-11-23-10:00/../x",
]


@pytest.mark.parametrize("text", HOSTILE_HOURS)
def test_what_is_not_a_partition_key_is_not_an_hour(text):
    with pytest.raises(InvalidName):
        Hour.parse(text)


@pytest.mark.parametrize(
    "start", ["2026-11-23T10:00", "2026-11-23T10:00+01:00", "2026-11-23T10:01+00:00", "2026-11-23T10:00:00.001+00:00"]
)
def test_an_hour_is_full_and_in_utc(start):
    with pytest.raises(InvalidName):
        Hour(datetime.fromisoformat(start))


@pytest.mark.parametrize("serial", ["297468ABC123", "297468000000", "297468" + "Z" * 26])
def test_a_good_serial_comes_back(serial):
    assert Fleet().serial(serial) == serial


@pytest.mark.parametrize(
    "serial",
    [
        "",
        "297468",
        "297468ABCDE",
        "297468" + "Z" * 27,
        "297469ABC123",
        "297468abc123",
        "297468ABC12\n",
        "297468ABC/12",
        "x297468ABC123",
    ],
)
def test_a_serial_that_the_hook_would_refuse_is_refused_here(serial):
    with pytest.raises(InvalidName, match="serial"):
        Fleet().serial(serial)


@pytest.mark.parametrize(
    "name",
    [
        ("test/rule", "a"),
        ("", "a"),
        ("a" * 61, "a"),
        ("+", "a"),
        ("a", ""),
        ("a", "a-b"),
        ("a", "a" * 65),
        ("a", "#"),
        ("a", "ä"),
        ("a", "a\n"),
    ],
)
def test_a_rule_with_a_name_that_aws_would_not_take_cannot_be_made(name):
    with pytest.raises(InvalidName):
        Rule(*name)


def test_a_rule_is_found_by_its_key_and_an_unknown_one_is_told_which_there_are():
    assert Fleet().rule("rule2") == Rule("test-rule", "rule2")
    with pytest.raises(InvalidName, match="rule1, rule2, rule3"):
        Fleet().rule("rule4")


PARTITIONS = {
    "eu-central-1": "aws",
    "us-east-1": "aws",
    "ap-southeast-2": "aws",
    "cn-north-1": "aws-cn",
    "cn-northwest-1": "aws-cn",
    "us-gov-west-1": "aws-us-gov",
    "us-gov-east-1": "aws-us-gov",
}


@pytest.mark.parametrize(("region", "partition"), PARTITIONS.items())
def test_every_arn_lies_in_the_partition_of_its_region(region, partition):
    fleet = replace(Fleet(), region=region, allow_list="dynamodb")
    said = json.dumps([declared(part.resource) for part in blueprint(fleet).values()])
    arns = re.findall(r'arn:[^"]*', said)
    assert len(arns) > 50
    assert {arn.split(":")[1] for arn in arns} == {partition}
    assert {arn.split(":")[3] for arn in arns} == {region, ""}
    assert {arn.split(":")[4] for arn in arns} == {fleet.account, "", "aws"}


def test_an_arn_names_region_and_account_where_its_service_has_them():
    fleet = Fleet()
    assert fleet.arn("s3", "bucket/key") == "arn:aws:s3:::bucket/key"
    assert fleet.role_arn("role") == "arn:aws:iam::123456789012:role/role"
    assert fleet.policy_arn("policy") == "arn:aws:iot:eu-central-1:123456789012:policy/policy"
    assert (
        fleet.hook_arn == "arn:aws:lambda:eu-central-1:123456789012:function:cdk-test-dev-pre-provisioning-hook-lambda"
    )
    assert (
        fleet.template_arn
        == "arn:aws:iot:eu-central-1:123456789012:provisioningtemplate/cdk-test-dev-provision-template"
    )


words = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,14}[a-zA-Z0-9])?", fullmatch=True)
keys = st.lists(st.from_regex(r"[a-zA-Z0-9_]{1,64}", fullmatch=True), min_size=1, max_size=20).map(tuple)

NAME_LIMITS = {
    "IAM role": r"[\w+=,.@-]{1,64}",
    "IoT policy": r"[\w+=,.@-]{1,128}",
    "Lambda function": r"[a-zA-Z0-9_-]{1,64}",
    "S3 bucket": r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
    "DynamoDB table": r"[a-zA-Z0-9_.-]{3,255}",
    "invoke permission": r"[a-zA-Z0-9_-]{1,64}",
    "policy attachment": r"[\w+=,.@-]{1,128}",
    "provisioning template": rf"[0-9A-Za-z_-]{{1,{TEMPLATE_NAME_LIMIT}}}",
    "further device policy": r"[\w+=,.@-]{1,128}",
    "topic rule": r"[a-zA-Z0-9_]{1,128}",
    "claim certificate": r"s3://[a-z0-9.-]{3,63}/claim-certificate/claim.pem",
}
"""What AWS takes as a name. Source: botocore's service models."""


@settings(max_examples=tries(20, 50))
@given(
    words,
    words,
    keys,
    st.from_regex(r"[a-zA-Z0-9_-]{1,60}", fullmatch=True),
    st.sampled_from(["eu-central-1", "us-gov-west-1"]),
)
def test_settings_that_are_taken_give_no_name_that_aws_would_refuse(
    service, environment, rule_keys, raw_prefix, region
):
    try:
        fleet = Fleet(
            service=service,
            environment=environment,
            rule_keys=rule_keys,
            raw_prefix=raw_prefix,
            region=region,
            allow_list="dynamodb",
        )
    except InvalidSetting:
        assume(False)
    for part in blueprint(fleet).values():
        assert re.fullmatch(NAME_LIMITS[part.resource.kind], part.resource.name)
    for policy in ("device_policy", "claim_policy"):
        document = blueprint(fleet)[policy].resource.document
        assert len(json.dumps(document, separators=(",", ":"))) <= POLICY_DOCUMENT_LIMIT


VALUES = [
    "1",
    "01",
    "1e5",
    "inf",
    "Infinity",
    "nan",
    "null",
    "true",
    "False",
    "20261128",
    "20261128T101010",
    "0x1F",
    "0b1",
    "1d",
    "1_000",
    "epoch",
    "_",
]
WORDS = ["rule1", "r1", "2nd", "4g", "e", "d", "x", "no", "t", "may1", "nano", "1st", "E_Bike", "date", "hour"]


def read_by_every_reader(folder, key):
    """Return what each reader takes the rule of a hive partition for."""
    path = folder / f"rule={key}"
    path.mkdir()
    pq.write_table(pa.table({"a": [1]}), path / "part-00000.parquet")
    by_duckdb = duckdb.sql(f"SELECT rule FROM read_parquet('{folder}/*/*.parquet', hive_partitioning = true)")
    return {
        "pyarrow": ds.dataset(folder, partitioning="hive").to_table()["rule"].to_pylist(),
        "DuckDB": [value for (value,) in by_duckdb.fetchall()],
        "Polars": pl.scan_parquet(f"{folder}/**/*.parquet", hive_partitioning=True).collect()["rule"].to_list(),
    }


@pytest.mark.parametrize("key", WORDS)
def test_a_rule_key_is_a_text_to_every_reader(key, tmp_path):
    assert Fleet(rule_keys=(key,)).rules
    assert set(map(tuple, read_by_every_reader(tmp_path, key).values())) == {(key,)}


@pytest.mark.parametrize("key", VALUES)
def test_a_rule_key_that_some_reader_takes_for_a_value_is_refused_unless_the_fleet_has_it_already(key):
    with pytest.raises(
        InvalidSetting, match=f"take {key} for a number, a date or nothing.*FLEET_VALUES_AS_RULE_KEYS=allow"
    ):
        Fleet(rule_keys=("rule1", key))
    assert Fleet(rule_keys=(key,), values_as_rule_keys="allow").rule(key).key == key


@given(st.from_regex(r"\A[a-zA-Z0-9_]{1,12}\Z"))
@settings(deadline=None, max_examples=tries(20, 60))
@example("1")
def test_whatever_is_allowed_as_a_rule_key_comes_back_from_every_reader_as_it_is(key):
    with suppress(InvalidSetting), TemporaryDirectory() as folder:
        Fleet(rule_keys=(key,))
        assert set(map(tuple, read_by_every_reader(Path(folder), key).values())) == {(key,)}


def test_the_field_that_names_the_vehicle_is_a_path():
    assert Fleet().vehicle_path == ("serial",)
    assert Fleet(vehicle_field=r"header.vehicle\.id.vin").vehicle_path == ("header", "vehicle.id", "vin")


def test_rows_and_positions_are_shown_on_this_machine_and_in_an_account_only_when_asked_for():
    shows = {
        (profile, previews): Fleet(profile=profile, previews=previews).shows_previews
        for profile in ("local", "aws")
        for previews in ("", "off", "on")
    }
    assert [key for key, shown in shows.items() if shown] == [("local", ""), ("local", "on"), ("aws", "on")]
