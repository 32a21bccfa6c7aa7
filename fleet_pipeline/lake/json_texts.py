"""JSON values where nothing says where one ends but they themselves: a line each, several in one, or one over several
lines. What they say is not looked at.
"""

import json
import re
from collections import deque
from collections.abc import Sequence

import msgspec

from fleet_pipeline.lake.rows import LARGEST

LONGEST_RECORD = LARGEST * 4 // 3 + 4096
"""Bytes of an envelope. What goes on for longer without an end is no record."""

DEEPEST = 64
"""Levels of a value that goes on over several lines."""

_VALUES = msgspec.json.Decoder(msgspec.Raw)
_ANY = json.JSONDecoder()
_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["{}\[\]]')
_CLOSES = {ord("{"): ord("}"), ord("["): ord("]")}
_BLANKS = " \t\r\n"


class Messages:
    """Tells apart the messages in lines, which come some at a time: a value each, whether it is a line, stands behind
    another one in a line, or goes on over several, up to `LARGEST` bytes. A line that is no JSON, and is no part of a
    value, is a message as it stands. Blank lines are none.

    Lines that are read anew, because what they began does not end, cost at most twice the bytes of all, and a megabyte:
    then no value goes on over lines any more.
    """

    def __init__(self) -> None:
        self._open: list[bytes] = []
        """The lines so far of a value that goes on."""
        self._size = 0
        self._seen = self._again = 0
        """Bytes of lines that came, and of those that were read anew."""
        self._closing: list[int] = []
        """What is still to come to end it, the outermost first."""
        self._last = b""
        """Its last sign so far that is no blank."""

    def of(self, lines: Sequence[bytes]) -> list[bytes]:
        """Return the messages that end in these lines, byte for byte."""
        self._seen += len(lines) + sum(map(len, lines))
        if not self._open and (plain := _a_line_each(lines)) is not None:
            return plain
        found = list[bytes]()
        self._read(deque(lines), found)
        return found

    def rest(self) -> list[bytes]:
        """Return the messages in what is left when no more lines come: nothing that began there is whole."""
        found, left = list[bytes](), deque[bytes]()
        while self._open:
            self._give_up(found, left)
            self._read(left, found)
        return found

    def _read(self, left: deque[bytes], found: list[bytes]) -> None:
        while left:
            line = left.popleft()
            if self._open:
                self._go_on(line, found, left)
            elif line.strip():
                self._begin(line, found)

    def _begin(self, line: bytes, found: list[bytes]) -> None:
        if is_json(line):
            found.append(line)
            return
        *before, last = told_apart(line)
        found += [text for text in before if text.strip()]
        may_go_on = last.lstrip()[:1] in {b"{", b"["} and self._again <= LARGEST + 2 * self._seen
        if may_go_on and self._takes(last) is None and self._closing:
            self._open, self._size, self._last = [last], len(last), last.rstrip()[-1:]
            return
        self._closing = []
        if last.strip():
            found.append(last)

    def _go_on(self, line: bytes, found: list[bytes], left: deque[bytes]) -> None:
        self._size += len(line) + 1
        stop = self._takes(line) if self._size <= LARGEST and self._may_follow(line) else _NOWHERE
        if stop is None:
            self._open.append(line)
            self._last = line.rstrip()[-1:] or self._last
            return
        text, rest = b"\n".join([*self._open, line[:stop]]), line[stop:]
        if stop == _NOWHERE or not is_json(text):
            left.appendleft(line)
            self._give_up(found, left)
            return
        self._open, self._closing = [], []
        found.append(text if rest.strip() else text + rest)
        if rest.strip():
            left.appendleft(rest)

    def _give_up(self, found: list[bytes], left: deque[bytes]) -> None:
        """Take the first line for a message of its own, and have the others read anew."""
        found.append(self._open[0])
        left.extendleft(reversed(self._open[1:]))
        self._again += sum(len(line) + 1 for line in self._open[1:])
        self._open, self._closing = [], []

    def _takes(self, line: bytes) -> int | None:
        """Note what a line opens and closes. Return where the value ends in it, `_NOWHERE` where it is part of none,
        None where it goes on.
        """
        for token in _TOKENS.finditer(line):
            sign = token[0][0]
            if sign in _CLOSES:
                self._closing.append(_CLOSES[sign])
                if len(self._closing) > DEEPEST:
                    return _NOWHERE
            elif len(token[0]) == 1:  # a bracket that closes, or a text that does not end
                if not self._closing or self._closing.pop() != sign:
                    return _NOWHERE
                if not self._closing:
                    return token.end()
        return None

    def _may_follow(self, line: bytes) -> bool:
        """Say whether a line may stand behind those before: a half line before a whole one is told at once."""
        before, first, is_object = self._last, line.lstrip()[:1], self._closing[-1] == ord("}")
        if not first:
            return True
        if before == b"{" or (before == b"," and is_object):
            return first == b'"' or (first == b"}" and before == b"{")
        if before in {b"[", b",", b":"}:
            return first not in {b",", b":", b"}"} and (first != b"]" or before == b"[")
        return first in {b",", b":", b"}", b"]"}


_NOWHERE = -1


def _a_line_each(lines: Sequence[bytes]) -> list[bytes] | None:
    """Return the lines that are not blank, if each is a value; else None."""
    some = [line for line in lines if line.strip()]
    try:
        values = _VALUES.decode_lines(b"\n".join(some))
    except (RecursionError, ValueError):  # msgspec's errors are ValueErrors
        return None
    pairs = zip(values, some, strict=False)
    return some if len(values) == len(some) and all(bytes(value) == line.strip() for value, line in pairs) else None


def is_json(text: bytes) -> bool:
    """Say whether a text is one JSON value."""
    try:
        _VALUES.decode(text)
    except (RecursionError, ValueError):
        return False
    return True


def told_apart(line: bytes) -> list[bytes]:
    """Return what stands in a line: one value as a rule, or several one right after another."""
    if line.count(b"{") < 2:  # noqa: PLR2004 (two objects)
        return [line]
    several, rest = one_after_another(line)
    return [*several, *([rest] if rest else [])] or [line]


def one_after_another(text: bytes) -> tuple[list[bytes], bytes]:
    """Return the JSON values at the beginning of a text, and what follows them; all of it as one where there is none
    and it is too long.
    """
    found, start = list[bytes](), 0
    said = text.decode("latin-1")  # a character for each byte: objects end where they end in UTF-8, too
    while start < len(said):
        begin = start
        while begin < len(said) and said[begin] in _BLANKS:
            begin += 1
        try:
            _, stop = _ANY.raw_decode(said, begin)
        except (RecursionError, ValueError):
            break
        found.append(text[start:stop])
        start = stop
    rest = text[start:]
    if not found and len(rest) > LONGEST_RECORD:
        return [rest], b""
    return found, rest
