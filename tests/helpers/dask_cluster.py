"""A Dask cluster on the loopback, or in namespaces: a scheduler and workers, each a process of its own."""

import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

from distributed import LocalCluster


@contextmanager
def process(*command, ready, within):
    """A process of Dask's, once its log says that it is ready."""
    running = subprocess.Popen(
        [*(within.before if within else ()), sys.executable, "-m", *command],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        if within:
            within.join(running)
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


def scheduler(port, within=None, preload=None):
    host = within.address if within else "127.0.0.1"
    return process(
        *("distributed.cli.dask_scheduler", "--host", host, "--port", str(port), "--no-dashboard"),
        *(("--preload", str(preload)) if preload else ()),
        ready="Scheduler at",
        within=within,
    )


def worker(port, to="127.0.0.1", within=None):
    host = within.address if within else "127.0.0.1"
    return process(
        *("distributed.cli.dask_worker", f"tcp://{to}:{port}", "--host", host, "--nthreads", "1"),
        *("--no-nanny", "--no-dashboard", "--memory-limit", "0"),
        ready="Starting established connection to",
        within=within,
    )


def on(port):
    """The setting FLEET_ENGINE that names it."""
    return f"dask://127.0.0.1:{port}"


class OneWorker(LocalCluster):
    """A cluster that is started by its class, as those of Kubernetes and of Fargate are."""

    def __init__(self):
        super().__init__(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0")
