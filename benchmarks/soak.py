"""The long forms of what the tests do briefly. Each prints what it did, and fails with the first thing that is wrong.

python benchmarks/soak.py kills      100,000 versions, three writers, 200 kills, faults all along: 0 lost, 0 doubled, 0
altered
python benchmarks/soak.py siege      compaction, rewrite, purge and looks beside readers, 200 kills at requests and
moments: 0 wrong
python benchmarks/soak.py readers    10,000 reads by pyarrow and DuckDB while parts are added: 0 wrong
python benchmarks/soak.py fuzz       200,000 spoilt messages: each has a status, and columns and `_extra` together are
the message
python benchmarks/soak.py cluster    300 hours of 1,000 versions over a Dask scheduler and two workers; a worker is
killed every 10 to 15 s, the scheduler three times: 0 lost, 0 doubled, 0 altered
"""

import argparse
import io
import json
import random
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

_ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(_ROOT / place) for place in ("", "tests/lake", "tests/helpers")]

import pyarrow.parquet as pq
from dask_cluster import free_port, on, scheduler, worker
from test_compaction_faults import soak
from test_compaction_hostile import HOSTILE, _flat, _holds
from test_compaction_processes import Siege
from test_compaction_readers import reads_during_commits, with_duckdb, with_pyarrow

from benchmarks.contenders import ACCOUNT, REGION
from benchmarks.messages import BUCKET, HOUR, LAKE, RULE, messages
from benchmarks.run import server
from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.lake.columns import Sheet
from fleet_pipeline.lake.contract import Contract
from fleet_pipeline.lake.operations.compact import Compaction, compact_hours
from fleet_pipeline.lake.payload import judged
from fleet_pipeline.model.errors import EngineUnreachable, FleetError
from fleet_pipeline.model.hour import Hour


def kills():
    return soak(versions=100_000, kills=200, chance=0.002, seed=1)


def siege():
    figures = Siege(seed=1, chance=0.01).run(kills=200, versions=1000)
    assert figures["wrong"] == []
    return figures


def readers():
    totals = {"reads": 0, "wrong": 0, "states": 0}
    while totals["reads"] < 10_000:
        for read in (with_pyarrow, with_duckdb):
            with tempfile.TemporaryDirectory() as folder:
                for name, figure in reads_during_commits(read, Path(folder), commits=15).items():
                    totals[name] += figure
    assert totals["wrong"] == 0
    return totals


def fuzz():
    chance = random.Random(1)
    corpus = [payload for payload, _ in HOSTILE.values() if len(payload) < 1000]
    corpus += [
        json.dumps({"speed": 12.5, "position": {"lat": 1, "lon": None}, "codes": ["a", 1], "at": "10:00"}).encode()
    ] * len(corpus)
    statuses = {}
    contract = Contract()
    for _ in range(200_000 // 500):
        payloads = [_spoilt(chance, chance.choice(corpus)) for _ in range(500)]
        sheet, judgements = Sheet(contract, 500), [judged(payload) for payload in payloads]
        for status in sheet.write(judgements):
            statuses[status] = statuses.get(status, 0) + 1
        arrays = {column.path: array.to_pylist() for column, array in sheet.arrays()}
        for row, (_, message) in enumerate(judgements):
            aside = _flat(sheet.aside.get(row, {}))
            for path, value in _flat(message).items():
                assert _holds(aside.get(path, arrays.get(path, [None] * 500)[row]), value), payloads[row]
    return statuses


def _spoilt(chance, payload):
    spoilt = bytearray(payload)
    for _ in range(chance.randrange(4)):
        place = chance.randrange(len(spoilt) + 1)
        match chance.randrange(3):
            case 0:
                spoilt[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                spoilt[place:place] = chance.choice(
                    [b"{", b"}", b"[", b"]", b'"', b":", b",", b"null", b"1e9", b"-", b"\\u0061", b'"a":']
                )
            case 2:
                del spoilt[place : place + chance.randrange(8)]
    return bytes(spoilt)


HOURS = 300
VERSIONS = 1000
"""Versions of each of the hours that a cluster is given."""

LATENCY_MS = 40
"""Milliseconds that S3 takes for an answer here: without them the hours are done before anybody is killed."""

RESTARTS = 3
"""How often the scheduler is killed; not before a worker was, after the one before it."""

KILL_S = (10, 15)
"""Seconds between two kills."""


class Mortal(threading.Thread):
    """A scheduler and two workers that are killed over and over, each started anew as a supervisor would: at once."""

    def __init__(self, seed):
        super().__init__()
        self.draw, self.port, self.ended = random.Random(seed), free_port(), threading.Event()
        self.figures, self.starts_s = Counter(), []

    def run(self):
        with ExitStack() as self.stack:
            self.scheduler, self.workers = self.stack.enter_context(scheduler(self.port)), [self.started()]
            self.workers.append(self.started())
            due = time.monotonic() + self.draw.uniform(*KILL_S)
            while not self.ended.wait(0.1):
                if time.monotonic() > due:
                    self.kill()
                    due = time.monotonic() + self.draw.uniform(*KILL_S)
                self.workers = [each if each.poll() is None else self.started() for each in self.workers]

    def started(self):
        begun = time.monotonic()
        new = self.stack.enter_context(worker(self.port))
        self.starts_s.append(round(time.monotonic() - begun, 1))
        return new

    def kill(self):
        """Every third is the scheduler, until it was killed often enough; its workers end by themselves."""
        number = self.figures["worker kills"] + self.figures["scheduler kills"]
        if number % 3 == 2 and self.figures["scheduler kills"] < RESTARTS:
            self.figures["scheduler kills"] += 1
            self.scheduler.kill()
            self.scheduler.wait()
            self.scheduler = self.stack.enter_context(scheduler(self.port))
        else:
            self.figures["worker kills"] += 1
            self.draw.choice(self.workers).kill()


def cluster():
    every = [Hour(HOUR.start + timedelta(hours=number)) for number in range(HOURS)]
    with server(HOURS * VERSIONS, dirty=True, hours=HOURS, latency_ms=LATENCY_MS) as url:
        (cluster := Mortal(seed=1)).start()
        try:
            figures = until_done(Compaction(Aws(REGION, ACCOUNT, url), BUCKET, LAKE, "lake", RULE), every, cluster)
        finally:
            cluster.ended.set()
            cluster.join()
        figures |= {**cluster.figures, "slowest start of a worker, s": max(cluster.starts_s)}
        sent = Counter(messages(HOURS * VERSIONS, dirty=True, hours=HOURS))
        versions, held = read_parts(url)
        written = len(parts(url))
    figures |= {
        "versions": sent.total(),
        "lost": (sent - held).total(),
        "doubled": versions.total() - len(versions),
        "altered": len({key for key, _ in held - sent} & {key for key, _ in sent}),
        "parts": written,
    }
    assert held == sent, figures
    assert set(versions.values()) == {1}, figures
    assert figures["scheduler kills"] == RESTARTS, figures
    return figures


def until_done(compaction, hours, cluster):
    """Compact what is due, over and over, as the schedule does; return how often, and why hours were due again."""
    figures, due = Counter(), list(hours)
    while due:
        assert cluster.is_alive(), "what kills and starts anew has failed"
        figures["runs"] += 1
        try:
            for hour, outcome in compact_hours(compaction, due.copy(), on=on(cluster.port)):
                if isinstance(outcome, FleetError):
                    figures[type(outcome).__name__] += 1
                    continue
                assert outcome.complete
                due.remove(hour)
        except EngineUnreachable:
            figures["EngineUnreachable"] += 1
    return dict(figures)


def read_parts(url):
    """Return how often each version is in the lake, and each message with its payload, as pyarrow reads them."""
    versions, held = Counter(), Counter()
    for part in parts(url):
        body = urllib.request.urlopen(f"{url}/{LAKE}/{part}").read()
        table = pq.read_table(io.BytesIO(body), columns=["_key", "_version", "_payload"])
        keys, payloads = table["_key"].to_pylist(), table["_payload"].to_pylist()
        versions.update(zip(keys, table["_version"].to_pylist(), strict=True))
        held.update(zip(keys, payloads, strict=True))
    return versions, held


def parts(url):
    """Return every part there is, by boto3's paginator."""
    pages = Aws(REGION, ACCOUNT, url).s3.get_paginator("list_objects_v2").paginate(Bucket=LAKE)
    return [each["Key"] for page in pages for each in page.get("Contents", ()) if each["Key"].endswith(".parquet")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    forms = {"kills": kills, "siege": siege, "readers": readers, "fuzz": fuzz, "cluster": cluster}
    parser.add_argument("form", choices=forms)
    form = parser.parse_args().form
    started = time.monotonic()
    print(form, forms[form](), f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
