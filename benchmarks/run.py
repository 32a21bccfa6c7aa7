"""The race: every contender on the same loopback S3, one after the other; completeness checked, figures kept.

    python benchmarks/run.py [--objects 100000] [--million] [--only fleet_pipeline ...] [--write]
    python benchmarks/run.py --history       what an hour costs below a prefix with 0, 1 and 10 million older keys
    python benchmarks/run.py --week          a week of hours by one process and by two

Server and contender have a core each where there are two. `--write` renews results.json, the plot and
docs/benchmarks.md.
"""

import argparse
import io
import json
import os
import platform
import resource
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import report
from benchmarks.contenders import ACCOUNT, CONTENDERS, REGION
from benchmarks.messages import BUCKET, HOUR, LAKE, RULE, messages
from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.lake.operations.compact import Compaction, compact_hours
from fleet_pipeline.model.hour import Hour

HERE = Path(__file__).parent
LIMIT_S = 900
WEEK = 7 * 24
SLOW = {"boto3_threads": 20_000, "duckdb_read_json": 20_000, "pyarrow_s3": 20_000, "obstore_asyncio": 50_000}
"""Contenders that are given fewer objects; their CPU seconds grow in step with the objects."""

COMPILED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""The environment of contenders: Python may keep compiled modules, as it does wherever it is installed to stay."""


@contextmanager
def server(objects, *, dirty, **others):
    """A loopback S3 that holds the messages, on the last core."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    chosen = {"port": port, "objects": objects} | {name.replace("_", "-"): value for name, value in others.items()}
    command = [
        sys.executable,
        HERE / "s3_server.py",
        *(text for name, value in chosen.items() for text in (f"--{name}", str(value))),
    ]
    with _pinned(-1):
        process = subprocess.Popen([*command, *(["--dirty"] if dirty else [])], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        yield f"http://127.0.0.1:{port}"
    finally:
        # it keeps nothing; SIGTERM is ignored by whatever a shell has started in the background below Dagster
        process.kill()
        process.wait()
        process.stdout.close()


def race(name, url, objects, *, dirty, script=HERE / "contenders.py"):
    """One contender's figures; what stopped it, if it did not finish."""
    with tempfile.TemporaryDirectory() as folder:
        figures = {"contender": name, "data": "dirty" if dirty else "clean", "objects": objects, "probe_s": probe()}
        command = [sys.executable, script, name, url, folder]
        try:
            with _pinned(0):
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=LIMIT_S, check=True, env=COMPILED
                )
        except subprocess.CalledProcessError as error:
            return figures | {
                "complete": False,
                "stopped_by": (error.stderr.strip().splitlines() or [f"signal {-error.returncode}"])[-1][:200],
            }
        except subprocess.TimeoutExpired:
            return figures | {"complete": False, "stopped_by": f"not done after {LIMIT_S} s"}
        used = json.loads(done.stdout.splitlines()[-1])
        tables = [_sequences(io.BytesIO(urllib.request.urlopen(part).read())) for part in used["urls"]] or [
            _sequences(f"{folder}/rows.parquet")
        ]
        return figures | {
            "cpu_s_per_100k": round(used["cpu_s"] / objects * 100_000, 2),
            "wall_s": round(used["wall_s"], 2),
            "peak_mb": round(used["peak_mb"]),
            "objects_per_s": round(objects / used["wall_s"]),
            "complete": complete(tables, objects, dirty=dirty),
        }


def complete(tables, objects, *, dirty):
    """Whether every message is a row, and every sequence number that can be read is there once."""
    expected = 0
    for _, payload in messages(objects, dirty=dirty):
        expected += isinstance(_read(payload), dict)
    sequences = pa.chunked_array([chunk.cast(pa.int64()) for table in tables for chunk in table["sequence"].chunks])
    once = pc.count_distinct(sequences, mode="only_valid").as_py()
    return (
        sum(table.num_rows for table in tables) == objects and once == len(sequences) - sequences.null_count == expected
    )


def _sequences(part):
    return pq.read_table(part, columns=["sequence"])


def _read(payload):
    try:
        return json.loads(payload)
    except ValueError:
        return None


def probe():
    """CPU seconds of a fixed piece of Python: how fast the machine is just now. Shared cores vary by 1.7."""
    started = time.process_time()
    sum(number * number for number in range(2_000_000))
    return round(time.process_time() - started, 3)


@contextmanager
def _pinned(core):
    """What is started meanwhile runs on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(cores)[core]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def machine():
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "?",
    )
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def versions():
    return {name: version(name) for name in ("pycurl", "msgspec", "pyarrow", "obstore", "polars", "duckdb", "boto3")}


def history(objects):
    """Print an hour's figures below a prefix that has gathered ever more before it."""
    for older in (0, 1_000_000, 10_000_000):
        with server(objects, dirty=False, older=older) as url:
            for _ in range(3):
                print(json.dumps({"older_keys": older} | race("fleet_pipeline", url, objects, dirty=False)), flush=True)


def week(objects):
    """Print the figures of a week of hours, by one process and by two, which share the cores with the server."""
    hours = [Hour(HOUR.start + timedelta(hours=number)) for number in range(WEEK)]
    for processes in (1, 2, 1, 2):
        with server(objects, dirty=False, hours=WEEK) as url:
            started, used = time.monotonic(), cpu_of_children()
            work = Compaction(Aws(REGION, ACCOUNT, url), BUCKET, LAKE, "lake", RULE)
            rows = sum(outcome.rows for _, outcome in compact_hours(work, hours, processes=processes))
            wall, used = time.monotonic() - started, cpu_of_children() - used
        print(
            json.dumps(
                {
                    "processes": processes,
                    "objects": objects,
                    "complete": rows == objects,
                    "wall_s": round(wall, 1),
                    "cpu_s": round(used, 1),
                }
            ),
            flush=True,
        )


def cpu_of_children():
    """CPU seconds of the processes that have ended by now."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--history", action="store_true")
    parser.add_argument("--week", action="store_true")
    arguments = parser.parse_args()
    if arguments.history:
        history(arguments.objects)
    elif arguments.week:
        week(arguments.objects)
    else:
        race_all(arguments)


def race_all(arguments):
    """Run the race and keep its figures where that is wanted."""
    runs = []

    def note(run):
        runs.append(run)
        print(json.dumps(run), flush=True)

    for name in arguments.only:
        with server(1000, dirty=False) as url:
            race(name, url, 1000, dirty=False)  # a first run compiles what it imports
    share = {name: min(arguments.objects, SLOW.get(name, arguments.objects)) for name in arguments.only}
    for dirty in (False, True):
        for objects in sorted(set(share.values())):
            with server(objects, dirty=dirty) as url:
                for name in arguments.only:
                    if share[name] == objects:
                        note(race(name, url, objects, dirty=dirty))
    if "fleet_pipeline" in arguments.only:
        with server(arguments.objects, dirty=True, latency_ms=20) as url:
            note(
                race("fleet_pipeline", url, arguments.objects, dirty=True)
                | {"data": "dirty, 20 ms added to every answer"}
            )
        with server(arguments.objects, dirty=True, latency_ms=20, page_latency_ms=150) as url:
            note(
                race("fleet_pipeline", url, arguments.objects, dirty=True)
                | {"data": "dirty, 20 ms added to every answer, 150 ms to every page"}
            )
        for dirty in (False, True) if arguments.million else ():
            with server(1_000_000, dirty=dirty) as url:
                note(race("fleet_pipeline", url, 1_000_000, dirty=dirty))
    if arguments.write:
        report.write(
            {
                "date": time.strftime("%Y-%m-%d", time.gmtime()),
                "machine": machine(),
                "versions": versions(),
                "runs": runs,
            }
        )


if __name__ == "__main__":
    main()
