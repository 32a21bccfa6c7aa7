"""Where the private keys of claim certificates lie: beside the certificate in S3, or in Secrets Manager.

A key is found by its certificate and not by its place: while a rotation lasts there are two, and only the certificate says which is meant.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from fleet_pipeline.aws import Aws, absent

PRIVATE_KEY = "claim-certificate/claim.private.key"


class KeyStore(Protocol):
    """The private keys, each by the PEM of its certificate."""

    @property
    def place(self) -> str:
        """Where the keys lie, in words."""

    def put(self, aws: Aws, certificate_pem: str, private_key: str) -> None:
        """Keep a key, beside those that are kept already."""

    def get(self, aws: Aws, certificate_pem: str) -> str | None:
        """Return the key of a certificate, or None."""

    def has(self, aws: Aws, certificate_pem: str) -> bool:
        """Say whether there is a key, without reading it."""

    def delete(self, aws: Aws, certificate_pem: str) -> None:
        """Forget the key of a certificate for good; one that is not kept is no error."""


@dataclass(frozen=True)
class S3Keys:
    """One object, whose versions are the keys: the newest is the one that is given out, older ones are of certificates not yet retired."""

    bucket: str

    @property
    def place(self) -> str:
        """The object's key."""
        return PRIVATE_KEY

    def put(self, aws: Aws, certificate_pem: str, private_key: str) -> None:  # noqa: ARG002 (the key itself says whose it is)
        """Make the key the newest version."""
        aws.s3.put_object(Bucket=self.bucket, Key=PRIVATE_KEY, Body=private_key.encode(), ServerSideEncryption="AES256")

    def get(self, aws: Aws, certificate_pem: str) -> str | None:
        """Return the version that fits the certificate, or None; as a rule the newest, so that one call will do."""
        with absent("NoSuchKey", "NoSuchBucket"):
            newest = aws.s3.get_object(Bucket=self.bucket, Key=PRIVATE_KEY)["Body"].read()
            if fits(certificate_pem, newest):
                return newest.decode()
            return next((key.decode() for _, key in self._versions(aws) if fits(certificate_pem, key)), None)
        return None

    def has(self, aws: Aws, certificate_pem: str) -> bool:  # noqa: ARG002 (to know whose key it is, it would have to be read)
        """Say whether there is a key."""
        with absent("404", "NoSuchKey", "NoSuchBucket"):
            aws.s3.head_object(Bucket=self.bucket, Key=PRIVATE_KEY)
            return True
        return False

    def delete(self, aws: Aws, certificate_pem: str) -> None:
        """Delete the versions that fit the certificate."""
        for version, key in list(self._versions(aws)):
            if fits(certificate_pem, key):
                aws.s3.delete_object(Bucket=self.bucket, Key=PRIVATE_KEY, VersionId=version)

    def _versions(self, aws: Aws) -> Iterator[tuple[str, bytes]]:
        for page in aws.s3.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=PRIVATE_KEY):
            for each in page.get("Versions", []):
                yield each["VersionId"], aws.s3.get_object(Bucket=self.bucket, Key=PRIVATE_KEY, VersionId=each["VersionId"])["Body"].read()


@dataclass(frozen=True)
class SecretKeys:
    """A secret for each certificate, so that the key of a retired one can be deleted: versions of one secret cannot."""

    prefix: str

    @property
    def place(self) -> str:
        """What the secrets' names begin with."""
        return f"secret {self.prefix}/claim-certificate"

    def put(self, aws: Aws, certificate_pem: str, private_key: str) -> None:
        """Make the certificate's secret."""
        aws.secrets.create_secret(Name=self._name(certificate_pem), SecretString=private_key)

    def get(self, aws: Aws, certificate_pem: str) -> str | None:
        """Return what the certificate's secret holds, or None."""
        with absent("ResourceNotFoundException"):
            return str(aws.secrets.get_secret_value(SecretId=self._name(certificate_pem))["SecretString"])
        return None

    def has(self, aws: Aws, certificate_pem: str) -> bool:
        """Say whether the certificate has a secret that is not to be deleted."""
        with absent("ResourceNotFoundException"):
            return "DeletedDate" not in aws.secrets.describe_secret(SecretId=self._name(certificate_pem))
        return False

    def delete(self, aws: Aws, certificate_pem: str) -> None:
        """Delete the certificate's secret at once; Secrets Manager would otherwise keep it for weeks."""
        with absent("ResourceNotFoundException"):
            aws.secrets.delete_secret(SecretId=self._name(certificate_pem), ForceDeleteWithoutRecovery=True)

    def _name(self, certificate_pem: str) -> str:
        return f"{self.prefix}/claim-certificate/{certificate_id(certificate_pem)}"


def certificate_id(certificate_pem: str) -> str:
    """Return AWS IoT's id of a certificate: the SHA-256 of its DER."""
    return hashlib.sha256(x509.load_pem_x509_certificate(certificate_pem.encode()).public_bytes(Encoding.DER)).hexdigest()


def fits(certificate_pem: str, private_key: bytes) -> bool:
    """Say whether a private key is that of a certificate; what is no key fits none."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    try:
        public: Any = load_pem_private_key(private_key, password=None).public_key()
    except ValueError:
        return False
    return bool(public == certificate.public_key())
