"""What vehicles send, as it lies in S3: written by AWS IoT Core, so Dagster observes it and never makes it."""

import dagster as dg

from fleet_pipeline.assets.lake.partitions import hours
from fleet_pipeline.assets.provisioning import infrastructure
from fleet_pipeline.cloud.blueprint import topic_rule_name
from fleet_pipeline.model.fleet import Fleet, Rule

GROUP = "raw"


def raw_assets(fleet: Fleet) -> list[dg.AssetSpec]:
    """Return the raw objects of each rule, one asset a rule, one partition an hour."""
    return [_spec(rule, fleet) for rule in fleet.rules]


def key(rule: Rule) -> dg.AssetKey:
    """Return the asset key of a rule's raw objects."""
    return dg.AssetKey([GROUP, rule.key])


def _spec(rule: Rule, fleet: Fleet) -> dg.AssetSpec:
    return dg.AssetSpec(
        key(rule),
        # Messages flow once vehicles can register and the rule writes what they publish.
        deps=[infrastructure.key(topic_rule_name(rule)), infrastructure.key("claim_attachment")],
        group_name=GROUP,
        kinds={"s3", "json"},
        description=f"Every message of `{rule.topic}` as one object below `{rule.raw_prefix}`, written by AWS IoT Core.",
        metadata={"dagster/uri": f"s3://{fleet.bucket}/{rule.raw_prefix}"},
        partitions_def=hours(fleet),
    )
