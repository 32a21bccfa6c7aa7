"""Tags as each service spells them, and those of ours among what is found."""

from collections.abc import Iterable, Mapping
from typing import Any


def spelled(tags: Mapping[str, str]) -> list[Any]:
    """Return tags as most services take them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def found(declared: Mapping[str, str], answer: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the declared tags as they were found; those that others have set are theirs and no drift."""
    return {tag["Key"]: tag["Value"] for tag in answer if tag["Key"] in declared}
