"""`fleet errors` and `fleet replay`: what the topic rules could not write."""

import click
from rich.table import Table

from fleet_pipeline.account import Account
from fleet_pipeline.cli.shown import console
from fleet_pipeline.lake.operations import replay as reports
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.plain import plain


@click.command()
@click.pass_obj
def errors(fleet: Fleet) -> None:
    """Count what the rules could not write, and say why."""
    aws = Account.of(fleet).aws
    table = Table("rule", "waiting", "oldest", "why", "strange keys")
    for rule in fleet.made_rules:
        found = reports.waiting(fleet, aws, rule)
        oldest = found.oldest.isoformat(timespec="seconds") if found.oldest else ""
        table.add_row(
            rule.key,
            str(found.reports),
            oldest,
            "\n".join(f"{count}: {plain(why)}" for why, count in found.reasons.items()),
            str(len(found.strange)),
        )
    console.print(table)


@click.command()
@click.pass_obj
def replay(fleet: Fleet) -> None:
    """Put what the rules could not write under the raw keys it would have had. A second time finds nothing to do."""
    aws = Account.of(fleet).aws
    for rule in fleet.made_rules:
        done = reports.replay(fleet, aws, rule)
        hours = ", ".join(hour.partition_key for hour in done.hours)
        kept = f", {done.kept} stay (see docs/rules.md)" if done.kept else ""
        console.print(
            f"{rule.key}: {done.returned} returned, {done.already} were there "
            f"already{kept}{f'; compact again: {hours}' if hours else ''}"
        )
