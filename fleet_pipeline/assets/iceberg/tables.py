"""The Iceberg table of each rule: brought to what the lake has whenever that has grown, and held against it.

PyIceberg is imported by the runs that need it: it takes a second of a processor, and every run loads this module.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from fleet_pipeline.assets.lake import parquet
from fleet_pipeline.assets.shared.columns import described
from fleet_pipeline.assets.shared.failures import reported
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.model.plain import in_markdown
from fleet_pipeline.model.rule import Rule

if TYPE_CHECKING:
    from fleet_pipeline.lake.iceberg.check import Compared
    from fleet_pipeline.lake.iceberg.sync import Synced
    from fleet_pipeline.lake.iceberg.tables import Tables

GROUP = "iceberg"

SAME = "table_is_the_lake"
"""The check that a table has the files, the bytes, the rows and the columns of the lake, and no others."""

NAMED = 5
"""Differences that are named; the others are counted."""

COUNTED = 100
"""Files, the newest, of which each run counts the rows in the lake: a GET each. `fleet iceberg check` counts all."""


def iceberg_assets(scope: Scope) -> list[dg.AssetsDefinition]:
    """Return a table for each rule; materializing it brings it to what the lake has, in one snapshot."""
    return [_table(scope, rule) for rule in scope.fleet.rules]


def key(scope: Scope, rule: Rule) -> dg.AssetKey:
    """Return the asset key of a rule's table."""
    return scope.key(GROUP, rule.key)


def opened(scope: Scope, resources: Any) -> "Tables":
    """Return the tables in the catalog that the settings choose. Raises CatalogRefused, CatalogUnavailable."""
    from fleet_pipeline.lake.iceberg.tables import Tables  # noqa: PLC0415 (see above)

    account = scope.account(resources)
    return Tables.of(scope.fleet, account.aws, account.opened.catalog_uri(scope.fleet.iceberg_uri))


def _table(scope: Scope, rule: Rule) -> dg.AssetsDefinition:
    asset = key(scope, rule)

    @dg.asset(
        key=asset,
        deps=[parquet.key(scope, rule)],
        group_name=scope.name(GROUP),
        kinds={"iceberg", "table"},
        description=f"{rule.contents}, as an Apache Iceberg table over the lake's own Parquet files: none is copied.",
        automation_condition=parquet.WHEN_IT_GREW,
        retry_policy=parquet.RETRY,
        check_specs=[dg.AssetCheckSpec(SAME, asset=asset, description="The table has what the lake has, and no more.")],
        required_resource_keys={scope.account_key},
    )
    def iceberg_table(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        from fleet_pipeline.lake.iceberg.check import compare  # noqa: PLC0415 (see above)
        from fleet_pipeline.lake.iceberg.sync import sync  # noqa: PLC0415

        with reported():
            tables = opened(scope, context.resources)
            done = sync(tables, rule)
            found = compare(tables, rule, COUNTED, datetime.now(UTC).date())
        version = dg.DataVersion(str(done.snapshot_id or 0))
        yield dg.MaterializeResult(metadata=_metadata(done), data_version=version)
        yield _result(found)

    return iceberg_table


def _metadata(done: "Synced") -> dict[str, Any]:
    return {
        "dagster/table_name": done.name,
        "dagster/row_count": done.rows,
        "dagster/column_schema": described(done.columns),
        "dagster/uri": done.metadata_location,
        "snapshot": str(done.snapshot_id or "none"),  # more digits than JavaScript's numbers have
        "files": done.files,
        "bytes": done.bytes,
        "files added": done.added,
        "files removed": done.removed,
        "generation": done.generation,
    }


def _result(found: "Compared") -> dg.AssetCheckResult:
    more = f"\n\nand {len(found.differences) - NAMED} more" if len(found.differences) > NAMED else ""
    said = "\n".join(f"- {in_markdown(each)}" for each in found.differences[:NAMED]) + more
    return dg.AssetCheckResult(
        check_name=SAME,
        passed=found.same,
        # The lake may have grown since; the next run follows.
        severity=dg.AssetCheckSeverity.WARN,
        description=said or "The table has what the lake has.",
        metadata={
            "differences": len(found.differences),
            "files of the lake": found.files,
            "files of the table": found.table.files,
            "bytes of the lake": found.bytes,
            "bytes of the table": found.table.bytes,
            "rows of the table": found.table.rows,
            "files that were compared": found.looked_at,
            "files whose rows were counted": found.counted,
        },
    )
