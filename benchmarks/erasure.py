"""One vehicle of many, erased: seconds, objects and bytes, others' rows before and after, and the search.

    python benchmarks/erasure.py [--vehicles 1000] [--hours 100] [--seen 100]

Buckets are dicts in this process, so the seconds are the erasure's own work; on S3 each request adds its time.
`--seen` is in how many of the hours the erased vehicle sends.
"""

import argparse
import json
import sys
import time
from bisect import bisect_left, insort
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path

_ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(_ROOT), str(_ROOT / "tests" / "helpers")]

from dict_store import DictStore

from fleet_pipeline.lake.analytics.vehicles import seen
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.privacy.erase import erase, plan
from fleet_pipeline.lake.privacy.places import Places
from fleet_pipeline.lake.reading import opened
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName

FLEET = Fleet()
RULE = FLEET.rules[0]
FIRST = Hour.parse("2026-11-01-00:00").start_ms
HOUR_MS = 3_600_000
NOW = datetime(2026, 11, 28, tzinfo=UTC)
ERASED = "297468000000"


class SortedStore(DictStore):
    """A bucket in a dict that finds a prefix without sorting all keys."""

    def __init__(self):
        super().__init__()
        self.keys = []

    def put(self, key, body):
        if key not in self.objects:
            insort(self.keys, key)
        return super().put(key, body)

    def delete(self, versions):
        for version in list(versions):
            super().delete([version])
            if version.key not in self.objects:
                del self.keys[bisect_left(self.keys, version.key)]

    def versions(self, prefix, after="", until=""):
        self.requests["LIST"] += 1
        found, start = [], bisect_left(self.keys, max(prefix, after))
        for key in self.keys[start:]:
            if not key.startswith(prefix) or (until and key >= until):
                break
            found += [version for version, _ in self.objects[key]] if key > after else []
            if len(found) >= 1000:
                yield found
                self.requests["LIST"] += 1
                found = []
        yield found

    def folders(self, prefix):
        self.requests["LIST"] += 1
        start, end = (bisect_left(self.keys, each) for each in (prefix, prefix + "\U0010ffff"))
        below = {key[len(prefix) :] for key in self.keys[start:end]}
        yield from sorted({prefix + rest.partition("/")[0] + "/" for rest in below if "/" in rest})


def fill(raw, vehicles, hours, seen_in):
    for hour in range(hours):
        for vehicle in range(0 if hour < seen_in else 1, vehicles):
            name = RawName(FIRST + hour * HOUR_MS + vehicle, f"00000000-0000-4000-8000-{hour:06d}{vehicle:06d}")
            said = {"serial": f"297468{vehicle:06d}", "speed_kmh": vehicle % 130 + 0.5, "odometer_km": hour * 60.25}
            raw.put(RULE.raw_key(name), json.dumps(said).encode())


def digest(lake):
    """Of every row of other vehicles, and how many they are."""
    total = count = 0
    for parts in lake.all_parts(RULE).values():
        for part in parts:
            for row in opened(lake.store, part).read().to_pylist():
                if row["serial"] != ERASED:
                    count += 1
                    total += int.from_bytes(blake2b(repr(row).encode(), digest_size=16).digest())
    return count, f"{total % 2**128:032x}"


def timed(work):
    wall, cpu = time.monotonic(), time.process_time()
    done = work()
    return done, round(time.monotonic() - wall, 1), round(time.process_time() - cpu, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vehicles", type=int, default=1000)
    parser.add_argument("--hours", type=int, default=100)
    parser.add_argument("--seen", type=int)
    given = parser.parse_args()
    raw, store = SortedStore(), SortedStore()
    fill(raw, given.vehicles, given.hours, given.hours if given.seen is None else given.seen)
    lake = Lake(store, "lake")
    for hour in range(given.hours):
        at = Hour.of_millis(FIRST + hour * HOUR_MS)
        compact_hour(raw, lake, RULE, at)
        seen(FLEET, lake, at)
    before = digest(lake)
    places = Places(FLEET, raw, store, lake)
    planned, plan_s, plan_cpu = timed(lambda: plan(places, ERASED, NOW))
    erased, erase_s, erase_cpu = timed(lambda: erase(places, ERASED, NOW, by="benchmark"))
    after = digest(lake)
    assert before == after, "a row of another vehicle changed"
    assert erased.clean
    assert planned.removed.messages == erased.removed.messages
    figures = {
        "vehicles": given.vehicles,
        "hours": given.hours,
        "plan, s": plan_s,
        "plan, CPU s": plan_cpu,
        "erasure, s": erase_s,
        "erasure, CPU s": erase_cpu,
        "messages": erased.removed.messages,
        "raw versions removed": erased.removed.raw_versions,
        "raw bytes removed": erased.removed.raw_bytes,
        "parts written anew": erased.removed.parts,
        "bytes of old parts": erased.removed.part_bytes,
        "revisions removed": erased.removed.revisions,
        "requests": dict(erased.removed.requests),
        "looked through": dict(erased.searched.looked),
        "bytes looked through": erased.searched.bytes,
        "found of the vehicle": len(erased.searched.theirs),
        "named by others": sum(erased.searched.mentioned.values()),
        "rows of others, before and after": before[0],
        "their digest, before and after": before[1],
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
