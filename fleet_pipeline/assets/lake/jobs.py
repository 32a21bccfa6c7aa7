"""What can be launched of the lake beside its assets. What the job does stands in the core."""

import dagster as dg

from fleet_pipeline.assets.lake import raw
from fleet_pipeline.assets.shared.failures import reported
from fleet_pipeline.lake.operations.replay import Replayed, replay
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.resources.account import AccountResource


def replay_job(fleet: Fleet) -> dg.JobDefinition:
    """Return the job that puts back what the rules could not write: what `fleet replay` does."""

    @dg.op(out=dg.Out(dg.Nothing))
    def replay_op(context: dg.OpExecutionContext, account: AccountResource) -> None:
        with reported():
            done = {rule: replay(fleet, account.aws, rule) for rule in fleet.rules}
        for rule, replayed in done.items():
            for hour in replayed.hours:
                context.log_event(dg.AssetObservation(raw.key(rule), partition=hour.partition_key, metadata={"came back": "by a replay"}))
        rows = [
            dg.TableRecord({"rule": rule.key, "returned": each.returned, "already there": each.already, "strange": len(each.strange), "hours": _hours(each)})
            for rule, each in done.items()
        ]
        context.add_output_metadata({"rules": dg.MetadataValue.table(rows)})

    @dg.job(name="replay", description="Put what the rules could not write under the raw keys it would have had, once. Compaction takes it for late.")
    def replay_all() -> None:
        replay_op()

    return replay_all


def _hours(replayed: Replayed) -> str:
    return ", ".join(hour.partition_key for hour in replayed.hours) or "none"
