"""What the Iceberg tables cost at a year of hours, and whether a reader ever sees half a change.

python benchmarks/iceberg.py year --hours 8760      one rule: first run, a run an hour, planning, bytes of metadata
python benchmarks/iceberg.py growth --commits 1000  metadata while a file comes with each commit, maintained each day
python benchmarks/iceberg.py readers --reads 5000   reads during commits, rewrites and maintenance: 0 wrong, 0 errors

On AWS on this machine, of which the server takes as much of the processor as the reader: seconds are wall, with the
processor's of this process beside them. Each prints one line of JSON.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

_ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(_ROOT / place) for place in ("", "tests/lake", "tests/helpers")]

from iceberg_lake import HOURS, Filled

from fleet_pipeline.account import Account
from fleet_pipeline.lake import query
from fleet_pipeline.lake.field_ids import field_ids, numbered
from fleet_pipeline.lake.iceberg.check import compare
from fleet_pipeline.lake.iceberg.maintenance import maintain
from fleet_pipeline.lake.iceberg.scans import scans
from fleet_pipeline.lake.iceberg.tables import Tables
from fleet_pipeline.lake.parts import write
from fleet_pipeline.lake.reading import opened
from fleet_pipeline.local import daemon
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour

FIRST = Hour.parse("2025-01-01-00:00")
MESSAGE = {"serial": "297468000001", "speed_kmh": 48.2, "odometer_km": 1.5, "position": {"lat": 48.1, "lon": 11.5}}


@contextmanager
def lake():
    """A lake on AWS on this machine, with one hour of 30 messages, which is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(home=folder, rule_keys=("rule1",))
        try:
            filled = Filled(fleet)
            filled.add(FIRST, *(MESSAGE for _ in range(30)))
            yield filled
        finally:
            daemon.stop(Path(folder))


def add_hour(filled, hour, template, folder):
    """Write the part of an hour: that of the first, received then."""
    contract = filled.lake.contract(filled.rule) if not folder else folder["contract"]
    at = pa.array([hour.start] * template.num_rows, template.schema.field("_ts").type)
    rows = template.set_column(template.schema.get_field_index("_ts"), "_ts", at)
    file = Path(tempfile.gettempdir()) / f"iceberg-benchmark-{id(filled)}.parquet"
    schema = numbered(template.schema.remove_metadata(), field_ids(contract, 1))
    write(file, [rows.cast(schema)], schema, {})
    filled.tables.store.put_new(folder["lake"].part_key(filled.rule, hour, 0), file)


def taking(work):
    """Return what came of it, and the seconds: of the wall and of this process's processor."""
    wall, processor = time.monotonic(), time.process_time()
    made = work()
    return made, (round(time.monotonic() - wall, 3), round(time.process_time() - processor, 3))


def p50(work, times):
    found = [taking(work)[1] for _ in range(times)]
    return [round(statistics.median(each), 3) for each in zip(*found, strict=True)]


def metadata(filled):
    found = [version for page in filled.tables.store.versions(filled.fleet.iceberg_prefix) for version in page]
    return {"objects": len(found), "bytes": sum(version.size for version in found)}


def template_of(filled):
    current = filled.lake
    [part] = current.parts(filled.rule, FIRST)
    return opened(filled.tables.store, part).read(), {"lake": current, "contract": current.contract(filled.rule)}


def year(hours):
    with lake() as filled:
        template, known = template_of(filled)
        at = FIRST
        for _ in range(hours - 1):
            at = at.next
            add_hour(filled, at, template, known)
        _, first = taking(filled.sync)
        begun = metadata(filled)
        runs = []
        for _ in range(10):
            at = at.next
            add_hour(filled, at, template, known)
            runs.append(taking(filled.sync)[1])
        idle = p50(filled.sync, 5)
        kept = maintain(filled.tables, filled.rule, datetime.now(UTC) + timedelta(days=30))
        table = filled.tables.find(filled.rule)
        day = at.start.date()
        asked = f"_ts >= '{day}T00:00:00+00:00'"
        files = len([*table.scan(row_filter=asked).plan_files()])
        through = scans(filled.tables)["rule1"]
        database = query.connect(filled.aws, filled.fleet, scans={})
        scan = f"SELECT count(*) FROM iceberg_scan('{through.metadata}') WHERE _ts >= TIMESTAMPTZ '{day} 00:00:00+00'"
        root = f"s3://{filled.fleet.lake_bucket}/{known['lake'].root}rule=rule1"
        a_day = f"SELECT count(*) FROM read_parquet('{root}/date={day}/*/*.parquet', union_by_name = true)"
        whole = f"SELECT count(*) FROM read_parquet('{root}/*/*/*.parquet', union_by_name = true) WHERE date = '{day}'"
        assert database.execute(scan).fetchone() == database.execute(a_day).fetchone()
        return {
            "parts": hours + 10,
            "first run, s (wall, CPU)": first,
            "metadata after it": begun,
            "a run with one new part, s, p50": [round(statistics.median(each), 3) for each in zip(*runs, strict=True)],
            "a run with nothing to do, s, p50": idle,
            "metadata after maintenance": {"objects": kept.objects, "bytes": kept.bytes, "manifests": kept.manifests},
            "files of a day": files,
            "PyIceberg plans a day, s, p50": p50(lambda: [*table.scan(row_filter=asked).plan_files()], 10),
            "DuckDB counts a day through Iceberg, s, p50": p50(lambda: database.execute(scan).fetchone(), 10),
            "DuckDB counts a day by a glob of that day, s, p50": p50(lambda: database.execute(a_day).fetchone(), 10),
            "DuckDB counts a day by a glob of all, s": taking(lambda: database.execute(whole).fetchone())[1],
            "same as the lake": compare(filled.tables, filled.rule, 0).same,
        }


def growth(commits):
    with lake() as filled:
        template, known = template_of(filled)
        filled.sync()
        at, seen, seconds = FIRST, [], []
        for number in range(1, commits + 1):
            at = at.next
            add_hour(filled, at, template, known)
            seconds.append(taking(filled.sync)[1][1])
            if not number % 24:  # a day has passed: what is older than a week of commits is forgotten
                table = filled.tables.find(filled.rule)
                old = sorted(table.snapshots(), key=lambda each: each.timestamp_ms)[: -7 * 24]
                now = old[-1].timestamp_ms / 1000 + 0.001 if old else table.snapshots()[0].timestamp_ms / 1000
                week = timedelta(days=filled.fleet.iceberg_snapshot_days)
                done = maintain(filled.tables, filled.rule, datetime.fromtimestamp(now, UTC) + week, unfinished=week)
                seen.append((done.objects, done.bytes))
        return {
            "commits": commits,
            "objects and bytes after each tenth day": seen[9::10],
            "most bytes": max(size for _, size in seen),
            "at the end": metadata(filled),
            "CPU s a run, p50 of the first and the last hundred": [
                round(statistics.median(each), 3) for each in (seconds[:100], seconds[-100:])
            ],
            "same as the lake": compare(filled.tables, filled.rule).same,
        }


def readers(reads):
    with lake() as filled:
        filled.sync()
        made, over, wrong, errors = [0], threading.Event(), [], []

        def read():
            tables = Tables.of(filled.fleet, filled.aws, Account.of(filled.fleet).catalog_uri(""))
            database, before = query.connect(filled.aws, filled.fleet, scans={}), 0
            while made[0] < reads:
                try:
                    table = tables.find(filled.rule)
                    seen = table.scan(selected_fields=("serial",)).to_arrow()["serial"]
                    scan = f"SELECT serial FROM iceberg_scan('{table.metadata_location}')"
                    again = database.execute(scan).to_arrow_table()["serial"]
                except Exception as error:  # noqa: BLE001 (it is counted)
                    errors.append(repr(error))
                    seen = again = pa.chunked_array([[]], pa.string())
                wrong.extend(
                    len(each) for each in (seen, again) if each.null_count or len(each) % 30 or len(each) < before
                )
                before = max(before, len(seen))
                made[0] += 2
            over.set()

        reader = threading.Thread(target=read)
        reader.start()
        commits = rewrites = number = 0
        while not over.is_set():
            number += 1
            filled.add(HOURS[number % 2], *(MESSAGE for _ in range(30)))
            commits += filled.sync().changed
            if not number % 10:
                filled.generation()
                rewrites += filled.sync().changed
            if not number % 5:
                maintain(filled.tables, filled.rule, datetime.now(UTC) + timedelta(days=8), timedelta(days=9))
        reader.join()
        return {"reads": made[0], "commits": commits, "rewrites": rewrites, "wrong": len(wrong), "errors": errors[:5]}


DEEDS = {"year": year, "growth": growth, "readers": readers}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("deed", choices=DEEDS)
    for option, default in (("hours", 8760), ("commits", 1000), ("reads", 5000)):
        parser.add_argument(f"--{option}", type=int, default=default)
    chosen = parser.parse_args()
    share = {"year": chosen.hours, "growth": chosen.commits, "readers": chosen.reads}[chosen.deed]
    print(json.dumps({"deed": chosen.deed, "duckdb": duckdb.__version__} | DEEDS[chosen.deed](share)))
