"""The claim certificates as they are: the one that is given out, and those before it that are not yet retired.

A certificate has no name of its own. The one that is given out is the one whose PEM lies in the bucket (its id is the
SHA-256 of its DER); all of them are the targets of the claim policy.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from fleet_pipeline.aws.clients import Aws, absent, doing
from fleet_pipeline.cloud.claims.keys import KeyStore, S3Keys, SecretKeys, certificate_id
from fleet_pipeline.model.errors import NoClaimCertificate
from fleet_pipeline.model.fleet import Fleet

FOLDER = "claim-certificate"
CERTIFICATE = f"{FOLDER}/claim.pem"
PUBLIC_KEY = f"{FOLDER}/claim.public.key"


@dataclass(frozen=True)
class Claim:
    """What a vehicle is given: the certificate and its private key, which nothing prints."""

    certificate_pem: str
    private_key: str = field(repr=False)


@dataclass(frozen=True)
class Claims:
    """Where a fleet's claim certificates lie, what they may do, and who makes their keys."""

    bucket: str
    arn_prefix: str
    policy_name: str
    keys: KeyStore
    own_keys: bool = True

    @classmethod
    def of(cls, fleet: Fleet) -> Self:
        """Return those of a fleet's settings."""
        keys = (
            SecretKeys(fleet.prefix, fleet.bucket, fleet.kms_key_arn, fleet.tags)
            if fleet.claim_key_store == "secretsmanager"
            else S3Keys(fleet.bucket)
        )
        return cls(fleet.bucket, fleet.arn("iot", "cert"), fleet.claim_policy_name, keys, fleet.claim_keys == "own")

    @property
    def kms_key(self) -> str:
        """The ARN of the KMS key that encrypts the private keys' secrets; empty for a key of AWS's, and where they lie
        in the bucket.
        """
        return self.keys.kms_key

    @property
    def tags(self) -> dict[str, str]:
        """The company's tags of those secrets; none where they lie in the bucket."""
        return dict(self.keys.tags)

    @property
    def stored(self) -> tuple[str, ...]:
        """What is kept of a claim certificate."""
        return (CERTIFICATE, PUBLIC_KEY, self.keys.place)

    def arn(self, certificate: str) -> str:
        """Return the ARN of a certificate's id."""
        return f"{self.arn_prefix}/{certificate}"


@dataclass(frozen=True, slots=True)
class Held:
    """One claim certificate in AWS IoT. `current` is the one that is given out."""

    certificate_id: str
    status: str
    created: datetime
    certificate_pem: str = field(repr=False)
    current: bool


def read_claim(fleet: Fleet, aws: Aws) -> Claim:
    """Return the claim certificate with its private key, as a vehicle's maker would fetch it.

    Raises NoClaimCertificate.
    """
    claims = Claims.of(fleet)
    with doing("give out the claim certificate"):
        pem = stored_pem(aws, fleet.bucket)
        key = claims.keys.get(aws, pem) if pem else None
    if pem is None or key is None:
        raise NoClaimCertificate(claims.keys.place if pem else f"s3://{fleet.bucket}/{CERTIFICATE}")
    return Claim(pem, key)


def held(claims: Claims, aws: Aws) -> list[Held]:
    """Return every claim certificate that AWS IoT knows, the current one first, then the newest."""
    current = stored_certificate_id(aws, claims.bucket)
    found = [_held(aws, each, current=each == current) for each in _ids(claims, aws, current)]
    return sorted((each for each in found if each), key=lambda each: (each.current, each.created), reverse=True)


def stored_certificate_id(aws: Aws, bucket: str) -> str | None:
    """Return the id of the certificate whose PEM the bucket holds, or None."""
    pem = stored_pem(aws, bucket)
    return certificate_id(pem) if pem else None


def stored_pem(aws: Aws, bucket: str) -> str | None:
    """Return the PEM that the bucket holds, or None."""
    with absent("NoSuchKey", "NoSuchBucket"):
        return aws.s3.get_object(Bucket=bucket, Key=CERTIFICATE)["Body"].read().decode()
    return None


def former_pems(aws: Aws, bucket: str) -> list[str]:
    """Return the PEMs that were in its place before, of which a retirement leaves none."""
    with absent("NoSuchBucket"):
        pages: Any = aws.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=CERTIFICATE)
        former = [each for page in pages for each in page.get("Versions", []) if not each["IsLatest"]]
        read = (aws.s3.get_object(Bucket=bucket, Key=CERTIFICATE, VersionId=each["VersionId"]) for each in former)
        return [each["Body"].read().decode() for each in read]
    return []


def status(aws: Aws, certificate: str) -> str | None:
    """Return a certificate's status, or None when AWS IoT does not know it."""
    with absent("ResourceNotFoundException"):
        return aws.iot.describe_certificate(certificateId=certificate)["certificateDescription"]["status"]
    return None


def set_status(aws: Aws, certificate: str, wanted: Any) -> None:
    """Set a certificate's status."""
    aws.iot.update_certificate(certificateId=certificate, newStatus=wanted)


def delete_versions(aws: Aws, bucket: str, prefix: str, *, noncurrent_only: bool = False) -> None:
    """Delete every version and delete marker below a prefix, oldest first; or only those that are not
    the current ones.
    """
    for page in aws.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        entries: list[Any] = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        for entry in reversed(entries):
            if not (noncurrent_only and entry["IsLatest"]):
                aws.s3.delete_object(Bucket=bucket, Key=entry["Key"], VersionId=entry["VersionId"])


def _ids(claims: Claims, aws: Aws, current: str | None) -> Iterator[str]:
    if current:
        yield current
    with absent("ResourceNotFoundException"):
        for page in aws.iot.get_paginator("list_targets_for_policy").paginate(policyName=claims.policy_name):
            yield from (
                target.rsplit("/", 1)[1]
                for target in page["targets"]
                if ":cert/" in target and not target.endswith(f"/{current}")
            )


def _held(aws: Aws, certificate: str, *, current: bool) -> Held | None:
    with absent("ResourceNotFoundException"):
        found = aws.iot.describe_certificate(certificateId=certificate)["certificateDescription"]
        return Held(certificate, found["status"], found["creationDate"], found["certificatePem"], current)
    return None
