"""What shards are worth: a loopback S3 that enforces requests a second by prefix, written to and compacted from.

    python benchmarks/shards.py [--messages 40000] [--slower 10] [--shards 1 16 256] [--processes 4]

S3 takes 3,500 PUT and hands out 5,500 GET a second under one prefix; here both are divided by `--slower`, since this
machine is none of the fleets that would need them, and an answer to a GET takes as many times longer: so as many
are in flight at the limit as at S3's. What lies in no shard is one prefix, each shard another, as when S3
has split them; when S3 does so is not modelled. What is too much is answered with 503 (SlowDown), and asked for again.
Prints, for each number of shards, the objects written a second, the objects that a compaction got a second between its
first GET and its last, how long it took, and the share of requests that were refused.
"""

import argparse
import http.client
import json
import random
import re
import subprocess
import sys
import time
from bisect import bisect_left, insort
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from heapq import heappush
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import escape

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.contenders import ACCOUNT, REGION
from benchmarks.messages import BUCKET, HOUR, LAKE, messages
from benchmarks.s3_server import Bucket, Server, _response
from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.lake.operations.compact import Compaction, compact_hours
from fleet_pipeline.model.rule import Rule
from fleet_pipeline.model.rule_table import RuleTable

PUTS_S, GETS_S = 3_500, 5_500
"""Source: Amazon S3 User Guide, optimizing-performance."""

ANSWER_S = 0.03
"""How long S3 takes to answer a GET, about."""

BURST_S = 0.1
"""How much of a second's requests may come at once."""

WRITERS = 64
"""Threads that write: as AWS IoT, they offer more than one prefix takes."""

PREFIX = re.compile(rf"/{BUCKET}/test-rule/rule1/(?:shards/[0-9a-f]+/)?")
SLOW_DOWN = _response(
    "503 Slow Down", b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)


class Folders(Bucket):
    """Objects that come one by one, and whose folders are listed."""

    def put(self, path, body):
        if path in self.objects:
            return False
        self.objects[path] = body
        insort(self.keys, path)
        return True

    def page(self, path, query):
        if query.get("delimiter") != "/":
            return super().page(path, query)
        root = path.rstrip("/") + "/"
        prefix = root + query["prefix"]
        start, end = bisect_left(self.keys, prefix), bisect_left(self.keys, prefix + "\U0010ffff")
        names = (key[len(prefix) :].partition("/") for key in self.keys[start:end])
        folders = [query["prefix"] + name for name, _ in groupby(first + slash for first, slash, _ in names if slash)]
        found = "".join(f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in folders)
        return f"<ListVersionsResult><IsTruncated>false</IsTruncated>{found}</ListVersionsResult>".encode()


class Limited(Server):
    """A server that refuses more PUT and GET a second under one prefix than it is told, and says what it did."""

    def __init__(self, port, slower):
        super().__init__(Folders({}), port, 0, ANSWER_S)
        self.get_latency_s = ANSWER_S * slower
        self.rates = {b"PUT": PUTS_S / slower, b"GET": GETS_S / slower}
        self.left, self.said = {}, {}
        """What may come at once under a prefix, and since when; what was granted and refused, and when."""

    def _answer(self, fileno, head, body):
        method, target, _ = head.split(b" ", 2)
        self.latency_s = 0 if method == b"PUT" else self.get_latency_s
        if target == b"/said":
            self._send(fileno, _response("200 OK", json.dumps(self.said).encode()))
            self.said = {}
        elif (prefix := PREFIX.match(target.decode())) and not self._grants(method, prefix[0]):
            heappush(self.delayed, (time.monotonic() + self.latency_s, fileno, SLOW_DOWN))
        else:
            super()._answer(fileno, head, body)

    def _grants(self, method, prefix):
        rate, now = self.rates[method], time.monotonic()
        left, since = self.left.get((method, prefix), (rate * BURST_S, now))
        left = min(rate * BURST_S, left + (now - since) * rate)
        granted = left >= 1
        self.left[method, prefix] = (left - granted, now)
        said = self.said.setdefault(method.decode(), {"granted": 0, "refused": 0, "first": now})
        said["granted" if granted else "refused"] += 1
        said["last"] = now
        return granted


@contextmanager
def server(slower):
    """A process of its own that serves; yields its port."""
    command = [sys.executable, __file__, "--serve", "--slower", str(slower)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def said(port):
    """Return what was granted and refused since the last time."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/said")
    return json.loads(connection.getresponse().read())


def write(port, found):
    """Write objects as AWS IoT would, each until it is taken."""
    connection, chance = http.client.HTTPConnection("127.0.0.1", port), random.Random(port)
    for key, payload in found:
        while True:
            connection.request("PUT", f"/{BUCKET}/{key}", payload)
            answer = connection.getresponse()
            answer.read()
            if answer.status == http.HTTPStatus.OK:
                break
            time.sleep(chance.uniform(0.05, 0.15))


def measured(count, shards, slower, processes):
    """Return what writing and compacting a count of messages took."""
    rule, chance = Rule("test-rule", "rule1", RuleTable(key="rule1", shards=shards)), random.Random(shards)
    digits = {1: 0, 16: 1, 256: 2}[shards]
    found = [
        (key.replace(rule.raw_prefix, rule.shard_prefix(f"{chance.randrange(256):02x}"[:digits])), payload)
        for key, payload in messages(count, dirty=False)
    ]
    with server(slower) as port:
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(lambda place: write(port, found[place::WRITERS]), range(WRITERS)))
        puts = said(port)["PUT"]
        aws = Aws(REGION, ACCOUNT, f"http://127.0.0.1:{port}")
        span = -(-count // processes)
        work = replace(Compaction(aws, BUCKET, LAKE, "lake", rule), span_versions=span)
        begun = time.monotonic()
        ((_, done),) = compact_hours(work, [HOUR], processes=processes)
        seconds = time.monotonic() - begun
        gets = said(port)["GET"]
    if isinstance(done, Exception):
        raise done
    if (done.complete, done.rows, puts["granted"]) != (True, count, count) or gets["granted"] < count:
        raise AssertionError((done, gets, puts))
    return {
        "shards": shards,
        "put_s": count / (puts["last"] - puts["first"]),
        "puts_refused": puts["refused"] / (count + puts["refused"]),
        "get_s": count / (gets["last"] - gets["first"]),
        "gets_refused": gets["refused"] / (count + gets["refused"]),
        "compacted_s": seconds,
        "parts": len(done.parts_added),
        "lists": done.list_requests,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=40_000)
    parser.add_argument("--slower", type=float, default=10)
    parser.add_argument("--shards", type=int, nargs="*", default=[1, 16, 256])
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        serving = Limited(0, chosen.slower)
        print(serving.listener.getsockname()[1], flush=True)
        serving.serve()
    print(
        f"Limits: {PUTS_S / chosen.slower:.0f} PUT and {GETS_S / chosen.slower:.0f} GET a second and prefix\n\n"
        "| shards | written a second | refused | got a second | refused | compacted in | LIST |\n"
        "|---|---|---|---|---|---|---|"
    )
    for shards in chosen.shards:
        run = measured(chosen.messages, shards, chosen.slower, chosen.processes)
        print(
            f"| {shards} | {run['put_s']:,.0f} | {run['puts_refused']:.0%} | {run['get_s']:,.0f} | "
            f"{run['gets_refused']:.0%} | {run['compacted_s']:.1f} s | {run['lists']} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
