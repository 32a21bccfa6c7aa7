"""The lake: each rule's messages as Parquet, compacted hour by hour."""

import warnings
from collections.abc import Iterator
from typing import Any

import dagster as dg

from fleet_pipeline.assets import provisioning, raw
from fleet_pipeline.compaction.hour import Compacted, compact_hour
from fleet_pipeline.compaction.lake import Lake
from fleet_pipeline.errors import FleetError
from fleet_pipeline.fleet import Fleet, Hour, Rule
from fleet_pipeline.partitions import hours
from fleet_pipeline.resources.account import AccountResource
from fleet_pipeline.store import S3Store

# Backfill policies have been beta for years; the warning would greet every user at every start.
warnings.filterwarnings("ignore", message="Parameter `backfill_policy`", category=dg.BetaWarning)

GROUP = "lake"
CODE_VERSION = "1"
"""Raised when the same raw objects would give other rows."""


def lake_assets(fleet: Fleet) -> list[dg.AssetsDefinition]:
    """Return the Parquet of each rule, one asset a rule, one partition an hour."""
    return [_asset(rule, fleet) for rule in fleet.rules]


def key(rule: Rule) -> dg.AssetKey:
    """Return the asset key of a rule's Parquet."""
    return dg.AssetKey([GROUP, rule.key])


def _asset(rule: Rule, fleet: Fleet) -> dg.AssetsDefinition:
    @dg.asset(
        key=key(rule),
        deps=[raw.key(rule), provisioning.key("lake_bucket")],
        group_name=GROUP,
        kinds={"s3", "parquet"},
        description=f"Every message of `{rule.topic}`, one row each: payload byte for byte, typed columns beside it.",
        metadata={"dagster/uri": f"s3://{fleet.lake_bucket}/{fleet.parquet_prefix}/v1/rule={rule.key}/"},
        partitions_def=hours(fleet),
        backfill_policy=dg.BackfillPolicy.single_run(),
        code_version=CODE_VERSION,
        # Each hour is reported as it is finished, so that a run which is stopped keeps what it has done.
        output_required=False,
    )
    def compact(context: dg.AssetExecutionContext, account: AccountResource) -> Iterator[dg.AssetMaterialization]:
        source, target = S3Store(account.aws, fleet.bucket), Lake(S3Store(account.aws, fleet.lake_bucket), fleet.parquet_prefix)
        failed: dict[str, FleetError] = {}
        for partition in context.partition_keys:
            try:
                compacted = compact_hour(source, target, rule, Hour.parse(partition))
            except FleetError as error:
                context.log.error("%s: %s", partition, error)  # noqa: TRY400 (the sentence says it; the failure at the end has the cause)
                failed[partition] = error
            else:
                yield dg.AssetMaterialization(key(rule), partition=partition, metadata=_metadata(compacted), tags=_versions(compacted))
        if failed:
            raise dg.Failure(
                f"{len(failed)} of {len(context.partition_keys)} hours failed: " + "; ".join(f"{hour}: {error}" for hour, error in failed.items()),
                allow_retries=any(error.retryable for error in failed.values()),
            )

    return compact


def _metadata(compacted: Compacted) -> dict[str, Any]:
    return {
        "dagster/partition_row_count": compacted.rows,
        "dagster/column_schema": _columns(compacted),
        "rows added": compacted.rows_added,
        "raw versions": compacted.raw_versions,
        "raw bytes": compacted.raw_bytes,
        "Parquet bytes added": compacted.parquet_bytes,
        "parts added": "\n".join(compacted.parts_added) or "none",
        "quarantined": compacted.quarantined,
        "statuses of added rows": dg.MetadataValue.json(compacted.statuses),
        "recovered collisions": compacted.recovered_collisions,
        "foreign keys": compacted.foreign_keys,
        "seconds": round(compacted.seconds, 3),
    }


def _columns(compacted: Compacted) -> dg.TableSchema:
    return dg.TableSchema([dg.TableColumn(field.name, str(field.type)) for field in compacted.schema])


def _versions(compacted: Compacted) -> dict[str, str]:
    """Return the tags by which Dagster knows what was made: rows are only ever added, so their count names an hour's content."""
    return {"dagster/code_version": CODE_VERSION, "dagster/data_version": str(compacted.rows)}
