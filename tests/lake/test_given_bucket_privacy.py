"""A vehicle's end, an export and old age where messages lie in a bucket that is only read: the lake's copy goes, and the bucket is as it was."""

import gzip
import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from dict_store import DictStore

from fleet_pipeline.lake.analytics.vehicles import seen
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.look import look
from fleet_pipeline.lake.operations.verify import verify_hour
from fleet_pipeline.lake.privacy.erase import erase, plan
from fleet_pipeline.lake.privacy.export import export
from fleet_pipeline.lake.privacy.places import Places
from fleet_pipeline.lake.privacy.retention import age_out
from fleet_pipeline.lake.reading import opened
from fleet_pipeline.model.errors import OnlyRead
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.form import Form
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule_table import RuleTable

TABLES = (
    RuleTable(key="old", bucket="others", layout="raw/{*}/{millis}.json", arrays="elements"),
    RuleTable(key="by_device", bucket="others", layout="cars/{device}/{millis}.json"),
    RuleTable(key="gathered", bucket="others", layout="firehose", raw_prefix="stream"),
)
FLEET = Fleet(rule_tables=TABLES, raw_retention_days=5, lake_retention_days=30)
OLD, BY_DEVICE, GATHERED = FLEET.given_rules
TEN = Hour.parse("2026-11-23-10:00")
NOW = datetime(2026, 11, 24, tzinfo=UTC)
A, B = "297468000001", "297468000002"


class World:
    def __init__(self, fleet=FLEET):
        self.fleet = fleet
        self.others, self.raw, self.store = DictStore(), DictStore(), DictStore()

    @property
    def lake(self):
        return Lake.current(self.store, "lake", Form())

    @property
    def places(self):
        return Places(self.fleet, self.raw, self.store, self.lake, given={"others": self.others})

    def compact(self):
        done = [compact_hour(self.others, self.lake, rule, TEN) for rule in self.fleet.given_rules]
        seen(self.fleet, self.lake, TEN)
        return done

    def rows(self):
        return [
            row
            for rule in self.fleet.given_rules
            for part in self.lake.parts(rule, TEN)
            for row in opened(self.store, part).read().to_pylist()
        ]


@pytest.fixture
def world():
    made = World()
    for number, body in enumerate(
        [{"serial": A}, {"serial": B}, [{"serial": A, "x": 1}, {"serial": B, "x": 2}], {"of": "nobody"}]
    ):
        place = f"cars/test-thing-{A}" if number == 3 else "raw/x"
        made.others.put(f"{place}/{TEN.start_ms + number}.json", json.dumps(body).encode())
    made.others.put("stream/2026/11/23/10/one", b"".join(b'{"serial": "%s"}\n' % each.encode() for each in (A, B, A)))
    made.compact()
    return made


def test_a_vehicle_is_gone_from_the_lake_and_the_bucket_is_as_it_was(world):
    before = dict(world.others.objects)
    planned = plan(world.places, A, NOW)
    assert (planned.removed.messages, planned.removed.shared, planned.removed.raw_versions) == (5, 1, 0)
    erased = erase(world.places, A, NOW, by="somebody")
    assert erased.clean
    assert erased.removed.messages == 5
    assert world.others.objects == before
    assert world.others.requests["DELETE"] == world.others.requests["PUT"] == 0
    assert A not in str(world.rows())
    assert len([row for row in world.rows() if B in str(row["_payload"])]) == 3


def test_what_stands_for_the_rest_of_a_devices_damaged_object_goes_with_the_device():
    table = RuleTable(key="packed", bucket="others", layout="{device}/{millis}.gz", objects="lines")
    world = World(Fleet(rule_tables=(table,)))
    body = gzip.compress(b'{"n": 1}\n' * 9)
    for number, whose in enumerate((A, B)):
        world.others.put(f"test-thing-{whose}/{TEN.start_ms + number}.gz", body[:-4])
    world.compact()
    of_each = {"test-thing-" + A: 10, "test-thing-" + B: 10}
    assert Counter(row["_client_id"] for row in world.rows()) == of_each
    erase(world.places, A, NOW, by="somebody")
    assert Counter(row["_client_id"] for row in world.rows()) == {"test-thing-" + B: 10}
    assert [done.rows_added for done in world.compact()] == [0]
    assert verify_hour(world.others, world.lake, world.fleet.given_rules[0], TEN).passed


def test_what_stays_in_the_bucket_becomes_no_row_again(world):
    erase(world.places, A, NOW, by="somebody")
    again = world.compact()
    assert [done.rows_added for done in again] == [0, 0, 0]
    assert [done.complete for done in again] == [True, True, True]
    for rule in FLEET.given_rules:
        assert verify_hour(world.others, world.lake, rule, TEN).passed
        assert look(world.others, world.lake, rule, TEN).uncompacted == 0


def test_an_export_has_what_is_in_the_bucket_and_no_row_yet(world, tmp_path):
    hour = Hour.of(datetime.now(UTC))
    for each in (TEN, hour):
        world.others.put(f"cars/test-thing-{A}/{each.start_ms + 9}.json", b'{"late": true}')
    world.others.put(f"cars/test-thing-{A}/readme", A.encode())
    found = export(FLEET, world.raw, world.lake, A, tmp_path, given={"others": world.others})
    assert +found.messages == {"old": 2, "by_device": 3, "gathered": 2}
    assert (found.uncompacted, found.shared, found.foreign) == (2, 1, 0)


def test_raw_objects_stay_however_old_and_hours_of_the_lake_with_them_are_counted_and_in_nobodys_way(world):
    before = dict(world.others.objects)
    gone = age_out(world.places, NOW + timedelta(days=60))
    assert (gone.raw_versions, gone.lake_hours) == (0, 0)
    assert world.others.objects == before
    assert gone.in_the_way == []
    assert gone.read_only == {"old": 1, "by_device": 1, "gathered": 1}
    world.others.objects.clear()
    assert age_out(world.places, NOW + timedelta(days=60)).lake_hours == 3


def test_nothing_that_removes_or_writes_gets_through_to_the_bucket(world):
    raw = world.places.at(OLD).raw
    with pytest.raises(OnlyRead):
        raw.put_new("raw/x", b"")
    with pytest.raises(OnlyRead):
        raw.delete([])
    assert world.places.at(FLEET.rules[0]).raw is world.raw
