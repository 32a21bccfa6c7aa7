"""Buckets as other services write them, made from their documentation alone, each with what is to be read of it.

Keys: Amazon Data Firehose Developer Guide (s3-object-name, dynamic partitioning), AWS IoT Analytics API
(ChannelMessages), AWS IoT FleetWise API (S3Config). Nothing of the product stands in here.
"""

import gzip
import json
import random
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

HOURS = [datetime(2026, 11, 23, hour, tzinfo=UTC) for hour in (8, 9)]
COPIED = datetime(2026, 11, 30, 7, 45, tzinfo=UTC)
"""When all of it was copied to where it lies."""

PARQUET = b"PAR1\x15\x04\n\x15\n\n" + bytes(range(256)) + b"PAR1"


@dataclass
class Kind:
    """A way in which a bucket is written."""

    prefix: str
    """Where its objects lie."""
    key: object
    """Of an instant, a number and a device."""
    pack: object = bytes
    lines: bool = True
    """Whether an object has many messages."""
    by_day: bool = False
    """Whether keys say the day alone: what was copied later is of its last hour."""
    device: bool = False
    is_parquet: bool = False
    parquet_beside: bool = False
    whole_folder: bool = False
    """Whether all that lies in an hour's folder is read, as the service gives it no name of a form."""


def packed(body):
    return gzip.compress(body, 1, mtime=0)


def _firehose(at, number, version=1):
    return f"tele-{version}-{at:%Y-%m-%d-%H-%M-%S}-{_uuid(number)}"


def _uuid(number):
    return str(uuid.UUID(int=number + (4 << 76) + (8 << 60)))


def _millis(at):
    return int(at.timestamp() * 1000)


def _analytics(kind, name):
    def key(at, number, _):
        day, first = f"__dt={at:%Y-%m-%d} 00:00:00", _millis(at)
        return f"{kind}/{name}/{day}/{first}_{first + 30_000}_123456789012_{name}_0_{2118 + number}.0.json.gz"

    return Kind(f"{kind}/{name}", key, packed)


def _fleetwise(root, ending, **said):
    def key(at, number, _):
        hour = f"year={at:%Y}/month={at:%m}/date={at:%d}/hour={at:%H}"
        return f"{root}processed-data/{hour}/part-{number:05d}-{_uuid(number)}-c000.{ending}"

    pack = packed if ending.endswith("gz") else bytes
    return Kind(root.rstrip("/"), key, pack, whole_folder=True, **said)


KINDS = {
    "Firehose, plain": Kind("", lambda at, n, _: f"{at:%Y/%m/%d/%H}/{_firehose(at, n)}", whole_folder=True),
    "Firehose, prefix, gzip": Kind(
        "telemetry",
        lambda at, n, _: f"telemetry/{at:%Y/%m/%d/%H}/{_firehose(at, n, 1 + n % 2)}.gz",
        packed,
        whole_folder=True,
    ),
    "Firehose, hive by device": Kind(
        "data",
        lambda at, n, device: (
            f"data/device={device}/year={at:%Y}/month={at:%m}/day={at:%d}/hour={at:%H}/{_firehose(at, n)}.gz"
        ),
        packed,
        device=True,
    ),
    "Firehose, hive by day and hour": Kind(
        "events", lambda at, n, _: f"events/dt={at:%Y-%m-%d}/hh={at:%H}/{_firehose(at, n)}.gz", packed
    ),
    "IoT Analytics, channel": _analytics("channel", "mychannel"),
    "IoT Analytics, datastore": _analytics("datastore", "mystore"),
    "FleetWise, JSON": _fleetwise("vehicles/", "json.gz"),
    "FleetWise, one Parquet": _fleetwise("", "json", parquet_beside=True),
    "FleetWise, Parquet": _fleetwise("campaign/", "parquet", is_parquet=True),
    "by device": Kind(
        "raw",
        lambda at, n, device: f"raw/{device}/{at:%Y/%m/%d}/{_uuid(n)}.json",
        lines=False,
        by_day=True,
        device=True,
    ),
    "by device, gzip": Kind(
        "raw",
        lambda at, n, device: f"raw/{device}/{at:%Y/%m/%d}/{_uuid(n)}.json.gz",
        packed,
        lines=False,
        by_day=True,
        device=True,
    ),
    "CDK, .json": Kind(
        "test-rule/rule1", lambda at, n, _: f"test-rule/rule1/{_millis(at)}-{_uuid(n)}.json", lines=False
    ),
    "CDK": Kind("test-rule/rule1", lambda at, n, _: f"test-rule/rule1/{_millis(at)}-{_uuid(n)}", lines=False),
}


@dataclass
class Made:
    """A bucket's objects, in the order in which they were written, and what they say."""

    kind: Kind
    objects: list = field(default_factory=list)
    """Key and bytes."""
    messages: list = field(default_factory=list)
    """Of each message: its hour, bytes, and device, None where the key says none."""
    unread: int = 0
    """Objects, or rests of them, that cannot be read."""
    foreign: set = field(default_factory=set)
    """Keys that are no message's, and in no folder of which all is read."""
    count: int = 0

    def key(self, at, device):
        """A key that no other object has."""
        self.count += 1
        return self.kind.key(at, self.count, device)

    def put(self, key, texts, of, *, between=b"\n", ending=b"\n", cut=None):
        """Write an object with some messages of an hour and a device; or the beginning of it, with all of them."""
        hour, device = of
        if self.kind.is_parquet:
            self.objects.append((key, PARQUET))
            return
        body = self.kind.pack(between.join(texts) + (ending if self.kind.lines else b""))
        self.objects.append((key, body[:cut]))
        at = hour.replace(hour=23) if self.kind.by_day else hour
        self.messages += [(at, text, device if self.kind.device else None) for text in texts]


def made(name, *, dirty, objects=10, each=6):
    """A bucket of a kind: of each hour so many objects, of so many messages where they have many."""
    found, draw, number = Made(KINDS[name]), random.Random(5), iter(range(10**9))
    for hour in HOURS:
        for place in range(objects):
            at, device = hour + timedelta(seconds=3599 * place // (objects - 1)), f"veh{place % 3:02d}"
            texts = [_message(next(number), draw) for _ in range(each if found.kind.lines else 1)]
            found.put(found.key(at, device), texts, (hour, device))
        at += timedelta(milliseconds=999)
        if dirty and found.kind.lines:
            _odd_lines(found, at, (hour, device))
        elif dirty:
            _odd_messages(found, at, (hour, device))
    if dirty:
        _others(found)
    return found


def _message(number, draw):
    said = {"n": number, "speed": draw.random() * 100, "text": draw.choice(["", "ä", "\\", '"', "{[", "0" * 50])}
    return json.dumps(said, ensure_ascii=draw.random() < 0.5).encode()


def _odd_messages(found, at, of):
    """Write what is unusual in a bucket of a message an object."""
    texts = [b"no json", b'{"n": NaN}', b"[1, 2]", b'{"n": 1, "n": 2}', b'{"n": 1e400}']
    for text in (*texts, *([b'{"n": 7}\n{"n": 8}'] if found.kind.pack is bytes else [])):
        found.put(found.key(at, of[1]), [text], of)
    twice = found.key(at, of[1])
    for text in (b'{"n": 1}', b'{"n": 2}'):
        found.put(twice, [text], of)


def _odd_lines(found, at, of):
    """Write what is unusual in a bucket of lines."""
    for texts, said in (
        ([b'{"n": 1}\r', b"no json\r", b"[1, 2]\r"], {}),
        ([b'{"n": 1}', b'{"n": 2}', b'{"n": 3}'], {"between": b"", "ending": b""}),
        ([json.dumps({"n": n, "m": [n]}, indent=2).encode() for n in range(3)], {}),
        ([b'{"n": 1}', b'{"n": 1,', b'{"n": 18446744073709551616}'], {"between": b"\n\n"}),
    ):
        found.put(found.key(at, of[1]), texts, of, **said)
    found.objects.append((found.key(at, of[1]), b""))
    if found.kind.parquet_beside:
        found.objects.append((found.key(at, of[1]).replace(".json", ".parquet"), PARQUET))
        found.unread += 1
    if found.kind.pack is packed:
        found.put(found.key(at, of[1]), [b'{"n": %d}' % n for n in range(9)], of, cut=-4)
        found.unread += 1


def _others(found):
    """Write keys of others, at the top, at the prefix and among the messages."""
    folder, prefix = found.objects[0][0].rpartition("/")[0], found.kind.prefix
    for place, key in enumerate(("readme.txt", f"{prefix}/x.csv".lstrip("/"), f"{folder}/manifest.json")):
        body = b'{"of": "nobody", "n": %d}' % place
        found.objects.append((key, body))
        if found.kind.whole_folder and key.startswith(folder):
            found.messages.append((HOURS[0], body, None))
        else:
            found.foreign.add(key)
