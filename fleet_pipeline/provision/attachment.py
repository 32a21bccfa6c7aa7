"""The claim policy's attachment to the claim certificate: what lets a new vehicle in."""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from fleet_pipeline.aws import Aws, absent
from fleet_pipeline.errors import AwsUnavailable
from fleet_pipeline.provision.claim_certificate import stored_certificate_id


@dataclass(frozen=True)
class PolicyAttachment:
    """A policy attached to the certificate whose PEM lies in the bucket."""

    kind: ClassVar[str] = "policy attachment"
    fixed: ClassVar[frozenset[str]] = frozenset()

    policy_name: str
    bucket: str
    arn_prefix: str
    certificate_id: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """The policy that is attached."""
        return self.policy_name

    @property
    def arn(self) -> str:
        """The ARN of the certificate that has the policy."""
        return f"{self.arn_prefix}/{self.certificate_id}"

    def console_path(self) -> str:
        """The certificate's page."""
        return f"iot/home#/certificate/{self.certificate_id}"

    def read(self, aws: Aws) -> Self | None:
        """Return the attachment if the claim certificate has the policy, or None."""
        target = self._target(aws)
        if target is None:
            return None
        with absent("ResourceNotFoundException"):
            pages = aws.iot.get_paginator("list_attached_policies").paginate(target=target.arn)
            if any(policy["policyName"] == self.policy_name for page in pages for policy in page["policies"]):
                return target
        return None

    def create(self, aws: Aws) -> None:
        """Attach the policy."""
        target = self._target(aws)
        if target is None:
            raise AwsUnavailable(f"attach {self.policy_name!r}", "ResourceNotFoundException", "there is no claim certificate yet")
        aws.iot.attach_policy(policyName=self.policy_name, target=target.arn)

    def update(self, aws: Aws, _found: Self) -> None:
        """Attach the policy; nothing else can differ."""
        self.create(aws)

    def delete(self, aws: Aws) -> None:
        """Detach the policy."""
        aws.iot.detach_policy(policyName=self.policy_name, target=self.arn)

    def _target(self, aws: Aws) -> Self | None:
        found = stored_certificate_id(aws, self.bucket)
        return replace(self, certificate_id=found) if found else None
