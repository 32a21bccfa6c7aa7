"""What keeps the Iceberg tables small, once a day."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from fleet_pipeline.assets.iceberg import tables
from fleet_pipeline.assets.shared.failures import reported
from fleet_pipeline.assets.shared.launched import launched
from fleet_pipeline.assets.shared.scope import Scope

if TYPE_CHECKING:
    from fleet_pipeline.lake.iceberg.maintenance import Maintained

JOB = "maintain_iceberg"

CRON = "10 4 * * *"
"""Once a day, half an hour after the sweep for late data."""


def upkeep_job(scope: Scope) -> dg.JobDefinition:
    """Return the job that does what `fleet iceberg maintain` does."""

    @launched(scope, "maintain_iceberg_op", JOB, "Merge manifests, forget old snapshots, remove unused metadata.")
    def maintain_tables(context: dg.OpExecutionContext) -> None:
        from fleet_pipeline.lake.iceberg.maintenance import maintain_all  # noqa: PLC0415 (as in `tables`)

        with reported():
            opened, now = tables.opened(scope, scope.account(context.resources).opened), datetime.now(UTC)
            done, refused = maintain_all(opened, scope.fleet.rules, now)
            context.add_output_metadata({"tables": dg.MetadataValue.table([_record(each) for each in done])})
            for error in refused:
                raise error

    return maintain_tables


def upkeep_schedule(scope: Scope) -> dg.ScheduleDefinition:
    """Return the schedule of that job. On this machine it runs by itself; in an account somebody starts it."""
    return dg.ScheduleDefinition(
        name=scope.name("maintain_iceberg_tables"),
        job_name=scope.name(JOB),
        cron_schedule=CRON,
        execution_timezone="UTC",
        default_status=scope.schedule_status(by_itself=scope.is_local),
        description="Keeps the metadata of the Iceberg tables small, once a day.",
    )


def _record(done: "Maintained") -> dg.TableRecord:
    return dg.TableRecord(
        {
            "table": done.name,
            "manifests": f"{done.manifests_before} to {done.manifests}",
            "snapshots": f"{done.snapshots_before} to {done.snapshots}",
            "objects removed": done.removed,
            "bytes removed": done.removed_bytes,
            "objects left": done.objects,
            "bytes left": done.bytes,
        }
    )
