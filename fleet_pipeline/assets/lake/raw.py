"""What vehicles send, as it lies in S3: written by AWS IoT Core, so Dagster observes it and never makes it."""

import dagster as dg

from fleet_pipeline.assets.lake.partitions import hours
from fleet_pipeline.assets.provisioning import infrastructure
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.cloud.blueprint import topic_rule_name
from fleet_pipeline.model.rule import Rule

GROUP = "raw"


def raw_assets(scope: Scope) -> list[dg.AssetSpec]:
    """Return the raw objects of each rule, one asset a rule, one partition an hour."""
    return [_spec(scope, rule) for rule in scope.fleet.rules]


def key(scope: Scope, rule: Rule) -> dg.AssetKey:
    """Return the asset key of a rule's raw objects."""
    return scope.key(GROUP, rule.key)


def _spec(scope: Scope, rule: Rule) -> dg.AssetSpec:
    fleet = scope.fleet
    if rule.bucket:
        begins = rule.layout.literal if rule.layout else rule.raw_prefix
        return dg.AssetSpec(
            key(scope, rule),
            group_name=scope.name(GROUP),
            kinds={"s3"},
            description=f"{rule.contents}, `{rule.bucket}`: another's, which is only read.",
            metadata={"dagster/uri": f"s3://{rule.bucket}/{begins}"},
            partitions_def=hours(fleet),
        )
    return dg.AssetSpec(
        key(scope, rule),
        # Messages flow once vehicles can register and the rule writes what they publish.
        deps=[infrastructure.key(scope, topic_rule_name(rule)), infrastructure.key(scope, "claim_attachment")],
        group_name=scope.name(GROUP),
        kinds={"s3", "json"},
        description=f"{rule.contents} as one object below `{rule.raw_prefix}`, written by AWS IoT Core.",
        metadata={"dagster/uri": f"s3://{fleet.bucket}/{rule.raw_prefix}"},
        partitions_def=hours(fleet),
    )
