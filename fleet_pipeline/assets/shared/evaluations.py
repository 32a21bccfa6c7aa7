"""The last word of a check, as Dagster keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from fleet_pipeline.instance.internals import AssetCheckExecutionRecordStatus


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a check said last. Its id grows with each."""

    id: int
    passed: bool
    severity: dg.AssetCheckSeverity
    description: str
    metadata: Mapping[str, Any]


_SAID = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}
"""A check that is planned, or was planned and then skipped, has said nothing."""


def last_evaluation(instance: dg.DagsterInstance, check: dg.AssetCheckKey) -> Evaluation | None:
    """Return what a check said last, or None while it has said nothing. One that is being asked is as it was."""
    for record in instance.event_log_storage.get_asset_check_execution_history(check, limit=1, status=_SAID):
        if isinstance(said := record.evaluation, dg.AssetCheckEvaluation):
            return Evaluation(
                record.id,
                said.passed,
                said.severity,
                said.description or "",
                {name: value.value for name, value in said.metadata.items()},
            )
    return None
