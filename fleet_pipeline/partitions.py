"""The hours of the lake, and the days made of them, as Dagster partitions."""

import warnings

import dagster as dg

from fleet_pipeline.fleet import Fleet

# The parameter has been beta since 1.6; the warning would greet every user at every start.
warnings.filterwarnings("ignore", message="Parameter `allow_nonexistent_upstream_partitions`", category=dg.BetaWarning)


def hours(fleet: Fleet) -> dg.HourlyPartitionsDefinition:
    """Return one partition for each hour (UTC) from the fleet's start to the hour that is running now.

    The running hour may be compacted like any other: what arrives later is appended by the next run.
    """
    return dg.HourlyPartitionsDefinition(start_date=f"{fleet.start}-00:00", end_offset=1)


def days(fleet: Fleet) -> dg.DailyPartitionsDefinition:
    """Return one partition for each day (UTC) from the fleet's start to the day that is running now."""
    return dg.DailyPartitionsDefinition(start_date=fleet.start, end_offset=1)


def hours_of_the_day() -> dg.TimeWindowPartitionMapping:
    """Return how a day is made of hours; those of the running day that have not begun are none of its parents."""
    return dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)
