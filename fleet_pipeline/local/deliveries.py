"""Streams of Firehose on this machine: rules hand them records, and they gather these by size and time, as the service
does; the emulator writes an object for each record, and its rules know no such action.

What is gathered stands in the emulator's own state, so that it is saved with it.
"""

# ruff: noqa: SLF001 (the emulator has no other names for what is patched)

import base64
import gzip
import json
import logging
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from http import HTTPStatus
from threading import Thread
from typing import Any
from uuid import uuid4

from fleet_pipeline.model.plain import plain_traceback

NAMES = (
    "_deliver_records_to_s3",
    "_evaluate_prefix",
    "_lock",
    "_put_record",
    "_s3_bucket_from_arn",
    "_stream_arn",
    "_streams",
)
"""What is taken from the emulator's Firehose."""

TICK_S = 0.5
"""Seconds between two looks at what is old enough."""

_LOG = logging.getLogger("firehose")


class DeliveryFailed(Exception):
    """A record could not be handed to a stream; the rule's error action is told so."""


class Deliveries:
    """The streams of the emulator."""

    def __init__(self, firehose: Any, s3: Any, responses: Any, iot: Any, iam: Any) -> None:
        self._firehose, self._s3, self._responses, self._iot = firehose, s3, responses, iot
        trust_firehose(iot, iam)
        self._sizes: dict[int, tuple[int, int]] = {}
        """How many records each list of them has that were counted, and their bytes."""
        firehose._deliver_records_to_s3 = self._gathered
        Thread(target=self._forever, daemon=True).start()

    def put(self, action: dict[str, str], body: bytes) -> None:
        """Hand a record to a stream, as a rule does. Raises DeliveryFailed."""
        name = action["deliveryStreamName"]
        where = f"Action: firehose, Delivery stream: {name}"
        wanted = [("firehose:PutRecord", self._firehose._stream_arn(name))]
        if not self._iot._provisioning_role_allows(action["roleArn"], wanted):
            raise DeliveryFailed(f"Failed to publish to Firehose. The error received was Access Denied. {where}")
        data = base64.b64encode(body + action.get("separator", "").encode()).decode()
        status, _, answer = self._firehose._put_record({"DeliveryStreamName": name, "Record": {"Data": data}})
        if status != HTTPStatus.OK:
            said = json.loads(answer).get("message", "")
            raise DeliveryFailed(f"Failed to publish to Firehose. The error received was {said}. {where}")

    def _gathered(self, stream: dict[str, Any], destination: dict[str, Any], _: Any) -> None:
        """Write what was gathered if it is enough by now: the emulator has noted the record already."""
        held = destination["records"]
        known, size = self._sizes.get(id(held), (0, 0))
        size += sum(len(each["data"]) * 3 // 4 for each in held[known:])
        self._sizes[id(held)] = (len(held), size)
        if size >= self._most(destination):
            self._write(stream, destination)

    @staticmethod
    def _most(destination: dict[str, Any]) -> int:
        return int(destination["config"].get("BufferingHints", {}).get("SizeInMBs", 5)) * 1024 * 1024

    def _forever(self) -> None:
        while True:
            time.sleep(TICK_S)
            with self._firehose._lock:
                for (account, region, _), stream in list(self._firehose._streams._data.items()):
                    with self._responses.request_scope(account, region):
                        self._write_what_is_old(stream)

    def _write_what_is_old(self, stream: dict[str, Any]) -> None:
        for destination in stream["destinations"]:
            held = destination["records"]
            seconds = destination["config"].get("BufferingHints", {}).get("IntervalInSeconds", 300)
            is_s3 = destination["type"] in {"ExtendedS3", "S3"}
            if held and is_s3 and time.time() - held[0]["ts"] >= seconds:
                try:
                    self._write(stream, destination)
                except Exception as error:  # noqa: BLE001 (the outermost frame of a thread)
                    _LOG.error("stream %s could not write and tries again: %s", stream["name"], plain_traceback(error))

    def _write(self, stream: dict[str, Any], destination: dict[str, Any]) -> None:
        config, held = destination["config"], destination["records"]
        bucket = self._firehose._s3_bucket_from_arn(config["BucketARN"])
        oldest = datetime.fromtimestamp(held[0]["ts"], UTC)
        packed = config.get("CompressionFormat") == "GZIP"
        name = f"{stream['name']}-{stream.get('version', 1)}-{oldest:%Y-%m-%d-%H-%M-%S}-{uuid4()}"
        prefix = self._firehose._evaluate_prefix(config.get("Prefix", ""), oldest.timetuple())
        key = f"{prefix}{name}{config.get('FileExtension') or ('.gz' if packed else '')}"
        body = b"".join(base64.b64decode(each["data"]) for each in held)
        if not self._may(config["RoleARN"], f"arn:aws:s3:::{bucket}/{key}"):
            _LOG.warning("stream %s may not write to %s: it keeps its records", stream["name"], bucket)
            return
        headers = {"content-type": "application/octet-stream"}
        status, *_ = self._s3._put_object(bucket, key, gzip.compress(body) if packed else body, headers)
        if status == HTTPStatus.OK:
            self._sizes.pop(id(held), None)
            destination["records"] = []
        else:
            _LOG.warning("stream %s could not write to %s: it keeps its records", stream["name"], bucket)

    def _may(self, role: str, target: str) -> bool:
        token = _assumed_by.set(_SERVICE)
        try:
            return bool(self._iot._provisioning_role_allows(role, [("s3:PutObject", target)]))
        finally:
            _assumed_by.reset(token)


_SERVICE = "firehose.amazonaws.com"
_assumed_by: ContextVar[str] = ContextVar("_assumed_by", default="iot.amazonaws.com")


def trust_firehose(iot: Any, iam: Any) -> None:
    """Let the emulator's check of a role ask whether Firehose may assume it, while a stream writes."""
    usable = iot._iot_role_usable

    def role_usable(arn: str) -> bool:
        return usable(arn) if _assumed_by.get() != _SERVICE else trusts(iam._roles.get(arn.rpartition("/")[2]))

    iot._iot_role_usable = role_usable


def trusts(role: dict[str, str] | None) -> bool:
    """Say whether a role lets Firehose assume it."""
    statements = json.loads((role or {}).get("AssumeRolePolicyDocument") or "{}").get("Statement", [])
    return any(
        each.get("Effect") == "Allow" and _SERVICE in str(each.get("Principal", {}).get("Service", ""))
        for each in statements
    )
