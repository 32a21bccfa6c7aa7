"""`fleet retention`: what is too old by the settings goes, or is said to."""

import sys

import click
from rich.table import Table

from fleet_pipeline.account import Account
from fleet_pipeline.cli.shown import ask, console, progress, styled
from fleet_pipeline.model.fleet import Fleet

SHOWN = 20
"""Hours in the way that are named."""


@click.command()
@click.option("--dry-run", is_flag=True, help="Prove and say what would go, and when the next goes; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def retention(fleet: Fleet, *, dry_run: bool, yes: bool) -> None:
    """Remove for good what is older than FLEET_…_RETENTION_DAYS: raw objects that are proved to be rows, hours of the
    lake, days of the tables about vehicles. The job `retention` does so each day, and removes Dagster's compute logs.

    Exit code 1 if something that is old enough could not go; it is named. Stopped, the same command goes on.
    """
    from fleet_pipeline.retention import aged_out

    if not fleet.raw_retention_days:
        console.print("FLEET_RAW_RETENTION_DAYS is 0: nothing goes, neither raw objects nor rows")
        return
    if not (dry_run or yes):
        ask("Remove what is older than the settings say, for good?")
    with progress() as bar:
        task = bar.add_task("hours", total=None)
        gone = aged_out(
            fleet,
            Account.of(fleet),
            dry_run=dry_run,
            on_progress=lambda what, far, total: bar.update(task, description=what, completed=far, total=total),
        )
    table = Table("", "would go" if dry_run else "removed", "bytes", "the next goes")
    following = {what: f"{at:%Y-%m-%d %H:%M} UTC" for what, at in gone.following.items()}
    table.add_row(
        *_row(f"{gone.raw_versions:,} versions, {gone.raw_hours:,} hours", gone.raw_bytes, "raw objects", following)
    )
    table.add_row(*_row(f"{gone.lake_hours:,} hours, {gone.snapshots:,} snapshots", gone.part_bytes, "lake", following))
    table.add_row(*_row(f"{gone.days:,} days, {gone.revisions:,} revisions", None, "tables about vehicles", following))
    console.print(table)
    usd = fleet.requests_usd(gone.requests["GET"], gone.requests["LIST"] + gone.requests["PUT"])
    console.print(f"{gone.requests['GET']:,} GET and {gone.requests['LIST']:,} LIST requests, {usd:.4f} USD")
    for rule, hours in gone.read_only.items():
        why = "their objects lie in a bucket that is only read"
        console.print(f"{hours:,} hours of the lake of rule {rule} stay, however old: {why}", soft_wrap=True)
    for each in gone.in_the_way[:SHOWN]:
        console.print(styled(("stays", "red"), f" {each}"), soft_wrap=True)
    if len(gone.in_the_way) > SHOWN:
        console.print(f"and {len(gone.in_the_way) - SHOWN} more")
    sys.exit(1 if gone.in_the_way else 0)


def _row(count: str, size: int | None, what: str, following: dict[str, str]) -> tuple[str, str, str, str]:
    return what, count, "" if size is None else f"{size:,}", following.get(what, "")
