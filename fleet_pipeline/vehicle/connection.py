"""One MQTT connection over mTLS, as the AWS IoT SDK makes it.

MQTT 5 rather than 3.1.1: a broker that says no then says why, in CONNACK, PUBACK and DISCONNECT, where 3.1.1 just hangs
up.

A connection that is lost stays lost. The SDK would connect again by itself and publish anew what was not acknowledged,
and a message that had arrived before would then lie in S3 twice; two vehicles of one client id would also push each
other out for ever.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from awscrt import mqtt5
from awscrt.exceptions import AwsCrtError
from awsiot import mqtt5_client_builder

from fleet_pipeline.model.errors import ConnectionFailed, PublishRefused
from fleet_pipeline.vehicle.identity import Identity

PATIENCE_S = 30
"""For each answer of the broker.

The slowest is RegisterThing's, as the hook may take 5 s; the rest is for a bad network.
"""

_REFUSED = 0x80
"""MQTT 5's reason codes from here on mean no."""

_TOO_LONG = "AWS_ERROR_MQTT5_PACKET_VALIDATION"
"""What the SDK says of a packet beyond the size that the broker named in CONNACK; AWS IoT takes 128 KB."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Broker:
    """Where vehicles connect.

    Without `ca_path` the server's certificate is checked against the system's authorities.
    """

    host: str
    port: int
    ca_path: Path | None = None

    @property
    def endpoint(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"


@contextmanager
def connected(broker: Broker, identity: Identity, client_id: str) -> Iterator["Connection"]:
    """Connect, and disconnect afterwards. Raises ConnectionFailed when the broker does not let this client in."""
    connection = Connection(broker, identity, client_id)
    try:
        connection.open()
        yield connection
    finally:
        connection.close()


class Connection:
    """A client of one identity. Made by `connected`."""

    def __init__(self, broker: Broker, identity: Identity, client_id: str) -> None:
        self.client_id = client_id
        self.failed = partial(ConnectionFailed, client_id, broker.endpoint)
        self._life = _Life()
        try:
            self.client = _client(broker, identity, client_id, self._life)
        except RuntimeError as error:  # the SDK's word for PEM that it cannot read
            raise self.failed(f"its certificate, its key or the broker's authority cannot be used: {error}") from error

    def open(self) -> None:
        """Return when the broker has let the client in."""
        self.client.start()
        self.answer(self._life.opened)

    def close(self) -> None:
        """Say goodbye. What was acknowledged is safe whether or not the goodbye arrives."""
        self.client.stop(mqtt5.DisconnectPacket())
        wait([self._life.stopped], PATIENCE_S)

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish with QoS 1 and return when the broker has acknowledged it.

        Raises PublishRefused or ConnectionFailed.
        """
        self.send(topic, payload)()

    def send(self, topic: str, payload: bytes) -> Callable[[], None]:
        """Publish with QoS 1 and return at once what waits for the acknowledgement, as `publish` does."""
        packet = mqtt5.PublishPacket(topic=topic, payload=payload, qos=mqtt5.QoS.AT_LEAST_ONCE)
        try:
            return partial(self._acknowledged, topic, self.client.publish(packet))
        except RuntimeError as error:  # the SDK's word for a topic that MQTT does not know
            raise PublishRefused(self.client_id, topic, str(error)) from error

    def answer(self, future: "Future[T]") -> T:
        """Return what the SDK promised, or raise what it raises.

        Raises ConnectionFailed if the connection is lost first or the wait is long.
        """
        promises: list[Future[Any]] = [future, self._life.lost]
        done, _ = wait(promises, PATIENCE_S, FIRST_COMPLETED)
        if future in done:
            return future.result()
        raise self.failed(self._life.lost.result() if done else f"no answer within {PATIENCE_S} s")

    def _acknowledged(self, topic: str, future: "Future[mqtt5.PublishCompletionData]") -> None:
        try:
            code = self.answer(future).puback.reason_code
        except AwsCrtError as error:
            if error.name == _TOO_LONG:
                raise PublishRefused(self.client_id, topic, "it is longer than the broker takes") from error
            raise self.failed(_words(error)) from error
        if code >= _REFUSED:
            raise PublishRefused(self.client_id, topic, f"the broker says {code.name}")


@dataclass(frozen=True, slots=True)
class _Life:
    """What the SDK tells from its own threads. It does not know the client, which could otherwise never be freed."""

    opened: "Future[None]" = field(default_factory=Future)
    lost: "Future[str]" = field(default_factory=Future)
    stopped: "Future[None]" = field(default_factory=Future)

    def on_success(self, _: mqtt5.LifecycleConnectSuccessData) -> None:
        if not self.opened.done():
            self.opened.set_result(None)

    def on_failure(self, failure: mqtt5.LifecycleConnectFailureData) -> None:
        self._lose(_why(failure.connack_packet, failure.exception))

    def on_disconnection(self, disconnection: mqtt5.LifecycleDisconnectData) -> None:
        self._lose(_why(disconnection.disconnect_packet, disconnection.exception))

    def on_stopped(self, _: mqtt5.LifecycleStoppedData) -> None:
        self.stopped.set_result(None)

    def _lose(self, why: str) -> None:
        if not self.lost.done():
            self.lost.set_result(why)


def _client(broker: Broker, identity: Identity, client_id: str, life: _Life) -> Any:
    return mqtt5_client_builder.mtls_from_bytes(
        identity.certificate_pem.encode(),
        identity.private_key.encode(),
        endpoint=broker.host,
        port=broker.port,
        ca_filepath=str(broker.ca_path) if broker.ca_path else None,
        client_id=client_id,
        session_behavior=mqtt5.ClientSessionBehaviorType.CLEAN,
        offline_queue_behavior=mqtt5.ClientOperationQueueBehaviorType.FAIL_ALL_ON_DISCONNECT,
        ack_timeout_sec=PATIENCE_S,
        connack_timeout_ms=PATIENCE_S * 1000,
        on_lifecycle_connection_success=life.on_success,
        on_lifecycle_connection_failure=life.on_failure,
        on_lifecycle_disconnection=life.on_disconnection,
        on_lifecycle_stopped=life.on_stopped,
    )


def _why(packet: Any, error: AwsCrtError) -> str:
    """Return the broker's own reason where it gave one, and the SDK's otherwise."""
    if packet is None:
        return _words(error)
    return f"the broker says {packet.reason_code.name}" + (f": {packet.reason_string}" if packet.reason_string else "")


def _words(error: AwsCrtError) -> str:
    return f"{error.message} ({error.name})"
