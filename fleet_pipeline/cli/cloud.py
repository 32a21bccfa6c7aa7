"""`fleet plan` and `fleet apply`: the cloud side of the fleet without Dagster."""

import sys
from collections.abc import Iterable

import click
from rich.table import Table

from fleet_pipeline.account import Account
from fleet_pipeline.cli.shown import console
from fleet_pipeline.fleet import Fleet
from fleet_pipeline.provision.blueprint import blueprint, resources
from fleet_pipeline.provision.reconcile import Action, Step, reconcile
from fleet_pipeline.provision.reconcile import plan as plan_resource


@click.command()
@click.pass_obj
def plan(fleet: Fleet) -> None:
    """Show what `fleet apply` would do, without doing it; exit code 0 for nothing, 2 for changes."""
    steps = [plan_resource(resource, Account.of(fleet).aws) for resource in resources(blueprint(fleet))]
    _show_steps(steps)
    sys.exit(0 if all(step.action is Action.UNCHANGED for step in steps) else 2)


@click.command()
@click.pass_obj
def apply(fleet: Fleet) -> None:
    """Bring AWS to what the settings want. A second time changes nothing."""
    account = Account.of(fleet)
    _show_steps([reconcile(resource, account.aws) for resource in resources(blueprint(fleet))])


def _show_steps(steps: Iterable[Step]) -> None:
    table = Table("resource", "action", "fields")
    for step in steps:
        table.add_row(step.title, str(step.action), ", ".join(change.field for change in step.changes) if step.action is Action.UPDATE else "")
    console.print(table)
