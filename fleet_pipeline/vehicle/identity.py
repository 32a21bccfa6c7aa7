"""A vehicle's certificate and private key, and the folder in which it keeps them."""

import hashlib
import os
import shutil
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from fleet_pipeline.model.errors import InvalidName
from fleet_pipeline.model.private import kept_from_git, made_private
from fleet_pipeline.model.thing import THING_NAME

CERTIFICATE = "certificate.pem"
PRIVATE_KEY = "private.key"


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its private key, both PEM."""

    certificate_pem: str
    private_key: str = field(repr=False)

    @property
    def certificate_id(self) -> str:
        """AWS IoT's id of the certificate: the SHA-256 of its DER."""
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.certificate_pem)).hexdigest()


@dataclass(frozen=True, slots=True)
class VehicleFolder:
    """Where a vehicle keeps one identity. Only its owner may enter the folder or read the files."""

    path: Path

    @classmethod
    def of(cls, home: Path, thing_name: str) -> Self:
        """Return the folder of a thing.

        Raises InvalidName for what AWS IoT would not take as a thing's name, such as a path.
        """
        if not THING_NAME.fullmatch(thing_name):
            raise InvalidName("thing", thing_name, "AWS IoT takes 1 to 128 of a-z, A-Z, 0-9, :, _ and -")
        return cls(home / "vehicles" / thing_name)

    @property
    def unconfirmed(self) -> Self:
        """The folder beside it for an identity of which it is not yet known whether AWS IoT accepted it."""
        return type(self)(self.path.with_name(f"{self.path.name}.unconfirmed"))

    def read(self) -> Identity | None:
        """Return the identity, or None unless both files are there."""
        try:
            return Identity((self.path / CERTIFICATE).read_text(), (self.path / PRIVATE_KEY).read_text())
        except FileNotFoundError:
            return None

    def write(self, identity: Identity) -> None:
        """Keep this identity, on the disk itself, instead of any that was here."""
        self.delete()
        made_private(self.path)
        kept_from_git(self.path)
        for name, text in ((PRIVATE_KEY, identity.private_key), (CERTIFICATE, identity.certificate_pem)):
            with os.fdopen(os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())

    def move_to(self, other: Self) -> None:
        """Become the other folder, in one step and instead of it; if stopped halfway, this one is still whole."""
        if other != self:
            other.delete()
            self.path.rename(other.path)

    def delete(self) -> None:
        """Forget the identity, if there is one."""
        if self.path.exists():
            shutil.rmtree(self.path)
