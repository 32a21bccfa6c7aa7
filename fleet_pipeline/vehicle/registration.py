"""How a vehicle gets a certificate of its own: fleet provisioning by claim.

With the claim certificate it asks for keys and a certificate, or for a certificate of a key that it has made and that
never leaves it, and has it registered for its serial; from then on it connects as its own thing. Its client id is its
thing's name, as the device policy demands.

Sources: AWS IoT Core Developer Guide, provision-wo-cert and fleet-provision-api.
"""

import uuid
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from awscrt.mqtt_request_response import ClientOptions
from awsiot import V2ServiceException
from awsiot.iotidentity import (
    CreateCertificateFromCsrRequest,
    CreateKeysAndCertificateRequest,
    IotIdentityClientV2,
    RegisterThingRequest,
)

from fleet_pipeline.model.errors import ConnectionFailed, RegistrationRefused
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.thing import SERIAL
from fleet_pipeline.vehicle.connection import PATIENCE_S, Broker, Connection, connected
from fleet_pipeline.vehicle.identity import Identity, VehicleFolder
from fleet_pipeline.vehicle.requesting import new_key, request_for

_OPTIONS = ClientOptions(
    max_request_response_subscriptions=4, max_streaming_subscriptions=1, operation_timeout_in_seconds=PATIENCE_S
)
"""Four subscriptions: `accepted` and `rejected` of two operations.

The SDK wants at least one for streams, which are not used.
"""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Registered:
    """A vehicle that has connected with a certificate of its own."""

    serial: str
    thing_name: str
    certificate_id: str
    folder: Path
    anew: bool = field(default=True, compare=False)
    """Whether it was registered now; otherwise it had its certificate already, and nothing was sent."""


def register(  # noqa: PLR0913 (all that it works on comes in by the front door)
    fleet: Fleet,
    broker: Broker,
    claim: Identity,
    serial: str,
    home: Path,
    *,
    own_key: bool = False,
    parameters: Mapping[str, str] | None = None,
) -> Registered:
    """Register a vehicle with a key that it makes itself or one of AWS IoT's; keep its identity in its folder below
    `home`, and reconnect with it.

    `parameters` are what it says of itself beside its serial.

    A vehicle that can connect with what it has kept is not registered again; so an answer of AWS IoT that was lost on
    its way is made good by the next call. A refusal leaves no file; the certificate that was asked for never becomes
    active, and AWS IoT deletes it within the hour.

    Raises:
        InvalidName: the serial cannot be part of a thing's name; nothing was sent.
        RegistrationRefused: AWS IoT said no.
        ConnectionFailed: the broker could not be reached, or let neither certificate in.
    """
    thing_name = fleet.thing_name(serial)
    folder = VehicleFolder.of(home, thing_name)
    said = {SERIAL: serial, **(parameters or {})}
    had = str(folder.path) if folder.read() else ""
    kept = _kept(broker, folder, thing_name)
    try:
        identity = kept or _provisioned(fleet, broker, claim, said, folder, own_key=own_key)
    except RegistrationRefused as error:
        raise RegistrationRefused(serial, error.status_code, error.error_code, error.message, had) from error
    return Registered(serial, thing_name, identity.certificate_id, folder.path, anew=kept is None)


def _kept(broker: Broker, folder: VehicleFolder, thing_name: str) -> Identity | None:
    """Return the identity that the vehicle has already, if the broker lets it in."""
    for place in (folder, folder.unconfirmed):
        identity = place.read()
        if identity and _is_let_in(broker, identity, thing_name):
            place.move_to(folder)
            return identity
    return None


def _is_let_in(broker: Broker, identity: Identity, thing_name: str) -> bool:
    try:
        with connected(broker, identity, thing_name):
            return True
    except ConnectionFailed:
        return False


def _provisioned(  # noqa: PLR0913 (as above)
    fleet: Fleet, broker: Broker, claim: Identity, said: Mapping[str, str], folder: VehicleFolder, *, own_key: bool
) -> Identity:
    # A client id that nobody else has: many vehicles use the claim certificate at once, and of two clients with one id
    # the broker keeps one.
    with connected(broker, claim, fleet.claim_client_prefix + uuid.uuid4().hex) as connection:
        identity = _accepted(fleet, connection, said, folder, own_key=own_key)
    with connected(broker, identity, fleet.thing_name(said[SERIAL])):
        return identity


def _accepted(
    fleet: Fleet, connection: Connection, said: Mapping[str, str], folder: VehicleFolder, *, own_key: bool = False
) -> Identity:
    """Return a new identity, kept before AWS IoT is asked to accept it: the thing can be registered once, even if its
    answer is lost.
    """
    aws_iot, serial = IotIdentityClientV2(connection.client, _OPTIONS), said[SERIAL]
    identity, token = (_certified if own_key else _given)(aws_iot, connection, serial, fleet.thing_name(serial))
    folder.unconfirmed.write(identity)
    wanted = RegisterThingRequest(
        template_name=fleet.template_name, certificate_ownership_token=token, parameters=dict(said)
    )
    try:
        _answer(connection, serial, aws_iot.register_thing(wanted))
    except RegistrationRefused:
        folder.unconfirmed.delete()
        raise
    folder.unconfirmed.move_to(folder)
    return identity


def _given(aws_iot: Any, connection: Connection, serial: str, _thing_name: str) -> tuple[Identity, str]:
    """Return a certificate with a key that AWS IoT has made, and the token with which it may be registered."""
    made = _answer(connection, serial, aws_iot.create_keys_and_certificate(CreateKeysAndCertificateRequest()))
    return Identity(made.certificate_pem, made.private_key), made.certificate_ownership_token


def _certified(aws_iot: Any, connection: Connection, serial: str, thing_name: str) -> tuple[Identity, str]:
    """Return a certificate of a key that is made here, and the token with which it may be registered."""
    key, pem = new_key()
    request = CreateCertificateFromCsrRequest(certificate_signing_request=request_for(key, thing_name))
    made = _answer(connection, serial, aws_iot.create_certificate_from_csr(request))
    return Identity(made.certificate_pem, pem), made.certificate_ownership_token


def _answer(connection: Connection, serial: str, future: "Future[T]") -> T:
    try:
        return connection.answer(future)
    except V2ServiceException as error:
        no = error.modeled_error
        if no is None:
            raise connection.failed(f"{error.message}: {error.inner_error}") from error
        raise RegistrationRefused(serial, no.status_code, no.error_code, no.error_message) from error
