"""What only one process of a folder may do at once, and what nothing may be taken away from."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fleet_pipeline.model.private import used_by_one

COMMANDS = {
    "ui": ("Dagster's UI is", "stop it with Ctrl-C where it runs"),
    "demo": ("a demo is", "wait until it is done"),
}
"""What is said when it is done already, and what to do."""


def dagster_folder() -> Path:
    """Return where Dagster keeps what it knows, as `dagster.yaml` says."""
    return Path(os.environ.get("DAGSTER_HOME") or Path.cwd()) / ".dagster"


@contextmanager
def alone(command: str) -> Iterator[None]:
    """Do what only one process of this folder does at once. Raises InUse."""
    with used_by_one(dagster_folder() / f"{command}.lock", *COMMANDS[command]):
        yield


@contextmanager
def nobody_at_work() -> Iterator[None]:
    """Take something away that others here would miss.

    Raises InUse while one is at work; nobody can begin meanwhile.
    """
    with ExitStack() as stack:
        for command in COMMANDS if dagster_folder().is_dir() else ():
            stack.enter_context(alone(command))
        yield
