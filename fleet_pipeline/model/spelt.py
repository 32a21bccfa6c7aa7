"""A vehicle's name in what others wrote down of it: as it is, with JSON's escapes, or as in a URL. Pure."""

import re
from urllib.parse import quote

GONE = "*erased*"
"""What stands in the place of a name that was taken out. It names no vehicle: a run that is started anew with it in its
config is refused.
"""

SHORTEST = 6
"""Characters of a name that is looked for in texts: a shorter one is as good as any number, date or word in them."""

_BEFORE = (r"(?<![0-9A-Za-z])", r"(?<=\\[bfnrt])", r"(?<=\\u[0-9A-Fa-f]{4})", r"(?<=%[0-9A-Fa-f]{2})")
"""What a name may follow: no letter and no digit of a longer one, unless they are the end of an escape."""


class Spelling:
    """One name, which is found alone and at the end of a thing's name; a longer one that has it within is another's."""

    def __init__(self, name: str, prefix: str = "") -> None:
        before = "|".join([*_BEFORE, *([f"(?<={re.escape(prefix)})"] if prefix else [])])
        self._pattern = re.compile(f"(?:{before}){''.join(map(_character, name))}(?![0-9A-Za-z])")
        self.is_too_short = len(name) < SHORTEST
        """Whether it is not looked for."""
        self.longest_word = max(re.findall(r"[0-9A-Za-z]+", name), key=len, default="")
        """A part of it that each spelling has which has no escapes of letters or digits."""

    def stands_in(self, text: str) -> bool:
        """Whether a text has the name in it."""
        return not self.is_too_short and bool(self._pattern.search(text))

    def taken_out_of(self, text: str) -> str:
        """Return a text in which `GONE` stands in the place of the name."""
        return text if self.is_too_short else self._pattern.sub(GONE, text)

    def covered_in(self, text: bytes) -> bytes:
        """Return a text of the same length in which the name is covered by asterisks."""
        if self.is_too_short or not (self.longest_word.encode() in text or rb"\u00" in text or b"%" in text):
            return text
        said = text.decode(errors="surrogateescape")
        covered = self._pattern.sub(lambda found: "*" * len(_bytes(found.group())), said)
        return _bytes(covered)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _character(one: str) -> str:
    """Return the pattern of the ways to write a character."""
    code = one.encode("utf-16-be").hex()
    plain = {'"': r'\\*"', "/": r"\\*/", "\\": r"\\+"}.get(one, re.escape(one))
    units = "".join(rf"\\+u{code[at : at + 4]}" for at in range(0, len(code), 4))
    percent = quote(one, safe="") if not one.isascii() else f"%{ord(one):02x}"
    return f"(?:{plain}|(?i:{units}|{percent}))"
