"""What somebody meant who typed a command or an option that there is not, where the letters do not tell."""

import re
from typing import Any

import click

from fleet_pipeline.model import settings

ALIKE = {
    "start": ("up", "ui", "plan"),
    "stop": ("down",),
    "list": ("show", "status"),
    "delete": ("destroy", "retire", "reset", "down"),
    "remove": ("destroy", "retire", "reset", "down"),
    "deploy": ("apply",),
    "diff": ("plan",),
    "validate": ("check", "settings"),
    "run": ("demo", "start", "drive"),
    "sql": ("query", "shell"),
}
"""Words that other tools have for a command, and ours, of which the first that there is counts."""

CONFIRMING = {"--yes", "--force", "-y", "-f", "--confirm"}


class MeaningGroup(click.Group):
    """A group of commands whose refusal of a word says which other is meant."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run what was typed. Raises UsageError as click does, with what may be meant."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            if meant := _meant(error):
                raise click.UsageError(error.message + meant, error.ctx) from None
            raise


def _meant(error: click.UsageError) -> str:
    if (found := re.search(r"No such command '([^']+)'", error.message)) and error.ctx:
        known = error.ctx.command.commands if isinstance(error.ctx.command, click.Group) else {}
        ours = next((each for each in ALIKE.get(found[1], ()) if each in known), "")
        return f" Did you mean '{ours}'?" if ours else ""
    if isinstance(error, click.NoSuchOption) and not error.possibilities:
        return _option_meant(error)
    return ""


def _option_meant(error: click.NoSuchOption) -> str:
    options = {name for each in (error.ctx.command.params if error.ctx else ()) for name in each.opts}
    if error.option_name in CONFIRMING:
        ours = next((each for each in ("--confirm", "--yes") if each in options), "")
        return f" It is confirmed by {ours}." if ours else " It asks for no confirmation."
    name = error.option_name.lstrip("-").replace("-", "_")
    if name in {said for said, *_ in settings.defaults()}:
        return f" It is a setting: FLEET_{name.upper()}, or {name} in fleet.toml."
    return ""
