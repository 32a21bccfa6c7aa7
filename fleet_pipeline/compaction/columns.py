"""Many messages become typed columns; what fits no column is set aside, message by message.

Arrow's own inference is not used on what devices send: it turns 1.5 into 1 where integers are expected, drops fields that come late, and a
conflict costs the whole batch. Here every value keeps its column or is set aside with its path, and the two together are the message.
"""

from itertools import chain
from math import copysign
from typing import Any
from weakref import proxy

import msgspec
import pyarrow as pa

from fleet_pipeline.compaction.contract import COLUMNS, EXACT, KINDS, SCALARS, Column, Contract, common_kind, join
from fleet_pipeline.compaction.structs import Path

_INT64 = range(-(2**63), 2**63)
_MISFIT = object()
_TYPES = {kind: of for of, kind in SCALARS.items()}
_NONE = type(None)


class Sheet:
    """The fields of `rows` messages, column by column."""

    def __init__(self, contract: Contract, rows: int) -> None:
        self._contract, self._rows = contract, rows
        self._owners: dict[str, tuple[Path, bool]] = {}
        self._values: dict[Path, list[Any]] = {}
        self._new = 0
        self._root = _Object(proxy(self), ())  # without a cycle, which would live until the garbage collector looks
        self.aside: dict[int, dict[str, Any]] = {}
        """By row, the part of the message that no column holds, in the message's own structure."""

    def write(self, row: int, message: dict[str, Any]) -> None:
        """Put the fields of a message into its row."""
        _write(self._root, row, message)

    def arrays(self) -> list[tuple[Column, pa.Array]]:
        """Return a column for every field that had a value. Values that do not fit are set aside."""
        return [self._array(path, values) for path, values in self._values.items()]

    def set_aside(self, row: int, path: Path, value: Any) -> None:
        """Keep a value for which there is no column."""
        put(self.aside.setdefault(row, {}), path, value)

    def values(self, path: Path) -> Any:
        """Return where the values of a field go: a list with a place for each row, or aside."""
        if path in self._values:
            return self._values[path]
        known = self._contract.columns.get(self._contract.name(path))
        if known is None or known.path != path:  # a column that stands is never refused, whatever else stands in the block
            if self._new >= COLUMNS or not self._contract.takes(path) or not self._claims(path):
                return _Aside(self, path)
            self._new += 1
        return self._values.setdefault(path, [None] * self._rows)

    def _claims(self, path: Path) -> bool:
        """Whether a field comes first to the names that its column would take."""
        return all(self._owners.setdefault(name, owner) == owner for name, owner in self._contract.claims(path).items())

    def _array(self, path: Path, values: list[Any]) -> tuple[Column, pa.Array]:
        kind = self._kind(path, values)
        array, misfits = filled(values, kind)
        for row in misfits:
            self.set_aside(row, path, values[row])
        return self._contract.column(path, kind), array

    def _kind(self, path: Path, values: list[Any]) -> str:
        known = self._contract.columns.get(self._contract.name(path))
        if known and known.name in self._contract.fixed:
            return known.kind
        observed = _one_kind(values) or common_kind(value for value in values if value is not None)
        if self._contract.form.numbers == "double":
            observed = observed.replace("int64", "double")
        return (join(known.kind, observed) or known.kind) if known else observed


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
        return msgspec.json.encode(value).decode()
    if kind.endswith("[]"):
        if type(value) is not list:
            return _MISFIT
        items = [None if item is None else _scalar(item, kind[:-2]) for item in value]
        return _MISFIT if _MISFIT in items else items
    return _scalar(value, kind)


def _scalar(value: Any, kind: str) -> Any:
    exact = type(value) in {int, float} and -EXACT <= value <= EXACT
    if kind == "int64" and type(value) is float:
        whole = exact and value.is_integer() and (value or copysign(1, value) > 0)  # no integer is -0.0
        return int(value) if whole else _MISFIT
    if kind == "int64" and type(value) is int:
        return value if value in _INT64 else _MISFIT
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
        if type(values) is list:
            self[name] = values
        return values

    def inside(self, name: str) -> "_Object":
        """Return where the fields of the object of this name go. Past any sensible number it is not kept."""
        found = self.objects.get(name)
        if found is None:
            found = _Object(self._sheet, (*self._path, name))
            if len(self.objects) < COLUMNS:
                self.objects[name] = found
        return found


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
