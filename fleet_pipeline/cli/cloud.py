"""`fleet plan`, `fleet apply` and `fleet adopt`: the cloud side of the fleet without Dagster."""

import getpass
import json
import os
import socket
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import click
from rich.table import Table

from fleet_pipeline.account import Account
from fleet_pipeline.cli.hardening import tried_by_a_virtual_vehicle
from fleet_pipeline.cli.shown import console, styled
from fleet_pipeline.cloud.difference import difference
from fleet_pipeline.cloud.kinds.given_bucket import GivenBucket
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations import adopt as adoption
from fleet_pipeline.cloud.operations.apply import apply_all, losses, plan_all
from fleet_pipeline.cloud.operations.foreign import ForeignFinding, findings
from fleet_pipeline.cloud.operations.given import Looked, looked_at
from fleet_pipeline.cloud.operations.taken import to_confirm
from fleet_pipeline.cloud.reconcile import Action, Step
from fleet_pipeline.model.errors import NotOurs
from fleet_pipeline.model.fleet import Fleet

COLOURS = {
    Action.CREATE: "green",
    Action.UPDATE: "yellow",
    Action.REPLACE: "magenta",
    Action.UNCHANGED: "dim",
    Action.CANNOT_CHANGE: "red",
    Action.NOT_OURS: "red",
    Action.DELETE: "red",
    Action.ABSENT: "dim",
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON document.")
@click.option("--full", is_flag=True, help="Show the documents of what would be created, too.")
@click.pass_obj
def plan(fleet: Fleet, *, as_json: bool, full: bool) -> None:
    """Show what `fleet apply` would do, without doing it.

    Exit code 0: nothing to do; 2: changes; 1: an error, or something that `fleet apply` would refuse.
    """
    aws = Account.of(fleet).aws
    steps, found, given = plan_all(fleet, aws), findings(fleet, aws), looked_at(fleet, aws)
    lost = losses(fleet, steps, aws)
    if as_json:
        said = {
            "resources": [_record(step) for step in steps],
            "findings": [str(each) for each in found],
            "missing": [*given.missing],
            "notes": [*given.notes],
            "would lose": [*lost],
        }
        click.echo(json.dumps(said, indent=2))
    else:
        _show_differences([step for step in steps if full or step.action is not Action.CREATE])
        _show_steps(steps, found)
        if not full and any(step.action is Action.CREATE for step in steps):
            console.print("`fleet plan --full` shows the documents of what would be created, too", soft_wrap=True)
        _show_given(given)
        if lost:
            what = f" {'; '.join(lost)}: `fleet apply` wants `--confirm {to_confirm(fleet, steps)}`"
            console.print(styled(("would lose:", "red"), what), soft_wrap=True)
    sys.exit(1 if given.missing else _exit_code(steps))


@click.command()
@click.option(
    "--confirm",
    default="",
    metavar="BUCKET",
    help="Name of the raw bucket, to delete or take from vehicles what is no longer in the settings.",
)
@click.option("--no-trial", is_flag=True, help="Do not let a virtual vehicle try what was changed.")
@click.pass_obj
def apply(fleet: Fleet, confirm: str, *, no_trial: bool) -> None:
    """Bring AWS to what the settings want. A second time changes nothing.

    What this fleet made and is no longer in the settings is deleted; buckets never are.

    When something was changed, a virtual vehicle tries it, as `fleet check` does; exit code 1 if it finds anything
    wrong.
    """
    account = Account.of(fleet)
    with Lock(account.aws, fleet.bucket, who()) as lock:
        steps = list(apply_all(fleet, account.aws, lock, confirmed=confirm))
    _show_steps(steps, findings(fleet, account.aws))
    if not no_trial and any(step.action is not Action.UNCHANGED for step in steps):
        sys.exit(0 if tried_by_a_virtual_vehicle(fleet, account) else 1)


@click.command()
@click.option("--apply", "tag", is_flag=True, help="Tag them as this fleet's; nothing else is changed.")
@click.pass_obj
def adopt(fleet: Fleet, *, tag: bool) -> None:
    """Show the resources that have our names and not our tag, such as the CDK app's, and take them over.

    Once they are tagged, `fleet plan` shows what differs and `fleet apply` upgrades them. None is made anew.
    """
    aws = Account.of(fleet).aws
    if tag:
        with Lock(aws, fleet.bucket, who()) as lock:
            steps = adoption.adopt(fleet, aws, lock)
    else:
        steps = adoption.foreign(fleet, aws)
    _show_differences(steps)
    others = [step.refusal for step in steps if isinstance(step.refusal, NotOurs) and step.refusal.owner]
    for refusal in others:
        console.print(styled((str(refusal), "red")))
    console.print(_adopted(len(steps) - len(others), tagged=tag))


def _adopted(count: int, *, tagged: bool) -> str:
    if not count:
        return "every resource of our names that exists carries our tag: there is nothing to adopt"
    return (
        f"{count} adopted: see `fleet plan`"
        if tagged
        else f"{count} to adopt: `fleet adopt --apply` tags them and changes nothing else"
    )


def who() -> str:
    """Return what the lock says of this process."""
    return f"{getpass.getuser()}@{socket.gethostname()} (fleet, process {os.getpid()})"


def _exit_code(steps: Sequence[Step]) -> int:
    if any(step.refusal for step in steps):
        return 1
    return 0 if all(step.action is Action.UNCHANGED for step in steps) else 2


def _record(step: Step) -> dict[str, Any]:
    changes = [{"field": change.field, "found": change.found, "wanted": change.wanted} for change in step.changes]
    return {
        "resource": step.title,
        "arn": step.wanted.arn,
        "action": step.action,
        "changes": changes,
        "refusal": str(step.refusal) if step.refusal else None,
        **({"left to its owner": [*left]} if (left := _left(step)) else {}),
    }


def _left(step: Step) -> tuple[str, ...]:
    """Return what the settings want of another team's bucket, to which nothing is done."""
    return step.wanted.left_to_its_owner if isinstance(step.wanted, GivenBucket) else ()


def _show_differences(steps: Sequence[Step]) -> None:
    for step in steps:
        if step.changes:
            console.print(styled((step.action, f"bold {COLOURS[step.action]}"), f" {step.title}"))
            for line in difference(step.changes).splitlines():
                console.print(styled("    ", (line, _COLOURS.get(line[:1], ""))), soft_wrap=True)


_COLOURS = {"+": "green", "-": "red", "@": "cyan"}
"""How the lines of a difference are shown, by their first character."""


def _show_given(given: Looked) -> None:
    for missing in given.missing:
        console.print(styled(("missing:", "red"), f" {missing}"), soft_wrap=True)
    for note in given.notes:
        console.print(styled(("note:", "yellow"), f" {note}"), soft_wrap=True)


def _show_steps(steps: Sequence[Step], found: Sequence[ForeignFinding]) -> None:
    table = Table("resource", "action", "fields")
    for step in steps:
        fields = "" if step.action is Action.CREATE else ", ".join(change.field for change in step.changes)
        table.add_row(step.title, styled((step.action, COLOURS[step.action])), fields)
    console.print(table)
    console.print(", ".join(f"{count} {action}" for action, count in Counter(step.action for step in steps).items()))
    for step in steps:
        if step.refusal:
            console.print(styled(("refused:", "red"), f" {step.refusal}"), soft_wrap=True)
    for step in steps:
        for what in _left(step):
            console.print(styled(("left to its owner:", "yellow"), f" {what} of {step.title}"), soft_wrap=True)
    for each in found:
        console.print(styled(("found beside it:", "yellow"), f" {each}"), soft_wrap=True)
