"""What Dagster shows of an hour of the lake: numbers that it plots over the hours, pictures, some rows, columns and
where they come from.
"""

from collections.abc import Callable
from typing import Any

import dagster as dg

from fleet_pipeline.assets.lake import raw
from fleet_pipeline.assets.lake.inspection import Inspection
from fleet_pipeline.assets.lake.verdicts import Outcome
from fleet_pipeline.assets.shared.pictures import bars, dots
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.assets.shared.shown import attempted, table
from fleet_pipeline.lake.contract import Contract
from fleet_pipeline.lake.operations.compact_hour import Compacted
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.plain import in_markdown, plain
from fleet_pipeline.model.rule import Rule

ROWS, POSITIONS, FIRST_ROWS = "some rows", "where vehicles were", "first rows"

OF_MESSAGES = frozenset({ROWS, POSITIONS, FIRST_ROWS})
"""Metadata of an hour or a day in which something stands that a vehicle said."""

_NOT_IN_THE_PREVIEW = {"_version", "_topic"}


def hour_metadata(scope: Scope, rule: Rule, outcome: Outcome, contract: Contract) -> dict[str, Any]:
    """Return the metadata of an hour that was compacted. Never fails: what cannot be shown says so."""
    compacted, found = outcome.compacted, outcome.found
    return {
        "dagster/partition_row_count": found.rows,
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
        **_batches(compacted),
        **({"messages of erased vehicles": compacted.erased} if compacted.erased else {}),
        "seconds": round(compacted.seconds, 3),
        **_rates(scope.fleet, outcome),
        **_columns(raw.key(scope, rule), contract),
        **_shown(scope.fleet, found),
    }


def standing_metadata(scope: Scope, rule: Rule, found: Inspection, contract: Contract) -> dict[str, Any]:
    """Return the metadata of an hour as it stands, whoever wrote it. Never fails."""
    return {
        "dagster/partition_row_count": found.rows,
        "Parquet bytes": found.bytes,
        "files": len(found.parts),
        "vehicles": found.vehicles,
        "unreadable messages": found.unreadable,
        **_columns(raw.key(scope, rule), contract),
        **_shown(scope.fleet, found),
    }


def _batches(compacted: Compacted) -> dict[str, Any]:
    """Return what is to be said of batch objects; nothing where there are none."""
    said = {
        "batches read": compacted.batches,
        "records delivered twice": compacted.doubled,
        "damaged batches": "\n".join(map(plain, compacted.damaged)),
        "hours of messages in other hours' batches": "\n".join(compacted.strays),
    }
    return {name: value for name, value in said.items() if value}


def _rates(fleet: Fleet, outcome: Outcome) -> dict[str, float]:
    compacted, found = outcome.compacted, outcome.found
    saved = max(0, compacted.raw_versions - len(found.parts))
    return {
        "objects per second": round(compacted.rows_added / compacted.seconds, 1) if compacted.seconds else 0.0,
        "raw bytes per Parquet byte": round(compacted.raw_bytes / found.bytes, 2) if found.bytes else 0.0,
        "requests, US dollars": round(
            fleet.requests_usd(compacted.get_requests, compacted.list_requests + compacted.put_requests), 6
        ),
        "requests saved by a full read": saved,
        "saved by a full read, US dollars": round(fleet.requests_usd(saved, 0), 6),
    }


def _shown(fleet: Fleet, found: Inspection) -> dict[str, Any]:
    """Return the pictures and some rows; nothing of an empty hour, and of what vehicles said only what may be shown."""
    shown: dict[str, Callable[[], Any]] = {}
    if found.rows:
        shown["messages a minute"] = lambda: dg.MetadataValue.md(
            bars(found.minutes, f"minutes 0 to 59; the highest bar is {max(found.minutes):,} messages")
        )
    if found.track and fleet.shows_previews:
        shown[POSITIONS] = lambda: dg.MetadataValue.md(dots(found.track, "a sample, north up"))
    if (preview := found.preview) and fleet.shows_previews:
        hidden = _NOT_IN_THE_PREVIEW | ({"_payload"} if fleet.private_columns else set())
        shown[ROWS] = lambda: table(preview.select([name for name in preview.schema.names if name not in hidden]))
    return attempted(shown)


def _columns(source: dg.AssetKey, contract: Contract) -> dict[str, Any]:
    """Return the columns, and the field of the raw message that each holds. A message chose their names."""
    paths = {plain(name): ".".join(column.path) for name, column in contract.columns.items()}
    kinds = [column.kind for column in contract.columns.values()]
    described = {
        "dagster/column_schema": lambda: dg.TableSchema(
            [
                dg.TableColumn(name, kind, f"{in_markdown(path)} of the message")
                for (name, path), kind in zip(paths.items(), kinds, strict=True)
            ]
        ),
        "dagster/column_lineage": lambda: dg.TableColumnLineage(
            {name: [dg.TableColumnDep(source, plain(path))] for name, path in paths.items()}
        ),
    }
    return {name: value for name, value in attempted(described).items() if not isinstance(value, dg.TextMetadataValue)}
