"""Many small hours, compacted by this version and by another that lies in a folder, one after the other in pairs.

    git worktree add ../before 78efdd0
    python benchmarks/small_hours.py --against ../before [--hours 168] [--each 100] [--dirty] [--pairs 5]

Prints a line of JSON: CPU seconds of all processes and seconds by the clock, and the medians of the pairs' ratios.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))

from benchmarks.messages import BUCKET, HOUR, LAKE
from benchmarks.run import server

OLD = ("fleet_pipeline.aws", "fleet_pipeline.compaction.hours", "fleet_pipeline.fleet", "fleet_pipeline.fleet")
NEW = (
    "fleet_pipeline.aws.clients",
    "fleet_pipeline.lake.operations.compact",
    "fleet_pipeline.model.hour",
    "fleet_pipeline.model.rule",
)
"""Where versions keep what is called here."""


def compact(url, hours, each):
    """Compact all hours with the package that Python finds, and print what it took."""
    import fleet_pipeline

    folder = Path(fleet_pipeline.__file__).parent
    aws, compaction, hour, rule = map(import_module, OLD if (folder / "compaction").exists() else NEW)
    starts = [hour.Hour.of_millis(HOUR.start_ms + number * 3_600_000) for number in range(hours)]
    work = compaction.Compaction(
        aws.Aws("eu-central-1", "123456789012", url), BUCKET, LAKE, "lake", rule.Rule("test-rule", "rule1")
    )
    begun = time.monotonic()
    rows = sum(outcome.rows for _, outcome in compaction.compact_hours(work, starts, processes=2))
    wall = time.monotonic() - begun
    assert rows == hours * each, rows
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(each.ru_utime + each.ru_stime for each in used)
    sys.stdout.write(json.dumps({"cpu_s": round(cpu, 2), "wall_s": round(wall, 2)}) + "\n")


def once(package, arguments):
    """Run one version against a server of its own."""
    with server(arguments.hours * arguments.each, dirty=arguments.dirty, hours=arguments.hours) as url:
        command = [sys.executable, __file__, "--url", url, "--hours", str(arguments.hours)]
        environment = {**os.environ, "PYTHONPATH": str(package), "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}
        done = subprocess.run(
            [*command, "--each", str(arguments.each)], env=environment, check=True, capture_output=True, text=True
        )
        return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--hours", type=int, default=168)
    parser.add_argument("--each", type=int, default=100, help="messages of an hour")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--dirty", action="store_true", help="messages as vehicles with faults send them")
    parser.add_argument("--url", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.url:
        compact(arguments.url, arguments.hours, arguments.each)
        return
    pairs = []
    for number in range(arguments.pairs):
        both = {"now": HERE.parent, "before": arguments.against.resolve()}
        order = list(both)[:: 1 if number % 2 else -1]
        pairs.append({name: once(both[name], arguments) for name in order})
    ratios = {
        figure: round(statistics.median(pair["now"][figure] / pair["before"][figure] for pair in pairs), 3)
        for figure in ("cpu_s", "wall_s")
    }
    print(json.dumps({"hours": arguments.hours, "each": arguments.each, "pairs": pairs, "ratios": ratios}))


if __name__ == "__main__":
    main()
