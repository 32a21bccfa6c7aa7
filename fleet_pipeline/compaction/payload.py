"""One message's bytes, judged: a status, and the fields of a message that can be read without guessing.

Devices send what they like. Whatever is refused here keeps its bytes in the lake, beside the status that says why.
"""

import json
import re
from enum import StrEnum
from typing import Any

import msgspec

DEPTH = 32
"""Levels of nesting. Telemetry has three or four; parsers and engines give up between 64 and 1,000."""

FIELDS = 1000
"""Names in one message. 10,000 would make a single row cost 3 MB of Parquet."""

_DETACHED_COLON = re.compile(rb'"[ \t\n\r]+:')


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
    TOO_LARGE = "too_large"
    """Larger than AWS IoT could have written, and so never downloaded: the row has no payload."""

    @property
    def readable(self) -> bool:
        """Whether the row has typed columns."""
        return self in {Status.OK, Status.PARTIAL}


def judged(payload: bytes) -> tuple[Status, dict[str, Any]]:
    """Return a message's status and its fields, which are empty unless the status is OK."""
    try:
        message = msgspec.json.decode(payload)
        names = _names(message, DEPTH)
    except RecursionError:
        return Status.TOO_DEEP, {}
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Status.MALFORMED if payload else Status.EMPTY, {}
    if type(message) is not dict:
        return Status.NOT_AN_OBJECT, {}
    if names > FIELDS:
        return Status.TOO_MANY_FIELDS, {}
    if _says_a_name_twice(payload, names):
        return Status.DUPLICATE_NAMES, {}
    return Status.OK, message


def _names(value: Any, room: int) -> int:
    """Count the names in all objects of a value. Raises RecursionError when it nests deeper than there is room for."""
    if not room:
        raise RecursionError
    if type(value) is dict:
        return len(value) + sum([_names(inner, room - 1) for inner in value.values() if type(inner) is dict or type(inner) is list])
    if type(value) is list:
        return sum([_names(inner, room - 1) for inner in value if type(inner) is dict or type(inner) is list])
    return 0


def _says_a_name_twice(payload: bytes, names: int) -> bool:
    """Compare the names that were read with those that are written.

    Every written name has its colon, so as many colons as names settle it; with colons in texts, those that follow a quote do.
    Only what neither settles is parsed again.
    """
    if payload.count(b":") == names or (payload.count(b'":') == names and not _DETACHED_COLON.search(payload)):
        return False
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
