"""Nested objects as struct columns: fields, each known by its path, folded into structs and taken out of them again."""

from collections.abc import Mapping
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

Path = tuple[str, ...]
_T = TypeVar("_T")
_Tree = dict[str, "_T | _Tree[_T]"]


def folded_types(fields: Mapping[Path, pa.DataType]) -> list[pa.Field]:
    """Return the columns of some fields: nested ones lie in a struct, which stands where the first of
    its fields does.
    """
    return _types(_tree(fields))


def folded(fields: Mapping[Path, pa.Array]) -> list[pa.Array]:
    """Return the columns of some fields, as `folded_types` has them. A struct is null where all of its fields are."""
    return [_folded(each) for each in _tree(fields).values()]


def unfolded(table: pa.Table) -> pa.Table:
    """Return a table with a column `position.lat` for each field of its structs."""
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


def leaves(schema: pa.Schema) -> list[str]:
    """Return the names by which Parquet knows the columns of a schema: `position.lat` for a field of a struct."""
    return list(unfolded(schema.empty_table()).schema.names)


def _tree(fields: Mapping[Path, _T]) -> "_Tree[_T]":
    root: _Tree[_T] = {}
    for path, value in fields.items():
        within = root
        for name in path[:-1]:
            within = within.setdefault(name, {})  # type: ignore[assignment]  # a contract lets no field lie in another
        within[path[-1]] = value
    return root


def _types(tree: "_Tree[pa.DataType]") -> list[pa.Field]:
    return [pa.field(name, pa.struct(_types(each)) if isinstance(each, dict) else each) for name, each in tree.items()]


def _folded(each: "pa.Array | _Tree[pa.Array]") -> pa.Array:
    if not isinstance(each, dict):
        return each
    arrays = [_folded(inner) for inner in each.values()]
    empty = arrays[0].is_null()
    for array in arrays[1:]:
        empty = pc.and_(empty, array.is_null())
    return pa.StructArray.from_arrays(arrays, names=list(each), mask=empty)
