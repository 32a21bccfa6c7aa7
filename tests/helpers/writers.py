"""Whatever may be done to an hour, in processes of their own, forked from one that has imported everything and has no threads: 10 ms each, not a second."""

import importlib
import os
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta

import pyarrow as pa
from faulty_s3 import PATIENCE_S

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.ledger import UNCOMPACTED, Ledger, Verdict
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.rewrite import has_grown, rewrite_hour
from fleet_pipeline.lake.operations.verify import purge_hour
from fleet_pipeline.lake.reading import opened
from fleet_pipeline.model.errors import FleetError, NotVerified
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule

RULE, HOUR = Rule("test-rule", "rule1"), Hour.parse("2026-11-23-10:00")
LATER = HOUR.end + timedelta(days=1)
LOOK = "fleet_pipeline.lake.operations.look"
"""What a look is in; other actions do without it."""


AGAIN = 75
"""How an action ends that says that it may be tried again, as a compaction of messages that a purge deleted meanwhile."""


def compact(raw, lake):
    compact_hour(raw, lake, RULE, HOUR)
    Ledger(lake.store, lake.prefix, RULE).judge(LATER, {HOUR: {UNCOMPACTED: Verdict("")}})


def rewrite(_, old):
    """As `fleet lake rewrite` does it."""
    new = old.next_generation
    new.begin()
    done = rewrite_hour(old, new, RULE, HOUR)
    while has_grown(old, RULE, HOUR, done):
        done = rewrite_hour(old, new, RULE, HOUR)
    new.switch()


def purge(raw, lake):
    compact(raw, lake)
    with suppress(NotVerified):
        purge_hour(raw, lake, RULE, HOUR, now=LATER)


def look(raw, lake):
    missing = importlib.import_module(LOOK).look(raw, lake, RULE, HOUR).uncompacted
    Ledger(lake.store, lake.prefix, RULE).judge(
        LATER, {HOUR: {UNCOMPACTED: Verdict(f"{missing} messages" if missing else "", missing)}}
    )


def read(_, lake, reads=20):
    """Read the table over and over, as whoever queries it: what was seen once is seen again, and nothing twice."""
    seen = set()
    for _ in range(reads):
        current = Lake.current(lake.store, lake.prefix)
        files = [opened(lake.store, part).read(["_key", "_version"]) for part in current.parts(RULE, HOUR)]
        rows = [
            row for file in files for row in zip(file["_key"].to_pylist(), file["_version"].to_pylist(), strict=True)
        ]
        assert len(rows) == len(set(rows)), "a row is there twice"
        assert seen <= set(rows), "rows have vanished"
        seen = set(rows)


ACTIONS = {action.__name__: action for action in (compact, rewrite, purge, look, read)}


class Writers:
    """Starts actions and waits for them, while the context lasts; `modules` are imported before, so that none of them has to."""

    def __init__(self, *modules):
        self._modules = modules

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, __file__, *self._modules], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def start(self, url, door, action="compact"):
        """Start an action behind a door, which knows its process before the first request."""
        door.pid = int(self._ask("fork", url, action))
        self._ask("go")
        return door.pid

    def wait(self):
        """Wait for any of them; return its process and how it ended, -9 when it was killed."""
        pid, code = self._ask("wait").split()
        return int(pid), int(code)

    def _ask(self, *words):
        self._process.stdin.write(" ".join(words) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


def main():
    for module in sys.argv[1:]:
        importlib.import_module(module)
    pa.array([1])  # which imports pandas where it is installed
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "fork":
            ready, go = os.pipe()
            pid = os.fork()
            if not pid:
                os.read(ready, 1)
                url, action = arguments
                aws = Aws("eu-central-1", "123456789012", url)
                try:
                    ACTIONS[action](
                        S3Store(aws, "raw", PATIENCE_S), Lake.current(S3Store(aws, "lake", PATIENCE_S), "lake")
                    )
                except FleetError as error:
                    print(f"{action}: {error}", file=sys.stderr)  # noqa: T201 (for whoever asks why)
                    os._exit(AGAIN if error.retryable else 1)
                os._exit(0)
            print(pid, flush=True)  # noqa: T201 (the answer)
        elif command == "go":
            os.write(go, b"x")
            os.close(go)
            os.close(ready)
            print(flush=True)  # noqa: T201
        elif command == "wait":
            pid, status = os.wait()
            print(pid, os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
