"""The lock of those who change the fleet, as a Dagster resource: taken by the first step of a run that has something to
do.
"""

import socket

import dagster as dg
from pydantic import Field, PrivateAttr

from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.resources.account import AccountResource


class LockResource(dg.ConfigurableResource[Lock]):
    """One run at a time changes the fleet; the lock is given back when the run ends, or the step if each has a process
    of its own.
    """

    account: dg.ResourceDependency[AccountResource]
    bucket: str = Field(description="The bucket in which the lock lies")

    _lock: Lock | None = PrivateAttr(default=None)
    _run: str = PrivateAttr(default="")

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Remember for whom the lock would be."""
        self._run = context.run.run_id if context.run else "unknown"

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002 (Dagster's signature)
        """Give the lock back."""
        if self._lock:
            self._lock.release()

    @property
    def held(self) -> Lock:
        """The run's lock, taken or not."""
        if self._lock is None:
            self._lock = Lock(self.account.aws, self.bucket, f"Dagster run {self._run} on {socket.gethostname()}")
        return self._lock

    def take(self) -> None:
        """Take the lock for this run, unless it has it. Raises LockHeld when someone else changes the fleet."""
        self.held.take()
