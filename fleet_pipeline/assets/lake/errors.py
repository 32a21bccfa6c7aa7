"""What the topic rules could not write: counted and explained, one asset a rule.

`fleet replay` and the job of that name put it back.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from fleet_pipeline.assets.provisioning import infrastructure
from fleet_pipeline.assets.shared.failures import reported
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.cloud.blueprint import topic_rule_name
from fleet_pipeline.lake.operations.replay import Waiting, waiting
from fleet_pipeline.model.plain import plain
from fleet_pipeline.model.rule import Rule

GROUP = "errors"


def error_assets(scope: Scope) -> list[dg.AssetsDefinition]:
    """Return the reports of each rule, as they lie in S3 at this moment."""
    return [_asset(scope, rule) for rule in scope.fleet.made_rules]


def key(scope: Scope, rule: Rule) -> dg.AssetKey:
    """Return the asset key of a rule's reports."""
    return scope.key(GROUP, rule.key)


def _asset(scope: Scope, rule: Rule) -> dg.AssetsDefinition:
    fleet = scope.fleet

    @dg.asset(
        key=key(scope, rule),
        deps=[infrastructure.key(scope, topic_rule_name(rule))],
        group_name=scope.name(GROUP),
        kinds={"s3", "json"},
        description=(
            f"Messages of `{rule.topic}` that the rule could not write. AWS IoT reports them here; materializing "
            "counts them and changes nothing."
        ),
        metadata={"dagster/uri": f"s3://{fleet.bucket}/{fleet.report_prefix(rule)}"},
        check_specs=[
            dg.AssetCheckSpec(
                "nothing_waits", asset=key(scope, rule), description="Every message of the rule has been written."
            )
        ],
        required_resource_keys={scope.account_key},
    )
    def count(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        with reported():
            found = waiting(fleet, scope.account(context.resources).aws, rule)
        yield dg.MaterializeResult(metadata=_metadata(found), check_results=[_check(found)])

    return count


def _metadata(found: Waiting) -> dict[str, Any]:
    rows = [dg.TableRecord({"reason": plain(reason), "messages": count}) for reason, count in found.reasons.items()]
    return {
        "waiting": found.reports,
        "oldest": found.oldest.isoformat(timespec="seconds") if found.oldest else "none",
        "newest": found.newest.isoformat(timespec="seconds") if found.newest else "none",
        "strange": len(found.strange),
        **({"reasons": dg.MetadataValue.table(rows)} if rows else {}),
        **(
            {"keys that are no reports of this rule": "\n".join(map(plain, found.strange[:10]))}
            if found.strange
            else {}
        ),
    }


def _check(found: Waiting) -> dg.AssetCheckResult:
    description = (
        f"{found.reports} messages were not written: remove the cause, then launch the job `replay`."
        if found.reports
        else "Nothing waits."
    )
    return dg.AssetCheckResult(passed=not found.reports, severity=dg.AssetCheckSeverity.WARN, description=description)
