"""The `fleet` command. Each command opens the account, calls one function of the core, and shows what came back."""

import errno
import os
import sys
from pathlib import Path
from typing import NoReturn

import click
from rich.table import Table

from fleet_pipeline.aws.regions import warning_of
from fleet_pipeline.cli.adoption import adopt_bucket
from fleet_pipeline.cli.bulk import bulk
from fleet_pipeline.cli.ca import ca
from fleet_pipeline.cli.claim import claim
from fleet_pipeline.cli.cloud import adopt, apply, plan
from fleet_pipeline.cli.cost import cost
from fleet_pipeline.cli.errors import errors, replay
from fleet_pipeline.cli.export import export
from fleet_pipeline.cli.hardening import check
from fleet_pipeline.cli.hook import hook
from fleet_pipeline.cli.iam import iam
from fleet_pipeline.cli.iceberg import iceberg
from fleet_pipeline.cli.init import init
from fleet_pipeline.cli.lake import compact, lake, raw, schema
from fleet_pipeline.cli.local import local
from fleet_pipeline.cli.meant import MeaningGroup
from fleet_pipeline.cli.privacy import privacy
from fleet_pipeline.cli.query import connect, query, shell
from fleet_pipeline.cli.retention import retention
from fleet_pipeline.cli.shown import console, styled
from fleet_pipeline.cli.shown import errors as stderr
from fleet_pipeline.cli.teardown import destroy
from fleet_pipeline.cli.ui import ui
from fleet_pipeline.cli.vehicle import vehicle
from fleet_pipeline.cli.versions import rollback, versions
from fleet_pipeline.model import settings
from fleet_pipeline.model.errors import FleetError, MachineRefused
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.plain import plain

_ROOM = "make room on its disk"
_PLACE = "choose a place where this user may write (FLEET_HOME, DAGSTER_HOME, TMPDIR, or the folder that was named)"

_OF_THE_MACHINE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EROFS: _PLACE,
    errno.EACCES: _PLACE,
    errno.EPERM: _PLACE,
}
"""What the system says of a disk or a folder that no code can help, and what then does. All else is a defect, and its
traceback is wanted.
"""


def main() -> None:
    """Run the command; an error of ours, or a full or closed disk, is one sentence on stderr and exit code 1."""
    try:
        fleet_command(prog_name="fleet")
    except FleetError as error:
        _end(error)
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            raise
        file = plain(error.filename) if error.filename else ""
        _end(MachineRefused(file, error.strerror or plain(error), _OF_THE_MACHINE[error.errno]))


def _end(error: FleetError) -> NoReturn:
    stderr.print(styled(("error:", "red"), f" {error}"), soft_wrap=True)
    sys.exit(1)


@click.group(cls=MeaningGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fleet-pipeline")
@click.pass_context
def fleet_command(context: click.Context) -> None:
    """From a vehicle's first connection to queryable Parquet, on AWS IoT Core.

    Settings come from FLEET_* variables or fleet.toml; `fleet settings` lists them. Without any, AWS is this machine.
    """
    file = settings.find_file(os.environ, Path.cwd(), Path.home())
    context.obj = settings.read_fleet(os.environ, file, needs_rule=context.invoked_subcommand != adopt_bucket.name)
    if doubt := warning_of(context.obj.region):
        stderr.print(styled(("note:", "yellow"), f" {doubt}"), soft_wrap=True)


@fleet_command.command("settings")
@click.pass_obj
def settings_command(fleet: Fleet) -> None:
    """List every setting: its value, what it means, why its default is what it is.

    Through a pipe: NAME=value, a line each. What `fleet plan` would refuse of them before it asks AWS is refused here.
    """
    from fleet_pipeline.cloud.blueprint import shown

    shown(fleet)
    if not console.is_terminal:  # whoever reads it by a program wants names and values whole
        for name, value in settings.values(fleet):
            click.echo(f"{name}={value}")
        return
    table = Table("setting", "value", "meaning", "why this default")
    for (name, value), (_, _, meaning, reason) in zip(settings.values(fleet), settings.described(), strict=True):
        table.add_row(name, value, meaning, reason)
    console.print(table)


@fleet_command.command()
@click.option(
    "--vehicles",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="How many vehicles register and drive.",
)
@click.option(
    "--messages", type=click.IntRange(1), default=60, show_default=True, help="How many messages each one publishes."
)
@click.pass_obj
def demo(fleet: Fleet, vehicles: int, messages: int) -> None:
    """Go the whole way: provision, register, drive, compact, count. Exit code 1 if any count differs."""
    from fleet_pipeline.cli.demo import run

    sys.exit(0 if run(fleet, vehicles, messages) else 1)


for _command in (
    init,
    ui,
    local,
    vehicle,
    claim,
    ca,
    bulk,
    plan,
    apply,
    adopt,
    adopt_bucket,
    iam,
    hook,
    export,
    check,
    versions,
    rollback,
    errors,
    replay,
    destroy,
    compact,
    schema,
    raw,
    lake,
    iceberg,
    query,
    shell,
    connect,
    cost,
    privacy,
    retention,
):
    fleet_command.add_command(_command)
