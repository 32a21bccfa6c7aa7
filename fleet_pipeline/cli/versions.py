"""`fleet versions` and `fleet rollback`: former versions of policies and templates."""

import json

import click
from rich.table import Table

from fleet_pipeline.account import Account
from fleet_pipeline.cli.cloud import who
from fleet_pipeline.cli.shown import console
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations import rollback as way_back
from fleet_pipeline.model.fleet import Fleet


@click.command()
@click.argument("resource")
@click.option("--show", type=int, help="Print the document of this version.")
@click.pass_obj
def versions(fleet: Fleet, resource: str, show: int | None) -> None:
    """List the versions that AWS keeps of RESOURCE, such as device_policy, claim_policy or provisioning_template."""
    found = way_back.versions(way_back.versioned(blueprint(fleet), resource), Account.of(fleet).aws)
    if show is not None:
        click.echo(json.dumps(next((version.document for version in found if version.number == show), None), indent=2))
        return
    table = Table("version", "created", "in force")
    for version in found:
        table.add_row(str(version.number), version.created.isoformat(timespec="seconds"), "yes" if version.live else "")
    console.print(table)


@click.command()
@click.argument("resource")
@click.option("--to", required=True, type=int, help="Number of a version that AWS has kept.")
@click.pass_obj
def rollback(fleet: Fleet, resource: str, to: int) -> None:
    """Put a former version of RESOURCE in force, until the settings follow: `fleet apply` puts in
    force what they want.
    """
    wanted, aws = way_back.versioned(blueprint(fleet), resource), Account.of(fleet).aws
    with Lock(aws, fleet.bucket, who()) as lock:
        lock.take()
        step = way_back.roll_back(wanted, to, aws)
    after = ", ".join(change.field for change in step.changes)
    console.print(
        f"version {to} of {wanted.name} is in force, "
        + (f"until `fleet apply` sets {after} anew" if after else "as the settings want it")
    )
