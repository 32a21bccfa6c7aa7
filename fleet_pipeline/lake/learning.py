"""What messages teach of columns that a table does not have yet: which fields get one, and of which kind.

One odd message decides neither. What was seen is counted over all messages of an hour, or of all hours where a table is
rewritten, before anything is decided, so it matters not where in the hour a message stands.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from fleet_pipeline.lake.contract import COLUMNS, DECIMAL, EXACT, SCALARS, UINT64_DIGITS, Column, Contract
from fleet_pipeline.lake.structs import Path

FIELDS_NOTED = 4 * COLUMNS
"""Fields of which it is counted how many messages have them.

Past that the rarest are forgotten: a flood of names must not cost memory.
"""

INT, INT64 = "int", "int64"
"""Kinds at which integers are at home: up to 2^53, which doubles hold as well, and beyond."""

_HOLD = {"int64": (INT, INT64), "double": (INT, "double"), DECIMAL: (INT, INT64, DECIMAL)}
"""Which numbers each kind of column holds; among kinds that hold as many, the first is taken."""

WHOLE = {INT64: range(-(2**63), 2**63), DECIMAL: range(1 - 10**UINT64_DIGITS, 10**UINT64_DIGITS)}
"""Which integers each kind of whole numbers holds."""
_NONE = type(None)

Homes = dict[str, int]
"""How many messages have a value that is at home in each kind; "" where it is at home in none."""


@dataclass
class Evidence:
    """Which fields without a column some messages have, and of what kinds."""

    messages: int = 0
    """Readable ones."""
    fields: dict[Path, Homes] = field(default_factory=dict)

    def add(self, other: "Evidence") -> None:
        """Count what was seen in other messages, too."""
        self.messages += other.messages
        for path, homes in other.fields.items():
            known = self.fields.setdefault(path, {})
            for home, count in homes.items():
                known[home] = known.get(home, 0) + count
        if len(self.fields) > FIELDS_NOTED:
            self.fields = dict(
                sorted(self.fields.items(), key=lambda found: -sum(found[1].values()))[: FIELDS_NOTED // 2]
            )

    def columns(self, contract: Contract, messages: int) -> list[Column]:
        """Return the columns that a contract should get, those of most messages first: each has so many messages, of
        its kind.

        Of fewer messages than twice as many, half must have it; but never one alone, unless the table has no columns
        yet.
        """
        needed = min(messages, max(-(-self.messages // 2), 2 if contract.columns else 1))
        found = ((path, *kind_of_most(homes, contract.form.numbers, needed)) for path, homes in self.fields.items())
        wanted = [
            (count, contract.column(path, kind)) for path, kind, count in found if kind != "[]" and count >= needed
        ]
        return [column for _, column in sorted(wanted, key=lambda each: (-each[0], each[1].name, each[1].path))]


def kind_of_most(homes: Homes, numbers: str, needed: int = 1) -> tuple[str, int]:
    """Return the kind in which a column holds most messages, and how many these are: 0 where another kind holds as
    many, which settles nothing.

    Decimals are chosen when so many messages need them.
    """
    families = Counter[str]()
    for home, count in homes.items():
        families[_family(home)] += count if home != "[]" else 0
    family = min(families, key=lambda each: (-families[each], each))
    if family == "list":
        kind, count = _kind_of_lists(homes, families["list"], numbers, needed)
    else:
        kind, count = _kind_of_numbers(homes, numbers, needed) if family == "number" else (family, families[family])
    tied = families[family] and list(families.values()).count(families[family]) > 1
    return kind, 0 if tied else count


def _family(home: str) -> str:
    if home == "json" or home.endswith("[]"):
        return "list"
    return home if home in {"bool", "string"} else "number"


def _kind_of_numbers(homes: Mapping[str, int], numbers: str, needed: int) -> tuple[str, int]:
    held = {kind: sum(homes.get(home, 0) for home in of) for kind, of in _HOLD.items()}
    if numbers == "double":
        return "double", held["double"]
    if homes.get(DECIMAL, 0) < max(1, needed):
        del held[DECIMAL]
    kind = max(held, key=lambda each: held[each])
    ways = {
        tuple(home for home in _HOLD[each] if homes.get(home)) for each, count in held.items() if count == held[kind]
    }
    return kind, held[kind] if len(ways) == 1 else 0


def _kind_of_lists(homes: Homes, lists: int, numbers: str, needed: int) -> tuple[str, int]:
    """A kind of arrays needs more than half of them; JSON text holds any."""
    items = {home[:-2]: count for home, count in homes.items() if home.endswith("[]") and home != "[]"}
    of, count = _kind_of_numbers(items, numbers, needed)
    kind, count = max(
        [(f"{each}[]", items.get(each, 0)) for each in ("bool", "string")] + [(f"{of}[]", count)],
        key=lambda found: found[1],
    )
    if not lists:
        return "[]", homes["[]"]
    return (kind, count) if 2 * count > lists else ("json", lists)


def homes_of(values: Sequence[Any], messages: Sequence[int] | None = None) -> Homes:
    """Return where the values of a field, one a row, are at home; None counts not.

    Given each row's message, a message counts once for a kind.
    """
    if messages is not None:
        return Counter(
            home
            for _, home in {(messages[row], home_of(value)) for row, value in enumerate(values) if value is not None}
        )
    if len(values) == 1:
        return {home_of(value): 1 for value in values}
    return _homes_at_once(values) or Counter(home_of(value) for value in values if value is not None)


def _homes_at_once(values: Sequence[Any]) -> Homes | None:
    """Count values of which one look at their types says enough."""
    types = set(map(type, values))
    rows = len(values)
    if _NONE in types:
        types.remove(_NONE)
        rows = sum([value is not None for value in values])
    if types == {list}:
        return _homes_of_lists(list(filter(None, values)), rows)
    if types in ({bool}, {str}, {float}):
        return Counter({SCALARS[types.pop()]: rows})
    return _homes_of_scalars(values) if types and types <= SCALARS.keys() else None


def _homes_of_scalars(values: Sequence[Any]) -> Homes | None:
    """Count values that are no lists, if doubles hold all the integers among them."""
    integers = [value for value in values if type(value) is int]
    if integers and not -EXACT <= min(integers) <= max(integers) <= EXACT:
        return None
    types = Counter(map(type, values))
    return +Counter({INT: len(integers)} | {SCALARS[of]: types[of] for of in (bool, float, str)})


def _homes_of_lists(filled: Sequence[list[Any]], rows: int) -> Homes | None:
    """Count lists, of so many rows, whose items are all of one home.

    Those that hold nothing are not among the filled.
    """
    items = list(chain.from_iterable(filled))
    types = set(map(type, items))
    homes = None if len(types) > 1 or types & {list, _NONE} else _homes_at_once(items)
    if not items or (homes is not None and len(homes) == 1):
        return +Counter({"[]": rows - len(filled)} | {f"{home}[]": len(filled) for home in homes or ()})
    return None


def home_of(value: Any) -> str:
    """Return the kind at which a value, not None, is at home."""
    if type(value) is int:
        return (
            INT
            if -EXACT <= value <= EXACT
            else INT64
            if value in WHOLE[INT64]
            else DECIMAL
            if value in WHOLE[DECIMAL]
            else ""
        )
    if type(value) is not list:
        return SCALARS.get(type(value), "")
    homes = _homes_of_items(value)
    for kind in chain(homes if len(homes) == 1 else (), (INT64, "double", DECIMAL)):
        if homes and homes <= {kind, *_HOLD.get(kind, ())} and kind not in {"", "json"}:
            return f"{kind}[]"
    return "json" if homes else "[]"


def _homes_of_items(items: list[Any]) -> set[str]:
    """Return where the items of a list are at home; of its integers those that lie farthest from 0 on either side say
    enough.
    """
    types = set(map(type, items)) - {_NONE}
    homes = {"json" if of in {list, dict} else SCALARS.get(of, "") for of in types - {int}}
    if int in types:
        integers = [item for item in items if type(item) is int]
        homes |= {home_of(min(integers)), home_of(max(integers))}
    return homes
