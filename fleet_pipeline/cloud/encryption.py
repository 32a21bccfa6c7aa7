"""The key of AWS KMS that encrypts what a fleet keeps: whether it can, and whether what was found is it.

The key itself is somebody else's.
"""

from typing import Any

from fleet_pipeline.aws.clients import Aws, absent, doing
from fleet_pipeline.model.errors import InvalidSetting

ALGORITHM = "aws:kms"
"""S3's word for encryption by a key of KMS."""


def usable(aws: Aws, key: str) -> str:
    """Return the ARN of the key that an ARN names, its own or an alias's.

    Raises InvalidSetting for a key that cannot encrypt, so that nothing is given it.
    """
    with doing("describe the key of FLEET_KMS_KEY"):
        found: Any = aws.kms.describe_key(KeyId=key)["KeyMetadata"]
    if found["KeyState"] != "Enabled":
        raise InvalidSetting(
            "FLEET_KMS_KEY",
            key,
            f"the key's state is {found['KeyState']}: messages encrypted with it could not be written, nor read again",
        )
    if found.get("KeySpec", "SYMMETRIC_DEFAULT") != "SYMMETRIC_DEFAULT":
        raise InvalidSetting(
            "FLEET_KMS_KEY", key, f"S3, DynamoDB and the others take symmetric keys, and this is {found['KeySpec']}"
        )
    return str(found["Arn"])


def compared(aws: Aws, wanted: str, found: str) -> str:
    """Return the wanted key's name if what was found is that key by any of its names, and otherwise what was found."""
    if found in {"", wanted}:
        return found
    return wanted if _key(aws, _arn(wanted, found)) == _key(aws, wanted) else found


def _arn(wanted: str, found: str) -> str:
    """Return a key's or an alias's ARN: services may keep the bare name that they were given."""
    before = wanted.rsplit(":", 1)[0]
    return found if found.startswith("arn:") else f"{before}:{found if found.startswith('alias/') else f'key/{found}'}"


def _key(aws: Aws, arn: str) -> str:
    if ":alias/" in arn:
        with absent(
            "NotFoundException", "AccessDeniedException"
        ):  # rights are those to the wanted key: this alias is another's
            return str(aws.kms.describe_key(KeyId=arn)["KeyMetadata"]["Arn"])
    return arn
