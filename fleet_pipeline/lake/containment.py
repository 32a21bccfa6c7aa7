"""The outermost frame of one hour: whatever happens inside ends this hour and nothing else.

Not for what is foreseen: that has an error of its own, nearer to where it happens.
"""

import errno
import logging
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from fleet_pipeline.model.errors import Defect, FleetError, FolderRefused, NoRoom
from fleet_pipeline.model.plain import plain, plain_traceback

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

TRACED = 20
"""Innermost calls of a traceback that the log gets: an endless recursion has a thousand."""

DISK = "make room where temporary files go, or set TMPDIR to a folder with room (about the size of the hour's messages)"
MEMORY = "give the process more memory, or let fewer hours be at work at once"
FILES = "let the process have more open files (ulimit -n), or let fewer hours be at work at once"

_NO_ROOM = {
    errno.ENOSPC: DISK,
    errno.EDQUOT: DISK,
    errno.EFBIG: DISK,  # ulimit -f
    errno.ENOMEM: MEMORY,
    errno.EMFILE: FILES,
    errno.ENFILE: FILES,
}
"""What the system says when something of this machine is used up, and what then helps."""

_REFUSED = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EIO,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENXIO,
    errno.ESTALE,
}
"""What the system says of a folder in which this user may not write, that is gone, or whose disk is broken."""


def outcome_of(what: str, work: Callable[[], T]) -> T | FleetError:
    """Return what the work on `what`, which is one hour, returns, or the error of ours by which it ended."""
    try:
        with contained(what):
            return work()
    except FleetError as error:
        return error


@contextmanager
def contained(what: str) -> Iterator[None]:
    """Let nothing but an error of ours out of the work on `what`, which is one hour.

    Raises NoRoom when disk, memory or open files of this machine are used up, FolderRefused when temporary files cannot
    be used, and Defect, with its traceback in the log, for what nobody foresaw. A stop by the user or by Dagster goes
    through.
    """
    try:
        yield
    except FleetError:
        raise
    except MemoryError as error:
        raise NoRoom(what, "there is not enough memory", MEMORY) from error
    except OSError as error:
        raise _of_system(what, error) from error
    except Exception as error:
        # The one place for everything: one message must not keep the hours after it from being done.
        raise _defect(what, error) from error


def _of_system(what: str, error: OSError) -> FleetError:
    if remedy := _NO_ROOM.get(error.errno or 0):
        return NoRoom(what, plain(error), remedy)
    if error.errno in _REFUSED and _is_of_temporary_files(error):
        return FolderRefused(what, plain(error))
    return _defect(what, error)


def _is_of_temporary_files(error: OSError) -> bool:
    """Whether an error names a file of the temporary folder, or says that there is none.

    Of any other file the hour should know nothing.
    """
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError:
        return True
    return isinstance(error.filename, str) and Path(error.filename).is_relative_to(folder)


def _defect(what: str, error: Exception) -> Defect:
    _LOG.error("%s: %s", what, plain_traceback(error, TRACED))
    [*_, innermost] = traceback.extract_tb(error.__traceback__)
    return Defect(what, type(error).__name__, plain(error), f"{Path(innermost.filename).name}:{innermost.lineno}")
