"""A fleet as a Dagster component: `defs.yaml` describes it, with the settings as attributes."""

from collections.abc import Iterator
from dataclasses import Field as Setting
from dataclasses import fields
from typing import Annotated, Any

import dagster as dg
from pydantic import create_model

from fleet_pipeline.definitions import build_definitions
from fleet_pipeline.model import settings
from fleet_pipeline.model.fleet import Fleet

_BEGINNING = ("profile", "environment", "bucket", "rule_keys")
"""What a new defs.yaml says, as a start, with the defaults: a fleet on this machine."""


def _attributes() -> Iterator[tuple[str, Any]]:
    """Yield each setting as an attribute of its own type, with its default, described by its meaning."""
    for each in fields(Fleet):
        described = dg.Resolver.default(description=each.metadata["meaning"])
        yield each.name, (Annotated[_type(each), described], _default(each))


def _type(setting: Setting[Any]) -> Any:
    return list[str] if setting.name == "rule_keys" else setting.type


def _default(setting: Setting[Any]) -> Any:
    return list(setting.default) if isinstance(setting.default, tuple) else setting.default


_Settings: Any = create_model("_Settings", __base__=dg.Model, **dict(_attributes()))


class FleetScaffolder(dg.Scaffolder[Any]):
    """Writes the defs.yaml of `dg scaffold defs fleet_pipeline.FleetComponent NAME`."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        """Write a defs.yaml that loads as it is, with AWS on this machine."""
        dg.scaffold_component(request, {each.name: _default(each) for each in fields(Fleet) if each.name in _BEGINNING})


@dg.scaffold_with(FleetScaffolder)
class FleetComponent(dg.Component, dg.Resolvable, _Settings):  # type: ignore[misc]  # its fields are made of those of Fleet
    """A vehicle fleet on AWS IoT Core: its cloud side, its lake of Parquet, and what looks after both."""

    key_prefix: Annotated[
        list[str] | None, dg.Resolver.default(description="What stands before every asset key and name of this fleet. Two fleets need two.")
    ] = None
    automation: Annotated[
        bool | None,
        dg.Resolver.default(description="Whether schedules and sensors run from the start. Left out: on this machine all, in an account those that only read."),
    ] = None

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the definitions of the fleet. Raises InvalidSetting, which names the attribute."""
        said = {each.name: getattr(self, each.name) for each in fields(Fleet)}
        return build_definitions(settings.of_attributes(said, context.project_root), key_prefix=self.key_prefix or (), automation=self.automation)
