"""The Iceberg table of each rule: brought to what the lake has whenever that has grown, and held against it.

PyIceberg is imported by the runs that need it: it takes a second of a processor, and every run loads this module.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from fleet_pipeline.account import Account
from fleet_pipeline.assets.lake import parquet
from fleet_pipeline.assets.shared.columns import described
from fleet_pipeline.assets.shared.failures import reported
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.instance.internals import DATA_VERSION_TAG
from fleet_pipeline.lake import iceberg
from fleet_pipeline.model.errors import FleetError
from fleet_pipeline.model.plain import in_markdown, plain
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


def opened(scope: Scope, account: Account) -> "Tables":
    """Return the tables in the catalog that the settings choose. Raises CatalogRefused, CatalogUnavailable."""
    from fleet_pipeline.lake.iceberg.tables import Tables  # noqa: PLC0415 (see above)

    return Tables.of(scope.fleet, account.aws, account.catalog_uri(scope.fleet.iceberg_uri))


def tell(scope: Scope, account: Account, instance: dg.DagsterInstance) -> str:
    """Have Dagster know what each table is now that an erasure or a retention has taken rows out of it, and whether it
    is the lake; return why not, where a catalog does not answer: then the next run of the tables says it.

    Of a table that Dagster has not made, and where it says so already, nothing is recorded. Changes no table.
    """
    if not iceberg.is_wanted(scope.fleet):
        return ""
    try:
        tables = opened(scope, account)
        for rule in scope.fleet.rules:
            for event in _told(scope, instance, tables, rule):
                instance.report_runless_asset_event(event)
    except FleetError as error:
        return plain(error)
    return ""


def _told(
    scope: Scope, instance: dg.DagsterInstance, tables: "Tables", rule: Rule
) -> Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
    from fleet_pipeline.lake.iceberg.check import compare  # noqa: PLC0415 (see above)
    from fleet_pipeline.lake.iceberg.sync import shown  # noqa: PLC0415

    asset = key(scope, rule)
    last, table = instance.get_latest_materialization_event(asset), tables.find(rule)
    made = last.asset_materialization if last else None
    if table is None or made is None:
        return
    now = shown(tables, rule, table)
    if made.metadata["snapshot"].value != _snapshot(now):
        said = _result(compare(tables, rule, COUNTED, datetime.now(UTC).date()))
        tags = {DATA_VERSION_TAG: str(now.snapshot_id or 0)}
        yield dg.AssetMaterialization(asset, metadata=_metadata(now), tags=tags)
        yield dg.AssetCheckEvaluation(  # what was said before is of the table before
            asset, SAME, said.passed, said.metadata, severity=said.severity, description=said.description
        )


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
            tables = opened(scope, scope.account(context.resources).opened)
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
        "snapshot": _snapshot(done),
        "files": done.files,
        "bytes": done.bytes,
        "files added": done.added,
        "files removed": done.removed,
        "generation": done.generation,
    }


def _snapshot(done: "Synced") -> str:
    return str(done.snapshot_id or "none")  # more digits than JavaScript's numbers have


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
