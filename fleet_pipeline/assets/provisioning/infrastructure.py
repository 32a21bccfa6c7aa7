"""The cloud side of the fleet: one asset for each resource of the blueprint, with lineage in AWS's own order."""

import hashlib
import json
from typing import Any

import dagster as dg

from fleet_pipeline.assets.shared.failures import reported
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.cloud.blueprint import BlueprintPart, shown
from fleet_pipeline.cloud.difference import difference
from fleet_pipeline.cloud.operations.given import refuse_missing
from fleet_pipeline.cloud.operations.taken import may_take, refuse_to_take
from fleet_pipeline.cloud.reconcile import Action, Resource, Step, declared, reconcile
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.plain import fence

GROUP = "provisioning"

_CONFIRM = (
    "The name of the raw bucket, where a rule or a right has left the settings, so that vehicles can no longer publish "
    "by it, or where the settings name another bucket than before. Without it such a change is refused."
)

_SERVICES = {
    "DynamoDB table": "dynamodb",
    "IAM role": "iam",
    "Lambda function": "lambda",
    "S3 bucket": "s3",
    "invoke permission": "lambda",
    "log group": "cloudwatch",
}
"""The service that a kind of resource belongs to, where it is not AWS IoT."""


def provisioning_assets(scope: Scope) -> list[dg.AssetsDefinition]:
    """Return an asset for each resource; materializing it makes AWS hold what the settings want."""
    return [_asset(name, part, scope) for name, part in shown(scope.fleet).items()]


def key(scope: Scope, part_name: str) -> dg.AssetKey:
    """Return the asset key of a part of the blueprint."""
    return scope.key(GROUP, part_name)


def wanted_version(resource: Resource) -> str:
    """Return the code version of what is wanted: a changed setting shows the asset as out of date."""
    return _digest(declared(resource))


def live_version(live: Resource | None) -> str:
    """Return the data version of what AWS has: a change of it shows what stands on the asset as out of date."""
    return _digest([live.arn, declared(live)]) if live else "absent"


def in_diff(text: str) -> dg.MarkdownMetadataValue:
    """Return a diff as the UI colours it."""
    return dg.MetadataValue.md(fenced(text))


def fenced(text: str) -> str:
    """Return a diff in Markdown, which the UI makes of every description, too."""
    return fence(text, "diff")


def _asset(name: str, part: BlueprintPart, scope: Scope) -> dg.AssetsDefinition:
    resource = part.resource
    takes = may_take(scope.fleet, resource)

    @dg.asset(
        key=key(scope, name),
        deps=[key(scope, other) for other in part.after],
        group_name=scope.name(part.group),
        kinds={"aws", _SERVICES.get(resource.kind, "iot")},
        description=(
            f"The {resource.kind} `{resource.name}`. Materializing brings it to what the settings want; a second time "
            "changes nothing."
        ),
        code_version=wanted_version(resource),
        metadata={"document": dg.MetadataValue.json(declared(resource))},
        retry_policy=dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL),
        required_resource_keys={scope.account_key, scope.lock_key},
        config_schema={"confirm": dg.Field(str, default_value="", description=_CONFIRM)} if takes else None,
    )
    def materialize(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        with reported():
            aws = scope.account(context.resources).aws

            def ready() -> None:
                refuse_missing(scope.fleet, aws)
                if takes:
                    refuse_to_take(scope.fleet, aws, confirmed=context.op_execution_context.op_config["confirm"])
                scope.lock(context.resources).take()

            step = reconcile(resource, aws, before_write=ready)
        context.log.info("%s: %s", step.title, _done(step))
        live = step.live or resource
        return dg.MaterializeResult(
            metadata=_metadata(step, live, scope.fleet), data_version=dg.DataVersion(live_version(live))
        )

    return materialize


def _metadata(step: Step, live: Resource, fleet: Fleet) -> dict[str, Any]:
    return {
        "action": _done(step),
        "fields": ", ".join(change.field for change in step.changes) or "none",
        "ARN": live.arn,
        **console(fleet, "console", live.console_path()),
        "document": dg.MetadataValue.json(declared(live)),
        **({"difference": in_diff(difference(step.changes))} if step.action in {Action.UPDATE, Action.REPLACE} else {}),
    }


def console(fleet: Fleet, what: str, path: str) -> dict[str, dg.MetadataValue[Any]]:
    """Return a link to a page of AWS's console; nothing on this machine, which has none, nor where AWS publishes no
    address of one.
    """
    url = fleet.console_url(path) if fleet.profile == "aws" else None
    return {what: dg.MetadataValue.url(url)} if url else {}


def _done(step: Step) -> str:
    return {Action.CREATE: "created", Action.UPDATE: "updated", Action.REPLACE: "replaced"}.get(
        step.action, "unchanged"
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
