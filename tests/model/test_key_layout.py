"""How keys of a bucket that exists are built: every pattern either reads its keys, or is refused with a sentence."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.key_layout import READY, KeyLayout
from fleet_pipeline.model.rule_table import RuleTable

HOUR = Hour.parse("2026-11-23-10:00")

REFUSED = {
    "raw/{day}/x": "{day} is no placeholder; there are {yyyy}, {MM}, {dd}",
    "raw/{}/x": "{} is no placeholder",
    "raw/{device/x": "braces around placeholders alone",
    "raw/x.json": "it matches one key and no other",
    "{uuid}/{uuid}": "{uuid} stands in it twice: write {*} for one of them",
    "{yyyy}/{dd}/{*}": "it says a part of the time and not {MM}, which is larger",
    "{HH}/{*}": "not {yyyy}, which is larger",
    "{millis}-{seconds}": "{millis} and {seconds} are two instants",
    "{device}{*}": "nothing tells where {device} ends and {*} begins",
    "raw/\n{*}": "characters of printable ASCII",
    "x" * 600 + "{*}": "write at most 512 characters",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_layout_is_refused_with_the_reason(text):
    with pytest.raises(InvalidSetting) as refusal:
        KeyLayout(text)
    assert REFUSED[text] in str(refusal.value)


LISTED = {
    "raw/{device}/{yyyy}/{MM}/{dd}/{uuid}.json": ("day", True),
    "raw/{device}/{millis}.json": ("hour", True),
    "raw-{device}/{yyyy}/{*}": ("year", True),
    "{yyyy}/{MM}/{uuid}": ("month", False),
    "{yyyy}{MM}{dd}{HH}/{*}": ("hour", False),
    "{millis}_{*}": ("hour", False),
    "{device}-{yyyy}/{*}": ("all", False),
    "{device}/{uuid}": ("all", False),
    "{*}/{device}/{seconds}": ("hour", True),
    READY["firehose"]: ("hour", False),
    READY["iot-analytics"]: ("hour", False),
    READY["fleetwise"]: ("hour", False),
}


@pytest.mark.parametrize("text", LISTED)
def test_a_layout_says_what_is_listed_to_find_an_hour(text):
    layout = KeyLayout(text)
    assert (layout.extent, layout.by_folders) == LISTED[text]


AGES = datetime.fromisoformat("2002-01-01"), datetime.fromisoformat("2100-01-01")


@given(
    st.datetimes(*AGES),
    st.datetimes(*AGES),
    st.sampled_from(list(LISTED)),
)
def test_a_key_has_one_instant_within_the_time_that_it_names_whenever_it_was_written(at, written, text):
    layout, at = KeyLayout(text), at.replace(tzinfo=UTC)
    found = layout.read(layout.example(at), written.isoformat() + "Z")
    first, end = layout.named(Hour.of(at))
    assert found is not None
    assert first <= found.millis < end
    if layout.extent == "hour":
        assert Hour.of_millis(found.millis) == Hour.of(at)


@pytest.mark.parametrize("key", ["2026/02/30/x", "2026/13/01/x", "2026/11/23/24/x", "0000/01/01/x", "2026/11/23", ""])
def test_a_key_that_names_no_time_is_of_no_layout(key):
    assert KeyLayout("{yyyy}/{MM}/{dd}/{*}").read(key, "2026-11-23T10:00:00Z") is None
    assert KeyLayout("{*}/x").read("a/x", "yesterday") is None


def fleet_of(*tables, **said):
    return Fleet(rule_tables=tuple(RuleTable(**table) for table in tables), **said)


GIVEN = {"key": "old", "bucket": "others", "layout": "raw/{device}/{millis}.json"}

TABLES = {
    "a layout without a bucket": ({"key": "old", "layout": "{*}"}, "no `bucket` is named"),
    "lines without a bucket": ({"key": "old", "objects": "lines"}, "no `bucket` is named"),
    "a bucket's name that is none": ({**GIVEN, "bucket": "A.b"}, "write a bucket's name"),
    "a topic": ({**GIVEN, "topic": "a/b"}, "makes nothing in AWS IoT"),
    "a delivery": ({**GIVEN, "delivery": "firehose"}, "makes nothing in AWS IoT"),
    "an action": ({**GIVEN, "actions": ({"sqs": {}},)}, "makes nothing in AWS IoT"),
    "a name of no layout": ({**GIVEN, "layout": "kinesis"}, "one of cdk, firehose, iot-analytics, fleetwise"),
    "a layout that is none": ({**GIVEN, "layout": "x/{day}"}, "{day} is no placeholder"),
    "lines of the CDK app": ({**GIVEN, "layout": "cdk", "objects": "lines"}, "a message an object"),
}


@pytest.mark.parametrize("what", TABLES)
def test_a_table_that_contradicts_itself_is_refused(what):
    table, why = TABLES[what]
    with pytest.raises(InvalidSetting) as refusal:
        fleet_of(table)
    assert why in str(refusal.value)


OVERLAPS = {
    "the same keys": [GIVEN, {**GIVEN, "key": "new"}],
    "keys of one within the other's": [GIVEN, {**GIVEN, "key": "new", "layout": "raw/{*}/{*}.json"}],
    "the fleet's own messages": [{**GIVEN, "bucket": "cdk-s3-test-bucket", "layout": "test-rule/{*}"}],
    "all of the fleet's own bucket": [{**GIVEN, "bucket": "cdk-s3-test-bucket", "layout": "{*}/{*}"}],
    "the claim certificate": [{**GIVEN, "bucket": "cdk-s3-test-bucket", "layout": "claim-certificate/{*}"}],
    "the lake": [{**GIVEN, "bucket": "cdk-s3-test-bucket-lake", "layout": "lake/v1/{*}"}],
}


@pytest.mark.parametrize("what", OVERLAPS)
def test_two_that_read_the_same_keys_are_refused(what):
    with pytest.raises(InvalidSetting, match=r"rules\[\d\].layout"):
        fleet_of(*OVERLAPS[what])


def test_rules_of_one_bucket_with_keys_of_their_own_stand_side_by_side():
    fleet = fleet_of(GIVEN, {**GIVEN, "key": "new", "layout": "new/{*}"}, {**GIVEN, "key": "far", "bucket": "far"})
    assert [rule.key for rule in fleet.given_rules] == ["old", "new", "far"]
    assert [rule.key for rule in fleet.made_rules] == ["rule1", "rule2", "rule3"]
    assert [fleet.bucket_of(rule) for rule in fleet.rules[2:]] == ["cdk-s3-test-bucket", "others", "others", "far"]


def test_old_keys_in_the_fleets_own_bucket_are_a_rule_of_their_own():
    [rule] = fleet_of({**GIVEN, "bucket": "cdk-s3-test-bucket"}).given_rules
    assert rule.layout == KeyLayout("raw/{device}/{millis}.json")


def test_a_fleet_has_a_rule_that_aws_iot_runs():
    with pytest.raises(InvalidSetting, match="name at least one rule beside those of buckets that exist"):
        fleet_of(GIVEN, rule_keys=())


def test_names_and_patterns_lie_below_the_raw_prefix():
    [rule] = fleet_of({"key": "old", "bucket": "others", "layout": "firehose", "raw_prefix": "a/b"}).given_rules
    assert rule.layout == KeyLayout("a/b/{yyyy}/{MM}/{dd}/{HH}/{*}")
    assert rule.has_lines
    [rule] = fleet_of({"key": "old", "bucket": "others", "raw_prefix": "a/b"}).given_rules
    assert (rule.layout, rule.raw_prefix, rule.has_lines) == (None, "a/b/", False)
