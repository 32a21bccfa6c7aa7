"""The provisioning template, which keeps its last five versions."""

import json
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from fleet_pipeline.aws.clients import Aws, absent
from fleet_pipeline.cloud import tags as tagging
from fleet_pipeline.cloud.kinds.iot_policy import VERSIONS_LIMIT
from fleet_pipeline.cloud.kinds.versions import ResourceVersion


@dataclass(frozen=True)
class Template:
    """A provisioning template, with its pre-provisioning hook if it has one: that of just-in-time
    provisioning cannot.
    """

    kind: ClassVar[str] = "provisioning template"
    fixed: ClassVar[frozenset[str]] = frozenset({"type"})

    name: str
    arn: str
    description: str
    body: dict[str, Any]
    role_arn: str
    hook_arn: str
    tags: dict[str, str]
    payload_version: str = "2020-04-01"
    enabled: bool = True
    type: str = "FLEET_PROVISIONING"

    def console_path(self) -> str:
        """The template's page."""
        return f"iot/home#/provisioningtemplate/{self.name}"

    def read(self, aws: Aws) -> Self | None:
        """Return the template's default version, or None."""
        with absent("ResourceNotFoundException"):
            found = aws.iot.describe_provisioning_template(templateName=self.name)
            hook = found.get("preProvisioningHook", {})
            return replace(
                self,
                description=found.get("description", ""),
                body=json.loads(found["templateBody"]),
                role_arn=found["provisioningRoleArn"],
                hook_arn=hook.get("targetArn", ""),
                payload_version=hook.get("payloadVersion", ""),
                enabled=found["enabled"],
                type=found.get("type", "FLEET_PROVISIONING"),
                tags=tagging.of_iot(self.tags, aws, self.arn),
            )
        return None

    def create(self, aws: Aws) -> None:
        """Make the template; AWS asks first whether it may invoke the hook and assume the role."""
        aws.iot.create_provisioning_template(
            templateName=self.name,
            description=self.description,
            templateBody=json.dumps(self.body),
            enabled=self.enabled,
            provisioningRoleArn=self.role_arn,
            tags=tagging.spelled(self.tags),
            type=self.type,  # type: ignore[arg-type]
            **self._hook(),
        )

    def update(self, aws: Aws, found: Self) -> None:
        """Make a new default version for a new body, and update the rest where it differs."""
        if found.tags != self.tags:
            aws.iot.tag_resource(resourceArn=self.arn, tags=tagging.spelled(self.tags))
        if found.body != self.body:
            self._make_room(aws)
            aws.iot.create_provisioning_template_version(
                templateName=self.name, templateBody=json.dumps(self.body), setAsDefault=True
            )
        if replace(found, tags=self.tags, body=self.body) != self:
            aws.iot.update_provisioning_template(
                templateName=self.name,
                description=self.description,
                enabled=self.enabled,
                provisioningRoleArn=self.role_arn,
                **self._hook(),
            )

    def delete(self, aws: Aws) -> None:
        """Remove the template with all its versions."""
        aws.iot.delete_provisioning_template(templateName=self.name)

    def versions(self, aws: Aws) -> list[ResourceVersion]:
        """Return the versions that AWS IoT has kept, newest first."""
        listed = self._listed(aws)
        found = [
            ResourceVersion(
                each["versionId"],
                each["creationDate"],
                each["isDefaultVersion"],
                json.loads(self._body(aws, each["versionId"])),
            )
            for each in listed
        ]
        return sorted(found, key=lambda version: version.number, reverse=True)

    def use_version(self, aws: Aws, number: int) -> None:
        """Make a kept version the default one."""
        aws.iot.update_provisioning_template(templateName=self.name, defaultVersionId=number)

    def _body(self, aws: Aws, version: int) -> str:
        return aws.iot.describe_provisioning_template_version(templateName=self.name, versionId=version)["templateBody"]

    def _hook(self) -> Any:
        return (
            {"preProvisioningHook": {"payloadVersion": self.payload_version, "targetArn": self.hook_arn}}
            if self.hook_arn
            else {}
        )

    def _make_room(self, aws: Aws) -> None:
        older = self._older_versions(aws)
        if len(older) + 1 >= VERSIONS_LIMIT:
            aws.iot.delete_provisioning_template_version(templateName=self.name, versionId=older[0])

    def _older_versions(self, aws: Aws) -> list[int]:
        return sorted(version["versionId"] for version in self._listed(aws) if not version["isDefaultVersion"])

    def _listed(self, aws: Aws) -> list[Any]:
        pages = aws.iot.get_paginator("list_provisioning_template_versions").paginate(templateName=self.name)
        return [version for page in pages for version in page["versions"]]
