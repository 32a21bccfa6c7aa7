"""What the tables about vehicles promise, on buckets in a dict."""

import json
import uuid
from dataclasses import replace
from datetime import date

import pytest
from dict_store import DictStore

from fleet_pipeline.lake.analytics.vehicles import DAILY, HOURLY, daily_table, hourly_table, hours_of, rolled_up, seen
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.form import Form
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName

FLEET = Fleet()
TEN, ELEVEN = Hour.parse("2026-11-23-10:00"), Hour.parse("2026-11-23-11:00")
DAY = date(2026, 11, 23)


@pytest.fixture
def raw():
    return DictStore()


@pytest.fixture(params=["columns", "structs"])
def lake(request):
    return Lake(DictStore(), "lake", form=Form(request.param))


def send(raw, lake, hour, offset_ms, rule="rule1", *, client=None, body=None, **message):
    """Let one message arrive and be compacted."""
    of = FLEET.rule(rule)
    raw.put(
        of.raw_key(RawName(hour.start_ms + offset_ms, str(uuid.uuid4()), client)),
        json.dumps(message).encode() if body is None else body,
    )
    compact_hour(raw, lake, of, hour)


def test_a_vehicle_is_seen_once_an_hour_whatever_rules_it_published_to(raw, lake):
    send(raw, lake, TEN, 0, "rule1", serial="A", speed_kmh=50.0, odometer_km=100.0, battery={"charge_percent": 80.0})
    send(raw, lake, TEN, 5000, "rule2", serial="A", speed_kmh=70, odometer_km=101, battery={"charge_percent": 79})
    send(raw, lake, TEN, 9000, "rule1", serial="B")
    a, b = seen(FLEET, lake, TEN).rows.to_pylist()
    assert (a["vehicle"], a["messages"], a["speed_samples"], a["speed_mean_kmh"], a["speed_max_kmh"]) == (
        "A",
        2,
        2,
        60.0,
        70.0,
    )
    assert (a["last_message"] - a["first_message"]).total_seconds() == 5
    assert (a["odometer_first_km"], a["odometer_last_km"]) == (100.0, 101.0)
    assert (a["battery_max_percent"], a["battery_min_percent"], a["battery_last_percent"]) == (80.0, 79.0, 79.0)
    assert (b["vehicle"], b["messages"], b["speed_mean_kmh"], b["battery_last_percent"]) == ("B", 1, None, None)


def test_the_client_id_that_aws_iot_wrote_counts_more_than_the_serial_that_a_message_claims(raw, lake):
    send(raw, lake, TEN, 0, client="test-thing-297468000001", serial="297468000002")
    send(raw, lake, TEN, 1, client="n/a", serial="297468000003")
    assert seen(FLEET, lake, TEN).rows["vehicle"].to_pylist() == ["297468000001", "297468000003"]


def test_columns_of_another_kind_and_messages_that_cannot_be_read_stop_nothing(raw, lake):
    send(raw, lake, TEN, 0, "rule1", serial="A", speed_kmh="fast", odometer_km="12.5")
    send(raw, lake, TEN, 1, "rule2", serial="A", speed_kmh=30)
    send(raw, lake, TEN, 2, "rule3", body=b"{not json")
    [a] = seen(FLEET, lake, TEN).rows.to_pylist()
    assert (a["messages"], a["speed_mean_kmh"], a["odometer_last_km"]) == (2, 30.0, 12.5)


def test_a_day_is_rolled_up_from_its_hours(raw, lake):
    send(raw, lake, TEN, 0, serial="A", speed_kmh=50.0, odometer_km=100.0, battery={"charge_percent": 80.0})
    for offset in (0, 1, 2):
        send(
            raw,
            lake,
            ELEVEN,
            offset,
            serial="A",
            speed_kmh=90.0,
            odometer_km=140.0 + offset,
            battery={"charge_percent": 70.0 - offset},
        )
    for hour in (TEN, ELEVEN):
        seen(FLEET, lake, hour)
    [a] = rolled_up(lake.store, DAY).rows.to_pylist()
    assert (a["vehicle"], a["hours_seen"], a["messages"], a["distance_km"]) == ("A", 2, 4, 42.0)
    assert (a["speed_mean_kmh"], a["speed_max_kmh"]) == (80.0, 90.0)
    assert (a["battery_max_percent"], a["battery_min_percent"], a["battery_last_percent"]) == (80.0, 68.0, 68.0)
    assert (a["first_message"], a["last_message"]) == (TEN.start, ELEVEN.start.replace(microsecond=2000))


def test_a_second_run_writes_nothing(raw, lake):
    send(raw, lake, TEN, 0, serial="A")
    first = (seen(FLEET, lake, TEN), rolled_up(lake.store, DAY))
    puts = lake.store.requests["PUT"]
    second = (seen(FLEET, lake, TEN), rolled_up(lake.store, DAY))
    assert second == tuple(replace(each, written=False) for each in first)
    assert lake.store.requests["PUT"] == puts


def test_late_messages_make_a_revision_and_leave_the_one_before_as_it_was(raw, lake):
    send(raw, lake, TEN, 0, serial="A")
    early = (seen(FLEET, lake, TEN), rolled_up(lake.store, DAY))
    before = {name: body for name, [(_, body)] in lake.store.objects.items()}
    send(raw, lake, TEN, 1, "rule3", serial="A")
    late = (seen(FLEET, lake, TEN), rolled_up(lake.store, DAY))
    assert [each.key for each in late] == [each.key.replace("revision-00000", "revision-00001") for each in early]
    assert [each.rows.to_pylist()[0]["messages"] for each in late] == [2, 2]
    assert [each.rows.to_pylist()[0]["revision"] for each in late] == [1, 1]
    assert all(lake.store.objects[name][0][1] == body for name, body in before.items())


def test_an_hour_and_a_day_without_messages_have_no_revision(lake):
    assert (seen(FLEET, lake, TEN).key, rolled_up(lake.store, DAY).key) == (None, None)
    assert seen(FLEET, lake, TEN).rows.num_rows == 0
    assert lake.store.requests["PUT"] == 0


def test_of_two_runs_at_once_the_older_answer_is_not_the_last(raw, lake):
    """Another run looks later, sees more, and takes the revision's number first."""
    send(raw, lake, TEN, 0, serial="A")
    put_new = lake.store.put_new

    def overtaken(name, body):
        lake.store.put_new = put_new
        send(raw, lake, TEN, 1, serial="B")
        assert seen(FLEET, lake, TEN).rows.num_rows == 2
        return put_new(name, body)

    lake.store.put_new = overtaken
    assert seen(FLEET, lake, TEN).rows["vehicle"].to_pylist() == ["A", "B"]
    assert hourly_table(lake.store).last(TEN.path).key.endswith("revision-00000.parquet")


def test_a_lost_answer_to_a_write_makes_no_second_revision(raw, lake):
    send(raw, lake, TEN, 0, serial="A")
    put_new = lake.store.put_new
    lake.store.put_new = lambda name, body: put_new(name, body) and False
    assert seen(FLEET, lake, TEN).rows.num_rows == 1
    assert hourly_table(lake.store).last(TEN.path).key.endswith("revision-00000.parquet")


def test_foreign_objects_among_the_revisions_are_not_read(raw, lake):
    send(raw, lake, TEN, 0, serial="A")
    seen(FLEET, lake, TEN)
    lake.store.put(f"vehicles_hourly/{TEN.path}/revision-99999.parquet.tmp", b"?")
    assert seen(FLEET, lake, TEN).written is False


def test_the_tables_have_their_columns_and_a_day_its_hours(raw, lake):
    send(raw, lake, TEN, 0, serial="A")
    assert seen(FLEET, lake, TEN).rows.schema.names == [*HOURLY.names, "revision"]
    assert rolled_up(lake.store, DAY).rows.schema.names == [*DAILY.names, "revision"]
    assert daily_table(lake.store).last("date=2026-11-23") is not None
    assert [hour.partition_key for hour in hours_of(DAY)][::23] == ["2026-11-23-00:00", "2026-11-23-23:00"]
