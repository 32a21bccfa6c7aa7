"""The type of the vehicles' things.

AWS IoT deletes one five minutes after it was deprecated, and none that a thing still has.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from fleet_pipeline.aws.clients import Aws, absent
from fleet_pipeline.cloud import tags as tagging


@dataclass(frozen=True)
class ThingType:
    """A thing type. One that somebody deprecated is given to no new thing, so that vehicles would be refused."""

    kind: ClassVar[str] = "thing type"
    fixed: ClassVar[frozenset[str]] = frozenset()
    named_by: ClassVar[str] = "`type` of FLEET_THING"

    name: str
    arn: str
    tags: dict[str, str]
    deprecated: bool = False

    def console_path(self) -> str:
        """The type's page."""
        return f"iot/home#/thing-type/{self.name}"

    def read(self, aws: Aws) -> Self | None:
        """Return the type as it is, or None."""
        with absent("ResourceNotFoundException"):
            found = aws.iot.describe_thing_type(thingTypeName=self.name)
            return replace(
                self,
                deprecated=found["thingTypeMetadata"].get("deprecated", False),
                tags=tagging.of_iot(self.tags, aws, self.arn),
            )
        return None

    def create(self, aws: Aws) -> None:
        """Make the type."""
        properties: Any = {"thingTypeDescription": "The vehicles of a fleet"}
        aws.iot.create_thing_type(
            thingTypeName=self.name, thingTypeProperties=properties, tags=tagging.spelled(self.tags)
        )

    def update(self, aws: Aws, found: Self) -> None:
        """Put back what differs."""
        if found.tags != self.tags:
            aws.iot.tag_resource(resourceArn=self.arn, tags=tagging.spelled(self.tags))
        if found.deprecated != self.deprecated:
            aws.iot.deprecate_thing_type(thingTypeName=self.name, undoDeprecate=not self.deprecated)

    def delete(self, aws: Aws) -> None:
        """Deprecate it, then remove it; AWS IoT refuses the latter for five minutes, and while a thing has it."""
        if not self.deprecated:
            aws.iot.deprecate_thing_type(thingTypeName=self.name)
        aws.iot.delete_thing_type(thingTypeName=self.name)
