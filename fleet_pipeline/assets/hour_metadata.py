"""What Dagster shows of an hour of the lake: numbers that it plots over the hours, pictures, some rows, columns and where they come from."""

from typing import Any

import dagster as dg
import pyarrow as pa

from fleet_pipeline.assets import raw
from fleet_pipeline.assets.pictures import bars, dots
from fleet_pipeline.assets.verdicts import Outcome
from fleet_pipeline.compaction.contract import Contract
from fleet_pipeline.fleet import Fleet, Rule

CELL = 80
"""Characters of a value in the preview."""


def hour_metadata(fleet: Fleet, rule: Rule, outcome: Outcome, contract: Contract) -> dict[str, Any]:
    """Return the metadata of an hour that was compacted."""
    compacted, found = outcome.compacted, outcome.found
    return {
        "dagster/partition_row_count": found.rows,
        "dagster/column_schema": _columns(contract),
        "dagster/column_lineage": _lineage(rule, contract),
        "rows added": compacted.rows_added,
        "raw versions": compacted.raw_versions,
        "raw bytes": compacted.raw_bytes,
        "Parquet bytes": found.bytes,
        "files": len(found.parts),
        "parts added": "\n".join(compacted.parts_added) or "none",
        "vehicles": found.vehicles,
        "unreadable messages": found.unreadable,
        "statuses of added rows": dg.MetadataValue.json(compacted.statuses),
        "recovered collisions": compacted.recovered_collisions,
        "foreign keys": compacted.foreign_keys,
        "seconds": round(compacted.seconds, 3),
        **_rates(fleet, outcome),
        **_shown(outcome),
    }


def _rates(fleet: Fleet, outcome: Outcome) -> dict[str, float]:
    compacted, found = outcome.compacted, outcome.found
    saved = max(0, compacted.raw_versions - len(found.parts))
    return {
        "objects per second": round(compacted.rows_added / compacted.seconds, 1) if compacted.seconds else 0.0,
        "raw bytes per Parquet byte": round(compacted.raw_bytes / found.bytes, 2) if found.bytes else 0.0,
        "requests, US dollars": round(fleet.requests_usd(compacted.get_requests, compacted.list_requests + compacted.put_requests), 6),
        "requests saved by a full read": saved,
        "saved by a full read, US dollars": round(fleet.requests_usd(saved, 0), 6),
    }


def _shown(outcome: Outcome) -> dict[str, Any]:
    """Return the pictures and some rows; nothing of an empty hour."""
    found = outcome.found
    if not found.rows:
        return {}
    where = {"where vehicles were": dg.MetadataValue.md(dots(found.track, "a sample of positions, north up"))} if found.track else {}
    return {
        "messages a minute": dg.MetadataValue.md(bars(found.minutes, f"at most {max(found.minutes)} a minute")),
        **where,
        "some rows": _table(found.preview),
    }


def _table(rows: pa.RecordBatch) -> dg.TableMetadataValue:
    columns = [name for name in rows.schema.names if name not in {"_version", "_topic"}]
    shown = [{name: _cell(value) for name, value in row.items() if name in columns} for row in rows.to_pylist()]
    return dg.MetadataValue.table([dg.TableRecord(row) for row in shown], dg.TableSchema([dg.TableColumn(name) for name in columns]))


def _cell(value: Any) -> str | float | bool | None:
    if value is None or isinstance(value, int | float | bool):
        return value
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


def _columns(contract: Contract) -> dg.TableSchema:
    return dg.TableSchema([dg.TableColumn(name, column.kind, f"`{'.'.join(column.path)}` of the message") for name, column in contract.columns.items()])


def _lineage(rule: Rule, contract: Contract) -> dg.TableColumnLineage:
    """Return the field of the raw message that each column holds."""
    return dg.TableColumnLineage({name: [dg.TableColumnDep(raw.key(rule), ".".join(column.path))] for name, column in contract.columns.items()})
