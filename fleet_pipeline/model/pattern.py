"""Regular expressions that settings may say of what vehicles send: those that are read in one way, and quickly,
whatever is sent.

A hostile vehicle chooses the text, so an expression that goes back and forth over it (`(a+)+`) would hold the hook up
until AWS IoT gives in.
What is left: characters, classes, words to choose from, each a fixed number of times or between two; no `*`, `+`, `.`
or nesting.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

_CHARACTER = r"[0-9A-Za-z_:@/#,=]"
_CLASS = rf"\[(?:{_CHARACTER}(?:-{_CHARACTER})?|\\\.|\\-|\.)+-?\]"
_WORDS = r"\((?:\?:)?[0-9A-Za-z_:.@/#,=-]+(?:\|[0-9A-Za-z_:.@/#,=-]+)*\)"
_PART = re.compile(
    rf"(?P<what>{_CHARACTER}|-|\\\.|\\-|\\d|{_CLASS}|{_WORDS})(?P<times>\{{[0-9]{{1,3}}(?:,[0-9]{{1,3}})?\}}|\?)?"
)

VARYING_LIMIT = 4
"""Parts of an expression that may be read at more than one length: the steps of a whole match grow with each as the
text's length does.
"""

LENGTH_LIMIT = 128
"""Characters of a text that an expression may take."""


@dataclass(frozen=True)
class _Part:
    """What stands there, any of these texts, and how many times."""

    texts: tuple[str, ...]
    least: int
    most: int

    @property
    def varies(self) -> bool:
        return self.least < self.most or len({len(text) for text in self.texts}) > 1

    @property
    def shortest(self) -> int:
        return self.least * min(map(len, self.texts))

    @property
    def longest(self) -> int:
        return self.most * max(map(len, self.texts))


@dataclass(frozen=True)
class Pattern:
    """An expression that a whole text must match.

    Raises ValueError, in words, for one that is not among those that are taken.
    """

    text: str

    def __post_init__(self) -> None:
        """Refuse what could be read slowly, or what has no end."""
        parts = self._parts
        if sum(part.varies for part in parts) > VARYING_LIMIT:
            raise ValueError(f"at most {VARYING_LIMIT} of its parts may vary in length")
        if not 0 < self.longest <= LENGTH_LIMIT:
            raise ValueError(f"it may take 1 to {LENGTH_LIMIT} characters, and not {self.longest}")

    @property
    def regex(self) -> str:
        """The expression as Python reads it, without the marks of its ends: whoever uses it matches the whole text."""
        return self.text.removeprefix("^").removesuffix("$").replace("\\d", "[0-9]")

    @property
    def longest(self) -> int:
        """Characters of the longest text that it takes."""
        return sum(part.longest for part in self._parts)

    @property
    def characters(self) -> frozenset[str]:
        """Every character that a text may have."""
        return frozenset(character for part in self._parts for text in part.texts for character in text)

    @property
    def shortest(self) -> int:
        """Characters of the shortest text that it takes."""
        return sum(part.shortest for part in self._parts)

    def takes(self, text: str) -> bool:
        """Say whether a whole text matches."""
        return re.fullmatch(self.regex, text, re.ASCII) is not None

    def example(self, number: int) -> str:
        """Return a text that it takes: another for each number, as far as there are so many of the shortest length that
        is not empty.
        """
        said: list[str] = []
        for part in reversed(self._parts):
            for _ in range(part.least if self.shortest else part.most):
                number, place = divmod(number, len(part.texts))
                said.append(part.texts[place])
        return "".join(reversed(said))

    @cached_property
    def _parts(self) -> tuple[_Part, ...]:
        return tuple(self._read())

    def _read(self) -> Iterator[_Part]:
        at, text = 0, self.regex
        while at < len(text):
            found = _PART.match(text, at)
            if found is None:
                allowed = "characters, classes as [0-9A-Z], words as (AB|CD), each with {2}, {2,5} or ? behind it"
                raise ValueError(f"{text[at:]!r} in it is not among {allowed}")
            yield _part(found["what"], found["times"] or "{1}")
            at = found.end()


def _part(what: str, times: str) -> _Part:
    least, _, most = ("0", ",", "1") if times == "?" else times[1:-1].partition(",")
    if int(most or least) < int(least):
        raise ValueError(f"{times} in it ends before it begins")
    return _Part(_texts(what), int(least), int(most or least))


def _texts(what: str) -> tuple[str, ...]:
    if what.startswith("("):
        return tuple(what[1:-1].removeprefix("?:").split("|"))
    if not what.startswith("["):
        return (what.removeprefix("\\"),)
    texts = tuple(
        dict.fromkeys(
            each
            for first, last in re.findall(r"\\?(.)(?:-(?!\])\\?(.))?", what[1:-1])
            for each in _range(first, last or first)
        )
    )
    if not texts:
        raise ValueError(f"{what} in it takes nothing")
    return texts


def _range(first: str, last: str) -> tuple[str, ...]:
    if last < first:
        raise ValueError(f"{first}-{last} in it ends before it begins")
    return tuple(map(chr, range(ord(first), ord(last) + 1)))
