"""Whose a message is: the vehicle that the raw key names, and where it names none, the one that the message names.

The message itself is read, and not the columns of a table: a name may stand in `_extra`, in a message of a form that
became no columns, or in one of several objects of an array.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import msgspec

from fleet_pipeline.lake.contract import EXACT
from fleet_pipeline.lake.payload import judged_elements
from fleet_pipeline.model.fleet import Fleet

NOBODY = "n/a"
"""The client id of a message that did not come by MQTT."""

_RAW = msgspec.json.Decoder(list[msgspec.Raw])
_RAW_LINES = msgspec.json.Decoder(msgspec.Raw)
_ANY = msgspec.json.Decoder()


class Undivided(Exception):
    """Objects of several vehicles stand in a message that cannot be taken apart byte for byte."""


@dataclass(frozen=True, slots=True)
class Naming:
    """How messages say whose they are."""

    path: tuple[str, ...]
    """The names on the way to the field that names the vehicle."""
    thing_prefix: str = ""
    """What stands before the vehicle's name in a client id."""

    @classmethod
    def of(cls, fleet: Fleet) -> Self:
        """Return what the settings say."""
        return cls(fleet.vehicle_path, fleet.thing_prefix)

    def owners(self, client_id: str | None, payload: bytes | None) -> list[str | None]:
        """Return whose each object of a message is, None for nobody's; one for a message that is not several objects.

        Where the key names somebody, all of the message is theirs, whatever it says.
        """
        if client_id is not None and client_id != NOBODY:
            return [client_id.removeprefix(self.thing_prefix)]
        return [self._said(each) for each in _objects(payload or b"")]

    def without(
        self, client_id: str | None, payload: bytes | None, is_theirs: Callable[[str], bool]
    ) -> tuple[bool, bytes | None]:
        """Return whether anything of a message stays without what is theirs, and its bytes then: the same where nothing
        is theirs.

        Raises Undivided.
        """
        theirs = [name is not None and is_theirs(name) for name in self.owners(client_id, payload)]
        if not any(theirs):
            return True, payload
        return (False, None) if all(theirs) else (True, _only(payload or b"", [not each for each in theirs]))

    def part_of(
        self, client_id: str | None, payload: bytes | None, is_theirs: Callable[[str], bool]
    ) -> tuple[bool, bytes | None]:
        """Return whether anything of a message is theirs, and the bytes of that alone. Raises Undivided."""
        theirs = [name is not None and is_theirs(name) for name in self.owners(client_id, payload)]
        if not any(theirs):
            return False, None
        return True, payload if all(theirs) else _only(payload or b"", theirs)

    def _said(self, message: Any) -> str | None:
        place = message
        for name in self.path:
            place = place.get(name) if isinstance(place, dict) else None
        if (exact := _as_text(place)) is not None:
            return exact
        return next((text for value in _joined(message, "_".join(self.path)) if (text := _as_text(value))), None)


def _objects(payload: bytes) -> list[Any]:
    """Return the objects in a payload; one without fields for what is no object or cannot be read."""
    try:
        value = _ANY.decode(payload)
    except (RecursionError, ValueError):  # msgspec's errors are ValueErrors
        _, several = judged_elements(payload, several=True, lenient=True)
        return [*several]
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        return value
    return [value if isinstance(value, dict) else {}]


def _joined(message: Any, name: str) -> Iterator[Any]:
    """Yield the values of fields whose path, joined by `_`, is a name: as the table's column may hold any of them."""
    for field, value in message.items() if isinstance(message, dict) else ():
        if field == name:
            yield value
        elif name.startswith(f"{field}_"):
            yield from _joined(value, name[len(field) + 1 :])


def _as_text(value: Any) -> str | None:
    """Return a text, or the digits of a whole number; None for what names nobody."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT:
        return str(int(value))
    return None


def _only(payload: bytes, chosen: list[bool]) -> bytes:
    """Return a message with some of its objects only, each byte for byte."""
    try:
        is_array = payload.lstrip()[:1] == b"["
        parts = _RAW.decode(payload) if is_array else _RAW_LINES.decode_lines(payload)
        kept = [bytes(part) for part, is_chosen in zip(parts, chosen, strict=True) if is_chosen]
    except (RecursionError, ValueError) as error:
        raise Undivided from error
    return b"[" + b",".join(kept) + b"]" if is_array else b"\n".join(kept)
