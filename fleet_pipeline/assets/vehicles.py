"""What the lake is for: the vehicles seen each hour on any rule, and what each of them did on a day.

A partition is computed again when the lake has got more of it; when nothing is new, nothing is written.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import partial
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from fleet_pipeline.assets.lake import parquet, provenance
from fleet_pipeline.assets.lake.hour_metadata import FIRST_ROWS
from fleet_pipeline.assets.lake.partitions import days, hours, hours_of_the_day
from fleet_pipeline.assets.shared.columns import OF_VEHICLES, described
from fleet_pipeline.assets.shared.failures import failure
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.assets.shared.shown import attempted, table
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.lake.analytics.revisions import Revised
from fleet_pipeline.lake.analytics.vehicles import DAILY, HOURLY, UNNAMED, rolled_up, seen
from fleet_pipeline.lake.containment import outcome_of
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.model.errors import FleetError
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.plain import plain

GROUP = "vehicles"
CODE_VERSION = "2"
"""Raised together with the version of a derived table."""

PREVIEW_ROWS = 5

NAMED = "vehicles_are_named"
"""The check that an hour with messages has vehicles."""

JUDGED = 500
"""Computations, the last ones, of which the check judges the hours: three weeks.

An hour that is computed again is judged by its last.
"""

_REMEDY = (
    "Name the field that says whose a message is, FLEET_VEHICLE_FIELD, or put the client id into the raw keys: "
    "FLEET_RAW_KEY_FORMAT=timestamp-uuid-client."
)


def vehicle_assets(scope: Scope) -> list[dg.AssetsDefinition]:
    """Return the two tables about vehicles, hourly and daily."""
    return [_hourly(scope), _daily(scope)]


def hourly_key(scope: Scope) -> dg.AssetKey:
    """Return the asset key of the hourly table."""
    return scope.key(GROUP, "hourly")


def daily_key(scope: Scope) -> dg.AssetKey:
    """Return the asset key of the daily table."""
    return scope.key(GROUP, "daily")


def _hourly(scope: Scope) -> dg.AssetsDefinition:
    fleet = scope.fleet
    spec = _spec(
        hourly_key(scope),
        HOURLY,
        hours(fleet),
        [parquet.key(scope, rule) for rule in fleet.rules],
        "The vehicles seen in the hour, on any rule: messages, the first and the last of them, odometer, speed, "
        "battery.",
    )
    named = dg.AssetCheckSpec(
        NAMED, asset=spec.key, description=f"An hour with messages has vehicles. If not: {_REMEDY}"
    )
    return _asset(
        scope,
        spec,
        lambda store, partition: seen(fleet, Lake.current(store, fleet.parquet_prefix), Hour.parse(partition)),
        [named],
    )


def _daily(scope: Scope) -> dg.AssetsDefinition:
    spec = _spec(
        daily_key(scope),
        DAILY,
        days(scope.fleet),
        [dg.AssetDep(hourly_key(scope), partition_mapping=hours_of_the_day())],
        "What each vehicle did on the day: distance, speeds, battery, the hours in which it was seen.",
    )
    return _asset(scope, spec, lambda store, partition: rolled_up(store, date.fromisoformat(partition)))


def _spec(
    key: dg.AssetKey,
    schema: pa.Schema,
    partitions: dg.PartitionsDefinition[str],
    deps: Sequence[dg.AssetKey | dg.AssetDep],
    says: str,
) -> dg.AssetSpec:
    return dg.AssetSpec(
        key,
        deps=deps,
        partitions_def=partitions,
        description=says,
        group_name="_".join(key.path[:-1]),  # GROUP, after the prefix
        kinds={"s3", "parquet", "duckdb"},
        metadata={"dagster/column_schema": described({field.name: str(field.type) for field in schema}, OF_VEHICLES)},
        automation_condition=parquet.WHEN_IT_GREW,
        code_version=CODE_VERSION,
        skippable=True,  # each partition is reported as it is finished
    )


def _asset(
    scope: Scope,
    spec: dg.AssetSpec,
    compute: Callable[[S3Store, str], Revised],
    checks: Sequence[dg.AssetCheckSpec] = (),
) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=spec.key.to_python_identifier(),
        specs=[spec],
        check_specs=checks,
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=dg.RetryPolicy(max_retries=2, delay=10, backoff=dg.Backoff.EXPONENTIAL),
        required_resource_keys={scope.account_key},
    )
    def materialize(context: dg.AssetExecutionContext) -> Iterator[dg.AssetMaterialization | dg.AssetCheckResult]:
        store = S3Store(scope.account(context.resources).aws, scope.fleet.lake_bucket)
        failed: dict[str, FleetError] = {}
        for partition in context.partition_keys:
            made_of = _made_of(context.instance, spec)
            revised = outcome_of(f"{spec.key.to_user_string()} {partition}", partial(compute, store, partition))
            if isinstance(revised, FleetError):
                failed[partition] = revised
                context.log.error("%s: %s", partition, plain(revised))
                continue
            tags = provenance.own(CODE_VERSION, revised.inputs[:16]) | made_of
            yield dg.AssetMaterialization(
                spec.key, partition=partition, metadata=_metadata(scope.fleet, revised), tags=tags
            )
        for check in checks:
            yield _named(check, context.instance)
        if failed:
            raise failure(failed, len(context.partition_keys), "hours" if checks else "days")

    return materialize


def _made_of(instance: dg.DagsterInstance, spec: dg.AssetSpec) -> dict[str, str]:
    """Return the tags that say what was there of each table before it was read: whatever comes to any partition of it
    later makes those that stand on it out of date.
    """
    return {name: value for dep in spec.deps for name, value in provenance.of(instance, dep.asset_key).items()}


def _named(check: dg.AssetCheckSpec, instance: dg.DagsterInstance) -> dg.AssetCheckResult:
    """Return which hours have messages and no vehicle, by what was reported of each last: an hour without fault does
    not clear another.
    """
    said: dict[str, dict[str, Any]] = {}
    for record in instance.fetch_materializations(check.asset_key, limit=JUDGED).records:
        if (partition := record.partition_key) and (found := record.asset_materialization):
            said.setdefault(
                partition,
                {
                    name: found.metadata[name].value
                    for name in (UNNAMED, "dagster/partition_row_count")
                    if name in found.metadata
                },
            )
    broken = sorted(hour for hour, of in said.items() if of.get(UNNAMED) and not of["dagster/partition_row_count"])
    more = f" and {len(broken) - PREVIEW_ROWS} hours more" if len(broken) > PREVIEW_ROWS else ""
    return dg.AssetCheckResult(
        check_name=check.name,
        asset_key=check.asset_key,
        passed=not broken,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"No message of {', '.join(broken[:PREVIEW_ROWS])}{more} says whose it is. {_REMEDY}"
        if broken
        else "Hours with messages have vehicles.",
        metadata={"hours judged": len(said), "hours that break it": len(broken)},
    )


def _metadata(fleet: Fleet, revised: Revised) -> dict[str, Any]:
    rows = revised.rows
    return {
        "dagster/partition_row_count": rows.num_rows,
        "messages": pc.sum(rows["messages"]).as_py() or 0,
        **revised.notes,
        "revision": revised.key or "none: there were no messages",
        "action": "written" if revised.written else "unchanged",
        **attempted({FIRST_ROWS: lambda: table(rows.slice(0, PREVIEW_ROWS))} if fleet.shows_previews else {}),
    }
