"""What is too old goes, once a day: `fleet retention` as a job, and what the runs of this fleet printed.

The events of runs stay: by them Dagster knows which partitions there are.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from fleet_pipeline.assets.shared.failures import reported
from fleet_pipeline.assets.shared.launched import Tell, Told, launched
from fleet_pipeline.assets.shared.scope import Own, Scope
from fleet_pipeline.lake.privacy.retention import Gone
from fleet_pipeline.model.fleet import RETENTIONS, Fleet
from fleet_pipeline.model.plain import plain
from fleet_pipeline.retention import aged_out

JOB, SCHEDULE = "retention", "remove_what_is_too_old"

CRON = "20 4 * * *"
"""Once a day, after the sweep for late data, which compacts what is then proved."""

NAMED = 20
"""Hours in the way that are named."""

PAGE = 500
"""Runs that are asked for at once."""

FORGOTTEN = "fleet/compute_logs"
"""The tag of a run whose compute logs were removed."""

OVER = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def retention_job(scope: Scope, own: Callable[[], Own], tell: Tell) -> dg.JobDefinition:
    """Return the job; `own` says which runs are this fleet's, once all of its definitions are made."""

    @launched(scope, "retention_op", JOB, "Remove what is older than FLEET_…_RETENTION_DAYS, once it is proved.")
    def remove(context: dg.OpExecutionContext) -> None:
        now = datetime.now(UTC)
        with reported():
            account = scope.account(context.resources).opened
            gone = aged_out(scope.fleet, account, on_progress=Told(context.log))
        logs = _forget_compute_logs(context, scope, own(), now)
        context.add_output_metadata({**_said(scope.fleet, gone), "runs whose compute logs went": logs})
        if problem := tell(scope, account, context.instance):
            context.log.warning("Dagster shows Iceberg tables as they were until their next run: %s", problem)
        if gone.in_the_way:
            named = "; ".join(plain(each, 400) for each in gone.in_the_way[:NAMED])
            raise dg.Failure(
                f"{len(gone.in_the_way)} are old enough and stay: {named}. The rest is gone.", allow_retries=False
            )

    return remove


def retention_schedule(scope: Scope) -> dg.ScheduleDefinition:
    """Return the schedule of that job. On this machine it runs by itself; in an account somebody starts it."""

    @dg.schedule(
        name=scope.name(SCHEDULE),
        job_name=scope.name(JOB),
        cron_schedule=CRON,
        execution_timezone="UTC",
        default_status=scope.schedule_status(by_itself=scope.is_local),
        description="Removes what is older than the settings say (FLEET_…_RETENTION_DAYS), once a day.",
        required_resource_keys={scope.account_key},
    )
    def remove_what_is_too_old(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if not any(getattr(scope.fleet, name) for name in RETENTIONS):
            return dg.SkipReason("No setting FLEET_…_RETENTION_DAYS says that anything goes.")
        if not scope.account(context.resources).opened.has_bucket(scope.fleet.lake_bucket):
            return dg.SkipReason(f"There is no bucket {scope.fleet.lake_bucket} yet.")
        return dg.RunRequest()

    return remove_what_is_too_old


def _said(fleet: Fleet, gone: Gone) -> dict[str, dg.MetadataValue | int | str]:
    """Return what the UI shows of a run, in its order: it shows the first seven at once."""
    following = {f"next of {what}": dg.MetadataValue.timestamp(at) for what, at in gone.following.items()}
    ages = [f"{name.removesuffix('_retention_days')} {days}" for name in RETENTIONS if (days := getattr(fleet, name))]
    return {
        "ages in days": ", ".join(ages) or "none is set: nothing goes",
        "in the way": len(gone.in_the_way),
        **following,
        "raw versions removed": gone.raw_versions,
        "raw bytes removed": gone.raw_bytes,
        "hours of raw objects": gone.raw_hours,
        "hours of the lake": gone.lake_hours,
        "bytes of parts removed": gone.part_bytes,
        "snapshots forgotten": gone.snapshots,
        "days of the tables about vehicles": gone.days,
        "hours whose objects are only read": gone.read_only.total(),
    }


def _forget_compute_logs(context: dg.OpExecutionContext, scope: Scope, own: Own, now: datetime) -> int:
    """Remove what this fleet's runs printed that were made before an age; return of how many runs it was.

    What lies elsewhere than on this machine goes by Dagster's own manager of these logs.
    """
    if not scope.fleet.compute_log_retention_days:
        return 0
    before, count = now - timedelta(days=scope.fleet.compute_log_retention_days), 0
    origin = context.run.remote_job_origin
    here = origin.repository_origin.code_location_origin if origin else None
    for run in _runs(context.instance, dg.RunsFilter(statuses=OVER, created_before=before)):
        if FORGOTTEN not in run.tags and own.has(run, here):
            context.instance.compute_log_manager.delete_logs(prefix=[run.run_id, "compute_logs"])
            context.instance.add_run_tags(run.run_id, {FORGOTTEN: "removed"})
            count += 1
    return count


def _runs(instance: dg.DagsterInstance, wanted: dg.RunsFilter) -> Iterator[dg.DagsterRun]:
    cursor = None
    while page := instance.get_runs(wanted, cursor=cursor, limit=PAGE):
        yield from page
        cursor = page[-1].run_id
