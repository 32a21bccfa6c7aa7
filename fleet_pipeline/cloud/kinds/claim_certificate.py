"""The claim certificate that vehicles leave the factory with, and its keys.

It is made inactive; the attachment of its policy activates it. So none works before its key is stored and its policy
attached.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.claims import making
from fleet_pipeline.cloud.claims.certificates import (
    CERTIFICATE,
    FOLDER,
    PUBLIC_KEY,
    Claims,
    delete_versions,
    held,
    set_status,
    status,
    stored_pem,
)
from fleet_pipeline.cloud.claims.keys import certificate_id


@dataclass(frozen=True)
class ClaimCertificate:
    """The claim certificate; `stored` names what is kept of it, `unfinished` is a making or rotation that was stopped.

    `key_left_in_data_bucket`: keys lie there that belong into another store. They are moved, and deleted there once
    they are proved to be kept. `kms_key` encrypts the secrets of its private key and of those that are not yet retired;
    `secret_tags` are the company's tags of these secrets.
    """

    kind: ClassVar[str] = "claim certificate"
    fixed: ClassVar[frozenset[str]] = frozenset({"stored"})

    claims: Claims = field(compare=False)
    stored: tuple[str, ...]
    certificate_id: str = field(default="", compare=False)
    unfinished: bool = False
    key_left_in_data_bucket: bool = False
    kms_key: str = ""
    secret_tags: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Where it is found."""
        return f"s3://{self.claims.bucket}/{CERTIFICATE}"

    @property
    def arn(self) -> str:
        """The certificate's ARN, once its id is known."""
        return self.claims.arn(self.certificate_id)

    def console_path(self) -> str:
        """The certificate's page."""
        return f"iot/home#/certificate/{self.certificate_id}"

    def read(self, aws: Aws) -> Self | None:
        """Return the certificate whose PEM the bucket holds, or None if there is no PEM or AWS IoT no
        longer knows it.
        """
        pem = stored_pem(aws, self.claims.bucket)
        if pem is None or status(aws, certificate_id(pem)) is None:
            return None
        return replace(
            self,
            certificate_id=certificate_id(pem),
            stored=self._found_stored(aws, pem),
            unfinished=making.is_unfinished(self.claims, aws),
            key_left_in_data_bucket=self.claims.keys.left_behind(aws),
            kms_key=self._found_kms_key(aws),
            secret_tags=self._found_tags(aws),
        )

    def create(self, aws: Aws) -> None:
        """Make the certificate, inactive, and store its keys; or finish what was stopped."""
        making.create(self.claims, aws)

    def update(self, aws: Aws, _found: Self) -> None:
        """Finish a stopped rotation, move keys that were left, encrypt them as is wanted.

        A missing key cannot be had again: AWS IoT gives it out once.
        """
        making.finish(self.claims, aws)
        self.claims.keys.gather(aws)
        for each in held(self.claims, aws) if self.kms_key or self.secret_tags else ():
            self.claims.keys.encrypt(aws, each.certificate_pem)
            self.claims.keys.tag(aws, each.certificate_pem)

    def delete(self, aws: Aws) -> None:
        """Deactivate and delete the certificate, and every version of its keys."""
        set_status(aws, self.certificate_id, "INACTIVE")
        aws.iot.delete_certificate(certificateId=self.certificate_id)
        pem = stored_pem(aws, self.claims.bucket)
        if pem:
            self.claims.keys.delete(aws, pem)
        delete_versions(aws, self.claims.bucket, f"{FOLDER}/")

    def _found_kms_key(self, aws: Aws) -> str:
        """Return the wanted key if it encrypts every secret, and otherwise that of the first that it does not."""
        keys = (
            [self.claims.keys.encrypted_by(aws, each.certificate_pem) for each in held(self.claims, aws)]
            if self.kms_key
            else []
        )
        return next((key for key in keys if key != self.kms_key), self.kms_key)

    def _found_tags(self, aws: Aws) -> dict[str, str]:
        """Return the wanted tags if every secret has them, and otherwise those of the first that has not."""
        tags = (
            [self.claims.keys.tags_of(aws, each.certificate_pem) for each in held(self.claims, aws)]
            if self.secret_tags
            else []
        )
        return next((found for found in tags if found != self.secret_tags), self.secret_tags)

    def _found_stored(self, aws: Aws, pem: str) -> tuple[str, ...]:
        pages = aws.s3.get_paginator("list_objects_v2").paginate(Bucket=self.claims.bucket, Prefix=f"{FOLDER}/")
        kept = {each["Key"] for page in pages for each in page.get("Contents", [])} & {CERTIFICATE, PUBLIC_KEY} | (
            {self.claims.keys.place} if self.claims.keys.has(aws, pem) else set()
        )
        return tuple(each for each in self.claims.stored if each in kept)
