"""A new generation of the table: the same rows, their columns learnt or pinned anew, from Parquet alone and without a
GET of raw objects.

Nothing is changed in place: readers stay on the old generation until `Lake.switch`, and the old one stays until a
person removes it.

Compactions may go on meanwhile. `Lake.begin` comes first: who compacts an hour from then on adds its messages to the
new generation before the old one. What was added before is found by the rewrite, which looks at every hour after that.
So readers that switch never see a row less.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from fleet_pipeline.lake.commit import Appending, ErasureBegun, announced, standing
from fleet_pipeline.lake.contract import Contract
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.learning import Evidence
from fleet_pipeline.lake.memory import blocks_of, garbage_seldom_sought
from fleet_pipeline.lake.reading import PartFile, merged
from fleet_pipeline.lake.rows import BLOCK_ROWS, ORIGINS, Block, taught, told, typed_again
from fleet_pipeline.lake.workplace import workplace
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What a new generation holds of an hour."""

    rows_before: int
    """Rows of the old generation."""
    rows_added: int
    rows: int
    versions_before: int
    """Versions that have rows: the same number in both, however many rows an array is."""
    versions: int
    parts_before: int
    parts: int
    erased: int = 0
    """Versions of vehicles that were erased meanwhile: they became no rows."""
    last_before: int = -1
    """The number of the old generation's last part."""

    @property
    def complete(self) -> bool:
        """Whether the new generation has a row of every version that the old one has, but for erased vehicles'.

        It may have more: of messages that came meanwhile.
        """
        return self.versions + self.erased >= self.versions_before


def learnt(old: Lake, contract: Contract, rule: Rule, hour: Hour) -> Evidence:
    """Return what the messages of an hour have beyond a contract.

    For whoever learns over all hours before the first is written.
    """
    evidence = Evidence()
    with garbage_seldom_sought:
        for block in _versions(standing(old, rule, hour)):
            evidence.add(taught(told(block["_version"], block["_payload"].to_pylist()), contract))
    return evidence


def rewrite_hour(old: Lake, new: Lake, rule: Rule, hour: Hour) -> Rewritten:
    """Return once every message of an hour is in the new generation, by the new one's contract; the hour's parts become
    as few as may be.

    A second run adds nothing; stopped, the next run adds the rest. Pin a contract in the new generation first to choose
    its columns.
    """
    while True:
        with suppress(ErasureBegun), workplace() as folder, garbage_seldom_sought:
            return _rewritten(old, new, rule, hour, folder)


def _rewritten(old: Lake, new: Lake, rule: Rule, hour: Hour, folder: Path) -> Rewritten:
    into = Appending(new, rule, hour, folder, new.contract(rule))
    before, erased, parts = into.known.rows, 0, old.parts(rule, hour)
    files = announced(old.store, parts)
    for block in _versions(files):
        if (lacking := into.known.without(block)).num_rows:
            staying = into.erased.of_rows(lacking)
            erased += lacking.num_rows - staying.num_rows
            for made in _typed(staying, into.contract) if staying.num_rows else ():
                into.add(made)
    into.commit()
    return Rewritten(
        sum(file.rows for file in files),
        into.known.rows - before,
        into.known.rows,
        sum(file.versions for file in files),
        into.known.versions,
        len(files),
        into.known.parts,
        erased,
        parts[-1].number if parts else -1,
    )


def has_grown(old: Lake, rule: Rule, hour: Hour, done: Rewritten) -> bool:
    """Whether the old generation got parts of an hour since it was rewritten."""
    return any(part.number > done.last_before for part in old.parts(rule, hour))


def _versions(files: Sequence[PartFile]) -> Iterator[pa.Table]:
    """Yield the rows that stand for versions, with what they are made of, in the order of keys."""
    for versions in merged(files, [*ORIGINS, "_payload"]):
        for start in range(0, versions.num_rows, BLOCK_ROWS):
            block = versions.slice(start, BLOCK_ROWS)
            for cut in blocks_of(block["_payload"].to_pylist()):
                yield block.slice(cut.start, cut.stop - cut.start)


def _typed(block: pa.Table, contract: Contract) -> Iterator[Block]:
    return typed_again([block[name].combine_chunks() for name in ORIGINS], block["_payload"].to_pylist(), contract)
