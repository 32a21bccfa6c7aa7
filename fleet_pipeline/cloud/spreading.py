"""Waiting for what AWS IoT carries out later than it answers: a thing or a policy is still on a certificate for some seconds after it was detached."""

import time
from collections.abc import Callable
from typing import TypeVar

from botocore.exceptions import ClientError

from fleet_pipeline.aws.clients import error_code

PAUSES_S = (1, 2, 4, 8, 15, 30)
"""Waits between tries, a minute in all. "It might take several seconds for the detachment to propagate." Source: API_DetachThingPrincipal."""

LATER = {"CertificateStateException", "DeleteConflictException", "InvalidRequestException"}
"""What AWS IoT answers meanwhile: to DeleteCertificate one of the first two, to DeleteThing the last."""

T = TypeVar("T")
Sleep = Callable[[float], None]


def once_detached(deed: Callable[[], T], sleep: Sleep = time.sleep) -> T:
    """Do what AWS IoT refuses until it has carried out what it was told before. Raises its last refusal after a minute."""
    for pause_s in PAUSES_S:
        try:
            return deed()
        except ClientError as error:
            if error_code(error) not in LATER:
                raise
        sleep(pause_s)
    return deed()
