"""How the commands show things to people."""

import sys
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from fleet_pipeline.model.plain import plain_lines


class PlainConsole(Console):
    """A console to which a text is a text: no markup, no emoji, and what is not printable is shown as its code.

    Colours are given as styles.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False)

    def render_str(self, text: str, **how: Any) -> Text:
        """Return a text ready to be shown; every text that is printed, or stands in a table, comes this way."""
        return super().render_str(plain_lines(text), **how)


console = PlainConsole()
errors = PlainConsole(stderr=True)


def styled(*parts: str | tuple[str, str]) -> Text:
    """Return texts one after another, those with a style in their colours; all are plain."""
    return Text.assemble(
        *(plain_lines(each) if isinstance(each, str) else (plain_lines(each[0]), each[1]) for each in parts)
    )


def ask(question: str) -> None:
    """Go on if the answer is yes, and end the command otherwise; where nobody can answer, say what answers instead."""
    if sys.stdin.isatty():
        click.confirm(question, abort=True)
        return
    try:
        click.confirm(question, abort=True)
    except click.Abort:
        raise click.ClickException("nobody said yes, and nothing was changed; where nobody can, `--yes` does") from None


def progress(*more: ProgressColumn) -> Progress:
    """Return a progress bar in the house's form, and with more columns at its end."""
    return Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        *more,
        console=console,
    )
