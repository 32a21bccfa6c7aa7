"""A PostgreSQL server of the test's own, where its binaries are installed."""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest

SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
UNPRIVILEGED = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
"""PostgreSQL refuses to run as root."""

needs_postgres = pytest.mark.skipif(
    not SERVERS, reason="PostgreSQL's server is not installed (apt-get install postgresql)"
)


@contextmanager
def postgres(folder):
    folder.mkdir()
    if UNPRIVILEGED:
        shutil.chown(folder, "postgres", "postgres")
    subprocess.run(
        [SERVERS[-1] / "initdb", "--auth=trust", "--username=dagster", "-D", folder / "data"],
        check=True,
        capture_output=True,
        cwd=folder,
        **UNPRIVILEGED,
    )
    port = free_port()
    command = [
        SERVERS[-1] / "postgres",
        "-D",
        folder / "data",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-k",
        folder,
        "-c",
        "fsync=off",
    ]
    with (folder.parent / "postgres.log").open("w") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True, **UNPRIVILEGED
        )
        try:
            wait_for(lambda: connected(port), server, Path(log.name))
            yield port
        finally:
            server.send_signal(signal.SIGINT)  # "fast": ends the connections there are
            server.wait(30)


def connected(port):
    try:
        psycopg2.connect(host="127.0.0.1", port=port, user="dagster", dbname="postgres").close()
    except psycopg2.OperationalError:
        return False
    return True


def wait_for(ready, process, log):
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        assert process.poll() is None, log.read_text()
        if ready():
            return
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
