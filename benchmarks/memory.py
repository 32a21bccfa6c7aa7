"""The most memory that an hour takes, for messages of every kind and whatever is done with it: each action in a process
of its own.

    python benchmarks/memory.py [--only deep bushes ...] [--share 0.1] [--million] [--write]

`--share` makes fewer messages of each kind, `--million` adds the hours of a million messages. `--write` renews the list
in results.json and the table in docs/benchmarks.md.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.contenders import ACCOUNT, REGION, WithoutPandas, peak_mb
from benchmarks.messages import BUCKET, HOUR, LAKE, RULE, messages
from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.lake.contract import COLUMNS
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact import forecast_hour
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.look import look
from fleet_pipeline.lake.operations.rewrite import learnt, rewrite_hour
from fleet_pipeline.lake.operations.verify import purge_hour, verify_hour
from fleet_pipeline.model.rule import RawName

OBJECTS = {
    "telemetry": 100_000,
    "3 KB with 100 fields": 50_000,
    "20 KB": 20_000,
    "128 KB": 4_000,
    "deep": 5_000,
    "bushes": 5_000,
    "arrays of {}": 2_000,
    "1,000 columns": 5_000,
}
"""Messages of each kind: enough that memory no longer grows with them."""

LATE = 100
"""Messages that come after the hour was compacted, spread over it."""


@dataclass(frozen=True)
class Work:
    """An hour on a server, and what may be done with it."""

    url: str

    def __post_init__(self):
        aws = Aws(REGION, ACCOUNT, self.url)
        object.__setattr__(self, "raw", S3Store(aws, BUCKET))
        object.__setattr__(self, "lake", Lake.current(S3Store(aws, LAKE), "lake"))

    def compaction(self):
        return compact_hour(self.raw, self.lake, RULE, HOUR).complete

    def forecast(self):
        return forecast_hour(self.raw, self.lake, RULE, HOUR).missing == 0

    def look(self):
        return look(self.raw, self.lake, RULE, HOUR).uncompacted == 0

    def verification(self):
        return verify_hour(self.raw, self.lake, RULE, HOUR).passed

    def late(self):
        for number in range(LATE):
            millis = HOUR.start_ms + number * 3_600_000 // LATE
            self.raw.put_new(RULE.raw_key(RawName(millis, f"00000000-0000-4000-8000-{number:012d}")), b'{"speed": 1.5}')
        return compact_hour(self.raw, self.lake, RULE, HOUR).rows_added == LATE

    def rewrite(self):
        new = self.lake.next_generation
        new.record(RULE, learnt(self.lake, new.contract(RULE), RULE, HOUR), new.form, COLUMNS)
        new.begin()
        complete = rewrite_hour(self.lake, new, RULE, HOUR).complete
        new.switch()
        return complete

    def purge(self):
        return purge_hour(self.raw, self.lake, RULE, HOUR, now=datetime.now(UTC)).kept == 0


ACTIONS = ["compaction", "forecast", "look", "verification", "late", "rewrite", "purge"]
"""In this order: each finds what the ones before left."""


@dataclass(frozen=True)
class Peak:
    """What an action took."""

    kind: str
    action: str
    objects: int
    bytes: int
    """Bytes of all messages."""
    peak_mb: int | None
    right: bool
    cpu_s: float | None


def peaks(kind, objects):
    """Yield what each action takes on one hour of messages of a kind."""
    from benchmarks.run import COMPILED, server  # with it comes Matplotlib, which the actions do without

    size = sum(len(payload) for _, payload in messages(objects, dirty=False, kind=kind))
    with server(objects, dirty=False, kind=kind) as url, tempfile.TemporaryDirectory() as folder:
        for action in ACTIONS:
            command = [sys.executable, __file__, "--action", action, "--url", url]
            done = subprocess.run(
                command, capture_output=True, text=True, env=COMPILED | {"TMPDIR": folder}, check=False
            )
            if done.returncode:
                print(done.stderr, file=sys.stderr)
                yield Peak(kind, action, objects, size, None, right=False, cpu_s=None)
            else:
                yield Peak(kind, action, objects, size, **json.loads(done.stdout.splitlines()[-1]))


def _do(action, url):
    sys.meta_path.insert(0, WithoutPandas())
    right = getattr(Work(url), action)()
    print(json.dumps({"peak_mb": round(peak_mb()), "right": right, "cpu_s": round(time.process_time(), 1)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(OBJECTS), choices=list(OBJECTS))
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--action", choices=ACTIONS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.action:
        _do(arguments.action, arguments.url)
        return
    wanted = [(kind, round(OBJECTS[kind] * arguments.share)) for kind in arguments.only]
    found = []
    for kind, objects in wanted + ([("telemetry", 1_000_000)] if arguments.million else []):
        for peak in peaks(kind, objects):
            found.append(asdict(peak))
            print(json.dumps(found[-1]), flush=True)
    if arguments.write:
        from benchmarks import report

        report.write_memory(found)


if __name__ == "__main__":
    main()
