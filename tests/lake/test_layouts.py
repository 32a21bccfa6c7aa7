"""Buckets that exist: their keys are built in a way of their own, and their messages are rows as any others."""

import gzip
import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.listing import pages
from fleet_pipeline.lake.operations.compact import forecast_hour
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.look import look
from fleet_pipeline.lake.operations.rewrite import rewrite_hour
from fleet_pipeline.lake.operations.verify import purge_hour, verify_hour
from fleet_pipeline.lake.reading import opened
from fleet_pipeline.model.errors import OnlyRead
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.key_layout import READY, KeyLayout
from fleet_pipeline.model.rule import Rule
from fleet_pipeline.model.rule_table import RuleTable

HOUR = Hour.parse("2026-11-23-10:00")
PATTERNS = [
    "raw/{device}/{yyyy}/{MM}/{dd}/{uuid}.json",
    "raw/{device}/{millis}.json",
    "{yyyy}/{MM}/{dd}/{uuid}.json",
    "{yyyy}/{MM}/{uuid}.json",
    "in-{yyyy}{MM}{dd}T{HH}{mm}{ss}-{*}",
    "{seconds}-{device}",
    "{device}-{millis}.json",
    "some/place/{*}",
    "{*}/{yyyy}/{device}/{MM}/{dd}/{*}.json",
    *READY.values(),
]


def rule(layout, **said):
    return Rule("test-rule", "old", RuleTable(key="old", bucket="others", layout=layout, **said))


def put(store, key, body, at):
    """Put an object that S3 took at an instant."""
    version = store.put(key, body)
    store.objects[key][0] = (version._replace(modified=at.isoformat(timespec="milliseconds") + "Z"), body)
    return store.objects[key][0][0]


def at(**later):
    return (HOUR.start + timedelta(**later)).replace(tzinfo=None)


def key_of(layout, instant, number):
    """Return a key of a layout that no other number has."""
    made = KeyLayout(layout).example(instant.replace(tzinfo=UTC))
    for name in ("device-1", "00000000-0000-4000-8000-000000000001", "x"):
        made = made.replace(name, f"{name[:-4]}{number:04d}" if len(name) > 4 else f"x{number:04d}")
    return made


def some(store, layout, instants):
    for number, instant in enumerate(instants):
        put(store, key_of(layout, instant, number), json.dumps({"n": number}).encode(), instant)


def rows(lake, of, hour=HOUR):
    files = [opened(lake.store, part) for part in lake.parts(of, hour)]
    return [row for file in files for row in file.read().to_pylist()]


SPREAD = [at(minutes=-61), at(minutes=-1), at(), at(minutes=1), at(minutes=59, seconds=59), at(hours=1), at(days=1)]


@pytest.mark.parametrize("layout", PATTERNS)
def test_every_message_of_a_layout_is_one_row_of_one_hour(raw, lake, layout):
    old = rule(layout)
    some(raw, layout, SPREAD)
    found = {}
    for hour in sorted({Hour.of(each.replace(tzinfo=UTC)) for each in SPREAD}):
        done = compact_hour(raw, lake, old, hour)
        assert done.complete
        assert done.foreign_keys == 0
        assert verify_hour(raw, lake, old, hour).passed
        assert (seen := look(raw, lake, old, hour)).uncompacted == 0
        assert seen.versions == done.raw_versions
        for row in rows(lake, old, hour):
            assert row["n"] not in found
            found[row["n"]] = (row["_payload"], row["_key"], hour)
    assert {n: payload for n, (payload, _, _) in found.items()} == {
        n: json.dumps({"n": n}).encode() for n in range(len(SPREAD))
    }
    assert {n: hour for n, (_, _, hour) in found.items()} == {
        n: Hour.of(each.replace(tzinfo=UTC)) for n, each in enumerate(SPREAD)
    }
    assert all(key in raw.objects for _, key, _ in found.values())
    assert [row["_key"] for row in rows(lake, old)] == sorted(row["_key"] for row in rows(lake, old))


def test_the_device_of_a_key_is_the_client_of_its_message(raw, lake):
    old = rule("raw/{device}/{millis}.json")
    put(raw, f"raw/car 7/{HOUR.start_ms + 5}.json", b'{"n": 1}', at(days=30))
    compact_hour(raw, lake, old, HOUR)
    [row] = rows(lake, old)
    assert (row["_client_id"], row["_topic"]) == ("car 7", None)
    assert row["_ts"] == datetime.fromtimestamp(HOUR.start_ms / 1000 + 0.005, UTC)


def test_an_object_that_was_copied_later_is_of_the_end_of_the_day_that_its_key_names(raw, lake):
    old = rule("{yyyy}/{MM}/{dd}/{*}")
    put(raw, "2026/11/23/a", b"{}", at(days=40))
    put(raw, "2026/11/23/b", b"{}", at(days=-40))
    last, first = Hour.parse("2026-11-23-23:00"), Hour.parse("2026-11-23-00:00")
    assert compact_hour(raw, lake, old, HOUR).rows == 0
    assert compact_hour(raw, lake, old, last).rows == compact_hour(raw, lake, old, first).rows == 1
    assert rows(lake, old, last)[0]["_ts"] == datetime(2026, 11, 23, 23, 59, 59, 999000, UTC)
    assert rows(lake, old, first)[0]["_ts"] == first.start


def test_what_comes_late_and_what_is_overwritten_are_rows_too(raw, lake):
    old = rule("raw/{device}/{yyyy}/{MM}/{dd}/{*}.json")
    put(raw, "raw/b/2026/11/23/x.json", b'{"n": 1}', at(minutes=5))
    assert compact_hour(raw, lake, old, HOUR).rows == 1
    put(raw, "raw/b/2026/11/23/x.json", b'{"n": 2}', at(minutes=6))
    put(raw, "raw/a/2026/11/23/x.json", b'{"n": 3}', at(minutes=1))
    assert look(raw, lake, old, HOUR).uncompacted == 2
    done = compact_hour(raw, lake, old, HOUR)
    assert (done.rows_added, done.rows, done.recovered_collisions) == (2, 3, 1)
    again = compact_hour(raw, lake, old, HOUR)
    assert (again.rows_added, again.put_requests) == (0, 0)


def test_a_key_of_another_form_is_foreign_in_one_hour_and_never_read(raw, lake):
    old = rule("{yyyy}/{MM}/{dd}/{uuid}.json")
    put(raw, "2026/11/23/readme.txt", b"no message", at(minutes=5))
    put(raw, "2026/11/23/elsewhere.txt", b"no message", at(hours=3))
    done = compact_hour(raw, lake, old, HOUR)
    assert (done.foreign_keys, done.foreign_examples, done.get_requests) == (1, ("2026/11/23/readme.txt",), 0)
    other = compact_hour(raw, lake, old, Hour.parse("2026-11-23-13:00"))
    assert other.foreign_examples == ("2026/11/23/elsewhere.txt",)


def test_an_instant_of_another_day_than_that_of_its_folder_is_moved_into_the_day(raw, lake):
    old = rule("iot-analytics")
    for millis in (HOUR.start_ms - 86_400_000, HOUR.start_ms + 86_400_000):
        put(raw, f"__dt=2026-11-23 00:00:00/{millis}_1_x.json.gz", b"{}", at())
    days = [Hour.parse(f"2026-11-{day}-{hour:02d}:00") for day in (22, 23, 24) for hour in range(24)]
    assert [hour for hour in days if compact_hour(raw, lake, old, hour).rows] == [
        Hour.parse("2026-11-23-00:00"),
        Hour.parse("2026-11-23-23:00"),
    ]


@pytest.mark.parametrize(
    ("layout", "lists"),
    [("{yyyy}/{MM}/{dd}/{HH}/{*}", 1), ("{millis}-{*}", 1), ("{yyyy}/{MM}/{dd}/{*}", 24), ("some/{*}", 48)],
)
def test_a_listing_costs_the_time_that_keys_say_and_not_the_history(raw, lake, layout, lists):
    old, raw._page = rule(layout), 100
    for hour in range(-24, 24):
        for second in range(100):
            instant = at(hours=hour, seconds=second)
            put(raw, key_of(layout, instant, 100 * (hour + 24) + second), b"{}", instant)
    asked = raw.requests["LIST"]
    list(pages(raw, old, HOUR))
    assert raw.requests["LIST"] - asked <= lists * 1.2 + 1


def test_devices_before_the_time_cost_a_request_each_and_not_their_history(raw):
    old = rule("raw/{device}/{yyyy}/{MM}/{dd}/{HH}/{*}")
    for device in range(20):
        for hour in range(-50, 50):
            instant = at(hours=hour)
            put(raw, f"raw/car-{device:02d}/{instant:%Y/%m/%d/%H}/x", b"{}", instant)
    asked = raw.requests["LIST"]
    found = [version.key for page in pages(raw, old, HOUR) for version in page]
    assert found == [f"raw/car-{device:02d}/2026/11/23/10/x" for device in range(20)]
    assert raw.requests["LIST"] - asked == 21


def test_each_line_of_an_object_is_a_row_with_its_own_bytes(raw, lake):
    old = rule("firehose", raw_prefix="stream")
    lines = [b'{"n": 1,  "n2": 48.10}', b"", b"  ", b'{"n": 2}{"n": 3}', b"no json", b'{"n": 4}']
    put(raw, "stream/2026/11/23/10/a.gz", gzip.compress(b"\n".join(lines)), at(minutes=3))
    put(raw, "stream/2026/11/23/10/b", b'{"n": 5}\n', at(minutes=4))
    done = compact_hour(raw, lake, old, HOUR)
    assert (done.raw_versions, done.rows, done.batches, done.complete) == (6, 6, 2, True)
    assert done.statuses == {"malformed": 1, "ok": 4, "partial": 1}
    found = rows(lake, old)
    assert {row["_payload"] for row in found} == {
        b'{"n": 1,  "n2": 48.10}', b'{"n": 2}', b'{"n": 3}', b"no json", b'{"n": 4}', b'{"n": 5}',
    }  # fmt: skip
    assert [row["_topic"] for row in found] == [None] * 6
    assert verify_hour(raw, lake, old, HOUR).passed
    gets = raw.requests["GET"]
    assert compact_hour(raw, lake, old, HOUR).rows_added == 0
    assert raw.requests["GET"] == gets
    assert look(raw, lake, old, HOUR).uncompacted == 0


def test_equal_lines_are_rows_each(raw, lake):
    old = rule("firehose")
    body = b'{"n": 1}\n' * 3000
    put(raw, "2026/11/23/10/a", body, at(minutes=3))
    put(raw, "2026/11/23/10/b", body, at(minutes=3))
    put(raw, "2026/11/23/10/a", body, at(minutes=3))  # another version
    done = compact_hour(raw, lake, old, HOUR)
    assert (done.rows, done.doubled, done.complete) == (9000, 0, True)
    assert verify_hour(raw, lake, old, HOUR).passed


def test_an_object_of_wrong_gzip_is_read_as_far_as_it_goes_and_says_so(raw, lake):
    old = rule("firehose")
    whole = gzip.compress(b"".join(b'{"n": %d}\n' % n for n in range(100_000)))
    put(raw, "2026/11/23/10/half.gz", whole[: len(whole) // 2], at(minutes=3))
    done = compact_hour(raw, lake, old, HOUR)
    assert done.statuses["no_record"] == 1
    assert 10_000 < done.statuses["ok"] < 100_000
    assert "2026/11/23/10/half.gz: it ends in the middle of a gzip" in done.damaged[0]
    assert verify_hour(raw, lake, old, HOUR).passed


@pytest.mark.parametrize("lines", [3, 100_000])
@pytest.mark.parametrize("ending", [b"\n", b""])
@pytest.mark.parametrize("wrong", ["checksum", "length", "what follows"])
def test_of_a_gzip_that_is_wrong_at_its_end_every_message_is_a_row_whatever_its_size(raw, lake, lines, ending, wrong):
    old, body = rule("firehose"), bytearray(gzip.compress(b"\n".join([b'{"n": 1}'] * lines) + ending, 1))
    if wrong == "what follows":
        body += b"no gzip"
    else:
        body[-8 if wrong == "checksum" else -1] ^= 1
    put(raw, "2026/11/23/10/a.gz", bytes(body), at(minutes=3))
    done = compact_hour(raw, lake, old, HOUR)
    assert done.statuses == {"ok": lines, "no_record": 1}
    assert "it cannot be unpacked" in done.damaged[0]
    assert verify_hour(raw, lake, old, HOUR).passed


def test_of_a_gzip_with_a_wrong_byte_every_line_before_it_is_a_row(raw, lake):
    old, lines = rule("firehose"), [b'{"n": %d}' % (n * 7919) for n in range(20_000)]
    body = bytearray(gzip.compress(b"\n".join(lines)))
    place = len(body) // 2
    body[place : place + 50] = b"\xff" * 50
    put(raw, "2026/11/23/10/a.gz", bytes(body), at(minutes=3))
    done = compact_hour(raw, lake, old, HOUR)
    found = [row["_payload"] for row in sorted(rows(lake, old), key=lambda row: row["_key"]) if row["_payload"]]
    assert found[:8000] == lines[:8000]  # what the altered byte makes of those behind it nobody can tell
    assert done.statuses["no_record"] == 1


def test_json_over_several_lines_is_a_message_and_the_lines_around_it_too(raw, lake):
    old = rule("firehose")
    indented = [json.dumps({"n": n, "tags": {"a": [1, 2]}}, indent=2).encode() for n in range(4)]
    halves = [b'{"n": 7,', b'{"n": 8}', indented[0].replace(b"}", b"", 1)]
    body = b"\n".join([b'{"n": 9}', *indented[:2], *halves, b"".join(indented[2:]), b'{\n  "n"'])
    put(raw, "2026/11/23/10/a.gz", gzip.compress(body), at(minutes=3))
    done = compact_hour(raw, lake, old, HOUR)
    payloads = [row["_payload"] for row in sorted(rows(lake, old), key=lambda row: row["_key"])]
    assert all(payloads.count(each) == 1 for each in (b'{"n": 9}', b'{"n": 8}', b'{"n": 7,', *indented))
    assert b"".join(b"".join(payloads).split()) == b"".join(body.split())
    assert done.statuses["ok"] == 6
    assert verify_hour(raw, lake, old, HOUR).passed


def test_a_line_beyond_what_a_message_may_have_is_a_row_without_its_bytes(raw, lake):
    old = rule("firehose")
    put(raw, "2026/11/23/10/a", b'{"a": "' + b"x" * 2_000_000 + b'"}\n{"n": 1}\n', at(minutes=3))
    done = compact_hour(raw, lake, old, HOUR)
    assert done.statuses == {"no_record": 1, "ok": 1}
    assert verify_hour(raw, lake, old, HOUR).passed


def test_lines_are_kept_when_an_hour_is_written_anew_and_when_more_come(raw, lake):
    old = rule("firehose")
    put(raw, "2026/11/23/10/a", b'{"n": 1}\n{"n": 2}', at(minutes=3))
    compact_hour(raw, lake, old, HOUR)
    new = lake.next_generation
    new.begin()
    assert rewrite_hour(lake, new, old, HOUR).complete
    put(raw, "2026/11/23/10/b", b'{"n": 3}', at(minutes=50))
    assert forecast_hour(raw, lake, old, HOUR).batches == 1
    compact_hour(raw, lake, old, HOUR)
    for each in (lake, new):
        assert sorted(row["n"] for row in rows(each, old)) == [1, 2, 3]


def test_a_bucket_that_is_only_read_is_never_purged(raw, lake):
    old = rule("firehose")
    put(raw, "2026/11/23/10/a", b'{"n": 1}', at(minutes=3))
    compact_hour(raw, lake, old, HOUR)
    with pytest.raises(OnlyRead, match="bucket others of rule old is only read"):
        purge_hour(raw, lake, old, HOUR, now=HOUR.end)
    assert len(raw.objects) == 1


def test_arrays_and_several_objects_in_a_message_are_rows_as_elsewhere(raw, lake):
    old = rule("{yyyy}/{MM}/{dd}/{HH}/{*}.json", arrays="elements", several_objects="on")
    put(raw, "2026/11/23/10/array.json", b'[{"n": 1}, {"n": 2}]', at(minutes=3))
    put(raw, "2026/11/23/10/lines.json", b'{"n": 3}\n{"n": 4}', at(minutes=3))
    done = compact_hour(raw, Lake(lake.store, "lake", form=lake.form), old, HOUR)
    assert (done.raw_versions, done.rows) == (2, 4)
    assert verify_hour(raw, lake, old, HOUR).passed


def test_the_keys_of_the_cdk_app_in_a_bucket_that_exists_are_read_as_its_own(raw, lake):
    old = rule("cdk", raw_prefix="test-rule/rule1")
    put(raw, f"test-rule/rule1/{HOUR.start_ms + 1}", b'{"n": 1}', at())
    put(raw, f"test-rule/rule1/{HOUR.start_ms + 1}", b'{"n": 2}', at())
    assert compact_hour(raw, lake, old, HOUR).rows == 2
    assert pa.table({"n": [row["n"] for row in rows(lake, old)]})["n"].to_pylist() in ([1, 2], [2, 1])
