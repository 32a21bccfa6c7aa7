"""Batches: objects of many messages each, as Amazon Data Firehose writes them, become rows as single objects do."""

import contextlib
import gzip
import json
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from fleet_pipeline.lake.batches import BatchHour, Noted, Read
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact import forecast_hour
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.look import look
from fleet_pipeline.lake.operations.rewrite import learnt, rewrite_hour
from fleet_pipeline.lake.operations.verify import purge_hour, verify_hour
from fleet_pipeline.lake.reading import opened
from fleet_pipeline.model.errors import NotVerified
from fleet_pipeline.model.hour import Hour, Span
from fleet_pipeline.model.rule import Rule
from tests.helpers.batches import batch_key, packed, record, uuid
from tests.helpers.dict_store import DictStore

RULE = Rule("test-rule", "rule1")
HOUR = Hour.parse("2026-11-23-10:00")
START = HOUR.start_ms


def rows(lake, hour=HOUR):
    files = [opened(lake.store, part) for part in lake.parts(RULE, hour)]
    return [row for file in files for row in file.read().to_pylist()]


def some(count, *, at=START, step=1000, first=0):
    return [
        record(at + number * step, json.dumps({"speed": number}).encode(), number=first + number)
        for number in range(count)
    ]


def compact(raw, lake, hour=HOUR):
    return compact_hour(raw, lake, RULE, hour)


def test_each_record_is_a_row_with_its_bytes_its_time_its_topic_and_its_client(raw, lake):
    payload = b'{"speed":  48.10}\n'
    raw.put(batch_key(RULE, START), packed([record(START + 5, payload, number=7), *some(3, at=START + 10)]))
    done = compact(raw, lake)
    assert (done.raw_versions, done.rows, done.batches, done.complete) == (4, 4, 1, True)
    [first, *_] = rows(lake)
    assert first["_payload"] == payload
    assert first["_key"] == f"test-rule/rule1/{START + 5}-{uuid(7)}"
    assert (first["_topic"], first["_client_id"]) == ("test-rule/rule1", "test-thing-1")
    assert int(first["_ts"].timestamp() * 1000) == START + 5
    assert [row["_key"] for row in rows(lake)] == sorted(row["_key"] for row in rows(lake))


def test_a_second_run_reads_no_batch_and_writes_nothing(raw, lake):
    raw.put(batch_key(RULE, START), packed(some(5)))
    compact(raw, lake)
    gets, puts = raw.requests["GET"], lake.store.requests["PUT"]
    again = compact(raw, lake)
    assert (again.rows_added, again.raw_versions, again.complete) == (0, 5, True)
    assert (raw.requests["GET"], lake.store.requests["PUT"]) == (gets, puts)


def test_a_record_is_a_row_of_the_hour_in_which_it_was_received_whatever_batch_it_came_in(raw, lake):
    early = record(START - 1, b'{"speed": 1}', number=1)
    late = record(HOUR.end_ms, b'{"speed": 2}', number=2)
    raw.put(batch_key(RULE, START - 200_000, 1), packed([early, *some(2, first=10)]))
    raw.put(batch_key(RULE, HOUR.end_ms - 5_000, 2), packed([*some(2, at=HOUR.end_ms - 3000, first=20), late]))
    assert compact(raw, lake).rows == 4
    assert compact(raw, lake, HOUR.before).rows == 1
    assert compact(raw, lake, HOUR.next).rows == 1
    assert rows(lake, HOUR.before)[0]["_payload"] == b'{"speed": 1}'


def test_a_neighbours_batch_is_not_read_again_where_none_of_its_messages_is_of_the_hour(raw, lake):
    raw.put(batch_key(RULE, START - 200_000), packed(some(3, at=START - 190_000)))
    compact(raw, lake, HOUR.before)
    gets = raw.requests["GET"]
    compact(raw, lake)
    assert raw.requests["GET"] == gets


def test_doubles_are_one_row_in_one_batch_in_two_and_across_runs_and_are_counted(raw, lake):
    first = some(5)
    raw.put(batch_key(RULE, START, 1), packed([*first, first[0]]))
    raw.put(batch_key(RULE, START + 60_000, 2), packed([first[1], *some(2, at=START + 70_000, first=50)]))
    done = compact(raw, lake)
    assert (done.rows, done.raw_versions, done.doubled, done.complete) == (7, 7, 2, True)
    raw.put(batch_key(RULE, START + 3_000_000, 3), packed([first[2], *some(1, at=START + 3_100_000, first=90)]))
    again = compact(raw, lake)
    assert (again.rows_added, again.rows, again.raw_versions, again.doubled, again.complete) == (1, 8, 8, 3, True)


def test_objects_of_both_forms_are_rows_of_one_hour(raw, lake):
    for number in range(3):
        raw.put(f"test-rule/rule1/{START + number}-{uuid(900 + number)}", b'{"speed": 5}')
    raw.put(batch_key(RULE, START + 2000), packed(some(4)))
    done = compact(raw, lake)
    assert (done.raw_versions, done.rows, done.held, done.complete) == (7, 7, 7, True)
    assert compact(raw, lake).rows_added == 0


@pytest.mark.parametrize("newline", [b"\n", b"", b"\r\n"])
def test_records_are_told_apart_with_and_without_a_newline(raw, lake, newline):
    raw.put(batch_key(RULE, START), packed(some(50), newline=newline))
    done = compact(raw, lake)
    assert (done.rows, done.statuses) == (50, {"ok": 50})


def test_a_batch_that_is_not_packed_is_read_as_it_is(raw, lake):
    raw.put(batch_key(RULE, START), b"\n".join(some(3)))
    assert compact(raw, lake).statuses == {"ok": 3}


BROKEN = {
    "no JSON": b"x" * 20,
    "half a record": some(1)[0][:60],
    "wrong Base64": some(1)[0].replace(b'"p":"', b'"p":"!'),
    "no time": b'{"p":"e30=","k":"test-rule/rule1","u":"' + uuid(1).encode() + b'"}',
    "an instant of another form": record(5, b"{}", number=1),
    "no UUID": record(START, b"{}", number=1).replace(uuid(1).encode(), b"1"),
    "another rule's": record(START, b"{}", number=1, topic="test-rule/rule2"),
    "a bare message": b'{"speed": 7}',
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_record_is_a_row_that_says_so_with_the_bytes_that_stand_there(raw, lake, what):
    good = some(4, at=START + 1000)
    raw.put(batch_key(RULE, START), packed([*good[:2], BROKEN[what], *good[2:]]))
    done = compact(raw, lake)
    assert done.statuses == {"no_record": 1, "ok": 4}
    [strange] = [row for row in rows(lake) if row["_status"] == "no_record"]
    assert strange["_payload"] == BROKEN[what]
    assert strange["speed"] is None
    new = lake.next_generation
    new.begin()
    learnt(lake, new.contract(RULE), RULE, HOUR)
    assert rewrite_hour(lake, new, RULE, HOUR).complete
    assert [row["_status"] for row in rows(new)].count("no_record") == 1


@pytest.mark.parametrize("cut", [1, 200, 40])
def test_a_batch_that_is_damaged_gives_what_can_be_unpacked_and_a_row_that_says_so(raw, lake, cut):
    body = gzip.compress(b"\n".join(some(4000, step=10)), mtime=0)
    raw.put(batch_key(RULE, START), body[: len(body) - len(body) // cut if cut > 1 else 20])
    done = compact(raw, lake)
    assert done.statuses["no_record"] == 1
    assert len(done.damaged) == 1
    assert "middle of a gzip" in done.damaged[0]
    [strange] = [row for row in rows(lake) if row["_status"] == "no_record"]
    assert strange["_payload"] is None
    assert done.statuses.get("ok", 0) > (3000 if cut == 200 else -1)


def test_a_record_of_an_hour_far_from_its_batch_is_noted_there_and_becomes_a_row(raw, lake):
    far = Hour.of_millis(START - 7_200_000)
    raw.put(batch_key(RULE, START), packed([*some(2), record(far.start_ms + 5, b'{"speed": 9}', number=99)]))
    verify_hour(raw, lake, RULE, HOUR)
    assert lake.store.objects == {}, "who verifies changes nothing"
    done = compact(raw, lake)
    assert (done.rows, done.strays) == (2, {far.partition_key: 1})
    there = compact(raw, lake, far)
    assert (there.rows, there.complete) == (1, True)
    assert compact(raw, lake, far).rows_added == 0


def test_of_each_batch_that_has_messages_of_an_hour_far_from_it_that_hour_is_told(raw, lake):
    far = Hour.of_millis(START - 7_200_000)
    for number in range(3):
        sent = [record(far.start_ms + each, b'{"speed": 9}', number=100 * number + each) for each in range(1, 3)]
        raw.put(batch_key(RULE, START + number, number), packed([*some(2, first=1000 + 10 * number), *sent]))
    assert compact(raw, lake).strays == {far.partition_key: 6}
    there = compact(raw, lake, far)
    assert (there.rows, there.complete) == (6, True)


def test_a_batch_that_comes_late_is_late_data(raw, lake):
    raw.put(batch_key(RULE, START, 1), packed(some(3)))
    compact(raw, lake)
    raw.put(batch_key(RULE, START + 1000, 2), packed(some(2, first=30)))
    gets = raw.requests["GET"]
    done = compact(raw, lake)
    assert (done.rows_added, done.rows, raw.requests["GET"] - gets) == (2, 5, 1)


class Interrupted(DictStore):
    """A lake in which something happens just before batches are noted; with `stops` the notes are never written."""

    happens, stops = None, False

    def put_new(self, key, body):
        if "/_batches/v1/" in key:
            happens, self.happens = self.happens, None
            if happens:
                happens()
            if self.stops:
                raise KeyboardInterrupt
        return super().put_new(key, body)


def told(raw, lake):
    """What a further run says of the hour, which a look confirms."""
    done, seen = compact(raw, lake), look(raw, lake, RULE, HOUR)
    assert (seen.versions, seen.held, seen.uncompacted) == (done.raw_versions, done.held, 0)
    return done.raw_versions, done.rows, done.doubled, done.complete


@pytest.mark.parametrize("further", ["nothing", "a batch", "a batch of doubles"])
@pytest.mark.parametrize("other", [compact, lambda raw, lake: look(raw, lake, RULE, HOUR)], ids=["compaction", "look"])
def test_two_that_read_a_batch_at_once_count_its_messages_once(raw, further, other):
    lake = Lake(Interrupted(), "lake")
    first = some(5)
    raw.put(batch_key(RULE, START, 1), packed(first))
    compact(raw, lake)
    raw.put(batch_key(RULE, START + 60_000, 2), packed([first[1], *some(3, at=START + 70_000, first=50)]))

    def happens():
        if further == "a batch":
            raw.put(batch_key(RULE, START + 90_000, 3), packed(some(2, at=START + 95_000, first=70)))
        if further == "a batch of doubles":
            raw.put(batch_key(RULE, START + 90_000, 3), packed([first[2], first[3]]))
        other(raw, lake)

    lake.store.happens = happens
    compact(raw, lake)
    rows, doubled = 8 + 2 * (further == "a batch"), 1 + 2 * (further == "a batch of doubles")
    assert told(raw, lake) == (rows, rows, doubled, True)


def test_one_that_saw_a_batch_more_than_the_other_notes_that_one_alone(raw):
    lake = Lake(Interrupted(), "lake")
    raw.put(batch_key(RULE, START, 1), packed(some(5)))

    def happens():
        raw.put(batch_key(RULE, START + 60_000, 2), packed([some(5)[1], *some(3, at=START + 70_000, first=50)]))
        lake.store.happens = slower
        compact(raw, lake)

    def slower():
        """The one that saw less comes first, after all."""
        Noted(lake, RULE, HOUR).add({BatchHour(raw, lake, RULE, HOUR).listed[0].id: Read(START, START + 4000)}, 5, 0, 0)

    lake.store.happens = happens
    compact(raw, lake)
    assert told(raw, lake) == (8, 8, 1, True)


@pytest.mark.parametrize("noted", [False, True])
def test_messages_that_a_stopped_run_made_rows_are_no_doubles(raw, noted):
    lake = Lake(Interrupted(), "lake")
    if noted:
        raw.put(batch_key(RULE, START, 1), packed(some(5)))
        compact(raw, lake)
    raw.put(batch_key(RULE, START + 60_000, 2), packed(some(3, at=START + 70_000, first=50)))
    lake.store.stops = True
    with pytest.raises(KeyboardInterrupt):
        compact(raw, lake)
    lake.store.stops = False
    rows = 8 if noted else 3
    assert told(raw, lake) == (rows, rows, 0, True)


def test_rows_of_a_part_that_somebody_removed_come_back(raw, lake):
    raw.put(batch_key(RULE, START), packed(some(3)))
    [part] = compact(raw, lake).parts_added
    del lake.store.objects[part]
    assert compact(raw, lake).rows == 3


def test_the_same_batches_give_the_same_bytes_whatever_was_sorted_on_disk(raw, monkeypatch):
    for number in range(5):
        messages = some(400, at=START + number * 300_000, step=700, first=number * 1000)
        raw.put(batch_key(RULE, START + number * 300_000, number), packed(messages))
    whole, cut = Lake(DictStore(), "lake"), Lake(DictStore(), "lake")
    compact(raw, whole)
    monkeypatch.setattr("fleet_pipeline.lake.records.RUN_BYTES", 20_000)
    monkeypatch.setattr("fleet_pipeline.lake.records.PIECE", 500)
    monkeypatch.setattr("fleet_pipeline.lake.records.CHUNK", 3_000)
    assert compact(raw, cut).rows == 2000
    [one], [other] = ([lake.store.objects[part.key][0][1] for part in lake.parts(RULE, HOUR)] for lake in (whole, cut))
    assert one == other


def test_while_a_generation_is_written_batches_are_rows_of_both(raw, lake):
    raw.put(batch_key(RULE, START, 1), packed(some(3)))
    compact(raw, lake)
    new = lake.next_generation
    new.begin()
    raw.put(batch_key(RULE, START + 60_000, 2), packed(some(3, at=START + 70_000, first=40)))
    assert compact(raw, lake).rows == 6
    rewrite_hour(lake, new, RULE, HOUR)
    assert {row["_key"] for row in rows(new)} == {row["_key"] for row in rows(lake)}
    assert len(rows(new)) == 6


def test_a_key_of_another_form_among_the_batches_is_foreign(raw, lake):
    raw.put(batch_key(RULE, START).replace("cdk-test-dev-rule1-1-", "x-"), packed(some(1)))
    raw.put(f"{RULE.batch_prefix}2026/11/23/10/{START}-{uuid(1)}", b"{}")
    done = compact(raw, lake)
    assert (done.rows, done.foreign_keys) == (0, 2)


def test_no_row_has_a_column_of_the_envelope(raw, lake):
    raw.put(batch_key(RULE, START), packed(some(3)))
    compact(raw, lake)
    [part] = lake.parts(RULE, HOUR)
    assert "p" not in opened(lake.store, part).schema.names
    assert opened(lake.store, part).schema.field("_payload").type == pa.binary()


def purge(raw, lake, hour=HOUR):
    return purge_hour(raw, lake, RULE, hour, now=datetime(2026, 11, 25, tzinfo=UTC))


def test_a_batch_is_purged_once_every_message_of_it_is_a_row_also_those_of_the_next_hour(raw, lake):
    late = record(HOUR.end_ms + 5, b'{"speed": 2}', number=2)
    raw.put(batch_key(RULE, START, 1), packed(some(3)))
    raw.put(batch_key(RULE, HOUR.end_ms - 5_000, 2), packed([*some(2, at=HOUR.end_ms - 3000, first=20), late]))
    compact(raw, lake)
    assert verify_hour(raw, lake, RULE, HOUR).passed
    done = purge(raw, lake)
    assert (done.versions, done.kept) == (1, 1)
    compact(raw, lake, HOUR.next)
    assert purge(raw, lake).versions == 1
    assert raw.objects == {}
    assert len(rows(lake)) == 5


def test_no_batch_is_purged_whose_messages_are_missing_or_have_other_bytes(raw, lake):
    raw.put(batch_key(RULE, START, 1), packed(some(3)))
    with pytest.raises(NotVerified):
        purge(raw, lake)
    compact(raw, lake)
    altered = json.loads(some(1)[0])
    altered["p"] = "e30="
    raw.put(batch_key(RULE, START, 1), packed([json.dumps(altered).encode()]))
    found = verify_hour(raw, lake, RULE, HOUR)
    assert (found.altered, found.missing, found.passed) == (1, 0, False)


def test_a_damaged_batch_is_not_purged(raw, lake):
    raw.put(batch_key(RULE, START, 1), packed(some(300))[:-40])
    raw.put(batch_key(RULE, START, 2), packed(some(3, first=1000)))
    compact(raw, lake)
    done = purge(raw, lake)
    assert (done.versions, done.kept, len(raw.objects)) == (1, 1, 1)


def test_a_forecast_says_what_a_compaction_would_read(raw, lake):
    raw.put(batch_key(RULE, START, 1), packed(some(3)))
    before = forecast_hour(raw, lake, RULE, HOUR)
    assert (before.batches, before.get_requests, before.missing) == (1, 1, 0)
    compact(raw, lake)
    after = forecast_hour(raw, lake, RULE, HOUR)
    assert (after.batches, after.get_requests, after.put_requests, after.raw_versions) == (0, 0, 0, 3)


def test_a_look_finds_messages_of_batches_that_have_no_row_and_reads_no_batch_twice(raw, lake):
    raw.put(batch_key(RULE, START, 1), packed(some(3)))
    assert look(raw, lake, RULE, HOUR).uncompacted == 3
    compact(raw, lake)
    gets = raw.requests["GET"]
    seen = look(raw, lake, RULE, HOUR)
    assert (seen.uncompacted, seen.versions, seen.held, raw.requests["GET"]) == (0, 3, 3, gets)
    raw.put(batch_key(RULE, START + 60_000, 2), packed([*some(3), *some(1, first=9)]))
    assert look(raw, lake, RULE, HOUR).uncompacted == 1


def test_a_look_notes_that_a_batch_has_nothing_new(raw, lake):
    raw.put(batch_key(RULE, START, 1), packed(some(3)))
    compact(raw, lake)
    raw.put(batch_key(RULE, START + 60_000, 2), packed(some(3)))
    assert look(raw, lake, RULE, HOUR).uncompacted == 0
    gets = raw.requests["GET"]
    assert (look(raw, lake, RULE, HOUR).versions, raw.requests["GET"]) == (3, gets)


def test_of_a_long_hour_in_spans_one_span_has_the_batches(raw, lake):
    middle = START + 1_800_000
    raw.put(f"test-rule/rule1/{middle + 5}-{uuid(900)}", b'{"speed": 5}')
    raw.put(batch_key(RULE, START, 1), packed([*some(3), *some(3, at=middle, first=50)]))
    cut = [Span(START, middle), Span(middle, HOUR.end_ms)]
    first, second = (compact_hour(raw, lake, RULE, HOUR, span=span) for span in cut)
    assert (first.raw_versions, first.batches, second.raw_versions, second.batches) == (6, 1, 1, 0)
    assert len(rows(lake)) == 7
    assert compact(raw, lake).rows_added == 0


class Killed(BaseException):
    """A kill: nobody catches it."""


@pytest.mark.parametrize("at", range(6))
def test_killed_at_any_call_that_writes_the_next_run_adds_the_rest_once(raw, lake, at):
    raw.put(f"test-rule/rule1/{START + 5}-{uuid(900)}", b'{"speed": 5}')
    raw.put(batch_key(RULE, START, 1), packed(some(5)))
    put, calls = lake.store.put_new, []

    def dying(key, body):
        calls.append(key)
        if len(calls) == at + 1:
            raise Killed
        return put(key, body)

    lake.store.put_new = dying
    with contextlib.suppress(Killed):
        compact(raw, lake)
    assert len(calls) > 3 or at < 4
    lake.store.put_new = put
    done = compact(raw, lake)
    assert (done.rows, done.raw_versions, done.doubled, done.complete) == (6, 6, 0, True)
    raw.put(batch_key(RULE, START + 60_000, 2), packed(some(2)))
    assert (compact(raw, lake).doubled, len(rows(lake))) == (2, 6)


def test_a_rival_that_compacts_the_same_batches_in_between_doubles_nothing(raw, lake):
    raw.put(batch_key(RULE, START, 1), packed(some(5)))
    put, rivals = lake.store.put_new, []

    def rival_first(key, body):
        if key.endswith(".parquet") and not rivals:
            rivals.append(True)
            raw.put(batch_key(RULE, START + 60_000, 2), packed(some(2, first=50)))
            assert compact(raw, lake).rows == 7
        return put(key, body)

    lake.store.put_new = rival_first
    done = compact(raw, lake)
    assert rivals
    assert (done.rows, done.complete, len(rows(lake))) == (7, True, 7)
    assert compact(raw, lake).rows_added == 0
