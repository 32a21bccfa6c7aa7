"""A rule's typed columns: learnt from its messages, recorded once they are written, and from then on only added to.

A column has one kind for good, because files of one table that disagree about a column break its readers. A value that
is equal in the column's kind goes in (5 in a column of doubles, 5.0 in a column of integers); any other stays in
`_extra`. Widening a recorded column is a person's decision: rewrite the table as a new generation. What messages must
say for a column to be made stands in `learning.py`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Self

import msgspec
import pyarrow as pa

from fleet_pipeline.lake.structs import Path, folded_types
from fleet_pipeline.model.errors import ContractBroken
from fleet_pipeline.model.form import JSON, Encoding, Form
from fleet_pipeline.model.personal import PrivateField

COLUMNS = 1000
"""Columns of one table. A fleet that names more has names that are values."""

NAME_LENGTH = 128
"""Characters of a column's name: less than Glue's 255, more than any field's name needs."""

EXACT = 2**53
"""Integers up to here are the same number as a double."""

UINT64_DIGITS = 20
"""Digits of 2^64 - 1, the largest of the ids that many systems hand out."""

DECIMAL = f"decimal({UINT64_DIGITS},0)"
"""Whole numbers that int64 does not hold: ids of 64 bits without a sign."""

KINDS: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int64": pa.int64(),
    "double": pa.float64(),
    DECIMAL: pa.decimal128(UINT64_DIGITS, 0),
    "string": pa.string(),
    "bool[]": pa.list_(pa.bool_()),
    "int64[]": pa.list_(pa.int64()),
    "double[]": pa.list_(pa.float64()),
    f"{DECIMAL}[]": pa.list_(pa.decimal128(UINT64_DIGITS, 0)),
    "string[]": pa.list_(pa.string()),
    "json": pa.string(),
    "[]": pa.list_(pa.null()),
}
"""What a column may hold, in Arrow's types.

`json` is the text of arrays that hold objects, arrays, or a mixture; `[]` is not yet known.
"""

SCALARS: dict[type, str] = {bool: "bool", int: "int64", float: "double", str: "string"}
"""The kinds of values that hold no others, by the types of which a parser makes them."""

_PARTITION = {"rule", "date", "hour"}
_RESERVED_CHARACTERS = set(' ,;{}()\n\t="`\\')
"""Not in a column's name: Spark refuses them in Parquet, and quotes end a quoted name."""
_RESERVED_IN_STRUCTS = set(":<>")
"""Not in the name of a struct's field: Glue writes a struct's type as `struct<lat:double>`."""


@dataclass(frozen=True, slots=True)
class Column:
    """A field of the messages, by its path through nested objects, and what its column holds."""

    path: Path
    kind: str
    joint: str = "_"
    """What stands in its name where a nested object begins."""

    @property
    def name(self) -> str:
        """The column's name: `position_lat` for `{"position": {"lat": …}}`, or `position.lat` in a struct."""
        return self.joint.join(self.path)


@dataclass(frozen=True)
class Contract:
    """The typed columns of a rule, by name.

    They keep their kind and their order, and others are only added after them.
    """

    columns: Mapping[str, Column] = field(default_factory=dict)
    number: int = -1
    """Which record of the lake this is; -1 before the first."""
    pinned: bool = False
    """Whether new fields stay in `_extra` rather than become columns."""
    form: Form = Form()
    private: tuple[PrivateField, ...] = ()
    """Fields that leave each message before. By the settings of today, and not recorded."""
    encoding: Encoding = JSON
    """What the bytes of messages are. By the settings of today, and not recorded."""

    @property
    def structs(self) -> bool:
        """Whether nested objects are struct columns."""
        return self.form.nested_objects == "structs"

    def column(self, path: Path, kind: str) -> Column:
        """Return the column of a field, as this contract names it."""
        return Column(path, kind, "." if self.structs else "_")

    def name(self, path: Path) -> str:
        """Return the name of the column of a field."""
        return self.column(path, "").name

    def claims(self, path: Path) -> dict[str, tuple[Path, bool]]:
        """Return the names that a column takes for its field alone, whatever their case: Athena cannot tell `Speed`
        from `speed`.

        In structs these are the names of the structs around it, too, which are shared by the fields within and are no
        columns themselves.
        """
        depths = range(1, len(path) + 1) if self.structs else [len(path)]
        return {self.name(path[:depth]).casefold(): (path[:depth], depth == len(path)) for depth in depths}

    @cached_property
    def kinds(self) -> dict[Path, str]:
        """What each field's column holds."""
        return {column.path: column.kind for column in self.columns.values()}

    @cached_property
    def owners(self) -> dict[str, tuple[Path, bool]]:
        """What all columns claim."""
        return {name: owner for column in self.columns.values() for name, owner in self.claims(column.path).items()}

    @property
    def schema(self) -> pa.Schema:
        """The typed columns as Arrow has them."""
        if self.structs:
            return pa.schema(folded_types({column.path: KINDS[column.kind] for column in self.columns.values()}))
        return pa.schema([(name, KINDS[column.kind]) for name, column in self.columns.items()])

    def takes(self, path: Path) -> bool:
        """Whether a field may have a column of its own."""
        name = self.name(path)
        if (owner := self.owners.get(name.casefold())) is not None:
            return owner == (path, True)
        if self.pinned or len(self.columns) >= COLUMNS or not _is_good_name(name):
            return False
        return not self.structs or (
            _fits_structs(path)
            and all(self.owners.get(claimed, owner) == owner for claimed, owner in self.claims(path).items())
        )

    @property
    def most_new(self) -> int:
        """How many columns an hour may add: half of those that there is still room for, so that no hour uses up a
        table.
        """
        return (COLUMNS - len(self.columns) + 1) // 2

    def adding(self, wanted: Iterable[Column], form: Form | None = None, most: int = COLUMNS) -> Self:
        """Return the lake's next record: this one with as many of the wanted columns as it takes, up to `most`, the
        first of them first.

        Raises ContractBroken when the rows that want them are of another form.
        """
        mine, others = asdict(self.form), asdict(form or self.form)
        if broken := tuple(
            f"~ {name}: {mine[name]} -> {others[name]}"
            for name in ("arrays", "several_objects")
            if mine[name] != others[name]
        ):
            raise ContractBroken(broken)
        new = self._taken(wanted, min(most, COLUMNS - len(self.columns)))
        if not new and self.number >= 0:
            return self
        return replace(
            self, columns={**self.columns, **{column.name: column for column in new}}, number=self.number + 1
        )

    def _taken(self, wanted: Iterable[Column], most: int) -> list[Column]:
        """Return those of some columns that this contract takes beside those that it has, by name.

        Of two that claim one name, the first has it.
        """
        owners, new = dict(self.owners), dict[Path, Column]()
        for column in wanted:
            claims = self.claims(column.path)
            free = column.path not in new and column.name not in self.columns and self.takes(column.path)
            if free and len(new) < most and all(owners.get(name, owner) == owner for name, owner in claims.items()):
                new[column.path] = column
                owners |= claims
        return sorted(new.values(), key=lambda column: column.name)

    def pinning(self, wanted: Self) -> Self:
        """Return the lake's next record, with the wanted columns and no room for others.

        Raises ContractBroken when one that stands would change.
        """
        broken, owners = [line for line in self.difference(wanted) if not line.startswith("+")], dict(self.owners)
        for name, column in wanted.columns.items():
            claims = self.claims(column.path)
            if column.kind not in {*KINDS} - {"[]"} or any(
                owners.get(claimed, owner) != owner for claimed, owner in claims.items()
            ):
                broken.append(f"+ {name} {column.kind}: there is no such kind, or the name is another field's")
            owners |= claims
        if broken:
            raise ContractBroken(tuple(broken))
        if self.pinned and len(self.columns) == len(wanted.columns):
            return self
        columns = dict(self.columns) | dict(wanted.columns)
        return replace(self, columns=columns, number=self.number + 1, pinned=True)

    def saying(self, columns: Mapping[Path, str]) -> Self:
        """Return the lake's next record, with these columns beside those that stand, and no room for others; this one
        where nothing is said.

        Raises ContractBroken when one that stands is of another kind, or a name cannot be a column's.
        """
        named = [self.column(path, kind) for path, kind in columns.items()]
        open_to_them = replace(self, pinned=False)
        if bad := tuple(
            f"+ {column.name} {column.kind}: no column can have this name"
            for column in named
            if not open_to_them.takes(column.path)
        ):
            raise ContractBroken(bad)
        return (
            self.pinning(replace(self, columns={**self.columns, **{column.name: column for column in named}}))
            if named
            else self
        )

    def difference(self, other: Self) -> list[str]:
        """Return what another contract has more (+), less (-) and otherwise (~), a line a column."""
        mine, others = asdict(self.form), asdict(other.form)
        lines = [f"~ {name}: {chosen} -> {others[name]}" for name, chosen in mine.items() if chosen != others[name]]
        lines += [f"- {name} {column.kind}" for name, column in self.columns.items() if name not in other.columns]
        for name, column in other.columns.items():
            known = self.columns.get(name)
            if known is None:
                lines.append(f"+ {name} {column.kind}")
            elif known != column:
                lines.append(
                    f"~ {name} {known.kind} -> {column.kind}"
                    if known.kind != column.kind
                    else f"~ {name} {known.path} -> {column.path}"
                )
        return lines

    def to_json(self) -> bytes:
        """Return the record's text; the inverse of `of_json`."""
        columns = [{"name": name, "path": column.path, "kind": column.kind} for name, column in self.columns.items()]
        return msgspec.json.format(
            msgspec.json.encode({"pinned": self.pinned, "form": asdict(self.form), "columns": columns}), indent=1
        )

    @classmethod
    def of_json(cls, text: bytes, number: int) -> Self:
        """Return the contract that a record of the lake holds."""
        record = msgspec.json.decode(text)
        empty = cls(form=Form(**record.get("form", {})), number=number, pinned=record["pinned"])
        columns = [empty.column(tuple(column["path"]), column["kind"]) for column in record["columns"]]
        return replace(empty, columns={column.name: column for column in columns})


def _is_good_name(name: str) -> bool:
    return (
        0 < len(name) <= NAME_LENGTH
        and name[0] != "_"
        and name.isprintable()
        and not _RESERVED_CHARACTERS.intersection(name)
        and name.casefold() not in _PARTITION
    )


def _fits_structs(path: Path) -> bool:
    dotted = any("." in name for name in path)  # in a column's name, a dot leads into a struct
    return (
        all(path)
        and not dotted
        and not _RESERVED_IN_STRUCTS.intersection("".join(path[1:]))
        and path[0].casefold() not in _PARTITION
    )
