"""A vehicle fleet from its first connection to queryable Parquet, on AWS IoT Core, from Dagster.

`Fleet` is everything that is chosen about one fleet; `build_definitions` is what Dagster is given of it;
`FleetComponent` says the same in YAML. `fleet_of` makes a Fleet of settings as fleet.toml spells them, tables among
them; `fleet_of_file` reads such a file. `hour_partitions`, `day_partitions` and `hours_of_the_day` are for assets of
yours that stand on a fleet's.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fleet_pipeline.assets.lake.partitions import hours_of_the_day
    from fleet_pipeline.component import FleetComponent
    from fleet_pipeline.definitions import build_definitions, day_partitions, hour_partitions
    from fleet_pipeline.model.fleet import Fleet
    from fleet_pipeline.model.settings import fleet_of, fleet_of_file

__version__ = "0.1.0"

__all__ = [
    "Fleet",
    "FleetComponent",
    "__version__",
    "build_definitions",
    "day_partitions",
    "fleet_of",
    "fleet_of_file",
    "hour_partitions",
    "hours_of_the_day",
]

_WHERE = {
    "Fleet": "fleet_pipeline.model.fleet",
    "FleetComponent": "fleet_pipeline.component",
    "build_definitions": "fleet_pipeline.definitions",
    "day_partitions": "fleet_pipeline.definitions",
    "fleet_of": "fleet_pipeline.model.settings",
    "fleet_of_file": "fleet_pipeline.model.settings",
    "hour_partitions": "fleet_pipeline.definitions",
    "hours_of_the_day": "fleet_pipeline.assets.lake.partitions",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: commands that need no Dagster start without it."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    """Return what there is, for those who look for components."""
    return sorted({*globals(), *_WHERE})
