"""From a row back to the object that holds its message."""

import json

import pytest
from batches import batch_key, packed, record, uuid
from dict_store import DictStore

from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.where import places_of
from fleet_pipeline.lake.reading import opened
from fleet_pipeline.model.errors import InvalidName
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule
from fleet_pipeline.model.rule_table import RuleTable

HOUR = Hour.parse("2026-11-23-10:00")
OWN = Rule("test-rule", "rule1")


def given(**said):
    return Rule("test-rule", "old", RuleTable(key="old", bucket="others", **said))


def rows(store, lake, rule):
    compact_hour(store, lake, rule, HOUR)
    return [row for part in lake.parts(rule, HOUR) for row in opened(lake.store, part).read().to_pylist()]


def lines(*numbers):
    return b"\n".join(b'{"n": %d}' % number for number in numbers)


@pytest.mark.parametrize(
    ("rule", "objects", "places"),
    [
        (given(layout="firehose"), {"2026/11/23/10/a": lines(1, 2), "2026/11/23/10/b": lines(3)}, {1: 0, 2: 1, 3: 0}),
        (given(layout="raw/{millis}.json"), {f"raw/{HOUR.start_ms + 7}.json": lines(1)}, {1: None}),
        (OWN, {f"test-rule/rule1/{HOUR.start_ms}-{uuid(1)}": lines(1)}, {1: None}),
        (
            OWN,
            {
                batch_key(OWN, HOUR.start_ms + at): packed(
                    [record(HOUR.start_ms + at + n, lines(n), number=n) for n in numbers]
                )
                for at, numbers in ((0, (1, 2)), (60_000, (3, 4)))
            },
            {1: 0, 2: 1, 3: 0, 4: 1},
        ),
    ],
    ids=["lines", "a message an object", "the fleet's own", "a stream's"],
)
def test_the_object_of_each_row_is_found_and_the_place_in_it(rule, objects, places):
    store, lake = DictStore(), Lake(DictStore(), "lake")
    for key, body in objects.items():
        store.put(key, body)
    found = {}
    for row in rows(store, lake, rule):
        [place] = places_of(store, lake, rule, row["_key"])
        found[row["n"]] = place.before
        body = objects[place.version.key]
        assert row["_payload"] in body or body[:2] == b"\x1f\x8b"
    assert found == places


def test_what_is_gone_is_in_no_object_and_a_key_that_no_row_has_is_refused():
    store, lake, rule = DictStore(), Lake(DictStore(), "lake"), given(layout="firehose")
    store.put("2026/11/23/10/a", json.dumps({"n": 1}).encode())
    [row] = rows(store, lake, rule)
    store.objects.clear()
    assert list(places_of(store, lake, rule, row["_key"])) == []
    for other in ("2026/11/23/10/a", "nothing"):
        with pytest.raises(InvalidName, match="no row of rule old has such a key"):
            list(places_of(store, lake, rule, other))
