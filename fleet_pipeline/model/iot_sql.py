"""The outline of AWS IoT SQL: clauses in their order, quotes and brackets that end, operators with something on both
sides. Whatever may be right passes: AWS IoT itself judges functions, types and names.

No parser of SQL knows the dialect (`SELECT VALUE`, `encode(*, 'base64')`, `SET @a = …`, a topic filter after FROM).
Sources: AWS IoT Core Developer Guide, iot-sql-reference, iot-sql-select, -from, -where, -set, -operators, -literals,
    -case, -nested-queries.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from fleet_pipeline.model.meant import did_you_mean

_PLAIN = r"""(?P<string>'(?:[^']|'')*'|"(?:[^"]|"")*")"""
_ESCAPED = r"""(?P<string>'(?:[^'\\]|''|\\.)*'|"(?:[^"\\]|""|\\.)*")"""
_OTHERS = (
    r"|(?P<blank>\s+)|(?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)|(?P<name>[@$\w]+|`[^`]*`)"
    r"|(?P<compares><>|<=|>=|!=|==|[<>=])|(?P<counts>[+*/%-])|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<other>[^'\"`])"
)
_CLOSES = {")": "(", "]": "[", "}": "{"}
_WORDS = frozenset(
    {"AND", "ARRAY", "AS", "BETWEEN", "CASE", "CAST", "DATE", "DISTINCT", "ELSE", "END", "ESCAPE", "EXISTS", "FALSE"}
    | {"IN", "INTERVAL", "IS", "LIKE", "NOT", "NULL", "OR", "THEN", "TIME", "TIMESTAMP", "TRUE", "UNDEFINED", "UNNEST"}
    | {"VALUE", "WHEN"}
)
"""Words beside which a value may stand without an operator. More than AWS IoT has: it is not ours to refuse them."""

FORM = "write SELECT … FROM 'topic' WHERE …"
"""What a statement looks like."""

_CLAUSES = ("SET", "SELECT", "FROM", "WHERE")
_JOINS = frozenset({"AND", "OR"})
_VALUES_OF_A_LIST = 2
"""Values that may follow one another in what is selected: one, and a name for it."""


@dataclass(frozen=True, slots=True)
class Token:
    """One piece of a statement, with its place in brackets."""

    kind: str
    text: str
    depth: int

    @property
    def word(self) -> str:
        """The piece as a keyword is compared."""
        return self.text.upper() if self.kind == "name" else ""

    @property
    def is_value(self) -> bool:
        """Whether it is a name, a number or a text, and no word of the language."""
        return self.kind in {"string", "number"} or (self.kind == "name" and self.word not in {*_WORDS, *_CLAUSES})

    @property
    def is_operator(self) -> bool:
        """Whether a value must stand on both sides of it, or, of + and -, behind it."""
        return self.kind in {"compares", "counts"} or self.word in _JOINS


@lru_cache(maxsize=1024)  # asked for with each message of a rule
def topic_filter(sql: str) -> str:
    """Return the topic filter that a statement reads from; empty where it names none, as a rule for Basic Ingest alone
    need not, or cannot be read.
    """
    with suppress(ValueError):
        return next((_inside(then.text) for word, then in _pairs(tokens(sql)) if word.word == "FROM"), "")
    return ""


def check(sql: str) -> None:
    """Raise ValueError, in words, for a statement that AWS IoT would not take, as far as its outline tells."""
    _check(tokens(sql), outermost=True)


def tokens(sql: str) -> list[Token]:
    """Return the pieces of a statement. Raises ValueError for quotes and brackets that do not end."""
    try:
        return _tokens(sql, _PLAIN)
    except ValueError:
        return _tokens(sql, _ESCAPED)  # whether `\'` is a quote in a text, AWS does not say


def _tokens(sql: str, strings: str) -> list[Token]:
    at = 0
    depth: list[str] = []
    found: list[Token] = []
    form = re.compile(strings + _OTHERS, re.DOTALL)
    sql = re.sub(r"\s*;\s*$", "", sql)
    while at < len(sql):
        match = form.match(sql, at)
        if match is None:
            raise ValueError(f"the quote {sql[at]} before {_shown(sql[at + 1 :])} has no end")
        kind, text, at = str(match.lastgroup), match[0], match.end()
        if kind == "close" and (not depth or depth.pop() != _CLOSES[text]):
            raise ValueError(f"{text} after {_shown(sql[max(0, at - 21) : at - 1])} closes nothing")
        if kind in {"name", "number"} and _follows_a_dot(found):
            kind = "field"
        if kind != "blank":
            found.append(Token(kind, text, len(depth)))
        if kind == "open":
            depth.append(text)
    if depth:
        raise ValueError(f"{depth[-1]} is not closed")
    if "/*" in re.sub(strings, "", sql):
        raise ValueError("AWS IoT SQL takes no comments")
    return found


def _follows_a_dot(found: Sequence[Token]) -> bool:
    """Whether the next piece is a field of what stands before a dot; a number may end with one."""
    return len(found) > 1 and found[-1].text == "." and found[-2].kind != "number"


def _check(found: Sequence[Token], *, outermost: bool) -> None:
    """Check a statement, or what stands in one pair of brackets, and then whatever is in brackets within it."""
    first = found[0].word if found else ""
    if outermost and first not in {"SELECT", "SET"}:
        raise ValueError(FORM)
    if first in {"SELECT", "SET"} and (outermost or len(found) > 1):
        _check_clauses(_clauses(found), outermost=outermost)
    else:
        _check_values(found, 1)
    for inner in _inner(found):
        _check(inner, outermost=False)


def _check_clauses(clauses: Sequence[tuple[str, Sequence[Token]]], *, outermost: bool) -> None:
    names = [name for name, _ in clauses]
    for name in names:
        if names.count(name) > 1:
            one = "a rule has one topic filter" if name == "FROM" else FORM
            raise ValueError(f"it has {names.count(name)} times {name}: {one}")
    if names != sorted(names, key=_CLAUSES.index) or "SELECT" not in names:
        raise ValueError(f"its clauses are {', '.join(names)}: {FORM}")
    for name, said in clauses:
        if not said:
            raise ValueError(f"nothing stands behind {name}")
        if name == "FROM" and outermost:
            _check_from(said)
        else:
            _check_values(said, 1 if name in {"SET", "WHERE"} else _VALUES_OF_A_LIST)


def _check_from(said: Sequence[Token]) -> None:
    source, *rest = said
    if source.kind != "string":
        raise ValueError(f"write the topic filter behind FROM in quotes: FROM '{source.text}…'")
    if rest and rest[0].word == "AS":
        rest = rest[1:]
    if len(rest) > 1:
        meant = did_you_mean(rest[0].text, ("WHERE",)) or "only WHERE may"
        raise ValueError(f"{rest[0].text} stands behind FROM {source.text}: {meant}")


def _check_values(said: Sequence[Token], in_a_row: int) -> None:
    """Refuse operators and commas with nothing beside them, and more values in a row than there may be."""
    row = 0
    for token, before, after in _neighbours(_level(said)):
        row = _row(row, token, before)
        if row > in_a_row:
            behind = before.text if before else ""
            hint = did_you_mean(behind, _CLAUSES) or FORM
            raise ValueError(f"{token.text} stands behind {behind} with nothing between them: {hint}")
        if token.text == "," and (before is None or after is None or after.text == ","):
            raise ValueError("a comma stands where nothing comes before it, or nothing follows")
        _check_operator(token, before, after)


def _row(row: int, token: Token, before: Token | None) -> int:
    """Return how many values stand in a row up to a piece: a field, a call or an index belongs to what is before it."""
    if token.kind in {"field", "open"} or token.text == ".":
        begins = token.kind == "open" and (before is None or not (before.is_value or before.kind in {"field", "open"}))
        return 1 if begins else row
    return row + 1 if token.is_value or _is_everything(token, before) else 0


def _check_operator(token: Token, before: Token | None, after: Token | None) -> None:
    if not token.is_operator or _is_everything(token, before):
        return
    alone = after is None or after.text in {",", ":"} or (after.is_operator and after.text not in {"+", "-", "*"})
    signed = token.text in {"+", "-"}
    if alone or (not signed and (before is None or before.text in {",", ":"})):
        raise ValueError(f"{token.text} has nothing {'behind' if alone else 'before'} it")


def _is_everything(token: Token, before: Token | None) -> bool:
    """Whether it is the `*` that stands for the whole message."""
    return token.text == "*" and (before is None or before.text == "," or before.word in _WORDS or before.is_operator)


def _neighbours(level: Sequence[Token]) -> Iterator[tuple[Token, Token | None, Token | None]]:
    return zip(level, [None, *level], [*level[1:], None], strict=False)


def _level(said: Sequence[Token]) -> list[Token]:
    """Return the pieces that stand in no brackets of their own; of brackets, the first."""
    least = min((each.depth for each in said), default=0)
    return [each for each in said if each.depth == least and each.kind != "close"]


def _inner(found: Sequence[Token]) -> Iterator[Sequence[Token]]:
    """Yield what stands in each pair of brackets of the first level."""
    least, start = min((each.depth for each in found), default=0), 0
    for place, token in enumerate(found):
        if token.depth == least and token.kind == "open":
            start = place + 1
        if token.depth == least and token.kind == "close":
            yield found[start:place]


def _clauses(found: Sequence[Token]) -> list[tuple[str, Sequence[Token]]]:
    least = found[0].depth
    heads = [
        place
        for place, token in enumerate(found)
        if token.depth == least and token.word in _CLAUSES and (not place or token.word != "SET")
    ]
    return [
        (found[head].word, found[head + 1 : end]) for head, end in zip(heads, [*heads[1:], len(found)], strict=True)
    ]


def _pairs(found: Sequence[Token]) -> Iterator[tuple[Token, Token]]:
    """Yield what stands before a text, with it, outside of all brackets."""
    found = [each for each in found if not each.depth]
    return ((first, then) for first, then in pairwise(found) if then.kind == "string")


def _inside(text: str) -> str:
    return text[1:-1].replace(text[0] * 2, text[0])


def _shown(text: str) -> str:
    return f"{text[:20]!r}"
