"""Many messages become typed columns; what fits no column is set aside, message by message.

Arrow's own inference is not used on what devices send: it turns 1.5 into 1 where integers are expected, drops fields that come late, and a
conflict costs the whole batch. Here every value keeps its column or is set aside with its path, and the two together are the message.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from math import copysign
from typing import Any
from weakref import proxy

import msgspec
import pyarrow as pa

from fleet_pipeline.lake.contract import COLUMNS, EXACT, KINDS, SCALARS, Column, Contract
from fleet_pipeline.lake.learning import FIELDS_NOTED, WHOLE, Evidence, homes_of, kind_of_most
from fleet_pipeline.lake.payload import Judged, Status
from fleet_pipeline.lake.structs import Path

_MISFIT = object()
_TYPES = {kind: of for of, kind in SCALARS.items()}
_NONE = type(None)


FEW = 16
"""Rows up to which the values of a field without a column are kept one by one. A place for every row is for fields that many have."""


class Sheet:
    """The fields of `rows` messages, column by column. Where a message has several rows, `messages` says which each row is of."""

    def __init__(self, contract: Contract, rows: int, messages: Sequence[int] | None = None) -> None:
        self._contract, self._rows, self._messages = contract, rows, messages
        self._recorded = {column.path: column.kind for column in contract.columns.values()}
        self._values: dict[Path, list[Any]] = {}
        self._few: dict[Path, _Few] = {}
        self._new = 0
        self._root = _Object(proxy(self), ())  # without a cycle, which would live until the garbage collector looks
        self.aside: dict[int, dict[str, Any]] = {}
        """By row, the part of the message that no column holds, in the message's own structure."""
        self.evidence = Evidence()
        """What the messages have beyond the contract's columns; known once the arrays are made."""

    def write(self, messages: Iterable[Judged]) -> list[Status]:
        """Put the fields of messages into their rows, from the first on, and return their statuses."""
        root, statuses = self._root, []
        for row, (status, message) in enumerate(messages):
            _write(root, row, message)
            statuses.append(status)
        return statuses

    def arrays(self) -> list[tuple[Column, pa.Array]]:
        """Return a column for every field of the contract, and for every other that many messages have. Values that do not fit are set aside."""
        for few in list(self._few.values()):
            homes = homes_of(few.values, None if self._messages is None else [self._messages[row] for row in few.rows])
            if homes.keys() <= {"[]"}:  # of which no column is made, and nothing is kept, until one of them holds something
                self.spread(few)
            self.evidence.fields[few.path] = homes
        for few in self._few.values():
            self._put_down(few)
        return [self._array(path, values) for path, values in self._values.items()]

    def set_aside(self, row: int, path: Path, value: Any) -> None:
        """Keep a value for which there is no column."""
        put(self.aside.setdefault(row, {}), path, value)

    def values(self, path: Path) -> Any:
        """Return where the values of a field go: a list with a place for each row, or one by one, or aside."""
        if path in self._values:
            return self._values[path]
        if path in self._recorded:  # a column that stands is never refused, whatever else stands in the block
            return self._values.setdefault(path, [None] * self._rows)
        if path in self._few:
            return self._few[path]
        if not self._contract.takes(path):
            return _Aside(self, path)
        if len(self._few) >= FIELDS_NOTED:
            self._forget()
        return self._few.setdefault(path, _Few(proxy(self), path))

    def spread(self, few: "_Few") -> None:
        """Give a field a place for every row, once it has many, as long as there is room for one more."""
        if self._new < COLUMNS:
            self._new += 1
            self._spread(few)

    def _spread(self, few: "_Few") -> None:
        values: list[Any] = [None] * self._rows
        for row, value in zip(few.rows, few.values, strict=True):
            values[row] = value
        self._values[few.path] = values
        del self._few[few.path]
        self._root.now(few.path, values)

    def _forget(self) -> None:
        """Set aside the rarer half of the fields that few rows have: in a flood of names, those that come again are known by then."""
        for few in sorted(self._few.values(), key=lambda each: -len(each.rows))[FIELDS_NOTED // 2 :]:
            del self._few[few.path]
            self._root.now(few.path, None)
            self._put_down(few)

    def _put_down(self, few: "_Few") -> None:
        for row, value in zip(few.rows, few.values, strict=True):
            self.set_aside(row, few.path, value)

    def _array(self, path: Path, values: list[Any]) -> tuple[Column, pa.Array]:
        kind = self._recorded.get(path) or self._kind(path, values)
        array, misfits = filled(values, kind)
        for row in misfits:
            self.set_aside(row, path, values[row])
        return self._contract.column(path, kind), array

    def _kind(self, path: Path, values: list[Any]) -> str:
        self.evidence.fields[path] = homes_of(values, self._messages)
        return kind_of_most(self.evidence.fields[path], self._contract.form.numbers)[0]


def _one_kind(values: list[Any], *, within: bool = False) -> str | None:
    """Return the kind in which all values, or all those within lists, are at home, where one look at their types says so."""
    types = set(map(type, values)) - {_NONE}
    if types == {list}:
        of = None if within else _one_kind(list(chain.from_iterable(filter(None, values))), within=True)
        return None if of is None else f"{of}[]"
    return SCALARS.get(next(iter(types))) if len(types) == 1 else None if types else ""


def filled(values: list[Any], kind: str) -> tuple[pa.Array, list[int]]:
    """Return values as a column, and the places of those that do not fit: the column is null there."""
    if kind == _one_kind(values):
        try:
            return pa.array(values, KINDS[kind]), []
        except OverflowError:
            pass  # an integer beyond 64 bits: value by value, then
    if kind in {"double", "double[]"} and _are_numbers(values, kind):
        try:
            return pa.array(values, KINDS[kind]), []
        except (pa.ArrowInvalid, OverflowError):
            pass  # an integer that no double is: value by value, then
    at_home = {_NONE} if kind == "int64" else {_NONE, _TYPES.get(kind)}
    fitted = [value if type(value) in at_home else fit(value, kind) for value in values]
    misfits = [row for row, value in enumerate(fitted) if value is _MISFIT]
    for row in misfits:
        fitted[row] = None
    return pa.array(fitted, KINDS[kind]), misfits


def _are_numbers(values: list[Any], kind: str) -> bool:
    if kind == "double[]":
        return set(map(type, values)) <= {list, _NONE} and _are_numbers(list(chain.from_iterable(filter(None, values))), "double")
    return set(map(type, values)) <= {int, float, _NONE}


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
        values = self._sheet.values((*self._path, name))
        if type(values) is not _Aside:
            self[name] = values
        return values

    def now(self, path: Path, values: list[Any] | None) -> None:
        """Have the values of a field that lies in here go elsewhere from now on; None for wherever it will be found to."""
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


class _Few:
    """The values of a field that has no column, and of which it is not known yet whether many rows have it."""

    def __init__(self, sheet: Sheet, path: Path) -> None:
        self._sheet, self.path = sheet, path
        self.rows: list[int] = []
        self.values: list[Any] = []

    def __setitem__(self, row: int, value: Any) -> None:
        self.rows.append(row)
        self.values.append(value)
        if len(self.rows) == FEW:
            self._sheet.spread(self)


class _Aside:
    """Stands in for the column of a field that has none."""

    def __init__(self, sheet: Sheet, path: Path) -> None:
        self._sheet, self._path = sheet, path

    def __setitem__(self, row: int, value: Any) -> None:
        self._sheet.set_aside(row, self._path, value)


def _write(fields: _Object, row: int, message: dict[str, Any]) -> None:
    for name, value in message.items():
        if type(value) is dict:
            _write(fields.objects.get(name) or fields.inside(name), row, value)
        elif value is not None:
            fields[name][row] = value
