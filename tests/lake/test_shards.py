"""Raw objects in shards: folders at random before the time. Every promise of the lake holds in each, and whatever the rule's setting is now, objects of before are read."""

import json
import uuid
import zipfile
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from dict_store import DictStore
from hypothesis import given
from hypothesis import strategies as st

from fleet_pipeline.cloud.blueprint import blueprint, topic_rule_name
from fleet_pipeline.lake.fetching import RawHour
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.listing import SHARD_SAMPLES, Listing, pages, shard_starts
from fleet_pipeline.lake.operations.compact import forecast_hour
from fleet_pipeline.lake.operations.compact_hour import Unit, compact_hour
from fleet_pipeline.lake.operations.look import look
from fleet_pipeline.lake.operations.verify import purge_hour, verify_hour
from fleet_pipeline.lake.privacy.erase import erase
from fleet_pipeline.lake.privacy.export import export
from fleet_pipeline.lake.privacy.places import Places
from fleet_pipeline.lake.privacy.retention import age_out
from fleet_pipeline.lake.reading import opened
from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour, Span
from fleet_pipeline.model.rule import RawName, Rule
from fleet_pipeline.model.rule_table import RuleTable

HOUR = Hour.parse("2026-11-23-10:00")
NOW = datetime(2026, 11, 24, tzinfo=UTC)
DIGITS = {1: 0, 16: 1, 256: 2}


def fleet_of(shards, **said):
    return Fleet(rule_keys=(), rule_tables=(RuleTable(key="x", shards=shards, new_column_messages=1),), **said)


class World:
    """A rule that has some shards now, or none, and objects in as many as it ever had."""

    def __init__(self, shards, **said):
        self.fleet = fleet_of(shards, **said)
        [self.rule] = self.fleet.rules
        self.raw, self.store, self.sent = DictStore(), DictStore(), 0

    @property
    def lake(self):
        return Lake.of(self.fleet, self.store)

    @property
    def places(self):
        return Places(self.fleet, self.raw, self.store, self.lake)

    def send(self, client, *, hour=HOUR, shards=16, body=None, millis=None):
        self.sent += 1
        own = str(uuid.uuid5(uuid.NAMESPACE_OID, str(self.sent)))
        at = hour.start_ms + (self.sent if millis is None else millis)
        name = RawName(at, own, f"test-thing-{client}")
        key = self.rule.shard_prefix(own[: DIGITS[shards]]) + self.rule.raw_key(name).removeprefix(self.rule.raw_prefix)
        self.raw.put(key, body or json.dumps({"serial": client, "n": self.sent}).encode())
        return key

    def rows(self, hour=HOUR):
        return [row for part in self.lake.parts(self.rule, hour) for row in opened(self.store, part).read().to_pylist()]


@pytest.fixture(params=[1, 16, 256], ids=lambda shards: f"{shards} now")
def world(request):
    made = World(request.param)
    for number in range(60):
        made.send(f"car-{number % 20:02d}", shards=(1, 16, 256)[number % 3])
    made.send("late", hour=HOUR.next)
    made.send("early", hour=HOUR.before)
    return made


def test_messages_of_all_shards_and_of_none_are_rows_in_the_order_of_keys(world):
    forecast = forecast_hour(world.raw, world.lake, world.rule, HOUR)
    assert (forecast.raw_versions, forecast.missing) == (60, 60)
    shares = []
    done = compact_hour(world.raw, world.lake, world.rule, HOUR, on_progress=lambda each: shares.append(each.share))
    assert (done.raw_versions, done.rows, done.complete, done.foreign_keys) == (60, 60, True, 0)
    assert 0.9 < shares[-1] <= 1
    rows = world.rows()
    assert [row["_key"] for row in rows] == sorted(row["_key"] for row in rows)
    assert Counter(row["n"] for row in rows) == Counter(range(1, 61))
    for row in rows:
        assert row["_client_id"] == f"test-thing-{row['serial']}"
        assert row["_ts"] == HOUR.start + timedelta(milliseconds=row["n"])
    assert verify_hour(world.raw, world.lake, world.rule, HOUR).passed
    assert look(world.raw, world.lake, world.rule, HOUR).uncompacted == 0
    assert compact_hour(world.raw, world.lake, world.rule, HOUR).rows_added == 0


def test_what_comes_late_into_any_shard_is_seen_and_added(world):
    compact_hour(world.raw, world.lake, world.rule, HOUR)
    for shards in (1, 16, 256):
        world.send("late", shards=shards)
    assert look(world.raw, world.lake, world.rule, HOUR).uncompacted == 3
    assert compact_hour(world.raw, world.lake, world.rule, HOUR).rows_added == 3


def test_a_purge_and_retention_reach_every_shard_and_no_other_hour(world):
    compact_hour(world.raw, world.lake, world.rule, HOUR)
    assert purge_hour(world.raw, world.lake, world.rule, HOUR, now=HOUR.end).versions == 60
    assert len(world.raw.objects) == 2
    aging = replace(world.places, fleet=fleet_of(world.rule.shards, raw_retention_days=1))
    for hour in (HOUR.before, HOUR.next):
        compact_hour(world.raw, world.lake, world.rule, hour)
    gone = age_out(aging, HOUR.start + timedelta(days=1))
    assert gone.raw_versions == 1
    assert gone.following["raw objects"] == HOUR.next.end + timedelta(days=1)
    assert age_out(aging, HOUR.start + timedelta(days=3)).raw_versions == 1
    assert world.raw.objects == {}
    assert shard_starts(world.raw, world.rule) == [world.rule.raw_prefix], "a shard without objects is listed no more"


def test_a_vehicle_is_erased_from_every_shard(world):
    compact_hour(world.raw, world.lake, world.rule, HOUR)
    for shards in (1, 16, 256):
        world.send("car-07", shards=shards)
    erased = erase(world.places, "car-07", NOW, by="somebody", every_hour=True)
    assert erased.clean
    assert "car-07" not in str(world.rows())
    assert not [key for key in world.raw.objects if "car-07" in key]
    assert len(world.rows()) == 57


def test_an_export_has_what_lies_in_every_shard_also_what_is_no_row_yet(world, tmp_path):
    compact_hour(world.raw, world.lake, world.rule, HOUR)
    for shards in (1, 16, 256):
        world.send("car-07", shards=shards)
    compact_hour(world.raw, world.lake, world.rule, HOUR)
    done = export(world.fleet, world.raw, world.lake, "car-07", tmp_path)
    rows = done.messages["x"]
    late = [world.send("car-07", shards=shards) for shards in (1, 16, 256)]
    folder = tmp_path / "late"
    folder.mkdir()
    done = export(world.fleet, world.raw, world.lake, "car-07", folder)
    assert (done.messages["x"], done.uncompacted, rows >= 3) == (rows + len(late), len(late), True)
    with zipfile.ZipFile(folder / "raw/x.zip") as archive:
        bodies = [json.loads(archive.read(name)) for name in archive.namelist()]
    assert len(bodies) == rows + len(late)
    assert {body["serial"] for body in bodies} == {"car-07"}


def test_a_key_of_another_form_within_a_shard_is_foreign_in_its_hour_alone(world):
    for added in ("/x", "-no", "~", "."):
        world.raw.put(f"{world.rule.raw_prefix}shards/a/{HOUR.end_ms - 1}{added}", b"{}")
    done = compact_hour(world.raw, world.lake, world.rule, HOUR)
    assert (done.rows, done.foreign_keys) == (60, 4)
    assert compact_hour(world.raw, world.lake, world.rule, HOUR.next).foreign_keys == 0


@pytest.mark.parametrize("shard", ["abc", "A", "g", "", "0/0"])
def test_a_folder_that_no_rule_makes_is_no_shard(shard):
    world = World(16)
    key = f"{world.rule.raw_prefix}shards/{shard}/{HOUR.start_ms}"
    world.raw.put(key, b"{}")
    assert world.rule.parse_raw_key(key) is None
    assert compact_hour(world.raw, world.lake, world.rule, HOUR).raw_versions == 0


@given(st.sampled_from(["", *"0f", "00", "7e", "ff"]), st.integers(0, 3_599_999))
def test_shards_and_their_keys_are_read_as_they_are_written(shard, offset):
    rule = Rule("test-rule", "rule1")
    assert rule.parse_shard(rule.shard_prefix(shard)) == shard
    name = RawName(HOUR.start_ms + offset, str(uuid.UUID(int=offset)))
    assert rule.parse_raw_key(rule.shard_prefix(shard) + rule.raw_key(name).removeprefix(rule.raw_prefix)) == name
    assert rule.parse_shard(f"other/{rule.shard_prefix(shard)}") is None


def test_a_listing_costs_a_request_for_each_shard_that_is_there_and_not_the_history(world):
    for hour in range(-30, 30):
        for number in range(3000 if hour == 1 else 20):
            if hour:
                world.send(f"{number:06d}", hour=Hour(HOUR.start - timedelta(hours=hour)), shards=(1, 16)[number % 2])
    asked = world.raw.requests["LIST"]
    found = [version.key for page in pages(world.raw, world.rule, HOUR) for version in page]
    assert len(found) == 60
    assert found == sorted(found)
    there = {key.split("/")[3] for key in world.raw.objects if "/shards/" in key}
    assert 16 < len(there) < 64
    assert world.raw.requests["LIST"] - asked == 2 + len(there)


def test_a_rule_that_never_had_shards_costs_one_request_more():
    world = World(1)
    world.send("one", shards=1)
    assert [len(page) for page in pages(world.raw, world.rule, HOUR)] == [1]
    assert world.raw.requests["LIST"] == 2


@pytest.mark.parametrize(("kind", "many"), [(16, 800), (256, 2000), (1, 2500)])
def test_a_long_hour_is_cut_by_shards_and_the_units_together_are_the_hour(kind, many):
    world = World(16)
    for number in range(many):
        world.send(f"{number:06d}", shards=kind, millis=number * 3_600_000 // many)
    for number in range(20):
        world.send(f"{number:06d}", shards=1)
    for number in range(20):
        world.send(f"{number:06d}", shards=16)
    cut = Listing(world.raw, world.rule, HOUR).spans(100)
    assert many / 200 < len(cut) < many / 25
    assert [span.is_first(HOUR) for span in cut] == [True, *[False] * (len(cut) - 1)]
    units = [Unit(HOUR, span) for span in cut]
    assert [Unit.parse(str(unit)) for unit in units] == units
    for unit in reversed(units):
        done = compact_hour(world.raw, world.lake, world.rule, HOUR, span=unit.span)
        assert done.rows_added == done.raw_versions < 400
    assert Counter(row["n"] for row in world.rows()) == Counter(range(1, many + 41))
    assert verify_hour(world.raw, world.lake, world.rule, HOUR).passed
    assert compact_hour(world.raw, world.lake, world.rule, HOUR).rows_added == 0


def test_spans_that_are_done_at_once_are_of_other_shards_and_an_hour_that_is_short_is_not_cut():
    world = World(16)
    for number in range(4000):
        world.send(f"{number:06d}", millis=number * 900)
    cut = Listing(world.raw, world.rule, HOUR).spans(60)
    assert cut[0] == Span(HOUR.start_ms, HOUR.end_ms, ("",))
    assert len(cut) > 40
    for place in range(1, len(cut) - 16):
        assert {span.shards for span in cut[place : place + 16]} == {(f"{number:x}",) for number in range(16)}
    asked = world.raw.requests["LIST"]
    assert Listing(world.raw, world.rule, HOUR).spans(5000) == []
    assert world.raw.requests["LIST"] - asked <= 2 + 2 * SHARD_SAMPLES


def test_progress_goes_from_shard_to_shard():
    world = World(16)
    keys = sorted(world.send("one", millis=1_800_000) for _ in range(200))
    listed = RawHour(world.raw, world.rule, HOUR)
    versions = [version for block in listed.blocks() for version in block]
    shares = [listed.share(version) for version in versions]
    assert [version.key for version in versions] == keys
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(1.5 / 17, abs=0.01)
    assert shares[-1] == pytest.approx(16.5 / 17, abs=0.01)


@pytest.mark.parametrize(
    ("shards", "expression"),
    [
        (1, "${topic()}/${timestamp()}-${newuuid()}"),
        (16, "${topic()}/shards/${substring(newuuid(), 0, 1)}/${timestamp()}-${newuuid()}"),
        (256, "${topic()}/shards/${substring(newuuid(), 0, 2)}/${timestamp()}-${newuuid()}"),
    ],
)
def test_the_rule_writes_the_shard_before_the_time(shards, expression):
    fleet = fleet_of(shards)
    [rule] = fleet.rules
    assert fleet.raw_key_expression_of(rule) == expression
    resource = blueprint(fleet)[topic_rule_name(rule)].resource
    assert resource.action["s3"]["key"] == expression


def test_shards_and_a_fleet_that_streams_are_refused():
    with pytest.raises(InvalidSetting, match=r"rules\[0\].shards"):
        fleet_of(16, delivery="firehose")
