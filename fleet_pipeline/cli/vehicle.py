"""`fleet vehicle`: vehicles with the real AWS IoT SDK."""

import click

from fleet_pipeline.account import Account
from fleet_pipeline.cli.shown import console
from fleet_pipeline.fleet import Fleet
from fleet_pipeline.provision import allow_list


@click.group()
def vehicle() -> None:
    """Vehicles, as the AWS IoT SDK sees them: over mTLS, with certificates of their own."""


@vehicle.command()
@click.option("--serial", required=True, help="Serial number, such as 297468000001.")
@click.pass_obj
def register(fleet: Fleet, serial: str) -> None:
    """Register a vehicle with the claim certificate and save its own certificate."""
    from fleet_pipeline.provision.claim_certificate import read_claim
    from fleet_pipeline.vehicle.identity import Identity
    from fleet_pipeline.vehicle.registration import register as register_vehicle

    account = Account.of(fleet)
    claim = read_claim(account.aws, fleet.bucket)
    registered = register_vehicle(fleet, account.broker, Identity(claim.certificate_pem, claim.private_key), serial, account.home)
    console.print(f"registered {registered.thing_name}, certificate {registered.certificate_id}, kept in {registered.folder}")


@vehicle.command()
@click.option("--vehicles", default=3, show_default=True, help="How many vehicles drive; those not registered yet are registered first.")
@click.option("--messages", default=60, show_default=True, help="How many messages each one publishes.")
@click.pass_obj
def drive(fleet: Fleet, vehicles: int, messages: int) -> None:
    """Let vehicles drive and publish telemetry to all rules by Basic Ingest."""
    from fleet_pipeline import fleet_drive

    fleet_drive.run(fleet, vehicles, messages)


@vehicle.command()
@click.option("--serial", "serials", multiple=True, required=True, help="Serial number; may be given several times.")
@click.option("--replace", is_flag=True, help="Let a vehicle that is registered already be given a new certificate, once.")
@click.pass_obj
def allow(fleet: Fleet, serials: tuple[str, ...], *, replace: bool) -> None:
    """Put serials on the allow-list, or allow a replacement."""
    account = Account.of(fleet)
    for serial in serials:
        (allow_list.allow_replacement if replace else allow_list.add)(fleet, account.aws, fleet.serial(serial))
        console.print(f"{serial}: {'may be replaced once' if replace else 'may register'}")
