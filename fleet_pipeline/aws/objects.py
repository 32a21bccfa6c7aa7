"""Deleting objects by the thousand."""

from collections.abc import Sequence
from typing import Any

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.model.errors import AwsRefused

BATCH = 1000
"""Keys that S3 takes in one request. Source: API_DeleteObjects."""


def delete_objects(aws: Aws, bucket: str, objects: Sequence[Any]) -> None:
    """Delete at most 1,000 objects, each a `Key` and, if it is that very version which is to go, a `VersionId`; none is
    no request.

    S3 answers yes to the request as a whole even when it refuses some; raises AwsRefused for the first of these.
    """
    if not objects:
        return
    refused = aws.s3.delete_objects(Bucket=bucket, Delete={"Objects": [*objects], "Quiet": True}).get("Errors", [])
    if refused:
        raise AwsRefused(
            f"delete {refused[0].get('Key')} and {len(refused) - 1} more in {bucket}",
            refused[0].get("Code", ""),
            refused[0].get("Message", ""),
        )
