"""What happens to the cloud side by the clock: AWS is compared with the settings."""

import dagster as dg

from fleet_pipeline.assets.shared.scope import Scope

DRIFT_CRON = "23 * * * *"
"""Once an hour, at a minute of its own: a plan makes about 60 reading calls, and AWS IoT allows some 10 a second to the
whole account.
"""


def drift_schedule(scope: Scope) -> dg.ScheduleDefinition:
    """Return the schedule that looks for drift.

    It only reads, so it runs from the start in an account; on this machine somebody starts it.
    """
    return dg.ScheduleDefinition(
        name=scope.name("look_for_drift"),
        job_name=scope.name("plan"),
        cron_schedule=DRIFT_CRON,
        default_status=scope.schedule_status(by_itself=not scope.is_local),
        description="Compares AWS with the settings, every hour.",
    )
