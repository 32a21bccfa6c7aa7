"""One message's bytes, judged: a status, and the fields of a message that can be read without guessing.

Devices send what they like. Whatever is refused here keeps its bytes in the lake, beside the status that says why.
"""

import json
from enum import StrEnum
from typing import Any

import msgspec

DEPTH = 32
"""Levels of nesting. Telemetry has three or four; parsers and engines give up between 64 and 1,000."""

FIELDS = 1000
"""Names in one message. 10,000 would make a single row cost 3 MB of Parquet."""

ELEMENTS = 10_000
"""Messages in one array. 128 KB hold 43,000 empty ones."""


_decoded = msgspec.json.Decoder().decode
_encoded = msgspec.json.Encoder().encode


class Status(StrEnum):
    """What became of a message."""

    OK = "ok"
    PARTIAL = "partial"
    """Readable, and some values are in `_extra` because they fit no column."""
    EMPTY = "empty"
    MALFORMED = "malformed"
    """Not JSON as RFC 8259 has it, in UTF-8; NaN and numbers beyond a double are not."""
    NOT_AN_OBJECT = "not_an_object"
    DUPLICATE_NAMES = "duplicate_names"
    """One object says a name twice. Which value is meant cannot be known."""
    TOO_DEEP = "too_deep"
    TOO_MANY_FIELDS = "too_many_fields"
    TOO_MANY_ELEMENTS = "too_many_elements"
    TOO_LARGE = "too_large"
    """Larger than AWS IoT could have written, and so never downloaded: the row has no payload."""

    @property
    def readable(self) -> bool:
        """Whether the row has typed columns."""
        return self in {Status.OK, Status.PARTIAL}


def judged(payload: bytes) -> tuple[Status, dict[str, Any]]:
    """Return a message's status and its fields, which are empty unless the status is OK."""
    try:
        message = _decoded(payload)
    except RecursionError:
        return Status.TOO_DEEP, {}
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Status.MALFORMED if payload else Status.EMPTY, {}
    status = _status(payload, message)
    return status, message if status is Status.OK else {}


def judged_elements(payload: bytes) -> list[tuple[Status, dict[str, Any]]]:
    """Return the judgement of each message in an array of objects; of any other payload its one judgement."""
    status, message = judged(payload)
    array = _decoded(payload) if status is Status.NOT_AN_OBJECT else None
    if type(array) is not list or {*map(type, array)} != {dict}:
        return [(status, message)]
    if len(array) > ELEMENTS:
        return [(Status.TOO_MANY_ELEMENTS, {})]
    if _loses_a_name(payload, array):
        return [(Status.DUPLICATE_NAMES, {})]
    many = payload.count(b":") > FIELDS
    return [(Status.TOO_MANY_FIELDS, {}) if many and _names(element) > FIELDS else (Status.OK, element) for element in array]


def _status(payload: bytes, message: Any) -> Status:
    """Judge what was parsed. Counting brackets and colons is an upper bound that spares nearly every message the exact count."""
    if payload.count(b"{") + payload.count(b"[") > DEPTH and _depth(message) > DEPTH:
        return Status.TOO_DEEP
    if type(message) is not dict:
        return Status.NOT_AN_OBJECT
    if payload.count(b":") > FIELDS and _names(message) > FIELDS:
        return Status.TOO_MANY_FIELDS
    return Status.DUPLICATE_NAMES if _loses_a_name(payload, message) else Status.OK


def _loses_a_name(payload: bytes, message: Any) -> bool:
    """Whether what was parsed has less than what was written.

    Every written name has its colon. As long as no text is escaped, texts have as many in the payload as in the message written anew, so that
    equal counts say that no name was lost, which is to say written twice. Only what they do not settle is parsed again.
    """
    return (b"\\" in payload or payload.count(b":") != _encoded(message).count(b":")) and _says_a_name_twice(payload)


def _depth(value: Any) -> int:
    inner = value.values() if type(value) is dict else value if type(value) is list else ()
    return 1 + max(map(_depth, inner), default=0) if type(value) in {dict, list} else 0


def _names(value: Any) -> int:
    """Count the names in all objects of a value."""
    inner = value.values() if type(value) is dict else value if type(value) is list else ()
    return (len(value) if type(value) is dict else 0) + sum(map(_names, inner))


def _says_a_name_twice(payload: bytes) -> bool:
    try:
        json.loads(payload, object_pairs_hook=_once)
    except _SaidTwice:
        return True
    return False


class _SaidTwice(Exception):
    """Ends a parse."""


def _once(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise _SaidTwice
