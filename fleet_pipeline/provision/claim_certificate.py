"""The claim certificate that vehicles leave the factory with, and its keys in S3.

A certificate has no name of its own. Ours is the one whose PEM lies in the bucket: its id is the SHA-256 of its DER.
"""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from botocore.exceptions import BotoCoreError, ClientError
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleet_pipeline.aws import Aws, absent, doing

FOLDER = "claim-certificate"
CERTIFICATE = f"{FOLDER}/claim.pem"
PUBLIC_KEY = f"{FOLDER}/claim.public.key"
PRIVATE_KEY = f"{FOLDER}/claim.private.key"


@dataclass(frozen=True)
class Claim:
    """What a vehicle is given: the certificate and its private key, which nothing prints."""

    certificate_pem: str
    private_key: str = field(repr=False)


@dataclass(frozen=True)
class ClaimCertificate:
    """The claim certificate; `stored` names what the bucket holds of it."""

    kind: ClassVar[str] = "claim certificate"
    fixed: ClassVar[frozenset[str]] = frozenset({"stored"})

    bucket: str
    arn_prefix: str
    certificate_id: str = field(default="", compare=False)
    status: str = "ACTIVE"
    stored: tuple[str, ...] = (CERTIFICATE, PRIVATE_KEY, PUBLIC_KEY)

    @property
    def name(self) -> str:
        """Where it is found."""
        return f"s3://{self.bucket}/{CERTIFICATE}"

    @property
    def arn(self) -> str:
        """The certificate's ARN, once its id is known."""
        return f"{self.arn_prefix}/{self.certificate_id}"

    def console_path(self) -> str:
        """The certificate's page."""
        return f"iot/home#/certificate/{self.certificate_id}"

    def read(self, aws: Aws) -> Self | None:
        """Return the certificate whose PEM the bucket holds, or None if there is no PEM or AWS IoT no longer knows it."""
        found = stored_certificate_id(aws, self.bucket)
        if found is None:
            return None
        with absent("ResourceNotFoundException"):
            status = aws.iot.describe_certificate(certificateId=found)["certificateDescription"]["status"]
            return replace(self, certificate_id=found, status=status, stored=self._found_stored(aws))
        return None

    def create(self, aws: Aws) -> None:
        """Make the certificate inactive, store its keys, then activate it; if a key cannot be stored, the certificate is deleted again."""
        made = aws.iot.create_keys_and_certificate(setAsActive=False)
        try:
            self._store(aws, {CERTIFICATE: made["certificatePem"], PUBLIC_KEY: made["keyPair"]["PublicKey"], PRIVATE_KEY: made["keyPair"]["PrivateKey"]})
        except (ClientError, BotoCoreError):
            aws.iot.delete_certificate(certificateId=made["certificateId"])
            raise
        aws.iot.update_certificate(certificateId=made["certificateId"], newStatus="ACTIVE")

    def update(self, aws: Aws, found: Self) -> None:
        """Activate it again. A missing key cannot be had again: AWS IoT gives it out once."""
        aws.iot.update_certificate(certificateId=found.certificate_id, newStatus="ACTIVE")

    def delete(self, aws: Aws) -> None:
        """Deactivate and delete the certificate, and every version of its keys."""
        aws.iot.update_certificate(certificateId=self.certificate_id, newStatus="INACTIVE")
        aws.iot.delete_certificate(certificateId=self.certificate_id)
        delete_versions(aws, self.bucket, f"{FOLDER}/")

    def _store(self, aws: Aws, objects: dict[str, str]) -> None:
        # The PEM goes last: once it is there, the certificate counts as stored.
        for key in (PRIVATE_KEY, PUBLIC_KEY, CERTIFICATE):
            aws.s3.put_object(Bucket=self.bucket, Key=key, Body=objects[key].encode(), ServerSideEncryption="AES256")

    def _found_stored(self, aws: Aws) -> tuple[str, ...]:
        listed = aws.s3.list_objects_v2(Bucket=self.bucket, Prefix=f"{FOLDER}/").get("Contents", [])
        keys = {each["Key"] for each in listed}
        return tuple(key for key in (CERTIFICATE, PRIVATE_KEY, PUBLIC_KEY) if key in keys)


def stored_certificate_id(aws: Aws, bucket: str) -> str | None:
    """Return the id of the certificate whose PEM the bucket holds, or None."""
    with absent("NoSuchKey", "NoSuchBucket"):
        pem = aws.s3.get_object(Bucket=bucket, Key=CERTIFICATE)["Body"].read()
        return hashlib.sha256(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)).hexdigest()
    return None


def read_claim(aws: Aws, bucket: str) -> Claim:
    """Return the claim certificate with its private key, as a vehicle's maker would fetch it."""
    with doing("give out the claim certificate"):
        pem, key = (aws.s3.get_object(Bucket=bucket, Key=name)["Body"].read().decode() for name in (CERTIFICATE, PRIVATE_KEY))
    return Claim(pem, key)


def delete_versions(aws: Aws, bucket: str, prefix: str) -> None:
    """Delete every version and delete marker below a prefix."""
    for page in aws.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        entries: list[Any] = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        for entry in entries:
            aws.s3.delete_object(Bucket=bucket, Key=entry["Key"], VersionId=entry["VersionId"])
