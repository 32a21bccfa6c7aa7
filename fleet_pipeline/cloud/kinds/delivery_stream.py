"""A stream of Amazon Data Firehose that gathers a rule's messages and writes them to S3, many in one object."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from fleet_pipeline.aws.clients import Aws, absent
from fleet_pipeline.cloud import tags as tagging


@dataclass(frozen=True)
class DeliveryStream:
    """A stream. `prefix` and `error_prefix` are as Firehose evaluates them, with the time of an object's oldest record.

    `encrypted` is of what it holds until it is delivered, with a key of AWS's own; objects are encrypted as their
    bucket says. Changes of all else take effect within minutes. Source: API_UpdateDestination.
    """

    kind: ClassVar[str] = "delivery stream"
    fixed: ClassVar[frozenset[str]] = frozenset({"source"})

    name: str
    arn: str
    role_arn: str
    bucket_arn: str
    prefix: str
    error_prefix: str
    tags: dict[str, str]
    buffer_mb: int = 64
    buffer_seconds: int = 300
    compression: str = "GZIP"
    source: str = "DirectPut"
    encrypted: bool = True
    active: bool = True
    """Whether it takes records: not yet in the first half minute."""
    version: str = field(default="", compare=False)
    destination: str = field(default="", compare=False)

    def console_path(self) -> str:
        """The stream's page."""
        return f"firehose/home#/details/{self.name}"

    def read(self, aws: Aws) -> Self | None:
        """Return the stream as it is, or None."""
        with absent("ResourceNotFoundException"):
            found = aws.firehose.describe_delivery_stream(DeliveryStreamName=self.name)["DeliveryStreamDescription"]
            destination = (found.get("Destinations") or [{}])[0]
            said = destination.get("ExtendedS3DestinationDescription") or {}
            buffering = said.get("BufferingHints") or {}
            encryption = found.get("DeliveryStreamEncryptionConfiguration") or {}
            return replace(
                self,
                role_arn=said.get("RoleARN", ""),
                bucket_arn=said.get("BucketARN", ""),
                prefix=said.get("Prefix", ""),
                error_prefix=said.get("ErrorOutputPrefix", ""),
                buffer_mb=buffering.get("SizeInMBs", 0),
                buffer_seconds=buffering.get("IntervalInSeconds", -1),
                compression=said.get("CompressionFormat", ""),
                source=found.get("DeliveryStreamType", ""),
                encrypted=encryption.get("Status") in {"ENABLED", "ENABLING"},
                active=found["DeliveryStreamStatus"] == "ACTIVE",
                tags=tagging.found(self.tags, self._tags(aws)),
                version=found.get("VersionId", ""),
                destination=destination.get("DestinationId", ""),
            )
        return None

    def create(self, aws: Aws) -> None:
        """Make the stream."""
        aws.firehose.create_delivery_stream(
            DeliveryStreamName=self.name,
            DeliveryStreamType=self.source,
            DeliveryStreamEncryptionConfigurationInput={"KeyType": "AWS_OWNED_CMK"},
            ExtendedS3DestinationConfiguration=self.to_s3(),
            Tags=tagging.spelled(self.tags),
        )

    def update(self, aws: Aws, found: Self) -> None:
        """Put back what differs."""
        if found.tags != self.tags:
            aws.firehose.tag_delivery_stream(DeliveryStreamName=self.name, Tags=tagging.spelled(self.tags))
        if found.encrypted != self.encrypted:
            aws.firehose.start_delivery_stream_encryption(
                DeliveryStreamName=self.name,
                DeliveryStreamEncryptionConfigurationInput={"KeyType": "AWS_OWNED_CMK"},
            )
        if replace(found, tags=self.tags, encrypted=self.encrypted, active=self.active) != self:
            aws.firehose.update_destination(
                DeliveryStreamName=self.name,
                CurrentDeliveryStreamVersionId=found.version,
                DestinationId=found.destination,
                ExtendedS3DestinationUpdate=self.to_s3(),
            )

    def delete(self, aws: Aws) -> None:
        """Remove the stream; what it has not delivered yet may be lost."""
        with absent("ResourceNotFoundException"):
            aws.firehose.delete_delivery_stream(DeliveryStreamName=self.name)

    def to_s3(self) -> dict[str, Any]:
        """Return where and how it writes, as the API says it."""
        return {
            "RoleARN": self.role_arn,
            "BucketARN": self.bucket_arn,
            "Prefix": self.prefix,
            "ErrorOutputPrefix": self.error_prefix,
            "BufferingHints": {"SizeInMBs": self.buffer_mb, "IntervalInSeconds": self.buffer_seconds},
            "CompressionFormat": self.compression,
        }

    def _tags(self, aws: Aws) -> list[dict[str, str]]:
        # botocore has no paginator for it; a stream has at most 50 tags, and a page as many.
        found: Any = aws.firehose.list_tags_for_delivery_stream(DeliveryStreamName=self.name, Limit=50)
        return list(found["Tags"])


def delivery_streams(aws: Aws, prefix: str) -> list[str]:
    """Return the names of the account's streams that begin with a prefix. botocore has no paginator for it."""
    names: list[str] = []
    while True:
        more: Any = {"ExclusiveStartDeliveryStreamName": names[-1]} if names else {}
        page: Any = aws.firehose.list_delivery_streams(Limit=100, **more)
        names += page["DeliveryStreamNames"]
        if not page["HasMoreDeliveryStreams"] or not page["DeliveryStreamNames"]:
            return [name for name in names if name.startswith(prefix)]
