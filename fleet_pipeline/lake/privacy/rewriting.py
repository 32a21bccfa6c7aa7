"""An hour of one generation without some of its messages: a part that has all other rows, then the word that it stands
for those before it, and only then their end.

Killed anywhere, the same call goes on: a part that was written and not yet announced says in its footer what it is.
Compactions and other erasures may go on beside it: a part's number is anybody's who takes it first.
"""

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fleet_pipeline import __version__
from fleet_pipeline.lake.commit import FIRST_RECORD, REPLACES, first_record
from fleet_pipeline.lake.contract import Contract
from fleet_pipeline.lake.field_ids import field_ids, numbered
from fleet_pipeline.lake.layout import Lake, LakePart
from fleet_pipeline.lake.memory import blocks_of
from fleet_pipeline.lake.parts import write
from fleet_pipeline.lake.privacy.messages import Identity, mask
from fleet_pipeline.lake.reading import PartFile, opened
from fleet_pipeline.lake.rows import HEAD, ORIGINS, conformed, row_schema, typed_again
from fleet_pipeline.lake.workplace import workplace
from fleet_pipeline.model.errors import PartDamaged
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule


@dataclass(frozen=True, slots=True)
class Replaced:
    """What an hour's rewriting did."""

    parts: Mapping[str, int]
    """Parts that were replaced, by their keys: how many rows of each went."""
    kept: int
    """Rows that stay: read back from the new part, each as it was."""
    digest: str
    """Of the rows that stay, before and after."""


NOTHING = Replaced({}, 0, "")


@dataclass(frozen=True, slots=True)
class Moved:
    """What others sent in a shared message, and what it is a message of from now on."""

    key: str
    versions: tuple[str, ...]
    """The `_version` of each row that it is."""
    payload: bytes = field(repr=False)
    client_id: str | None = None
    """Who sent it, as a key of its own says."""


@dataclass(frozen=True, slots=True)
class _Change:
    """What of an hour's rows is to be another."""

    gone: Collection[Identity]
    moved: Mapping[Identity, Moved]
    """Of those that are gone: what stands in their place."""


def without(  # noqa: PLR0913 (what, where, and what stands in its place)
    lake: Lake,
    rule: Rule,
    hour: Hour,
    gone: Collection[Identity],
    *,
    moved: Mapping[Identity, Moved] | None = None,
    fence: bool = False,
    note: Callable[[Replaced], None] = lambda _: None,
) -> Replaced:
    """Return once no row of an hour is of these messages, and every other row stands as it was, in one part.

    A message that was moved becomes its rows in the same step, typed by the generation's own contract: of others no row
    is ever missing. With `fence` a part is written also where there is none of them: whoever is about to add rows to
    the hour then has to look again. Without it a second run changes nothing. `note` is told what is about to be done,
    again where somebody was faster. Raises PartDamaged where the new part does not read as it was written.
    """
    change = _Change(gone, moved or {})
    while True:
        found = lake.found(rule, hour)
        parts = found.parts
        files = [opened(lake.store, part) for part in parts]
        if _announced(lake, rule, hour, parts, files):
            continue
        replaced = {part.key: _count(file, gone) for part, file in zip(parts, files, strict=True)}
        if not any(replaced.values()) and not fence:
            return NOTHING
        with workplace() as folder:
            place = _Place(rule, hour, found.following, replaced)
            if (done := _put(lake, place, files, change, folder, note)) is not None:
                lake.replace_before(rule, hour, found.following)
                return done


def _announced(lake: Lake, rule: Rule, hour: Hour, parts: Sequence[LakePart], files: Sequence[PartFile]) -> bool:
    """Say what a part replaces where its writer, which may have been killed, has not said it."""
    for part, file in zip(parts[1:], files[1:], strict=True):
        if file.facts.get(REPLACES) == part.number:
            lake.replace_before(rule, hour, part.number)
            return True
    return False


def _count(file: PartFile, gone: Collection[Identity]) -> int:
    return sum(mask(batch, gone).true_count for batch in file.batches(["_key", "_version"])) if gone else 0


@dataclass(frozen=True, slots=True)
class _Place:
    """A part that is to be written."""

    rule: Rule
    hour: Hour
    number: int
    replaced: Mapping[str, int]
    """As `Replaced` has them."""


def _put(  # noqa: PLR0913, PLR0917
    lake: Lake,
    place: _Place,
    files: Sequence[PartFile],
    change: _Change,
    folder: Path,
    note: Callable[[Replaced], None],
) -> Replaced | None:
    """Write the rows that stay as a part; return nothing where somebody took its number."""
    rule, hour, number = place.rule, place.hour, place.number
    contract, file = lake.contract(rule), folder / "part.parquet"
    schema = numbered(row_schema(contract), field_ids(contract, lake.generation))
    staying = _Digest()
    facts = {
        "writer": f"fleet-pipeline {__version__}",
        "rule": rule.key,
        "hour": hour.partition_key,
        "contract": contract.number,
        FIRST_RECORD: first_record(files[0]) if files else contract.number,
        REPLACES: number,
    }
    added = [aligned(block, schema) for block in _in_their_place(files, change, contract)]
    written = write(file, staying.of(_staying(files, change.gone, schema, added)), schema, facts)
    part = LakePart(lake.part_key(rule, hour, number), file.stat().st_size)
    done = Replaced(place.replaced, written.rows, staying.hex)
    note(done)
    if not lake.store.put_new(part.key, file):
        return None
    lake.check(part, file)
    again = _Digest()
    for _ in again.of(aligned(batch, schema) for batch in _batches(opened(lake.store, part))):
        pass
    if again != staying:
        raise PartDamaged(part.key, "its rows are not those that were written")
    return done


def _in_their_place(files: Sequence[PartFile], change: _Change, contract: Contract) -> Iterator[pa.Table]:
    """Yield the rows of what was moved, in the order of keys, as far as none of the parts has them already."""
    wanted = {(each.key, version) for each in change.moved.values() for version in each.versions}
    found: dict[Identity, dict[str, Any]] = {}
    for file in files if wanted else ():
        for batch in file.batches(ORIGINS):
            rows = batch.filter(mask(batch, {*wanted, *change.moved})).to_pylist()
            found |= {(row["_key"], row["_version"]): row for row in rows}
    there = found.keys() - {*change.gone}
    made = [
        (
            found[at]
            | {"_key": each.key, "_version": version}
            | ({} if each.key == at[0] else {"_client_id": each.client_id}),
            each.payload,
        )
        for at, each in change.moved.items()
        for version in each.versions
        if at in found and (each.key, version) not in there
    ]
    made.sort(key=lambda row: (row[0]["_key"], row[0]["_version"]))
    origins = [pa.array([row[name] for row, _ in made], HEAD.field(name).type) for name in ORIGINS]
    payloads = [payload for _, payload in made]
    for cut in blocks_of(payloads) if payloads else ():
        for block in typed_again([column[cut] for column in origins], payloads[cut], contract):
            yield conformed(block, contract)


class _Digest:
    """What rows say, all of it, in whatever order they come."""

    def __init__(self) -> None:
        self._sum = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Digest) and self._sum == other._sum

    __hash__ = None  # type: ignore[assignment]

    @property
    def hex(self) -> str:
        """Return it as text."""
        return f"{self._sum:032x}"

    def of(self, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Yield the tables, once their rows are in it."""
        for table in tables:
            for row in table.to_pylist():
                found = blake2b(repr(row).encode(errors="surrogatepass"), digest_size=16).digest()
                self._sum = (self._sum + int.from_bytes(found)) % 2**128
            yield table


def _staying(
    files: Sequence[PartFile], gone: Collection[Identity], schema: pa.Schema, added: Sequence[pa.Table]
) -> Iterator[pa.Table]:
    """Yield the rows that stay and those that are added, in the order of keys; the rows of a version beside each
    other.
    """
    if len(files) == 1 and not added:
        yield from (_less(batch, gone, schema) for batch in _batches(files[0]))
        return
    streams = [_by_version(_less(batch, gone, schema) for batch in _batches(file)) for file in files]
    streams.append(_by_version(iter(added)))
    held: list[pa.Table] = []
    for _, rows in heapq.merge(*streams, key=itemgetter(0)):
        held.append(rows)
        if len(held) >= _HELD:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


_HELD = 4096
"""Stretches of rows that are written at once where several parts become one."""


def _by_version(tables: Iterator[pa.Table]) -> Iterator[tuple[str, pa.Table]]:
    """Yield the rows of a key at a time, with it."""
    for table in tables:
        keys, start = table["_key"].to_pylist(), 0
        for place in range(1, len(keys) + 1):
            if place == len(keys) or keys[place] != keys[start]:
                yield keys[start], table.slice(start, place - start)
                start = place


def _less(batch: pa.Table, gone: Collection[Identity], schema: pa.Schema) -> pa.Table:
    return aligned(batch.filter(pc.invert(mask(batch, gone))), schema)


def _batches(file: PartFile) -> Iterator[pa.Table]:
    return file.batches(file.schema.names)


def aligned(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return rows with exactly these columns; one that a part is older than is null."""
    columns = [
        table[wanted.name].cast(wanted.type)
        if wanted.name in table.column_names
        else pa.nulls(table.num_rows, wanted.type)
        for wanted in schema
    ]
    return pa.table(columns, schema=schema)
