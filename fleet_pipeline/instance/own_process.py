"""Which process works on a run, so that a run whose process was killed can be told from one that works on another
machine, or for another team.
"""

import os
import socket
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg

from fleet_pipeline.instance.internals import CodeLocationOrigin

TAG = "fleet/process"
"""The run's tag: host, process id and, where the system tells, the time at which the process began."""

BEGINNING = timedelta(minutes=5)
"""From a run's start to its first step, at most, on the slowest machine.

As long as Dagster waits for a run to start.
"""


def tag(instance: dg.DagsterInstance, run_id: str) -> None:
    """Note that this process works on a run."""
    if instance.get_run_by_id(run_id):
        instance.add_run_tags(run_id, {TAG: f"{socket.gethostname()} {os.getpid()} {_began(os.getpid())}"})


def is_gone(run: dg.DagsterRun) -> bool:
    """Whether the process that worked on a run was one of this host and is no more.

    Of a run without our tag nothing is known.
    """
    host, _, process = run.tags.get(TAG, "").rpartition(" ")[0].rpartition(" ")
    return host == socket.gethostname() and not _lives(int(process), run.tags[TAG].rpartition(" ")[2])


def never_began(instance: dg.DagsterInstance, record: dg.RunRecord, now: datetime) -> bool:
    """Whether a run was killed between its start and its first step: long ago it started, and nobody has said since
    what process works on it.
    """
    run = record.dagster_run
    if TAG in run.tags or not record.start_time or now.timestamp() - record.start_time < BEGINNING.total_seconds():
        return False
    return not instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)


def is_of_location(run: dg.DagsterRun, here: CodeLocationOrigin | None) -> bool:
    """Whether a run is of this code location, as far as both are known: an instance may have several, and their runs
    are their own business.
    """
    of = run.remote_job_origin
    return of is None or here is None or of.location_name == here.location_name


def _lives(process: int, began: str) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives, and is another user's
        return True
    return _began(process) == began


def _began(process: int) -> str:
    """Return the clock tick at which a process began, or nothing where there is no /proc.

    A process id alone is used again.
    """
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    return "-"
