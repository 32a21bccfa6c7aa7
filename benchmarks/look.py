"""A look at one long hour all of whose messages are rows: how long it takes, and what memory.

    python benchmarks/look.py [--objects 36000000] [--processes 2]

The server makes the listing up as it is asked, so that the hour needs no memory. The lake's side is one part whose
footer says what the parts of such an hour say together. Prints a line of JSON. A look is due every ten minutes.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.contenders import ACCOUNT, REGION
from benchmarks.messages import BUCKET, HOUR, LAKE, RULE
from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.aws.store import ObjectVersion
from fleet_pipeline.lake.checksums import add_checksums
from fleet_pipeline.lake.contract import Contract
from fleet_pipeline.lake.operations.compact import Compaction
from fleet_pipeline.lake.operations.look import look_at_hours
from fleet_pipeline.lake.reading import FOOTER
from fleet_pipeline.lake.rows import identity, row_schema

PAGE = 1000
TAIL = "-1111-4111-8111-111111111111"
HOUR_MS = 3_600_000


class Made:
    """The raw objects of an hour, as many as wanted, each made up from its number."""

    def __init__(self, objects):
        self.objects, self.prefix = objects, RULE.raw_prefix

    def key(self, number):
        """The key of an object; keys go with the number."""
        millis, within = HOUR.start_ms + number * HOUR_MS // self.objects, number % 0x1000_0000
        return f"{self.prefix}{millis}-{within:08x}{TAIL}"

    def version(self, number):
        """The id of its only version."""
        return f"{number:032x}"

    def first_after(self, marker):
        """The number of the first object behind a key."""
        low, high = 0, self.objects
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.key(middle) <= marker else (low, middle)
        return low

    def page(self, prefix, marker):
        """A page of the listing."""
        first = self.first_after(max(marker, prefix[:-1] if prefix > self.prefix else ""))
        numbers = range(first, min(first + PAGE, self.objects)) if self.prefix.startswith(prefix) else ()
        entries = "".join(
            f"<Version><Key>{self.key(number)}</Key><VersionId>{self.version(number)}</VersionId>"
            "<IsLatest>true</IsLatest><LastModified>2026-11-23T11:00:00.000Z</LastModified>"
            f'<ETag>"{number:032x}"</ETag><Size>300</Size></Version>'
            for number in numbers
        )
        return entries, bool(numbers) and numbers[-1] + 1 < self.objects and self.key(numbers[-1])


class Handler(BaseHTTPRequestHandler):
    """Lists both buckets, and reads and writes the lake's."""

    protocol_version = "HTTP/1.1"
    made, lake = None, {}

    def do_GET(self):
        url = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        path = unquote(url.path).removeprefix("/")
        if "versions" not in asked:
            start, stop = self.headers["range"].removeprefix("bytes=").split("-")
            body = self.lake[path.removeprefix(f"{LAKE}/")]
            self._answer(206, body[int(start) : int(stop) + 1], f"bytes {start}-{stop}/{len(body)}")
            return
        entries, more = "", False
        if "delimiter" not in asked and path.startswith(f"{BUCKET}/"):
            entries, more = self.made.page(asked["prefix"], asked.get("key-marker", ""))
        elif path.startswith(f"{LAKE}/"):
            entries = "".join(
                f"<Version><Key>{key}</Key><VersionId>null</VersionId><IsLatest>true</IsLatest>"
                f'<LastModified>2026-11-23T11:00:00.000Z</LastModified><ETag>"x"</ETag><Size>{len(body)}</Size></Version>'
                for key, body in sorted(self.lake.items())
                if key.startswith(asked["prefix"])
            )
        following = f"<NextKeyMarker>{more}</NextKeyMarker>" if more else ""
        page = f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>{following}{entries}"
        self._answer(200, f"<ListVersionsResult>{page}</ListVersionsResult>".encode())

    def do_PUT(self):
        key, body = unquote(self.path).removeprefix(f"/{LAKE}/"), self.rfile.read(int(self.headers["content-length"]))
        taken = key in self.lake
        self.lake.setdefault(key, body)
        self._answer(412 if taken else 200, b"")

    def _answer(self, status, body, content_range=""):
        self.send_response(status)
        self.send_header("ETag", '"x"')
        if content_range:
            self.send_header("Content-Range", content_range)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing of each request."""


def serve(objects, ports):
    """Serve until the process is ended."""
    Handler.made = Made(objects)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        ports.put(server.server_port)
        server.serve_forever()


def put_part(store, lake, objects):
    """Have the hour's rows said by one part: their number, and the sum of their identities."""
    made = Made(objects)
    total = sum(
        int(identity(ObjectVersion(made.key(number), made.version(number), 300, "", "", latest=True)), 16)
        for number in range(objects)
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "part"
        schema = row_schema(Contract())
        row = {"_key": made.key(0), "_version": f"{0:016x}", "_status": "ok"}
        table = pa.table({field.name: pa.array([row.get(field.name)], field.type) for field in schema}, schema)
        facts = {"rule": RULE.key, "hour": HOUR.partition_key, "contract": -1}
        facts |= {"rows": objects, "versions": objects, "fingerprint": total}
        with pq.ParquetWriter(file, schema, write_page_checksum=True) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({FOOTER: json.dumps(facts)})
        add_checksums(file)
        store.put_new(lake.part_key(RULE, HOUR, 0), file)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=36_000_000)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    ports = spawn.Queue()
    server = spawn.Process(target=serve, args=(arguments.objects, ports), daemon=True)
    server.start()
    try:
        url = f"http://127.0.0.1:{ports.get()}"
        compaction = Compaction(Aws(REGION, ACCOUNT, url), BUCKET, LAKE, "lake", RULE)
        with compaction.opened() as (_, lake):
            put_part(lake.store, lake, arguments.objects)
        begun = time.monotonic()
        [(_, seen)] = look_at_hours(compaction, [HOUR], processes=arguments.processes)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        figures = {"objects": arguments.objects, "s": round(time.monotonic() - begun, 1)}
        cpu = {"cpu_s": round(used.ru_utime + used.ru_stime, 1), "peak_mb_each": used.ru_maxrss // 1024}
        print(json.dumps(figures | cpu | {"versions": seen.versions, "uncompacted": seen.uncompacted}))
    finally:
        server.kill()


if __name__ == "__main__":
    main()
