"""A bucket that exists is looked at: the layout is guessed, what it would read and cost is said, and the rule it prints reads it."""

import gzip
import json
import tomllib
from datetime import UTC, datetime, timedelta

import pytest
from dict_store import DictStore

from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.adoption import NoKeys, as_toml, looked_at, says_a_time
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule
from fleet_pipeline.model.rule_table import RuleTable

FIRST = datetime(2026, 11, 23, 10, tzinfo=UTC)
ONE, LINES = b'{"n": 1}', b'{"n": 1}\n{"n": 2}\n'


def uuid(number):
    return f"00000000-0000-4000-8000-{number:012d}"


def some(store, key_of, body=ONE, *, hours=4, each=3):
    """Objects of some hours, each written when its key says."""
    for number in range(hours * each):
        at = FIRST + timedelta(hours=number // each, minutes=number % each)
        version = store.put(key := key_of(at, number), body)
        store.objects[key][0] = (version._replace(modified=f"{at:%Y-%m-%dT%H:%M:%S}.000Z"), body)


def millis(at):
    return int(at.timestamp() * 1000)


BUCKETS = {
    "Firehose": (
        "stream/",
        lambda at, n: f"stream/{at:%Y/%m/%d/%H}/one-1-{at:%Y-%m-%d-%H-%M-%S}-{uuid(n)}.gz",
        gzip.compress(LINES, mtime=0),
        ("firehose", "stream/{yyyy}/{MM}/{dd}/{HH}/{*}", True),
    ),
    "AWS IoT Analytics": (
        "channel/mine/",
        lambda at, n: (
            f"channel/mine/__dt={at:%Y-%m-%d} 00:00:00/{millis(at)}_{millis(at) + 9}_123456789012_mine_0_{n}.0.json.gz"
        ),
        gzip.compress(LINES, mtime=0),
        ("iot-analytics", "channel/mine/__dt={yyyy}-{MM}-{dd} 00:00:00/{millis}_{*}", True),
    ),
    "AWS IoT FleetWise": (
        "vehicles/",
        lambda at, n: (
            f"vehicles/processed-data/year={at:%Y}/month={at:%m}/date={at:%d}/hour={at:%H}/part-{n:04d}-x.json"
        ),
        LINES,
        ("fleetwise", "vehicles/processed-data/year={yyyy}/month={MM}/date={dd}/hour={HH}/{*}", True),
    ),
    "the CDK app": (
        "test-rule/rule1/",
        lambda at, n: f"test-rule/rule1/{millis(at) + n}",
        ONE,
        ("cdk", None, False),
    ),
    "devices, then days": (
        "",
        lambda at, n: f"raw/car-{n % 3}/{at:%Y/%m/%d}/{uuid(n)}.json",
        ONE,
        ("raw/{device}/{yyyy}/{MM}/{dd}/{uuid}.json",) * 2 + (False,),
    ),
    "devices, then milliseconds": (
        "raw/",
        lambda at, n: f"raw/car-{n % 3}/{millis(at)}.json",
        ONE,
        ("raw/{device}/{millis}.json",) * 2 + (False,),
    ),
    "hive's way": (
        "",
        lambda at, n: f"a/year={at:%Y}/month={at:%m}/day={at:%d}/hour={at:%H}/f-{n:03d}.json",
        LINES,
        ("a/year={yyyy}/month={MM}/day={dd}/hour={HH}/f-{*}.json",) * 2 + (True,),
    ),
    "a day in one text": (
        "",
        lambda at, n: f"in/dt={at:%Y-%m-%d}/{n:05d}.json",
        ONE,
        ("in/dt={yyyy}-{MM}-{dd}/{*}.json",) * 2 + (False,),
    ),
    "an instant in one text": (
        "",
        lambda at, n: f"in/{at:%Y%m%dT%H%M%S}-{n:05d}",
        ONE,
        ("in/{yyyy}{MM}{dd}T{HH}{mm}{ss}-{*}",) * 2 + (False,),
    ),
    "no time at all": ("", lambda _, n: f"dump/{n:05d}.json", ONE, ("dump/{*}.json",) * 2 + (False,)),
}


@pytest.mark.parametrize("what", BUCKETS)
def test_the_layout_of_a_bucket_is_guessed_and_the_rule_that_is_printed_reads_all_of_it(what):
    prefix, key_of, body, (name, layout, has_lines) = BUCKETS[what]
    store, lake = DictStore(), Lake(DictStore(), "lake")
    some(store, key_of, body)
    found = looked_at(store, "others", prefix, "old")
    assert (found.table.layout, found.table.has_lines) == (name, has_lines)
    assert found.table.key_layout is None if layout is None else found.table.key_layout.text == layout
    assert (found.fitting, found.keys, found.hours, found.others, found.whole) == (12, 12, 4, (), True)
    assert found.bytes == 12 * len(body)
    assert store.requests["PUT"] == store.requests["DELETE"] == 0
    [table] = tomllib.loads(as_toml(found.table))["rules"]
    rule = Rule("test-rule", "old", RuleTable(**table))
    assert rule.table == found.table
    rows = sum(compact_hour(store, lake, rule, Hour(FIRST + timedelta(hours=hour))).rows for hour in range(4))
    assert rows == 12 * (2 if has_lines else 1)


def test_devices_and_folders_and_requests_are_counted():
    store = DictStore()
    some(store, lambda at, n: f"raw/car-{n % 3}/{at:%Y/%m/%d}/{uuid(n)}.json", hours=4, each=6)
    found = looked_at(store, "others", "", "old")
    assert (found.devices, found.folders) == (3, 3)
    assert (found.get_requests, found.list_requests) == (24, 4 * (1 + 3))


def test_what_does_not_fit_is_named():
    store = DictStore()
    some(store, lambda at, n: f"{at:%Y/%m/%d/%H}/{uuid(n)}.json")
    store.put("2026/11/23/_SUCCESS", b"")
    store.put("readme.txt", b"hello")
    found = looked_at(store, "others", "", "old")
    assert (found.fitting, found.keys) == (12, 14)
    assert set(found.others) == {"2026/11/23/_SUCCESS", "readme.txt"}


@pytest.mark.parametrize(("zone", "off"), [(0, 0), (1, -1), (-5, 5), (400, 0)])
def test_hours_of_keys_that_are_no_utc_are_noticed_by_when_the_objects_were_written(zone, off):
    for form in ("{at:%Y/%m/%d/%H}/one-1-{at:%Y-%m-%d-%H-%M-%S}-{uuid}.gz", "x/{at:%Y%m%dT%H%M%S}-{uuid}"):
        store = DictStore()
        some(store, lambda at, n, form=form: form.format(at=at + timedelta(hours=zone), uuid=uuid(n)))
        assert looked_at(store, "others", "", "old").hours_off == off


def test_how_names_end_is_counted_so_that_foreign_ones_in_a_folder_are_seen():
    store = DictStore()
    some(store, lambda at, n: f"{at:%Y/%m/%d/%H}/{n}_1.0.json.gz")
    for name in ("manifest.json", "_SUCCESS", "x.json"):
        store.put(f"2026/11/23/10/{name}", b"{}")
    found = looked_at(store, "others", "", "old")
    assert (found.table.layout, found.foreign) == ("firehose", 0)
    assert found.endings == ((".json.gz", 12), (".json", 2), ("", 1))


FOREIGN = ("readme.txt", "x.csv", "a/manifest.json", "_SUCCESS")


@pytest.mark.parametrize("what", [what for what in BUCKETS if what != "no time at all"])
@pytest.mark.parametrize("place", ["top", "folder"])
def test_a_few_foreign_keys_change_no_guess_and_are_counted(what, place):
    prefix, key_of, body, (name, layout, has_lines) = BUCKETS[what]
    store = DictStore()
    some(store, key_of, body, each=50)
    folder = next(iter(store.objects)).rpartition("/")[0] + "/" if place == "folder" else prefix
    for each in FOREIGN:
        store.put(f"{folder}{each}", b"hello")
    found = looked_at(store, "others", prefix, "old")
    assert (found.table.layout, found.table.has_lines) == (name, has_lines)
    assert found.table.key_layout is None if layout is None else found.table.key_layout.text == layout
    by_folder = layout is not None and layout.endswith("/{*}") and place == "folder"
    assert found.foreign == len(found.others) == (1 if by_folder else 4)


@pytest.mark.parametrize("what", ["Firehose", "AWS IoT Analytics", "AWS IoT FleetWise", "the CDK app"])
def test_a_layout_with_a_name_is_found_from_the_root_of_the_bucket(what):
    _, key_of, body, (name, layout, _) = BUCKETS[what]
    store = DictStore()
    some(store, key_of, body)
    store.put("readme.txt", b"hello")
    found = looked_at(store, "others", "", "old")
    assert (found.table.layout, found.fitting, found.foreign) == (name, 12, 1)
    assert found.table.key_layout is None if layout is None else found.table.key_layout.text == layout


def test_a_folder_of_a_day_that_is_written_as_its_midnight_says_no_hour():
    store = DictStore()
    for kind in ("channel", "datastore"):
        some(
            store,
            lambda at, n, kind=kind: (
                f"{kind}/mine/__dt={at:%Y-%m-%d} 00:00:00/{millis(at)}_{millis(at) + 9}_1_mine_0_{n}.0.json.gz"
            ),
            gzip.compress(LINES, mtime=0),
        )
    found = looked_at(store, "others", "", "old")
    assert found.table.key_layout.text == "{*}/mine/__dt={yyyy}-{MM}-{dd} 00:00:00/{millis}_{*}"
    assert (found.table.has_lines, found.fitting, found.hours, found.first) == (True, 24, 4, Hour(FIRST))


@pytest.mark.parametrize(
    ("folder", "key_of", "layout"),
    [
        ("in/", lambda at, n: f"in/{millis(at) + n}", "cdk"),
        ("in/", lambda at, n: f"in/{at:%Y/%m/%d}/{millis(at) + n}.json", "in/{yyyy}/{MM}/{dd}/{millis}.json"),
        ("", lambda at, n: f"a/{at:%Y/%m/%d/%H}/{n}", "firehose"),
        ("ch/", lambda at, n: f"ch/__dt={at:%Y-%m-%d} 00:00:00/{millis(at)}_{n}.json", "iot-analytics"),
        ("", lambda at, n: f"ch/c{n % 2}/__dt={at:%Y-%m-%d} 00:00:00/{millis(at)}_{n}.json", "ch/{*}/__dt={yyyy}-{MM}"),
        ("raw/", lambda at, n: f"raw/car-{n % 3}/{at:%Y/%m/%d}/{millis(at) + n}.json", "raw/{device}/{yyyy}/{MM}/{dd}"),
    ],
)
def test_of_many_foreign_keys_none_chooses_the_layout_as_long_as_most_say_the_time(folder, key_of, layout):
    store = DictStore()
    some(store, key_of, each=10)
    beside = next(iter(store.objects)).rpartition("/")[0]
    for number in range(19):
        store.put(f"{beside}/note-{number}.txt" if number % 2 else f"{folder}note-{number}.txt", b"hello")
    found = looked_at(store, "others", folder, "old")
    assert found.table.layout.startswith(layout)
    assert found.hours == 4
    assert found.foreign == (10 if layout == "firehose" else 19)
    for number in range(50):
        store.put(f"{folder}more-{number}.txt", b"hello")
    assert not says_a_time(looked_at(store, "others", folder, "old").table)


def test_what_fits_more_keys_and_says_less_of_the_time_is_named_beside_the_guess():
    store = DictStore()
    some(store, lambda at, n: f"in/{millis(at) + n}", each=20)
    assert looked_at(store, "others", "in/", "old").wider.layout == "cdk"
    for number in range(20):
        store.put(f"in/note-{number}.txt", b"hello")
    found = looked_at(store, "others", "in/", "old")
    assert (found.table.layout, found.fitting) == ("cdk", 80)
    assert (found.wider.layout, found.wider_fitting) == ("in/{*}", 100)


@pytest.mark.parametrize(
    ("key", "layout", "devices"),
    [
        ("data/device=car-{car}/year={at:%Y}/month={at:%m}/day={at:%d}/x-{n}.json", "data/device={device}/year", 3),
        ("data/region=eu/vehicle_id=car-{car}/dt={at:%Y-%m-%d}/x-{n}.json", "data/region=eu/vehicle_id={device}/dt", 3),
        ("r{car}/region=r{car}/vin=car-{car}/{at:%Y/%m/%d}/x-{n}.json", "{*}/region={*}/vin={device}/{yyyy}", 3),
        ("data/region=r{car}/{at:%Y/%m/%d}/x-{n}.json", "data/region={*}/{yyyy}", 0),
        ("data/device=only/{at:%Y/%m/%d}/x-{n}.json", "data/device={device}/{yyyy}", 1),
    ],
)
def test_of_a_folder_that_names_what_it_holds_the_value_alone_is_the_device(key, layout, devices):
    store = DictStore()
    some(store, lambda at, n: key.format(at=at, n=n, car=n % 3))
    found = looked_at(store, "others", "", "old")
    assert found.table.layout.startswith(layout)
    assert (found.fitting, found.devices) == (12, devices)
    assert found.some_device == {3: "car-0", 1: "only", 0: ""}[devices]


@pytest.mark.parametrize(
    ("folder", "layout"),
    [
        (
            "data/year={at:%Y}/month={at:%m}/day={at:%d}/hour={at:%H}/",
            "data/year={yyyy}/month={MM}/day={dd}/hour={HH}/tele-one-{*}-{uuid}.gz",
        ),
        ("events/dt={at:%Y-%m-%d}/hh={at:%H}/", "events/dt={yyyy}-{MM}-{dd}/hh={HH}/tele-one-{*}-{uuid}.gz"),
        ("flat/", "flat/tele-one-{*}-{yyyy}-{MM}-{dd}-{HH}-{mm}-{ss}-{uuid}.gz"),
    ],
)
@pytest.mark.parametrize("versions", [("1",), ("9", "10")])
def test_what_a_stream_writes_after_its_configuration_changed_is_read_by_the_guess(folder, layout, versions):
    def key(at, number, version):
        return f"{folder.format(at=at)}tele-one-{version}-{at:%Y-%m-%d-%H-%M-%S}-{uuid(number)}.gz"

    store = DictStore()
    some(store, lambda at, n: key(at, n, versions[n % len(versions)]), gzip.compress(LINES, mtime=0))
    found = looked_at(store, "others", "", "old")
    assert (found.table.layout, found.fitting, found.foreign) == (layout, 12, 0)
    rule = Rule("test-rule", "old", found.table)
    later = FIRST + timedelta(minutes=50)
    some(store, lambda at, _: key(at + timedelta(minutes=50), 77, "11"), gzip.compress(LINES, mtime=0), hours=1, each=1)
    said = rule.raw_name(key(later, 77, "11"), f"{later:%Y-%m-%dT%H:%M:%S}.000Z")
    assert said is not None
    assert (Hour.of_millis(said.millis), said.uuid) == (Hour(FIRST), uuid(77))
    assert compact_hour(store, Lake(DictStore(), "lake"), rule, Hour(FIRST)).rows == (3 + 1) * len(LINES.splitlines())


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"PAR1....", "Parquet, which is not read"),
        (b"\x82\xa1a\x01", "no JSON"),
        (gzip.compress(b'{"a": 1}', mtime=0), "one JSON value, gzip"),
        (gzip.compress(b'{"a": 1}\n{"a": 2}', mtime=0), "lines of JSON, gzip"),
        (b"\x1f\x8bnot at all", "gzip that cannot be unpacked"),
        (b'{\n  "a": 1\n}', "one JSON value"),
        (b'{"a": "' + b"x" * 100_000, "one JSON value"),
        (b'{"a": 1}\n' * 50_000, "lines of JSON"),
    ],
)
def test_what_the_objects_are_is_said(body, kind):
    store = DictStore()
    some(store, lambda at, n: f"{at:%Y/%m/%d/%H}/{n}", body, hours=1)
    assert set(looked_at(store, "others", "", "old").kinds) == {kind}


def test_a_layout_that_is_said_is_tried_and_one_that_matches_nothing_is_refused():
    store = DictStore()
    some(store, lambda at, n: f"x/{at:%Y/%m/%d}/{n}")
    assert looked_at(store, "others", "", "old", layout="x/{*}/{*}/{*}/{*}").fitting == 12
    with pytest.raises(
        InvalidSetting, match="no key fits, of 12 below s3://others/x/ that were listed, such as 'x/2026"
    ):
        looked_at(store, "others", "x/", "old", layout="y/{*}")
    with pytest.raises(InvalidSetting, match="is no placeholder"):
        looked_at(store, "others", "x/", "old", layout="x/{day}")
    with pytest.raises(NoKeys):
        looked_at(store, "others", "none/", "old")


@pytest.mark.parametrize("what", ["Firehose", "AWS IoT Analytics", "AWS IoT FleetWise", "the CDK app"])
def test_a_layout_that_is_said_by_its_name_begins_below_the_prefix(what):
    prefix, key_of, body, (name, layout, _) = BUCKETS[what]
    store = DictStore()
    some(store, key_of, body)
    found = looked_at(store, "others", prefix, "old", layout=name)
    assert (found.table.layout, found.table.raw_prefix, found.fitting) == (name, prefix.rstrip("/"), 12)
    assert found.table.key_layout is None if layout is None else found.table.key_layout.text == layout
    of_whole_keys = f"{prefix}{'/'.join('{*}' for _ in next(iter(store.objects)).removeprefix(prefix).split('/'))}"
    said = looked_at(store, "others", prefix, "old", layout=of_whole_keys)
    assert (said.table.raw_prefix, said.fitting) == ("", 12)


def test_of_a_large_bucket_a_part_is_listed_and_folders_beyond_it():
    store = DictStore(page=2)
    some(store, lambda at, n: f"raw/car-{n // 100:03d}/{at:%Y/%m/%d}/{uuid(n)}.json", hours=10, each=300)
    found = looked_at(store, "others", "raw/", "old")
    assert not found.whole
    assert found.table.layout == "raw/{device}/{yyyy}/{MM}/{dd}/{uuid}.json"
    assert found.devices > 10
    assert store.requests["LIST"] < 130


def test_keys_with_braces_and_a_single_object_have_a_layout_or_a_sentence():
    store = DictStore()
    store.put("only/one.json", json.dumps({"n": 1}).encode())
    assert looked_at(store, "others", "", "old").table.layout == "only/{*}.json"
    braces = DictStore()
    braces.put("a/{x}.json", b"{}")
    with pytest.raises(InvalidSetting, match="no key fits, of 1 below"):
        looked_at(braces, "others", "", "old")
