"""Compactions in processes of their own, forked from one that has imported everything and has no threads: 10 ms each instead of a second."""

import os
import subprocess
import sys

import pyarrow as pa

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.model.fleet import Hour, Rule


class Writers:
    """Starts compactions and waits for them, while the context lasts."""

    def __enter__(self):
        self._process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def start(self, url, door):
        """Start a compaction behind a door, which knows its process before the first request."""
        door.pid = int(self._ask("fork", url))
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
    pa.array([1])  # which imports pandas where it is installed
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "fork":
            ready, go = os.pipe()
            pid = os.fork()
            if not pid:
                os.read(ready, 1)
                aws = Aws("eu-central-1", "123456789012", arguments[0])
                compact_hour(S3Store(aws, "raw"), Lake(S3Store(aws, "lake"), "lake"), Rule("test-rule", "rule1"), Hour.parse("2026-11-23-10:00"))
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
