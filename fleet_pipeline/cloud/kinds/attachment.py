"""The claim policy's attachment to the claim certificate, and with it the certificate's activation: what lets a new
vehicle in.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from fleet_pipeline.aws.clients import Aws, absent
from fleet_pipeline.cloud.claims import life, making
from fleet_pipeline.cloud.claims.certificates import Claims, set_status, status, stored_certificate_id
from fleet_pipeline.model.errors import AwsError, AwsUnavailable, ClaimRevoked


@dataclass(frozen=True)
class PolicyAttachment:
    """A policy attached to the certificate whose PEM lies in the bucket, which works from then on.

    `about_to_be_replaced`: another certificate takes its place as soon as the rotation that was stopped is finished,
    which comes first.
    """

    kind: ClassVar[str] = "policy attachment"
    fixed: ClassVar[frozenset[str]] = frozenset()

    claims: Claims = field(compare=False)
    certificate_id: str = field(default="", compare=False)
    status: str = "ACTIVE"
    about_to_be_replaced: bool = field(default=False, compare=False)

    @property
    def name(self) -> str:
        """The policy that is attached."""
        return self.claims.policy_name

    @property
    def arn(self) -> str:
        """The ARN of the certificate that has the policy."""
        return self.claims.arn(self.certificate_id)

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
            if any(policy["policyName"] == self.name for page in pages for policy in page["policies"]):
                return target
        return None

    def refuse(self, found: Self) -> AwsError | None:
        """Return why what was found is not brought to what is wanted: a revoked certificate was someone's decision."""
        return (
            ClaimRevoked(found.certificate_id) if found.status == "REVOKED" and not found.about_to_be_replaced else None
        )

    def create(self, aws: Aws) -> None:
        """Attach the policy, then activate the certificate. Raises ClaimRevoked for one that was revoked."""
        target = self._target(aws)
        if target is None:
            raise AwsUnavailable(
                f"attach {self.name!r}", "ResourceNotFoundException", "there is no claim certificate yet"
            )
        aws.iot.attach_policy(policyName=self.name, target=target.arn)
        if target.status != self.status:
            self.update(aws, target)

    def update(self, aws: Aws, found: Self) -> None:
        """Activate the certificate.

        Raises ClaimRevoked for one that was revoked: that was someone's decision, and is not undone by a run.
        """
        if found.status == "REVOKED":
            raise ClaimRevoked(found.certificate_id)
        set_status(aws, found.certificate_id, self.status)

    def delete(self, aws: Aws) -> None:
        """Deactivate the certificate, then detach the policy.

        Former claim certificates, which only the policy knows, are deleted.
        """
        for each in life.former(self.claims, aws):
            life.delete(self.claims, aws, each)
        if self.status == "ACTIVE":
            set_status(aws, self.certificate_id, "INACTIVE")
        aws.iot.detach_policy(policyName=self.name, target=self.arn)

    def _target(self, aws: Aws) -> Self | None:
        found = stored_certificate_id(aws, self.claims.bucket)
        now = status(aws, found) if found else None
        if not found or not now:
            return None
        return replace(
            self,
            certificate_id=found,
            status=now,
            about_to_be_replaced=now == "REVOKED" and making.ends_with_a_new_one(self.claims, aws),
        )
