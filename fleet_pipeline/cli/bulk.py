"""`fleet bulk`: many vehicles registered from one file (FLEET_BULK_REGISTRATION)."""

import click

from fleet_pipeline.account import Account
from fleet_pipeline.cli.shown import console
from fleet_pipeline.model.fleet import Fleet

_task = click.option("--task", "task_id", required=True, help="The task's id, as `fleet bulk start` says it.")


@click.group()
def bulk() -> None:
    """Bulk registration: the vehicles make their keys here, AWS IoT signs and registers them all."""


@bulk.command()
@click.option(
    "--vehicles",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="How many vehicles, with made-up serials.",
)
@click.pass_obj
def start(fleet: Fleet, vehicles: int) -> None:
    """Make a key and a request for each vehicle, and have them registered."""
    from fleet_pipeline.cloud.enrolment import bulk as registration
    from fleet_pipeline.vehicle.driving import made_up_serials
    from fleet_pipeline.vehicle.requesting import request

    account = Account.of(fleet)
    requests = {serial: request(account.home, fleet.thing_name(serial)) for serial in made_up_serials(fleet, vehicles)}
    console.print(f"started: fleet bulk status --task {registration.start(fleet, account.aws, requests)}")


@bulk.command()
@_task
@click.pass_obj
def status(fleet: Fleet, task_id: str) -> None:
    """Say how far a registration is, and what it could not do."""
    from fleet_pipeline.cloud.enrolment import bulk as registration

    aws = Account.of(fleet).aws
    found = registration.task(aws, task_id)
    counts = f"{found.registered} registered, {found.failed} failed, {found.percent} %"
    console.print(f"{found.status}: {counts} {found.message}".strip())
    for part in registration.report(aws, task_id, "ERRORS"):
        console.print(part, highlight=False, soft_wrap=True, markup=False)


@bulk.command()
@_task
@click.pass_obj
def collect(fleet: Fleet, task_id: str) -> None:
    """Give each vehicle the certificate that AWS IoT made for its request."""
    from fleet_pipeline.cloud.enrolment import bulk as registration
    from fleet_pipeline.vehicle.requesting import accept

    account = Account.of(fleet)
    for part in registration.report(account.aws, task_id, "RESULTS"):
        for thing_name in accept(account.home, part):
            console.print(f"{thing_name} has its certificate")
