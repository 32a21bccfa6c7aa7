"""One apply at a time: an object in the fleet's bucket that only one can make, and that lapses when its maker has died.

The holder renews it while it works; whoever finds it unrenewed for longer than the lease takes it over. Both are
conditional writes, so of two that try at once S3 lets one through. Its age is told by S3's own clock.
"""

import json
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

from botocore.exceptions import ClientError

from fleet_pipeline.aws.clients import Aws, absent, doing, error_code
from fleet_pipeline.model.errors import AwsRefused, LockHeld

KEY = "provisioning/lock.json"

LEASE = timedelta(seconds=60)
"""How long the lock of a process that died stands in the way. Four renewals fit into it."""

_LOST_THE_RACE = {"PreconditionFailed", "ConditionalRequestConflict"}


@dataclass(frozen=True, slots=True)
class _Found:
    """Someone's lock, and for how long it has not been renewed."""

    body: dict[str, str]
    etag: str
    age: timedelta


class Lock:
    """The lock of one fleet, taken by the first `take` and given back at the end of the `with` block."""

    def __init__(self, aws: Aws, bucket: str, who: str, *, lease: timedelta = LEASE) -> None:
        self._aws, self._bucket, self._who, self._lease = aws, bucket, who, lease
        self._id = str(uuid.uuid4())
        self._since = ""
        self._etag: str | None = None
        self._renewed = 0.0
        self._done = threading.Event()
        self._renewing: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Return the lock, not yet taken."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back."""
        self.release()

    def take(self) -> None:
        """Return when the lock is ours; a second time only makes sure that it still is.

        Raises LockHeld when it is someone else's.

        Before there is a bucket there is no lock, and S3 lets only one make the bucket.
        """
        if self._holds:
            return
        self._etag = None
        with doing("take the lock"), absent("NoSuchBucket"):
            self._since = datetime.now(UTC).isoformat(timespec="seconds")
            while self._etag is None:
                self._etag = self._put(IfNoneMatch="*") or self._taken_over()
            self._renewed = time.monotonic()
            self._renew_meanwhile()

    def release(self) -> None:
        """Give the lock back, so that nothing of it is left; nothing happens when it is not ours."""
        self._done.set()
        if self._renewing:
            self._renewing.join()
        if self._holds:
            with doing("give the lock back"), absent("NoSuchBucket"):
                self._remove()
        self._etag = None

    @property
    def _holds(self) -> bool:
        return self._etag is not None and time.monotonic() - self._renewed < self._lease.total_seconds()

    def _taken_over(self) -> str | None:
        """Return the ETag of the lock once it is ours, or None if it was given back meanwhile."""
        found = self._found()
        if found is None:
            return None
        if found.body["id"] == self._id:  # we made it, and S3's answer was lost
            return found.etag
        etag = self._put(IfMatch=found.etag) if found.age >= self._lease else None
        if etag is None:
            raise LockHeld(found.body["holder"], found.body["since"], round(self._lease.total_seconds()))
        return etag

    def _put(self, **condition: Any) -> str | None:
        """Write the lock; return its ETag, or None if the condition does not hold."""
        body = json.dumps({"id": self._id, "holder": self._who, "since": self._since})
        try:
            return self._aws.s3.put_object(Bucket=self._bucket, Key=KEY, Body=body.encode(), **condition)["ETag"]
        except ClientError as error:
            if error_code(error) not in _LOST_THE_RACE:
                raise
            return None

    def _found(self) -> _Found | None:
        with absent("NoSuchKey"):
            answer = self._aws.s3.get_object(Bucket=self._bucket, Key=KEY)
            now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
            return _Found(json.loads(answer["Body"].read()), answer["ETag"], now - answer["LastModified"])
        return None

    def _remove(self) -> None:
        # The bucket keeps versions: one for each renewal.
        for page in self._aws.s3.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=KEY):
            for version in page.get("Versions", []):
                self._aws.s3.delete_object(Bucket=self._bucket, Key=KEY, VersionId=version["VersionId"])

    def _renew_meanwhile(self) -> None:
        if not self._renewing or not self._renewing.is_alive():
            self._renewing = threading.Thread(target=self._renew, daemon=True)
            self._renewing.start()

    def _renew(self) -> None:
        while self._etag and not self._done.wait(self._lease.total_seconds() / 4):
            # A renewal that failed is followed by another; if all fail, the lock lapses and `take` says so.
            with suppress(AwsRefused), doing("renew the lock"):
                self._etag = self._put(IfMatch=self._etag)
                self._renewed = time.monotonic()
