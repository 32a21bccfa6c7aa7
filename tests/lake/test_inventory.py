"""Hours that are read from an S3 Inventory: the same rows as by a listing, and never an hour that is empty because nobody
could know.

Inventories are made here as Amazon S3's User Guide describes them (storage-inventory, storage-inventory-location).
"""

import gzip
import hashlib
import io
import json
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from urllib.parse import quote_plus

import pyarrow as pa
import pytest
from dict_store import DictStore
from pyarrow import orc, parquet

from fleet_pipeline.lake import inventory
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.listing import pages
from fleet_pipeline.lake.operations.compact import forecast_hour
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.look import look
from fleet_pipeline.lake.operations.verify import verify_hour
from fleet_pipeline.model.errors import AwsUnavailable, FolderRefused, InvalidSetting, InventoryBroken, InventoryNotYet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule
from fleet_pipeline.model.rule_table import RuleTable

HOUR = Hour.parse("2026-11-23-10:00")
NEXT_DAY = datetime(2026, 11, 24, 1, tzinfo=UTC)
LISTS, PLACE = "lists", "daily/others/all/"
FIELDS = [
    "Bucket",
    "Key",
    "VersionId",
    "IsLatest",
    "IsDeleteMarker",
    "Size",
    "LastModifiedDate",
    "ETag",
    "StorageClass",
]
NAMES = [
    "bucket",
    "key",
    "version_id",
    "is_latest",
    "is_delete_marker",
    "size",
    "last_modified_date",
    "e_tag",
    "storage_class",
]
KINDS = ["CSV", "Parquet", "ORC"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def rule(layout="raw/{device}/{yyyy}/{MM}/{dd}/{*}.json", **said):
    table = {"key": "old", "bucket": "others", "layout": layout, "inventory": f"s3://{LISTS}/{PLACE}"}
    return Rule("test-rule", "old", RuleTable(**(table | said)))


def put(store, key, body, at):
    store.put(key, body)
    version, *_ = store.objects[key][0]
    store.objects[key][0] = (version._replace(modified=f"{at:%Y-%m-%dT%H:%M:%S}.000Z"), body)


def listed(store, prefix=""):
    """Everything of a bucket, as an inventory of all versions has it; a deletion first."""
    rows = [("others", "raw/gone", "m1", True, True, None, HOUR.start, None, None)]
    for page in store.versions(prefix):
        for each in page:
            at = datetime.fromisoformat(each.modified)
            number = "" if each.id == "null" else each.id
            rows.append(
                ("others", each.key, number, each.latest, False, each.size, at, each.etag.strip('"'), "STANDARD")
            )
    return rows


def file_of(form, rows):
    if form == "CSV":
        lines = [",".join(f'"{_text(name, value)}"' for name, value in zip(FIELDS, row, strict=True)) for row in rows]
        return gzip.compress("".join(f"{line}\n" for line in lines).encode())
    kinds = [pa.string()] * 3 + [pa.bool_()] * 2 + [pa.int64(), pa.timestamp("ms", "UTC"), pa.string(), pa.string()]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[]] * len(NAMES)
    if form == "ORC":
        kinds[6], columns[6] = pa.timestamp("ns"), [at and at.replace(tzinfo=None) for at in columns[6]]
    table = pa.table([pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)], names=NAMES)
    out = io.BytesIO()
    if form == "ORC":
        orc.write_table(table, out, compression="ZLIB")
    else:
        parquet.write_table(table, out, compression="SNAPPY")
    return out.getvalue()


def _text(name, value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%S}.000Z"
    return quote_plus(value, safe="/") if name == "Key" else str(value)


def deliver(store, form, rows, began=NEXT_DAY, pieces=2, **said):
    """Put an inventory beside a bucket."""
    there, entries = store.beside(LISTS), []
    end = {"CSV": "csv.gz", "Parquet": "parquet", "ORC": "orc"}[form]
    for number in range(pieces):
        body = file_of(form, rows[number::pieces])
        key = f"{PLACE}data/{began:%d%H}-{number}.{end}"
        there.put(key, body)
        entries.append({"key": key, "size": len(body), "MD5checksum": hashlib.md5(body).hexdigest()})
    schema = ", ".join(FIELDS) if form == "CSV" else "message s3.inventory { … }"
    manifest = {
        "sourceBucket": "others",
        "destinationBucket": f"arn:aws:s3:::{LISTS}",
        "version": "2016-11-30",
        "creationTimestamp": str(int(began.timestamp() * 1000)),
        "fileFormat": form,
        "fileSchema": schema,
        "files": entries,
    } | said
    return publish(store, json.dumps(manifest).encode(), began)


def publish(store, manifest, began=NEXT_DAY):
    there, folder = store.beside(LISTS), f"{PLACE}{began:%Y-%m-%dT%H-%MZ}/"
    there.put(f"{folder}manifest.json", manifest)
    there.put(f"{folder}manifest.checksum", f"{hashlib.md5(manifest).hexdigest()}\n".encode())
    there.put(f"{PLACE}hive/dt={began:%Y-%m-%d-%H-%M}/symlink.txt", b"s3://lists/x\n")
    return there


def fill(store, hours=30, devices=3):
    """Some messages an hour and device, some overwritten, some of keys that are odd."""
    for hour in range(-4, hours):
        for device in range(devices):
            at = HOUR.start + timedelta(hours=hour, minutes=device)
            put(store, f"raw/car {device}+ä/{at:%Y/%m/%d}/{hour:03d}.json", b'{"n": %d}' % hour, at)
            if device == 1:
                put(store, f"raw/car {device}+ä/{at:%Y/%m/%d}/{hour:03d}.json", b'{"n": 0}', at + timedelta(minutes=5))
    put(store, f"raw/strange/{HOUR.start:%Y/%m/%d}/readme.txt", b"no message", HOUR.start)
    put(store, "elsewhere/x", b"no message", HOUR.start)


def both(store, of, hour):
    """What is listed of an hour, by the inventory and by the bucket."""
    one = [version for page in pages(store, of, hour) for version in page]
    other = [version for page in pages(store, of.by_listing, hour) for version in page]
    return one, [each for each in other if each in one]


@pytest.mark.parametrize("form", KINDS)
@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("layout", ["raw/{device}/{yyyy}/{MM}/{dd}/{*}.json", "raw/{*}/{*}/{*}/{*}/{*}.json"])
def test_an_hour_of_an_inventory_is_the_hour_of_a_listing(form, versioned, layout):
    store, of = DictStore(versioned=versioned), rule(layout)
    fill(store)
    deliver(store, form, listed(store))
    for hour in (HOUR, Hour.parse("2026-11-23-06:00"), Hour.parse("2026-11-23-22:00")):
        one, other = both(store, of, hour)
        assert one == other
        lakes = [Lake(DictStore(), "lake") for _ in range(2)]
        done = [compact_hour(store, lake, each, hour) for lake, each in zip(lakes, (of, of.by_listing), strict=True)]
        assert done[0].rows == done[1].rows == (4 if versioned else 3)
        assert done[0].complete
        assert (done[0].foreign_keys, done[0].foreign_examples) == (done[1].foreign_keys, done[1].foreign_examples)
        assert (
            look(store, lakes[0], of, hour).uncompacted == look(store, lakes[0], of.by_listing, hour).uncompacted == 0
        )
        assert compact_hour(store, lakes[0], of.by_listing, hour).rows_added == 0
        assert verify_hour(store, lakes[0], of, hour).passed


def test_lines_are_read_from_an_inventory_too():
    store, of = DictStore(), rule("in/{*}", objects="lines")
    put(store, "in/a", b'{"n": 1}\n{"n": 2}', HOUR.start)
    put(store, "in/b", b'{"n": 3}', HOUR.end)
    deliver(store, "Parquet", listed(store))
    assert compact_hour(store, Lake(DictStore(), "lake"), of, HOUR).rows == 2


def test_runs_are_merged_in_the_order_of_keys(monkeypatch):
    monkeypatch.setattr(inventory, "RUN_ROWS", 7)
    store, of = DictStore(), rule()
    for number in range(300):
        at = HOUR.start + timedelta(seconds=number)
        put(store, f"raw/car-{number % 7}/2026/11/23/{number % 150:04d}.json", b"{}", at)
    deliver(store, "Parquet", listed(store), pieces=5)
    one, other = both(store, of, HOUR)
    assert one == other
    assert len(one) == 300


@pytest.mark.parametrize(("began", "is_there"), [(HOUR.end, False), (HOUR.end + timedelta(hours=1), True)])
def test_an_hour_is_read_from_an_inventory_alone_that_began_an_hour_after_its_end(began, is_there):
    store, of = DictStore(), rule()
    fill(store)
    deliver(store, "CSV", listed(store), began)
    assert inventory.told(store, of).until == began - timedelta(hours=1)
    if is_there:
        assert sum(map(len, pages(store, of, HOUR))) > 0
        with pytest.raises(InventoryNotYet):
            list(pages(store, of, HOUR.next))
    else:
        with pytest.raises(InventoryNotYet, match=r"began at 2026-11-23T12:00Z or later, and the newest began at 2026"):
            list(pages(store, of, HOUR))


def test_where_no_inventory_was_delivered_no_hour_is_empty():
    store, of = DictStore(), rule()
    fill(store)
    for work in (compact_hour, look, forecast_hour):
        with pytest.raises(InventoryNotYet, match="there is none yet"):
            work(store, Lake(DictStore(), "lake"), of, HOUR)
    assert inventory.told(store, of) is None


def test_one_that_is_being_delivered_is_passed_over_until_its_checksum_is_there():
    store, of = DictStore(), rule()
    fill(store)
    deliver(store, "CSV", listed(store))
    later = NEXT_DAY + timedelta(days=1)
    there = deliver(store, "CSV", [], later)
    del there.objects[f"{PLACE}{later:%Y-%m-%dT%H-%MZ}/manifest.checksum"]
    assert sum(map(len, pages(store, of, HOUR))) > 0


def test_what_a_later_inventory_names_is_late_data():
    store, lake, of = DictStore(), Lake(DictStore(), "lake"), rule()
    fill(store)
    deliver(store, "Parquet", listed(store))
    rows = compact_hour(store, lake, of, HOUR).rows
    put(store, "raw/late/2026/11/23/x.json", b'{"n": 1}', HOUR.start)
    assert compact_hour(store, lake, of, HOUR).rows_added == 0
    assert verify_hour(store, lake, of, HOUR).missing == 1  # which lists the bucket
    deliver(store, "Parquet", listed(store), NEXT_DAY + timedelta(days=1))
    assert look(store, lake, of, HOUR).uncompacted == 1
    done = compact_hour(store, lake, of, HOUR)
    assert (done.rows_added, done.rows) == (1, rows + 1)


@pytest.mark.parametrize("what", ["gone", "overwritten"])
def test_what_is_gone_or_overwritten_since_the_inventory_costs_a_listing_and_no_hour(what):
    class Changed(DictStore):
        def bodies(self, versions):
            wanted = [version for version in versions if version]
            if any(version != held for version in wanted for held in self.held(version.key)):
                raise AwsUnavailable("read", "NoSuchKey" if what == "gone" else "PreconditionFailed", "it is not there")
            yield from super().bodies(wanted)

        def held(self, key):
            return [self.objects[key][0][0]] if key in self.objects else [None]

    store, lake, of = Changed(versioned=False), Lake(DictStore(), "lake"), rule()
    fill(store)
    rows = listed(store)
    deliver(store, "Parquet", rows)
    key = next(key for key in store.objects if key.endswith("000.json"))
    if what == "gone":
        del store.objects[key]
    else:
        put(store, key, b'{"other": 1}', HOUR.start)
    with pytest.raises(AwsUnavailable):
        list(store.bodies(version for page in pages(store, of, HOUR) for version in page))
    done = compact_hour(store, lake, of, HOUR)
    assert done.complete
    assert done.rows == (2 if what == "gone" else 3)


def change(**said):
    return lambda manifest: json.dumps(json.loads(manifest) | said).encode()


BROKEN = {
    "no JSON": (lambda _: b"{", "it is not a manifest as AWS describes it"),
    "a list": (lambda _: b"[]", "it is not a manifest as AWS describes it"),
    "without files": (change(files=None), "it is not a manifest as AWS describes it"),
    "of another version": (change(version="2030-01-01"), "of version 2030-01-01, and 2016-11-30 is known"),
    "of another bucket": (change(sourceBucket="mine"), "of the bucket mine, and the rule reads others"),
    "elsewhere": (change(destinationBucket="arn:aws:s3:::mine"), "its files lie in the bucket mine"),
    "of another format": (change(fileFormat="Avro"), "its files are Avro: configure CSV, ORC or Parquet"),
    "without instant": (change(creationTimestamp="soon"), "it is not a manifest as AWS describes it"),
    "of current versions": (
        change(fileSchema="Bucket, Key, Size, LastModifiedDate, ETag"),
        "it names the current versions alone, and each version is a message: include all versions",
    ),
    "without fields": (
        change(fileSchema="Bucket, Key, VersionId, IsLatest, IsDeleteMarker"),
        "it lacks Size, LastModifiedDate, ETag: add these fields to its configuration",
    ),
    "of no files": (change(files=[]), "it names no object that begins with 'raw/'"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_manifest_that_is_not_as_it_should_be_ends_the_hour_with_a_sentence(what):
    changed, why = BROKEN[what]
    store, of = DictStore(), rule()
    fill(store)
    there = deliver(store, "CSV", listed(store))
    publish(store, changed(there.objects[f"{PLACE}2026-11-24T01-00Z/manifest.json"][0][1]))
    with pytest.raises(InventoryBroken) as error:
        compact_hour(store, lake := Lake(DictStore(), "lake"), of, HOUR)
    assert why in str(error.value)
    assert not lake.parts(of, HOUR)


def test_a_manifest_of_another_checksum_is_not_read():
    store, of = DictStore(), rule()
    fill(store)
    there = deliver(store, "CSV", listed(store))
    there.put(f"{PLACE}2026-11-24T01-00Z/manifest.checksum", b"0" * 32)
    with pytest.raises(InventoryBroken, match=r"its MD5 is not what manifest\.checksum says"):
        list(pages(store, of, HOUR))


@pytest.mark.parametrize("form", KINDS)
@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda body: body[:-1], "bytes, and the manifest says"),
        (lambda body: body[:-1] + b"!", "its MD5 is not what the manifest says"),
        (None, "the manifest names it, and it is not there"),
    ],
)
def test_a_file_that_is_missing_or_not_whole_ends_the_hour_with_a_sentence(form, damage, why):
    store, of = DictStore(), rule()
    fill(store)
    there = deliver(store, form, listed(store))
    key = max(each for each in there.objects if "/data/" in each)
    body = there.objects[key][0][1]
    del there.objects[key]
    if damage:
        there.put(key, damage(body))
    for _ in range(2):  # nothing half made is taken for an index
        with pytest.raises(InventoryBroken, match=why):
            list(pages(store, of, HOUR))
    there.put(key, body)
    assert sum(map(len, pages(store, of, HOUR))) > 0


@pytest.mark.parametrize("form", KINDS)
@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        (0, "mine", "it names objects of another bucket than others"),
        (5, None, "it names an object without its size"),
        (6, None, "it names an object without its lastmodifieddate"),
    ],
)
def test_a_file_of_another_bucket_or_without_what_is_needed_is_not_read(form, column, value, why):
    store, of = DictStore(), rule()
    fill(store)
    rows = listed(store)
    rows[9] = (*rows[9][:column], value, *rows[9][column + 1 :])
    deliver(store, form, rows)
    with pytest.raises(InventoryBroken, match=why):
        list(pages(store, of, HOUR))


@pytest.mark.parametrize("form", ["ORC", "Parquet"])  # CSV has no null
def test_a_file_that_names_an_object_without_its_key_is_not_read(form):
    store, of = DictStore(), rule()
    fill(store)
    rows = listed(store)
    rows[9] = (rows[9][0], None, *rows[9][2:])
    deliver(store, form, rows)
    with pytest.raises(InventoryBroken, match="it names an object without its key"):
        list(pages(store, of, HOUR))


@pytest.mark.parametrize("form", KINDS)
def test_a_file_that_is_whole_and_no_such_file_is_not_read(form):
    store, of = DictStore(), rule()
    body, key = b"no such file", f"{PLACE}data/x"
    store.beside(LISTS).put(key, body)
    entry = {"key": key, "size": len(body), "MD5checksum": hashlib.md5(body).hexdigest()}
    deliver(store, form, [], pieces=0, files=[entry])
    with pytest.raises(InventoryBroken, match=f"it cannot be read as {form.upper()}"):
        list(pages(store, of, HOUR))


def test_an_inventory_is_read_once_and_each_hour_costs_four_requests():
    store, of = DictStore(), rule()
    fill(store)
    deliver(store, "Parquet", listed(store))
    list(pages(store, of, HOUR))
    before = Counter(store.requests)
    list(pages(store, of, Hour.parse("2026-11-23-12:00")))
    assert store.requests - before == {"LIST": 2, "GET": 2}


def test_an_index_is_this_users_alone_and_the_former_one_goes(tmp_path):
    store, of = DictStore(), rule()
    fill(store)
    for days in range(3):
        deliver(store, "CSV", listed(store), NEXT_DAY + timedelta(days=days))
        list(pages(store, of, HOUR))
    [folder] = tmp_path.glob("fleet-inventories-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(list(folder.glob("*.arrow"))) == 1
    folder.chmod(0o755)
    with pytest.raises(FolderRefused, match="it is not this user's alone"):
        list(pages(store, of, HOUR))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"inventory": "lists/daily"}, "write it as s3://bucket/prefix/source-bucket/config-id/"),
        ({"inventory": "s3://lists/daily/mine/all"}, "it is of the bucket mine, and the rule reads others"),
        ({"layout": "{yyyy}/{MM}/{dd}/{HH}/{*}"}, "an hour is found by its own keys, at once"),
        ({"layout": "cdk", "raw_prefix": "a/b"}, "an hour is found by its own keys, at once"),
        ({"bucket": ""}, "no `bucket` is named"),
        (
            {"layout": "{*}/{*}/{*}/{*}/{*}.gz", "inventory": "s3://others/daily/others/all"},
            "its files would be messages of the rule, by its layout",
        ),
        (
            {"layout": "{*}/{*}/{*}/{*}/{*}", "inventory": "s3://others/daily/others/all"},
            "its files would be messages of the rule, by its layout",
        ),
    ],
)
def test_an_inventory_that_a_rule_cannot_have_is_refused(said, why):
    with pytest.raises(InvalidSetting, match=why):
        rule(**({"bucket": "others"} | ({"layout": "raw/{device}/{*}"} | said)))
