"""An hour of one generation without some of its messages: a part that has all other rows, then the word that it stands
for those before it, and only then their end.

Killed anywhere, the same call goes on: a part that was written and not yet announced says in its footer what it is.
Compactions and other erasures may go on beside it: a part's number is anybody's who takes it first.
"""

import heapq
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from operator import itemgetter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from fleet_pipeline import __version__
from fleet_pipeline.lake.contract import Contract
from fleet_pipeline.lake.field_ids import field_ids, numbered
from fleet_pipeline.lake.layout import Lake, LakePart
from fleet_pipeline.lake.parts import write
from fleet_pipeline.lake.privacy.messages import Identity, mask
from fleet_pipeline.lake.reading import PartFile, opened
from fleet_pipeline.lake.rows import row_schema
from fleet_pipeline.lake.workplace import workplace
from fleet_pipeline.model.errors import PartDamaged
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule

REPLACES = "replaces"
"""Of a part's footer: the number before which all parts are replaced by it."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """What an hour's rewriting did."""

    parts: int
    """Parts that were replaced."""
    rows: int
    """Rows that went."""
    kept: int
    """Rows that stay: read back from the new part, each as it was."""
    digest: str
    """Of the rows that stay, before and after."""


NOTHING = Replaced(0, 0, 0, "")


def without(lake: Lake, rule: Rule, hour: Hour, gone: Collection[Identity], *, fence: bool = False) -> Replaced:
    """Return once no row of an hour is of these messages, and every other row stands as it was, in one part.

    With `fence` a part is written also where there is none of them: whoever is about to add rows to the hour then has
    to look again. Without it a second run changes nothing. Raises PartDamaged where the new part does not read as it
    was written.
    """
    while True:
        found = lake.found(rule, hour)
        parts = found.parts
        files = [opened(lake.store, part) for part in parts]
        if _announced(lake, rule, hour, parts, files):
            continue
        affected = any(_has(file, gone) for file in files)
        if not affected and not fence:
            return NOTHING
        with workplace() as folder:
            if (done := _put(lake, (rule, hour), found.following, files, gone, folder)) is not None:
                lake.replace_before(rule, hour, found.following)
                return done


def _announced(lake: Lake, rule: Rule, hour: Hour, parts: Sequence[LakePart], files: Sequence[PartFile]) -> bool:
    """Say what a part replaces where its writer, which may have been killed, has not said it."""
    for part, file in zip(parts[1:], files[1:], strict=True):
        if file.facts.get(REPLACES) == part.number:
            lake.replace_before(rule, hour, part.number)
            return True
    return False


def _has(file: PartFile, gone: Collection[Identity]) -> bool:
    return any(mask(batch, gone).true_count for batch in file.batches(["_key", "_version"])) if gone else False


def _put(  # noqa: PLR0913, PLR0917
    lake: Lake,
    place: tuple[Rule, Hour],
    number: int,
    files: Sequence[PartFile],
    gone: Collection[Identity],
    folder: Path,
) -> Replaced | None:
    rule, hour = place
    contract, file = lake.contract(rule), folder / "part.parquet"
    schema = numbered(row_schema(contract), field_ids(contract, lake.generation))
    staying = _Digest()
    facts = {
        "writer": f"fleet-pipeline {__version__}",
        "rule": rule.key,
        "hour": hour.partition_key,
        "contract": _first_contract(files, contract),
        REPLACES: number,
    }
    written = write(file, staying.of(_staying(files, gone, schema)), schema, facts)
    part = LakePart(lake.part_key(rule, hour, number), file.stat().st_size)
    if not lake.store.put_new(part.key, file):
        return None
    lake.check(part, file)
    again = _Digest()
    for _ in again.of(aligned(batch, schema) for batch in _batches(opened(lake.store, part))):
        pass
    if again != staying:
        raise PartDamaged(part.key, "its rows are not those that were written")
    return Replaced(len(files), sum(each.rows for each in files) - written.rows, written.rows, staying.hex)


def _first_contract(files: Sequence[PartFile], contract: Contract) -> int:
    """Return the record that the hour's first part named: it says how many columns the hour could still bring."""
    return int(files[0].facts.get("contract", contract.number)) if files else contract.number


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


def _staying(files: Sequence[PartFile], gone: Collection[Identity], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the rows that stay, in the order of keys; the rows of a version beside each other."""
    if len(files) == 1:
        yield from (_less(batch, gone, schema) for batch in _batches(files[0]))
        return
    streams = [_by_version(_less(batch, gone, schema) for batch in _batches(file)) for file in files]
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
