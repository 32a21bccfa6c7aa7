"""Batch objects as Amazon Data Firehose writes them, made by hand."""

import base64
import gzip
import json
from uuid import UUID

from fleet_pipeline.model.rule import BatchName


def uuid(number):
    return str(UUID(int=(number << 64) | 0x4000_8000_0000_0000_0000, version=4))


def record(millis, payload, *, number, client="test-thing-1", topic="test-rule/rule1"):
    """A record of a batch, as the rule's SQL writes it."""
    said = {"p": base64.b64encode(payload).decode(), "t": millis, "k": topic, "c": client, "u": uuid(number)}
    return json.dumps(said, separators=(",", ":")).encode()


def batch_key(rule, millis, number=0, stream="cdk-test-dev-rule1"):
    return rule.batch_key(BatchName(millis // 1000 * 1000, uuid(number), stream))


def packed(records, *, newline=b"\n"):
    return gzip.compress(b"".join(each + newline for each in records), mtime=0)
