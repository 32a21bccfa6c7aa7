"""Vehicles that drive and publish: each its messages, to all rules in turn, by Basic Ingest."""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fleet_pipeline.model.errors import InvalidSetting, NotRegistered
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.rule import Rule
from fleet_pipeline.vehicle.connection import Broker, Connection, connected
from fleet_pipeline.vehicle.identity import Identity, VehicleFolder
from fleet_pipeline.vehicle.telemetry import INTERVAL, Message, journey

CONVOY = 25
"""Vehicles connected at once. The others wait, so that a fleet of thousands needs no thousands of sockets."""


@dataclass(frozen=True, slots=True)
class Driven:
    """The ids of the messages that AWS IoT acknowledged, by rule key. Every rule has an entry."""

    acknowledged: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class _Vehicle:
    thing: str
    connection: Connection
    messages: Iterator[Message]


def made_up_serials(fleet: Fleet, vehicles: int) -> list[str]:
    """Return so many serials of the form that the hook takes, always the same ones: 297468000001 and so on."""
    return [fleet.made_up_serial(number) for number in range(1, vehicles + 1)]


def drive(  # noqa: PLR0913 (all that it works on comes in by the front door)
    fleet: Fleet,
    broker: Broker,
    home: Path,
    serials: Sequence[str],
    messages: int,
    *,
    on_acknowledged: Callable[[int], None] = lambda _: None,
) -> Driven:
    """Let each of these registered vehicles publish so many messages, and return the ids of all of them, every one
    acknowledged.

    The vehicles take turns: each publishes one message, all are acknowledged, then the next. Turn by turn a vehicle
    goes to the next
    rule, so that all rules get alike: all that run and to which vehicles publish. `on_acknowledged` hears 1 for each
    message.

    Raises:
        InvalidSetting: vehicles publish to no rule.
        NotRegistered: a vehicle has no certificate of its own; nothing was sent.
        ConnectionFailed, PublishRefused: what was acknowledged until then is in AWS IoT's hands, and not returned.
    """
    identities = {serial: _identity(fleet, home, serial) for serial in serials}
    rules = [rule for rule in fleet.made_rules if rule.publish and rule.enabled]
    if not rules:
        raise InvalidSetting("FLEET_RULE_KEYS", None, "vehicles publish to no rule of this fleet")
    seed = secrets.randbits(64)  # another journey, and other message ids, each time
    start = datetime.now(UTC) - messages * INTERVAL
    acknowledged: dict[str, list[str]] = {rule.key: [] for rule in fleet.made_rules}
    for convoy in _convoys(list(identities)):
        with ExitStack() as stack:
            connections = [
                stack.enter_context(connected(broker, identities[serial], fleet.thing_name(serial)))
                for serial in convoy
            ]
            vehicles = [
                _Vehicle(fleet.thing_name(serial), connection, journey(serial, seed, start))
                for connection, serial in zip(connections, convoy, strict=True)
            ]
            for turn in range(messages):
                for rule, message_id in _turn(vehicles, rules, turn):
                    acknowledged[rule.key].append(message_id)
                    on_acknowledged(1)
    return Driven(acknowledged)


def _identity(fleet: Fleet, home: Path, serial: str) -> Identity:
    folder = VehicleFolder.of(home, fleet.thing_name(serial))
    identity = folder.read()
    if identity is None:
        raise NotRegistered(serial, str(folder.path))
    return identity


def _convoys(serials: Sequence[str]) -> Iterator[Sequence[str]]:
    return (serials[first : first + CONVOY] for first in range(0, len(serials), CONVOY))


def _turn(vehicles: Sequence[_Vehicle], rules: Sequence[Rule], turn: int) -> Iterator[tuple[Rule, str]]:
    """Publish one message of each vehicle, and yield each when it is acknowledged."""
    sent = []
    for place, vehicle in enumerate(vehicles):
        rule, message = rules[(place + turn) % len(rules)], next(vehicle.messages)
        topics = rule.published_by(vehicle.thing)
        topic = topics[turn // len(rules) % len(topics)]
        sent.append((rule, message.message_id, vehicle.connection.send(topic, message.payload)))
    for rule, message_id, await_acknowledgement in sent:
        await_acknowledgement()
        yield rule, message_id
