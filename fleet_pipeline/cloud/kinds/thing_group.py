"""A group that every vehicle's thing joins. What others do with it (members, policies, jobs, a parent) is theirs."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from fleet_pipeline.aws.clients import Aws, absent
from fleet_pipeline.cloud import tags as tagging


@dataclass(frozen=True)
class ThingGroup:
    """A static thing group."""

    kind: ClassVar[str] = "thing group"
    fixed: ClassVar[frozenset[str]] = frozenset()
    named_by: ClassVar[str] = "`groups` of FLEET_THING"

    name: str
    arn: str
    tags: dict[str, str]

    def console_path(self) -> str:
        """The group's page."""
        return f"iot/home#/thinggroup/{self.name}"

    def read(self, aws: Aws) -> Self | None:
        """Return the group as it is, or None."""
        with absent("ResourceNotFoundException"):
            aws.iot.describe_thing_group(thingGroupName=self.name)
            return replace(self, tags=tagging.of_iot(self.tags, aws, self.arn))
        return None

    def create(self, aws: Aws) -> None:
        """Make the group."""
        aws.iot.create_thing_group(thingGroupName=self.name, tags=tagging.spelled(self.tags))

    def update(self, aws: Aws, _found: Self) -> None:
        """Set the tags again."""
        aws.iot.tag_resource(resourceArn=self.arn, tags=tagging.spelled(self.tags))

    def delete(self, aws: Aws) -> None:
        """Remove the group; things that are in it stay. AWS IoT refuses while it has groups below it."""
        aws.iot.delete_thing_group(thingGroupName=self.name)
