"""Whether the bytes that came are those that were written.

The ETag of an object is the MD5 of its bytes where it was written whole and without a key of KMS or of the client's: so
are all objects that a rule of AWS IoT writes, and most answers need nothing else. For others S3 is asked for the
checksum that it keeps.
Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
"""

import base64
import hashlib
from collections.abc import Callable, Mapping

from awscrt import checksums

UNLIKE_ETAG = "the bytes that came are not those of the ETag"

_CHECKSUMS: dict[str, Callable[[bytes], bytes]] = {
    "crc32": lambda body: checksums.crc32(body).to_bytes(4, "big"),
    "crc32c": lambda body: checksums.crc32c(body).to_bytes(4, "big"),
    "crc64nvme": lambda body: checksums.crc64nvme(body).to_bytes(8, "big"),
    "sha1": lambda body: hashlib.sha1(body, usedforsecurity=False).digest(),
    "sha256": lambda body: hashlib.sha256(body).digest(),
}


def damaged(body: bytes, etag: str, headers: Mapping[str, str]) -> str:
    """Say what shows that a body, whose MD5 is not its ETag, is not the object's; nothing when it is, or when nothing
    can show it.

    `headers` are the answer's, by lower-case name.
    """
    kept = {name: value for name in _CHECKSUMS if (value := headers.get(f"x-amz-checksum-{name}")) and "-" not in value}
    if kept and headers.get("x-amz-checksum-type") != "COMPOSITE":
        unlike = [name for name, value in kept.items() if base64.b64encode(_CHECKSUMS[name](body)).decode() != value]
        return f"the bytes that came do not have the checksum that S3 keeps ({', '.join(unlike)})" if unlike else ""
    return "" if _no_digest(etag, headers) else UNLIKE_ETAG


def _no_digest(etag: str, headers: Mapping[str, str]) -> bool:
    """Say whether an ETag is something else than the MD5 of the bytes: of an upload in parts, or of an encrypted
    object.
    """
    by_key = (
        headers.get("x-amz-server-side-encryption", "").startswith("aws:")
        or "x-amz-server-side-encryption-customer-algorithm" in headers
    )
    return "-" in etag or by_key
