"""What happens by the clock: closed hours are compacted, and looked at again for what came late."""

from datetime import timedelta

import dagster as dg

from fleet_pipeline.assets.lake import parquet
from fleet_pipeline.assets.lake.late_data import Look, looking_op
from fleet_pipeline.assets.lake.partitions import CLOSED_HOURS, closed_hours, run_requests, untouched
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.instance.internals import SCHEDULE_NAME_TAG
from fleet_pipeline.model.errors import FleetError
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.plain import plain

LOOK_CRON = "*/10 * * * *"
"""A late message is in the lake some ten minutes after it came."""

SWEEP_CRON = "40 3 * * *"
"""Once a day, when little else happens in Europe."""

AT_WORK = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
"""Statuses of a run that will end, or that run monitoring ends."""


def lake_schedules(scope: Scope) -> list[dg.ScheduleDefinition]:
    """Return the schedules of the lake. On this machine they run by themselves; in an account somebody starts them."""
    return [_compact(scope), _look(scope), _sweep(scope)]


def _compact(scope: Scope) -> dg.ScheduleDefinition:
    fleet = scope.fleet

    @dg.schedule(
        name=scope.name("compact_closed_hours"),
        job_name=scope.name("compact"),
        cron_schedule=f"{fleet.due_minutes} * * * *",
        execution_timezone="UTC",
        default_status=scope.schedule_status(by_itself=scope.is_local),
        description=(
            f"Compacts each hour {fleet.due_minutes} minutes after its end, and what was missed in the "
            f"{fleet.catch_up_hours} hours before."
        ),
        required_resource_keys={scope.account_key},
    )
    def compact_closed_hours(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        if not scope.account(context.resources).opened.has_bucket(fleet.lake_bucket):
            return dg.SkipReason(
                f"There is no bucket {fleet.lake_bucket} yet: run the job provision, or `fleet apply`."
            )
        account, closed = scope.account(context.resources), dict[dg.AssetKey, list[Hour]]()
        for rule in fleet.rules:
            try:
                until = parquet.reach(fleet, account, rule, context.scheduled_execution_time).until
            except FleetError as error:  # of an inventory: other rules do not wait for it, and the look is red
                context.log.warning(plain(str(error), 1000))
                continue
            closed[parquet.key(scope, rule)] = closed_hours(fleet, until, fleet.catch_up_hours)
        # Hours that failed are left to the sensor late_data, which gives up after some attempts.
        wanted = untouched(context.instance, fleet, closed)
        requests = run_requests(wanted, parquet.own_checks(scope), "closed", CLOSED_HOURS)
        return list(requests) or dg.SkipReason("Every closed hour is compacted, or a run is at it.")

    return compact_closed_hours


def _look(scope: Scope) -> dg.ScheduleDefinition:
    return _looking(scope, scope.name("look_for_late_data"), LOOK_CRON, timedelta(hours=scope.fleet.look_back_hours))


def _sweep(scope: Scope) -> dg.ScheduleDefinition:
    return _looking(scope, scope.name("sweep_for_late_data"), SWEEP_CRON, timedelta(days=scope.fleet.sweep_days))


def _looking(scope: Scope, name: str, cron: str, back: timedelta) -> dg.ScheduleDefinition:
    hours = back // timedelta(hours=1)

    @dg.schedule(
        name=name,
        job_name=scope.name("look"),
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=scope.schedule_status(by_itself=scope.is_local),
        description=f"Looks for messages of the last {hours} closed hours that are not in the lake.",
        required_resource_keys={scope.account_key},
    )
    def look(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if not scope.account(context.resources).opened.has_bucket(scope.fleet.lake_bucket):
            return dg.SkipReason(f"There is no bucket {scope.fleet.lake_bucket} yet.")
        if context.instance.get_runs_count(dg.RunsFilter(tags={SCHEDULE_NAME_TAG: name}, statuses=AT_WORK)):
            return dg.SkipReason(
                "The look before is not over yet. Where that is usual, set FLEET_LOOK_BACK_HOURS lower."
            )
        ops = {looking_op(scope, rule): Look(hours=hours) for rule in scope.fleet.rules}
        return dg.RunRequest(run_config=dg.RunConfig(ops=ops), tags=CLOSED_HOURS)

    return look
