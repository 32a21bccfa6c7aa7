"""`fleet claim`: the claim certificate that vehicles leave the factory with."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from fleet_pipeline.account import Account
from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cli.cloud import who
from fleet_pipeline.cli.shown import ask, console
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.model.errors import AlreadyThere
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.plain import plain

if TYPE_CHECKING:
    from fleet_pipeline.cloud.claims.life import RegisteredBy


@click.group()
def claim() -> None:
    """The claim certificate: shared by all new vehicles, replaced, retired, revoked."""


@claim.command()
@click.pass_obj
def show(fleet: Fleet) -> None:
    """List the claim certificates that AWS IoT knows, the one that is given out first."""
    from fleet_pipeline.cloud.claims.certificates import Claims, held

    claims = Claims.of(fleet)
    table = Table("claim certificate", "status", "made", "")
    found = held(claims, Account.of(fleet).aws)
    if not found:
        console.print("there is no claim certificate yet: `fleet apply` makes it")
        return
    for each in found:
        table.add_row(each.certificate_id, each.status, _shown(each.created), "given out" if each.current else "former")
    console.print(table)
    console.print(f"private key: {claims.keys.place}")


@claim.command()
@click.pass_obj
def rotate(fleet: Fleet) -> None:
    """Give out a new claim certificate. The old one works on, until `fleet claim retire`."""
    from fleet_pipeline.cloud.claims import life

    with _alone(fleet) as aws:
        console.print(f"given out from now on: {life.rotate(fleet, aws)}")


@claim.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--certificate",
    default="",
    help="The id of the one to delete, such as one that was stolen; otherwise all former ones.",
)
@click.pass_obj
def retire(fleet: Fleet, certificate: str, *, yes: bool) -> None:
    """End a rotation: delete the former claim certificates, with every version of their keys."""
    from fleet_pipeline.cloud.claims import life

    if not yes:
        ask(
            "Vehicles that were shipped with a former claim certificate and have not registered yet never will. Go on?",
        )
    with _alone(fleet) as aws:
        retired = life.retire(fleet, aws, certificate)
    console.print("\n".join(f"retired: {each}" for each in retired) or "there is no former claim certificate")


@claim.command()
@click.option("--certificate", default="", help="Its id; may be left out when only one works.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--since", type=click.DateTime(), help="List the vehicles registered with it since then (UTC); otherwise all."
)
@click.pass_obj
def revoke(fleet: Fleet, certificate: str, since: datetime | None, *, yes: bool) -> None:
    """After a theft: end a claim certificate at once, and list the vehicles that were registered with it.

    It does not wait for the lock of those who change the fleet.
    """
    from fleet_pipeline.cloud.claims import life

    if not yes:
        ask(
            "A revoked claim certificate is never activated again: no vehicle that was shipped with it can "
            "register. Go on?",
        )
    aws = Account.of(fleet).aws
    revoked = life.revoke(fleet, aws, certificate)
    console.print(f"revoked: {revoked}. Nothing registers with it any more; make a new one with `fleet claim rotate`")
    _show_registered(list(life.registered_with(fleet, aws, revoked, (since or datetime.min).replace(tzinfo=UTC))))  # noqa: DTZ901 (made aware here)


@claim.command()
@click.option(
    "--folder", type=click.Path(path_type=Path), required=True, help="New folder for the files, for its owner only."
)
@click.pass_obj
def files(fleet: Fleet, folder: Path) -> None:
    """Write what the factory puts into each vehicle: the claim certificate, its key, and how to connect and register.

    Whoever has the folder may register vehicles. The key is written there and shown nowhere.
    """
    from fleet_pipeline.cloud.claims.certificates import read_claim
    from fleet_pipeline.vehicle.factory import write_files
    from fleet_pipeline.vehicle.identity import Identity

    _refuse_existing(folder)
    account = Account.of(fleet)
    found = read_claim(fleet, account.aws)
    names = write_files(fleet, account.broker, Identity(found.certificate_pem, found.private_key), folder)
    console.print(f"{', '.join(names)} are in {folder.absolute()}, for its owner only")
    console.print(f"To try them: fleet vehicle register --claim {folder} --serial …")


@claim.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    required=True,
    help="New folder for the certificate and its key, for its owner only.",
)
@click.pass_obj
def temporary(fleet: Fleet, folder: Path) -> None:
    """Make a claim certificate for a trusted person, such as a mechanic. It works for five minutes."""
    from fleet_pipeline.cloud.claims import life
    from fleet_pipeline.vehicle.identity import Identity, VehicleFolder

    _refuse_existing(folder)
    made = life.temporary(fleet, Account.of(fleet).aws)
    VehicleFolder(folder).write(Identity(made.certificate_pem, made.private_key))
    console.print(f"for five minutes: fleet vehicle register --claim {folder} --serial …")


def _refuse_existing(folder: Path) -> None:
    if folder.exists():
        raise AlreadyThere([folder.name], str(folder.absolute().parent))


@contextmanager
def _alone(fleet: Fleet) -> Iterator[Aws]:
    """Hold the lock of those who change the fleet."""
    aws = Account.of(fleet).aws
    with Lock(aws, fleet.bucket, who()) as lock:
        lock.take()
        yield aws


def _show_registered(registered: "Sequence[RegisteredBy]") -> None:
    table = Table("thing registered with it", "certificate", "status", "made")
    for each in registered:
        table.add_row(plain(each.thing_name), each.certificate_id, each.status, _shown(each.created))
    console.print(table if registered else "no vehicle was registered with it in that time")


def _shown(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
