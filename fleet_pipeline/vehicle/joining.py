"""How a vehicle with a certificate of the user's own CA comes in: it just connects, and AWS IoT lets it in once it
knows it.

The first connection is closed without an answer, as AWS IoT has only then seen the certificate. So the vehicle tries
again.
"""

import time
from collections.abc import Callable
from pathlib import Path

from fleet_pipeline.model.errors import ConnectionFailed
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.vehicle.authority import Authority
from fleet_pipeline.vehicle.connection import Broker, connected
from fleet_pipeline.vehicle.identity import VehicleFolder
from fleet_pipeline.vehicle.registration import Registered

PAUSES_S = (0.5, 1, 2, 4, 8, 15)
"""Waits between tries: AWS IoT tells the function within seconds, and a policy takes a moment to spread."""


def join(  # noqa: PLR0913 (all that it works on comes in by the front door)
    fleet: Fleet,
    broker: Broker,
    authority: Authority,
    serial: str,
    home: Path,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Registered:
    """Give a vehicle a certificate of the authority, unless it has one, and return when AWS IoT lets it in with it.

    Raises ConnectionFailed when it does not within half a minute: the function's log, or the template, says why.
    """
    folder = VehicleFolder.of(home, fleet.thing_name(serial))
    identity = folder.read()
    if identity is None:
        identity = authority.issue(serial)
        folder.write(identity)
    for pause_s in PAUSES_S:
        try:
            with connected(broker, identity, fleet.thing_name(serial)):
                break
        except ConnectionFailed:
            sleep(pause_s)
    else:
        with connected(broker, identity, fleet.thing_name(serial)):
            pass
    return Registered(serial, fleet.thing_name(serial), identity.certificate_id, folder.path)
