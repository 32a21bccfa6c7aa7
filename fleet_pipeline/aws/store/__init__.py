"""What compaction needs of an object store, in a few methods; `S3Store` is Amazon S3 and all that speaks like it.

A key may hold several versions, and every version counts. Nothing here overwrites: a new object appears under a free
key or not at all.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from fleet_pipeline.aws.store.s3 import S3Store
from fleet_pipeline.aws.store.versions import NULL_VERSION, ObjectVersion

__all__ = ["NULL_VERSION", "ObjectVersion", "Purgeable", "S3Store", "Store"]


class Store(Protocol):
    """A bucket, as one thread sees it."""

    @property
    def requests(self) -> Counter[str]:
        """How many requests were sent so far, by kind: GET, LIST, PUT, DELETE."""
        ...

    def versions(self, prefix: str, after: str = "", until: str = "") -> Iterator[list[ObjectVersion]]:
        """Yield pages of the versions of all keys with a prefix, in the order of keys, newest first, where `after` <
        key < `until`.
        """
        ...

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield what keys with a prefix begin with, up to the next slash and with it, in their order."""
        ...

    def beside(self, bucket: str) -> "Store":
        """Return another bucket of the account. It is closed with this one, and its requests are counted with this
        one's.
        """
        ...

    def bodies(self, versions: Iterable[ObjectVersion | None]) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes of every version and its place among them, as they come.

        None among the versions has no place: it says that the next one is to be asked for after another body has come.
        """
        ...

    def spans(self, wanted: Iterable[tuple[ObjectVersion, int, int] | None]) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes `[start, stop)` of versions and the place of each among them, as they come.

        None has no place, as in `bodies`.
        """
        ...

    def read(self, key: str, start: int, stop: int) -> bytes:
        """Return the bytes `[start, stop)` of an object."""
        ...

    def put_new(self, key: str, body: bytes | Path) -> bool:
        """Write an object if its key is free, and say whether it was.

        False may mean that an earlier try of the same call took it.
        """
        ...


class Purgeable(Store, Protocol):
    """A bucket from which versions may be removed. Compaction never asks for one."""

    def delete(self, versions: Iterable[ObjectVersion]) -> None:
        """Remove these very versions for good."""
        ...
