"""What the topic rules could not write: their reports below the errors' prefix, and the way of the payloads back to the
raw objects.

A report is the document of AWS IoT's error action; it holds the message's own bytes. Its key holds when the rule failed
and a UUID: the message returns under the raw key with both, and so to that hour, where compaction takes it for a
message that came late.
A stream of Firehose reports there, too: objects of a line for each record that it could not process. Their records
return as a batch, and so as the same messages, should they have been delivered besides.
Source: AWS IoT Core Developer Guide, rule-error-handling; Amazon Data Firehose Developer Guide, retry and
data-transformation-failure-handling.
"""

import base64
import binascii
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Protocol
from uuid import NAMESPACE_OID, uuid5

from fleet_pipeline.aws.clients import Aws, doing
from fleet_pipeline.aws.objects import BATCH, delete_objects
from fleet_pipeline.aws.store import S3Store, Store
from fleet_pipeline.lake.encodings import GZIP
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import BatchName, RawName, Rule, parse_stream_name

_VARYING = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9]{13}")
_CLIENT_ID = re.compile(r"[a-zA-Z0-9:_-]{1,128}")


@dataclass(frozen=True, slots=True)
class Report:
    """One message that a rule could not write, and why."""

    key: str
    name: RawName
    payload: bytes = field(repr=False)
    reason: str
    returnable: bool = True
    """Whether the message is to become a raw object again.

    Not where only a further action failed, as it is one; nor where SQL makes others of messages.
    """

    @property
    def instant(self) -> datetime:
        """When the rule failed."""
        return datetime.fromtimestamp(self.name.millis / 1000, UTC)


@dataclass(frozen=True, slots=True)
class FailedRecords:
    """Records of one report of a stream."""

    key: str
    batch: BatchName
    """Of the batch as which they return: always the same for a report."""
    records: tuple[bytes, ...] = field(repr=False)
    reasons: tuple[str, ...]
    """Why each failed."""

    @property
    def instant(self) -> datetime:
        """When the oldest came to the stream, to the second."""
        return datetime.fromtimestamp(self.batch.millis / 1000, UTC)

    @property
    def body(self) -> bytes:
        """The batch."""
        return gzip.compress(b"".join(each.rstrip(b"\n") + b"\n" for each in self.records), mtime=0)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What lies below a rule's errors. `strange` are keys that hold no report of this rule; they are never replayed."""

    reports: int
    oldest: datetime | None
    newest: datetime | None
    reasons: dict[str, int]
    strange: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did. `already` returned before: by a replay that was stopped before it could drop the report."""

    returned: int
    already: int
    hours: tuple[Hour, ...]
    strange: tuple[str, ...]
    kept: int = 0
    """Reports of messages that are raw objects already, or that SQL would have made others of: they stay."""


def waiting(fleet: Fleet, aws: Aws, rule: Rule) -> Waiting:
    """Return what a rule could not write and has not been replayed. Reads every report once and changes nothing."""
    reasons: Counter[str] = Counter()
    instants: list[datetime] = []
    strange: list[str] = []
    for found in reports(fleet, rule, S3Store(aws, fleet.bucket)):
        if isinstance(found, Report):
            reasons[found.reason] += 1
            instants.append(found.instant)
        elif isinstance(found, FailedRecords):
            reasons.update(found.reasons)
            instants += [found.instant] * len(found.records)
        else:
            strange.append(found)
    return Waiting(
        len(instants),
        min(instants, default=None),
        max(instants, default=None),
        dict(reasons.most_common()),
        tuple(strange),
    )


class Drop(Protocol):
    """What hides reports once their payloads are back."""

    def __call__(self, keys: list[str]) -> None:
        """Hide these keys."""


def replay(fleet: Fleet, aws: Aws, rule: Rule) -> Replayed:
    """Put the payloads of a rule's reports under the raw keys that they would have had, each once, and drop the
    reports.

    A second run finds no reports and does nothing. Stopped at any moment, the next run returns the rest: a key that is
    taken is not written again. A dropped report is hidden by a delete marker; the versioned bucket still has it.
    """

    def drop(keys: list[str]) -> None:
        with doing(f"drop reports of {rule.aws_name}"):
            delete_objects(aws, fleet.bucket, [{"Key": key} for key in keys])

    return returned(fleet, rule, S3Store(aws, fleet.bucket), S3Store(aws, fleet.bucket), drop)


def returned(fleet: Fleet, rule: Rule, source: Store, target: Store, drop: Drop) -> Replayed:
    """Do what `replay` says, between any two stores of one bucket."""
    strange: list[str] = []
    counts: Counter[bool] = Counter()
    hours: set[Hour] = set()
    kept = 0
    found = reports(fleet, rule, source)
    while batch := list(islice(found, BATCH)):
        good = [report for report in batch if isinstance(report, Report) and report.returnable]
        kept += sum(isinstance(report, Report) and not report.returnable for report in batch)
        strange += [key for key in batch if isinstance(key, str)]
        counts.update(target.put_new(rule.raw_key(report.name), report.payload) for report in good)
        hours.update(Hour.of_millis(report.name.millis) for report in good)
        failed = [each for each in batch if isinstance(each, FailedRecords)]
        for each in failed:
            counts[target.put_new(rule.batch_key(each.batch), each.body)] += len(each.records)
            hours.add(Hour.of_millis(each.batch.millis))
        if good or failed:
            drop([*(each.key for each in good), *(each.key for each in failed)])
    return Replayed(counts[True], counts[False], tuple(sorted(hours)), tuple(strange), kept)


def reports(fleet: Fleet, rule: Rule, store: Store) -> Iterator[Report | FailedRecords | str]:
    """Yield the reports of a rule, and the bare key of everything else below its prefix."""
    listed = [version for page in store.versions(fleet.report_prefix(rule)) for version in page if version.latest]
    for place, body in store.bodies(listed):
        key = listed[place].key
        yield parsed(fleet, rule, key, body) or failed_records(fleet, rule, key, body) or key


def failed_records(fleet: Fleet, rule: Rule, key: str, body: bytes) -> FailedRecords | None:
    """Return what a stream reported, or None for what no stream of a rule would have written."""
    named = parse_stream_name(key.removeprefix(fleet.report_prefix(rule)).rpartition("/")[2])
    if named is None or not key.startswith(fleet.report_prefix(rule)):
        return None
    try:
        text = gzip.decompress(body) if body.startswith(GZIP) else body
        said: list[Any] = [json.loads(line) for line in text.splitlines() if line.strip()]
        records = tuple(base64.b64decode(each["rawData"], validate=True) for each in said)
        reasons = tuple(_VARYING.sub("…", f"Firehose: {_message(each)}") for each in said)
    except (ValueError, TypeError, KeyError, RecursionError, EOFError, OSError):
        return None
    name = BatchName(named.millis, str(uuid5(NAMESPACE_OID, key)), named.stream, named.version)
    return FailedRecords(key, name, records, reasons) if records else None


def _message(said: dict[str, Any]) -> str:
    spelled = {name.lower(): value for name, value in said.items()}
    return f"{spelled.get('errorcode', 'no code')}: {spelled.get('errormessage', 'no reason given')}"


def parsed(fleet: Fleet, rule: Rule, key: str, body: bytes) -> Report | None:
    """Return a report, or None for what the rule's error action would not have written about a message of the rule's
    own topic.

    A rule's S3 action writes to the topic that it is told, so a message of another topic is an attempt to write
    elsewhere.
    """
    name = fleet.parse_report_key(rule, key)
    try:
        document: Any = json.loads(body)
        topic = document["topic"]
        if name is None or document["ruleName"] != rule.aws_name or not isinstance(topic, str) or not rule.reads(topic):
            return None
        payload = base64.b64decode(document["base64OriginalPayload"], validate=True)
        failures = document["failures"]
        returnable = rule.keeps_payloads and _was_lost(rule, failures)
        return Report(
            key, RawName(name.millis, name.uuid, _client_id(document)), payload, _reason(failures), returnable
        )
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error):
        return None


def _client_id(document: dict[str, Any]) -> str | None:
    """Return who sent the message, where a raw key can say it.

    The document decides and not the settings: a report has one raw key for ever.
    """
    said = document.get("clientId")
    return said if isinstance(said, str) and _CLIENT_ID.fullmatch(said) else None


def _was_lost(rule: Rule, failures: list[dict[str, str]]) -> bool:
    """Say whether the action that failed is the one that writes the raw object; a report that names no action is taken
    for one of it.
    """
    others = {action["s3"].get("bucketName") for action in rule.actions if "s3" in action}
    streams = {action["firehose"].get("deliveryStreamName") for action in rule.actions if "firehose" in action}
    return not failures or any(
        (each["failedAction"] == "S3Action" and each["failedResource"] not in others)
        or (each["failedAction"] == "FirehoseAction" and each["failedResource"] not in streams)
        for each in failures
    )


def _reason(failures: list[dict[str, str]]) -> str:
    """Return what went wrong in words that equal failures share: without their times and UUIDs."""
    return "; ".join(
        _VARYING.sub("…", f"{each['failedAction']} to {each['failedResource']}: {each['errorMessage']}")
        for each in failures
    )
