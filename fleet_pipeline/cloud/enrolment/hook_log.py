"""Why a vehicle was let in or not: what the hook, and the function of just-in-time registration, wrote of their
decisions.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from fleet_pipeline.aws.clients import Aws, absent, doing
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.names import log_of

EVER = datetime.fromtimestamp(0, UTC)
"""Before any log."""

_SHOWN = 200
"""Characters of a text that the hook logs."""


@dataclass(frozen=True, slots=True)
class Decided:
    """One answer.

    `serial` and `client_id` are as the hook shows them: a text in quotation marks, and words for what was no text or
    missing.
    """

    at: datetime
    allowed: bool
    reason: str
    serial: str
    client_id: str


def decisions(
    fleet: Fleet, aws: Aws, serial: str | None = None, client_id: str | None = None, *, since: datetime = EVER
) -> list[Decided]:
    """Return what was decided about a serial, about a client id, or about all, oldest first; empty when nobody was
    asked, or AWS has not yet stored the log.
    """
    wanted = {name: _shown(text) for name, text in (("serial", serial), ("clientId", client_id)) if text is not None}
    with doing("show the hook's log"):
        return sorted(
            (each for name in _functions(fleet) for each in _of(aws, name, wanted, since)), key=lambda each: each.at
        )


@dataclass(frozen=True, slots=True)
class NamingStream:
    """A stream of a function's log in which a vehicle is named."""

    group: str
    stream: str
    lines: int


IN_USE = timedelta(days=1)
"""A function's process writes one stream for some hours; a stream that was written to within a day may be in use, and
what is written to one that is gone is lost.
"""


def named(fleet: Fleet, aws: Aws, serial: str) -> list[NamingStream]:
    """Return the streams in which a serial stands, alone or as the end of a thing's name, in a line of the hook's or of
    Lambda's; a longer serial that begins or ends with it is another's. Reads only.
    """
    # A lower-case letter before it may be the end of `\\n` in a text of JSON.
    whole = re.compile(rf"(?:(?<![0-9A-Z])|(?<={re.escape(fleet.thing_prefix)})){re.escape(serial)}(?![0-9A-Za-z])")
    lines: Counter[tuple[str, str]] = Counter()
    for function in _functions(fleet):
        asked: Any = {"logGroupName": log_of(function), "filterPattern": _pattern({"serial": serial})}
        with doing("look for a serial in the functions' logs"), absent("ResourceNotFoundException"):
            for page in aws.logs.get_paginator("filter_log_events").paginate(**asked):
                for event in page["events"]:
                    lines[log_of(function), event["logStreamName"]] += bool(whole.search(event["message"]))
    return [NamingStream(*place, count) for place, count in sorted(lines.items()) if count]


def remove_streams(aws: Aws, streams: Sequence[NamingStream], now: datetime) -> list[NamingStream]:
    """Remove streams, whole, but those that may be in use; return those that are gone."""
    gone = []
    for each in streams:
        with doing("remove a stream of a function's log"), absent("ResourceNotFoundException"):
            pages = aws.logs.get_paginator("describe_log_streams").paginate(
                logGroupName=each.group, logStreamNamePrefix=each.stream
            )
            [last] = [
                max(found.get("lastEventTimestamp", 0), found.get("lastIngestionTime", 0))
                for page in pages
                for found in page["logStreams"]
                if found["logStreamName"] == each.stream
            ] or [0]
            if last < (now - IN_USE).timestamp() * 1000:
                aws.logs.delete_log_stream(logGroupName=each.group, logStreamName=each.stream)
                gone.append(each)
    return gone


def _functions(fleet: Fleet) -> tuple[str, ...]:
    return (fleet.hook_name, *([fleet.just_in_time_name] if fleet.own_ca == "jitr" else []))


def _of(aws: Aws, function: str, wanted: dict[str, str], since: datetime) -> Iterator[Decided]:
    asked: Any = {
        "logGroupName": log_of(function),
        "filterPattern": _pattern(wanted),
        "startTime": int(since.timestamp() * 1000),
    }
    with absent("ResourceNotFoundException"):
        pages = aws.logs.get_paginator("filter_log_events").paginate(**asked)
        for event in (event for page in pages for event in page["events"]):
            line = _line(event["message"])
            if line and all(line.get(name) == shown for name, shown in wanted.items()):
                at = datetime.fromtimestamp(event["timestamp"] / 1000, UTC)
                yield Decided(
                    at, line["allowed"], line["reason"], line.get("serial", "missing"), line.get("clientId", "missing")
                )


def _shown(text: str) -> str:
    return ascii(text)[:_SHOWN]


def _pattern(wanted: dict[str, str]) -> str:
    """Return what CloudWatch is to look for: the longest word of each text.

    It sends too much rather than too little; the rest is compared here.
    """
    words = [max(re.findall(r"[0-9A-Za-z]+", text), key=len, default="") for text in wanted.values()]
    return " ".join(json.dumps(word) for word in words if word)


def _line(message: str) -> dict[str, Any] | None:
    """Return a line of the hook's own; None for those of Lambda's."""
    try:
        found = json.loads(message)
    except ValueError:
        return None
    return found if isinstance(found, dict) and {"allowed", "reason"} <= set(found) else None
