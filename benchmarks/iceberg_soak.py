"""Readers beside everything that changes the lake and its Iceberg table, by processes that are killed.

python benchmarks/iceberg_soak.py [--reads 5000] [--seed 1]

Beside each other, each in a process of its own: three registrars, one compaction of late data after the other, one
rewrite after the other, one erasure after the other, maintenance every few seconds; all of them killed by SIGKILL at
random moments and started anew. Meanwhile four processes read, over and over: PyIceberg, DuckDB by `iceberg_scan`,
DuckDB with the catalog attached, and DuckDB by a glob of the parts.

S3 is a loopback server in this process, which keeps all that ever was; the catalog is a SQLite database that notes each
commit. So afterwards the truth of every commit is known: what its files held. An answer is right if it is the truth of
a commit between the beginning and the end of its reading. A commit is right if no message is in it twice, and none of a
vehicle that was not erased is missing that the commit before it had.

A glob reads files and knows of no commit: between an erasure's new part and the end of the old ones its answer has the
hour's other rows twice, and a part that ends while it is read fails. Both are counted apart, and nothing else may be.
"""

import argparse
import io
import json
import multiprocessing
import random
import sqlite3
import sys
import tempfile
import threading
import time
from bisect import bisect_right
from collections import Counter
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io import FileIO, InputFile
from pyiceberg.table.metadata import TableMetadataUtil

_ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(_ROOT)]

from benchmarks.s3_server import Kept, Server
from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.lake import query
from fleet_pipeline.lake.iceberg.check import compare
from fleet_pipeline.lake.iceberg.maintenance import maintain
from fleet_pipeline.lake.iceberg.sync import sync
from fleet_pipeline.lake.iceberg.tables import NAME, Tables
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.rewrite import has_grown, rewrite_hour
from fleet_pipeline.lake.privacy.erase import erase
from fleet_pipeline.lake.privacy.places import Places
from fleet_pipeline.lake.tombstones import FOLDER
from fleet_pipeline.model.errors import FleetError
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName
from fleet_pipeline.places import Snapshots

FLEET = Fleet(rule_keys=("rule1",), iceberg="sql", vehicle_field="serial")
RULE = FLEET.rules[0]
ACCOUNT = "123456789012"
HOURS = [Hour.parse(f"2026-11-23-{hour:02d}:00") for hour in range(6)]
VEHICLES = [f"29746800{number:04d}" for number in range(400)]
PARTS = f"/{FLEET.lake_bucket}/{FLEET.parquet_prefix}/v"
READERS_S = 8.0
"""What an erasure leaves to readers, in place of the setting's."""
SLOW_S = 4.0
"""How long the slowest queries have a snapshot before they read its files."""
KEPT = timedelta(seconds=20)
"""How old snapshots may become here, and metadata that nothing refers to, in place of days."""


class Place:
    """How a process reaches the account, and where it writes down what it did."""

    def __init__(self, folder, url, rest):
        self.folder, self.url, self.rest = folder, url, rest

    @property
    def aws(self):
        return Aws(FLEET.region, ACCOUNT, self.url)

    @property
    def database(self):
        return self.folder / "catalog.db"

    @property
    def tables(self):
        return Tables.of(FLEET, self.aws, f"sqlite:///{self.database}?timeout=60")

    def note(self, name, said):
        with (self.folder / name).open("a") as file:
            file.write(json.dumps(said) + "\n")

    def noted(self, name):
        path = self.folder / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def register(place, chance):
    tables = place.tables
    while True:
        sync(tables, RULE)
        time.sleep(chance.random())


def compact(place, chance):
    tables, raw = place.tables, S3Store(place.aws, FLEET.bucket)
    while True:
        hour = chance.choice(HOURS)
        for _ in range(chance.randrange(1, 5)):
            at = hour.start_ms + chance.randrange(3_600_000)
            said = {"serial": chance.choice(VEHICLES), "n": chance.randrange(1, 2**31)}
            raw.put_new(RULE.raw_key(RawName(at, str(uuid4()))), json.dumps(said).encode())
        compact_hour(raw, tables.lake(), RULE, hour)
        time.sleep(chance.random() / 2)


def rewrite(place, chance):
    tables = place.tables
    while True:
        time.sleep(5 + 20 * chance.random())
        old = tables.lake()
        new = old.next_generation
        new.begin()
        for hour in old.hours(RULE):
            done = rewrite_hour(old, new, RULE, hour)
            while has_grown(old, RULE, hour, done):
                done = rewrite_hour(old, new, RULE, hour)
        new.switch()
        place.note("rewrites", new.generation)


def remove(place, chance):
    """Erase one vehicle after the other; of one that was not erased to its end, again."""
    tables = place.tables
    while True:
        ended = {vehicle for vehicle, is_end in place.noted("erasures") if is_end}
        vehicle = next(each for each in VEHICLES if each not in ended)
        place.note("erasures", (vehicle, False))
        store = S3Store(place.aws, FLEET.lake_bucket)
        places = Places(FLEET, S3Store(place.aws, FLEET.bucket), store, tables.lake(), Snapshots(tables, READERS_S))
        done = erase(places, vehicle, datetime.now(UTC), by="soak", every_hour=True)
        place.note("erasures", (vehicle, done.clean))
        time.sleep(4 * chance.random())


def upkeep(place, chance):
    tables = place.tables
    week = timedelta(days=FLEET.iceberg_snapshot_days)
    while True:
        maintain(tables, RULE, datetime.now(UTC) + week - KEPT, unfinished=week)
        time.sleep(3 + 3 * chance.random())


WRITERS = {"register 1": register, "register 2": register, "register 3": register} | {
    each.__name__: each for each in (compact, rewrite, remove, upkeep)
}


def figure(column):
    """What an answer says: how many, and of which."""
    numbers = [int(each) for each in column.to_pylist()]
    return len(numbers), sum(numbers), sum(each * each for each in numbers)


_ASKED = "SELECT count(*), sum(n::HUGEINT)::VARCHAR, sum(n::HUGEINT * n::HUGEINT)::VARCHAR FROM"


def asked(database, source):
    return tuple(int(each or 0) for each in database.execute(f"{_ASKED} {source}").fetchone())


def duckdb_of(place):
    return query.connect(place.aws, FLEET, scans={})


def pyiceberg(place, pause):
    properties = {
        "s3.endpoint": place.url,
        "s3.access-key-id": ACCOUNT,
        "s3.secret-access-key": "test",
        "s3.region": FLEET.region,
        "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
    }
    catalog = SqlCatalog(NAME, uri=f"sqlite:///{place.database}?timeout=60", **properties)
    name = place.tables.identifier(RULE)

    def read():
        table = catalog.load_table(name)
        pause()
        return figure(table.scan(selected_fields=("n",)).to_arrow()["n"])

    return read


def iceberg_scan(place, pause):
    database = duckdb_of(place)
    catalog = sqlite3.connect(place.database, timeout=60)

    def read():
        [[where]] = catalog.execute("SELECT metadata_location FROM iceberg_tables").fetchall()
        pause()
        return asked(database, f"iceberg_scan('{where}')")

    return read


def attached(place, pause):
    database = duckdb_of(place)
    database.execute(
        f"ATTACH 'lake' AS fleet (TYPE iceberg, ENDPOINT '{place.rest}', AUTHORIZATION_TYPE 'none', "
        "ACCESS_DELEGATION_MODE 'none')"
    )
    namespace, name = place.tables.identifier(RULE)

    def read():
        database.execute("BEGIN")
        try:
            asked(database, f'fleet."{namespace}"."{name}" WHERE n < 0')  # the transaction knows its snapshot now
            pause()
            return asked(database, f'fleet."{namespace}"."{name}"')
        finally:
            database.execute("ROLLBACK")

    return read


def glob(place, _):
    database, tables = duckdb_of(place), place.tables

    def read():
        root = f"s3://{FLEET.lake_bucket}/{tables.lake().root}rule={RULE.key}"
        return *asked(database, f"read_parquet('{root}/*/*/part-*.parquet', union_by_name = true)"), root

    return read


THROUGH = {each.__name__: each for each in (pyiceberg, iceberg_scan, attached)}
READERS = THROUGH | {glob.__name__: glob}


def read(place, name, chance):
    """Read over and over, and note each answer with the time that it took."""

    def pause():
        """One in ten queries is a long one: it has its snapshot, and reads the files later."""
        time.sleep(SLOW_S * chance.random() if chance.random() < 0.1 else 0)

    read = READERS[name](place, pause)
    while not (place.folder / "over").exists():
        begun = time.time()
        try:
            answer = read()
        except Exception as error:  # noqa: BLE001 (it is counted)
            answer = f"{type(error).__name__}: {error}"
        place.note(f"read by {name}", (begun, time.time(), answer))


def write(place, name, seed):
    try:
        WRITERS[name](place, random.Random(seed))
    except FleetError as error:
        place.note("stopped", (name, error.retryable, str(error)))
    except Exception as error:  # noqa: BLE001 (it is counted)
        place.note("stopped", (name, False, repr(error)))


class Rest(BaseHTTPRequestHandler):
    """A read-only REST catalog over the SQL one: as much as DuckDB asks."""

    def do_GET(self):
        *_, kind = self.path.partition("?")[0].strip("/").split("/")[:-1] or [""]
        if self.path.startswith("/v1/config"):
            said = {"defaults": {}, "overrides": {}}
        elif kind == "tables":
            [[where]] = (
                sqlite3.connect(self.server.database, timeout=60)
                .execute("SELECT metadata_location FROM iceberg_tables")
                .fetchall()
            )
            metadata = json.loads(self.server.bucket.ever[where.removeprefix("s3:/")])
            said = {"metadata-location": where, "metadata": metadata, "config": {}}
        elif kind == "namespaces":
            said = {"namespace": [FLEET.iceberg_namespace], "properties": {}}
        else:
            said = {"namespaces": [[FLEET.iceberg_namespace]]}
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.command == "GET" else b"")

    def do_HEAD(self):
        self.do_GET()

    def log_message(self, *_):
        pass


class Ever(FileIO):
    """What was ever written, for whoever asks for the truth."""

    def __init__(self, bucket):
        super().__init__()
        self.bucket = bucket

    def new_input(self, location):
        return _Ever(location, self.bucket.ever[location.removeprefix("s3:/")])

    def new_output(self, location):
        raise NotImplementedError

    def delete(self, location):
        raise NotImplementedError


class _Ever(InputFile):
    def __init__(self, location, body):
        super().__init__(location)
        self.body = body

    def __len__(self):
        return len(self.body)

    def exists(self):
        return True

    def open(self, seekable=True):  # noqa: ARG002, FBT002 (PyIceberg's)
        return io.BytesIO(self.body)


class Truth:
    """What each commit of the table, and each state of the folders, holds."""

    def __init__(self, bucket, commits):
        self.bucket, self.commits, self._parts = bucket, commits, {}
        self.erased = set()

    def part(self, path):
        """The messages of a part, each with its vehicle."""
        if path not in self._parts:
            rows = pq.read_table(io.BytesIO(self.bucket.ever[path]), columns=["n", "serial"])
            assert not pc.any(pc.is_null(rows["n"])).as_py()
            self._parts[path] = [*zip(map(int, rows["n"].to_pylist()), rows["serial"].to_pylist(), strict=True)]
        return self._parts[path]

    def of_commit(self, location):
        io_, body = Ever(self.bucket), self.bucket.ever[location.removeprefix("s3:/")]
        metadata = TableMetadataUtil.parse_raw(body.decode())
        snapshot = metadata.current_snapshot()
        manifests = snapshot.manifests(io_) if snapshot else []
        return [
            row
            for manifest in manifests
            for entry in manifest.fetch_manifest_entry(io_)
            for row in self.part(entry.data_file.file_path.removeprefix("s3:/"))
        ]

    def states(self):
        """Yield the instants at which parts came or went, with the parts that a generation had from then on."""
        live = {}
        for at, path, came in self.bucket.log:
            if path.startswith(PARTS) and path.endswith(".parquet"):
                root = path.partition("/date=")[0]
                live.setdefault(root, set())
                live[root].add(path) if came else live[root].discard(path)
                yield root, at, frozenset(live[root])


def said_by(rows):
    numbers = [number for number, _ in rows]
    return len(numbers), sum(numbers), sum(each * each for each in numbers)


def judged(truth, place):
    """What was read, and how much of it was wrong."""
    found, wrong = {}, []
    commits = [(at, said_by(rows), rows) for at, rows in ((at, truth.of_commit(where)) for at, where in truth.commits)]
    for (_, _, before), (at, _, rows) in pairwise(commits):
        if len({*rows}) != len(rows):
            wrong.append(f"a commit at {at} has a message twice")
        if lost := {row for row in {*before} - {*rows} if row[1] not in truth.erased}:
            wrong.append(f"a commit at {at} lacks {len(lost)} messages that were there")
    instants = [at for at, *_ in commits]
    for name in THROUGH:
        reads = Counter()
        for begun, ended, answer in place.noted(f"read by {name}"):
            # A commit is noted within its transaction, a moment before others see it.
            first = max(0, bisect_right(instants, begun - 0.5) - 1)
            right = {commits[each][1] for each in range(first, bisect_right(instants, ended))}
            kind = "error" if isinstance(answer, str) else "right" if tuple(answer) in right else "wrong"
            reads[kind] += 1
            if kind != "right":
                wrong.append(f"{name} at {begun}: {answer}")
        found[name] = dict(reads)
    found["glob"] = dict(by_folders(truth, place, wrong))
    return found, len(commits), wrong


def by_folders(truth, place, wrong):
    states = {}
    for root, at, parts in truth.states():
        rows = [row for part in parts for row in truth.part(part)]
        states.setdefault(root, []).append((at, said_by(rows), len({*rows}) < len(rows)))
    reads = Counter()
    for begun, ended, answer in place.noted("read by glob"):
        if isinstance(answer, str):
            gone = "404" in answer or "NoSuchKey" in answer
            reads["a part ended meanwhile" if gone else "error"] += 1
            wrong += [] if gone else [f"glob at {begun}: {answer}"]
            continue
        *figures, root = answer
        of_root = states["/" + root.removeprefix("s3://")]
        instants = [at for at, *_ in of_root]
        first = max(0, bisect_right(instants, begun) - 1)
        seen = {said: doubled for _, said, doubled in of_root[first : bisect_right(instants, ended)]}
        said = tuple(figures)
        kind = "wrong" if said not in seen else "doubled" if seen[said] else "right"
        reads[kind] += 1
        wrong += [f"glob at {begun}: {answer}"] if kind == "wrong" else []
    return reads


def soak(reads, seed, folder):
    chance, bucket = random.Random(seed), Kept()
    server = Server(bucket, 0, 0, 0)
    threading.Thread(target=server.serve, daemon=True).start()
    rest = ThreadingHTTPServer(("127.0.0.1", 0), Rest)
    rest.database, rest.bucket = folder / "catalog.db", bucket
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    place = Place(
        folder, f"http://127.0.0.1:{server.listener.getsockname()[1]}", f"http://127.0.0.1:{rest.server_port}"
    )
    begin(place, chance)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__ if __name__ != "__main__" else "benchmarks.iceberg_soak"])
    readers = [context.Process(target=read, args=(place, name, random.Random(name))) for name in READERS]
    for reader in readers:
        reader.start()
    busy, kills, gone, begun = {}, Counter(), Counter(), time.monotonic()
    while sum(lines(place, name) for name in THROUGH) < reads and all(each.is_alive() for each in readers):
        for name in WRITERS:
            if name not in busy or not busy[name].is_alive():
                gone[name] += name in busy
                busy[name] = context.Process(target=write, args=(place, name, chance.random()))
                busy[name].start()
        time.sleep(0.5 + chance.random())
        victim = chance.choice([*WRITERS])
        if busy[victim].is_alive():
            busy[victim].kill()
            busy[victim].join()
            kills[victim.split(" ")[0]] += 1
    (folder / "over").touch()
    for reader in readers:
        reader.join()
    for each in busy.values():
        each.kill()
        each.join()
    figures = {"seconds": round(time.monotonic() - begun), "kills": dict(kills)}
    return place, bucket, figures


def lines(place, name):
    path = place.folder / f"read by {name}"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def begin(place, chance):
    """A lake with some messages, its table, and a catalog that notes each commit."""
    tables, raw = place.tables, S3Store(place.aws, FLEET.bucket)
    for hour in HOURS:
        for number in range(20):
            said = {"serial": chance.choice(VEHICLES), "n": chance.randrange(1, 2**31)}
            raw.put_new(RULE.raw_key(RawName(hour.start_ms + number, str(uuid4()))), json.dumps(said).encode())
        compact_hour(raw, tables.lake(), RULE, hour)
    sync(tables, RULE)
    with sqlite3.connect(place.database) as catalog:
        now = "(julianday('now') - 2440587.5) * 86400.0"
        catalog.execute("CREATE TABLE commits (at REAL, location TEXT)")
        catalog.execute(f"INSERT INTO commits SELECT {now}, metadata_location FROM iceberg_tables")
        catalog.execute(
            "CREATE TRIGGER noted AFTER UPDATE ON iceberg_tables BEGIN "
            f"INSERT INTO commits VALUES ({now}, NEW.metadata_location); END"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reads", type=int, default=5000, help="through Iceberg; those by glob come on top")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        place, bucket, figures = soak(given.reads, given.seed, Path(text))
        truth = Truth(
            bucket, sqlite3.connect(place.database).execute("SELECT * FROM commits ORDER BY rowid").fetchall()
        )
        truth.erased = {vehicle for vehicle, _ in place.noted("erasures")}
        reads, commits, wrong = judged(truth, place)
        wrong += ended_right(place, bucket, truth)
        wrong += [f"a reader ended: {name}" for name in READERS if not reads[name]]
        if (through := sum(sum(reads[name].values()) for name in THROUGH)) < given.reads:
            wrong.append(f"{through} reads are fewer than were asked for")
        stopped = place.noted("stopped")
        wrong += [f"{name} stopped: {why}" for name, retryable, why in stopped if not retryable]
        figures |= {
            "reads": reads,
            "all reads": sum(sum(each.values()) for each in reads.values()),
            "commits": commits,
            "rewrites": len(place.noted("rewrites")),
            "vehicles erased": len({vehicle for vehicle, is_end in place.noted("erasures") if is_end}),
            "messages": sum(path.startswith(f"/{FLEET.bucket}/") for path in bucket.ever),
            "writers that gave up, to be tried again": Counter(
                name.split(" ")[0] for name, again, _ in stopped if again
            ),
            "wrong": len(wrong),
        }
        print(json.dumps(figures))
        for each in wrong[:40]:
            print(each, file=sys.stderr)
        sys.exit(bool(wrong))


def ended_right(place, bucket, truth):
    """Once all have ended: the lake has each message of those that were not erased, once, and the table is the lake."""
    tables, raw = place.tables, S3Store(place.aws, FLEET.bucket)
    last = max(place.noted("erasures"), key=lambda each: VEHICLES.index(each[0]))[0]
    store = S3Store(place.aws, FLEET.lake_bucket)
    places = Places(FLEET, raw, store, tables.lake(), Snapshots(tables))
    erase(places, last, datetime.now(UTC), by="soak", every_hour=True)
    lake = tables.lake()
    for hour in HOURS:
        compact_hour(raw, lake, RULE, hour)
    sync(tables, RULE)
    sent = Counter()
    for path, body in bucket.ever.items():
        if RULE.parse_raw_key(path.removeprefix(f"/{FLEET.bucket}/")):
            said = json.loads(body)
            sent[said["n"], said["serial"]] += said["serial"] not in truth.erased
    held = Counter(
        row
        for parts in lake.all_parts(RULE).values()
        for part in parts
        for row in truth.part(f"/{FLEET.lake_bucket}/{part.key}")
    )
    said = [f"{(held - sent).total()} rows too many", f"{(sent - held).total()} rows too few"]
    wrong = [text for text in said if not text.startswith("0 ")]
    wrong += compare(tables, RULE).differences
    for vehicle in sorted(truth.erased):
        where = [path for path, body in bucket.objects.items() if vehicle.encode() in body and FOLDER not in path]
        wrong += [f"{vehicle} is found in {path}" for path in where if path.startswith(f"/{FLEET.lake_bucket}/")]
    return wrong


if __name__ == "__main__":
    main()
