"""Private fields leave a message before columns are made of it: neither a column nor `_extra` holds them.

The payload is kept byte for byte: what was hidden once can be typed by a rewrite, and nothing is lost.
"""

import math
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from fleet_pipeline.lake.payload import Elements, Judged
from fleet_pipeline.model.personal import PrivateField

_HOUR, _SIXTIETH = r"[01]\d|2[0-3]", r"[0-5]\d"
_INSTANT = re.compile(
    rf"(\d{{4}}-\d\d-\d\d)[T ]({_HOUR}):({_SIXTIETH})(?::({_SIXTIETH}|60)(?:[.,]\d+)?)?"
    rf"(Z|[+-](?:{_HOUR}):?{_SIXTIETH})?",
    re.ASCII,
)
_SECONDS = {"minute": 60, "hour": 3600, "day": 86400}
_EPOCHS = {10**10: 1, 10**13: 10**3, 10**16: 10**6, 10**19: 10**9}
"""Up to which number an epoch time is in seconds, milliseconds, microseconds, nanoseconds, and how many of these a
second has: each ends in the year 2286, and the next begins with an instant of April 1970. A number that is taken for a
larger unit than its own would keep more than was asked for.
"""
_FIRST_S = int(datetime.min.replace(tzinfo=UTC).timestamp())
"""The first second of the year 1, before which no text can say an instant either."""

_Hide = Callable[[Any], Any]


class _Removed:
    """Stands for a value of which nothing is kept."""


_REMOVED = _Removed()


class Hider:
    """Takes private fields out of messages, wherever an object has them, arrays of objects among them."""

    def __init__(self, fields: Iterable[PrivateField]) -> None:
        self._tree: dict[str, Any] = {}
        for field in fields:
            node, names = self._tree, [name.casefold() for name in field.path]
            for name in names[:-1]:
                node = node.setdefault(name, {}) if isinstance(node.get(name, {}), dict) else {}
            node[names[-1]] = _coarsening(field.keep)

    def message(self, judged: Judged) -> Judged:
        """Hide what is private in the fields of a message."""
        _hide(judged[1], self._tree)
        return judged

    def elements(self, judged: Elements) -> Elements:
        """Hide what is private in each message of a payload."""
        for fields in judged[1]:
            _hide(fields, self._tree)
        return judged


def _hide(value: Any, tree: dict[str, Any]) -> None:
    if isinstance(value, list):
        for each in value:
            _hide(each, tree)
    if not isinstance(value, dict):
        return
    for name in [name for name in value if name.casefold() in tree]:
        private = tree[name.casefold()]
        if isinstance(private, dict):
            _hide(value[name], private)
        elif (kept := private(value[name])) is _REMOVED:
            del value[name]
        else:
            value[name] = kept


def _coarsening(keep: str) -> _Hide:
    if not keep:
        return lambda _: _REMOVED
    return (lambda value: _rounded(value, int(keep))) if keep.isdigit() else (lambda value: _cut(value, keep))


def _rounded(value: Any, decimals: int) -> Any:
    """Return a number to so many decimals; of anything else nothing is kept."""
    number = _number(value)
    return _REMOVED if number is None else round(number, decimals)


def _cut(value: Any, unit: str) -> Any:
    """Return the beginning of the minute, hour or day of an instant, as a text by ISO 8601 or an epoch time; of
    anything else nothing is kept.
    """
    if isinstance(value, str):
        return _begin(found, unit) if (found := _INSTANT.fullmatch(value)) and _exists(found) else _REMOVED
    if (number := _number(value)) is None:
        return _REMOVED
    if (per_second := _parts_of_a_second(number)) is None:
        return _REMOVED
    step = _SECONDS[unit] * per_second
    return int(number // step) * step


def _parts_of_a_second(number: float) -> int | None:
    """Return in what an epoch time is, by its size; None for what is no instant."""
    reach = 10 if number < 0 else 1  # before 1970 no clock is by mistake, and the year 1 has eleven digits
    parts = next((parts for end, parts in _EPOCHS.items() if abs(number) < end * reach), None)
    return None if parts is None or number < _FIRST_S * parts else parts


def _begin(instant: re.Match[str], unit: str) -> str:
    day, hour, minute, _, zone = instant.groups("")
    at = {"minute": f"{hour}:{minute}", "hour": f"{hour}:00", "day": "00:00"}[unit]
    return f"{day}T{at}:00{zone}"


def _exists(instant: re.Match[str]) -> bool:
    """Whether the calendar has an instant. A second 60 is at the end of a month of UTC alone.

    Source: https://www.rfc-editor.org/rfc/rfc3339#section-5.7
    """
    day, hour, minute, second, zone = instant.groups("")
    try:
        begin = datetime.fromisoformat(f"{day}T{hour}:{minute}{zone or 'Z'}")
        after = (begin + timedelta(minutes=1)).astimezone(UTC) if second == "60" else None
    except (OverflowError, ValueError):
        return False
    return after is None or (after.day, after.hour, after.minute) == (1, 0, 0)


def _number(value: Any) -> float | None:
    """Return a number, also one that no double is; None for all that is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    try:
        number = float(bytes(value)) if isinstance(value, msgspec.Raw) else math.inf
    except ValueError:
        return None
    return number if math.isfinite(number) else None
