"""Hours that have passed, for a demo on this machine: messages as vehicles would have sent them, where the topic rules
would have written them.

Not for: an account of AWS, in which only the topic rules write raw objects.
"""

import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import islice
from random import Random

from fleet_pipeline.aws.clients import Aws, doing
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName, Rule
from fleet_pipeline.vehicle.telemetry import INTERVAL, journey

MESSAGES = 60
"""Of each rule in an hour.

In the last hour there are twice as many, and one of them is damaged: less than the share that draws a warning.
"""

DEPARTURE = timedelta(minutes=12)
"""After the full hour."""

DAMAGED = (b'{"speed_kmh": 48.', b"\xff\xfe\x00\x01", b"engine on")
"""What a damaged message says, one kind for each rule in turn: it ends too soon, it is no text, it is no JSON."""


def write_hours(fleet: Fleet, aws: Aws, serials: Sequence[str], hours: Sequence[Hour]) -> int:
    """Write the messages of these hours as raw objects, and return how many.

    An hour of a rule that has objects is left alone; so is a rule with SQL of its own, of which only AWS IoT knows what
    it writes.
    """
    written = 0
    for hour in hours:
        for place, rule in enumerate(fleet.made_rules):
            if not (rule.enabled and rule.keeps_payloads):
                continue
            if _has_objects(fleet, aws, rule, hour):
                continue
            for name, body in _messages(fleet, serials, hour, place, damaged=hour == hours[-1]):
                with doing(f"write a message of {hour.partition_key} in bucket {fleet.bucket}"):
                    aws.s3.put_object(Bucket=fleet.bucket, Key=rule.raw_key(name), Body=body)
                written += 1
    return written


def write_visit(fleet: Fleet, aws: Aws, serial: str, hour: Hour) -> None:
    """Write one message of a vehicle that came by once in an hour: always the same, to the first rule that keeps
    messages whole.
    """
    rule = next(each for each in fleet.made_rules if each.keeps_payloads)
    message = next(iter(journey(serial, hour.start_ms, hour.start + DEPARTURE)))
    key = rule.raw_key(_name(fleet, hour.end_ms - 30_000, message.message_id, serial))
    with doing(f"write a message of {hour.partition_key} in bucket {fleet.bucket}"):
        aws.s3.put_object(Bucket=fleet.bucket, Key=key, Body=message.payload)


def _has_objects(fleet: Fleet, aws: Aws, rule: Rule, hour: Hour) -> bool:
    bucket, first, end = fleet.bucket, f"{hour.start_ms - 1}.", str(hour.end_ms)
    with doing(f"list {rule.raw_prefix} in bucket {bucket}"):
        folders = aws.s3.list_objects_v2(Bucket=bucket, Prefix=rule.shards_prefix, Delimiter="/")
        for start in (rule.raw_prefix, *(each["Prefix"] for each in folders.get("CommonPrefixes", ()))):
            page = aws.s3.list_objects_v2(Bucket=bucket, Prefix=start, StartAfter=start + first, MaxKeys=1)
            if any(entry["Key"] < start + end for entry in page.get("Contents", ())):
                return True
    return False


def _messages(
    fleet: Fleet, serials: Sequence[str], hour: Hour, place: int, *, damaged: bool
) -> Iterator[tuple[RawName, bytes]]:
    """Yield the messages of one rule in one hour, vehicle by vehicle, each of which goes from rule to rule: always the
    same for the same hour.
    """
    each, rules = MESSAGES * (2 if damaged else 1) // len(serials), len(fleet.made_rules)
    if damaged:
        yield (
            _name(fleet, hour.end_ms - 60_000, f"damaged {place} {hour.partition_key}", serials[0]),
            DAMAGED[place % len(DAMAGED)],
        )
    start = hour.start + DEPARTURE
    turns = min(each * rules, (hour.end - start) // INTERVAL)  # one vehicle alone would drive into the next hour
    for number, serial in enumerate(serials):
        for turn, message in enumerate(islice(journey(serial, hour.start_ms, start), turns)):
            if (turn + number) % rules == place:
                millis = int((start + turn * INTERVAL).timestamp() * 1000) + 40 + 7 * number
                yield _name(fleet, millis, message.message_id, serial), message.payload


def _name(fleet: Fleet, millis: int, seed: str, serial: str) -> RawName:
    if fleet.raw_key_format == "timestamp":
        return RawName(millis)
    own = str(uuid.UUID(int=Random(seed).getrandbits(128), version=4))  # noqa: S311 (a simulation, not a secret)
    return RawName(millis, own, fleet.thing_name(serial) if fleet.raw_key_format == "timestamp-uuid-client" else None)
