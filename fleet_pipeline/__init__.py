"""A vehicle fleet from its first connection to queryable Parquet, on AWS IoT Core, from Dagster.

`Fleet` is everything that is chosen about one fleet; `build_definitions` is what Dagster is given of it;
`FleetComponent` says the same in YAML. `fleet_of` makes a Fleet of settings as fleet.toml spells them, tables among
them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fleet_pipeline.component import FleetComponent
    from fleet_pipeline.definitions import build_definitions
    from fleet_pipeline.model.fleet import Fleet
    from fleet_pipeline.model.settings import fleet_of

__version__ = "0.1.0"

__all__ = ["Fleet", "FleetComponent", "__version__", "build_definitions", "fleet_of"]

_WHERE = {
    "Fleet": "fleet_pipeline.model.fleet",
    "FleetComponent": "fleet_pipeline.component",
    "build_definitions": "fleet_pipeline.definitions",
    "fleet_of": "fleet_pipeline.model.settings",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: commands that need no Dagster start without it."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    """Return what there is, for those who look for components."""
    return sorted({*globals(), *_WHERE})
