"""A rule's typed columns: learnt from its messages, recorded once they are written, and from then on only added to.

A column has one kind for good, because files of one table that disagree about a column break its readers. A value that is equal in the
column's kind goes in (5 in a column of doubles, 5.0 in a column of integers); any other stays in `_extra`. Widening a recorded column is a
person's decision: pin the new kind and rewrite the table as a new generation.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Any, Self

import msgspec
import pyarrow as pa

from fleet_pipeline.errors import ContractBroken

COLUMNS = 1000
"""Columns of one table. A fleet that names more has names that are values."""

NAME_LENGTH = 128
"""Characters of a column's name: less than Glue's 255, more than any field's name needs."""

EXACT = 2**53
"""Integers up to here are the same number as a double."""

KINDS: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "string": pa.string(),
    "bool[]": pa.list_(pa.bool_()),
    "int64[]": pa.list_(pa.int64()),
    "double[]": pa.list_(pa.float64()),
    "string[]": pa.list_(pa.string()),
    "json": pa.string(),
    "[]": pa.list_(pa.null()),
}
"""What a column may hold, in Arrow's types. `json` is the text of arrays that hold objects, arrays, or a mixture; `[]` is not yet known."""

SCALARS: dict[type, str] = {bool: "bool", int: "int64", float: "double", str: "string"}
"""The kinds of values that hold no others, by the types of which a parser makes them."""

_PARTITION = {"rule", "date", "hour"}
_RESERVED_CHARACTERS = set(' ,;{}()\n\t="`\\')
"""Not in a column's name: Spark refuses them in Parquet, and quotes end a quoted name."""


@dataclass(frozen=True, slots=True)
class Column:
    """A field of the messages, by its path through nested objects, and what its column holds."""

    path: tuple[str, ...]
    kind: str

    @property
    def name(self) -> str:
        """The column's name: `position_lat` for `{"position": {"lat": …}}`."""
        return column_name(self.path)


@dataclass(frozen=True)
class Contract:
    """The typed columns of a rule, by name. The first `recorded` of them stand in the lake and keep their kind."""

    columns: Mapping[str, Column] = field(default_factory=dict)
    recorded: int = 0
    number: int = -1
    """Which record of the lake this is; -1 before the first."""
    pinned: bool = False
    """Whether new fields stay in `_extra` rather than become columns."""

    @cached_property
    def owners(self) -> dict[str, tuple[str, ...]]:
        """The paths that own a name, whatever its case: Athena cannot tell `Speed` from `speed`."""
        return {name.casefold(): column.path for name, column in self.columns.items()}

    @cached_property
    def fixed(self) -> frozenset[str]:
        """The names of the recorded columns."""
        return frozenset(list(self.columns)[: self.recorded])

    @property
    def schema(self) -> pa.Schema:
        """The typed columns as Arrow has them."""
        return pa.schema([(name, KINDS[column.kind]) for name, column in self.columns.items()])

    def takes(self, path: tuple[str, ...]) -> bool:
        """Whether a field may have a column of its own."""
        name = column_name(path)
        if (owner := self.owners.get(name.casefold())) is not None:
            return owner == path
        return not self.pinned and len(self.columns) < COLUMNS and _is_good_name(name)

    def learning(self, found: Iterable[Column]) -> Self:
        """Return the contract with what was found: unknown columns added, and kinds that are not recorded joined."""
        columns = dict(self.columns)
        for column in sorted(found, key=lambda column: column.name):
            known = columns.get(column.name)
            if known is None and len(columns) < COLUMNS and self.takes(column.path):
                columns[column.name] = column
            elif known is not None and column.name not in self.fixed:
                columns[column.name] = Column(column.path, join(known.kind, column.kind) or known.kind)
        return type(self)(columns, self.recorded, self.number, self.pinned)

    def adding(self, learnt: Self) -> Self:
        """Return this record with the columns that another contract has beyond it, as the lake's next record."""
        new = [column for column in learnt.columns.values() if column.kind != "[]" and column.name not in self.columns and self.takes(column.path)]
        if not new:
            return self
        columns = dict(self.columns) | {column.name: column for column in new[: COLUMNS - len(self.columns)]}
        return type(self)(columns, len(columns), self.number + 1, self.pinned)

    def pinning(self, wanted: Self) -> Self:
        """Return the lake's next record, with the wanted columns and no room for others. Raises ContractBroken when one that stands would change."""
        broken = [line for line in self.difference(wanted) if not line.startswith("+")]
        if broken:
            raise ContractBroken(tuple(broken))
        if self.pinned and len(self.columns) == len(wanted.columns):
            return self
        columns = dict(self.columns) | dict(wanted.columns)
        return type(self)(columns, len(columns), self.number + 1, pinned=True)

    def difference(self, other: Self) -> list[str]:
        """Return what another contract has more (+), less (-) and otherwise (~), a line a column."""
        lines = [f"- {name} {column.kind}" for name, column in self.columns.items() if name not in other.columns]
        for name, column in other.columns.items():
            mine = self.columns.get(name)
            if mine is None:
                lines.append(f"+ {name} {column.kind}")
            elif mine != column:
                lines.append(f"~ {name} {mine.kind} -> {column.kind}" if mine.kind != column.kind else f"~ {name} {mine.path} -> {column.path}")
        return lines

    def to_json(self) -> bytes:
        """Return the record's text; the inverse of `of_json`."""
        columns = [{"name": name, "path": column.path, "kind": column.kind} for name, column in self.columns.items()]
        return msgspec.json.format(msgspec.json.encode({"pinned": self.pinned, "columns": columns}), indent=1)

    @classmethod
    def of_json(cls, text: bytes, number: int) -> Self:
        """Return the contract that a record of the lake holds."""
        record = msgspec.json.decode(text)
        columns = [Column(tuple(column["path"]), column["kind"]) for column in record["columns"]]
        return cls({column.name: column for column in columns}, len(columns), number, record["pinned"])


def column_name(path: tuple[str, ...]) -> str:
    """Return the name of the column of a field."""
    return "_".join(path)


def kind_of(value: Any) -> str:
    """Return the kind in which a single value, not None, is at home."""
    if type(value) is not list:
        return SCALARS[type(value)]
    kinds = {SCALARS.get(type(item), "json") for item in value if item is not None}
    if kinds == {"int64", "double"}:
        return "double[]"
    return f"{kinds.pop()}[]" if len(kinds) == 1 and "json" not in kinds else "json" if kinds else "[]"


def join(one: str, other: str) -> str | None:
    """Return the kind that holds the values of both, or None for kinds that have nothing in common."""
    if one == other or _is_list(one) != _is_list(other):
        return one if one == other else None
    if {one, other} == {"int64", "double"}:
        return "double"
    if not _is_list(one):
        return None
    if "[]" in {one, other}:
        return other if one == "[]" else one
    return "double[]" if {one, other} == {"int64[]", "double[]"} else "json"


def common_kind(values: Iterable[Any]) -> str:
    """Return the kind of most of the values, none of which is None; among equals the first by name."""
    families: dict[str, list[str]] = {}
    for value in values:
        kind = kind_of(value)
        families.setdefault("list" if _is_list(kind) else "number" if kind in {"int64", "double"} else kind, []).append(kind)
    most = min(families.items(), key=lambda family: (-len(family[1]), family[0]))[1]
    return reduce(lambda one, other: join(one, other) or one, sorted(set(most)))


def _is_list(kind: str) -> bool:
    return kind == "json" or kind.endswith("[]")


def _is_good_name(name: str) -> bool:
    return (
        0 < len(name) <= NAME_LENGTH
        and name[0] != "_"
        and name.isprintable()
        and not _RESERVED_CHARACTERS.intersection(name)
        and name.casefold() not in _PARTITION
    )
