"""One message's bytes, judged: a status, and the fields of a message that can be read without guessing.

Devices send what they like. Whatever is refused here keeps its bytes in the lake, beside the status that says why.
Numbers are judged as
they were written: one that no column could hold as it is comes out as `msgspec.Raw`, which is its own spelling and fits
no column.
"""

import json
import re
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from itertools import accumulate
from typing import Any, TypeVar

import msgspec

DEPTH = 32
"""Levels of nesting. Telemetry has three or four; parsers and engines give up between 64 and 1,000."""

FIELDS = 1000
"""Different fields of one message, by their paths. 10,000 would make a single row cost 3 MB of Parquet."""

ELEMENTS = 10_000
"""Messages in one array. 128 KB hold 43,000 empty ones."""

FEW_ELEMENTS, ELEMENT_BYTES = 16, 7
"""Of more than so many messages in one payload, each has so many bytes on average: `{"a":1}` has.

What they cost is by the row, and not by the byte.
"""

DIGITS = 512
"""Digits in a row of one number. A double has 17; Python refuses integers of 4,300, and of 640 where it is set to."""

MEMO = 4096
"""Spellings of numbers that are kept with what they denote."""

_decoder, _encoder = msgspec.json.Decoder(), msgspec.json.Encoder()
_decoded, _encoded = _decoder.decode, _encoder.encode

_TEXT = rb'"[^"\\]*(?:\\.[^"\\]*)*"?'
"""A text, also one without an end: it cannot fail, and so never looks twice at a byte."""
_TEXTS = re.compile(_TEXT, re.DOTALL)
_MINUS_ZERO = re.compile(rb"(?<![eE])-0(?![0-9.eE])")
_MINUS_ZERO_OR_TEXT = re.compile(_TEXT + rb"|" + _MINUS_ZERO.pattern, re.DOTALL)
_NO_NUMBER_OR_TEXT = re.compile(
    _TEXT + rb"|(?<![\w.+-])[+-]?(?:nan|inf(?:inity)?)(?![\w.+-])|9e999|" + _MINUS_ZERO.pattern,
    re.DOTALL | re.IGNORECASE,
)
_MINUS_ZERO_WRITTEN = "-0.0e-00"
"""How an integer -0 is handed to the parser, which would otherwise drop its sign."""
_NO_NUMBER = "9e999"
"""What stands for NaN and its like while a lenient parse runs: no double is as large."""
_ZEROS = b"0" * (DIGITS + 1)
_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_BLANKS = b" \t\r\n"
_BLANK = re.compile(r"[ \t\r\n]*")
_STEPS = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}
_NO_BRACKETS = bytes(set(range(256)) - set(_STEPS))

Judged = tuple["Status", dict[str, Any]]
Elements = tuple[Sequence["Status"], Sequence[dict[str, Any]]]
"""What the messages in one payload are judged as, and their fields."""
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class _Memo(dict[_Key, _Value]):
    """What a function returned for what was seen lately: fleets and attackers repeat themselves."""

    def __init__(self, function: Callable[[_Key], _Value]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, key: _Key) -> _Value:
        value = self._function(key)
        if len(self) >= MEMO:
            self.clear()
        self[key] = value
        return value


class Status(StrEnum):
    """What became of a message."""

    OK = "ok"
    PARTIAL = "partial"
    """Readable, and some values are in `_extra` because they fit no column."""
    EMPTY = "empty"
    MALFORMED = "malformed"
    """Not JSON as RFC 8259 has it, in UTF-8; NaN, numbers beyond a double and numbers of more than `DIGITS` digits are
    not.
    """
    NOT_AN_OBJECT = "not_an_object"
    DUPLICATE_NAMES = "duplicate_names"
    """One object says a name twice. Which value is meant cannot be known."""
    TOO_DEEP = "too_deep"
    TOO_MANY_FIELDS = "too_many_fields"
    TOO_MANY_ELEMENTS = "too_many_elements"
    TOO_LARGE = "too_large"
    """Larger than AWS IoT could have written, and so never downloaded: the row has no payload."""
    NO_RECORD = "no_record"
    """Stands in a batch object and is no record of the rule: the payload is what stands there, null where that is too
    long or cannot be unpacked.
    """
    DEFECT = "defect"
    """Reading it failed in a way that nobody foresaw: the log has the traceback, and a rewrite by a repaired version
    reads it.
    """

    @property
    def readable(self) -> bool:
        """Whether the row has typed columns."""
        return self in {Status.OK, Status.PARTIAL}


def judged(payload: bytes, *, lenient: bool = False) -> Judged:
    """Return a message's status and its fields, which are empty unless the status is OK.

    A lenient one may hold `nan` and its like.
    """
    return _judged(*_parsed(payload, lenient=lenient))


def judged_elements(payload: bytes, *, arrays: bool = True, several: bool = False, lenient: bool = False) -> Elements:
    """Return the judgement of each message in an array of objects, or of several objects one after another; else the
    one judgement.
    """
    text, value = _parsed(payload, lenient=lenient, several=several)
    if type(value) is _Several or (arrays and type(value) is list and {*map(type, value)} == {dict}):
        return _array(text, value)
    return alone(_judged(text, value))


def alone(message: Judged) -> Elements:
    """Return a payload's only message."""
    status, fields = message
    return [status], [fields]


def written_as(text: bytes | str) -> Any:
    """Return the value of a JSON text that was judged before, its numbers as they were written."""
    text = text.encode() if isinstance(text, str) else text
    value = _decoded(text)
    return value if _encoded(value) == text else _spelled(text)


def with_numbers(payload: bytes) -> bytes:
    """Return a payload with a number, as many bytes long, wherever `nan` or its like stands: so it can be told where
    each of its values begins and ends.
    """
    return _NO_NUMBER_OR_TEXT.sub(_number_as_long, payload)


def _number_as_long(found: re.Match[bytes]) -> bytes:
    spelt = found[0]
    is_no_number = spelt[-1:].lower() in {b"n", b"f", b"y"} and spelt[:1] != b'"'
    return b"1." + b"5" * (len(spelt) - 2) if is_no_number else spelt


def _judged(text: bytes, message: Any) -> Judged:
    if type(message) is not dict:
        return message if isinstance(message, Status) else Status.NOT_AN_OBJECT, {}
    if len(text) > FIELDS and text.count(b":") > FIELDS and _has_many_fields(message):
        return Status.TOO_MANY_FIELDS, {}
    return _as_written(text, message)


def _array(text: bytes, array: list[dict[str, Any]]) -> Elements:
    if len(array) > min(ELEMENTS, FEW_ELEMENTS + len(text) // ELEMENT_BYTES):
        return alone((Status.TOO_MANY_ELEMENTS, {}))
    status, elements = _as_written(text, array)
    if status is not Status.OK:
        return alone((status, {}))
    many = [_has_many_fields(element) for element in elements] if text.count(b":") > FIELDS else []
    if any(many):
        elements = [{} if has_many else element for has_many, element in zip(many, elements, strict=True)]
        return [Status.TOO_MANY_FIELDS if has_many else Status.OK for has_many in many], elements
    return [Status.OK] * len(elements), elements


def _parsed(payload: bytes, *, lenient: bool, several: bool = False) -> tuple[bytes, Any]:
    """Return the text that was parsed and its value, or why there is none. Nothing that a payload holds raises."""
    if len(payload) > DIGITS and _has_long_number(payload):
        return payload, Status.MALFORMED
    try:
        value = _one_or_several(_decoder.decode_lines(payload)) if several else _decoded(payload)
    except (RecursionError, ValueError):  # msgspec's errors are ValueErrors, as are those of UTF-8 and of long integers
        return _unparsed(payload, lenient=lenient, several=several)
    if payload.count(b"{") + payload.count(b"[") > DEPTH and _is_too_deep(value, DEPTH + (type(value) is _Several)):
        return payload, Status.TOO_DEEP
    return payload, _sound(value)


class _Several(list[Any]):
    """The values that stood one after another in a payload, more than one."""


def _one_or_several(values: list[Any]) -> Any:
    """Return the one value that a payload holds, or all of them. Raises ValueError where there is none."""
    if not values:
        raise ValueError(values)
    return values[0] if len(values) == 1 else _Several(values)


def _sound(value: Any) -> Any:
    """Return what was parsed, or that it is not JSON: of several values, each must be an object."""
    return Status.MALFORMED if type(value) is _Several and {*map(type, value)} != {dict} else value


def _unparsed(payload: bytes, *, lenient: bool, several: bool) -> tuple[bytes, Any]:
    """Say why a payload could not be parsed: by its brackets, and not by when the parser gave up."""
    if not payload:
        return payload, Status.EMPTY
    if _nests_too_deep(payload):
        return payload, Status.TOO_DEEP
    return _leniently(payload, several=several) if lenient else (payload, Status.MALFORMED)


def _leniently(payload: bytes, *, several: bool) -> tuple[bytes, Any]:
    """Parse a payload in which `nan`, `-inf` and their like stand where numbers do.

    They come out as texts that fit no column.
    """
    try:
        text = _NO_NUMBER_OR_TEXT.sub(lambda found: found[0] if found[0][:1] == b'"' else _stand_ins[found[0]], payload)
        return (
            (text, _sound(_numbers_as_written(text, several=several)))
            if text != payload
            else (payload, Status.MALFORMED)
        )
    except (RecursionError, ValueError):
        return payload, Status.MALFORMED


def _stand_in(spelt: bytes) -> bytes:
    """Return what is parsed in place of `nan` or its like, or of an integer -0.

    Raises ValueError for a number of the payload's own beyond a double.
    """
    if spelt == b"-0":
        return _MINUS_ZERO_WRITTEN.encode()
    if spelt.lower() == _NO_NUMBER.encode():
        raise ValueError(spelt)
    return f"{_NO_NUMBER}{int.from_bytes(spelt)}".encode()


def _as_written(text: bytes, value: Any) -> tuple[Status, Any]:
    """Return what was parsed, as it was written.

    Written anew it is the text again, but for blanks, for nearly all messages: then no name was lost, which is to say
    written twice, and every number is the shortest spelling of what was parsed. Only the others are looked at closely.
    Blanks within texts go on both sides.
    """
    several = type(value) is _Several
    anew = _encoder.encode_lines(value) if several else _encoded(value)
    if anew == text or _is_but_for_blanks(text, anew):
        return Status.OK, value
    # Every written name has its colon. As long as no text is escaped, texts have as many in the payload as in the
    # message written anew.
    if (b"\\" in text or text.count(b":") != anew.count(b":")) and _says_a_name_twice(text):
        return Status.DUPLICATE_NAMES, {}
    return Status.OK, value if _NO_NUMBER.encode() in text and _holds_raw(value) else _spelled(text, several=several)


def _is_but_for_blanks(text: bytes, anew: bytes) -> bool:
    """Whether a text is the same written anew.

    Blanks need care only where a text within has some: taking them out leaves every name and colon.
    """
    if b" " not in anew:
        return text.translate(None, _BLANKS) == anew.replace(b"\n", b"")
    return _dense(text) == _dense(anew)


def _dense(text: bytes) -> bytes:
    return text.translate(None, b"\t\r\n").replace(b", ", b",").replace(b'": ', b'":')


def _spelled(text: bytes, *, several: bool = False) -> Any:
    """Parse a text that parses, with every number that a double would change as its own spelling."""
    if _MINUS_ZERO.search(text):
        written = _MINUS_ZERO_WRITTEN.encode()
        if _MINUS_ZERO.search(b" ".join(_TEXTS.findall(text))):
            text = _MINUS_ZERO_OR_TEXT.sub(lambda found: found[0] if found[0][:1] == b'"' else written, text)
        else:
            text = _MINUS_ZERO.sub(written, text)
    return _numbers_as_written(text, several=several)


def _numbers_as_written(text: bytes, *, several: bool) -> Any:
    return _one_or_several(_speller.decode_lines(text)) if several else _speller.decode(text)


def _number(written: str) -> Any:
    if written.startswith(_NO_NUMBER):
        digits = int(written[len(_NO_NUMBER) :])
        return msgspec.Raw(b'"' + digits.to_bytes((digits.bit_length() + 7) // 8) + b'"')
    value = float(written)
    if written == repr(value) or _denotes(written, value):
        return value
    if value in {float("inf"), -float("inf")}:
        raise ValueError(written)
    return msgspec.Raw(b"-0" if written == _MINUS_ZERO_WRITTEN else written.encode())


def _denotes(written: str, value: float) -> bool:
    """Whether a number as it was written is the very number that a double is shown as."""
    if not value:
        return written != _MINUS_ZERO_WRITTEN and not set(re.split("[eE]", written)[0]) & set("123456789")
    try:
        return Decimal(written) == Decimal(repr(value))
    except InvalidOperation:  # an exponent that Decimal does not take
        return False


_speller = msgspec.json.Decoder(float_hook=_Memo(_number).__getitem__)
_stand_ins = _Memo(_stand_in)


def _holds_raw(value: Any) -> bool:
    level = [value]
    while level:
        if any(type(each) is msgspec.Raw for each in level):
            return True
        level = [inner for each in level for inner in _inside(each)]
    return False


def _inside(value: Any) -> Any:
    return value.values() if type(value) is dict else value if isinstance(value, list) else ()


def _is_too_deep(value: Any, depth: int) -> bool:
    """Whether a value nests deeper than it may, level by level: recursion would end at the interpreter's limit."""
    level = [value]
    for _ in range(depth - 1):
        level = [each for each in _within(level) if each and (type(each) is dict or type(each) is list)]
        if not level:
            return False
    return any(type(each) is dict or type(each) is list for each in _within(level))


def _within(level: list[Any]) -> list[Any]:
    within: list[Any] = []
    for each in level:
        within += each.values() if type(each) is dict else each
    return within


def _nests_too_deep(payload: bytes) -> bool:
    """Whether bytes that cannot be parsed open more brackets within each other than they may."""
    if payload.count(b"{") + payload.count(b"[") <= DEPTH:
        return False
    steps = map(_STEPS.__getitem__, _TEXTS.sub(b"", payload).translate(None, _NO_BRACKETS))
    return max(accumulate(steps), default=0) > DEPTH


def _has_long_number(payload: bytes) -> bool:
    return _ZEROS in payload.translate(_AS_ZEROS) and _ZEROS in _TEXTS.sub(b'"', payload).translate(_AS_ZEROS)


def _has_many_fields(message: Any) -> bool:
    """Whether a message has more different fields than `FIELDS`. Objects of one array share theirs."""
    known: dict[str, Any] = {}
    level, fields = [(message, known)], 0
    while level:
        within = []
        for value, names in level:
            if type(value) is dict:
                for name, inner in value.items():
                    if name not in names:
                        names[name] = {}
                        fields += 1
                    within.append((inner, names[name]))
            elif type(value) is list:
                within += [(inner, names) for inner in value]
        if fields > FIELDS:
            return True
        level = [each for each in within if type(each[0]) is dict or type(each[0]) is list]
    return False


def _says_a_name_twice(text: bytes) -> bool:
    """Whether an object says a name twice, in a text that holds one value or several."""
    whole, place = text.decode(), 0
    try:
        while (place := _end_of_blanks(whole, place)) < len(whole):
            _, place = _names.raw_decode(whole, place)
    except _SaidTwice:
        return True
    return False


def _end_of_blanks(text: str, start: int) -> int:
    found = _BLANK.match(text, start)
    return found.end() if found else start


class _SaidTwice(Exception):
    """Ends a parse."""


def _once(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise _SaidTwice


_names = json.JSONDecoder(object_pairs_hook=_once)
