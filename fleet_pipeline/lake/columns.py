"""Many messages become typed columns; what fits no column is put into the overflow, message by message.

Arrow's own inference is not used on what devices send: it turns 1.5 into 1 where integers are expected, drops fields
that come late, and a conflict costs the whole batch. Here every value keeps its column or is left to the overflow with
its path, and the two together are the message.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from math import copysign
from typing import Any
from weakref import proxy

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from fleet_pipeline.lake.contract import COLUMNS, EXACT, KINDS, SCALARS, Column, Contract
from fleet_pipeline.lake.learning import FIELDS_NOTED, WHOLE, Evidence, Homes, homes_of, kind_of_most
from fleet_pipeline.lake.payload import Judged, Status
from fleet_pipeline.lake.structs import Path

_MISFIT = object()
_SOMETHING = {"": 1}
"""The evidence of a field that could have no column."""
_TYPES = {kind: of for of, kind in SCALARS.items()}
_TAKEN = {kind: {of} for of, kind in SCALARS.items()} | {"double": {int, float}}
_NONE = type(None)

FEW = 16
"""Rows from which on a field without a column has one in its block.

The values of others are put into the overflow, one by one.
"""

MANY, DENSE = 128, 8
"""A field that so many rows have, and of those so far one in so many, has a place for every row of its block: that
costs what 1,000 and more values do that are kept one by one. Asked again each time that there are four times as many.
"""


class Sheet:
    """The fields of `rows` messages, column by column.

    Where a message has several rows, `messages` says which each row is of.
    """

    def __init__(self, contract: Contract, rows: int, messages: Sequence[int] | None = None) -> None:
        self._contract, self._rows, self._messages = contract, rows, messages
        self._columns: dict[Path, _Sparse | list[Any]] = {}
        """The values of fields that have a column, in the contract or in this block."""
        self._few: dict[Path, _Sparse] = {}
        """The values of all others."""
        self._new = 0
        self._root = _Object(proxy(self), ())  # without a cycle, which would live until the garbage collector looks
        self.overflow: dict[int, dict[str, Any]] = {}
        """By row, the part of the message that no column holds, in the message's own structure."""
        self.evidence = Evidence()
        """What the messages have beyond the contract's columns; known once it was learnt or the arrays are made."""

    def write(self, messages: Iterable[Judged]) -> list[Status]:
        """Put the fields of messages into their rows, from the first on, and return their statuses."""
        root, statuses = self._root, []
        for row, (status, message) in enumerate(messages):
            if message:
                _write(root, row, message)
            statuses.append(status)
        return statuses

    def learn(self) -> Evidence:
        """Return what the messages have beyond the contract's columns."""
        for path, values in self._columns.items():
            if path not in self._contract.kinds:
                self.evidence.fields[path] = self._homes(values)
        for few in self._few.values():
            if self._contract.takes(few.path):
                self.evidence.fields[few.path] = self._homes(few)
        return self.evidence

    def arrays(self) -> list[tuple[Column, pa.Array]]:
        """Return a column for every field of the contract, and for every other that many messages have.

        Values that do not fit are put into the overflow.
        """
        fields = self.learn().fields
        for few in list(self._few.values()):
            # No column is made of fields that hold nothing, and nothing is kept, until one of them holds something.
            if fields.get(few.path, _SOMETHING).keys() <= {"[]"} and self._new < COLUMNS:
                self._promote(few)
        for few in self._few.values():
            self._put_down(few)
        return [self._array(path, values) for path, values in self._columns.items()]

    def put_overflow(self, row: int, path: Path, value: Any) -> None:
        """Keep a value for which there is no column."""
        put(self.overflow.setdefault(row, {}), path, value)

    def values(self, path: Path) -> Any:
        """Return where the values of a field go: one by one, until it is known that many rows have it."""
        found = self._columns.get(path, self._few.get(path))
        if found is not None:
            return found
        if path in self._contract.kinds:  # a column that stands is never refused, whatever else stands in the block
            return self._columns.setdefault(path, _Sparse(proxy(self), path, MANY))
        if len(self._few) >= FIELDS_NOTED:
            self._forget()
        return self._few.setdefault(path, _Sparse(proxy(self), path, FEW))

    def grown(self, field: "_Sparse") -> None:
        """Have the values of a field that reached its mark go where those of a frequent one do."""
        if field.path in self._columns:
            if field.is_dense:
                self._columns[field.path] = self._goes_on(field, field.dense(self._rows))
            else:
                field.mark *= 4
        elif not self._contract.takes(field.path):
            self._put_down(self._few.pop(field.path))
            self._goes_on(field, _Aside(proxy(self), field.path))
        elif self._new < COLUMNS:
            self._promote(field)

    def _promote(self, few: "_Sparse") -> None:
        """Make a field one that has a column in this block."""
        self._new += 1
        few.mark = MANY
        self._columns[few.path] = self._few.pop(few.path)

    def _goes_on(self, field: "_Sparse", values: Any) -> Any:
        """Have the values of a field go elsewhere from now on; None for wherever it will be found to."""
        self._root.now(field.path, values)
        return values

    def _forget(self) -> None:
        """Leave to the overflow the rarer half of the fields that few rows have: in a flood of names, those that come
        again are known by then.
        """
        for few in sorted(self._few.values(), key=_rows_of)[: -FIELDS_NOTED // 2]:
            self._put_down(self._few.pop(few.path))
            self._goes_on(few, None)

    def _put_down(self, few: "_Sparse") -> None:
        for row, value in zip(few.rows, few.values, strict=True):
            self.put_overflow(row, few.path, value)

    def _array(self, path: Path, values: "_Sparse | list[Any]") -> tuple[Column, pa.Array]:
        kind = (
            self._contract.kinds.get(path) or kind_of_most(self.evidence.fields[path], self._contract.form.numbers)[0]
        )
        rows, kept = (range(self._rows), values) if isinstance(values, list) else (values.rows, values.values)
        array, misfits = filled(kept, kind)
        for place in misfits:
            self.put_overflow(rows[place], path, kept[place])
        return self._contract.column(path, kind), array if kept is values else spread(array, rows, self._rows)

    def _homes(self, values: "_Sparse | list[Any]") -> Homes:
        if isinstance(values, list):
            return homes_of(values, self._messages)
        return homes_of(values.values, None if self._messages is None else [self._messages[row] for row in values.rows])


def filled(values: list[Any], kind: str) -> tuple[pa.Array, list[int]]:
    """Return values as a column, and the places of those that do not fit: the column is null there."""
    if kind != "json" and _are_taken(values, kind):
        try:
            return pa.array(values, KINDS[kind]), []
        except (pa.ArrowInvalid, OverflowError):
            pass  # an integer beyond 64 bits, or one that no double is: value by value, then
    at_home = {_NONE} if kind == "int64" else {_NONE, _TYPES.get(kind)}
    fitted = [value if type(value) in at_home else fit(value, kind) for value in values]
    misfits = [row for row, value in enumerate(fitted) if value is _MISFIT]
    for row in misfits:
        fitted[row] = None
    return pa.array(fitted, KINDS[kind]), misfits


def spread(array: pa.Array, places: Sequence[int], rows: int) -> pa.Array:
    """Return a column of so many rows that holds values at some places, and null elsewhere."""
    return pc.scatter(array, pa.array(places, pa.int32()), max_index=rows - 1)


def _are_taken(values: Iterable[Any], kind: str) -> bool:
    """Whether one look at their types says that Arrow takes values as they are, or none of them."""
    types = set(map(type, values)) - {_NONE}
    if kind.endswith("[]"):
        return types <= {list} and _are_taken(chain.from_iterable(filter(None, values)), kind[:-2])
    return types <= _TAKEN.get(kind, set())


def put(message: dict[str, Any], path: Path, value: Any) -> None:
    """Set a value of a nested message."""
    for name in path[:-1]:
        message = message.setdefault(name, {})
    message[path[-1]] = value


def fit(value: Any, kind: str) -> Any:
    """Return a value, not None, as a column of this kind holds it: equal to what it was, or _MISFIT."""
    if kind == "json":
        if type(value) is msgspec.Raw and bytes(value)[:1] == b'"':
            return _MISFIT  # `nan` and its like: written here they would be texts
        return msgspec.json.encode(value).decode()
    if kind.endswith("[]"):
        if type(value) is not list:
            return _MISFIT
        items = [None if item is None else _scalar(item, kind[:-2]) for item in value]
        return _MISFIT if _MISFIT in items else items
    return _scalar(value, kind)


def fits(value: Any, kind: str) -> bool:
    """Whether a column of this kind holds a value, not None, as it is."""
    return fit(value, kind) is not _MISFIT


def _scalar(value: Any, kind: str) -> Any:
    exact = type(value) in {int, float} and -EXACT <= value <= EXACT
    if kind in WHOLE and type(value) is float:
        whole = exact and value.is_integer() and (value or copysign(1, value) > 0)  # no integer is -0.0
        return int(value) if whole else _MISFIT
    if kind in WHOLE and type(value) is int:
        return value if value in WHOLE[kind] else _MISFIT
    if kind == "double" and type(value) is int:
        return float(value) if exact else _MISFIT
    return value if SCALARS.get(type(value)) == kind else _MISFIT


class _Object(dict[str, Any]):
    """Where the fields of one object go, found once for each name."""

    def __init__(self, sheet: Sheet, path: Path) -> None:
        super().__init__()
        self._sheet, self._path = sheet, path
        self.objects: dict[str, _Object] = {}

    def __missing__(self, name: str) -> Any:
        values = self[name] = self._sheet.values((*self._path, name))
        return values

    def now(self, path: Path, values: Any) -> None:
        """Have the values of a field that lies in here go elsewhere from now on; None for wherever it
        will be found to.
        """
        fields: _Object | None = self
        for name in path[:-1]:
            fields = None if fields is None else fields.objects.get(name)
        if fields is not None and path[-1] in fields:
            fields.pop(path[-1])
            if values is not None:
                fields[path[-1]] = values

    def inside(self, name: str) -> "_Object":
        """Return where the fields of the object of this name go. Past any sensible number it is not kept."""
        found = self.objects.get(name)
        if found is None:
            found = _Object(self._sheet, (*self._path, name))
            if len(self.objects) < COLUMNS:
                self.objects[name] = found
        return found


class _Sparse:
    """The values of a field, each with its row: not many rows have it, or it is not known yet whether many do."""

    __slots__ = ("_sheet", "mark", "path", "rows", "values")

    def __init__(self, sheet: Sheet, path: Path, mark: int) -> None:
        self._sheet, self.path, self.mark = sheet, path, mark
        self.rows: list[int] = []
        self.values: list[Any] = []

    def __setitem__(self, row: int, value: Any) -> None:
        self.rows.append(row)
        self.values.append(value)
        if len(self.rows) == self.mark:
            self._sheet.grown(self)

    @property
    def is_dense(self) -> bool:
        """Whether a place for every row costs less than these."""
        return self.rows[-1] < DENSE * len(self.rows)

    def dense(self, rows: int) -> list[Any]:
        """Return the values with a place for every row."""
        values: list[Any] = [None] * rows
        for row, value in zip(self.rows, self.values, strict=True):
            values[row] = value
        return values


def _rows_of(few: _Sparse) -> int:
    return len(few.rows)


class _Aside:
    """Stands in for the column of a field that has none."""

    def __init__(self, sheet: Sheet, path: Path) -> None:
        self._sheet, self._path = sheet, path

    def __setitem__(self, row: int, value: Any) -> None:
        self._sheet.put_overflow(row, self._path, value)


def _write(fields: _Object, row: int, message: dict[str, Any]) -> None:
    for name, value in message.items():
        if type(value) is dict:
            _write(fields.objects.get(name) or fields.inside(name), row, value)
        elif value is not None:
            fields[name][row] = value
