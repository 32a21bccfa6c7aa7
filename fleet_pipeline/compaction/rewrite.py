"""A new generation of the table: the same rows, their columns learnt or pinned anew, from Parquet alone and without a GET of raw objects.

Nothing is changed in place: readers stay on the old generation until `Lake.switch`, and the old one stays until a person removes it.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from fleet_pipeline.compaction.appending import Appending
from fleet_pipeline.compaction.contract import Contract
from fleet_pipeline.compaction.lake import Lake
from fleet_pipeline.compaction.parts import opened
from fleet_pipeline.compaction.rows import BLOCK_ROWS, ORIGINS, of_versions, row_schema, typed_again
from fleet_pipeline.fleet import Hour, Rule


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

    @property
    def complete(self) -> bool:
        """Whether the new generation has a row of every version that the old one has."""
        return self.versions == self.versions_before


def rewrite_hour(old: Lake, new: Lake, rule: Rule, hour: Hour) -> Rewritten:
    """Return once every message of an hour is in the new generation, by the new one's contract; the hour's parts become as few as may be.

    A second run adds nothing; stopped, the next run adds the rest. Pin a contract in the new generation first to choose its columns.
    """
    with TemporaryDirectory(prefix="fleet-") as folder:
        into = Appending(new, rule, hour, Path(folder), new.contract(rule))
        before = into.known.rows
        held = [opened(old.store, part).read([*ORIGINS, "_payload"]) for part in old.parts(rule, hour)]
        rows = pa.concat_tables(held) if held else row_schema(Contract()).empty_table()
        versions = of_versions(rows).sort_by([("_key", "ascending"), ("_version", "ascending")])
        for start in range(0, versions.num_rows, BLOCK_ROWS):
            block = into.known.without(versions.slice(start, BLOCK_ROWS))
            if block.num_rows:
                origins = [block[name].combine_chunks() for name in ORIGINS]
                for made in typed_again(origins, block["_payload"].to_pylist(), into.learnt):
                    into.add(*made)
        into.commit()
        known = into.known
        return Rewritten(rows.num_rows, known.rows - before, known.rows, versions.num_rows, known.versions, len(held), known.parts)
