"""`fleet hook`: the company's own check in the pre-provisioning hook (FLEET_HOOK_FILE)."""

import json
import sys
from pathlib import Path

import click

from fleet_pipeline.account import Account
from fleet_pipeline.cli.shown import console
from fleet_pipeline.cloud import own_check
from fleet_pipeline.cloud.hook_trial import asked
from fleet_pipeline.model.errors import InvalidName
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.plain import plain


@click.group()
def hook() -> None:
    """The hook with a check of your own: what it requires, and what it would answer."""


@hook.command()
@click.pass_obj
def vendor(fleet: Fleet) -> None:
    """Install what FLEET_HOOK_REQUIREMENTS names, for Lambda, into the fleet's home; `fleet apply` then puts it into
    the function's code.
    """
    console.print(f"installed in {own_check.vendor(fleet)}")


@hook.command()
@click.argument("event", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.pass_obj
def test(fleet: Fleet, event: Path) -> None:
    """Say what the hook would answer to EVENT, a file of JSON as AWS IoT sends it; `{"parameters": {"SerialNumber":
    "…"}}` will do.

    The function's code runs in a process of its own, here, with its own settings and your credentials; it asks AWS and
    changes nothing.
    Exit code 0: allowed; 1: refused.
    """
    answer = asked(fleet, Account.of(fleet).aws, _event(event))
    console.print(plain(f"{'allowed' if answer.allowed else 'refused'}: {answer.reason}"), markup=False)
    if answer.claim_made_up:
        console.print(
            "The fleet has no claim certificate yet (`fleet apply` makes it): one was made up for this answer."
        )
    sys.exit(0 if answer.allowed else 1)


def _event(file: Path) -> dict[str, object]:
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidName("event", str(file), f"it is no JSON: {error}") from error
    if not isinstance(said, dict):
        raise InvalidName("event", str(file), "it must be an object")
    return said
