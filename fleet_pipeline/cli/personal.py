"""`fleet vehicle export`: what is held on one vehicle, given out."""

from importlib.util import find_spec
from pathlib import Path

import click

from fleet_pipeline.account import Account
from fleet_pipeline.cli.lake import hour
from fleet_pipeline.cli.shown import console, progress
from fleet_pipeline.model.errors import MissingExtra
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour


@click.command()
@click.option("--serial", required=True, help="The vehicle's name, as its messages or its client id say it, whole.")
@click.option("--from", "start", type=hour, help="The first hour (2026-11-23-10:00) or day, UTC; all without it.")
@click.option("--to", "end", type=hour, help="The first hour or day that is left out.")
@click.option("--out", "folder", type=click.Path(path_type=Path), required=True, help="A folder that is not there yet.")
@click.pass_obj
def export(fleet: Fleet, serial: str, start: Hour | None, end: Hour | None, folder: Path) -> None:
    """Write everything that is held on a vehicle into a folder: messages byte for byte and as rows, registration.

    Nothing of anyone else's. Changes nothing else.
    """
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
            end=end,
            on_progress=lambda far, total: bar.update(task, completed=far, total=total),
        )
    found = done.found
    console.print(
        f"{found.messages.total():,} messages, {found.rows.total():,} rows, {found.derived.total():,} rows of derived "
        f"tables, {found.reports:,} reports, {'a' if done.registered else 'no'} registration; "
        f"{len(found.candidates.unsure):,} hours were looked into, because the index cannot say"
    )
    console.print(f"{done.files} files, {done.bytes:,} bytes in {done.folder}")


def needs_analytics() -> None:
    """Raise MissingExtra where the engine of the derived tables, which are the index, is not installed."""
    if find_spec("duckdb") is None:
        raise MissingExtra("DuckDB", "analytics")
