"""What a reader is given of each rule's table: where its metadata lies, and which snapshot it asks for."""

from datetime import datetime
from typing import NamedTuple

from fleet_pipeline.lake.iceberg.sync import history
from fleet_pipeline.lake.iceberg.tables import Tables


class Scan(NamedTuple):
    """A table as it was in one snapshot."""

    metadata: str
    snapshot: int


def scans(tables: Tables, at: datetime | None = None) -> dict[str, Scan]:
    """Return the tables' snapshots that were current at an instant, or are now, by the rules' keys.

    A rule that had none then, or of which that one is forgotten, is left out.
    """
    found: dict[str, Scan] = {}
    for rule in tables.fleet.rules:
        table = tables.find(rule)
        made = [each for each in history(table) if not at or each.at <= at] if table else []
        if table and made:
            found[rule.key] = Scan(table.metadata_location, made[-1].snapshot_id)
    return found
