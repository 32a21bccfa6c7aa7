r"""What others say, as inert text: a vehicle chooses its serial, its payload and its keys, and people read them in
terminals, logs and Dagster's UI.

A terminal obeys escape sequences, a log obeys line ends, a reader's eye obeys bidirectional controls: `plain` shows
each as its code (`\x1b`). Dagster's UI makes Markdown, and so images and links, of every description: there the text
belongs into a code span, `in_markdown`, or a `fence`.
"""

import re
import traceback

LONGEST = 1000
"""Characters of one value that are shown. A serial has 12 and a key some 60; a message has up to 128 KB."""

_BACKTICKS = re.compile("`+")


def plain(said: object, longest: int = LONGEST) -> str:
    """Return a text in one line of printable characters, cut after so many; all others are shown as their codes."""
    text = str(said)
    shown = "".join(map(_visible, text[:longest]))
    return f"{shown}… ({len(text):,} characters)" if len(text) > longest else shown


def plain_lines(said: object) -> str:
    """Return a text whose line ends are meant, each of its lines plain.

    For our own sentences and documents, which quote others.
    """
    return "\n".join("".join(map(_visible, line)) for line in str(said).split("\n"))


def in_markdown(said: object, longest: int = LONGEST) -> str:
    """Return a plain text as a Markdown code span, in which nothing is an image, a link, HTML or a sign of Markdown."""
    text = plain(said, longest)
    ticks = "`" * (_longest_run(text) + 1)
    return f"{ticks}{text}{ticks}" if text and "`" not in (text[0], text[-1]) else f"{ticks} {text} {ticks}"


def fence(said: object, language: str) -> str:
    """Return a text of several lines as a Markdown code block that nothing in it can end."""
    text = plain_lines(said)
    ticks = "`" * max(3, _longest_run(text) + 1)
    return f"{ticks}{language}\n{text}\n{ticks}"


def plain_traceback(error: BaseException, calls: int | None = None) -> str:
    """Return an error's traceback, with those that it came from, as plain lines: their messages may quote anything.

    `calls` are the innermost to show.
    """
    return plain_lines("".join(traceback.format_exception(error, limit=-calls if calls else None)))


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def _longest_run(text: str) -> int:
    return max(map(len, _BACKTICKS.findall(text)), default=0)
