"""A folder for what an hour needs meanwhile; and the end of those whose process died before it could remove its own."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

PREFIX = "fleet-pipeline-"
IN_USE = "in-use"
"""A file that its process holds locked as long as it lives. Who can lock it knows that the folder is left over."""


@contextmanager
def workplace() -> Iterator[Path]:
    """Lend a folder that nobody else may read.

    It is removed at the end; after a kill, by the next who asks for one on this machine.
    """
    _sweep(Path(tempfile.gettempdir()))
    with TemporaryDirectory(prefix=PREFIX) as name:
        folder = Path(name)
        with (folder / "making").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / "making").rename(folder / IN_USE)  # so that nobody finds the file and can lock it
            yield folder


def _sweep(where: Path) -> None:
    for folder in where.glob(f"{PREFIX}*"):
        with suppress(OSError):  # somebody else's, or just removed
            if folder.lstat().st_uid == os.geteuid() and _is_left_over(folder):
                shutil.rmtree(folder)


def _is_left_over(folder: Path) -> bool:
    with (folder / IN_USE).open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
