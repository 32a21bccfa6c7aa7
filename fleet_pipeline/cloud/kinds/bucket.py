"""An S3 bucket: versioned, encrypted, closed to the public, with a policy."""

import json
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from botocore.exceptions import ClientError

from fleet_pipeline.aws.clients import Aws, absent, error_code
from fleet_pipeline.cloud import encryption, lifecycle_rules
from fleet_pipeline.cloud import tags as tagging
from fleet_pipeline.model.errors import AwsRefused

NO_TAGS_AT_CREATION = {"MalformedXML", "NotImplemented", "UnsupportedArgument"}
"""What S3 answers where a bucket cannot be born with tags.

Killed between the two calls, `fleet adopt` takes the bucket over.
"""

STRONGER = {encryption.ALGORITHM, "aws:kms:dsse"}
"""Default encryption by a key of KMS: somebody's rule for the account, and never put back."""

GUARDS = frozenset(
    {"public_access_blocked", "versioned", "encryption", "kms_key", "policy", "access_logs", "lifecycle"}
)
"""Fields that are set by calls of their own."""


@dataclass(frozen=True)
class Bucket:
    """A bucket and what guards it.

    `kms_key` is the wanted key's ARN, or empty; `own_kms_key` is one that the bucket has, and that nobody here wanted.

    `access_logs` is where S3 logs who asked for what, `s3://bucket/prefix`; where none is wanted, what somebody has set
    stays. `lifecycle` are our lifecycle rules by their names, those of others aside; None: they are not looked at.
    """

    kind: ClassVar[str] = "S3 bucket"
    fixed: ClassVar[frozenset[str]] = frozenset({"region"})
    named_by: ClassVar[str] = "FLEET_BUCKET and FLEET_LAKE_BUCKET"

    name: str
    arn: str
    region: str
    policy: dict[str, Any]
    tags: dict[str, str]
    public_access_blocked: bool = True
    versioned: bool = True
    encryption: str = "AES256"
    kms_key: str = ""
    access_logs: str = ""
    lifecycle: lifecycle_rules.Rules | None = None
    own_kms_key: str = field(default="", compare=False)

    def console_path(self) -> str:
        """The bucket's objects."""
        return f"s3/buckets/{self.name}?region={self.region}"

    def read(self, aws: Aws) -> Self | None:
        """Return the bucket as it is, or None."""
        if not self._exists(aws):
            return None
        algorithm, key = self._found_encryption(aws)
        own = algorithm in STRONGER and not self.kms_key
        return replace(
            self,
            region=aws.s3.get_bucket_location(Bucket=self.name).get("LocationConstraint") or "us-east-1",
            policy=self._found_policy(aws),
            tags=self._found_tags(aws),
            public_access_blocked=self._found_block(aws),
            versioned=aws.s3.get_bucket_versioning(Bucket=self.name).get("Status") == "Enabled",
            encryption=self.encryption if own or (algorithm in STRONGER and key == self.kms_key) else algorithm,
            kms_key="" if own else key,
            access_logs=self._found_access_logs(aws) if self.access_logs else "",
            lifecycle=None if self.lifecycle is None else lifecycle_rules.found(aws, self.name),
            own_kms_key=key if own else "",
        )

    def create(self, aws: Aws) -> None:
        """Make the bucket, then close it, before anything is written to it."""
        if self.kms_key:
            encryption.usable(aws, self.kms_key)  # before there is a bucket into which nothing could be written
        # The tags come with it: a bucket of which only the making was done would not be known as ours.
        where: Any = {} if self.region == "us-east-1" else {"LocationConstraint": self.region}
        try:
            aws.s3.create_bucket(
                Bucket=self.name, CreateBucketConfiguration=where | {"Tags": tagging.spelled(self.tags)}
            )
        except ClientError as error:
            if error_code(error) not in NO_TAGS_AT_CREATION:
                raise
            aws.s3.create_bucket(Bucket=self.name, **({"CreateBucketConfiguration": where} if where else {}))
        if self._found_tags(aws) != self.tags:  # refused, or left out without a word
            aws.s3.put_bucket_tagging(Bucket=self.name, Tagging={"TagSet": tagging.spelled(self.tags)})
        self._guard(aws, GUARDS if self.lifecycle else GUARDS - {"lifecycle"})

    def update(self, aws: Aws, found: Self) -> None:
        """Put back what differs."""
        if found.tags != self.tags:
            kept = [tag for tag in self._tag_set(aws) if tag["Key"] not in self.tags]
            aws.s3.put_bucket_tagging(Bucket=self.name, Tagging={"TagSet": [*kept, *tagging.spelled(self.tags)]})
        self._guard(aws, {name for name in GUARDS if getattr(found, name) != getattr(self, name)})

    def delete(self, aws: Aws) -> None:
        """Remove the bucket; AWS refuses while anything is in it."""
        aws.s3.delete_bucket(Bucket=self.name)

    def _guard(self, aws: Aws, what: AbstractSet[str]) -> None:
        if "public_access_blocked" in what:
            every: Any = dict.fromkeys(
                ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
            )
            aws.s3.put_public_access_block(Bucket=self.name, PublicAccessBlockConfiguration=every)
        if "versioned" in what:
            aws.s3.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})
        if {"encryption", "kms_key"} & what:
            # A key for the bucket: S3 asks KMS for it now and then, and not for each message.
            key: Any = {"KMSMasterKeyID": encryption.usable(aws, self.kms_key)} if self.kms_key else {}
            rule: Any = {
                "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": self.encryption} | key,
                **({"BucketKeyEnabled": True} if key else {}),
            }
            aws.s3.put_bucket_encryption(Bucket=self.name, ServerSideEncryptionConfiguration={"Rules": [rule]})
        if "access_logs" in what and self.access_logs:
            bucket, _, prefix = self.access_logs.removeprefix("s3://").partition("/")
            aws.s3.put_bucket_logging(
                Bucket=self.name,
                BucketLoggingStatus={"LoggingEnabled": {"TargetBucket": bucket, "TargetPrefix": prefix}},
            )
        if "lifecycle" in what and self.lifecycle is not None:
            lifecycle_rules.put(aws, self.name, self.lifecycle)
        if "policy" in what:
            aws.s3.put_bucket_policy(Bucket=self.name, Policy=json.dumps(self.policy))

    def _exists(self, aws: Aws) -> bool:
        try:
            aws.s3.head_bucket(Bucket=self.name)
        except ClientError as error:  # an answer to HEAD has no body: its status is all that S3 says
            if error_code(error) == "404":
                return False
            if error_code(error) == "403":
                why = (
                    "it belongs to another account, or these credentials may not see it; FLEET_BUCKET and "
                    "FLEET_LAKE_BUCKET choose other names"
                )
                raise AwsRefused(f"show {self.kind} {self.name!r}", "403", why) from error
            raise
        return True

    def _found_policy(self, aws: Aws) -> dict[str, Any]:
        with absent("NoSuchBucketPolicy"):
            policy: dict[str, Any] = json.loads(aws.s3.get_bucket_policy(Bucket=self.name)["Policy"])
            return policy
        return {}

    def _tag_set(self, aws: Aws) -> list[Any]:
        with absent("NoSuchTagSet"):
            return list(aws.s3.get_bucket_tagging(Bucket=self.name)["TagSet"])
        return []

    def _found_tags(self, aws: Aws) -> dict[str, str]:
        return tagging.found(self.tags, self._tag_set(aws))

    def _found_block(self, aws: Aws) -> bool:
        with absent("NoSuchPublicAccessBlockConfiguration"):
            return all(aws.s3.get_public_access_block(Bucket=self.name)["PublicAccessBlockConfiguration"].values())
        return False

    def _found_access_logs(self, aws: Aws) -> str:
        found = aws.s3.get_bucket_logging(Bucket=self.name).get("LoggingEnabled")
        return f"s3://{found['TargetBucket']}/{found['TargetPrefix']}" if found else ""

    def _found_encryption(self, aws: Aws) -> tuple[str, str]:
        """Return the algorithm and the key's name."""
        with absent("ServerSideEncryptionConfigurationNotFoundError"):
            rules = aws.s3.get_bucket_encryption(Bucket=self.name)["ServerSideEncryptionConfiguration"]["Rules"]
            found = next(
                (
                    rule["ApplyServerSideEncryptionByDefault"]
                    for rule in rules
                    if "ApplyServerSideEncryptionByDefault" in rule
                ),
                {"SSEAlgorithm": "none"},
            )
            key = found.get("KMSMasterKeyID", "")
            return found["SSEAlgorithm"], encryption.compared(aws, self.kms_key, key) if self.kms_key else key
        return "none", ""
