"""What the encodings of messages cost: the same telemetry in each, compacted from memory.

    python benchmarks/encodings.py [--messages 100000] [--rounds 3]

Prints, for each encoding, the bytes of a message and the CPU seconds for 100,000 (the least of some rounds), all of a
compaction but the network: listing, decoding, typing, Parquet.
"""

import argparse
import gzip
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import cbor2
import msgspec
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass

from benchmarks.messages import HOUR, messages
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.model.rule import Rule
from fleet_pipeline.model.rule_table import RuleTable
from tests.helpers.dict_store import DictStore

KINDS = ("json", "gzip", "cbor", "msgpack", "protobuf")
_F = descriptor_pb2.FieldDescriptorProto
_TYPES = {str: _F.TYPE_STRING, int: _F.TYPE_INT64, float: _F.TYPE_DOUBLE, bool: _F.TYPE_BOOL}


def described(message):
    """Return descriptors of a message that has the fields of this one."""
    file = descriptor_pb2.FileDescriptorProto(name="bench.proto", package="bench", syntax="proto3")
    _describe(file.message_type.add(name="Telemetry"), ".bench.Telemetry", message)
    return descriptor_pb2.FileDescriptorSet(file=[file])


def _describe(made, name, message):
    for number, (key, value) in enumerate(message.items(), 1):
        field = made.field.add(name=key, number=number, label=_F.LABEL_OPTIONAL)
        if isinstance(value, dict):
            field.type, field.type_name = _F.TYPE_MESSAGE, f"{name}.{key.title()}"
            _describe(made.nested_type.add(name=key.title()), field.type_name, value)
        elif isinstance(value, list):
            field.type, field.label = _F.TYPE_STRING, _F.LABEL_REPEATED
        else:
            field.type = _TYPES[type(value)]


def packers(message, file):
    """Return what encodes a message, by encoding, once a file describes it for protobuf."""
    described_by = described(message)
    file.write_bytes(described_by.SerializeToString())
    pool = DescriptorPool()
    pool.Add(described_by.file[0])
    kind = GetMessageClass(pool.FindMessageTypeByName("bench.Telemetry"))
    return {
        "json": lambda said: json.dumps(said, separators=(",", ":")).encode(),
        "gzip": lambda said: gzip.compress(json.dumps(said, separators=(",", ":")).encode(), 6, mtime=0),
        "cbor": cbor2.dumps,
        "msgpack": msgspec.msgpack.encode,
        "protobuf": lambda said: ParseDict(said, kind()).SerializeToString(),
    }


def measured(count, rounds):
    """Yield each encoding, the bytes of a message, and the CPU seconds for 100,000."""
    said = [(key, json.loads(payload)) for key, payload in messages(count, dirty=False)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bench.desc"
        pack = packers(said[0][1], file)
        for kind in KINDS:
            by = {"protobuf_descriptor": str(file), "protobuf_message": "bench.Telemetry"} if kind == "protobuf" else {}
            table = RuleTable(key="rule1", encoding=kind, **by)
            raw = DictStore()
            for key, message in said:
                raw.put(key, pack[kind](message))
            size = sum(len(body) for held in raw.objects.values() for _, body in held)
            yield (
                kind,
                size / count,
                min(_seconds(raw, Rule("test-rule", "rule1", table), count) for _ in range(rounds)),
            )


def _seconds(raw, rule, count):
    started = time.process_time()
    done = compact_hour(raw, Lake(DictStore(), "lake"), rule, HOUR)
    spent = time.process_time() - started
    if done.statuses != {"ok": count}:
        raise AssertionError(done.statuses)
    return spent * 100_000 / count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    print("| encoding | bytes a message | CPU seconds for 100,000 |\n|---|---|---|")
    for kind, size, seconds in measured(chosen.messages, chosen.rounds):
        print(f"| {kind} | {size:.0f} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
