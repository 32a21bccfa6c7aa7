"""Whether AWS still holds what the settings want, one check for each resource. A plan is all of them at once.

Nothing in AWS is changed. What Dagster knows is: where someone else has changed a resource, its new state is recorded,
so that what stands on it shows as out of date. (Dagster looks at materializations only; a red check alone would leave
everything downstream green.)
"""

import json
from collections.abc import Sequence
from typing import Any

import dagster as dg

from fleet_pipeline.assets.provisioning import infrastructure
from fleet_pipeline.assets.shared.failures import reported
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.cloud.blueprint import shown
from fleet_pipeline.cloud.difference import difference
from fleet_pipeline.cloud.operations.foreign import ForeignFinding, findings
from fleet_pipeline.cloud.operations.given import looked_at
from fleet_pipeline.cloud.reconcile import Action, Resource, Step, look
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.plain import in_markdown, plain

CHANGED_BY_OTHERS = "changed-by-others"
"""The code version under which a foreign change is recorded: it is none of ours, so the asset itself shows as out of
date too.
"""


def drift_checks(scope: Scope) -> list[dg.AssetChecksDefinition]:
    """Return a check for each provisioning asset, which is red when AWS differs from the settings or holds something
    foreign.
    """
    return [_check(name, part.resource, scope) for name, part in shown(scope.fleet).items()]


def _check(name: str, resource: Resource, scope: Scope) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=infrastructure.key(scope, name),
        name="drift",
        required_resource_keys={scope.account_key},
        description=(
            f"AWS holds the {resource.kind} `{resource.name}` as the settings want it, and nothing foreign beside it. "
            "Changes nothing in AWS."
        ),
    )
    def drift(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with reported():
            aws = scope.account(context.resources).aws
            step, foreign = look(resource, aws), findings(scope.fleet, aws, name)
            missing = looked_at(scope.fleet, aws, name).missing
        by_others = _record_foreign_change(context.instance, infrastructure.key(scope, name), step)
        return dg.AssetCheckResult(
            passed=step.action is Action.UNCHANGED and not foreign and not missing,
            description=_sentence(step, [*missing, *foreign], by_others=by_others),
            metadata=_metadata(step, foreign, scope.fleet),
        )

    return drift


def _record_foreign_change(instance: dg.DagsterInstance, asset: dg.AssetKey, step: Step) -> bool:
    """Return whether AWS holds something else than Dagster made, and record what it holds, once."""
    event = instance.get_latest_materialization_event(asset)
    last = event.asset_materialization if event else None
    if last is None or last.tags is None:
        return False
    now = infrastructure.live_version(step.live)
    if last.tags["dagster/data_version"] != now:
        versions = {"dagster/data_version": now, "dagster/code_version": CHANGED_BY_OTHERS}
        metadata = {"action": "changed by others", "fields": _fields(step) or "none"}
        instance.report_runless_asset_event(dg.AssetMaterialization(asset, metadata=metadata, tags=versions))
        return True
    return last.tags["dagster/code_version"] == CHANGED_BY_OTHERS


def _sentence(step: Step, foreign: Sequence[ForeignFinding | str], *, by_others: bool) -> str:
    remedies = {
        Action.CREATE: "It does not exist: materialize the asset.",
        Action.UNCHANGED: "AWS holds what the settings want.",
        Action.UPDATE: _remedy(by_others=by_others),
        Action.REPLACE: _remedy(by_others=by_others),
    }
    said = [str(step.refusal) if step.refusal else remedies[step.action], *map(in_markdown, foreign)]
    return "\n\n".join(
        [*said, *([infrastructure.fenced(difference(step.changes))] if step.live and step.changes else [])]
    )


def _remedy(*, by_others: bool) -> str:
    if by_others:
        return (
            "Someone changed it outside this fleet: ask whom CloudTrail names (see `who`), then materialize the asset "
            "to put it back, or change the settings."
        )
    return "The settings have changed since it was applied: materialize the asset."


def _metadata(step: Step, foreign: Sequence[ForeignFinding], fleet: Fleet) -> dict[str, Any]:
    rows = [
        dg.TableRecord({"field": change.field, "in AWS": _cell(change.found), "wanted": _cell(change.wanted)})
        for change in step.changes
    ]
    return {
        "action": str(step.action),
        "fields": _fields(step) or "none",
        **infrastructure.console(
            fleet, "who", f"cloudtrailv2/home?region={fleet.region}#/events?ResourceName={step.wanted.name}"
        ),
        **infrastructure.console(fleet, "console", (step.live or step.wanted).console_path()),
        **(
            {"plan": dg.MetadataValue.table(rows), "difference": infrastructure.in_diff(difference(step.changes))}
            if rows
            else {}
        ),
        **(
            {"foreign": dg.MetadataValue.md("\n".join(f"- {in_markdown(each)}" for each in foreign))} if foreign else {}
        ),
    }


def _cell(value: Any) -> str:
    return plain(value if isinstance(value, str) else json.dumps(value, sort_keys=True), LONGEST_CELL)


LONGEST_CELL = 20_000
"""Characters of a value that is shown: a policy has 2,048, a template 10,240."""


def _fields(step: Step) -> str:
    return ", ".join(change.field for change in step.changes)
