"""`fleet ca`: vehicles with certificates of a CA of your own (FLEET_OWN_CA)."""

from pathlib import Path

import click

from fleet_pipeline.account import Account
from fleet_pipeline.cli.shown import console
from fleet_pipeline.model.fleet import Fleet


@click.group()
def ca() -> None:
    """A certificate authority of your own, whose vehicles are let in as they come."""


@ca.command()
@click.pass_obj
def code(fleet: Fleet) -> None:
    """Print the code that the CA must certify as common name, so that AWS IoT believes that it is yours."""
    from fleet_pipeline.cloud.kinds.own_ca import registration_code

    click.echo(registration_code(Account.of(fleet).aws))


@ca.command()
@click.pass_obj
def make(fleet: Fleet) -> None:
    """Make a CA for a trial, with its proof for AWS IoT. A CA that is there is kept."""
    from fleet_pipeline.cloud.kinds.own_ca import registration_code
    from fleet_pipeline.vehicle.authority import VERIFICATION, Authority

    folder = Path(fleet.home) / "ca"
    proof = Authority.make(folder).issue(registration_code(Account.of(fleet).aws))
    (folder / VERIFICATION).write_text(proof.certificate_pem)
    console.print(f"{folder} has a CA and its proof; with FLEET_OWN_CA=jitr, `fleet apply` registers it")


@ca.command()
@click.option("--serial", required=True, help="Serial number, such as 297468000001.")
@click.pass_obj
def join(fleet: Fleet, serial: str) -> None:
    """Give a vehicle a certificate of the trial CA, and connect until AWS IoT lets it in."""
    from fleet_pipeline.vehicle.authority import Authority
    from fleet_pipeline.vehicle.joining import join as join_vehicle

    account = Account.of(fleet)
    joined = join_vehicle(
        fleet, account.broker, Authority.read(Path(fleet.home) / "ca"), fleet.serial(serial), account.home
    )
    console.print(f"registered {joined.thing_name}, certificate {joined.certificate_id}, kept in {joined.folder}")
