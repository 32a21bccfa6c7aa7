"""Hours over many processes and machines: who does them, who dies meanwhile, and what comes of it."""

import gc
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from unittest import mock

import psutil
import pyarrow.parquet as pq
import pytest
from dask_cluster import free_port, on, scheduler, worker
from dict_store import DictStore
from faulty_s3 import FaultyS3
from test_compaction import HOUR, RULE, key

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.lake.listing import Folders, Listing
from fleet_pipeline.lake.operations import engine
from fleet_pipeline.lake.operations.compact import Compaction, compact_hours
from fleet_pipeline.lake.operations.compact_hour import Compacted, Unit
from fleet_pipeline.lake.operations.look import look, look_at_hours
from fleet_pipeline.model.errors import EngineDiffers, EngineUnreachable, FleetError, PartsMissing
from fleet_pipeline.model.hour import Hour, Span

pytestmark = pytest.mark.whole  # it starts processes

HOURS = [HOUR, HOUR.next, HOUR.next.next]
LONG = 12_000


@pytest.fixture
def s3():
    with FaultyS3(raw=DictStore(), lake=DictStore()) as served:
        yield served


@pytest.fixture
def compaction(s3):
    return Compaction(Aws("eu-central-1", "123456789012", s3.url()), "raw", "lake", "lake", RULE, span_versions=2_000)


def fill(s3, messages, hours=HOURS, each_ms=300):
    for place in range(len(hours)):
        for number in range(messages):
            s3.buckets["raw"].put(key(place * 3_600_000 + number * each_ms), b'{"a": 1}')


def rows(s3):
    """How often each key is in the lake."""
    parts = [name for name in s3.buckets["lake"].objects if name.endswith(".parquet")]
    found = Counter()
    for name in parts:
        found.update(
            pq.read_table(BytesIO(s3.buckets["lake"].read(name, 0, None)), columns=["_key"])["_key"].to_pylist()
        )
    return found


@pytest.fixture
def port():
    with scheduler(number := free_port()):
        yield number


@pytest.fixture
def two_workers(port):
    with worker(port), worker(port):
        yield


def test_hours_are_compacted_by_a_cluster_and_one_that_fails_holds_up_no_other(s3, compaction, port):
    fill(s3, 100)
    s3.buckets["lake"].put("lake/v1/rule=rule1/date=2026-11-23/hour=11/part-00001.parquet", b"")
    with worker(port):
        done = dict(compact_hours(compaction, HOURS, on=on(port)))
        assert [done[hour].rows for hour in (HOURS[0], HOURS[2])] == [100, 100]
        assert isinstance(done[HOURS[1]], PartsMissing)
        assert all(each.rows_added == 0 for each in dict(compact_hours(compaction, HOURS[:1], on=on(port))).values())


@pytest.mark.parametrize("where", ["processes", "cluster"])
def test_a_long_hour_is_cut_into_spans_and_every_message_is_one_row(s3, compaction, where, request):
    fill(s3, LONG, [HOUR])
    cut = Listing(compaction.raw, RULE, HOUR).spans(2_000)
    assert len(cut) == 6
    assert (cut[0].start_ms, cut[-1].end_ms) == (HOUR.start_ms, HOUR.end_ms)
    assert all(before.end_ms == after.start_ms for before, after in pairwise(cut))
    told = []
    if where == "processes":
        done = dict(compact_hours(compaction, [HOUR], processes=2))
    else:
        with worker(port := request.getfixturevalue("port")), worker(port):
            done = dict(
                compact_hours(compaction, [HOUR], on=on(port), on_progress=lambda _, far: told.append(far.share))
            )
    (report,) = done.values()
    assert isinstance(report, Compacted)
    assert (report.raw_versions, report.held, report.rows, report.rows_added) == (LONG,) * 4
    assert report.complete
    assert len(report.parts_added) == len(cut)
    found = rows(s3)
    assert (len(found), set(found.values())) == (LONG, {1})
    assert all(0 <= share <= 1 for share in told)
    again = replace(compaction, span_versions=LONG)(Unit(HOUR), lambda _: None)
    assert (again.rows_added, again.held) == (0, LONG)


def test_a_short_hour_is_one_unit_and_one_that_came_at_once_is_cut_where_its_messages_are(s3, compaction):
    fill(s3, 900, [HOUR])
    asked = len(s3.doors[0].requests)
    assert Listing(compaction.raw, RULE, HOUR).spans(100) == []
    assert len(s3.doors[0].requests) == asked + 2  # which shards there are, and the first page
    fill(s3, LONG, [HOUR], each_ms=10)  # two minutes
    cut = Listing(compaction.raw, RULE, HOUR).spans(2_000)
    assert len(cut) > 2
    assert cut[1].end_ms < HOUR.start_ms + 450_000


def test_an_hour_that_is_far_from_being_cut_is_looked_into_at_two_places_more(s3, compaction):
    fill(s3, LONG, [HOUR])
    asked = len(s3.doors[0].requests)
    assert Listing(compaction.raw, RULE, HOUR).spans(4 * LONG) == []
    assert len(s3.doors[0].requests) == asked + 1 + 2 + 2 * 2  # which shards there are, and pages by twos


def test_workers_are_killed_and_others_join_and_every_message_is_one_row(s3, compaction, port):
    hours = [Hour.of_millis(HOUR.start_ms + place * 3_600_000) for place in range(24)]
    fill(s3, 400, hours)
    with worker(port) as first, worker(port) as second:
        running = compact_hours(compaction, hours, on=on(port))
        done = [next(running), next(running)]
        first.send_signal(signal.SIGKILL)
        with worker(port):
            done.append(next(running))
            second.send_signal(signal.SIGKILL)
            done += running
    assert [str(outcome) for _, outcome in done if isinstance(outcome, FleetError)] == []
    assert {hour: outcome.held for hour, outcome in done} == dict.fromkeys(hours, 400)
    found = rows(s3)
    assert (len(found), set(found.values())) == (400 * len(hours), {1})


def test_a_scheduler_that_is_started_anew_is_given_again_what_it_had(s3, compaction):
    fill(s3, 400)
    port = free_port()
    hours = HOURS * 4
    with scheduler(port) as first, worker(port):
        running = compact_hours(compaction, hours, on=on(port))
        done = [next(running)]
        first.send_signal(signal.SIGKILL)
        first.wait()
    with scheduler(port), worker(port):
        done += running
    assert Counter(hour for hour, _ in done) == Counter(hours)
    assert {outcome.held for _, outcome in done} == {400}
    assert set(rows(s3).values()) == {1}


DIES_AS_IT_GIVES = """
import os


def dask_setup(scheduler):
    async def gather(**_):
        os._exit(1)

    scheduler.handlers["gather"] = gather
"""
"""What makes a scheduler die when it is asked for the first result."""


def test_a_unit_whose_scheduler_died_as_it_gave_the_result_away_is_asked_for_again_and_heard_of(
    s3, compaction, tmp_path
):
    fill(s3, 100)
    (preload := tmp_path / "dies_as_it_gives.py").write_text(DIES_AS_IT_GIVES)
    told, done, port = [], [], free_port()

    def compacted():
        done.extend(compact_hours(compaction, HOURS, on=on(port), on_progress=lambda hour, _: told.append(hour)))

    with scheduler(port, preload=preload) as first, worker(port):
        running = threading.Thread(target=compacted, daemon=True)
        running.start()
        assert first.wait(120) == 1
    told.clear()
    for place in range(len(HOURS)):  # the first scheduler's worker may have done all: there is something to tell of
        s3.buckets["raw"].put(key(place * 3_600_000 + 3_599_999), b'{"a": 1}')
    with scheduler(port), worker(port):
        running.join(120)
    assert Counter(hour for hour, _ in done) == Counter(HOURS)
    assert {outcome.held for _, outcome in done} == {101}
    assert set(rows(s3).values()) == {1}
    assert told, "the new scheduler knows who listens"


def test_a_worker_of_another_version_is_refused_with_both_versions(s3, compaction, port, monkeypatch):
    fill(s3, 1)
    monkeypatch.setattr(engine, "__version__", "9.9")
    with worker(port):
        ((_, outcome), *_) = compact_hours(compaction, HOURS, on=on(port))
    assert isinstance(outcome, EngineDiffers)
    assert "9.9" in str(outcome)
    assert "every worker" in str(outcome)
    assert not rows(s3)


def test_a_cluster_that_is_not_there_or_has_no_worker_is_said_and_nothing_is_lost(s3, compaction, monkeypatch):
    monkeypatch.setattr(engine, "ANSWER_S", 2.0)
    fill(s3, 1)
    nowhere = free_port()
    with pytest.raises(EngineUnreachable, match=rf"dask://127.0.0.1:{nowhere}.*dask scheduler"):
        dict(compact_hours(compaction, HOURS, on=on(nowhere)))
    with scheduler(port := free_port()), pytest.raises(EngineUnreachable, match="no worker"):
        dict(compact_hours(compaction, HOURS, on=on(port)))
    with pytest.raises(EngineUnreachable, match="no_such_package"):
        dict(compact_hours(compaction, HOURS, on="no_such_package.Cluster"))
    assert [hour.rows for hour in dict(compact_hours(compaction, HOURS, processes=1)).values()] == [1, 1, 1]


def test_a_cluster_is_started_by_the_name_of_its_class_and_ends_with_the_work(s3, compaction):
    fill(s3, 10)
    done = dict(compact_hours(compaction, HOURS, on="dask_cluster.OneWorker"))
    assert [each.rows for each in done.values()] == [10, 10, 10]


def test_units_leave_the_connections_of_one_and_none_when_nobody_has_the_work_any_more(s3):
    work = Compaction(Aws("eu-central-1", "123456789012", s3.url()), "raw", "lake", "lake", RULE)
    fill(s3, 3_000)
    port, there = int(s3.url().rpartition(":")[2].strip("/")), []

    def connections():
        return sum(bool(each.raddr) and each.raddr.port == port for each in psutil.Process().net_connections())

    gc.disable()  # connections do not wait for it
    try:
        for hour in HOURS:
            assert work(Unit(hour), lambda _: None).complete
            there.append(connections())
        del work
        assert connections() == 0
    finally:
        gc.enable()
    assert 0 < max(there) <= 2 * there[0]


@pytest.mark.parametrize("where", ["processes", "cluster"])
def test_a_long_hour_is_looked_at_in_spans_and_what_is_seen_is_what_one_process_sees(s3, compaction, where, request):
    many, compaction = 5_000, replace(compaction, span_versions=1_000)
    fill(s3, many, [HOUR], each_ms=700)
    s3.buckets["raw"].put(key(3_600_000), b"{}")
    raw, lake = compaction.raw, compaction.lake
    if where == "processes":
        there = {"processes": 2}
    else:
        request.getfixturevalue("two_workers")
        there = {"on": on(request.getfixturevalue("port"))}

    def seen():
        if where == "processes" and len(s3.buckets["raw"].objects) >= many:  # to start them takes its time: at the end
            return look(raw, lake, RULE, HOUR)
        found = dict(look_at_hours(compaction, [HOUR, HOUR.next], **there))
        assert list(found) == [HOUR.next, HOUR]  # the long one last
        assert found == {hour: look(raw, lake, RULE, hour) for hour in found}
        return found[HOUR]

    assert (seen().uncompacted, seen().held) == (many, 0)
    assert compaction(Unit(HOUR.next), lambda _: None).complete
    assert all(each.complete for each in dict(compact_hours(compaction, [HOUR], processes=1)).values())
    assert (seen().uncompacted, seen().held, seen().versions) == (0, many, many)
    for number in range(3):
        s3.buckets["raw"].put(key(number * 1_000_000 + 7), b'{"late": 1}')
    s3.buckets["raw"].put(f"{RULE.raw_prefix}{HOUR.start_ms}-not-ours", b"")
    assert (seen().uncompacted, seen().held, len(seen().foreign)) == (3, many, 1)
    gone = [name for name in s3.buckets["raw"].objects if RULE.parse_raw_key(name)][:2_000]
    for name in gone:
        del s3.buckets["raw"].objects[name]
    assert (seen().uncompacted, seen().held, seen().versions) == (3, many, many - 1_997)


def test_a_look_of_which_nothing_is_long_starts_no_engine_and_asks_no_more_than_before(s3, compaction, monkeypatch):
    monkeypatch.setattr("fleet_pipeline.lake.operations.look.engine", None)
    fill(s3, 100)
    assert all(each.complete for each in dict(compact_hours(compaction, HOURS, processes=1)).values())
    asked = [len(door.requests) for door in s3.doors]
    assert all(each.uncompacted == 0 for each in dict(look_at_hours(compaction, HOURS)).values())
    assert sum(len(door.requests) for door in s3.doors) - sum(asked) <= 5 * len(HOURS) + 3
    part = "lake/v1/rule=rule1/date=2026-11-23/hour=11/part-00000.parquet"
    s3.buckets["lake"].put(part, b"no Parquet")
    found = dict(look_at_hours(compaction, HOURS))
    assert [found[hour].uncompacted for hour in HOURS] == [0, 100, 0]


def test_a_unit_is_its_text():
    for unit in (Unit(HOUR), Unit(HOUR, Span(HOUR.start_ms, HOUR.end_ms - 1))):
        assert Unit.parse(str(unit)) == unit


def test_an_hour_goes_on_with_what_those_before_it_in_its_process_have_opened_and_asked(s3, compaction):
    fill(s3, 100)
    listed = []
    with mock.patch.object(S3Store, "_connect", autospec=True, side_effect=S3Store._connect) as connect:
        for hour in HOURS:
            done = compaction(Unit(hour), lambda _: None)
            listed.append((done.rows, connect.call_count))
        assert listed == [(100, listed[0][1])] * 3
    before = len(s3.doors[0].requests)
    compaction(Unit(HOURS[0]), lambda _: None)
    asked = s3.doors[0].requests[before:]
    assert sum("raw" in each for each in asked) == 1, "its page; shards and batches were asked for"


def test_what_was_asked_of_folders_serves_settled_hours_for_a_minute():
    now = time.time_ns() // 1_000_000
    ended = Hour.of_millis(now - 3_600_000)  # which ended within the last hour
    for asked_ms, hour, serves in [
        (now, ended.before, True),
        (now - 61_000, ended.before, False),
        (ended.end_ms + 1_799_000, ended, False),
        (now, Hour.of_millis(now), False),
    ]:
        assert Folders([], has_batches=False, asked_ms=asked_ms).serves(hour) is serves


@pytest.mark.parametrize("name", ["shards/0/{}", "batches/2026/11/23/11/x-1-2026-11-23-11-00-00-1.gz"])
def test_what_comes_into_a_new_folder_is_there_a_minute_later(s3, compaction, monkeypatch, name):
    fill(s3, 10)
    compaction(Unit(HOURS[0]), lambda _: None)
    place = name.format(key(3_600_007).removeprefix(RULE.raw_prefix))
    s3.buckets["raw"].put(f"{RULE.raw_prefix}{place}", b"{}")
    monkeypatch.setattr("fleet_pipeline.lake.listing.ASKED_S", 0)
    done = compaction(Unit(HOURS[1]), lambda _: None)
    assert done.raw_versions + done.foreign_keys == 11
    [(_, seen)] = look_at_hours(compaction, HOURS[1:2])
    assert (seen.uncompacted, seen.versions + len(seen.foreign)) == (0, 11)
