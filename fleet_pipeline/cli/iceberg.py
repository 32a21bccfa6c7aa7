"""`fleet iceberg`: the lake's Iceberg tables without Dagster."""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from rich.table import Table

from fleet_pipeline.account import Account
from fleet_pipeline.cli.shown import console, styled
from fleet_pipeline.model.errors import MissingExtra
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.plain import plain
from fleet_pipeline.model.rule import Rule

if TYPE_CHECKING:
    from fleet_pipeline.lake.iceberg.tables import Tables

_OF_RULES = click.option(
    "--rule", "keys", multiple=True, help="A rule's key; may be given several times. All rules without it."
)


@click.group()
def iceberg() -> None:
    """Apache Iceberg tables over the lake's own Parquet files, one a rule (FLEET_ICEBERG; docs/iceberg.md)."""


@iceberg.command()
@_OF_RULES
@click.pass_obj
def sync(fleet: Fleet, keys: tuple[str, ...]) -> None:
    """Bring tables to what the lake has, in one snapshot each. A second time changes nothing; where a table of one of
    the rules is not ours, nothing is changed at all.
    """
    tables, rules = opened(fleet), _rules(fleet, keys)
    for rule in rules:  # first: one that is not ours ends the command before it has changed those of others
        tables.find(rule)
    from fleet_pipeline.lake.iceberg.sync import sync as brought

    shown = Table("table", "files", "rows", "bytes", "files added", "files removed", "snapshot")
    for rule in rules:
        done = brought(tables, rule)
        counts = (done.files, done.rows, done.bytes, done.added, done.removed, done.snapshot_id or "none")
        shown.add_row(done.name, *map(str, counts))
    console.print(shown)


@iceberg.command()
@_OF_RULES
@click.pass_obj
def check(fleet: Fleet, keys: tuple[str, ...]) -> None:
    """Compare tables with the lake, files, bytes, rows and columns. Exit code 1 if one differs; nothing is changed."""
    tables, rules = opened(fleet), _rules(fleet, keys)
    from fleet_pipeline.lake.iceberg.check import NAMED, compare

    differs = False
    for rule in rules:
        found = compare(tables, rule)
        differs |= not found.same
        said = f"{len(found.differences)} differences" if found.differences else "the same as the lake"
        console.print(f"{found.table.name}: {said} ({found.files} files, {found.table.rows} rows, {found.bytes} bytes)")
        for line in found.differences[:NAMED]:
            console.print(styled(("differs", "red"), f" {plain(line, 500)}"), soft_wrap=True)
    sys.exit(1 if differs else 0)


@iceberg.command()
@_OF_RULES
@click.pass_obj
def maintain(fleet: Fleet, keys: tuple[str, ...]) -> None:
    """Merge manifests, forget snapshots older than FLEET_ICEBERG_SNAPSHOT_DAYS, remove metadata that nothing needs."""
    tables, rules = opened(fleet), _rules(fleet, keys)
    from fleet_pipeline.lake.iceberg.maintenance import maintain_all

    shown = Table("table", "manifests", "snapshots", "objects removed", "bytes removed", "objects left", "bytes left")
    maintained, refused = maintain_all(tables, rules, datetime.now(UTC))
    for done in maintained:
        merged, forgotten = (
            f"{done.manifests_before} to {done.manifests}",
            f"{done.snapshots_before} to {done.snapshots}",
        )
        counts = (done.removed, done.removed_bytes, done.objects, done.bytes)
        shown.add_row(done.name, merged, forgotten, *map(str, counts))
    console.print(shown)
    for error in refused:
        raise error


@iceberg.command()
@_OF_RULES
@click.option("--snapshots", is_flag=True, help="Show every snapshot that can be read, with the instant it was made.")
@click.pass_obj
def show(fleet: Fleet, keys: tuple[str, ...], *, snapshots: bool) -> None:
    """Show where tables are and what they have; their metadata's address is what DuckDB's iceberg_scan takes."""
    tables, rules = opened(fleet), _rules(fleet, keys)
    from fleet_pipeline.lake.iceberg.sync import history, shown

    for rule in rules:
        if (found := tables.find(rule)) is None:
            console.print(f"{'.'.join(tables.identifier(rule))}: there is no table yet; `fleet iceberg sync` makes it")
            continue
        done = shown(tables, rule, found)
        console.print(f"{done.name}: {done.files} files, {done.rows} rows, {done.bytes} bytes", soft_wrap=True)
        console.print(f"  snapshot {done.snapshot_id or 'none'}   {plain(done.metadata_location, 500)}", soft_wrap=True)
        for made in history(found) if snapshots else ():
            at = f"{made.at:%Y-%m-%d %H:%M:%S}"
            console.print(f"  {at}  {made.snapshot_id}  {made.operation}: {made.files} files, {made.rows} rows")


def opened(fleet: Fleet) -> "Tables":
    """Return the fleet's tables. Raises MissingExtra, CatalogRefused, CatalogUnavailable."""
    try:
        from fleet_pipeline.lake.iceberg.tables import Tables
    except ModuleNotFoundError as error:
        raise MissingExtra("PyIceberg", "iceberg") from error
    account = Account.of(fleet)
    return Tables.of(fleet, account.aws, account.catalog_uri(fleet.iceberg_uri))


def _rules(fleet: Fleet, keys: tuple[str, ...]) -> list[Rule]:
    return [fleet.rule(key) for key in keys] or list(fleet.rules)
