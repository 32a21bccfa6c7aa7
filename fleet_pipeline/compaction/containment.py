"""The outermost frame of one hour: whatever happens inside ends this hour and nothing else.

Not for what is foreseen: that has an error of its own, nearer to where it happens.
"""

import errno
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet_pipeline.errors import Defect, FleetError, NoRoom
from fleet_pipeline.plain import plain, plain_traceback

_LOG = logging.getLogger(__name__)

TRACED = 20
"""Innermost calls of a traceback that the log gets: an endless recursion has a thousand."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ENOENT}
"""What the system says when the temporary folder takes no more, or no file may be made in it."""


@contextmanager
def contained(what: str) -> Iterator[None]:
    """Let nothing but an error of ours out of the work on `what`, which is one hour.

    Raises NoRoom when this machine's disk or memory did not suffice, and Defect, with its traceback in the log, for what nobody foresaw.
    A stop by the user or by Dagster goes through.
    """
    try:
        yield
    except FleetError:
        raise
    except MemoryError as error:
        raise NoRoom(what, "there is not enough memory") from error
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise _defect(what, error) from error
        raise NoRoom(what, plain(error)) from error
    except Exception as error:
        # The one place for everything: one message must not keep the hours after it from being done.
        raise _defect(what, error) from error


def _defect(what: str, error: Exception) -> Defect:
    _LOG.error("%s: %s", what, plain_traceback(error, TRACED))
    [*_, innermost] = traceback.extract_tb(error.__traceback__)
    return Defect(what, type(error).__name__, plain(error), f"{Path(innermost.filename).name}:{innermost.lineno}")
