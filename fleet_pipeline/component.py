"""A fleet as a Dagster component: `defs.yaml` describes it, with the settings as attributes."""

from collections.abc import Hashable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from dataclasses import Field as Setting
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import dagster as dg
from pydantic import Field, ValidationError, create_model

from fleet_pipeline.definitions import build_definitions
from fleet_pipeline.model import settings, tables
from fleet_pipeline.model.company import Texts
from fleet_pipeline.model.errors import FleetError, InvalidSetting
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.plain import plain

_BEGINNING = ("profile", "environment", "bucket", "rule_keys")
"""What a new defs.yaml says, as a start, with the defaults: a fleet on this machine."""


def _settings() -> list[Setting[Any]]:
    """Return the settings that are attributes of the same name and type.

    `automation` is true or false in YAML, which takes `on` for true.
    """
    return [each for each in fields(Fleet) if each.name != "automation"]


def _attributes() -> Iterator[tuple[str, Any]]:
    """Yield each setting as an attribute of its own type, with its default, described by its meaning."""
    for each in _settings():
        described = dg.Resolver.default(description=each.metadata["meaning"])
        kind = _attribute_type(each.type)
        if each.name in settings.BY_NAME:
            below = _model(get_args(each.type)[0], without="name")
            kind = kind | dict[str, below]  # type: ignore[valid-type]  # a type that is computed
        yield settings.said_as(each.name), (Annotated[kind, described], _default(each))


def _attribute_type(kind: Any) -> Any:
    """Return a setting's type as YAML has it: lists for tuples, and for each kind of table a model of its fields, so
    that the schema shows them.
    """
    if kind == Texts:
        return dict[str, str]
    if get_origin(kind) is tuple:
        return list[_attribute_type(get_args(kind)[0])]  # type: ignore[misc]  # a type that is computed
    if get_origin(kind) is UnionType:
        return Union[tuple(_attribute_type(each) for each in get_args(kind))]  # noqa: UP007 (of types that are computed)
    return _model(kind) if isinstance(kind, type) and is_dataclass(kind) else kind


@cache
def _model(kind: Hashable, without: str = "") -> type[dg.Model]:
    """Return a model of a kind of table: without the field that says its name, where it stands below that name."""
    table: Any = kind
    described: dict[str, Any] = {
        each.name: (_attribute_type(each.type), Field(_default(each), description=each.metadata["meaning"]))
        for each in fields(table)
        if each.name != without
    }
    named = f"{table.__name__}{'BelowItsName' if without else ''}"
    return create_model(named, __base__=dg.Model, __doc__=table.__doc__, **described)


def _plain(value: Any) -> Any:
    """Return what was said, without the models that took it."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value.model_dump(exclude_unset=True) if isinstance(value, dg.Model) else value


def _default(setting: Setting[Any]) -> Any:
    if setting.default_factory is not MISSING:
        return setting.default_factory()
    if setting.default is MISSING:
        return ...
    default: Any = setting.default
    if is_dataclass(default):
        return tables.written(default)
    if setting.type == Texts:
        return dict(default)
    return list(default) if isinstance(default, tuple) else default


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
        list[str] | str | None,
        dg.Resolver.default(
            description="What stands before every asset key and name of this fleet. Two fleets need two."
        ),
    ] = None
    automation: Annotated[
        bool | None,
        dg.Resolver.default(
            description=(
                "Whether schedules and sensors run from the start. Left out: on this machine all, in an account those "
                "that only read."
            )
        ),
    ] = None

    def __init__(self, **said: Any) -> None:
        """Take attributes. Raises InvalidSetting, which names the one that is of another type or unknown."""
        try:
            super().__init__(**said)
        except ValidationError as error:
            refusal = _refusal(error)
        else:
            return
        raise refusal

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the definitions of the fleet. Raises InvalidSetting, which names the attribute."""
        said = {each.name: _plain(getattr(self, settings.said_as(each.name))) for each in _settings()}
        try:
            return build_definitions(
                settings.of_attributes(said, context.project_root),
                key_prefix=self.key_prefix or (),
                automation=self.automation,
            )
        except FleetError as error:
            # What Dagster shows ends with the sentence, and not with the way to it through this package.
            refusal = error.with_traceback(None)
        raise refusal


def _refusal(error: ValidationError) -> InvalidSetting:
    """Return in a sentence what pydantic found, with its place as in fleet.toml: of several, what lies deepest.

    What may be secret is not shown.
    """
    found = error.errors(include_url=False, include_context=False)
    worst = max(found, key=lambda each: len(each["loc"]))
    place = ""
    for part in worst["loc"]:
        if isinstance(part, int):
            place += f"[{part}]"
        elif "[" not in part:  # or else it says which type of several was tried
            place += f".{part}" if place else part
    attribute, given = str(worst["loc"][0]), worst["input"]
    shown = None if attribute in _SECRET or isinstance(given, dict | list) else plain(given, 100)
    return InvalidSetting(place, shown, f"{worst['msg'][:1].lower()}{worst['msg'][1:]}")


_SECRET = {settings.said_as(each.name) for each in fields(Fleet) if each.metadata["secret"]}
