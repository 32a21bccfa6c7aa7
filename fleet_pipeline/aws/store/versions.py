"""One version of one object, as a listing of a bucket names it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

_T = TypeVar("_T", bound=tuple[Any, ...])

NULL_VERSION = "null"
"""The version id of an object that was written while its bucket kept no versions."""


class ObjectVersion(NamedTuple):
    """A version of an object. A tuple rather than a dataclass: a hundred thousand are made in an hour's work."""

    key: str
    id: str
    size: int
    etag: str
    modified: str
    """As S3 writes it: `2026-11-23T10:00:00.000Z`."""
    latest: bool
    """Whether a plain GET of the key returns this version. None of a deleted key's versions is."""


def maker(of: type[_T]) -> Callable[[tuple[Any, ...]], _T]:
    """Return what makes a named tuple out of all its fields, in their order: in a quarter of the time that a call by
    its name takes.
    """
    return partial(tuple.__new__, of)
