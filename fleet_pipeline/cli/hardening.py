"""`fleet check`: what the asset checks look for, without Dagster."""

import sys
from collections.abc import Iterable
from datetime import UTC, datetime

import click
from rich.table import Table

from fleet_pipeline.account import Account
from fleet_pipeline.cli.shown import console, styled
from fleet_pipeline.cloud.hardening.lints import LintFinding
from fleet_pipeline.model.fleet import Fleet


@click.command()
@click.pass_obj
def check(fleet: Fleet) -> None:
    """Look for settings that invite trouble, put the policies to the attacks, and let a virtual vehicle try.

    Exit code 1 if anything is wrong.
    """
    from fleet_pipeline.cloud.hardening.review import MISSING, reviewed
    from fleet_pipeline.cloud.operations.given import not_carried

    account = Account.of(fleet)
    found = reviewed(fleet, account.aws, datetime.now(UTC).date())
    table = Table("where", "what", "why", "remedy")
    for (where, what, fix), alike in _alike(found).items():
        more = [f"and {len(alike) - NAMED} more"] if len(alike) > NAMED else []
        table.add_row(where, what, "\n".join([*alike[:NAMED], *more]), fix)
    missing = any(each.what == MISSING for _, each in found)
    passed = not missing and tried_by_a_virtual_vehicle(fleet, account)
    console.print(table if found else "no setting invites trouble, and no policy allows an attack")
    if missing:
        console.print("No virtual vehicle was sent while something is missing: run `fleet apply`, and check again.")
    console.print(
        "Vehicles that are registered were not looked at: `fleet vehicle check` names those that cannot connect."
    )
    for note in not_carried(fleet):
        console.print(styled(("not tried:", "yellow"), f" {note}"), soft_wrap=True)
    sys.exit(1 if found or not passed else 0)


NAMED = 5
"""Findings of one kind about one resource that are named; the others are counted."""


def _alike(found: Iterable[tuple[str, LintFinding]]) -> dict[tuple[str, str, str], list[str]]:
    """Return the reasons of findings that have resource, kind and remedy in common."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for where, each in found:
        alike.setdefault((where, each.what, each.fix), []).append(each.why)
    return alike


def tried_by_a_virtual_vehicle(fleet: Fleet, account: Account) -> bool:
    """Let a virtual vehicle register, publish and attack; show each trial, and return whether all
    ended as they should.
    """
    from fleet_pipeline.virtual_vehicle import tried

    trials = tried(fleet, account)
    for trial in trials:
        told = "" if trial.so and trial.tried else f" ({trial.said})"
        console.print(styled((trial.outcome, _COLOURS[trial.outcome]), f": {trial.what}{told}"), soft_wrap=True)
    return all(trial.so for trial in trials)


_COLOURS = {"as it should be": "green", "not tried": "yellow", "wrong": "red"}
