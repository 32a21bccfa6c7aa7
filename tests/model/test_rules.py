"""Rules as a company says them: what follows from a table, and that what AWS IoT would not take is named by its place."""

import json
import re
from dataclasses import fields
from itertools import product
from pathlib import Path

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_pipeline.lake.contract import KINDS
from fleet_pipeline.model import settings
from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.form import Form
from fleet_pipeline.model.rule import RawName, Rule
from fleet_pipeline.model.rule_table import COLUMN_KINDS, RuleTable, check_filter, meet, within

UUID = "00000000-0000-4000-8000-000000000000"


def rule_of(**said):
    return Fleet(rule_keys=(), rule_tables=(RuleTable(**{"key": "status", **said}),)).rules[0]


def test_a_table_that_says_no_more_than_its_key_is_the_rule_of_that_key():
    plain, said = Rule("test-rule", "status"), rule_of()
    for name in (
        "aws_name",
        "topic",
        "sql",
        "raw_prefix",
        "known_topic",
        "publish",
        "ingest",
        "enabled",
        "contents",
        "columns",
    ):
        assert getattr(said, name) == getattr(plain, name), name
    fleet = Fleet(rule_keys=(), rule_tables=(RuleTable(key="status"),))
    assert fleet.raw_key_expression_of(said) == fleet.raw_key_expression


STATUS = "test-rule/status"
DERIVED = {
    "one vehicle a topic": ({"topic": "vehicles/+/status"}, "vehicles/+/status", STATUS, ("vehicles/V1/status",)),
    "levels, hyphens and dots": (
        {"topic": "plant-7/line.2/status"},
        "plant-7/line.2/status",
        "plant-7/line.2/status",
        ("plant-7/line.2/status",),
    ),
    "the topic of the SQL": (
        {"sql": "SELECT speed FROM 'vehicles/+/status' WHERE speed > 1"},
        "vehicles/+/status",
        STATUS,
        ("vehicles/V1/status",),
    ),
    "further wildcards": ({"topic": "+/vehicles/+/#"}, "+/vehicles/+/#", STATUS, ("V1/vehicles/status/status",)),
    "everything below": ({"topic": "telemetry/#"}, "telemetry/#", STATUS, ("telemetry/V1",)),
    "AWS's own topics": (
        {"topic": "$aws/things/+/shadow/update/accepted"},
        "$aws/things/+/shadow/update/accepted",
        STATUS,
        (),
    ),
    "topics that are said": (
        {"topic": "v/+/+", "publish": ("v/{thing}/door", "v/{thing}/lamp")},
        "v/+/+",
        STATUS,
        ("v/V1/door", "v/V1/lamp"),
    ),
    "all below the vehicle": ({"topic": "v/#", "publish": ("v/{thing}/#",)}, "v/#", STATUS, ("v/V1/status",)),
    "no vehicle": ({"topic": "v/+", "publish": ()}, "v/+", STATUS, ()),
    "a prefix of its own": ({"topic": "v/+", "raw_prefix": "acme/v2"}, "v/+", "acme/v2", ("v/V1",)),
    "SQL without FROM": ({"sql": "SELECT * WHERE x = 'FROM ''a'''"}, STATUS, STATUS, (STATUS,)),
}


@pytest.mark.parametrize(("said", "topic", "raw_prefix", "published"), DERIVED.values(), ids=DERIVED)
def test_topic_raw_prefix_and_published_topics_follow_from_what_is_said(said, topic, raw_prefix, published):
    rule = rule_of(**said)
    assert (rule.topic, rule.raw_prefix) == (topic, f"{raw_prefix}/")
    assert rule.published_by("V1") == tuple(f"$aws/rules/test_rule_status/{each}" for each in published)
    assert all(rule.reads(each) for each in rule.published_by("V1"))
    assert not {"+", "#", "$"} & {*rule.raw_prefix}


@pytest.mark.parametrize("said", [each[0] for each in DERIVED.values()], ids=DERIVED)
def test_the_raw_prefix_stands_literally_in_the_key_expression_unless_it_is_the_topic(said):
    fleet = Fleet(rule_keys=(), rule_tables=(RuleTable(key="status", **said),))
    [rule] = fleet.rules
    key = (
        fleet.raw_key_expression_of(rule)
        .replace("${topic()}", rule.topic)
        .replace("${timestamp()}", "1672900000000")
        .replace("${newuuid()}", UUID)
    )
    assert rule.parse_raw_key(key) == RawName(1672900000000, UUID)
    assert rule.known_topic == (rule.topic if rule.topic == rule.raw_prefix[:-1] else None)


def test_two_vehicles_publish_to_two_topics_wherever_the_topic_has_a_wildcard():
    for said, topic, _, published in DERIVED.values():
        if {"+", "#"} & {*topic} and published:
            assert not {*rule_of(**said).published_by("V1")} & {*rule_of(**said).published_by("V2")}


WRONG = {
    "no key": ({}, "rules[1]", "must say `key`"),
    "a key that AWS IoT does not take": ({"key": "a-b"}, "rules[1].key", "a-z, A-Z, 0-9 and _"),
    "a key of another rule": ({"key": "RULE1"}, "rules[1].key", "another rule's"),
    "a key that is a value": ({"key": "1e5"}, "rules[1].key", "for a number"),
    "an unknown field": ({"key": "a", "topik": "x"}, "rules[1].topik", "did you mean topic?"),
    "a field of another type": ({"key": "a", "topic": 7}, "rules[1].topic", "write a text; this is a whole number"),
    "a text for a truth": ({"key": "a", "enabled": "yes"}, "rules[1].enabled", "write true or false; this is a text"),
    "one action without brackets": ({"key": "a", "actions": {}}, "rules[1].actions", "write an array; this is a table"),
    "a choice that there is not": (
        {"key": "a", "numbers": "roman"},
        "rules[1].numbers",
        "no such choice: 'roman'; choose one of double, exact",
    ),
    "+ within a level": ({"key": "a", "topic": "v/x+"}, "rules[1].topic", "a whole level"),
    "# before the end": ({"key": "a", "topic": "v/#/x"}, "rules[1].topic", "at the end"),
    "an empty level": ({"key": "a", "topic": "v//x"}, "rules[1].topic", "none empty"),
    "a wildcard of policies": ({"key": "a", "topic": "v/*"}, "rules[1].topic", "no other"),
    "a variable of policies": ({"key": "a", "topic": "v/${iot:ClientId}"}, "rules[1].topic", "no other"),
    "nine levels": ({"key": "a", "topic": "1/2/3/4/5/6/7/8/9"}, "rules[1].topic", "7 slashes"),
    "a topic too long": ({"key": "a", "topic": "t" * 257}, "rules[1].topic", "256 bytes"),
    "two topics": ({"key": "a", "topic": "v/+", "sql": "SELECT * FROM 'w/+'"}, "rules[1].topic", "reads from 'w/+'"),
    "SQL from two": ({"key": "a", "sql": "SELECT * FROM 'v' FROM 'w'"}, "rules[1].sql", "one topic filter"),
    "SQL that selects nothing": ({"key": "a", "sql": "DELETE FROM 'v'"}, "rules[1].sql", "write SELECT"),
    "SQL from a bad topic": ({"key": "a", "sql": "SELECT * FROM 'v/#/w'"}, "rules[1].sql", "at the end"),
    "a version of SQL that there is not": (
        {"key": "a", "sql_version": "2020-01-01"},
        "rules[1].sql_version",
        "no such choice",
    ),
    "a raw prefix with a wildcard": ({"key": "a", "raw_prefix": "v/+"}, "rules[1].raw_prefix", "telemetry/status"),
    "a raw prefix within another": (
        {"key": "a", "raw_prefix": "test-rule/rule1/x"},
        "rules[1].raw_prefix",
        "belong to rule1",
    ),
    "a raw prefix around others": ({"key": "a", "raw_prefix": "test-rule"}, "rules[1].raw_prefix", "belong to rule1"),
    "the raw prefix of the table before": (
        {"key": "a", "topic": "first/one"},
        "rules[1].raw_prefix",
        "belong to first",
    ),
    "among the claim certificate": (
        {"key": "a", "raw_prefix": "claim-certificate/x"},
        "rules[1].raw_prefix",
        "something else",
    ),
    "among the reports": ({"key": "a", "topic": "errors/x"}, "rules[1].raw_prefix", "something else"),
    "publishing elsewhere": (
        {"key": "a", "topic": "v/+", "publish": ["w/{thing}"]},
        "rules[1].publish[0]",
        "does not match",
    ),
    "publishing to a wildcard": ({"key": "a", "topic": "v/+", "publish": ["v/+"]}, "rules[1].publish[0]", "{thing}"),
    "publishing as AWS": (
        {"key": "a", "topic": "$aws/x/+", "publish": ["$aws/x/{thing}"]},
        "rules[1].publish[0]",
        "a vehicle publishes",
    ),
    "two actions in one": (
        {"key": "a", "actions": [{"sqs": {}, "sns": {}}]},
        "rules[1].actions[0]",
        "write one action",
    ),
    "an action that is a text": (
        {"key": "a", "actions": ["sqs"]},
        "rules[1].actions[0]",
        "write a table; this is a text",
    ),
    "an action without parameters": (
        {"key": "a", "error_action": {"sqs": "x"}},
        "rules[1].error_action",
        "and its parameters",
    ),
    "ten further actions": ({"key": "a", "actions": [{"sqs": {}}] * 10}, "rules[1].actions", "AWS IoT takes 9"),
    "a column of no kind": ({"key": "a", "columns": {"speed": "float"}}, "rules[1].columns.speed", "one of bool"),
    "a column of no field": ({"key": "a", "columns": {"a..b": "double"}}, "rules[1].columns.a..b", "dots between"),
    "shards of no power of 16": ({"key": "a", "shards": 4}, "rules[1].shards", "one of 1, 16, 256"),
    "shards of a stream": ({"key": "a", "shards": 16, "delivery": "firehose"}, "rules[1].shards", "few objects"),
    "shards of a bucket that exists": (
        {"key": "a", "shards": 16, "bucket": "others"},
        "rules[1].shards",
        "layout says",
    ),
    "fewer than no messages": ({"key": "a", "new_column_messages": -1}, "rules[1].new_column_messages", "from 1"),
}


@pytest.mark.parametrize(("table", "place", "why"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_table_is_named_by_its_place(table, place, why, tmp_path):
    tables = [{"key": "first", "topic": "first/one"}, table]
    with pytest.raises(InvalidSetting) as caught:
        settings.read_fleet({"FLEET_RULES": json.dumps(tables)}, tmp_path / "fleet.toml")
    assert caught.value.setting == place
    assert why in str(caught.value)


TOML = """
rule_keys = []

[[rules]]
key = "status"
sql = "SELECT *, topic(2) AS vehicle FROM 'vehicles/+/status' WHERE speed_kmh > 30"
columns = { speed_kmh = "double", "position.lat" = "double" }
numbers = "exact"

[[rules.actions]]
sqs = { queueUrl = "https://sqs.eu-central-1.amazonaws.com/123456789012/alarms" }
"""


def test_the_file_a_variable_and_what_is_shown_of_a_fleet_say_the_same_rules(tmp_path):
    file = tmp_path / "fleet.toml"
    file.write_text(TOML)
    fleet = settings.read_fleet({}, file)
    assert [rule.key for rule in fleet.rules] == ["status"]
    shown = dict(settings.values(fleet))
    assert json.loads(shown["FLEET_RULES"])[0]["actions"] == [
        {"sqs": {"queueUrl": "https://sqs.eu-central-1.amazonaws.com/123456789012/alarms"}}
    ]
    assert settings.read_fleet(shown, tmp_path / "none.toml") == fleet


def test_a_variable_that_is_no_json_says_so(tmp_path):
    with pytest.raises(InvalidSetting, match=r"FLEET_RULES.*cannot be read as JSON"):
        settings.read_fleet({"FLEET_RULES": "[[rules]]"}, tmp_path / "fleet.toml")


def test_tables_stand_beside_the_rules_of_the_keys():
    fleet = Fleet(rule_tables=(RuleTable(key="status", topic="v/+"),))
    assert [rule.key for rule in fleet.rules] == ["rule1", "rule2", "rule3", "status"]
    assert fleet.rule("status").topic == "v/+"


def test_a_rule_has_its_own_ways_with_messages_and_otherwise_the_fleets():
    rule = rule_of(numbers="exact", arrays="elements", new_column_messages=7)
    assert rule.form(Form(numbers="double", nested_objects="structs")) == Form(
        numbers="exact", arrays="elements", nested_objects="structs"
    )
    assert (rule.new_column_messages(3), Rule("test-rule", "rule1").new_column_messages(3)) == (7, 3)


def test_a_pinned_column_may_be_of_every_kind_that_the_lake_knows():
    assert {*COLUMN_KINDS, *(f"{kind}[]" for kind in COLUMN_KINDS if kind != "json")} == {*KINDS} - {"[]"}


LEVEL = st.sampled_from(["a", "b", "+"])
TOPICS = st.lists(LEVEL, min_size=1, max_size=4).map("/".join)
FILTERS = st.tuples(st.lists(LEVEL, max_size=3), st.sampled_from(["#", "a", "+"])).map(
    lambda parts: "/".join([*parts[0], parts[1]])
)


def matches(topic_filter, topic):
    """MQTT's own words, by another way: a pattern for a whole topic. `a/#` also matches `a`."""
    pattern = "/".join({"+": "[^/]+", "#": ".*"}.get(level, level) for level in topic_filter.split("/"))
    return re.fullmatch(pattern.replace("/.*", "(/.*)?"), topic) is not None


@given(FILTERS, st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=4).map("/".join))
def test_a_filter_matches_a_topic_as_mqtt_says(topic_filter, topic):
    assert within(topic_filter, topic) == matches(topic_filter, topic)


@given(FILTERS, FILTERS, st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=4).map("/".join))
def test_a_filter_within_another_matches_nothing_that_the_other_does_not(wide, narrow, topic):
    if within(wide, narrow) and within(narrow, topic):
        assert within(wide, topic)


ALL_TOPICS = ["/".join(levels) for size in range(1, 6) for levels in product("ab", repeat=size)]


@given(FILTERS, FILTERS)
def test_two_filters_meet_where_a_topic_is_both_of_theirs(one, other):
    assert meet(one, other) == any(matches(one, topic) and matches(other, topic) for topic in ALL_TOPICS)
    assert not meet("$aws/things/+", f"{other.replace('a', '+', 1)}" if other[0] in "+#" else other)


@given(st.text(max_size=12))
def test_what_is_taken_as_a_topic_cannot_leave_the_quotes_of_sql_nor_be_wild_in_a_policy(topic):
    try:
        check_filter("topic", topic)
    except InvalidSetting:
        return
    assert not {"'", "*", "?", "{", "}", '"', "\\", "\n", " "} & {*topic}


PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()


def test_the_page_on_rules_says_every_field_and_its_examples_are_read(tmp_path):
    rows = [
        name
        for line in PAGE.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([a-z_]+)`", line.split("|")[1])
    ]
    assert {each.name for each in fields(RuleTable)} <= {*rows}
    whole, publish, rights = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "fleet.toml"
    file.write_text(whole.replace('topic = "vehicles/+/telemetry/#"', f'topic = "vehicles/+/telemetry/#"\n{publish}'))
    assert (
        settings.read_fleet({}, file).rules[0].published_by("V1")[1]
        == "$aws/rules/test_rule_telemetry/vehicles/V1/telemetry/doors"
    )
    file.write_text(rights)
    assert settings.read_fleet({}, file).device_rights == ("shadow", "jobs", "commands")


def test_the_page_on_rules_names_every_kind_of_action():
    kinds = botocore.session.get_session().get_service_model("iot").shape_for("Action").members
    assert {kind for kind in kinds if f"`{kind}`" not in PAGE} == set()
