"""What the lake is for: the vehicles seen each hour on any rule, and what each of them did on a day.

A partition is computed again when the lake has got more of it; when nothing is new, nothing is written.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any

import dagster as dg
import pyarrow as pa

from fleet_pipeline.analytics.revisions import Revised
from fleet_pipeline.analytics.vehicles import DAILY, HOURLY, rolled_up, seen
from fleet_pipeline.assets import lake
from fleet_pipeline.assets.failures import reported
from fleet_pipeline.compaction.lake import Lake
from fleet_pipeline.fleet import Fleet, Hour
from fleet_pipeline.partitions import days, hours, hours_of_the_day
from fleet_pipeline.resources.account import AccountResource
from fleet_pipeline.store import S3Store

GROUP = "vehicles"
HOURLY_KEY = dg.AssetKey([GROUP, "hourly"])
DAILY_KEY = dg.AssetKey([GROUP, "daily"])
CODE_VERSION = "1"
"""Raised together with the version of a derived table."""

PREVIEW_ROWS = 5


def vehicle_assets(fleet: Fleet) -> list[dg.AssetsDefinition]:
    """Return the two tables about vehicles, hourly and daily."""
    return [_hourly(fleet), _daily(fleet)]


def _hourly(fleet: Fleet) -> dg.AssetsDefinition:
    spec = _spec(
        HOURLY_KEY,
        HOURLY,
        hours(fleet),
        [lake.key(rule) for rule in fleet.rules],
        "The vehicles seen in the hour, on any rule: messages, the first and the last of them, odometer, speed, battery.",
    )
    return _asset(fleet, spec, lambda store, partition: seen(fleet, Lake.current(store, fleet.parquet_prefix), Hour.parse(partition)))


def _daily(fleet: Fleet) -> dg.AssetsDefinition:
    spec = _spec(
        DAILY_KEY,
        DAILY,
        days(fleet),
        [dg.AssetDep(HOURLY_KEY, partition_mapping=hours_of_the_day())],
        "What each vehicle did on the day: distance, speeds, battery, the hours in which it was seen.",
    )
    return _asset(fleet, spec, lambda store, partition: rolled_up(store, date.fromisoformat(partition)))


def _spec(key: dg.AssetKey, schema: pa.Schema, partitions: dg.PartitionsDefinition[str], deps: Sequence[dg.AssetKey | dg.AssetDep], says: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        key,
        deps=deps,
        partitions_def=partitions,
        description=says,
        group_name=GROUP,
        kinds={"s3", "parquet", "duckdb"},
        metadata={"dagster/column_schema": dg.TableSchema([dg.TableColumn(field.name, str(field.type)) for field in schema])},
        automation_condition=lake.WHEN_IT_GREW,
        code_version=CODE_VERSION,
        skippable=True,  # each partition is reported as it is finished
    )


def _asset(fleet: Fleet, spec: dg.AssetSpec, compute: Callable[[S3Store, str], Revised]) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=spec.key.to_python_identifier(),
        specs=[spec],
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=dg.RetryPolicy(max_retries=2, delay=10, backoff=dg.Backoff.EXPONENTIAL),
    )
    def materialize(context: dg.AssetExecutionContext, account: AccountResource) -> Iterator[dg.AssetMaterialization]:
        store = S3Store(account.aws, fleet.lake_bucket)
        for partition in context.partition_keys:
            with reported():
                revised = compute(store, partition)
            tags = {"dagster/code_version": CODE_VERSION, "dagster/data_version": revised.inputs[:16]}
            yield dg.AssetMaterialization(spec.key, partition=partition, metadata=_metadata(revised), tags=tags)

    return materialize


def _metadata(revised: Revised) -> dict[str, Any]:
    rows = revised.rows
    return {
        "dagster/partition_row_count": rows.num_rows,
        "messages": sum(rows["messages"].to_pylist()),
        "revision": revised.key or "none: there were no messages",
        "action": "written" if revised.written else "unchanged",
        "first rows": dg.MetadataValue.md(_table(rows.slice(0, PREVIEW_ROWS))),
    }


def _table(rows: pa.Table) -> str:
    lines = [rows.column_names, ["---"] * rows.num_columns, *(map(_shown, row.values()) for row in rows.to_pylist())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(value: object) -> str:
    return "" if value is None else f"{value:.1f}" if isinstance(value, float) else f"{value:%H:%M:%S}" if isinstance(value, date) else str(value)
