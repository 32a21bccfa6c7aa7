"""Blocks of rows: object versions and their bytes, with what was read out of them."""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from hashlib import blake2b
from itertools import compress, repeat
from typing import Any, NamedTuple, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from fleet_pipeline.aws.store import NULL_VERSION, ObjectVersion
from fleet_pipeline.lake.columns import Sheet, filled, fits, put, spread
from fleet_pipeline.lake.contract import DECIMAL, KINDS, Column, Contract
from fleet_pipeline.lake.encodings import reader
from fleet_pipeline.lake.learning import Evidence
from fleet_pipeline.lake.payload import ELEMENTS, Judged, Status, alone, judged, judged_elements, written_as
from fleet_pipeline.lake.personal import Hider
from fleet_pipeline.lake.structs import Path, folded
from fleet_pipeline.model.errors import FleetError
from fleet_pipeline.model.plain import plain_traceback
from fleet_pipeline.model.rule import CLIENT_ID_AT, MILLIS_DIGITS, WITHIN_SHARD, Rule

_LOG = logging.getLogger(__name__)
_Says = TypeVar("_Says")

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
"""What every row says of its message: where it lay, when it was received, on which topic, from whom if the key tells,
its bytes.
"""

ORIGINS = HEAD.names[:5]
"""The columns that say where a message came from, and not what it says."""

EXTRA = pa.field("_extra", pa.string())
"""The part of a message that no column holds, as JSON."""

BLOCK_ROWS = 8192
"""Rows that are made together: enough to spread the cost of a column, little enough to stay in the
processor's cache.
"""

NO_RECORD = "0" * 16
"""The `_version` of what is no record of a batch; no message's is, whose UUID says its own version there."""

IDENTITY = 16
"""Characters of `_version` in the row that stands for a version, alone or as the first of its elements."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows, with columns of their own until it is known which the table will have: of two fields, these may have
    one name.
    """

    table: pa.Table
    columns: tuple[Column, ...]
    """What stands in the table after `HEAD`."""
    recorded: int
    """How many columns the contract had when the rows were made."""
    evidence: Evidence = field(default_factory=Evidence)
    """What the messages have beyond them."""


def identity(version: ObjectVersion) -> str:
    """Return `IDENTITY` hexadecimal digits that no other version of the same key has.

    An object of a bucket without versions is another one when it was written at another time or with other bytes.
    """
    name = version.id if version.id != NULL_VERSION else f"{version.etag}{version.modified}"
    return blake2b(name.encode(), digest_size=IDENTITY // 2).hexdigest()


def of_versions(rows: pa.Table) -> pa.Table:
    """Return the rows that stand for a version: all but the second and later elements of arrays, which have no payload
    of their own.
    """
    return rows.filter(_stand_for_versions(rows))


def count_versions(rows: pa.Table) -> int:
    """Return how many rows `of_versions` would return."""
    return int(pc.sum(_stand_for_versions(rows)).as_py() or 0)


def blocks(
    rule: Rule, versions: Sequence[ObjectVersion], payloads: Sequence[bytes | None], contract: Contract
) -> Iterator[Block]:
    """Yield versions as rows, in their order, with the contract's columns and what these messages teach.

    No payload means too large.
    """
    return typed_again(_origins(rule, versions), payloads, contract)


def typed_again(origins: Sequence[pa.Array], payloads: Sequence[bytes | None], contract: Contract) -> Iterator[Block]:
    """Yield rows of which all is known but what their payloads say.

    One block of as many rows as there are versions; where arrays are unrolled there may be more rows, and then more
    blocks, but the rows of one version are never parted.
    """
    versions = pa.table([*origins, pa.array(payloads, pa.binary())], [*ORIGINS, "_payload"])
    for messages, rows in _messages(told(origins[-1], payloads), contract):
        yield _typed(versions if rows is None else _unrolled(versions, rows), messages, contract, rows)


class NoRecord:
    """Stands for the payload of what is no message, however much it looks like one."""


Payload = bytes | NoRecord | None
_NO_RECORD = NoRecord()


def told(versions: pa.Array | pa.ChunkedArray, payloads: Sequence[bytes | None]) -> Sequence[Payload]:
    """Return payloads as they are to be read, by the `_version` of each."""
    marks = pc.equal(versions, NO_RECORD)
    if not pc.any(marks).as_py():
        return payloads
    pairs = zip(payloads, marks.to_pylist(), strict=True)
    return [_NO_RECORD if is_none else payload for payload, is_none in pairs]


def taught(payloads: Sequence[Payload], contract: Contract) -> Evidence:
    """Return what messages have beyond a contract, without making rows of them."""
    evidence = Evidence()
    for messages, rows in _messages(payloads, contract):
        evidence.add(
            _contained(partial(_learnt, rows=rows, versions=len(payloads), contract=contract), messages, contract)
        )
    return evidence


class _Rows(NamedTuple):
    """The rows that versions have where one may have several."""

    versions: list[int]
    """Which version each is of, by its place."""
    numbers: list[int]
    """Which of its elements each is, from 0."""


def _messages(
    payloads: Sequence[Payload], contract: Contract
) -> Iterator[tuple[Callable[[], Iterable[Judged]], _Rows | None]]:
    """Yield what payloads say, a message each; by blocks of rows, where one may have several."""
    form, hider = contract.form, Hider(contract.private)
    lenient, read = form.lenient_numbers == "on", reader(contract.encoding)
    if form.arrays == "whole" and form.several_objects == "off":
        judge = _reading(read, partial(judged, lenient=lenient), lambda says: says)
        one = (lambda payload: hider.message(judge(payload))) if contract.private else judge
        yield lambda: _judgements(payloads, one, lambda says: says), None
        return
    each = _reading(
        read,
        partial(
            judged_elements, arrays=form.arrays == "elements", several=form.several_objects == "on", lenient=lenient
        ),
        alone,
    )
    statuses, messages, rows = list[Status](), list[dict[str, Any]](), _Rows([], [])
    many = (lambda payload: hider.elements(each(payload))) if contract.private else each
    for place, (judgements, elements) in enumerate(_judgements(payloads, many, alone)):
        statuses += judgements
        messages += elements
        rows.versions.extend(repeat(place, len(elements)))
        rows.numbers.extend(range(len(elements)))
        if len(messages) >= BLOCK_ROWS or place == len(payloads) - 1:
            yield partial(zip, statuses, messages), rows
            statuses, messages, rows = [], [], _Rows([], [])


def _reading(
    read: Callable[[bytes], bytes | Status] | None, judge: Callable[[bytes], _Says], only: Callable[[Judged], _Says]
) -> Callable[[bytes], _Says]:
    """Return what judges messages of an encoding."""
    if read is None:
        return judge

    def judge_text(payload: bytes) -> _Says:
        text = read(payload)
        return only((text, {})) if isinstance(text, Status) else judge(text)

    return judge_text


def _judgements(
    payloads: Sequence[Payload], judge: Callable[[bytes], _Says], only: Callable[[Judged], _Says]
) -> Iterator[_Says]:
    """Yield what each message says, or that it is too large.

    One of which nobody foresaw how it is read ends nothing: it is a row that says so.
    """
    for payload in payloads:
        try:
            if type(payload) is bytes:
                says = judge(payload)
            else:
                says = only((Status.TOO_LARGE if payload is None else Status.NO_RECORD, {}))
        except _FORESEEN:
            raise
        except Exception as error:  # noqa: BLE001 (the outermost frame of a message)
            says = only(_defect(error))
        yield says


_FORESEEN = (FleetError, MemoryError, OSError)
"""What says something of this machine, and nothing of a message."""


def _defect(error: Exception) -> Judged:
    _LOG.error("a message could not be read, because of a defect of fleet_pipeline: %s", plain_traceback(error))
    return Status.DEFECT, {}


def _contained(
    make: Callable[[Iterable[Judged]], _Says], messages: Callable[[], Iterable[Judged]], contract: Contract
) -> _Says:
    """Return what is made of some messages.

    If nobody foresaw how one of them fails, each is tried alone, and those that fail alone say so.
    """
    try:
        return make(messages())
    except _FORESEEN:
        raise
    except Exception:  # noqa: BLE001 (the outermost frame of a message; what fails though each message alone does not is raised again)
        return make([_alone(message, contract) for message in messages()])


def _alone(message: Judged, contract: Contract) -> Judged:
    """Return a message that can be made a row, or that it cannot."""
    try:
        sheet = Sheet(contract, 1)
        sheet.write([message])
        sheet.arrays()
        for values in sheet.overflow.values():
            _text(values)
    except _FORESEEN:
        raise
    except Exception as error:  # noqa: BLE001 (the outermost frame of a message)
        return _defect(error)
    return message


def _typed(head: pa.Table, messages: Callable[[], Iterable[Judged]], contract: Contract, rows: _Rows | None) -> Block:
    """Return the rows of some messages, of which is known where they came from and their payloads."""
    return _contained(partial(_made, head=head, contract=contract, rows=rows), messages, contract)


def _made(messages: Iterable[Judged], head: pa.Table, contract: Contract, rows: _Rows | None) -> Block:
    sheet, statuses = _read(messages, contract, head.num_rows, rows)
    typed = sheet.arrays()
    extra: list[str | None] = [None] * head.num_rows
    for row, left in sheet.overflow.items():
        statuses[row], extra[row] = Status.PARTIAL, _text(left)
    origins, payloads = head.select(ORIGINS).columns, head["_payload"]
    arrays = [
        *origins,
        pa.array(statuses, pa.string()),
        payloads,
        *(array for _, array in typed),
        pa.array(extra, pa.string()),
    ]
    table = pa.table(arrays, [*HEAD.names, *(column.name for column, _ in typed), EXTRA.name])
    return Block(table, tuple(column for column, _ in typed), len(contract.columns), sheet.evidence)


def _learnt(messages: Iterable[Judged], versions: int, contract: Contract, rows: _Rows | None) -> Evidence:
    sheet, _ = _read(messages, contract, versions, rows)
    return sheet.learn()


def _read(
    messages: Iterable[Judged], contract: Contract, versions: int, rows: _Rows | None
) -> tuple[Sheet, list[Status]]:
    """Return messages in a sheet, and their statuses."""
    sheet = Sheet(contract, versions) if rows is None else Sheet(contract, len(rows.versions), rows.versions)
    statuses = sheet.write(messages)
    sheet.evidence.messages = statuses.count(Status.OK) if rows is None else _count_read(statuses, rows.versions)
    return sheet, statuses


def _count_read(statuses: Sequence[Status], versions: Sequence[int]) -> int:
    read = Status.OK
    return len({*compress(versions, [status is read for status in statuses])})


def _unrolled(versions: pa.Table, rows: _Rows) -> pa.Table:
    """Return a row for each element of the versions.

    Only the first has the payload, and the others' identities say which they are.
    """
    numbers, places = pa.array(rows.numbers, pa.int32()), pa.array(rows.versions, pa.int32())
    origins = versions.select(ORIGINS).take(places)
    identities = pc.binary_join_element_wise(origins["_version"], _suffixes().take(numbers), "")
    payloads = versions["_payload"].take(pc.if_else(pc.equal(numbers, 0), places, None))
    return (
        origins.set_column(origins.schema.get_field_index("_version"), "_version", identities)
        .append_column("_payload", payloads)
        .combine_chunks()
    )


@cache
def _suffixes() -> pa.Array:
    """Return what stands after a version in the identities of its elements, by their numbers.

    Made late: the first array imports pandas where it is.
    """
    return pa.array(["", *(f"-{number:04}" for number in range(1, ELEMENTS))])


def conformed(made: Block, contract: Contract) -> pa.Table:
    """Return a block with exactly the contract's columns.

    Values that do not fit them go to `_extra`, and those that now do come out of it.
    """
    table, moved = _moved(made, contract)
    overflow: dict[int, dict[str, Any]] = {}
    own = {column.path: place for place, column in enumerate(made.columns, len(HEAD))}
    nulls = _Nulls(made.table.num_rows)
    held = (
        (column, _held(made, own.pop(column.path, None), column, overflow, nulls))
        for column in contract.columns.values()
    )
    typed = [_with_moved(array, moved.get(column.path, {}), column.kind) for column, array in held]
    for path, place in own.items():
        values = _values(made, place)
        # No column is made of empty arrays until one holds something: those of nulls have a length, and are kept.
        _all_overflow(
            [value or None for value in values] if made.columns[place - len(HEAD)].kind == "[]" else values,
            path,
            overflow,
        )
    table = _with_overflow(table, overflow) if overflow else table
    if contract.structs:
        typed = folded(
            {column.path: _whole(array) for column, array in zip(contract.columns.values(), typed, strict=True)}
        )
    arrays = [*(table[name] for name in HEAD.names), *typed, table[EXTRA.name]]
    return pa.table(arrays, row_schema(contract))


def row_schema(contract: Contract) -> pa.Schema:
    """Return the columns of a part."""
    return pa.schema([*HEAD, *contract.schema, EXTRA])


class _Nulls(dict[str, pa.Array]):
    """Columns of nulls, by their kinds: all of one kind are one and the same, and take memory once."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self._rows = rows

    def __missing__(self, kind: str) -> pa.Array:
        array = self[kind] = pa.nulls(self._rows, KINDS[kind])
        return array


def _held(
    made: Block, place: int | None, column: Column, overflow: dict[int, dict[str, Any]], nulls: _Nulls
) -> pa.Array | pa.ChunkedArray:
    """Return what a block's own column holds, as a column of the contract."""
    if place is None:
        return nulls[column.kind]
    if made.columns[place - len(HEAD)].kind == column.kind:
        return made.table.column(place)
    values = _values(made, place)
    array, misfits = filled(values, column.kind)
    for row in misfits:
        put(overflow.setdefault(row, {}), column.path, values[row])
    return array


def _with_moved(held: pa.Array | pa.ChunkedArray, moved: dict[int, Any], kind: str) -> pa.Array | pa.ChunkedArray:
    """Return a column with what was in `_extra`, by row: it fits, and the column has nothing in these rows."""
    if not moved:
        return held
    more = spread(filled([*moved.values()], kind)[0], [*moved], len(held))
    return more if held.null_count == len(held) else pc.coalesce(held, more)


def _values(made: Block, place: int) -> list[Any]:
    """Return what a column of a block holds, as the messages had it: JSON text was an array, or another value among
    arrays; a decimal an integer.
    """
    kind, values = made.columns[place - len(HEAD)].kind, list[Any](made.table.column(place).to_pylist())
    if kind == "json":
        return [value if value is None else written_as(value) for value in values]
    return [_integers(value) for value in values] if kind.startswith(DECIMAL) else values


def _integers(value: Any) -> Any:
    if type(value) is list:
        return [_integers(item) for item in value]
    return value if value is None else int(value)


def _all_overflow(values: list[Any], path: Path, overflow: dict[int, dict[str, Any]]) -> None:
    for row, value in enumerate(values):
        if value is not None:
            put(overflow.setdefault(row, {}), path, value)


def _moved(made: Block, contract: Contract) -> tuple[pa.Table, dict[Path, dict[int, Any]]]:
    """Take out of `_extra` what has a column since the block was made: of each such field, its values by row."""
    new = {column.path: column.kind for column in list(contract.columns.values())[made.recorded :]}
    moved: dict[Path, dict[int, Any]] = {}
    if not new or made.table[EXTRA.name].null_count == made.table.num_rows:
        return made.table, moved
    statuses, extra = made.table["_status"].to_pylist(), made.table[EXTRA.name].to_pylist()
    for row, text in enumerate(extra):
        if text is None:
            continue
        message = written_as(text)
        for path, value in list(_leaves(message)):
            if (
                path in new
                and fits(value, new[path])
                and not (contract.form.lenient_numbers == "on" and _may_be_no_number(value))
            ):
                moved.setdefault(path, {})[row] = value
                _take(message, path)
        extra[row], statuses[row] = (_text(message), statuses[row]) if message else (None, Status.OK)
    return _replaced(made.table, statuses, extra), moved


def _leaves(message: dict[str, Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    for name, value in message.items():
        if type(value) is dict:
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _take(message: dict[str, Any], path: Path) -> None:
    """Remove a value, and the objects around it that have no other."""
    if len(path) > 1:
        _take(message[path[0]], path[1:])
    if len(path) == 1 or not message[path[0]]:
        del message[path[0]]


_NO_NUMBER = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)


def _may_be_no_number(value: Any) -> bool:
    """Whether a text in `_extra` may have stood in its message without quotes, so that no column of
    texts may have it.
    """
    return (
        any(_may_be_no_number(item) for item in value)
        if type(value) is list
        else type(value) is str and bool(_NO_NUMBER.fullmatch(value))
    )


def _with_overflow(table: pa.Table, overflow: dict[int, dict[str, Any]]) -> pa.Table:
    statuses, extra = table["_status"].to_pylist(), table[EXTRA.name].to_pylist()
    for row, values in overflow.items():
        statuses[row], extra[row] = Status.PARTIAL, _text(_merged(written_as(extra[row] or "{}"), values))
    return _replaced(table, statuses, extra)


def _replaced(table: pa.Table, statuses: list[str], extra: list[str | None]) -> pa.Table:
    table = table.set_column(table.schema.get_field_index("_status"), "_status", pa.array(statuses, pa.string()))
    return table.set_column(table.schema.get_field_index(EXTRA.name), EXTRA, pa.array(extra, pa.string()))


def _merged(message: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    for name, value in more.items():
        message[name] = _merged(message.get(name, {}), value) if type(value) is dict else value
    return message


def _origins(rule: Rule, versions: Sequence[ObjectVersion]) -> list[pa.Array]:
    if rule.layout is not None:
        return _origins_by_layout(rule, versions)
    keys = pa.array([version.key for version in versions], pa.string())
    names = pc.replace_substring_regex(pc.utf8_slice_codeunits(keys, len(rule.raw_prefix)), f"^{WITHIN_SHARD}", "")
    return [
        keys,
        pc.cast(pc.cast(pc.utf8_slice_codeunits(names, 0, MILLIS_DIGITS), pa.int64()), HEAD.field("_ts").type),
        pa.repeat(pa.scalar(rule.known_topic, pa.string()), len(versions)),
        pc.if_else(
            pc.greater(pc.utf8_length(names), CLIENT_ID_AT),
            pc.utf8_slice_codeunits(names, CLIENT_ID_AT),
            pa.scalar(None, pa.string()),
        ),
        pa.array([identity(version) for version in versions], pa.string()),
    ]


def _origins_by_layout(rule: Rule, versions: Sequence[ObjectVersion]) -> list[pa.Array]:
    names = [rule.raw_name(version.key, version.modified) for version in versions]
    return [
        pa.array([version.key for version in versions], pa.string()),
        pa.array([name.millis if name else 0 for name in names], pa.int64()).cast(HEAD.field("_ts").type),
        pa.nulls(len(versions), pa.string()),
        pa.array([name.client_id if name else None for name in names], pa.string()),
        pa.array([identity(version) for version in versions], pa.string()),
    ]


def _stand_for_versions(rows: pa.Table) -> pa.ChunkedArray:
    return pc.equal(pc.utf8_length(rows["_version"]), IDENTITY)


def _whole(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _text(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value).decode()
