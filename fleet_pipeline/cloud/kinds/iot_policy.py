"""An AWS IoT policy, which keeps its last five versions."""

import json
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from fleet_pipeline.aws.clients import Aws, absent
from fleet_pipeline.cloud import tags as tagging
from fleet_pipeline.cloud.kinds.versions import ResourceVersion

VERSIONS_LIMIT = 5
"""Versions that AWS IoT keeps of a policy or of a provisioning template. Source: API_CreatePolicyVersion."""


@dataclass(frozen=True)
class IotPolicy:
    """A policy by name; the document compared is that of its default version."""

    kind: ClassVar[str] = "IoT policy"
    fixed: ClassVar[frozenset[str]] = frozenset()

    name: str
    arn: str
    document: dict[str, Any]
    tags: dict[str, str]

    def console_path(self) -> str:
        """The policy's page."""
        return f"iot/home#/policy/{self.name}"

    def read(self, aws: Aws) -> Self | None:
        """Return the policy's default version, or None."""
        with absent("ResourceNotFoundException"):
            document = json.loads(aws.iot.get_policy(policyName=self.name)["policyDocument"])
            return replace(self, document=document, tags=tagging.of_iot(self.tags, aws, self.arn))
        return None

    def create(self, aws: Aws) -> None:
        """Make the policy with its first version."""
        aws.iot.create_policy(
            policyName=self.name, policyDocument=json.dumps(self.document), tags=tagging.spelled(self.tags)
        )

    def update(self, aws: Aws, found: Self) -> None:
        """Make a new default version, and room for it first."""
        if found.tags != self.tags:
            aws.iot.tag_resource(resourceArn=self.arn, tags=tagging.spelled(self.tags))
        if found.document != self.document:
            self._make_room(aws)
            aws.iot.create_policy_version(
                policyName=self.name, policyDocument=json.dumps(self.document), setAsDefault=True
            )

    def delete(self, aws: Aws) -> None:
        """Remove all versions; AWS refuses while a certificate has the policy."""
        for version in self._older_versions(aws):
            aws.iot.delete_policy_version(policyName=self.name, policyVersionId=version)
        aws.iot.delete_policy(policyName=self.name)

    def versions(self, aws: Aws) -> list[ResourceVersion]:
        """Return the versions that AWS IoT has kept, newest first."""
        listed = aws.iot.list_policy_versions(policyName=self.name)["policyVersions"]
        found = [
            ResourceVersion(
                int(each["versionId"]),
                each["createDate"],
                each["isDefaultVersion"],
                json.loads(self._document(aws, each["versionId"])),
            )
            for each in listed
        ]
        return sorted(found, key=lambda version: version.number, reverse=True)

    def use_version(self, aws: Aws, number: int) -> None:
        """Make a kept version the default one."""
        aws.iot.set_default_policy_version(policyName=self.name, policyVersionId=str(number))

    def _document(self, aws: Aws, version: str) -> str:
        return aws.iot.get_policy_version(policyName=self.name, policyVersionId=version)["policyDocument"]

    def _make_room(self, aws: Aws) -> None:
        older = self._older_versions(aws)
        if len(older) + 1 >= VERSIONS_LIMIT:
            aws.iot.delete_policy_version(policyName=self.name, policyVersionId=older[0])

    def _older_versions(self, aws: Aws) -> list[str]:
        versions = aws.iot.list_policy_versions(policyName=self.name)["policyVersions"]
        return sorted((version["versionId"] for version in versions if not version["isDefaultVersion"]), key=int)
