"""A derived table where nothing may be overwritten: when a partition's inputs have grown, all of it is written anew
beside what was there.

A revision is one object, `vehicles_hourly/date=2026-11-23/hour=10/revision-00001.parquet`: a reader sees the whole of
it or nothing, and what is being read never changes. The highest revision of a partition is the one that counts; every
row carries its number.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fleet_pipeline.aws.store import Store
from fleet_pipeline.lake.checksums import add_checksums
from fleet_pipeline.lake.layout import LakePart
from fleet_pipeline.lake.reading import FOOTER, opened

REVISION = pa.field("revision", pa.int32())
"""The column by which a query takes the last revision of each partition."""

Computed = tuple[pa.Table, dict[str, int]]
"""The rows of a partition, and what is said beside them."""

_NAME = re.compile(r"revision-([0-9]{5})\.parquet")


@dataclass(frozen=True, slots=True)
class Revised:
    """What a partition says now."""

    key: str | None
    """The object of the revision that counts; None for a partition that had nothing to be computed from."""
    rows: pa.Table
    inputs: str
    """A digest of what the rows were computed from."""
    written: bool
    """Whether this run wrote the revision. If not, nothing had changed."""
    notes: dict[str, int] = field(default_factory=dict)
    """What the revision says beside its rows."""


@dataclass(frozen=True, slots=True)
class DerivedTable:
    """A table computed from others, partition by partition.

    `version` is another one when the same inputs would give other rows.
    """

    store: Store
    name: str
    schema: pa.Schema
    version: str = "1"

    def last(self, partition: str) -> LakePart | None:
        """Return the revision of a partition that counts, or None before the first."""
        return next(reversed(self.revisions(partition)), None)

    def recompute(
        self, partition: str, look: Callable[[], Sequence[LakePart]], compute: Callable[[Sequence[LakePart]], Computed]
    ) -> Revised:
        """Return what a partition says, once a revision says it; unchanged inputs write nothing.

        `look` returns the inputs: objects that never change, so that their keys say all. Whoever writes a revision
        looked at the inputs
        after the revision before it was there, and inputs only grow: of two runs at once the older answer is never the
        last.
        """
        while True:
            found = self.revisions(partition)
            inputs = look()
            digest = self.digest(inputs)
            if found and (facts := self._facts(found[-1]))["inputs"] == digest:
                return Revised(
                    found[-1].key,
                    opened(self.store, found[-1], self.schema).read(),
                    digest,
                    written=False,
                    notes=facts.get("notes", {}),
                )
            if not found and not inputs:
                return Revised(None, self.schema.append(REVISION).empty_table(), digest, written=False)
            computed, notes = compute(inputs)
            number = _number(found[-1]) + 1 if found else 0
            rows = _numbered(computed.cast(self.schema), number)
            key = f"{self._folder(partition)}revision-{number:05d}.parquet"
            if self._put(key, rows, {"inputs": digest, "notes": notes}):
                return Revised(key, rows, digest, written=True, notes=notes)

    def standing(self, partition: str) -> Revised:
        """Return what a partition says, whatever its inputs are now: they may be gone because they were old."""
        last = self.last(partition)
        if last is None:
            return Revised(None, self.schema.append(REVISION).empty_table(), "", written=False)
        facts = self._facts(last)
        rows = opened(self.store, last, self.schema).read()
        return Revised(last.key, rows, facts["inputs"], written=False, notes=facts.get("notes", {}))

    def revise(self, partition: str, keep: Callable[[pa.Table], pa.Table]) -> None:
        """Return once the last revision of a partition has only the rows of the one before that are to be kept, for
        one whose inputs are gone. Nothing is written where all of them are.
        """
        while (last := self.last(partition)) is not None:
            rows = opened(self.store, last, self.schema).read()
            kept = keep(rows)
            if kept.num_rows == rows.num_rows:
                return
            facts, number = self._facts(last), _number(last) + 1
            key = f"{self._folder(partition)}revision-{number:05d}.parquet"
            said = {"inputs": facts["inputs"], "notes": facts.get("notes", {})}
            if self._put(key, _numbered(kept.select(self.schema.names), number), said):
                return

    def all_last(self) -> dict[str, LakePart]:
        """Return the revision that counts of every partition, at one request for a thousand objects."""
        found: dict[str, LakePart] = {}
        for page in self.store.versions(f"{self.name}/"):
            for version in page:
                partition, _, name = version.key[len(self.name) + 1 :].rpartition("/")
                if version.latest and _NAME.fullmatch(name):
                    found[partition] = LakePart(version.key, version.size)
        return found

    def _folder(self, partition: str) -> str:
        return f"{self.name}/{partition}/"

    def revisions(self, partition: str) -> list[LakePart]:
        """Return the revisions of a partition that are there, in their order."""
        folder = self._folder(partition)
        live = (version for page in self.store.versions(folder) for version in page if version.latest)
        return [LakePart(version.key, version.size) for version in live if _NAME.fullmatch(version.key[len(folder) :])]

    def digest(self, inputs: Sequence[LakePart]) -> str:
        """Return what a revision says of the inputs that it was computed from."""
        return sha256("\n".join([f"{self.name} {self.version}", *(part.key for part in inputs)]).encode()).hexdigest()

    def _facts(self, revision: LakePart) -> dict[str, Any]:
        return opened(self.store, revision, self.schema).facts

    def _put(self, key: str, rows: pa.Table, said: dict[str, Any]) -> bool:
        with TemporaryDirectory(prefix="fleet-") as folder:
            file = Path(folder, "revision.parquet")
            facts = {FOOTER: json.dumps({"table": self.name, "version": self.version, **said})}
            pq.write_table(rows.replace_schema_metadata(facts), file, compression="zstd", write_page_checksum=True)
            add_checksums(file)
            return self.store.put_new(key, file)


def _number(revision: LakePart) -> int:
    """Return a revision's number: those before it may have been erased."""
    found = _NAME.fullmatch(revision.key.rpartition("/")[2])
    return int(found[1]) if found else 0


def _numbered(rows: pa.Table, revision: int) -> pa.Table:
    return rows.append_column(REVISION, pa.nulls(rows.num_rows, REVISION.type).fill_null(revision))
