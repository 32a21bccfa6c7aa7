"""The functions' AWS clients: one of each service, impatient, and made while Lambda starts the process, which it gives
more CPU for than a request.
"""

from functools import cache
from typing import Any

import boto3
from botocore.config import Config

IMPATIENT = Config(connect_timeout=0.3, read_timeout=0.8, retries={"total_max_attempts": 1})
"""For one call. What bounds all calls together, and a server that drips, is the handler's deadline."""


@cache
def client(service: str) -> Any:
    """Return the one impatient client of a service."""
    session: Any = boto3  # the stubs overload by literal name
    return session.client(service, config=IMPATIENT)


def warm(settings: Any) -> None:
    """Make the clients that requests will need, if this is Lambda's process; elsewhere there may be no region yet."""
    if "AWS_LAMBDA_FUNCTION_NAME" not in settings:
        return
    for service in ("iot", "s3", *(["dynamodb"] if settings.get("ALLOW_LIST", "").startswith("dynamodb:") else [])):
        client(service)
