"""The number of each column of the lake, by which Iceberg knows it whatever its name: written into every part, and for
ever the same.

A contract's columns keep their order and others are only added after them, so numbers that are counted in that order
never change. A new generation counts from a number of its own: what had one number before is never another column of
the same table.
"""

from collections.abc import Mapping
from itertools import count

import pyarrow as pa

from fleet_pipeline.lake.contract import KINDS, Contract
from fleet_pipeline.lake.rows import EXTRA, HEAD
from fleet_pipeline.lake.structs import Path

ELEMENT = "element"
"""How Parquet and Iceberg call what an array holds."""

A_GENERATION = 100_000
"""Numbers of one generation. A thousand columns need 33,000 at most: each with its elements, and in as many new structs
as a message is deep.
"""

_KEY = b"PARQUET:field_id"
"""Key of a field's metadata that Arrow writes as the number of Parquet's field. Source: Arrow's documentation of
Parquet, "Field ids".
"""


def field_ids(contract: Contract, generation: int) -> Mapping[Path, int]:
    """Return the number of each column, of each field of a struct and of each array's elements, by its path in the
    table.

    Those that every table has come first, from 1 on. What a later record of the contract adds gets higher numbers.
    """
    ids: dict[Path, int] = {(name,): number for number, name in enumerate([*HEAD.names, EXTRA.name], 1)}
    free = count(generation * A_GENERATION + 1)
    for column in contract.columns.values():
        path = column.path if contract.structs else (column.name,)
        for depth in range(1, len(path) + 1):
            if path[:depth] not in ids:
                ids[path[:depth]] = next(free)
        if pa.types.is_list(KINDS[column.kind]):
            ids[(*path, ELEMENT)] = next(free)
    return ids


def numbered(schema: pa.Schema, ids: Mapping[Path, int]) -> pa.Schema:
    """Return the same columns, each with its number. Raises KeyError for one without: the ids are another's."""
    return pa.schema([_numbered(field, ids, (field.name,)) for field in schema])


def _numbered(field: pa.Field, ids: Mapping[Path, int], path: Path) -> pa.Field:
    kind = field.type
    if pa.types.is_struct(kind):
        kind = pa.struct([_numbered(each, ids, (*path, each.name)) for each in kind])
    elif pa.types.is_list(kind):
        kind = pa.list_(_numbered(kind.value_field, ids, (*path, ELEMENT)))
    return field.with_type(kind).with_metadata({_KEY: str(ids[path]).encode()})
