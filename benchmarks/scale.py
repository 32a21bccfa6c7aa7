"""One long hour over the workers of a Dask cluster: how it scales, what each worker takes, and what kills cost.

    python benchmarks/scale.py [--objects 2000000] [--workers 1 2 4] [--kills]

The scheduler and each worker are processes of their own, as on machines of their own; here they share the cores with
the server of objects. `--kills` ends a worker with SIGKILL every few seconds, and starts another. Prints a line of JSON
for each cluster.
"""

import argparse
import json
import signal
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "helpers")]

import psutil
from dask_cluster import free_port, on, scheduler, worker

from benchmarks.contenders import ACCOUNT, REGION
from benchmarks.messages import BUCKET, HOUR, LAKE, RULE
from benchmarks.run import probe, server
from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.lake.operations.compact import Compaction, compact_hours
from fleet_pipeline.lake.operations.verify import verify_hour

KILL_EVERY_S = 4.0


class Watched:
    """A worker's process: CPU seconds and the most memory, as they were seen last."""

    def __init__(self, process):
        self.process, self.cpu_s, self.peak_mb = process, 0.0, 0

    def look(self):
        with suppress(OSError, psutil.Error, IndexError):  # it was killed
            times = psutil.Process(self.process.pid).cpu_times()
            self.cpu_s = times.user + times.system
            status = Path(f"/proc/{self.process.pid}/status").read_text()
            self.peak_mb = int(status.partition("VmHWM:")[2].split()[0]) // 1024


def cluster(objects, workers, span, *, kills):
    """Compact an hour of so many messages, and print what it took."""
    with ExitStack() as stack:
        url = stack.enter_context(server(objects, dirty=False))
        stack.enter_context(scheduler(port := free_port()))
        watched = [Watched(stack.enter_context(worker(port))) for _ in range(workers)]
        for each in watched:
            each.look()
        idle, ended, killed = sum(each.cpu_s for each in watched), threading.Event(), 0

        def watch():
            nonlocal killed, idle
            next_kill = time.monotonic() + KILL_EVERY_S
            while not ended.wait(0.1):
                for each in watched:
                    each.look()
                if kills and time.monotonic() > next_kill:
                    next(each for each in watched if each.process.poll() is None).process.send_signal(signal.SIGKILL)
                    killed, next_kill = killed + 1, time.monotonic() + KILL_EVERY_S
                    watched.append(Watched(stack.enter_context(worker(port))))
                    watched[-1].look()
                    idle += watched[-1].cpu_s

        watching = threading.Thread(target=watch)
        watching.start()
        work = replace(Compaction(Aws(REGION, ACCOUNT, url), BUCKET, LAKE, "lake", RULE), span_versions=span)
        begun = time.monotonic()
        ((_, outcome),) = compact_hours(work, [HOUR], on=on(port))
        wall = time.monotonic() - begun
        ended.set()
        watching.join()
        right = verify_hour(work.raw, work.lake, RULE, HOUR).passed if objects <= 1_000_000 else None
    print(
        json.dumps(
            {
                "workers": workers,
                "objects": objects,
                "spans": len(outcome.parts_added),
                "kills": killed,
                "rows": outcome.rows,
                "complete": outcome.rows == objects == outcome.held,
                "verified": right,
                "wall_s": round(wall, 1),
                "cpu_s": round(sum(each.cpu_s for each in watched) - idle, 1),
                "peak_mb": max(each.peak_mb for each in watched),
                "probe_s": probe(),
            }
        ),
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=2_000_000)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--span", type=int, default=Compaction.span_versions)
    parser.add_argument("--kills", action="store_true")
    arguments = parser.parse_args()
    for workers in arguments.workers:
        cluster(arguments.objects, workers, arguments.span, kills=arguments.kills)


if __name__ == "__main__":
    main()
