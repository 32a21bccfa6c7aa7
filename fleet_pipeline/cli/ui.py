"""`fleet ui`: Dagster's UI and daemon on this machine, as `dagster dev` starts them, behind the gate."""

import os
import signal
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from fleet_pipeline.cli.alone import alone
from fleet_pipeline.cli.shown import console
from fleet_pipeline.model.errors import InUse, PortTaken

PATIENCE = ("DAGSTER_GRPC_TIMEOUT_SECONDS", "300")
"""How long Dagster's processes wait for an answer of the code server, in seconds.

To start a run costs it some 5 CPU seconds, and within Dagster's own
60 s a machine with fifteen busy processes on two cores does not do it: ticks failed, and runs ended before they began.
"""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(1, 65_535), default=3000, show_default=True, help="The port to listen on.")
@click.option(
    "--workspace", default="workspace.yaml", show_default=True, help="The file that names the code locations."
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    help="A name under which it is reached, as behind a proxy; may be given several times.",
)
def ui(host: str, port: int, workspace: str, hosts: tuple[str, ...]) -> None:
    """Serve Dagster's UI and run its daemon until Ctrl-C or SIGTERM.

    Pages of other origins get nothing; nor do other users of this machine, on Linux and without --allow-host.
    """
    with alone("ui"):
        _check_free(host, port)  # before the seconds that Dagster takes to be imported
        _serve(host, port, workspace, hosts)


def _serve(host: str, port: int, workspace: str, hosts: tuple[str, ...]) -> None:
    os.environ.setdefault(*PATIENCE)  # before Dagster is imported, which reads it once
    from fleet_pipeline.instance import internals
    from fleet_pipeline.instance.webserver import HOSTS, OWN_USER

    os.umask(0o077)
    os.environ.setdefault("DAGSTER_HOME", str(Path.cwd()))
    os.environ[HOSTS] = ",".join([*hosts, *os.environ.get(HOSTS, "").split(",")])
    if not hosts:  # what stands in front of it may run as another user
        os.environ.setdefault(OWN_USER, "1")
    dev = internals.dev()
    start = dev.open_ipc_subprocess

    def behind_the_gate(command: list[str], **more: Any) -> Any:
        return start(
            ["fleet_pipeline.instance.webserver" if each == "dagster_webserver" else each for each in command], **more
        )

    dev.open_ipc_subprocess = behind_the_gate
    warnings.filterwarnings("ignore", "Function `dev_command` is superseded")
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background jobs ignore it, and Dagster makes SIGINT of a SIGTERM
    with _the_only_daemon(workspace):
        _check_free(host, port)
        console.print(
            f"Dagster comes up on http://{host}:{port}: in half a minute, in some minutes on a busy machine. "
            "Ctrl-C ends it."
        )
        dev.dev_command(["--workspace", workspace, "--host", host, "--port", str(port)], prog_name="fleet ui")


@contextmanager
def _the_only_daemon(workspace: str) -> Iterator[None]:
    """Raise InUse where a daemon is at work on the instance; leave no beat of ours behind."""
    import dagster as dg

    from fleet_pipeline.instance.heartbeats import another_daemon, forget_beats

    with dg.DagsterInstance.get() as instance:
        if another_daemon(instance, on_wait=_say_that_it_looks):
            raise InUse(
                "a daemon of Dagster's, such as that of `dagster dev`, is",
                "this instance (DAGSTER_HOME)",
                "a second one would launch runs twice. Stop it, or serve the pages alone: "
                f"`python -m fleet_pipeline.instance.webserver --workspace {workspace}`",
            )
        try:
            yield
        finally:
            forget_beats(instance)


def _say_that_it_looks() -> None:
    console.print("A daemon was at work here two minutes ago at most: looking whether it still is (up to 45 s) …")


def _check_free(host: str, port: int) -> None:
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise PortTaken(host, port, error.strerror or str(error)) from error
