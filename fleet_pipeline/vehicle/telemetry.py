"""What a vehicle says on its way: position, speed, battery, and now and then diagnostics.

Pure, and the same for the same seed.

Not for: how it is sent, which is `driving`'s business.
"""

import json
import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate, count, pairwise
from random import Random
from typing import Any

INTERVAL = timedelta(seconds=10)
"""Between two messages of a vehicle, on its own clock."""

_ROUTE = (
    (48.7758, 9.1829),
    (48.7904, 9.1996),
    (48.8048, 9.2203),
    (48.8317, 9.3164),
    (48.7396, 9.3108),
    (48.6891, 9.2027),
    (48.7108, 9.0002),
    (48.7300, 9.1157),
    (48.7758, 9.1829),
)
"""Latitude and longitude of the corners of a round trip: Stuttgart, Cannstatt, Waiblingen, Esslingen, the airport,
Sindelfingen and back.
"""

_EARTH_KM = 6371.0
_KWH_PER_KM = 0.18
_BATTERY_KWH = 60.0
_CHARGE_PERCENT = 1.5
"""Gained in one interval at a fast charger."""

_IN_FLEET_SINCE, _KM_PER_HOUR = datetime(2026, 1, 1, tzinfo=UTC), 5.0
"""What a vehicle runs on average, parked hours among them: 120 km a day, since it came to the fleet."""

_NO_TROUBLE = "P0000"
"""What a check says that finds nothing: so the field comes often enough to be a column from the first hour."""
_TROUBLE = ("P0A80", "P0AA6", "U0100", "C1201")


@dataclass(frozen=True, slots=True)
class Message:
    """A message's id and its JSON."""

    message_id: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class _State:
    odometer_km: float
    speed_kmh: float
    charge_percent: float
    charging: bool = False


def journey(serial: str, seed: int, start: datetime) -> Iterator[Message]:
    """Yield messages without end, the first recorded at `start`. Two vehicles, or two seeds, share no message id.

    Whatever the seed, a vehicle's odometer begins within a kilometre of what it shows at this time.
    """
    chance = Random(f"{seed} {serial}")  # noqa: S311 (a simulation, not a secret)
    state = _State(_odometer_km(serial, start) + chance.uniform(0, 1), 0.0, chance.uniform(40, 100))
    for sequence in count():
        message_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        recorded_at = (start + sequence * INTERVAL).isoformat(timespec="milliseconds")
        message = {
            "message_id": message_id,
            "serial": serial,
            "sequence": sequence,
            "recorded_at": recorded_at,
            **_fields(state, sequence, chance),
        }
        yield Message(message_id, json.dumps(message).encode())
        state = _after(state, chance)


def _odometer_km(serial: str, at: datetime) -> float:
    """Return what a vehicle's odometer shows: what it had run when it came to the fleet, and its kilometres since."""
    before: float = Random(serial).uniform(5_000, 40_000)  # noqa: S311 (a simulation, not a secret)
    return before + _KM_PER_HOUR * max(timedelta(0), at - _IN_FLEET_SINCE) / timedelta(hours=1)


def _fields(state: _State, sequence: int, chance: Random) -> dict[str, Any]:
    latitude, longitude, heading = _place(state.odometer_km)
    message: dict[str, Any] = {
        "position": {"latitude": round(latitude, 6), "longitude": round(longitude, 6), "heading": round(heading, 1)},
        "speed_kmh": round(state.speed_kmh, 1),
        "odometer_km": round(state.odometer_km, 3),
        "battery": {
            "charge_percent": round(state.charge_percent, 2),
            "charging": state.charging,
            "temperature_c": round(chance.gauss(27, 2), 1),
        },
    }
    if chance.random() < 0.8:  # noqa: PLR2004 (the sensor is silent every fifth time)
        message["outside_temperature_c"] = round(chance.gauss(11, 1), 1)
    if sequence % 6 == 0:
        message["diagnostics"] = _diagnostics(chance)
    return message


def _diagnostics(chance: Random) -> dict[str, Any]:
    codes = chance.sample(_TROUBLE, chance.randint(1, 2)) if chance.random() < 0.1 else [_NO_TROUBLE]  # noqa: PLR2004 (one check in ten finds something)
    return {"tyre_pressure_kpa": [round(chance.gauss(250, 5)) for _ in range(4)], "trouble_codes": codes}


def _after(state: _State, chance: Random) -> _State:
    """Return the state one interval later: driving on towards a changing speed, or charging from 10 to 80 percent."""
    if state.charge_percent < 10 or (state.charging and state.charge_percent < 80):  # noqa: PLR2004 (said above)
        return _State(state.odometer_km, 0.0, state.charge_percent + _CHARGE_PERCENT, charging=True)
    speed = min(130.0, max(0.0, state.speed_kmh + chance.gauss((70 - state.speed_kmh) / 5, 8)))
    km = (state.speed_kmh + speed) / 2 * (INTERVAL / timedelta(hours=1))
    return _State(state.odometer_km + km, speed, state.charge_percent - 100 * km * _KWH_PER_KM / _BATTERY_KWH)


def _place(odometer_km: float) -> tuple[float, float, float]:
    """Return latitude, longitude and heading after so many kilometres on the round trip."""
    km = odometer_km % _ENDS[-1]
    leg = next(index for index, end in enumerate(_ENDS) if km <= end)
    (a, b), (c, d) = _ROUTE[leg], _ROUTE[leg + 1]
    share = 1 - (_ENDS[leg] - km) / _distance_km(_ROUTE[leg], _ROUTE[leg + 1])
    heading = math.degrees(math.atan2((d - b) * math.cos(math.radians(a)), c - a)) % 360
    return a + (c - a) * share, b + (d - b) * share, heading


def _distance_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Return the distance of two points so near to each other that the earth is flat between them."""
    east = math.radians(b[1] - a[1]) * math.cos(math.radians((a[0] + b[0]) / 2))
    return _EARTH_KM * math.hypot(east, math.radians(b[0] - a[0]))


_ENDS = tuple(accumulate(_distance_km(a, b) for a, b in pairwise(_ROUTE)))
"""Kilometres at the end of each leg."""
