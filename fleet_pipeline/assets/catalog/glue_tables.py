"""The lake in the AWS Glue Data Catalog: a database, and a table for each rule that has every column which the lake has
recorded.
"""

import json
from hashlib import sha256
from typing import Any

import dagster as dg

from fleet_pipeline.assets.lake import parquet
from fleet_pipeline.assets.provisioning.infrastructure import console
from fleet_pipeline.assets.shared.columns import described
from fleet_pipeline.assets.shared.failures import reported
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.cloud.reconcile import Step, declared, reconcile
from fleet_pipeline.lake.catalog.glue import Table
from fleet_pipeline.lake.catalog.tables import database, ddl, table
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.plain import fence
from fleet_pipeline.model.rule import Rule

GROUP = "catalog"

_RETRIES = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL)


def catalog_assets(scope: Scope) -> list[dg.AssetsDefinition]:
    """Return the database and the tables; materializing a table brings it to what the lake has recorded."""
    return [_database(scope), *(_table(scope, rule) for rule in scope.fleet.rules)]


def database_key(scope: Scope) -> dg.AssetKey:
    """Return the asset key of the database."""
    return scope.key(GROUP, "database")


def key(scope: Scope, rule: Rule) -> dg.AssetKey:
    """Return the asset key of a rule's table."""
    return scope.key(GROUP, rule.key)


def wanted_table(fleet: Fleet, rule: Rule, aws: Aws) -> Table:
    """Return the table of a rule as the lake has recorded it by now, in the generation that readers use."""
    parts = Lake.current(S3Store(aws, fleet.lake_bucket), fleet.parquet_prefix)
    return table(fleet, parts, rule, parts.contract(rule))


def _database(scope: Scope) -> dg.AssetsDefinition:
    wanted = database(scope.fleet)

    @dg.asset(
        key=database_key(scope),
        group_name=scope.name(GROUP),
        kinds={"aws"},
        description=f"The Glue database `{wanted.name}`, in which Athena finds the tables of the lake.",
        code_version=_digest(declared(wanted)),
        retry_policy=_RETRIES,
        required_resource_keys={scope.account_key},
    )
    def catalog_database(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        with reported():
            step = reconcile(wanted, scope.account(context.resources).aws)
        return dg.MaterializeResult(
            metadata=_metadata(step, scope.fleet), data_version=dg.DataVersion(_digest(declared(wanted)))
        )

    return catalog_database


def _table(scope: Scope, rule: Rule) -> dg.AssetsDefinition:
    # Who does not use Glue never makes the database, and is left alone.
    there_is_a_database = ~dg.AutomationCondition.any_deps_missing().allow(
        dg.AssetSelection.assets(database_key(scope))
    )

    @dg.asset(
        key=key(scope, rule),
        deps=[database_key(scope), parquet.key(scope, rule)],
        group_name=scope.name(GROUP),
        kinds={"aws", "table"},
        description=(
            f"The table of `{rule.topic}` for Athena: no crawler, partitions are computed. Follows the columns that "
            "the lake has recorded."
        ),
        automation_condition=parquet.WHEN_IT_GREW & there_is_a_database,
        retry_policy=_RETRIES,
        required_resource_keys={scope.account_key},
    )
    def catalog_table(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        with reported():
            aws = scope.account(context.resources).aws
            wanted = wanted_table(scope.fleet, rule, aws)
            step = reconcile(wanted, aws)
        return dg.MaterializeResult(
            metadata=_metadata(step, scope.fleet) | _columns(wanted),
            data_version=dg.DataVersion(_digest(declared(wanted))),
        )

    return catalog_table


def _metadata(step: Step, fleet: Fleet) -> dict[str, Any]:
    live = step.live or step.wanted
    return {
        "action": str(step.action),
        "fields": ", ".join(change.field for change in step.changes) or "none",
        "ARN": live.arn,
        **console(fleet, "console", live.console_path()),
    }


def _columns(wanted: Table) -> dict[str, Any]:
    columns = {**wanted.columns, **wanted.partition_keys}
    return {
        "dagster/table_name": f"{wanted.database}.{wanted.name}",
        "dagster/column_schema": described(columns),
        "DDL": dg.MetadataValue.md(fence(ddl(wanted), "sql")),
    }


def _digest(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
