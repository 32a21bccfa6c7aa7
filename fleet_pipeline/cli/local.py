"""`fleet local`: AWS on this machine."""

import sys
from pathlib import Path

import click
from rich.table import Table

from fleet_pipeline.cli.alone import nobody_at_work
from fleet_pipeline.cli.shown import ask, console
from fleet_pipeline.local import daemon
from fleet_pipeline.model.fleet import Fleet


@click.group()
def local() -> None:
    """AWS on this machine: one server, kept in FLEET_HOME.

    Commands that look at resources or make some start it where it does not run, `plan` and `check` among them; what
    asks the lake, as `fleet query` does, starts nothing and says so.
    """


@local.command()
@click.pass_obj
def up(fleet: Fleet) -> None:
    """Start it, unless it runs."""
    _show_local(daemon.ensure_running(Path(fleet.home), account=fleet.account, region=fleet.region))


@local.command()
@click.pass_obj
def status(fleet: Fleet) -> None:
    """Say where it is; exit code 1 if it does not run."""
    running = daemon.status(Path(fleet.home))
    if running is None:
        console.print("AWS on this machine is not running (`fleet local up` starts it)")
        sys.exit(1)
    _show_local(running)


@local.command()
@click.pass_obj
def down(fleet: Fleet) -> None:
    """Stop it; its state is kept."""
    console.print("stopped" if daemon.stop(Path(fleet.home)) else "it was not running")


@local.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def reset(fleet: Fleet, *, yes: bool) -> None:
    """Stop it and delete all that it holds. Refused while Dagster's UI or a demo of this folder is at work with it."""
    if not yes:
        ask("Delete AWS on this machine, with every bucket and certificate in it?")
    with nobody_at_work():
        daemon.reset(Path(fleet.home))
    console.print("deleted")


def _show_local(server: daemon.LocalAws) -> None:
    table = Table(show_header=False, box=None)
    table.add_row("AWS", server.url)
    table.add_row("MQTT", f"{server.mqtt_host}:{server.mqtt_port} (mTLS)")
    table.add_row("CA", str(server.ca_path))
    table.add_row("secret", str(server.ca_path.with_name("secret")))
    table.add_row("process", str(server.pid))
    table.add_row("log", str(server.log_path))
    console.print(table)
