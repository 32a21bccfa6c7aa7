"""The hours of the lake as Dagster partitions."""

import dagster as dg

from fleet_pipeline.fleet import Fleet


def hours(fleet: Fleet) -> dg.HourlyPartitionsDefinition:
    """Return one partition for each hour (UTC) from the fleet's start to the hour that is running now.

    The running hour may be compacted like any other: what arrives later is appended by the next run.
    """
    return dg.HourlyPartitionsDefinition(start_date=f"{fleet.start}-00:00", end_offset=1)
