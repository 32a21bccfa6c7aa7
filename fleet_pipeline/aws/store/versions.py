"""One version of one object, as a listing of a bucket names it."""

from typing import NamedTuple

NULL_VERSION = "null"
"""The version id of an object that was written while its bucket kept no versions."""


class Version(NamedTuple):
    """A version of an object. A tuple rather than a dataclass: a hundred thousand are made in an hour's work."""

    key: str
    id: str
    size: int
    etag: str
    modified: str
    """As S3 writes it: `2026-11-23T10:00:00.000Z`."""
    latest: bool
    """Whether a plain GET of the key returns this version. None of a deleted key's versions is."""
