"""What is too old goes, and nothing else: no raw object that is not proved to be a row, no hour that would be written again, and no reader sees half."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count, takewhile

import pytest
from batches import batch_key, packed, record
from test_vehicle_erasure import ELEVEN, FLEET, RULE, TEN, A, B, Fleets, Killed, Mortal

from fleet_pipeline.lake.analytics.vehicles import hourly_table, seen
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.rewrite import rewrite_hour
from fleet_pipeline.lake.operations.verify import verify_hour
from fleet_pipeline.lake.privacy.erase import erase
from fleet_pipeline.lake.privacy.places import Places
from fleet_pipeline.lake.privacy.retention import age_out
from fleet_pipeline.lake.reading import opened
from fleet_pipeline.model.errors import AwsRefused
from fleet_pipeline.model.hour import Hour

AGES = {"raw_retention_days": 1, "lake_retention_days": 10, "derived_retention_days": 20}
DAY = timedelta(days=1)


class Aging(Fleets):
    """A fleet whose settings say how long what is kept."""

    def __init__(self, **ages):
        super().__init__()
        self.fleet = replace(FLEET, **(ages or AGES))

    @property
    def places(self):
        return Places(self.fleet, self.raw, self.store, self.lake)

    def age_out(self, now, **how):
        return age_out(self.places, now, **how)


@pytest.fixture
def aging():
    return filled()


def filled(**ages):
    """Two hours of two vehicles, the first in two parts, with what the tables about vehicles say of them."""
    made = Aging(**ages)
    for hour in (TEN, ELEVEN):
        for number in range(4):
            name = (A, B)[number % 2]
            made.send(hour, {"serial": name, "of": f"x{name}x"})
    made.compact(TEN, ELEVEN)
    made.send(TEN, {"serial": B, "late": True})
    made.compact(TEN)
    return made


def raw_keys(made):
    return [key for key in made.raw.objects if key.startswith(RULE.raw_prefix)]


def parts(made):
    return [key for key in made.store.objects if key.endswith(".parquet") and key.startswith("lake/")]


def derived(made):
    return [key for key in made.store.objects if key.startswith("vehicles_")]


def left(made):
    return [*raw_keys(made), *parts(made), *derived(made)]


def held(made):
    return {key: len(versions) for bucket in (made.raw, made.store) for key, versions in bucket.objects.items()}


def test_by_default_nothing_goes_whatever_its_age():
    made = filled(raw_retention_days=0)
    before = held(made)
    gone = made.age_out(TEN.end + 10_000 * DAY)
    assert held(made) == before
    assert (gone.raw_hours, gone.lake_hours, gone.days, gone.following) == (0, 0, 0, {})
    assert not gone.requests


def test_raw_objects_go_by_the_hour_once_they_are_proved_and_old_enough(aging):
    assert aging.age_out(TEN.end + DAY - timedelta(seconds=1)).raw_hours == 0
    gone = aging.age_out(TEN.end + DAY)
    assert (gone.raw_hours, gone.raw_versions, gone.in_the_way) == (1, 5, [])
    assert all(RULE.parse_raw_key(key).millis >= ELEVEN.start_ms for key in raw_keys(aging))
    assert gone.following["raw objects"] == ELEVEN.end + DAY
    assert len(aging.rows()) == 9
    assert aging.age_out(TEN.end + DAY).raw_hours == 0


def test_every_version_of_a_key_goes_also_one_that_another_hides():
    made = Aging(raw_retention_days=1)
    key = made.send(TEN, {"serial": B, "first": True})
    made.send(TEN, {"serial": A, "second": True}, key=key)
    made.compact(TEN)
    assert made.age_out(TEN.end + DAY).raw_versions == 2
    assert raw_keys(made) == []


def test_an_hour_that_is_not_whole_in_the_lake_stays_and_is_named_and_holds_up_no_other(aging):
    late = aging.send(TEN, {"serial": A, "not": "compacted"})
    gone = aging.age_out(TEN.end + 30 * DAY)
    assert late in raw_keys(aging)
    assert len(raw_keys(aging)) == 6
    assert (gone.raw_hours, gone.lake_hours) == (1, 1)
    assert [(each.what, each.hour) for each in gone.in_the_way] == [
        ("raw objects", TEN.partition_key),
        ("lake", TEN.partition_key),
        ("tables about vehicles", "2026-11-23"),
        ("tables about vehicles", "2026-11-23"),
    ]
    assert "1 have no row" in str(gone.in_the_way[0])
    aging.compact(TEN)
    assert aging.age_out(TEN.end + 30 * DAY).in_the_way == []
    assert left(aging) == []


def test_a_message_that_was_too_large_to_be_read_stays_and_is_named():
    made = Aging(raw_retention_days=1, lake_retention_days=2)
    key = made.send(TEN, b" " * (2 * 1024 * 1024))
    made.send(TEN, {"serial": A})
    made.compact(TEN)
    gone = made.age_out(TEN.end + 5 * DAY)
    assert raw_keys(made) == [key]
    assert (gone.raw_versions, gone.kept, gone.lake_hours) == (1, 1, 0)
    assert [each.what for each in gone.in_the_way] == ["raw objects", "lake"]


def test_an_hour_of_the_lake_goes_in_every_generation_when_its_raw_objects_are_gone(aging):
    old, new = aging.lake, aging.lake.next_generation
    new.begin()
    for hour in (TEN, ELEVEN):
        rewrite_hour(old, new, RULE, hour)
    waiting = aging.age_out(TEN.end + 10 * DAY)
    assert (waiting.raw_hours, waiting.lake_hours) == (0, 0)
    assert all("a new generation" in str(each) for each in waiting.in_the_way)
    new.switch()
    gone = aging.age_out(TEN.end + 10 * DAY)
    assert (gone.raw_hours, gone.lake_hours, gone.in_the_way) == (2, 1, [])
    assert all("hour=11" in key for key in parts(aging))
    assert aging.lake.hours(RULE) == [ELEVEN]
    assert len(parts(aging)) == 2
    assert gone.following["lake"] == ELEVEN.end + 10 * DAY


def test_the_tables_about_vehicles_outlast_the_rows_and_say_what_they_said(aging):
    before = seen(aging.fleet, aging.lake, TEN).rows.to_pylist()
    aging.age_out(TEN.end + 11 * DAY)
    assert parts(aging) == []
    again = seen(aging.fleet, aging.lake, TEN)
    assert (again.rows.to_pylist(), again.written) == (before, False)
    assert aging.age_out(TEN.end + 20 * DAY).days == 0
    gone = aging.age_out(datetime(2026, 12, 14, tzinfo=UTC))
    assert (gone.days, derived(aging)) == (2, [])


def test_a_dry_run_says_what_would_go_and_writes_nothing(aging):
    before, now = held(aging), TEN.end + 30 * DAY
    said = aging.age_out(now, dry_run=True)
    assert held(aging) == before
    assert not said.requests["PUT"] + said.requests["DELETE"]
    gone = aging.age_out(now)
    for name in (
        "raw_hours",
        "raw_versions",
        "raw_bytes",
        "lake_hours",
        "part_bytes",
        "days",
        "revisions",
        "in_the_way",
    ):
        assert getattr(said, name) == getattr(gone, name), name
    assert gone.lake_hours == 2


def test_a_message_that_comes_after_its_hour_went_is_a_row_and_goes_the_next_time(aging):
    now = TEN.end + 30 * DAY
    aging.age_out(now)
    aging.send(TEN, {"serial": B, "very": "late"})
    done = compact_hour(aging.raw, aging.lake, RULE, TEN)
    assert (done.rows_added, done.rows, done.complete) == (1, 1, True)
    assert compact_hour(aging.raw, aging.lake, RULE, TEN).rows_added == 0
    assert verify_hour(aging.raw, aging.lake, RULE, TEN).passed
    assert [key.rpartition("/")[2] for key in parts(aging)] == ["part-00002.parquet"]
    gone = aging.age_out(now)
    assert (gone.raw_versions, gone.lake_hours, parts(aging), raw_keys(aging)) == (1, 1, [], [])


def test_an_erasure_reaches_what_the_tables_say_of_an_hour_whose_rows_went(aging):
    aging.age_out(TEN.end + 11 * DAY)
    assert parts(aging) == []
    erased = erase(aging.places, A, TEN.end + 11 * DAY, by="somebody")
    assert (erased.clean, aging.holding(A)) == (True, set())
    for hour in (TEN, ELEVEN):
        standing = hourly_table(aging.store, aging.fleet).standing(hour.path)
        assert [row["vehicle"] for row in standing.rows.to_pylist()] == [B]


def test_an_hour_that_was_erased_from_goes_as_any(aging):
    assert erase(aging.places, A, TEN.end + DAY, by="somebody").clean
    gone = aging.age_out(TEN.end + 30 * DAY)
    assert (gone.in_the_way, parts(aging), raw_keys(aging)) == ([], [], [])


def test_a_role_without_the_right_ends_the_run_before_every_message_was_read():
    made, refusal = Aging(raw_retention_days=1), AwsRefused("delete", "AccessDenied", "no")
    hours = [Hour(TEN.start + timedelta(hours=number)) for number in range(9)]
    for hour in hours:
        made.send(hour, {"serial": B})
        compact_hour(made.raw, made.lake, RULE, hour)

    def refuse(_versions):
        raise refusal

    made.raw.delete = refuse
    before = made.raw.requests["GET"]
    with pytest.raises(AwsRefused):
        made.age_out(hours[-1].end + DAY)
    assert made.raw.requests["GET"] == before + 3
    assert len(raw_keys(made)) == 9


def killed(number, when):
    """Kill a run at one writing call, go on, and say whether there were so many."""
    made, now = filled(), TEN.end + 30 * DAY
    before = {lake_hour: rows_of(made, lake_hour) for lake_hour in (TEN, ELEVEN)}
    mortal = Mortal((made.raw, made.store), number, when)
    try:
        made.age_out(now)
    except Killed:
        for hour, rows in before.items():
            assert rows_of(made, hour) in (rows, []), "a reader sees a part of an hour"
    else:
        return False
    assert mortal.calls == number
    compact_hour(made.raw, made.lake, RULE, TEN)
    made.age_out(now)
    assert made.age_out(now).in_the_way == []
    assert left(made) == []
    return True


def rows_of(made, hour):
    """What whoever reads the parts of an hour sees."""
    return [row["_key"] for part in made.lake.parts(RULE, hour) for row in opened(made.store, part).read().to_pylist()]


@pytest.mark.whole
def test_killed_at_any_writing_call_the_next_run_goes_on_and_no_reader_ever_sees_half():
    numbers = takewhile(lambda number: killed(number, "before") and killed(number, "after"), count(1))
    assert len(list(numbers)) == 19


@pytest.mark.whole
@pytest.mark.parametrize("at", range(1, 26, 3))
def test_two_at_once_end_as_one(at):
    made, other, now, calls = filled(), [], TEN.end + 30 * DAY, 0

    def beside(call):
        def once(*arguments):
            nonlocal calls
            calls += 1
            if calls == at:
                other.append(made.age_out(now))
            return call(*arguments)

        return once

    for bucket in (made.raw, made.store):
        bucket.put_new, bucket.delete = beside(bucket.put_new), beside(bucket.delete)
    gone = made.age_out(now)
    assert not gone.in_the_way
    assert len(other) == int(calls >= at)
    assert left(made) == []


@pytest.mark.whole
@pytest.mark.parametrize("at", range(1, 6))
def test_a_compaction_of_a_late_message_beside_it_loses_nothing(at):
    made, now, calls = filled(), TEN.end + 30 * DAY, 0

    def beside(delete):
        def once(versions):
            nonlocal calls
            calls += 1
            if calls == at:
                made.send(TEN, {"serial": B, "late": True})
                compact_hour(made.raw, Lake(made.store, "lake"), RULE, TEN)
            return delete(versions)

        return once

    for bucket in (made.raw, made.store):
        bucket.delete = beside(bucket.delete)
    made.age_out(now)
    assert calls >= at
    compact_hour(made.raw, made.lake, RULE, TEN)
    assert verify_hour(made.raw, made.lake, RULE, TEN).passed
    made.age_out(now)
    assert left(made) == []


def test_an_hour_of_the_lake_stays_for_a_batch_that_cannot_be_unpacked_though_it_has_no_message():
    made = Aging()
    sent = [record(TEN.start_ms + 1000, b'{"serial": "%s"}' % B.encode(), number=1)]
    made.raw.put(batch_key(RULE, TEN.start_ms + 1000, 1), packed(sent))
    broken = bytearray(packed([record(TEN.start_ms + 2000, b"{}", number=2)]))
    broken[-6] ^= 255
    made.raw.put(batch_key(RULE, TEN.start_ms + 2000, 2), bytes(broken))
    made.compact(TEN)
    for _ in range(2):
        done = made.age_out(TEN.end + 30 * DAY)
        assert (len(raw_keys(made)), done.lake_hours) == (1, 0)
        assert {each.what for each in done.in_the_way} >= {"raw objects", "lake"}
        assert compact_hour(made.raw, made.lake, RULE, TEN).rows_added == 0


def test_batches_go_by_the_hour_in_which_they_begin_and_an_hour_of_the_lake_after_all_that_may_hold_it():
    made = filled(raw_retention_days=10, lake_retention_days=10)
    seconds = (5, 6, 3598, 3601)
    records = [record(TEN.start_ms + each * 1000, b'{"serial": "1"}', number=each) for each in seconds]
    made.raw.put(batch_key(RULE, TEN.start_ms + 3_500_000, 7), packed(records))
    now = TEN.end + timedelta(days=20)
    stays = made.age_out(now)
    assert {each.what for each in stays.in_the_way} == {"raw objects", "lake"}, "the batch is not yet compacted"
    made.compact(TEN, ELEVEN)
    planned, gone = made.age_out(now, dry_run=True), made.age_out(now)
    assert (planned.raw_versions, planned.lake_hours) == (gone.raw_versions, gone.lake_hours)
    assert gone.in_the_way == []
    assert raw_keys(made) == parts(made) == []
    assert made.age_out(now).raw_versions == 0
