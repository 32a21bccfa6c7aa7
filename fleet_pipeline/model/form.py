"""Form: how messages become rows of a table, and the words in which it is chosen. Pure."""

from dataclasses import dataclass
from typing import Literal

NestedObjects = Literal["columns", "structs"]
Arrays = Literal["whole", "elements"]
SeveralObjects = Literal["off", "on"]
LenientNumbers = Literal["off", "on"]
Numbers = Literal["double", "exact"]
EncodingKind = Literal["json", "gzip", "cbor", "msgpack", "protobuf"]


@dataclass(frozen=True, slots=True)
class Encoding:
    """What the bytes of a rule's messages are."""

    kind: EncodingKind = "json"
    descriptor: str = ""
    """Of protobuf: the file that describes its messages."""
    message: str = ""
    """Of protobuf: the full name of the message."""


JSON = Encoding()


@dataclass(frozen=True, slots=True)
class Form:
    """How messages become rows of a table. A generation keeps the form in which it was begun."""

    nested_objects: NestedObjects = "columns"
    """`columns`: a column for each of their fields, `position_lat`. `structs`: one struct column, `position.lat`."""
    arrays: Arrays = "whole"
    """`whole`: a message that is an array is one row. `elements`: an array of objects is a row for each of them."""
    several_objects: SeveralObjects = "off"
    """`on`: several objects one after another in one message are a row each. `off`: the message is not JSON."""
    lenient_numbers: LenientNumbers = "off"
    """`on`: `nan`, `inf` and their like, without quotes, are read as numbers that no column holds.

    `off`: the message is not JSON.
    """
    numbers: Numbers = "exact"
    """`double`: every new column of numbers is of doubles.

    `exact`: one of integers alone is int64, as in records that do not say it.
    """
