"""Which process works on a run, so that a run whose process was killed can be told from one that works on another
machine, or for another team.
"""

import multiprocessing
import os
import socket
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg

from fleet_pipeline.instance.internals import CodeLocationOrigin

TAG = "fleet/process"
"""The run's tag: host, process id, where the system tells the time at which the process began, and the run's id.

Dagster gives a run that is a retry the tags of the run before; so the id says whose process it is.
"""

BEGINNING = timedelta(minutes=5)
"""From a run's start to its first step, at most, on the slowest machine.

As long as Dagster waits for a run to start.
"""


def tag(instance: dg.DagsterInstance, run_id: str) -> None:
    """Note which process works on a run, called in the run's process or in that of one of its steps.

    An executor may give each step a process that ends with it: then it is the process that started this one. Where
    that is on another machine, as of a step in a container of its own, nothing is noted.
    """
    process = _of_run(instance, run_id)
    if process and instance.get_run_by_id(run_id):
        instance.add_run_tags(run_id, {TAG: f"{socket.gethostname()} {process} {_began(process)} {run_id}"})


def _of_run(instance: dg.DagsterInstance, run_id: str) -> int | None:
    if not instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTING):
        return os.getpid()
    parent = multiprocessing.parent_process()
    return parent.pid if parent else None


def is_gone(run: dg.DagsterRun) -> bool:
    """Whether the process that worked on a run was one of this host and is no more.

    Of a run without a tag of its own nothing is known.
    """
    host, process, began = _noted(run) or ("", "", "")
    return host == socket.gethostname() and not _lives(int(process), began)


def _noted(run: dg.DagsterRun) -> tuple[str, str, str] | None:
    """Return host, process and its beginning, or None if nobody has said for this very run."""
    host, process, began, run_id = [*run.tags.get(TAG, "").split(" "), "", "", "", ""][:4]
    return (host, process, began) if run_id == run.run_id else None


def never_began(instance: dg.DagsterInstance, record: dg.RunRecord, now: datetime) -> bool:
    """Whether a run was killed between its start and its first step: long ago it started, and nobody has said since
    what process works on it.
    """
    run = record.dagster_run
    if _noted(run) or not record.start_time or now.timestamp() - record.start_time < BEGINNING.total_seconds():
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
