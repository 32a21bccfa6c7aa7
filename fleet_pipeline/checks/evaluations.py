"""The last word of a check, as Dagster keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a check said last. Its id grows with each."""

    id: int
    passed: bool
    severity: dg.AssetCheckSeverity
    description: str
    metadata: Mapping[str, Any]


def last_evaluation(instance: dg.DagsterInstance, check: dg.AssetCheckKey) -> Evaluation | None:
    """Return what a check said last, or None while it has said nothing or is being asked."""
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key([check]).get(check)
    said = record.evaluation if record else None
    if record is None or said is None:
        return None
    return Evaluation(record.id, said.passed, said.severity, said.description or "", {name: value.value for name, value in said.metadata.items()})
