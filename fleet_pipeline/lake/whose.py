"""Whose a message is: the vehicle that the raw key names, and where it names none, the one that the message names; or,
where gateways publish for vehicles, the other way round.

The message itself is read, and not the columns of a table: a name may stand in `_extra`, in a message of a form that
became no columns, or in one of several objects of an array.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import msgspec

from fleet_pipeline.lake.contract import EXACT
from fleet_pipeline.lake.encodings import text_of
from fleet_pipeline.lake.payload import DEPTH, with_numbers
from fleet_pipeline.model.fleet import Fleet, VehicleNamedBy
from fleet_pipeline.model.form import JSON, Encoding

NOBODY = "n/a"
"""The client id of a message that did not come by MQTT."""

_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])
_VALUES = msgspec.json.Decoder(msgspec.Raw)
_ANY = msgspec.json.Decoder()
_ANY_NUMBER = msgspec.json.Decoder(float_hook=float)
"""Reads numbers beyond a double, too: they name nobody."""


class _Unread:
    """Stands for what cannot be read."""


class Apart(NamedTuple):
    """A message, taken apart byte for byte."""

    own: bytes | None
    """What of it is theirs: all of it as it came, or the objects that are."""
    rest: bytes | None
    """What stays."""
    is_theirs: bool
    """Whether anything is; a message that was too large to be read has no bytes."""
    stays: bool


@dataclass(frozen=True, slots=True)
class Naming:
    """How messages say whose they are."""

    path: tuple[str, ...]
    """The names on the way to the field that names the vehicle."""
    thing_prefix: str = ""
    """What stands before the vehicle's name in a client id."""
    by: VehicleNamedBy = "client_id"
    """Which of the two decides where both say a name."""
    encoding: Encoding = field(default=JSON, compare=False)
    """What the bytes of messages are."""

    def reading(self, encoding: Encoding) -> Self:
        """Return the same for messages of an encoding."""
        return self if encoding == self.encoding else replace(self, encoding=encoding)

    @classmethod
    def of(cls, fleet: Fleet) -> Self:
        """Return what the settings say."""
        return cls(fleet.vehicle_path, fleet.thing_prefix, fleet.vehicle_named_by)

    def owners(self, client_id: str | None, payload: bytes | None) -> list[str | None]:
        """Return whose each value in a message is, None for nobody's: an object is one, each line of a message is, and
        so is each element of an array.

        Where the key names somebody, all of the message is theirs, whatever it says, or, where messages name their
        vehicles, what says no name. An object that says a name twice says what it says last.
        """
        client, text = self._client(client_id), self._text(client_id, payload)
        said = [self._said(_value(each)) for each in _leaves(text)] if text is not None else []
        return [client if name is None else name for name in said] or [client]

    def apart(self, client_id: str | None, payload: bytes | None, is_theirs: Callable[[str], bool]) -> Apart:
        """Return what of a message is theirs, and what stays: other vehicles' objects, and what is nobody's.

        What is taken apart is JSON, whatever the encoding: a message that begins as JSON does is read as JSON.
        """
        client, text = self._client(client_id), self._text(client_id, payload)

        def are_they(said: str | None) -> bool:
            name = client if said is None else said
            return name is not None and is_theirs(name)

        if text is None:
            return Apart(payload, None, True, False) if are_they(None) else Apart(None, payload, False, True)
        own, rest = self._apart(text, are_they)
        if own is None:
            return Apart(None, payload, False, True)
        return Apart(payload if rest is None else own, rest, True, rest is not None)

    def without(
        self, client_id: str | None, payload: bytes | None, is_theirs: Callable[[str], bool]
    ) -> tuple[bool, bytes | None]:
        """Return whether anything of a message stays without what is theirs, and its bytes then: the same where nothing
        is theirs.
        """
        found = self.apart(client_id, payload, is_theirs)
        return found.stays, found.rest

    def unread(self, client_id: str | None, payload: bytes | None, name: str) -> bool:
        """Whether a name stands in what of a message cannot be read, and so is nobody's or the client's, whatever it
        says.
        """
        client = self._client(client_id)
        if client is not None and (self.by == "client_id" or client == name):
            return False
        text = text_of(self.encoding, payload or b"")
        said = (payload or b"") if text is None else text
        if name.encode() not in said:
            return False
        return text is None or any(name.encode() in each and _is_unread(each) for each in _leaves(text))

    def _client(self, client_id: str | None) -> str | None:
        """Return the vehicle, or the gateway, that a client id names."""
        return None if client_id is None or client_id == NOBODY else client_id.removeprefix(self.thing_prefix)

    def _text(self, client_id: str | None, payload: bytes | None) -> bytes | None:
        """Return what is asked for names; None where all of a message is its client's, or it cannot be unpacked."""
        if self.by == "client_id" and self._client(client_id) is not None:
            return None
        return text_of(self.encoding, payload or b"")

    def _apart(self, payload: bytes, are_they: Callable[[str | None], bool]) -> tuple[bytes | None, bytes | None]:
        try:
            value = _ANY.decode(payload)
        except (RecursionError, ValueError):  # msgspec's errors are ValueErrors
            value = _Unread
        if isinstance(value, dict):
            return self._object_apart(payload, value, are_they)
        values = _values(payload)
        if len(values) == 1:
            return self._value_apart(payload, are_they, 0)
        parts = [self._value_apart(each, are_they, 0) for each in values]
        return _joined_parts(payload, parts, b"\n".join)

    def _value_apart(
        self, raw: bytes, are_they: Callable[[str | None], bool], depth: int
    ) -> tuple[bytes | None, bytes | None]:
        """Return what of a value is theirs and what is not: of an array its elements, else all of it."""
        if elements := _elements(raw, depth):
            parts = [self._value_apart(each, are_they, depth + 1) for each in elements]
            return _joined_parts(raw, parts, lambda some: b"[" + b",".join(some) + b"]")
        return self._object_apart(raw, _value(raw), are_they)

    def _object_apart(
        self, raw: bytes, value: Any, are_they: Callable[[str | None], bool]
    ) -> tuple[bytes | None, bytes | None]:
        return (raw, None) if are_they(self._said(value)) else (None, raw)

    def _said(self, message: Any) -> str | None:
        place = message
        for name in self.path:
            place = place.get(name) if isinstance(place, dict) else None
        if (exact := _as_text(place)) is not None:
            return exact
        return next((text for value in _joined(message, "_".join(self.path)) if (text := _as_text(value))), None)


def _joined_parts(
    whole: bytes, parts: list[tuple[bytes | None, bytes | None]], join: Callable[[list[bytes]], bytes]
) -> tuple[bytes | None, bytes | None]:
    own, rest = ([each for each in side if each is not None] for side in zip(*parts, strict=True))
    if not own or not rest:
        return (whole, None) if own else (None, whole)
    return join(own), join(rest)


def _leaves(payload: bytes) -> Iterator[bytes]:
    """Yield each value in a payload that is no array."""
    yield from (leaf for value in _values(payload) for leaf in _within(value, 0))


def _within(raw: bytes, depth: int) -> Iterator[bytes]:
    if elements := _elements(raw, depth):
        for each in elements:
            yield from _within(each, depth + 1)
    else:
        yield raw


def _values(payload: bytes) -> list[bytes]:
    """Return the values in a payload, one after another or a line each, byte for byte; where they cannot be told, its
    lines.
    """
    found = _cut(payload, _VALUES.decode_lines)
    if found is None:
        found = [line for line in payload.split(b"\n") if line.strip()]
    return found or [payload]


def _elements(raw: bytes, depth: int) -> list[bytes]:
    """Return the elements of an array, byte for byte; none of what is no array, or nests deeper than is read."""
    return (_cut(raw, _ELEMENTS.decode) or []) if raw.lstrip()[:1] == b"[" and depth < DEPTH else []


def _cut(payload: bytes, parse: Callable[[bytes], list[msgspec.Raw]]) -> list[bytes] | None:
    """Return the parts that a parser finds, also where `nan` or its like stands among them; None where it fails."""
    for text in (payload, with_numbers(payload)):
        try:
            parts = parse(text)
        except (RecursionError, ValueError):
            continue
        found, start = list[bytes](), 0
        for part in map(bytes, parts):
            start = text.index(part, start)  # between parts there are blanks and commas alone
            found.append(payload[start : start + len(part)])
            start += len(part)
        return found
    return None


def _is_unread(leaf: bytes) -> bool:
    """Whether a value cannot be read, or is an array that nests too deep to be."""
    return leaf.lstrip()[:1] == b"[" or _value(leaf) is _Unread


def _value(raw: bytes) -> Any:
    """Return what a text says; `_Unread` where it cannot be read."""
    for text in (raw, with_numbers(raw)):
        for decoder in (_ANY, _ANY_NUMBER):
            try:
                return decoder.decode(text)
            except (RecursionError, ValueError):
                continue
    return _Unread


def _joined(message: Any, name: str) -> Iterator[Any]:
    """Yield the values of fields whose path, joined by `_`, is a name: as the table's column may hold any of them."""
    for said, value in message.items() if isinstance(message, dict) else ():
        if said == name:
            yield value
        elif name.startswith(f"{said}_"):
            yield from _joined(value, name[len(said) + 1 :])


def _as_text(value: Any) -> str | None:
    """Return a text, or the digits of a whole number; None for what names nobody."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT:
        return str(int(value))
    return None
