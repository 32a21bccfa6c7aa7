"""What the Iceberg tables cost at a year of hours, and as commits come.

python benchmarks/iceberg.py year [--hours 8760] [--write]      three rules: first run, a run an hour, a run with
nothing to do, readers by Iceberg and by glob, bytes of metadata
python benchmarks/iceberg.py growth [--commits 1000] [--write]  metadata while a part comes with each commit,
maintained each day

On a loopback S3 in a process of its own, so that the processor's seconds are those of whoever reads or registers. Each
prints a line of JSON; `--write` puts it into results.json and its table into docs/iceberg.md. Reads beside everything
that changes a table: `iceberg_soak.py`.
"""

import argparse
import json
import multiprocessing
import os
import re
import statistics
import sys
import tempfile
import time
import urllib.request
import uuid
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

_ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(_ROOT / place) for place in ("", "tests/lake", "tests/helpers")]
os.environ["POLARS_ICEBERG_PLANNER"] = "pyiceberg"

import duckdb
import polars as pl
import pyarrow as pa
import pyiceberg
from dict_store import DictStore
from test_query_page import EXAMPLES, QUESTIONS

from benchmarks.report import write_iceberg
from benchmarks.s3_server import Kept, Server
from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.lake import query
from fleet_pipeline.lake.field_ids import field_ids, numbered
from fleet_pipeline.lake.iceberg.check import compare
from fleet_pipeline.lake.iceberg.maintenance import maintain
from fleet_pipeline.lake.iceberg.scans import scans
from fleet_pipeline.lake.iceberg.sync import sync
from fleet_pipeline.lake.iceberg.tables import Tables
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.parts import write
from fleet_pipeline.lake.reading import opened
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName
from fleet_pipeline.vehicle.telemetry import journey

FLEET = Fleet(iceberg="sql")
ACCOUNT = "123456789012"
DAY = datetime(2026, 11, 23, tzinfo=UTC).date()
"""The day that the questions of docs/query.md ask about: the last of the year."""
LAST = Hour.parse(f"{DAY}-23:00")
TIMES = 5
WEEK = 7 * 24
"""Commits of a week, one an hour."""


class Counted(Server):
    """A server that says how many requests it answered, and how many bytes it took and gave."""

    def __init__(self, bucket):
        super().__init__(bucket, 0, 0, 0)
        self.counts = Counter()

    def _answer(self, fileno, head, body):
        if head.startswith(b"GET /_counts "):
            said = json.dumps(self.counts).encode()
            self._send(fileno, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said) + said)
            return
        method, target, _ = head.split(b" ", 2)
        self.counts["LIST" if b"prefix=" in target else method.decode()] += 1
        self.counts["bytes written"] += len(body)
        super()._answer(fileno, head, body)


def served(pipe):
    server = Counted(Kept())
    pipe.send(server.listener.getsockname()[1])
    server.serve()


class Year:
    """A lake on a loopback S3, whose hours are written one after the other, and its tables."""

    def __init__(self, folder, url):
        self.folder, self.url = folder, url
        self.aws = Aws(FLEET.region, ACCOUNT, url)
        self.store = S3Store(self.aws, FLEET.lake_bucket)
        self.tables = Tables.of(FLEET, self.aws, f"sqlite:///{folder / 'catalog.db'}")
        self.lake, self._templates = self.tables.lake(), {}

    def begin(self, hour):
        """Compact an hour of each rule, of which the others are to be copies with other instants."""
        raw = DictStore()
        for vehicle in range(10):
            for number, message in enumerate(islice(journey(f"29746800000{vehicle}", 7, hour.start), 15)):
                at = hour.start + timedelta(minutes=4 * number, seconds=vehicle)
                rule = FLEET.rules[number % 3]
                raw.put(rule.raw_key(RawName(int(at.timestamp() * 1000), str(uuid.uuid4()))), message.payload)
        for rule in FLEET.rules:
            broken = b'{"serial": '
            raw.put(rule.raw_key(RawName(hour.start_ms + 1, str(uuid.uuid4()))), broken)
            compact_hour(raw, self.lake, rule, hour)
            [part] = self.lake.parts(rule, hour)
            contract = self.lake.contract(rule)
            rows = opened(self.store, part).read()
            schema = numbered(rows.schema.remove_metadata(), field_ids(contract, 1))
            self._templates[rule] = hour, rows.cast(schema), contract.number

    def add(self, rule, hour):
        """Write the part of an hour as a compaction does: the rows of the first, received then."""
        first, rows, contract = self._templates[rule]
        later = hour.start - first.start
        millis = later // timedelta(milliseconds=1)
        at = pa.array([each + later for each in rows["_ts"].to_pylist()], rows.schema.field("_ts").type)
        keys = [
            re.sub(r"[0-9]{13}", lambda found: str(int(found[0]) + millis), key, count=1)
            for key in rows["_key"].to_pylist()
        ]
        rows = rows.set_column(rows.schema.get_field_index("_ts"), rows.schema.field("_ts"), at)
        rows = rows.set_column(rows.schema.get_field_index("_key"), rows.schema.field("_key"), pa.array(keys))
        file = self.folder / "part.parquet"
        facts = {"writer": "benchmark", "rule": rule.key, "hour": hour.partition_key, "contract": contract}
        write(file, [rows], rows.schema, facts)
        self.store.put_new(self.lake.part_key(rule, hour, 0), file)

    def sync(self):
        return [sync(self.tables, rule) for rule in FLEET.rules]

    def check(self):
        return [compare(self.tables, rule, 100) for rule in FLEET.rules]

    def metadata(self):
        found = [version for page in self.store.versions(FLEET.iceberg_prefix) for version in page]
        return {"objects": len(found), "bytes": sum(version.size for version in found)}

    def counts(self):
        with urllib.request.urlopen(f"{self.url}/_counts") as answer:
            return Counter(json.load(answer))

    def cost(self, work, times=1):
        """Return what came of it, and what it took: the median of some times."""
        found = []
        for _ in range(times):
            before, wall, cpu = self.counts(), time.monotonic(), time.process_time()
            made = work()
            took = {"s": time.monotonic() - wall, "CPU s": time.process_time() - cpu}
            asked = self.counts() - before
            found.append(took | dict(asked))
        names = sorted({name for each in found for name in each})
        return made, {name: round(statistics.median(each.get(name, 0) for each in found), 3) for name in names}


@contextmanager
def year_of(first):
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=served, args=(theirs,), daemon=True)
    server.start()
    with tempfile.TemporaryDirectory() as folder:
        try:
            made = Year(Path(folder), f"http://127.0.0.1:{ours.recv()}")
            made.begin(first)
            yield made
        finally:
            server.kill()


def year(hours):
    first = LAST
    for _ in range(hours - 1):
        first = first.before
    with year_of(first) as made:
        hour, news = first, []
        while hour != LAST:
            hour = hour.next
            for rule in FLEET.rules:
                made.add(rule, hour)
        figures = {"hours": hours, "parts": 3 * hours}
        _, figures["the first run"] = made.cost(made.sync)
        figures["metadata after it"] = made.metadata()
        _, figures["a run with nothing to do"] = made.cost(made.sync, TIMES)
        for _ in range(TIMES):
            hour = hour.next
            for rule in FLEET.rules:
                made.add(rule, hour)
            news.append(made.cost(made.sync)[1])
        figures["a run with a new part of each rule"] = {
            name: round(statistics.median(each.get(name, 0) for each in news), 3) for name in news[0]
        }
        checked, figures["a check of every file"] = made.cost(made.check)
        assert all(found.same for found in checked)
        kept = [maintain(made.tables, rule, datetime.now(UTC) + timedelta(days=30)) for rule in FLEET.rules]
        figures["metadata after maintenance"] = {
            "objects": sum(each.objects for each in kept),
            "bytes": sum(each.bytes for each in kept),
            "manifests": sum(each.manifests for each in kept),
        }
        figures["readers"] = readers(made)
        return figures


def readers(made):
    """Ask the five questions of everybody, and compare what they say; return what planning and the answer take."""
    found, answers = [], {question: [] for question in QUESTIONS}
    for name, (plan, answer) in ways(made).items():
        for question in QUESTIONS:
            files, planned = made.cost(lambda plan=plan, question=question: plan(question), TIMES)
            rows, answered = made.cost(lambda answer=answer, question=question: answer(question), TIMES)
            answers[question].append((name, rows))
            found.append(
                {
                    "reader": name,
                    "question": question[0],
                    "rows": len(rows),
                    "files": files,
                    "planned": planned,
                    "answered": answered,
                }
            )
    for question, said in answers.items():
        for name, rows in said:
            assert rows == said[0][1], (question, name)
        assert said[0][1], question
    return found


def ways(made):
    """The readers, each as what plans a question and what answers it."""
    opened_ = {rule.key: made.tables.find(rule) for rule in FLEET.rules}
    by_day = query.connect(made.aws, FLEET, DAY, DAY)
    through = query.connect(made.aws, FLEET, DAY, DAY, scans=scans(made.tables))
    for database in (by_day, through):
        database.execute("SET enable_external_file_cache = false")  # each time as if asked first
    during = f"_ts >= '{DAY}T00:00:00+00:00' and _ts < '{DAY + timedelta(days=1)}T00:00:00+00:00'"

    def sql(database, question):
        [asked] = EXAMPLES[question, "DuckDB"]
        return sorted(rounded(database.execute(asked).fetchall()))

    def explained(database, question):
        [asked] = EXAMPLES[question, "DuckDB"]
        database.execute(f"EXPLAIN {asked}").fetchall()

    def scanned():
        return {
            key: made.tables.catalog.load_table(table.name()).scan(row_filter=during) for key, table in opened_.items()
        }

    def by_pyiceberg(question):
        database = duckdb.connect()
        database.execute("SET TimeZone = 'UTC'")
        for key, scan in scanned().items():
            database.register(f"_{key}", scan.to_arrow())
        paths = "strftime(_ts, '%Y-%m-%d') AS date, CAST(hour(_ts) AS INTEGER) AS hour"
        union = (f"SELECT *, '{key}' AS rule, {paths} FROM _{key}" for key in opened_)
        database.execute(f"CREATE VIEW messages AS {' UNION ALL BY NAME '.join(union)}")
        return sql(database, question)

    return {
        "DuckDB, a glob of the day": (
            lambda question: explained(by_day, question),
            lambda question: sql(by_day, question),
        ),
        "DuckDB, Iceberg": (lambda question: explained(through, question), lambda question: sql(through, question)),
        "PyIceberg": (
            lambda _: sum(len([*scan.plan_files()]) for scan in scanned().values()),
            by_pyiceberg,
        ),
        "Polars, a glob of all": (
            lambda question: polars_plan(question, globbed(made)),
            lambda question: polars_answer(question, globbed(made)),
        ),
        "Polars, Iceberg": (
            lambda question: polars_plan(question, iceberg_of(made)),
            lambda question: polars_answer(question, iceberg_of(made)),
        ),
    }


def rounded(rows):
    return [tuple(round(each, 6) if isinstance(each, float) else each for each in row) for row in rows]


def globbed(made):
    options = {
        "aws_access_key_id": ACCOUNT,
        "aws_secret_access_key": "test",
        "aws_region": FLEET.region,
        "aws_endpoint_url": made.url,
        "aws_allow_http": "true",
    }
    known = {
        "hive_partitioning": True,
        "try_parse_hive_dates": False,
        "storage_options": options,
        "missing_columns": "insert",
        "extra_columns": "ignore",
    }
    root = f"s3://{FLEET.lake_bucket}/{made.lake.root}rule="
    return pl.concat(
        [pl.scan_parquet(f"{root}{rule.key}/**/*.parquet", **known) for rule in FLEET.rules], how="diagonal_relaxed"
    )


def iceberg_of(made):
    options = {
        "s3.endpoint": made.url,
        "s3.access-key-id": ACCOUNT,
        "s3.secret-access-key": "test",
        "s3.region": FLEET.region,
    }
    start = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC)
    day = (pl.col("_ts") >= start) & (pl.col("_ts") < start + timedelta(days=1))
    found = []
    for rule in FLEET.rules:
        where = made.tables.find(rule).metadata_location
        paths = {
            "rule": pl.lit(rule.key),
            "date": pl.col("_ts").dt.strftime("%Y-%m-%d"),
            "hour": pl.col("_ts").dt.hour().cast(pl.Int64),
        }
        found.append(pl.scan_iceberg(where, storage_options=options).filter(day).with_columns(**paths))
    return pl.concat(found, how="diagonal_relaxed")


def polars_plan(question, messages):
    del question
    messages.filter(pl.col("date") == str(DAY)).explain()


def polars_answer(question, messages):
    [asked] = EXAMPLES[question, "Polars"]
    names = {"pl": pl, "messages": messages}
    exec(asked, names)
    return sorted(rounded(names["answer"].rows()))


def growth(commits):
    """A part with each commit, each on an hour of its own, and maintenance each day: what is older than a week of
    commits is forgotten, as by the clock.
    """
    hour, week = Hour.parse("2025-01-01-00:00"), timedelta(days=FLEET.iceberg_snapshot_days)
    with year_of(hour) as made:
        rule = FLEET.rules[0]
        sync(made.tables, rule)
        seen, costs = [], []
        for number in range(1, commits + 1):
            hour = hour.next
            made.add(rule, hour)
            costs.append(made.cost(lambda: sync(made.tables, rule))[1])
            if number % 24:
                continue
            old = sorted(made.tables.find(rule).snapshots(), key=lambda each: each.timestamp_ms)
            at = datetime.fromtimestamp(old[-min(len(old), WEEK)].timestamp_ms / 1000, UTC)
            done = maintain(made.tables, rule, at + week, unfinished=week)
            seen.append(
                {
                    "commits": number,
                    "objects": done.objects,
                    "bytes": done.bytes,
                    "manifests": done.manifests,
                    "snapshots": done.snapshots,
                }
            )
        assert compare(made.tables, rule).same

        def p50(some, name):
            return round(statistics.median(each.get(name, 0) for each in some), 3)

        return {
            "commits": commits,
            "after maintenance": seen,
            "a run": [
                {"commits": f"{start + 1} to {start + 100}"}
                | {name: p50(costs[start : start + 100], name) for name in costs[-1]}
                for start in (0, 200, commits - 100)
            ],
        }


DEEDS = {"year": year, "growth": growth}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("deed", choices=DEEDS)
    parser.add_argument("--hours", type=int, default=8760)
    parser.add_argument("--commits", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="renew results.json and the tables of docs/iceberg.md")
    chosen = parser.parse_args()
    made = DEEDS[chosen.deed](chosen.hours if chosen.deed == "year" else chosen.commits)
    versions = {"duckdb": duckdb.__version__, "polars": pl.__version__, "pyiceberg": pyiceberg.__version__}
    said = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "versions": versions} | made
    print(json.dumps({"deed": chosen.deed} | said))
    if chosen.write:
        write_iceberg(chosen.deed, said)
