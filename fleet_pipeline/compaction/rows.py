"""Blocks of rows: object versions and their bytes, with what was read out of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from fleet_pipeline.compaction.columns import Sheet, filled, put
from fleet_pipeline.compaction.contract import KINDS, Column, Contract
from fleet_pipeline.compaction.payload import Judged, Status, judged, judged_elements, written_as
from fleet_pipeline.compaction.structs import folded
from fleet_pipeline.fleet import CLIENT_ID_AT, MILLIS_DIGITS, Form, Rule
from fleet_pipeline.store import NULL_VERSION, Version

LARGEST = 1_048_576
"""Bytes of a payload. AWS IoT takes 128 KB; whatever is larger was not written by a rule and is not downloaded."""

HEAD = pa.schema(
    [
        ("_key", pa.string()),
        ("_ts", pa.timestamp("ms", "UTC")),
        ("_topic", pa.string()),
        ("_client_id", pa.string()),
        ("_version", pa.string()),
        ("_status", pa.string()),
        ("_payload", pa.binary()),
    ]
)
"""What every row says of its message: where it lay, when it was received, on which topic, from whom if the key tells, its bytes."""

ORIGINS = HEAD.names[:5]
"""The columns that say where a message came from, and not what it says."""

EXTRA = pa.field("_extra", pa.string())
"""The part of a message that no column holds, as JSON."""

BLOCK_ROWS = 8192
"""Rows that are made together: enough to spread the cost of a column, little enough to stay in the processor's cache."""

IDENTITY = 16
"""Characters of `_version` in the row that stands for a version, alone or as the first of its elements."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows, and what their typed columns were when they were made."""

    table: pa.Table
    columns: dict[str, Column]


def identity(version: Version) -> str:
    """Return `IDENTITY` hexadecimal digits that no other version of the same key has.

    An object of a bucket without versions is another one when it was written at another time or with other bytes.
    """
    name = version.id if version.id != NULL_VERSION else f"{version.etag}{version.modified}"
    return blake2b(name.encode(), digest_size=IDENTITY // 2).hexdigest()


def of_versions(rows: pa.Table) -> pa.Table:
    """Return the rows that stand for a version: all but the second and later elements of arrays, which have no payload of their own."""
    return rows.filter(_stand_for_versions(rows))


def count_versions(rows: pa.Table) -> int:
    """Return how many rows `of_versions` would return."""
    return int(pc.sum(_stand_for_versions(rows)).as_py() or 0)


def blocks(rule: Rule, versions: Sequence[Version], payloads: Sequence[bytes | None], contract: Contract) -> Iterator[tuple[Block, Contract]]:
    """Yield versions as rows, in their order, and the contract with what these messages taught. No payload means too large."""
    return typed_again(_origins(rule, versions), payloads, contract)


def typed_again(origins: Sequence[pa.Array], payloads: Sequence[bytes | None], contract: Contract) -> Iterator[tuple[Block, Contract]]:
    """Yield rows of which all is known but what their payloads say, and the contract with what these taught.

    One block of as many rows as there are versions; where arrays are unrolled there may be more rows, and then more blocks, but the rows of
    one version are never parted.
    """
    form = contract.form
    if form.arrays == "whole" and form.several_objects == "off":
        lenient = form.lenient_numbers == "on"
        judgements = ((Status.TOO_LARGE, {}) if payload is None else judged(payload, lenient=lenient) for payload in payloads)
        yield _typed(origins, payloads, judgements, contract)
        return
    for unrolled in _unrolled(origins, payloads, form):
        made, contract = _typed(*unrolled, contract)
        yield made, contract


def _typed(origins: Sequence[pa.Array], payloads: Sequence[bytes | None], messages: Iterable[Judged], contract: Contract) -> tuple[Block, Contract]:
    sheet = Sheet(contract, len(payloads))
    statuses = [_read(sheet, row, *message) for row, message in enumerate(messages)]
    typed = sheet.arrays()
    statuses = [Status.PARTIAL if row in sheet.aside else status for row, status in enumerate(statuses)]
    arrays = [*origins, pa.array(statuses, pa.string()), pa.array(payloads, pa.binary()), *(array for _, array in typed)]
    names = [*HEAD.names, *(column.name for column, _ in typed)]
    extra = [_text(sheet.aside[row]) if row in sheet.aside else None for row in range(len(payloads))]
    table = pa.table([*arrays, pa.array(extra, pa.string())], [*names, EXTRA.name])
    return Block(table, {column.name: column for column, _ in typed}), contract.learning(column for column, _ in typed)


def conformed(made: Block, contract: Contract) -> pa.Table:
    """Return a block with exactly the contract's columns. Values that do not fit them (any more) go to `_extra`."""
    aside: dict[int, dict[str, Any]] = {}
    typed = [_conformed(made, column, aside) for column in contract.columns.values()]
    for column in made.columns.values():
        if column.kind == "[]":
            # No column is made of empty arrays until one holds something: those of nulls have a length, and are kept.
            if column.name not in contract.columns:
                _all_aside([value or None for value in _values(made, column)], column, aside)
            continue
        if contract.columns.get(column.name, column).path != column.path or column.name not in contract.columns:
            _all_aside(_values(made, column), column, aside)
    table = _with_aside(made.table, aside) if aside else made.table
    if contract.structs:
        typed = folded({column.path: _whole(array) for column, array in zip(contract.columns.values(), typed, strict=True)})
    arrays = [*(table[name] for name in HEAD.names), *typed, table[EXTRA.name]]
    return pa.table(arrays, row_schema(contract))


def row_schema(contract: Contract) -> pa.Schema:
    """Return the columns of a part."""
    return pa.schema([*HEAD, *contract.schema, EXTRA])


def _conformed(made: Block, column: Column, aside: dict[int, dict[str, Any]]) -> pa.Array | pa.ChunkedArray:
    was = made.columns.get(column.name)
    if was == column:
        return made.table[column.name]
    if was is None or was.path != column.path:
        return pa.nulls(made.table.num_rows, KINDS[column.kind])
    values = _values(made, was)
    array, misfits = filled(values, column.kind)
    for row in misfits:
        put(aside.setdefault(row, {}), column.path, values[row])
    return array


def _values(made: Block, column: Column) -> list[Any]:
    """Return what a column of a block holds, as values: what is JSON text there was an array in its message, or a number among arrays."""
    values = made.table[column.name].to_pylist()
    return [value if value is None else written_as(value) for value in values] if column.kind == "json" else values


def _all_aside(values: list[Any], column: Column, aside: dict[int, dict[str, Any]]) -> None:
    for row, value in enumerate(values):
        if value is not None:
            put(aside.setdefault(row, {}), column.path, value)


def _with_aside(table: pa.Table, aside: dict[int, dict[str, Any]]) -> pa.Table:
    statuses, extra = table["_status"].to_pylist(), table[EXTRA.name].to_pylist()
    for row, values in aside.items():
        statuses[row], extra[row] = Status.PARTIAL, _text(_merged(written_as(extra[row] or "{}"), values))
    table = table.set_column(table.schema.get_field_index("_status"), "_status", pa.array(statuses, pa.string()))
    return table.set_column(table.schema.get_field_index(EXTRA.name), EXTRA, pa.array(extra, pa.string()))


def _merged(message: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    for name, value in more.items():
        message[name] = _merged(message.get(name, {}), value) if type(value) is dict else value
    return message


def _origins(rule: Rule, versions: Sequence[Version]) -> list[pa.Array]:
    keys = pa.array([version.key for version in versions], pa.string())
    millis, client = (len(rule.raw_prefix) + place for place in (0, CLIENT_ID_AT))
    return [
        keys,
        pc.cast(pc.cast(pc.utf8_slice_codeunits(keys, millis, millis + MILLIS_DIGITS), pa.int64()), HEAD.field("_ts").type),
        pa.repeat(rule.topic, len(versions)),
        pc.if_else(pc.greater(pc.utf8_length(keys), client), pc.utf8_slice_codeunits(keys, client), pa.scalar(None, pa.string())),
        pa.array([identity(version) for version in versions], pa.string()),
    ]


def _stand_for_versions(rows: pa.Table) -> pa.ChunkedArray:
    return pc.equal(pc.utf8_length(rows["_version"]), IDENTITY)


def _unrolled(origins: Sequence[pa.Array], payloads: Sequence[bytes | None], form: Form) -> Iterator[tuple[list[pa.Array], list[bytes | None], list[Judged]]]:
    """Yield what `_typed` needs of rows, with a row for each element of an array. The first of them has the version's identity and payload."""
    arrays, several, lenient = form.arrays == "elements", form.several_objects == "on", form.lenient_numbers == "on"
    versions, places, messages = pa.table(list(origins), ORIGINS), [], []
    for row, payload in enumerate(payloads):
        elements = [(Status.TOO_LARGE, {})] if payload is None else judged_elements(payload, arrays=arrays, several=several, lenient=lenient)
        places += [(row, number) for number in range(len(elements))]
        messages += elements
        if len(messages) >= BLOCK_ROWS or row == len(payloads) - 1:
            rows = versions.take(pa.array([place for place, _ in places], pa.int64()))
            numbered = zip(rows["_version"].to_pylist(), places, strict=True)
            identities = pa.array([f"{version}-{number:04d}" if number else version for version, (_, number) in numbered], pa.string())
            rows = rows.set_column(rows.schema.get_field_index("_version"), "_version", identities)
            yield [_whole(column) for column in rows.columns], [None if number else payloads[place] for place, number in places], messages
            places, messages = [], []


def _whole(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _read(sheet: Sheet, row: int, status: Status, message: dict[str, Any]) -> Status:
    sheet.write(row, message)
    return status


def _text(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value).decode()
