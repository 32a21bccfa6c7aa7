"""The first day of the partitions on this machine: the day on which AWS was started here for the first time.

So a newcomer's graph has no months without messages. It is written into the folder of AWS on this machine and forgotten
with it.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

LOOK_BACK = timedelta(hours=6)
"""Soon after midnight the day before is the first one, so that there are hours that have passed."""

_FOLDER, _FILE = "local-aws", "first-day"


def of_home(home: Path) -> str | None:
    """Return the first day of a home, as 2026-11-29: today's where AWS was never started in it.

    None where a version that wrote no day started it.
    """
    written = home / _FOLDER / _FILE
    if written.exists():
        return written.read_text(encoding="ascii").strip()
    return None if written.parent.exists() else _today()


def write(folder: Path) -> None:
    """Write today as the first day into a new folder of AWS on this machine, for its owner alone."""
    with os.fdopen(
        os.open(folder / _FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii"
    ) as file:
        file.write(_today())


def _today() -> str:
    return f"{datetime.now(UTC) - LOOK_BACK:%Y-%m-%d}"
