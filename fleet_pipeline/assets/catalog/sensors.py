"""What happens to the tables made of the lake because its hours have changed."""

from collections.abc import Iterable

import dagster as dg

from fleet_pipeline.assets.lake.sensors import INTERVAL_S
from fleet_pipeline.assets.shared.scope import Scope


def table_sensor(scope: Scope, tables: Iterable[dg.AssetsDefinition]) -> dg.AutomationConditionSensorDefinition:
    """Return the sensor that keeps the tables made of the lake in step with it.

    On this machine it runs by itself; in an account somebody starts it.
    """
    return dg.AutomationConditionSensorDefinition(
        scope.name("tables_follow_the_lake"),
        target=dg.AssetSelection.assets(*tables),
        minimum_interval_seconds=INTERVAL_S,
        default_status=scope.sensor_status(by_itself=scope.is_local),
        description=(
            "Asks for the tables about vehicles, and for those of the catalog once there is its database, where the "
            "lake has grown."
        ),
    )
