"""What can be launched of the lake beside its assets. What the job does stands in the core."""

import dagster as dg

from fleet_pipeline.assets.lake import raw
from fleet_pipeline.assets.shared.failures import reported
from fleet_pipeline.assets.shared.launched import launched
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.lake.operations.replay import Replayed, replay


def replay_job(scope: Scope) -> dg.JobDefinition:
    """Return the job that puts back what the rules could not write: what `fleet replay` does."""
    fleet = scope.fleet

    @launched(
        scope,
        "replay_op",
        "replay",
        "Put what the rules could not write under the raw keys it would have had, once. Compaction takes it for late.",
    )
    def replay_all(context: dg.OpExecutionContext) -> None:
        with reported():
            aws = scope.account(context.resources).aws
            done = {rule: replay(fleet, aws, rule) for rule in fleet.made_rules}
        for rule, replayed in done.items():
            for hour in replayed.hours:
                context.log_event(
                    dg.AssetObservation(
                        raw.key(scope, rule), partition=hour.partition_key, metadata={"came back": "by a replay"}
                    )
                )
        rows = [
            dg.TableRecord(
                {
                    "rule": rule.key,
                    "returned": each.returned,
                    "already there": each.already,
                    "stay": each.kept,
                    "strange": len(each.strange),
                    "hours": _hours(each),
                }
            )
            for rule, each in done.items()
        ]
        context.add_output_metadata({"rules": dg.MetadataValue.table(rows)})

    return replay_all


def _hours(replayed: Replayed) -> str:
    return ", ".join(hour.partition_key for hour in replayed.hours) or "none"
