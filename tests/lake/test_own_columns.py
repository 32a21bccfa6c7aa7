"""What a rule's table says of its Parquet table: columns that are there from the first row, topics that are known or are not."""

import json

import pytest
from dict_store import DictStore
from test_compaction import HOUR
from test_compaction_upkeep import read

from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.model.errors import ContractBroken
from fleet_pipeline.model.rule import RawName, Rule
from fleet_pipeline.model.rule_table import RuleTable

UUID = "00000000-0000-4000-8000-{:012d}"


def rule_of(**said):
    return Rule("test-rule", "rule1", RuleTable(key="rule1", **said))


@pytest.fixture
def lake():
    return Lake(DictStore(), "lake")


def sent(lake, rule, *messages, hour=HOUR):
    raw = DictStore()
    for place, message in enumerate(messages):
        raw.put(rule.raw_key(RawName(hour.start_ms + place, UUID.format(place))), json.dumps(message).encode())
    return compact_hour(raw, lake, rule, hour)


def kinds(lake, rule):
    return {name: column.kind for name, column in lake.contract(rule).columns.items()}


def test_a_table_has_the_columns_that_are_said_from_its_first_row_and_takes_no_others(lake):
    rule = rule_of(columns={"speed": "double", "at.lat": "double"})
    sent(lake, rule, *[{"speed": 1, "at": {"lat": 48.1}, "new": 1}] * 5)
    assert (kinds(lake, rule), lake.contract(rule).pinned, lake.contract(rule).number) == (
        {"speed": "double", "at_lat": "double"},
        True,
        0,
    )
    row = read(lake, "part-00000")[0]
    assert (row["speed"], row["at_lat"], json.loads(row["_extra"])) == (1.0, 48.1, {"new": 1})
    sent(lake, rule, {"speed": 2}, hour=HOUR.next)
    assert lake.contract(rule).number == 0


def test_columns_that_are_said_later_are_added_to_those_that_the_messages_made(lake):
    sent(lake, rule_of(), {"speed": 1.5}, {"speed": 2.5})
    later = rule_of(columns={"brake": "bool"})
    sent(lake, later, {"speed": 3.5, "brake": True, "new": 1}, hour=HOUR.next)
    assert (kinds(lake, later), lake.contract(later).pinned) == ({"speed": "double", "brake": "bool"}, True)
    sent(lake, later, {"speed": 4.5, "brake": False, "new": 1}, {"new": 2}, {"new": 3}, hour=HOUR.next.next)
    assert "new" not in kinds(lake, later)


def test_a_column_that_is_said_to_be_of_another_kind_than_it_is_stops_the_compaction_and_says_so(lake):
    sent(lake, rule_of(), {"speed": 1.5}, {"speed": 2.5})
    with pytest.raises(ContractBroken, match="speed"):
        sent(lake, rule_of(columns={"speed": "string"}), {"speed": 3.5}, hour=HOUR.next)


def test_a_name_that_no_column_can_have_is_refused_before_a_row_is_written(lake):
    with pytest.raises(ContractBroken, match="hour int64: no column can have this name"):
        sent(lake, rule_of(columns={"hour": "int64"}), {"hour": 3})
    assert not lake.store.objects


def test_a_table_is_begun_in_the_form_that_its_rule_says(lake):
    rule = rule_of(nested_objects="structs", numbers="double", new_column_messages=1)
    sent(lake, rule, {"at": {"lat": 48}})
    assert kinds(lake, rule) == {"at.lat": "double"}


@pytest.mark.parametrize(
    ("said", "topic"),
    [
        ({}, "test-rule/rule1"),
        ({"topic": "v/+/status"}, None),
        ({"topic": "plant-7/line/status"}, "plant-7/line/status"),
        ({"topic": "plant-7/line/status", "raw_prefix": "elsewhere"}, None),
    ],
    ids=["as in the CDK app", "a wildcard", "levels", "a raw prefix that is not the topic"],
)
def test_a_row_says_its_topic_only_where_the_key_proves_it(lake, said, topic):
    sent(lake, rule_of(**said), {"speed": 1.5})
    assert [row["_topic"] for row in read(lake, "part-00000")] == [topic]
