"""The data of the race: telemetry of about 300 bytes an object, the same in every run."""

import json
import random
import uuid
from collections.abc import Iterator

from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName, Rule

SEED = 20261123
RULE = Rule("test-rule", "rule1")
HOUR = Hour.parse("2026-11-23-10:00")
BUCKET = "bench"
LAKE = "bench-lake"

FIELDS = {"ts": int, "serial": str, "sequence": int, "speed": float, "heading": float, "odometer": float}


def messages(count: int, *, dirty: bool, hours: int = 1, kind: str = "telemetry") -> Iterator[tuple[str, bytes]]:
    """Yield keys and payloads, spread over the hours, in the order of time.

    Dirty: one in a thousand is not what the others are.
    """
    chance = random.Random(SEED)
    for number in range(count):
        millis = HOUR.start_ms + number * hours * 3_600_000 // count
        key = RULE.raw_key(RawName(millis, str(uuid.UUID(int=chance.getrandbits(128), version=4))))
        message = _telemetry(chance, number, millis) | KINDS[kind](chance)
        payload = json.dumps(message, separators=(",", ":")).encode()
        yield key, _spoilt(chance, payload) if dirty and chance.random() < 0.001 else payload


def older(count: int) -> Iterator[tuple[str, bytes]]:
    """Yield what the prefix has gathered before the hour: a message every 36 ms, up to its beginning."""
    for number in range(count):
        yield RULE.raw_key(RawName(HOUR.start_ms - 1 - 36 * number, "00000000-0000-4000-8000-000000000000")), b"{}"


def _telemetry(chance: random.Random, number: int, millis: int) -> dict:
    return {
        "serial": f"297468{chance.randrange(36**6):08d}",
        "sequence": number,
        "ts": millis - chance.randrange(500),
        "position": {
            "lat": round(chance.uniform(47.0, 55.0), 6),
            "lon": round(chance.uniform(6.0, 15.0), 6),
            "alt": round(chance.uniform(0, 900), 1),
        },
        "speed": round(chance.uniform(0, 140), 1),
        "heading": round(chance.uniform(0, 360), 1),
        "odometer": round(chance.uniform(0, 300_000), 1),
        "battery": {
            "soc": round(chance.uniform(5, 100), 1),
            "voltage": round(chance.uniform(350, 420), 2),
            "charging": chance.random() < 0.1,
        },
        "diagnostics": {"codes": [], "engine_temp": chance.randrange(60, 110), "status": "ok"},
    }


def _spoilt(chance: random.Random, payload: bytes) -> bytes:
    message = json.loads(payload)
    return chance.choice(
        [
            payload[: len(payload) // 2],
            json.dumps(message | {"speed": "fast"}).encode(),
            json.dumps(message | {"firmware": "2.1.0"}).encode(),
            json.dumps({"serial": message["serial"], "sequence": message["sequence"]}).encode(),
            json.dumps([message, message]).encode(),
            json.dumps(message | {"position": 7}).encode(),
        ]
    )


def _deep(chance: random.Random) -> dict:
    """Return an object in an object, 30 times."""
    return json.loads('{"next":' * 30 + str(chance.random()) + "}" * 30)


def _bush(chance: random.Random) -> dict:
    """Return five objects in each object, four levels down, 625 numbers: some 8 KB."""

    def grown(level: int) -> dict | float:
        return {f"branch{number}": grown(level - 1) for number in range(5)} if level else round(chance.random(), 3)

    return {"bush": grown(4)}


KINDS = {
    "telemetry": lambda _: {},
    "3 KB with 100 fields": lambda chance: {
        f"a_measured_value_{number:03}": round(chance.random(), 6) for number in range(100)
    },
    "20 KB": lambda chance: {"trace": [round(chance.random(), 6) for _ in range(2200)]},
    "128 KB": lambda chance: {"log": chance.randbytes(62_000).hex()},
    "deep": _deep,
    "bushes": _bush,
    "arrays of {}": lambda _: {"empty": [{}] * 40_000},
    "1,000 columns": lambda chance: {f"f{number}": chance.random() for number in range(980)},
}
"""What a message of each kind has beside the telemetry."""
