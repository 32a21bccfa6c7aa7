"""A fleet's definitions, by their names."""

from functools import cache

from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.definitions import build_definitions
from fleet_pipeline.model.fleet import Fleet

ALONE = Scope(Fleet())
"""The names of a fleet that has a Dagster of its own: without a prefix they are the same for every fleet."""


definitions_of = cache(build_definitions)
"""A fleet's definitions, which nobody changes: to make them takes Dagster a third of a second each time."""


@cache
def resources_of(fleet):
    """What a fleet's definitions are given to work with: its account is opened once."""
    return Scope(fleet).resources


def sensor_of(fleet, name, **options):
    return next(each for each in definitions_of(fleet, **options).sensors if each.name == name)


def schedule_of(fleet, name, **options):
    return next(each for each in definitions_of(fleet, **options).schedules if each.name == name)


def ticked(definition, context):
    """Return what a schedule or sensor says. (Called directly, Dagster hands it resources as arguments that a tick reads from the context.)"""
    function = getattr(definition, "_raw_fn", None) or definition._execution_fn.decorated_fn
    return function(context)
