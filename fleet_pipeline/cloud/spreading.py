"""Waiting for what AWS IoT carries out later than it answers: a thing or a policy is still on a certificate for some
seconds after it was detached.
"""

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from botocore.exceptions import ClientError

from fleet_pipeline.aws.clients import Aws, error_code
from fleet_pipeline.model.errors import AwsError

PAUSES_S = (1, 2, 4, 8, 15, 30)
"""Waits between tries, a minute in all.

"It might take several seconds for the detachment to propagate." Source: API_DetachThingPrincipal.
"""

LATER = {"CertificateStateException", "DeleteConflictException", "InvalidRequestException"}
"""What AWS IoT answers meanwhile: to DeleteCertificate one of the first two, to DeleteThing the last."""

T = TypeVar("T")
Sleep = Callable[[float], None]


def once_detached(call: Callable[[], T], sleep: Sleep = time.sleep) -> T:
    """Do what AWS IoT refuses until it has carried out what it was told before.

    Raises its last refusal after a minute.
    """
    return again(call, PAUSES_S, lambda error: isinstance(error, ClientError) and error_code(error) in LATER, sleep)


def delete_certificate(aws: Aws, certificate_id: str, sleep: Sleep = time.sleep) -> None:
    """Delete an inactive certificate, whatever policies it has, once AWS IoT has taken it from its things."""
    once_detached(lambda: aws.iot.delete_certificate(certificateId=certificate_id, forceDelete=True), sleep)


def again(call: Callable[[], T], pauses_s: Iterable[float], may_pass: Callable[[Exception], bool], sleep: Sleep) -> T:
    """Make a call once more after each pause, as long as what it raises may pass; a last time without asking that."""
    for pause_s in pauses_s:
        try:
            return call()
        except (AwsError, ClientError) as error:
            if not may_pass(error):
                raise
        sleep(pause_s)
    return call()
