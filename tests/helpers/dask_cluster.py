"""A Dask cluster on the loopback: a scheduler and workers, each a process of its own."""

import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

from distributed import LocalCluster


@contextmanager
def process(*command, ready):
    """A process of Dask's, once its log says that it is ready."""
    running = subprocess.Popen(
        [sys.executable, "-m", *command], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        lines = []
        for line in running.stderr:
            lines.append(line)
            if ready in line:
                break
        else:
            raise AssertionError("".join(lines))
        threading.Thread(target=running.stderr.read, daemon=True).start()
        yield running
    finally:
        running.kill()
        running.wait()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def scheduler(port):
    return process(
        *("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"),
        ready="Scheduler at",
    )


def worker(port):
    return process(
        *("distributed.cli.dask_worker", f"tcp://127.0.0.1:{port}", "--host", "127.0.0.1", "--nthreads", "1"),
        *("--no-nanny", "--no-dashboard", "--memory-limit", "0"),
        ready="Starting established connection to",
    )


def on(port):
    """The setting FLEET_ENGINE that names it."""
    return f"dask://127.0.0.1:{port}"


class OneWorker(LocalCluster):
    """A cluster that is started by its class, as those of Kubernetes and of Fargate are."""

    def __init__(self):
        super().__init__(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0")
