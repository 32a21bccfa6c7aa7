"""`fleet vehicle export` and `fleet vehicle erase`: what is held on one vehicle, given out or gone."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet_pipeline.account import Account
from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cli.lake import hour, through_hour
from fleet_pipeline.cli.shown import console, progress
from fleet_pipeline.model.errors import MissingExtra, NotThisVehicle
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour

if TYPE_CHECKING:
    from fleet_pipeline.assets.lake.forgetting import ShownInDagster
    from fleet_pipeline.lake.privacy.places import Erased


@click.command()
@click.option("--serial", required=True, help="The vehicle's name, as its messages or its client id say it, whole.")
@click.option("--from", "start", type=hour, help="The first hour (2026-11-23-10:00) or day, UTC; all without it.")
@click.option("--through", type=through_hour, help="The last hour or day; it is included.")
@click.option("--to", "end", type=hour, help="The first hour or day that is left out.")
@click.option("--out", "folder", type=click.Path(path_type=Path), required=True, help="A folder that is not there yet.")
@click.pass_obj
def export(  # noqa: PLR0913 (options)
    fleet: Fleet, *, serial: str, start: Hour | None, through: Hour | None, end: Hour | None, folder: Path
) -> None:
    """Write everything that is held on a vehicle into a folder: messages byte for byte and as rows, registration.

    Nothing of anyone else's. Changes nothing else.
    """
    if through and end:
        raise click.UsageError("say one end: --through, the last hour or day, or --to, the first left out")
    needs_analytics()
    from fleet_pipeline.personal_data import give_out

    with progress() as bar:
        task = bar.add_task("hours read", total=None)
        done = give_out(
            fleet,
            Account.of(fleet),
            serial,
            folder,
            start=start,
            end=end or through,
            on_progress=lambda far, total: bar.update(task, completed=far, total=total),
        )
    found = done.found
    console.print(
        f"{found.messages.total():,} messages, {found.rows.total():,} rows, {found.derived.total():,} rows of derived "
        f"tables, {found.reports:,} reports, {'a' if done.registered else 'no'} registration; "
        f"{len(found.candidates.unsure):,} hours were looked into, because the index cannot say"
    )
    if found.undivided:
        console.print(
            f"{found.undivided:,} messages in which the name stands cannot be read: what of them cannot is left out"
        )
    console.print(f"{done.files} files, {done.bytes:,} bytes in {done.folder}")
    console.print(f"manifest.json has the SHA-256 of each; its own is {done.manifest_sha256}", soft_wrap=True)


@click.command()
@click.option("--serial", required=True, help="The vehicle's name, as its messages or its client id say it, whole.")
@click.option("--before", "end", type=hour, help="What was received before this hour or day, UTC; all without it.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and what it would take; change nothing.")
@click.option("--confirm", default="", help="The serial once more. Without it nothing is changed.")
@click.option(
    "--with-thing",
    is_flag=True,
    help="Remove its thing, its certificates, its line of the allow-list and its folder here, too.",
)
@click.option(
    "--with-logs",
    is_flag=True,
    help="Remove the streams of the functions' logs that name it, too, with what they say of other vehicles.",
)
@click.option("--no-dagster", is_flag=True, help="Leave the event log of the dagster.yaml of this folder alone.")
@click.option(
    "--search-all", "every_hour", is_flag=True, help="Search every hour there is, and not those that the index names."
)
@click.pass_obj
def erase(  # noqa: PLR0913 (options)
    fleet: Fleet,
    *,
    serial: str,
    end: Hour | None,
    dry_run: bool,
    confirm: str,
    with_thing: bool,
    with_logs: bool,
    no_dagster: bool,
    every_hour: bool,
) -> None:
    """Erase a vehicle: raw objects, rows of every generation, derived rows, reports, snapshots, and what Dagster shows
    of these hours where dagster.yaml lies here (or in DAGSTER_HOME); print a certificate.

    Others' rows stay as they are. Stopped, the same command goes on. Exit code 1 if anything of the vehicle was found
    at the end.
    """
    needs_analytics()
    from fleet_pipeline.personal_data import Order, certificate_text, erase_vehicle, one_vehicle, planned_erasure

    order = Order(serial, end.start if end else None, with_thing=with_thing, every_hour=every_hour, with_logs=with_logs)
    account = Account.of(fleet)
    if dry_run:
        _show_plan(fleet, planned_erasure(fleet, account, order))
        return
    shown = None if no_dagster else _shown_in_dagster(fleet, account.aws)
    if confirm != one_vehicle(serial):
        raise NotThisVehicle(serial)
    with progress() as bar:
        task = bar.add_task("hours", total=None)
        done = erase_vehicle(
            fleet,
            account,
            order,
            confirm=confirm,
            event_log=shown,
            on_progress=lambda what, far, total: bar.update(task, description=what, completed=far, total=total),
        )
    if shown and (problem := _tell_of_tables(shown, account)):
        console.print(f"Dagster shows Iceberg tables as they were until their next run: {problem}")
    console.print(certificate_text(fleet, account, done), soft_wrap=True)
    console.print(
        f"This is {done.certificate} in the lake; as JSON its SHA-256 is {done.certificate_sha256}.", soft_wrap=True
    )
    sys.exit(0 if done.clean else 1)


def _shown_in_dagster(fleet: Fleet, aws: Aws) -> "ShownInDagster | None":
    """Return the instance that the settings of Dagster in this folder, or in DAGSTER_HOME, name; None without them."""
    home = Path(os.environ.get("DAGSTER_HOME") or Path.cwd())
    if not (home / "dagster.yaml").is_file():
        return None
    import dagster as dg

    from fleet_pipeline.assets.lake.forgetting import ShownInDagster
    from fleet_pipeline.assets.shared.scope import Scope

    return ShownInDagster(Scope(fleet), dg.DagsterInstance.from_config(str(home)), aws)


def _tell_of_tables(shown: "ShownInDagster", account: Account) -> str:
    from fleet_pipeline.assets.iceberg.tables import tell

    return tell(shown.scope, account, shown.instance)


REQUESTS_PER_MINUTE = 6_000
"""Requests that an erasure is reckoned to make: one after another at 10 ms each. S3 answers most in less."""


def _show_plan(fleet: Fleet, planned: "Erased") -> None:
    removed = planned.removed
    gets = removed.requests["GET"] * 3  # to find, to write anew, to search
    writes = removed.requests["LIST"] * 3 + removed.hours * 4
    minutes = (gets + writes + removed.raw_versions) / REQUESTS_PER_MINUTE
    console.print(
        f"{removed.messages:,} messages in {removed.hours:,} hours of rules would go: {removed.raw_versions:,} raw "
        f"versions ({removed.raw_bytes:,} bytes), {removed.reports:,} reports; {removed.part_bytes:,} bytes of Parquet "
        f"would be written anew; {removed.shared:,} messages of several vehicles would be taken apart; "
        f"{removed.undivided:,} in which its name stands cannot be read and would stay"
    )
    console.print(
        f"about {gets:,} GET, {writes:,} LIST and PUT and {removed.raw_versions:,} DELETE requests, and a GET for each "
        f"raw version of these hours; {fleet.requests_usd(gets, writes):.4f} USD and {minutes:.1f} minutes "
        "without these; nothing was changed"
    )


def needs_analytics() -> None:
    """Raise MissingExtra where the engine of the derived tables, which are the index, is not installed."""
    if find_spec("duckdb") is None:
        raise MissingExtra("DuckDB", "analytics")
