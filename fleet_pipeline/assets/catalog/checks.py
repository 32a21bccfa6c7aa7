"""Whether each table of the catalog says what the lake has recorded: an Athena query finds no column, and no
generation, that Glue has not heard of.
"""

import dagster as dg

from fleet_pipeline.assets.catalog import glue_tables
from fleet_pipeline.assets.provisioning import infrastructure
from fleet_pipeline.assets.shared.failures import reported
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.cloud.difference import difference
from fleet_pipeline.cloud.reconcile import Action, look
from fleet_pipeline.lake.catalog.tables import database
from fleet_pipeline.model.rule import Rule

NO_CATALOG = "No catalog is kept: materialize the group `catalog` to have one."


def catalog_checks(scope: Scope) -> list[dg.AssetChecksDefinition]:
    """Return a check for each table, which is red when Glue's table differs from the lake's record.

    A fleet without a database passes.
    """
    return [_check(scope, rule) for rule in scope.fleet.rules]


def _check(scope: Scope, rule: Rule) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=glue_tables.key(scope, rule),
        name="in_step",
        description=(
            "The table has the columns, the place and the partitions that the lake has recorded. If not: materialize "
            "it."
        ),
        required_resource_keys={scope.account_key},
    )
    def in_step(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with reported():
            aws = scope.account(context.resources).aws
            if database(scope.fleet).read(aws) is None:
                return dg.AssetCheckResult(passed=True, description=NO_CATALOG)
            step = look(glue_tables.wanted_table(scope.fleet, rule, aws), aws)
        differs = difference(step.changes)
        said = (
            str(step.refusal)
            if step.refusal
            else f"Athena reads it as it was: materialize the asset.\n\n{infrastructure.fenced(differs)}"
        )
        missing = "There is no such table: materialize the asset."
        return dg.AssetCheckResult(
            passed=step.action is Action.UNCHANGED,
            description="The table is in step with the lake."
            if step.action is Action.UNCHANGED
            else said
            if step.live or step.refusal
            else missing,
            metadata={
                "action": str(step.action),
                "fields": ", ".join(change.field for change in step.changes) or "none",
                **({"difference": infrastructure.in_diff(differs)} if step.live and differs else {}),
            },
        )

    return in_step
