"""What the settings may add to the rights of vehicles: ready ones by name, and statements in AWS's own form. Pure."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from fleet_pipeline.model.errors import InvalidSetting

DeviceRight = Literal["shadow", "jobs", "commands"]

POLICY_DOCUMENT_LIMIT = 2048
"""Characters of an AWS IoT policy document without white space. Source: AWS IoT Core quotas."""

POLICIES = 10
"""Policies that AWS IoT attaches to one certificate. Source: AWS IoT Core quotas."""

_ELEMENTS = {"Sid", "Effect", "Action", "Resource", "Condition"}
_ACTION = re.compile(r"iot:[A-Za-z*?]+")
_RESOURCE = re.compile(r"\*|(arn:aws[a-z-]*:iot:[^\s]*:)?(topic|topicfilter|client)/[^\s\"']+")


def check_statement(place: str, statement: Mapping[str, Any]) -> None:
    """Raise InvalidSetting, which names the place, unless a policy of AWS IoT may have this statement.

    Source: iot-policies, iot-policy-actions.
    """
    if unknown := {*statement} - _ELEMENTS:
        raise InvalidSetting(
            place,
            None,
            f"AWS IoT knows no {', '.join(sorted(unknown))} in a statement; it knows {', '.join(sorted(_ELEMENTS))}",
        )
    if statement.get("Effect") not in {"Allow", "Deny"}:
        raise InvalidSetting(f"{place}.Effect", statement.get("Effect"), "write Allow or Deny")
    for name, form, why in (
        ("Action", _ACTION, "such as iot:Publish"),
        ("Resource", _RESOURCE, "such as topic/…, topicfilter/…, client/…, an ARN, or *"),
    ):
        said = statement.get(name)
        texts = [said] if isinstance(said, str) else said
        if (
            not isinstance(texts, list | tuple)
            or not texts
            or not all(isinstance(each, str) and form.fullmatch(each) for each in texts)
        ):
            raise InvalidSetting(f"{place}.{name}", None, f"write a text, or an array of texts, {why}")
    if not isinstance(statement.get("Sid", ""), str) or not isinstance(statement.get("Condition", {}), Mapping):
        raise InvalidSetting(place, None, "Sid is a text, and Condition a table of tables")
