"""The fields that mean something to us: which vehicle, where, how fast.

Each is found by its path in the messages, and read as what it means.

A vehicle may send anything under any name. A value that is not what its field means is no value: nothing of it is shown
or computed with.
"""

from dataclasses import dataclass
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from fleet_pipeline.lake.contract import EXACT, Column, Contract
from fleet_pipeline.lake.payload import Status
from fleet_pipeline.lake.rows import EXTRA
from fleet_pipeline.lake.structs import Path, unfolded
from fleet_pipeline.lake.whose import NOBODY, Naming
from fleet_pipeline.model.fleet import Fleet

_NUMBER = r"^[+-]?[0-9]{1,15}(\.[0-9]{1,15})?([eE][+-]?[0-9]{1,2})?$"
"""A text that is a number: some devices put all of their values into quotation marks."""


def column_of(contract: Contract, path: Path) -> Column | None:
    """Return the column that holds a field; failing that, one whose path has the same names joined: `{"speed": {"kmh":
    …}}` for `speed_kmh`.

    One column at most, and none for another field whose name is spelled like the path: `{"speed.kmh": …}` is not
    `{"speed": {"kmh": …}}`.
    """
    columns = [column for column in contract.columns.values() if column.kind != "json"]
    same = [column for column in columns if "_".join(column.path) == "_".join(path)]
    return next((column for column in columns if column.path == path), next(iter(same), None))


def read(batch: pa.Table, column: Column | None) -> pa.Array | None:
    """Return a column of some rows of a part; None where there is no such column, or the part is older than it."""
    if column is None:
        return None
    rows = unfolded(batch)
    return rows[column.name].combine_chunks() if column.name in rows.column_names else None


def as_text(array: pa.Array | None, rows: int) -> pa.Array:
    """Return a column as the text that it says, whole numbers as their digits. What is neither is null."""
    if array is None:
        return pa.nulls(rows, pa.string())
    if pa.types.is_string(array.type):
        return array
    if pa.types.is_floating(array.type):
        whole = pc.and_(pc.less_equal(pc.abs(array), EXACT), pc.equal(pc.floor(array), array))
        return pc.if_else(whole, array, None).cast(pa.int64()).cast(pa.string())
    return array.cast(pa.string()) if _is_whole(array.type) else pa.nulls(rows, pa.string())


def as_number(array: pa.Array | None, rows: int) -> pa.Array:
    """Return a column as doubles, and a text that is a number as this number.

    What is no number, not finite, or no double exactly is null.
    """
    if array is None:
        return pa.nulls(rows, pa.float64())
    if pa.types.is_string(array.type):
        array = pc.if_else(pc.match_substring_regex(array, _NUMBER), array, None).cast(pa.float64())
    if pa.types.is_floating(array.type):
        return pc.if_else(pc.is_finite(array), array, None)
    if not _is_whole(array.type):
        return pa.nulls(rows, pa.float64())
    exact = pc.and_(pc.less_equal(array, EXACT), pc.greater_equal(array, -EXACT))
    return pc.if_else(exact, array, None).cast(pa.float64())


@dataclass(frozen=True, slots=True)
class Said:
    """Where the rows of a rule say whose they are."""

    column: Column | None
    """The field that names the vehicle."""
    naming: Naming
    besides: bool
    """Whether a message may say the field's value in another column, too: in one whose path has the same names joined,
    or in one that holds all of an object.
    """

    @classmethod
    def of(cls, fleet: Fleet, contract: Contract) -> Self:
        """Return what the settings and the columns say."""
        column, name = column_of(contract, fleet.vehicle_path), "_".join(fleet.vehicle_path)
        others = (each for each in contract.columns.values() if each is not column)
        return cls(column, Naming.of(fleet), any(f"{name}_".startswith(f"{'_'.join(each.path)}_") for each in others))

    @property
    def names(self) -> set[str]:
        """The columns that are read."""
        wanted = {"_client_id", "_status", *([self.column.name] if self.column else [])}
        return wanted if self.naming.by == "client_id" else wanted | {EXTRA.name}

    def vehicles(self, batch: pa.Table) -> tuple[pa.Array, pa.Array]:
        """Return each row's vehicle, and which rows may be another's, or anybody's, by what stands beside the column.

        The vehicle is who the raw key says it was, where it says so, and else who the message says; the other way round
        where messages name their vehicles, and then a row is its client's only if the message can say no other name.
        Null where nobody is known.
        """
        said = as_text(read(batch, self.column), batch.num_rows)
        message = pc.if_else(pc.equal(said, ""), None, said)
        client = self._clients(batch["_client_id"])
        if self.naming.by == "client_id":
            return pc.coalesce(client, message), pa.repeat(pa.scalar(False), batch.num_rows)
        readable = are_readable(batch)
        unsure = pc.and_(readable, message.is_null())
        unsure = unsure if self.besides else pc.and_(unsure, batch[EXTRA.name].is_valid())
        known = pc.if_else(pc.and_(readable, pc.invert(unsure)), client, None)
        return pc.coalesce(message, known), unsure

    def _clients(self, client_ids: pa.Array) -> pa.Array:
        known, prefix = pc.if_else(pc.equal(client_ids, NOBODY), None, client_ids), self.naming.thing_prefix
        return pc.if_else(pc.starts_with(known, prefix), pc.utf8_slice_codeunits(known, len(prefix)), known)


def are_readable(batch: pa.Table) -> pa.Array:
    """Return which rows have typed columns, by their status."""
    return pc.is_in(batch["_status"], pa.array(_READABLE, pa.string()))


_READABLE = [status for status in Status if status.readable]


def _is_whole(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0))
