"""The allow-list, as an object in S3 or a table in DynamoDB, and the claim certificates that were lent."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from botocore.exceptions import ClientError
from clients import client
from deadline import Deadline
from serials import Unclear, serial_list

ALLOW_LIST_LIMIT_BYTES = 8_000_000
"""An S3 allow-list beyond this would not be read in time; a longer one belongs in DynamoDB."""

LENT_FOR_S = 300
"""How long a certificate of CreateProvisioningClaim works. Source: API_CreateProvisioningClaim."""

_CHUNK_BYTES = 1 << 16

ANY_SERIAL = r"[0-9A-Z]{7,46}"
"""What serials of any fleet look like."""

_NOT_THERE = {"NoSuchKey", "404", "AccessDenied", "403"}
"""S3 says 403 of an object that does not exist to whoever may not list the bucket, as the hook may not."""


class AllowList(Protocol):
    """The serials that may register."""

    def names(self, serial: str) -> bool:
        """Say whether the list has this serial. Raises serials.Unclear when the list cannot be read in one way only."""


class Lent(Protocol):
    """The claim certificates that were lent: no list of AWS IoT has them."""

    def names(self, certificate_id: str) -> bool:
        """Say whether this certificate was lent within the last five minutes."""


def allow_list(where: str, form: str = ANY_SERIAL, deadline: Deadline = Deadline()) -> AllowList | None:  # noqa: B008 (frozen)
    """Return the list that `s3://bucket/key` or `dynamodb://table` names; None for an empty name."""
    scheme, _, rest = where.partition("://")
    if not where:
        return None
    if scheme == "s3":
        bucket, _, key = rest.partition("/")
        return S3AllowList(client("s3"), bucket, key, form, deadline)
    if scheme == "dynamodb":
        return DynamoDbAllowList(client("dynamodb"), rest)
    raise ValueError("ALLOW_LIST must begin with s3:// or dynamodb://")


@dataclass(frozen=True)
class S3AllowList:
    """An object with one serial a line, or a table out of a spreadsheet."""

    s3: Any
    bucket: str
    key: str
    form: str = ANY_SERIAL
    deadline: Deadline = Deadline()

    def names(self, serial: str) -> bool:
        """Say whether a line names this serial; a missing object, or one that may not be read, names nobody."""
        try:
            answer = self.s3.get_object(Bucket=self.bucket, Key=self.key)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _NOT_THERE:
                raise
            raise Unclear("there is no list, or the hook may not read it") from error
        if answer["ContentLength"] > ALLOW_LIST_LIMIT_BYTES:
            raise ValueError("the allow-list is too long to be read in time: use DynamoDB")
        return serial_list(b"".join(self._chunks(answer["Body"])), self.form).names(serial)

    def _chunks(self, body: Any) -> Iterator[bytes]:
        for chunk in body.iter_chunks(_CHUNK_BYTES):
            self.deadline.check()
            yield chunk


@dataclass(frozen=True)
class DynamoDbAllowList:
    """A table with the key `serial`."""

    dynamodb: Any
    table: str

    def names(self, serial: str) -> bool:
        """Say whether the table has an item of this serial; a missing table names nobody."""
        try:
            answer = self.dynamodb.get_item(TableName=self.table, Key={"serial": {"S": serial}}, ConsistentRead=True)
        except self.dynamodb.exceptions.ResourceNotFoundException:
            return False
        return "Item" in answer


@dataclass(frozen=True)
class S3Lent:
    """An object for each certificate that was lent, below a prefix; S3's own clock says when."""

    s3: Any
    bucket: str
    prefix: str

    def names(self, certificate_id: str) -> bool:
        """Say whether there is an object of this certificate's id, no older than five minutes."""
        try:
            made: datetime = self.s3.head_object(Bucket=self.bucket, Key=self.prefix + certificate_id)["LastModified"]
        except ClientError as error:
            if error.response["Error"]["Code"] in _NOT_THERE:
                return False
            raise
        return time.time() - made.timestamp() <= LENT_FOR_S


class NobodyLent:
    """No certificate was lent."""

    def names(self, _certificate_id: str) -> bool:
        """Say no."""
        return False


def lent(where: str) -> Lent:
    """Return what `s3://bucket/prefix` holds; nothing for an empty name."""
    return S3Lent(client("s3"), *where.removeprefix("s3://").split("/", 1)) if where else NobodyLent()
