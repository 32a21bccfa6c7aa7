"""Jobs of one op: what a person launches beside assets and checks."""

from collections.abc import Callable
from typing import Any

import dagster as dg

from fleet_pipeline.assets.shared.scope import Scope


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
