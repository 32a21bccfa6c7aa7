"""Jobs of one op: what a person launches beside assets and checks."""

import time
from collections.abc import Callable
from typing import Any

import dagster as dg

from fleet_pipeline.account import Account
from fleet_pipeline.assets.shared.scope import Scope

TELL_EVERY_S = 10.0
"""Seconds between two lines in the log that say how far a job is."""

Tell = Callable[[Scope, Account, dg.DagsterInstance], str]
"""What has Dagster know what tables over the lake are now that rows were taken out of it; it returns why not."""


class Told:
    """What the log hears of a job that takes long: how far each of its stages is."""

    def __init__(self, log: dg.DagsterLogManager, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock, self._at = log, clock, clock()

    def __call__(self, what: str, far: int, total: int) -> None:
        """Say it, unless something was said a moment ago."""
        if self._clock() >= self._at + TELL_EVERY_S:
            self._at = self._clock()
            self._log.info("%s: %s of %s", what, f"{far:,}", f"{total:,}")


def launched(scope: Scope, op: str, job: str, description: str) -> Callable[[Callable[..., None]], dg.JobDefinition]:
    """Make a function the one op of a job; its context's resources are the account and the lock."""

    def as_job(work: Callable[..., None]) -> dg.JobDefinition:
        resources = {scope.account_key, scope.lock_key}
        only = dg.op(name=scope.name(op), out=dg.Out(dg.Nothing), required_resource_keys=resources)(work)

        @dg.job(name=scope.name(job), description=description, executor_def=scope.executor)
        def graph() -> Any:
            only()

        return graph

    return as_job
