"""The way into an hour of the lake: rows gather in a spool, and go in as the next part, whoever else adds parts
meanwhile.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fleet_pipeline import __version__
from fleet_pipeline.aws.store import Store
from fleet_pipeline.lake.contract import Contract
from fleet_pipeline.lake.field_ids import field_ids, numbered
from fleet_pipeline.lake.layout import Lake, LakePart
from fleet_pipeline.lake.learning import Evidence
from fleet_pipeline.lake.parts import Spool, write
from fleet_pipeline.lake.reading import Identities, PartFile, opened
from fleet_pipeline.lake.rows import Block, conformed, row_schema
from fleet_pipeline.lake.tombstones import Tombstones, listed
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule


class GenerationBegun(Exception):
    """A new generation was begun meanwhile: what is to be added must be there first, since readers
    will switch to it.
    """


class ErasureBegun(Exception):
    """A vehicle was erased meanwhile: what is to be added must be read again. What others sent beside it may be another
    message by now.
    """


REPLACES = "replaces"
"""Of a part's footer: the number before which all parts are replaced by it."""


FIRST_RECORD = "first_contract"
"""Of such a part's footer: the record that the hour's first part named, by which it is told what the hour may bring."""


def first_record(first: PartFile) -> int | None:
    """Return the record of the columns of an hour's first part, as it was before anything was erased."""
    return first.facts.get(FIRST_RECORD, first.facts.get("contract"))


def announced(store: Store, parts: Sequence[LakePart]) -> list[PartFile]:
    """Return which of an hour's parts stand, opened: all but one that is to replace those before it and is not yet said
    to. Until then these have its rows. Raises PartDamaged.
    """
    first = parts[0].number if parts else 0
    files = [opened(store, part) for part in parts]
    return [file for file in files if file.part.number == first or file.facts.get(REPLACES) != file.part.number]


def standing(lake: Lake, rule: Rule, hour: Hour) -> list[PartFile]:
    """Return the parts of an hour that stand, opened: no row is in two of them. Raises PartsMissing, PartDamaged."""
    return announced(lake.store, lake.parts(rule, hour))


class Slots(Protocol):
    """The parts of an hour, as `append` sees them."""

    def put(self, number: int) -> bool:
        """Write what is pending as this part, if the number is free."""
        ...

    def look(self) -> int:
        """Leave out of what is pending every row of parts not seen so far; return the next free number."""
        ...

    @property
    def pending(self) -> int:
        """Rows that no seen part holds."""
        ...


def append(slots: Slots, seen: int) -> int:
    """Add what is pending as the next part after those that were seen, and return the number after it.

    A taken number means that a rival was faster, or that an earlier try of ours arrived and its answer was lost: look
    again, in both cases.
    """
    while slots.pending:
        if slots.put(seen):
            return seen + 1
        seen = slots.look()
    return seen


@dataclass
class Appending:
    """The parts of one hour, and what is to be added to them.

    Blocks come in the order of their keys, without rows that a seen part holds.
    """

    lake: Lake
    rule: Rule
    hour: Hour
    folder: Path
    """Where the spool and the next part lie until they are written."""
    contract: Contract
    """The rule's columns, as they were recorded last."""
    coming: list[Lake] | None = None
    """The generations that are known to be written beside this one; None for whoever writes one of them."""
    known: Identities = field(default_factory=Identities)
    """The rows of the parts seen so far."""
    statuses: Counter[str] = field(default_factory=Counter)
    added: list[LakePart] = field(default_factory=list)
    evidence: Evidence = field(default_factory=Evidence)
    """What the hour's messages have beyond these columns."""
    beside: bool = False
    """Whether others are known to add to this hour at the same time: then what has come is looked at before a part is
    made, and not only when its number is taken.
    """

    def __post_init__(self) -> None:
        """Look at what the hour holds."""
        self._spool = Spool(self.folder / "spool")
        self._most: int | None = None
        self._first_record: int | None = None
        self._seen: list[LakePart] = []
        self._erased: Tombstones | None = None
        self._has_looked = False
        self._next = self.look()

    @property
    def erased(self) -> Tombstones:
        """The vehicles of which nothing may be added, as they are when this is asked first."""
        if self._erased is None:
            self._erased = Tombstones.of(self.lake.store, self.lake.prefix, self.rule.encoding)
        return self._erased

    def add(self, block: Block) -> None:
        """Take rows, and what they teach. Enough of them go into the lake at once."""
        self.evidence.add(block.evidence)
        self._spool.add(block)
        if self._spool.full:
            self.commit()

    def commit(self) -> None:
        """Return once every row that was added is in the lake."""
        if self.beside and self.pending:
            self._next = self.look()
        self._next = append(self, self._next)
        self._spool = Spool(self.folder / "spool")

    @property
    def seen(self) -> list[LakePart]:
        """The parts that were seen or added so far."""
        return [*self._seen]

    @property
    def last(self) -> int:
        """The number of the last part that was seen or added; -1 where there is none."""
        return self._next - 1

    @property
    def pending(self) -> int:
        """Rows that no seen part holds."""
        return self._spool.rows

    def put(self, number: int) -> bool:
        """Write the pending rows as this part, if the number is free. Their columns are recorded before.

        Raises GenerationBegun, and writes nothing, when a new generation was begun that the caller does not know.
        """
        self.contract = self.lake.record(self.rule, self.evidence, self.contract.form, self._most_columns())
        file, key = self.folder / "part.parquet", self.lake.part_key(self.rule, self.hour, number)
        facts = {
            "writer": f"fleet-pipeline {__version__}",
            "rule": self.rule.key,
            "hour": self.hour.partition_key,
            "contract": self.contract.number,
        }
        schema = numbered(row_schema(self.contract), field_ids(self.contract, self.lake.generation))
        written = write(file, (conformed(block, self.contract) for block in self._spool), schema, facts)
        if self.coming is not None and self.lake.coming() != self.coming:
            raise GenerationBegun
        if listed(self.lake.store, self.lake.prefix) != self.erased.names:
            raise ErasureBegun
        if not self.lake.store.put_new(key, file):
            return False
        part = LakePart(key, file.stat().st_size)
        self.lake.check(part, file)
        self.added.append(part)
        self._seen.append(part)
        self.known.note(written.rows, written.versions)
        self.statuses += written.statuses
        return True

    def _most_columns(self) -> int:
        """Return how many columns the table may have after this hour: half of the room that was there before its first
        part goes to it, whoever writes it.
        """
        if self._most is None and self.evidence.fields:
            before = (
                self.contract if self._first_record is None else self.lake.contract(self.rule, self._first_record - 1)
            )
            self._most = len(before.columns) + before.most_new
        return self._most or 0

    def look(self) -> int:
        """See the parts that have come, and drop their rows from what is pending.

        Where one has replaced those that were seen, all are seen anew. Raises ErasureBegun where one has come that
        replaces others, and there are rows to add.
        """
        found = self.lake.found(self.rule, self.hour)
        parts = found.parts
        if parts[: len(self._seen)] != self._seen:
            self._seen, self.known = [], Identities()
        is_new = False
        for part in parts[len(self._seen) :]:
            file = opened(self.lake.store, part)
            self.known.add(file)
            is_new = is_new or file.facts.get(REPLACES) == part.number
            if self._most is None and part is parts[0]:
                self._first_record = first_record(file)
        self._seen = parts
        self._spool.drop(self.known)
        if is_new and self._has_looked and self.pending:
            raise ErasureBegun
        self._has_looked = True
        return found.following
