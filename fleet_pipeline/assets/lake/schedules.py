"""What happens by the clock: closed hours are compacted, and looked at again for what came late."""

from datetime import timedelta

import dagster as dg

from fleet_pipeline.assets.lake import parquet
from fleet_pipeline.assets.lake.late_data import Look
from fleet_pipeline.assets.lake.partitions import CLOSED_HOURS, closed_hours, run_requests, untouched
from fleet_pipeline.instance.internals import SCHEDULE_NAME_TAG
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.resources.account import AccountResource

LOOK_CRON = "*/10 * * * *"
"""A late message is in the lake some ten minutes after it came."""

SWEEP_CRON = "40 3 * * *"
"""Once a day, when little else happens in Europe."""

AT_WORK = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
"""Statuses of a run that will end, or that run monitoring ends."""


def lake_schedules(fleet: Fleet) -> list[dg.ScheduleDefinition]:
    """Return the schedules of the lake. On this machine they run by themselves; in an account somebody starts them."""
    return [_compact(fleet), _look(fleet), _sweep(fleet)]


def _status(fleet: Fleet) -> dg.DefaultScheduleStatus:
    return dg.DefaultScheduleStatus.RUNNING if fleet.profile == "local" else dg.DefaultScheduleStatus.STOPPED


def _compact(fleet: Fleet) -> dg.ScheduleDefinition:
    @dg.schedule(
        name="compact_closed_hours",
        job_name="compact",
        cron_schedule=f"{fleet.grace_minutes} * * * *",
        execution_timezone="UTC",
        default_status=_status(fleet),
        description=f"Compacts each hour {fleet.grace_minutes} minutes after its end, and what was missed in the {fleet.catch_up_hours} hours before.",
    )
    def compact_closed_hours(context: dg.ScheduleEvaluationContext, account: AccountResource) -> list[dg.RunRequest] | dg.SkipReason:
        if not account.opened.has_bucket(fleet.lake_bucket):
            return dg.SkipReason(f"There is no bucket {fleet.lake_bucket} yet: run the job provision, or `fleet apply`.")
        closed = closed_hours(fleet, context.scheduled_execution_time, fleet.catch_up_hours)
        # Hours that failed are left to the sensor late_data, which gives up after some attempts.
        wanted = {parquet.key(rule): untouched(context.instance, parquet.key(rule), fleet, closed) for rule in fleet.rules}
        requests = run_requests(wanted, parquet.own_checks(fleet), "closed", CLOSED_HOURS)
        return list(requests) or dg.SkipReason("Every closed hour is compacted, or a run is at it.")

    return compact_closed_hours


def _look(fleet: Fleet) -> dg.ScheduleDefinition:
    return _looking(fleet, "look_for_late_data", LOOK_CRON, timedelta(hours=fleet.look_back_hours))


def _sweep(fleet: Fleet) -> dg.ScheduleDefinition:
    return _looking(fleet, "sweep_for_late_data", SWEEP_CRON, timedelta(days=fleet.sweep_days))


def _looking(fleet: Fleet, name: str, cron: str, back: timedelta) -> dg.ScheduleDefinition:
    hours = back // timedelta(hours=1)

    @dg.schedule(
        name=name,
        job_name="look",
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=_status(fleet),
        description=f"Looks for messages of the last {hours} closed hours that are not in the lake.",
    )
    def look(context: dg.ScheduleEvaluationContext, account: AccountResource) -> dg.RunRequest | dg.SkipReason:
        if not account.opened.has_bucket(fleet.lake_bucket):
            return dg.SkipReason(f"There is no bucket {fleet.lake_bucket} yet.")
        if context.instance.get_runs_count(dg.RunsFilter(tags={SCHEDULE_NAME_TAG: name}, statuses=AT_WORK)):
            return dg.SkipReason("The look before is not over yet. Where that is usual, set FLEET_LOOK_BACK_HOURS lower.")
        ops = {f"look_at_{rule.key}": Look(hours=hours) for rule in fleet.rules}
        return dg.RunRequest(run_config=dg.RunConfig(ops=ops), tags=CLOSED_HOURS)

    return look
