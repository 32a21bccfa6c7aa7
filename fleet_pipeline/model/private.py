"""Folders of this machine that none but their owner may enter, whoever makes them first and whatever the umask.

Pure, but for the folders.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet_pipeline.model.errors import InUse, InvalidName


def made_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for their owner alone; close the folder to all others when it
    is there already. Raises InvalidName where it cannot be made, or is not its owner's to close.
    """
    try:
        for each in reversed([folder, *folder.parents]):
            if not each.exists():
                each.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        why = f"it cannot be made for its owner alone ({error.strerror}): name a folder of yours"
        raise InvalidName("folder", str(folder), why) from error


def kept_from_git(folder: Path) -> None:
    """Have git leave alone a folder that holds keys or what a person sent, wherever it lies."""
    with os.fdopen(os.open(folder / ".gitignore", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write("*\n")


@contextmanager
def lock_file(path: Path) -> Iterator[int]:
    """Lend the descriptor of a file that only its owner may open, to be locked; it is made if it is missing.

    Its lock goes with the last copy of it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def used_by_one(lock: Path, what: str, remedy: str) -> Iterator[None]:
    """Hold a file as long as this process does `what`.

    A process that was killed holds it no longer. Raises InUse, with the remedy, when another has it.
    """
    made_private(lock.parent)
    with lock_file(lock) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUse(what, str(lock.parent), remedy) from error
        yield
