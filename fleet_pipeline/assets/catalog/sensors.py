"""What happens to the tables made of the lake because its hours have changed."""

import dagster as dg

from fleet_pipeline.assets.catalog.glue_tables import GROUP
from fleet_pipeline.assets.lake.sensors import INTERVAL_S, default_status
from fleet_pipeline.model.fleet import Fleet


def table_sensor(fleet: Fleet) -> dg.AutomationConditionSensorDefinition:
    """Return the sensor that keeps the tables made of the lake in step with it. On this machine it runs by itself; in an account somebody starts it."""
    return dg.AutomationConditionSensorDefinition(
        "tables_follow_the_lake",
        target=dg.AssetSelection.groups(GROUP, "vehicles"),
        minimum_interval_seconds=INTERVAL_S,
        default_status=default_status(fleet),
        description="Asks for the tables about vehicles, and for those of the catalog once there is its database, where the lake has grown.",
    )
