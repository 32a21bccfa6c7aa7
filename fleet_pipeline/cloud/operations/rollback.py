"""The way back to a former version of a policy or a template.

A rollback lasts until the next apply, which puts in force again what the settings want: it buys time to change them.
"""

from typing import Protocol, runtime_checkable

from fleet_pipeline.aws.clients import Aws, doing
from fleet_pipeline.cloud.blueprint import Blueprint
from fleet_pipeline.cloud.kinds.versions import ResourceVersion
from fleet_pipeline.cloud.reconcile import Resource, Step, plan
from fleet_pipeline.model.errors import InvalidName


@runtime_checkable
class Versioned(Resource, Protocol):
    """A resource that AWS keeps former versions of."""

    def versions(self, aws: Aws) -> list[ResourceVersion]:
        """Return the versions that AWS has kept, newest first."""

    def use_version(self, aws: Aws, number: int) -> None:
        """Put a kept version in force."""


def versioned(parts: Blueprint, name: str) -> Versioned:
    """Return the resource of a part. Raises InvalidName, with the names there are, for a part without versions."""
    kept = {other: part.resource for other, part in parts.items() if isinstance(part.resource, Versioned)}
    if name not in kept:
        raise InvalidName("versioned resource", name, f"AWS keeps versions of {', '.join(kept)}")
    return kept[name]


def versions(resource: Versioned, aws: Aws) -> list[ResourceVersion]:
    """Return the versions that AWS has kept, at most five, newest first."""
    with doing(f"show the versions of {resource.kind} {resource.name!r}"):
        return resource.versions(aws)


def roll_back(resource: Versioned, to: int, aws: Aws) -> Step:
    """Put a kept version in force and return what the next apply would change: it would undo the rollback unless the
    settings follow.

    A second time changes nothing. Raises InvalidName for a version that AWS has not kept, and NotOurs.
    """
    plan(resource, aws)
    found = {version.number: version for version in versions(resource, aws)}
    if to not in found:
        raise InvalidName("version", str(to), f"AWS has kept {', '.join(map(str, sorted(found)))} of {resource.name!r}")
    if not found[to].live:
        with doing(f"return {resource.kind} {resource.name!r} to version {to}"):
            resource.use_version(aws, to)
    return plan(resource, aws)
