"""Tags as each service spells them, and those of ours among what is found."""

from collections.abc import Iterable, Mapping
from typing import Any

from fleet_pipeline.aws.clients import Aws


def spelled(tags: Mapping[str, str]) -> list[Any]:
    """Return tags as most services take them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def found(declared: Mapping[str, str], answer: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the declared tags as they were found; those that others have set are theirs and no drift."""
    return {tag["Key"]: tag["Value"] for tag in answer if tag["Key"] in declared}


def of_iot(declared: Mapping[str, str], aws: Aws, arn: str) -> dict[str, str]:
    """Return the declared tags as AWS IoT has them, whatever page they stand on."""
    pages = aws.iot.get_paginator("list_tags_for_resource").paginate(resourceArn=arn)
    return found(declared, [tag for page in pages for tag in page["tags"]])
