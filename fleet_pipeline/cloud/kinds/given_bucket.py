"""A bucket of another team's that the fleet uses: looked at, and never made, changed, tagged, emptied or removed."""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Never, Self

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.kinds.bucket import Bucket
from fleet_pipeline.model.errors import GivenBucketUnfit


@dataclass(frozen=True)
class GivenBucket:
    """A bucket that must be there.

    `unfit` is what its owner has to do before the fleet can use it; `bucket` is the bucket as it was found.

    `kms_key` is the ARN of the fleet's KMS key, or empty. `overwrites`: objects of one key may replace each other, so
    that only versions keep them apart.
    """

    kind: ClassVar[str] = "given S3 bucket"
    fixed: ClassVar[frozenset[str]] = frozenset({"unfit"})

    name: str
    arn: str
    region: str = field(compare=False)
    kms_key: str = field(default="", compare=False)
    overwrites: bool = field(default=True, compare=False)
    left_to_its_owner: tuple[str, ...] = field(default=(), compare=False)
    """What the settings want of it and its owner alone may do."""
    unfit: tuple[str, ...] = ()
    bucket: Bucket | None = field(default=None, compare=False)

    def console_path(self) -> str:
        """The bucket's objects."""
        return f"s3/buckets/{self.name}?region={self.region}"

    def read(self, aws: Aws) -> Self | None:
        """Return the bucket with what its owner has to do, the making of it included: so it is never None."""
        found = Bucket(self.name, self.arn, self.region, {}, {}, kms_key=self.kms_key).read(aws)
        return replace(self, unfit=self._unfit(found), bucket=found)

    def refuse(self, found: Self) -> GivenBucketUnfit | None:
        """Return why the fleet cannot be made around this bucket."""
        return GivenBucketUnfit(self.name, found.unfit) if found.unfit else None

    def create(self, aws: Aws) -> Never:
        """Raise GivenBucketUnfit."""
        self._leave(aws)

    def update(self, aws: Aws, found: Self) -> Never:  # noqa: ARG002
        """Raise GivenBucketUnfit."""
        self._leave(aws)

    def delete(self, aws: Aws) -> Never:
        """Raise GivenBucketUnfit."""
        self._leave(aws)

    def _leave(self, _aws: Aws) -> Never:
        raise GivenBucketUnfit(self.name, self.unfit or ("it is another team's, and nothing is done to it",))

    def _unfit(self, found: Bucket | None) -> tuple[str, ...]:
        if found is None:
            return (f"make it, in {self.region}",)
        own = found.own_kms_key or (found.kms_key if found.kms_key != self.kms_key else "")
        foreign_key = own and not own.endswith("alias/aws/s3")
        wrong = {
            (
                f"it is in {found.region}: AWS IoT writes to buckets of the rule's region, {self.region}, so name one "
                "there"
            ): found.region != self.region,
            "enable versioning: of two messages of one key the earlier would be lost": self.overwrites
            and not found.versioned,
            "switch on default encryption": found.encryption == "none",
            f"let the fleet use the key that encrypts it: set FLEET_KMS_KEY={own}, and make the rights anew": bool(
                foreign_key
            ),
        }
        return tuple(what for what, so in wrong.items() if so)
