"""Where the private keys of claim certificates lie: beside the certificate in S3, or in Secrets Manager.

A key is found by its public key and not by its place: while a rotation lasts there are two, and a key is stored before
its certificate exists. `pem` is a certificate or a public key, whichever the caller has.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from fleet_pipeline.aws.clients import Aws, absent
from fleet_pipeline.cloud import encryption
from fleet_pipeline.cloud import tags as tagging
from fleet_pipeline.model.errors import AwsUnavailable

PRIVATE_KEY = "claim-certificate/claim.private.key"


class KeyStore(Protocol):
    """The private keys, each by the PEM of its certificate or of its public key."""

    @property
    def place(self) -> str:
        """Where the keys lie, in words."""

    @property
    def kms_key(self) -> str:
        """The ARN of the KMS key that is wanted for them; empty where none is chosen."""

    @property
    def tags(self) -> Sequence[tuple[str, str]]:
        """The company's tags that are wanted for them."""

    def put(self, aws: Aws, pem: str, private_key: str) -> None:
        """Keep a key, beside those that are kept already; a second time changes nothing that `get` returns."""

    def get(self, aws: Aws, pem: str) -> str | None:
        """Return the key, or None."""

    def has(self, aws: Aws, pem: str) -> bool:
        """Say whether there is a key, without reading it."""

    def delete(self, aws: Aws, pem: str) -> None:
        """Forget the key for good; one that is not kept is no error."""

    def encrypted_by(self, aws: Aws, pem: str) -> str:
        """Return the ARN of the KMS key that encrypts this one, as far as it is chosen here; otherwise nothing."""

    def encrypt(self, aws: Aws, pem: str) -> None:
        """Let the KMS key that is wanted encrypt this one, if it does not yet."""

    def tags_of(self, aws: Aws, pem: str) -> dict[str, str]:
        """Return the wanted tags as this one has them."""

    def tag(self, aws: Aws, pem: str) -> None:
        """Give this one the tags that are wanted, if it has not got them."""

    def left_behind(self, aws: Aws) -> bool:
        """Say whether keys lie where they were kept before, and are to be moved."""

    def gather(self, aws: Aws) -> None:
        """Move what was left behind: each key is deleted there once it is proved to be kept here.

        Stopped at any moment, the next run moves the rest.
        """


@dataclass(frozen=True)
class S3Keys:
    """One object, whose versions are the keys: the newest is the one that is given out, older ones are of certificates
    not yet retired.
    """

    bucket: str

    @property
    def place(self) -> str:
        """The object's key."""
        return PRIVATE_KEY

    def put(self, aws: Aws, pem: str, private_key: str) -> None:  # noqa: ARG002 (the key itself says whose it is)
        """Make the key the newest version."""
        aws.s3.put_object(Bucket=self.bucket, Key=PRIVATE_KEY, Body=private_key.encode())

    def get(self, aws: Aws, pem: str) -> str | None:
        """Return the version that fits the certificate, or None; as a rule the newest, so that one call will do."""
        with absent("NoSuchKey", "NoSuchBucket"):
            newest = aws.s3.get_object(Bucket=self.bucket, Key=PRIVATE_KEY)["Body"].read()
            if fits(pem, newest):
                return newest.decode()
            return next((key.decode() for _, key in self.versions(aws) if fits(pem, key)), None)
        return None

    def has(self, aws: Aws, pem: str) -> bool:  # noqa: ARG002 (to know whose key it is, it would have to be read)
        """Say whether there is a key."""
        with absent("404", "NoSuchKey", "NoSuchBucket"):
            aws.s3.head_object(Bucket=self.bucket, Key=PRIVATE_KEY)
            return True
        return False

    def delete(self, aws: Aws, pem: str) -> None:
        """Delete the versions that fit the certificate."""
        for version, key in list(self.versions(aws)):
            if fits(pem, key):
                self.delete_version(aws, version)

    @property
    def kms_key(self) -> str:
        """None: the bucket's encryption is the bucket's."""
        return ""

    def encrypted_by(self, aws: Aws, pem: str) -> str:  # noqa: ARG002
        """Nothing, as above."""
        return ""

    def encrypt(self, aws: Aws, pem: str) -> None:
        """Do nothing."""

    @property
    def tags(self) -> Sequence[tuple[str, str]]:
        """None: an object of the bucket is found by its key."""
        return ()

    def tags_of(self, aws: Aws, pem: str) -> dict[str, str]:  # noqa: ARG002
        """Nothing, as above."""
        return {}

    def tag(self, aws: Aws, pem: str) -> None:
        """Do nothing."""

    def left_behind(self, aws: Aws) -> bool:  # noqa: ARG002
        """Nothing: there is no place before this one."""
        return False

    def gather(self, aws: Aws) -> None:
        """Do nothing."""

    def delete_version(self, aws: Aws, version: str) -> None:
        """Delete one version for good."""
        aws.s3.delete_object(Bucket=self.bucket, Key=PRIVATE_KEY, VersionId=version)

    def versions(self, aws: Aws) -> Iterator[tuple[str, bytes]]:
        """Yield the id and the key of each version."""
        for page in aws.s3.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=PRIVATE_KEY):
            for each in page.get("Versions", []):
                yield (
                    each["VersionId"],
                    aws.s3.get_object(Bucket=self.bucket, Key=PRIVATE_KEY, VersionId=each["VersionId"])["Body"].read(),
                )


@dataclass(frozen=True)
class SecretKeys:
    """A secret for each key, so that the key of a retired certificate can be deleted: versions of one secret cannot.

    It is named by the digest of the public key. Versions before this one named it by the certificate's id; such a
    secret is found too, and so is a key that still lies in the data bucket.
    """

    prefix: str
    bucket: str
    kms_key: str = ""
    tags: Sequence[tuple[str, str]] = ()

    @property
    def place(self) -> str:
        """What the secrets' names begin with."""
        return f"secret {self.prefix}/claim-certificate"

    def put(self, aws: Aws, pem: str, private_key: str) -> None:
        """Make the key's secret. One that is there holds this very key, as its name says."""
        with absent("ResourceExistsException"):
            tags: Any = {"Tags": tagging.spelled(dict(self.tags))} if self.tags else {}
            aws.secrets.create_secret(
                Name=self._names(pem)[0], SecretString=private_key, **self._encryption(aws), **tags
            )

    def get(self, aws: Aws, pem: str) -> str | None:
        """Return what the key's secret holds, or else the data bucket, or None."""
        return self._secret(aws, pem) or self._former.get(aws, pem)

    def has(self, aws: Aws, pem: str) -> bool:
        """Say whether the key has a secret that is not to be deleted, or lies in the data bucket."""
        for name in self._names(pem):
            with absent("ResourceNotFoundException"):
                if "DeletedDate" not in aws.secrets.describe_secret(SecretId=name):
                    return True
        return self._former.has(aws, pem)

    def delete(self, aws: Aws, pem: str) -> None:
        """Delete the key's secret at once; Secrets Manager would otherwise keep it for weeks."""
        for name in self._names(pem):
            with absent("ResourceNotFoundException"):
                aws.secrets.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
        self._former.delete(aws, pem)

    def encrypted_by(self, aws: Aws, pem: str) -> str:
        """Return the KMS key of the key's secret; nothing for a secret with a key of AWS's, and where
        no key is wanted.
        """
        for name in self._names(pem) if self.kms_key else ():
            with absent("ResourceNotFoundException"):
                return encryption.compared(
                    aws, self.kms_key, aws.secrets.describe_secret(SecretId=name).get("KmsKeyId") or ""
                )
        return ""

    def encrypt(self, aws: Aws, pem: str) -> None:
        """Give the key's secret the KMS key that is wanted; Secrets Manager encrypts it anew."""
        for name in self._names(pem) if self.encrypted_by(aws, pem) != self.kms_key else ():
            with absent("ResourceNotFoundException"):
                aws.secrets.update_secret(SecretId=name, **self._encryption(aws))

    def tags_of(self, aws: Aws, pem: str) -> dict[str, str]:
        """Return the wanted tags as the key's secret has them."""
        for name in self._names(pem) if self.tags else ():
            with absent("ResourceNotFoundException"):
                return tagging.found(dict(self.tags), aws.secrets.describe_secret(SecretId=name).get("Tags", []))
        return {}

    def tag(self, aws: Aws, pem: str) -> None:
        """Give the key's secret the tags that are wanted."""
        for name in self._names(pem) if self.tags_of(aws, pem) != dict(self.tags) else ():
            with absent("ResourceNotFoundException"):
                aws.secrets.tag_resource(SecretId=name, Tags=tagging.spelled(dict(self.tags)))

    def left_behind(self, aws: Aws) -> bool:
        """Say whether a version in the data bucket is a key."""
        return any(_public_of(key) for _, key in self._former.versions(aws))

    def gather(self, aws: Aws) -> None:
        """Move each key from the data bucket.

        Raises AwsUnavailable, and leaves the key where it is, while its secret does not give it back.
        """
        for version, key in list(self._former.versions(aws)):
            public = _public_of(key)
            if public is None:
                continue
            self.put(aws, public, key.decode())
            if not fits(public, (self._secret(aws, public) or "").encode()):
                raise AwsUnavailable(
                    "move the claim certificate's key",
                    "NotYetVisible",
                    "its secret does not give it back, so it stays in the bucket",
                )
            self._former.delete_version(aws, version)

    def _encryption(self, aws: Aws) -> Any:
        return {"KmsKeyId": encryption.usable(aws, self.kms_key)} if self.kms_key else {}

    @property
    def _former(self) -> S3Keys:
        return S3Keys(self.bucket)

    def _secret(self, aws: Aws, pem: str) -> str | None:
        for name in self._names(pem):
            with absent("ResourceNotFoundException"):
                return str(aws.secrets.get_secret_value(SecretId=name)["SecretString"])
        return None

    def _names(self, pem: str) -> list[str]:
        digest = hashlib.sha256(
            _public_key(pem).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ).hexdigest()
        ids = [digest, certificate_id(pem)] if "BEGIN CERTIFICATE" in pem else [digest]
        return [f"{self.prefix}/claim-certificate/{each}" for each in ids]


def certificate_id(certificate_pem: str) -> str:
    """Return AWS IoT's id of a certificate: the SHA-256 of its DER."""
    return hashlib.sha256(
        x509.load_pem_x509_certificate(certificate_pem.encode()).public_bytes(Encoding.DER)
    ).hexdigest()


def fits(pem: str, private_key: bytes) -> bool:
    """Say whether a private key is that of a certificate or of a public key; what is no key fits none."""
    try:
        key = load_pem_private_key(private_key, password=None, unsafe_skip_rsa_key_validation=True)
    except ValueError:
        return False
    public = _public_key(pem)
    return bool(key.public_key() == public) and _answers_to(key, public)


def _answers_to(key: Any, public: Any) -> bool:
    """Say whether what a private key signs is valid by a public one. It shows of RSA what the validation of a key does,
    which takes a hundred times longer; keys of other kinds are validated as they are read.
    """
    if not isinstance(key, RSAPrivateKey):
        return True
    try:
        public.verify(key.sign(b"", PKCS1v15(), SHA256()), b"", PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True


def _public_of(private_key: bytes) -> str | None:
    """Return the public key of a private one; None for what is no key."""
    try:
        public = load_pem_private_key(private_key, password=None).public_key()
    except ValueError:
        return None
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def is_of(certificate_pem: str, public_key: str) -> bool:
    """Say whether a certificate is one of this public key."""
    return bool(_public_key(certificate_pem) == _public_key(public_key))


def _public_key(pem: str) -> Any:
    if "BEGIN CERTIFICATE" in pem:
        return x509.load_pem_x509_certificate(pem.encode()).public_key()
    return load_pem_public_key(pem.encode())
