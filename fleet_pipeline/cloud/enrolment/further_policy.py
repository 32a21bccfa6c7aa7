"""A further device policy, where one document does not hold what a vehicle may do: every vehicle that has the first
policy has this one too.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from fleet_pipeline.aws.clients import Aws, absent
from fleet_pipeline.cloud.enrolment import enrolled
from fleet_pipeline.cloud.kinds.iot_policy import IotPolicy


@dataclass(frozen=True)
class FurtherDevicePolicy:
    """A policy by name, and how many vehicles' certificates `lack` it: a template attaches it to those that register
    from now on, an apply to all others.
    """

    kind: ClassVar[str] = "further device policy"
    fixed: ClassVar[frozenset[str]] = frozenset()

    name: str
    arn: str
    document: dict[str, Any]
    tags: dict[str, str]
    first: str = field(compare=False)
    lack: int = 0

    def console_path(self) -> str:
        """The policy's page."""
        return self._policy.console_path()

    def read(self, aws: Aws) -> Self | None:
        """Return the policy's default version and how many vehicles lack it, or None."""
        found = self._policy.read(aws)
        return replace(self, document=found.document, tags=found.tags, lack=len(self._lacking(aws))) if found else None

    def create(self, aws: Aws) -> None:
        """Make the policy, and attach it to every vehicle's certificate."""
        self._policy.create(aws)
        self._attach(aws)

    def update(self, aws: Aws, found: Self) -> None:
        """Make a new default version, and attach the policy to the certificates that lack it."""
        self._policy.update(aws, replace(self._policy, document=found.document, tags=found.tags))
        self._attach(aws)

    def delete(self, aws: Aws) -> None:
        """Take the policy off every certificate, then remove it: the vehicles stay."""
        for arn in list(enrolled.certificates(aws, self.name)):
            with absent("ResourceNotFoundException"):
                aws.iot.detach_policy(policyName=self.name, target=arn)
        self._policy.delete(aws)

    @property
    def _policy(self) -> IotPolicy:
        return IotPolicy(self.name, self.arn, self.document, self.tags)

    def _lacking(self, aws: Aws) -> list[str]:
        having = {*enrolled.certificates(aws, self.name)}
        return [arn for arn in enrolled.certificates(aws, self.first) if arn not in having]

    def _attach(self, aws: Aws) -> None:
        for arn in self._lacking(aws):
            with absent("ResourceNotFoundException"):  # a vehicle that has been removed meanwhile
                aws.iot.attach_policy(policyName=self.name, target=arn)
