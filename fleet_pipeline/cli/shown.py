"""How the commands show things to people."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

console = Console()


def progress(*more: ProgressColumn) -> Progress:
    """Return a progress bar in the house's form, and with more columns at its end."""
    return Progress(TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), *more, console=console)
