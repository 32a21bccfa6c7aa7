"""Where everything lies in the lake, and the only ways in: the next free part of an hour, the next free record of a contract.

Whoever wins a part number has looked at all parts before it, and these never change: that is why nothing is lost or doubled, however many
write at once, however they die. Nothing is overwritten or deleted.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from fleet_pipeline.compaction.contract import Contract
from fleet_pipeline.errors import PartDamaged, PartsMissing
from fleet_pipeline.fleet import Form, Hour, Rule
from fleet_pipeline.store import Store

_HOUR = re.compile(r"date=([0-9]{4}-[0-9]{2}-[0-9]{2})/hour=([0-9]{2})")

TAIL = 65_536
"""Bytes at a part's end that are read back after it was written: the footer of any but the widest."""

_NUMBER = re.compile(r"part-([0-9]{5})\.parquet")


@dataclass(frozen=True, slots=True)
class Part:
    """A Parquet file of an hour."""

    key: str
    size: int


@dataclass(frozen=True, slots=True)
class Lake:
    """One generation of the Parquet table: `{prefix}/v1/rule=rule1/date=2026-11-23/hour=10/part-00000.parquet`."""

    store: Store
    prefix: str
    generation: int = 1
    form: Form = Form()
    """How messages become rows where that is not recorded yet."""

    @classmethod
    def current(cls, store: Store, prefix: str, form: Form | None = None) -> Self:
        """Return the generation that readers use: the one switched to last, or the first."""
        marks = [version.key for page in store.versions(f"{prefix}/_current/") for version in page if version.latest]
        return cls(store, prefix, int(marks[-1].rpartition("/v")[2]) if marks else 1, form or Form())

    def switch(self) -> None:
        """Make this the generation that readers use. A second time changes nothing."""
        self.store.put_new(f"{self.prefix}/_current/v{self.generation:05d}", b"")

    @property
    def next_generation(self) -> Self:
        """The same table, to be written anew."""
        return replace(self, generation=self.generation + 1)

    @property
    def root(self) -> str:
        """Where this generation's partitions lie; what a reader is given."""
        return f"{self.prefix}/v{self.generation}/"

    def partition(self, rule: Rule, hour: Hour) -> str:
        """Return where the parts of an hour lie."""
        return f"{self.root}{rule.path(hour)}/"

    def part_key(self, rule: Rule, hour: Hour, number: int) -> str:
        """Return the key of a part."""
        return f"{self.partition(rule, hour)}part-{number:05d}.parquet"

    def parts(self, rule: Rule, hour: Hour) -> list[Part]:
        """Return the parts of an hour in their order. Raises PartsMissing when they are not numbered from 0 without a gap.

        Objects of other names are not parts, and are never read.
        """
        partition = self.partition(rule, hour)
        live = [version for page in self.store.versions(partition) for version in page if version.latest]
        found = [Part(version.key, version.size) for version in live if _NUMBER.fullmatch(version.key[len(partition) :])]
        if [part.key for part in found] != [self.part_key(rule, hour, number) for number in range(len(found))]:
            raise PartsMissing(partition, tuple(part.key[len(partition) :] for part in found))
        return found

    def hours(self, rule: Rule) -> list[Hour]:
        """Return the hours of which there are parts, in their order."""
        prefix = f"{self.root}rule={rule.key}/"
        paths = {version.key[len(prefix) :].rpartition("/")[0] for page in self.store.versions(prefix) for version in page if version.latest}
        return sorted(Hour.parse(f"{found[1]}-{found[2]}:00") for found in map(_HOUR.fullmatch, paths) if found)

    def check(self, part: Part, file: Path) -> None:
        """Return when the lake holds a part as it was written, to its size and the bytes of its footer; raise PartDamaged otherwise."""
        tail = min(TAIL, part.size)
        with file.open("rb") as source:
            source.seek(part.size - tail)
            if self.store.read(part.key, part.size - tail, part.size) != source.read():
                raise PartDamaged(part.key, "its footer is not the one that was written")

    def contract(self, rule: Rule) -> Contract:
        """Return the rule's contract as it was recorded last; an empty one before the first record."""
        live = [version for page in self.store.versions(self._records(rule)) for version in page if version.latest]
        if not live:
            return Contract(form=self.form)
        return Contract.of_json(self.store.read(live[-1].key, 0, live[-1].size), len(live) - 1)

    def record(self, rule: Rule, learnt: Contract) -> Contract:
        """Return the recorded contract once it has every column that was learnt and that it may have. Others may be recording too."""
        while True:
            found = self.contract(rule)
            wanted = found.adding(learnt)
            if wanted is found or self.store.put_new(f"{self._records(rule)}{wanted.number:05d}.json", wanted.to_json()):
                return wanted

    def pin(self, rule: Rule, contract: Contract) -> Contract:
        """Return the contract once it is recorded with exactly these columns and takes no others: new fields stay in `_extra`.

        Columns may be added to those that stand, and none taken away or changed. Raises ContractBroken otherwise: that needs a new generation.
        """
        while True:
            found = self.contract(rule)
            wanted = found.pinning(contract)
            if wanted == found or self.store.put_new(f"{self._records(rule)}{wanted.number:05d}.json", wanted.to_json()):
                return wanted

    def _records(self, rule: Rule) -> str:
        return f"{self.prefix}/_schema/v{self.generation}/rule={rule.key}/"
