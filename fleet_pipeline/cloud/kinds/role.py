"""An IAM role with its trust, its inline policies and its managed ones."""

import json
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from fleet_pipeline.aws.clients import Aws, absent
from fleet_pipeline.cloud import tags as tagging


@dataclass(frozen=True)
class Role:
    """A role; `inline` maps a policy's name to its document, `managed` names policies by ARN, and so does `boundary`,
    its permissions boundary.

    `path` is IAM's folder of it: part of its ARN, not of its name, and for good.
    Where no boundary is wanted, one that somebody has set stays: it is their rule for the account, and never taken
    away.
    """

    kind: ClassVar[str] = "IAM role"
    fixed: ClassVar[frozenset[str]] = frozenset({"path"})

    name: str
    arn: str
    description: str
    trust: dict[str, Any]
    tags: dict[str, str]
    inline: dict[str, dict[str, Any]]
    managed: tuple[str, ...] = ()
    boundary: str = ""
    path: str = "/"

    def console_path(self) -> str:
        """The role's page."""
        return f"iam/home#/roles/details/{self.name}"

    def read(self, aws: Aws) -> Self | None:
        """Return the role as it is, or None."""
        with absent("NoSuchEntity"):
            role = aws.iam.get_role(RoleName=self.name)["Role"]
            attached = self._listed(aws.iam.get_paginator("list_attached_role_policies"), "AttachedPolicies")
            return replace(
                self,
                description=role.get("Description", ""),
                trust=_document(role["AssumeRolePolicyDocument"]),
                tags=tagging.found(self.tags, self._listed(aws.iam.get_paginator("list_role_tags"), "Tags")),
                inline={
                    name: self._inline(aws, name)
                    for name in self._listed(aws.iam.get_paginator("list_role_policies"), "PolicyNames")
                },
                managed=tuple(sorted(policy["PolicyArn"] for policy in attached)),
                path=role["Path"],
                boundary=role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", "") if self.boundary else "",
            )
        return None

    def create(self, aws: Aws) -> None:
        """Make the role, then give it its policies."""
        trust: Any = {
            "AssumeRolePolicyDocument": json.dumps(self.trust),
            **({"PermissionsBoundary": self.boundary} if self.boundary else {}),
        }
        aws.iam.create_role(
            RoleName=self.name, Path=self.path, Description=self.description, Tags=tagging.spelled(self.tags), **trust
        )
        self._grant(aws, {}, ())

    def update(self, aws: Aws, found: Self) -> None:
        """Put back what differs, and take away policies that are not declared.

        The boundary first: the provisioner's other rights demand it.
        """
        if found.boundary != self.boundary:
            aws.iam.put_role_permissions_boundary(RoleName=self.name, PermissionsBoundary=self.boundary)
        if found.description != self.description:
            aws.iam.update_role(RoleName=self.name, Description=self.description)
        if found.trust != self.trust:
            aws.iam.update_assume_role_policy(RoleName=self.name, PolicyDocument=json.dumps(self.trust))
        if found.tags != self.tags:
            aws.iam.tag_role(RoleName=self.name, Tags=tagging.spelled(self.tags))
        self._grant(aws, found.inline, found.managed)

    def delete(self, aws: Aws) -> None:
        """Take its policies away, then remove it."""
        replace(self, inline={}, managed=())._grant(aws, self.inline, self.managed)  # noqa: SLF001 (itself, without policies)
        aws.iam.delete_role(RoleName=self.name)

    def _grant(self, aws: Aws, inline: dict[str, dict[str, Any]], managed: tuple[str, ...]) -> None:
        for name in inline.keys() - self.inline.keys():
            aws.iam.delete_role_policy(RoleName=self.name, PolicyName=name)
        for name, document in self.inline.items():
            if inline.get(name) != document:
                aws.iam.put_role_policy(RoleName=self.name, PolicyName=name, PolicyDocument=json.dumps(document))
        for arn in set(managed) - set(self.managed):
            aws.iam.detach_role_policy(RoleName=self.name, PolicyArn=arn)
        for arn in set(self.managed) - set(managed):
            aws.iam.attach_role_policy(RoleName=self.name, PolicyArn=arn)

    def _listed(self, pages: Any, what: str) -> list[Any]:
        return [each for page in pages.paginate(RoleName=self.name) for each in page[what]]

    def _inline(self, aws: Aws, name: str) -> dict[str, Any]:
        return _document(aws.iam.get_role_policy(RoleName=self.name, PolicyName=name)["PolicyDocument"])


def _document(found: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(found) if isinstance(found, str) else found
    return document
