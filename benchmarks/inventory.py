"""What an hour costs by a listing of the bucket and by an S3 Inventory, where keys do not go with the time.

    python benchmarks/inventory.py [--keys 1000000] [--hours 24] [--listed 2]

Keys are `raw/{device}/{uuid}.json` of 1,000 devices, spread over the hours by when S3 took them; the bucket is in this
process's memory and answers at once, so that the figures are our own work and S3's time comes on top, 0.1 s and more a
request. A listing of an hour goes through all keys: `--listed` hours are measured and stand for all.
Prints requests, CPU seconds (of a listing with those in which the bucket makes up its answers) and by how much the
process grew, own memory (RssAnon of /proc/self/status, seen every 20 ms) apart from pages of the index that are mapped
(RssFile), which the system takes back when it wants them. The inventory is made by another process, and lies on disk.
"""

import argparse
import hashlib
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pyarrow as pa
from pyarrow import parquet

sys.path.insert(0, str(Path(__file__).parent.parent))

from fleet_pipeline.aws.store import ObjectVersion
from fleet_pipeline.lake.fetching import sorted_out
from fleet_pipeline.lake.listing import pages
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule
from fleet_pipeline.model.rule_table import RuleTable

START, DEVICES, PLACE = Hour.parse("2026-11-23-00:00"), 1000, "daily/others/all/"


class Source:
    """The bucket, whose versions are made as they are listed."""

    def __init__(self, keys, hours, beside):
        self.keys, self.hours, self.there = keys, hours, beside
        self.requests = beside.requests

    def beside(self, _):
        return self.there

    def versions(self, *_):
        each = self.keys // DEVICES
        for device in range(DEVICES):
            for first in range(0, each, 1000):
                self.requests["LIST"] += 1
                yield [self.version(device, number, each) for number in range(first, min(each, first + 1000))]

    def version(self, device, number, each):
        at = START.start + timedelta(seconds=(device * each + number) * 7919 % (self.hours * 3600))
        key = f"raw/car-{device:04d}/{UUID(int=number << 80)}.json"
        return ObjectVersion(
            key, f"v{device}.{number}", 284, '"0cc175b9c0f1b6a831c399e269772661"', _text(at), latest=True
        )


class Lists:
    """The bucket of inventories: a folder."""

    def __init__(self, folder):
        self.folder, self.requests = Path(folder), Counter()

    def put(self, key, body):
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    def keys(self, prefix):
        found = (str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())
        return sorted(key for key in found if key.startswith(prefix))

    def folders(self, prefix):
        self.requests["LIST"] += 1
        yield from sorted({f"{prefix}{key[len(prefix) :].partition('/')[0]}/" for key in self.keys(prefix)})

    def versions(self, prefix):
        self.requests["LIST"] += 1
        yield [
            ObjectVersion(key, "v", (self.folder / key).stat().st_size, "", "2026-11-25T00:00:00.000Z", latest=True)
            for key in self.keys(prefix)
        ]

    def read(self, key, start, stop):
        self.requests["GET"] += 1
        with (self.folder / key).open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


class Growth:
    """By how many MB this process grew at most, by kind of memory, since it was made."""

    def __init__(self):
        self.before, self.most = _resident(), Counter()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        while True:
            for kind, mb in _resident().items():
                self.most[kind] = max(self.most[kind], mb - self.before[kind])
            time.sleep(0.02)


def _resident():
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {line[0].rstrip(":"): int(line[1]) // 1024 for line in lines if line[0] in ("RssAnon:", "RssFile:")}


def _text(at):
    return f"{at:%Y-%m-%dT%H:%M:%S}.000Z"


def delivered(source, lists, began):
    """Put an inventory of a bucket, as S3 writes it: Parquet, some files."""
    files, rows = [], []

    def write():
        columns = list(zip(*rows, strict=True))
        kinds = [pa.string()] * 3 + [pa.bool_()] * 2 + [pa.int64(), pa.timestamp("ms", "UTC"), pa.string()]
        names = ["bucket", "key", "version_id", "is_latest", "is_delete_marker", "size", "last_modified_date", "e_tag"]
        out = pa.BufferOutputStream()
        parquet.write_table(pa.table([pa.array(c, k) for c, k in zip(columns, kinds, strict=True)], names=names), out)
        body, key = out.getvalue().to_pybytes(), f"{PLACE}data/{len(files)}.parquet"
        lists.put(key, body)
        files.append({"key": key, "size": len(body), "MD5checksum": hashlib.md5(body).hexdigest()})
        rows.clear()

    for page in source.versions():
        for each in page:
            at = datetime.fromisoformat(each.modified)
            rows.append(("others", each.key, each.id, True, False, each.size, at, each.etag.strip('"')))
        if len(rows) >= 200_000:
            write()
    if rows:
        write()
    said = {
        "sourceBucket": "others",
        "destinationBucket": "arn:aws:s3:::lists",
        "version": "2016-11-30",
        "creationTimestamp": str(int(began.timestamp() * 1000)),
        "fileFormat": "Parquet",
        "fileSchema": "message s3.inventory { … }",
        "files": files,
    }
    body, folder = json.dumps(said).encode(), f"{PLACE}{began:%Y-%m-%dT%H-%MZ}/"
    lists.put(f"{folder}manifest.json", body)
    lists.put(f"{folder}manifest.checksum", hashlib.md5(body).hexdigest().encode())


def make(folder, keys, hours):
    lists = Lists(folder)
    delivered(Source(keys, hours, lists), lists, START.start + timedelta(hours=hours + 2))


def measured(source, rule, hour):
    """Return the versions of an hour, seconds of CPU, and requests."""
    before, began, count = Counter(source.requests), time.process_time(), 0
    for page in pages(source, rule, hour):
        count += len(sorted_out(rule, hour, page)[0])
    return count, time.process_time() - began, source.requests - before


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("--keys", 1_000_000), ("--hours", 24), ("--listed", 2)):
        arguments.add_argument(name, type=int, default=default)
    said = arguments.parse_args()
    table = RuleTable(key="old", bucket="others", layout="raw/{device}/{*}.json", inventory=f"s3://lists/{PLACE}")
    rule = Rule("test-rule", "old", table)
    hours = [Hour(START.start + timedelta(hours=number)) for number in range(said.hours)]
    with tempfile.TemporaryDirectory() as folder:
        maker = multiprocessing.get_context("spawn").Process(target=make, args=(folder, said.keys, said.hours))
        maker.start()
        maker.join()
        lists = Lists(folder)
        source = Source(said.keys, said.hours, lists)
        size = sum((lists.folder / key).stat().st_size for key in lists.keys(f"{PLACE}data/"))
        print(f"{said.keys:,} keys, inventory of {size / 1e6:.0f} MB")
        with tempfile.TemporaryDirectory() as place:
            tempfile.tempdir, grown = place, Growth()
            found = [measured(source, rule, hours[0])]
            time.sleep(0.1)
            making = Counter(grown.most)
            found += [measured(source, rule, hour) for hour in hours[1:]]
            index = sum(path.stat().st_size for path in Path(place).rglob("*.arrow"))
            tempfile.tempdir = None
    first, later = found[0], found[1:]
    print(f"index: {index / 1e6:.0f} MB; first hour with it {first[1]:.1f} CPU s, {dict(first[2])}")
    print(f"each further hour {sum(each[1] for each in later) / max(1, len(later)):.2f} CPU s, {dict(later[-1][2])}")
    print(
        f"{sum(each[0] for each in found):,} versions in {len(hours)} hours, {sum(each[1] for each in found):.1f} CPU s"
    )
    for what, most in (("with the first hour", making), ("with all hours", grown.most)):
        print(f"grown {what}: own memory by {most['RssAnon']} MB, mapped pages by {most['RssFile']} MB")
    listed = [measured(source, rule.by_listing, hour) for hour in hours[: said.listed]]
    if not listed:
        return
    each = sum(one[1] for one in listed) / len(listed)
    print(
        f"a listing of an hour: {each:.1f} CPU s, {dict(listed[0][2])}; of {len(hours)}: {each * len(hours):.0f} CPU s"
    )
    for one, other in zip(found, listed, strict=False):
        assert one[0] == other[0], (one, other)


if __name__ == "__main__":
    main()
