"""A vehicle that makes its own key before it leaves the factory, and asks for a certificate by a request (CSR).

The key never leaves it.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from fleet_pipeline.model.private import kept_from_git, made_private
from fleet_pipeline.vehicle.identity import PRIVATE_KEY, Identity, VehicleFolder

_ASKED = ".asked"
"""What the folder of a vehicle that waits for its certificate ends with."""

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def request(home: Path, thing_name: str) -> str:
    """Return a request for the vehicle's certificate, PEM; its key is made once and kept in the vehicle's folder, for
    its owner only.
    """
    return request_for(_kept(VehicleFolder.of(home, thing_name).path), thing_name)


def new_key() -> tuple[Any, str]:
    """Return a new private key, and its PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key, key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


def request_for(key: Any, thing_name: str) -> str:
    """Return a request for a certificate of this key, PEM."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, thing_name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def accept(home: Path, text: str) -> Iterator[str]:
    """Give each certificate in a report of AWS IoT to the vehicle that asked for it, and yield the thing's name.

    A certificate finds its vehicle by its key. One that no vehicle here asked for is passed over; a second time there
    is none.
    """
    asked = {_public(_load(folder)): folder for folder in (home / "vehicles").glob(f"*{_ASKED}")}
    for pem in _certificates(text):
        folder = asked.get(_public(x509.load_pem_x509_certificate(pem.encode())))
        if folder and folder.exists():
            thing_name = folder.name.removesuffix(_ASKED)
            VehicleFolder.of(home, thing_name).write(Identity(pem, (folder / PRIVATE_KEY).read_text()))
            shutil.rmtree(folder)
            yield thing_name


def _kept(folder: Path) -> Any:
    waiting = folder.with_name(folder.name + _ASKED)
    if not (waiting / PRIVATE_KEY).exists():
        made_private(waiting)
        kept_from_git(waiting)
        _, pem = new_key()
        with os.fdopen(os.open(waiting / PRIVATE_KEY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(pem)
    return _load(waiting)


def _load(folder: Path) -> Any:
    return load_pem_private_key((folder / PRIVATE_KEY).read_bytes(), None)


def _public(holder: Any) -> bytes:
    return bytes(holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _certificates(text: str) -> Iterator[str]:
    """Yield every certificate in a report, wherever in its lines of JSON it stands."""
    for line in text.splitlines():
        for each in _texts(json.loads(line)):
            yield from (f"{found[0]}\n" for found in _PEM.finditer(each))


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for each in node.values() if isinstance(node, dict) else node:
            yield from _texts(each)
