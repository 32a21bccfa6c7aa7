"""The group by which AWS bills what the vehicles do: a thing has one at most."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from fleet_pipeline.aws.clients import Aws, absent
from fleet_pipeline.cloud import tags as tagging


@dataclass(frozen=True)
class BillingGroup:
    """A billing group."""

    kind: ClassVar[str] = "billing group"
    fixed: ClassVar[frozenset[str]] = frozenset()
    named_by: ClassVar[str] = "`billing_group` of FLEET_THING"

    name: str
    arn: str
    tags: dict[str, str]

    def console_path(self) -> str:
        """The group's page."""
        return f"iot/home#/billinggroup/{self.name}"

    def read(self, aws: Aws) -> Self | None:
        """Return the group as it is, or None."""
        with absent("ResourceNotFoundException"):
            aws.iot.describe_billing_group(billingGroupName=self.name)
            return replace(self, tags=tagging.of_iot(self.tags, aws, self.arn))
        return None

    def create(self, aws: Aws) -> None:
        """Make the group."""
        aws.iot.create_billing_group(billingGroupName=self.name, tags=tagging.spelled(self.tags))

    def update(self, aws: Aws, _found: Self) -> None:
        """Set the tags again."""
        aws.iot.tag_resource(resourceArn=self.arn, tags=tagging.spelled(self.tags))

    def delete(self, aws: Aws) -> None:
        """Remove the group; things that are in it stay."""
        aws.iot.delete_billing_group(billingGroupName=self.name)
