"""A certificate authority on this machine, for trials of just-in-time registration: in a factory it would be a service
with an HSM.
"""

import os
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from fleet_pipeline.model.errors import NoAuthority
from fleet_pipeline.model.private import kept_from_git, made_private
from fleet_pipeline.vehicle.identity import Identity

CERTIFICATE = "ca.pem"
VERIFICATION = "verification.pem"
PRIVATE_KEY = "ca.key"

LIFE = timedelta(days=3650)
"""Of every certificate: ten years, as a vehicle's life."""


@dataclass(frozen=True, slots=True)
class Authority:
    """The authority's certificate and its private key, both PEM."""

    certificate_pem: str
    private_key: str = field(repr=False)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the authority of a folder. Raises NoAuthority when its key is not there."""
        try:
            return cls((folder / CERTIFICATE).read_text(), (folder / PRIVATE_KEY).read_text())
        except FileNotFoundError as error:
            raise NoAuthority(str(folder)) from error

    @classmethod
    def make(cls, folder: Path) -> Self:
        """Return the authority of a folder, made first if there is none; only its owner may read the key."""
        if not (folder / PRIVATE_KEY).exists():
            # A server that knows two authorities of one name may ask the wrong one.
            key, name = ec.generate_private_key(ec.SECP256R1()), _name(f"fleet trial CA {secrets.token_hex(4)}")
            builder = _certificate(name, name, key).add_extension(
                x509.BasicConstraints(ca=True, path_length=0), critical=True
            )
            usage = {each: each in {"key_cert_sign", "crl_sign"} for each in _USAGES}
            signed = builder.add_extension(x509.KeyUsage(**usage), critical=True).sign(key, hashes.SHA256())
            made_private(folder)
            kept_from_git(folder)
            (folder / CERTIFICATE).write_bytes(signed.public_bytes(Encoding.PEM))
            with os.fdopen(os.open(folder / PRIVATE_KEY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(_pem(key))
        return cls.read(folder)

    def issue(self, common_name: str) -> Identity:
        """Return a new key with a certificate for this name."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.load_pem_x509_certificate(self.certificate_pem.encode()).subject
        builder = _certificate(_name(common_name), issuer, key).add_extension(
            x509.BasicConstraints(ca=False, path_length=None), critical=True
        )
        signer = load_pem_private_key(self.private_key.encode(), None)
        signed = builder.sign(signer, hashes.SHA256())  # type: ignore[arg-type]
        return Identity(signed.public_bytes(Encoding.PEM).decode(), _pem(key).decode())


_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    begun = datetime.now(UTC) - timedelta(minutes=5)  # a clock may be slow
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begun)
        .not_valid_after(begun + LIFE)
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
