"""What carries the fleet's tag and is no longer in the settings: rules of keys that were dropped, what options made
that are off now.

The tag decides. Where to look is told by what this package can make: topic rules in the form of ours, CA certificates,
and the names of the options' resources. Buckets are never among it: they hold data.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from fleet_pipeline.aws.clients import Aws, absent, doing
from fleet_pipeline.cloud.blueprint import blueprint, resources
from fleet_pipeline.cloud.enrolment import allow_list
from fleet_pipeline.cloud.enrolment.allow_list import AllowListTable
from fleet_pipeline.cloud.enrolment.further_policy import FurtherDevicePolicy
from fleet_pipeline.cloud.kinds.delivery_stream import DeliveryStream, delivery_streams
from fleet_pipeline.cloud.kinds.function import Function
from fleet_pipeline.cloud.kinds.own_ca import CaCertificate
from fleet_pipeline.cloud.kinds.role import Role
from fleet_pipeline.cloud.kinds.template import Template
from fleet_pipeline.cloud.kinds.topic_rule import TopicRule
from fleet_pipeline.cloud.reconcile import STACK_TAG, Action, Resource, Step
from fleet_pipeline.model.device import POLICIES
from fleet_pipeline.model.fleet import Fleet


def leftovers(fleet: Fleet, aws: Aws) -> list[Step]:
    """Return what is to be deleted, in the order in which it can be. Reads only."""
    wanted = {(each.kind, each.name) for each in resources(blueprint(fleet))}
    with doing("list what carries the fleet's tag"):
        return [
            step
            for each in _candidates(fleet, aws)
            if (each.kind, each.name) not in wanted
            for step in _ours(each, aws)
        ]


def lost_with(steps: Sequence[Step], aws: Aws) -> tuple[str, ...]:
    """Return in words what vehicles or people would miss once these are deleted. Reads only."""
    return tuple(loss for step in steps for loss in _lost_with(step, aws))


def _ours(candidate: Resource, aws: Aws) -> Iterator[Step]:
    mine: Any = candidate
    found: Any = candidate.read(aws)
    if found is not None and found.tags.get(STACK_TAG) == mine.tags[STACK_TAG]:
        yield Step(candidate, found, Action.DELETE)


def _lost_with(step: Step, aws: Aws) -> Iterator[str]:
    if isinstance(step.wanted, TopicRule):
        yield f"messages that vehicles publish to {step.title}"
    if isinstance(step.wanted, DeliveryStream):
        live: Any = step.live
        yield f"what {step.title} gathered in its last {live.buffer_seconds} seconds and has not delivered"
    if isinstance(step.wanted, CaCertificate):
        yield f"registration by certificates of {step.title}"
    if isinstance(step.wanted, AllowListTable):
        counted = allow_list.counted(aws, step.wanted.name)
        yield from [counted] if counted else []


def _candidates(fleet: Fleet, aws: Aws) -> Iterator[Resource]:
    pages = aws.iot.get_paginator("list_ca_certificates").paginate()
    listed = [each for page in pages for each in page["certificates"]]
    tagged: list[Resource] = [_rule(fleet, name) for name in _rules(fleet, aws)]
    tagged += [
        CaCertificate(each["certificateId"], each["certificateArn"], "", fleet.all_tags, "", "") for each in listed
    ]
    yield from (each for each in tagged if _is_tagged(fleet, each, aws))
    jitp, just_in_time = fleet.jitp_template_name, fleet.just_in_time_name
    yield Template(jitp, fleet.arn("iot", f"provisioningtemplate/{jitp}"), "", {}, "", "", fleet.all_tags)
    yield Function(
        just_in_time, fleet.arn("lambda", f"function:{just_in_time}"), "", "", "", {}, fleet.all_tags, "", b""
    )
    yield from _streams(fleet, aws)
    for name in (fleet.just_in_time_role_name, fleet.bulk_role_name, fleet.rule_actions_role_name):
        yield Role(name, fleet.role_arn(name), "", {}, fleet.all_tags, {})
    for number in range(2, POLICIES + 1):
        policy = fleet.further_device_policy_name(number)
        yield FurtherDevicePolicy(policy, fleet.policy_arn(policy), {}, fleet.all_tags, first=fleet.device_policy_name)
    yield AllowListTable(
        fleet.allow_list_table, fleet.arn("dynamodb", f"table/{fleet.allow_list_table}"), fleet.all_tags
    )


def _streams(fleet: Fleet, aws: Aws) -> Iterator[Resource]:
    """Yield the streams that are named as ours, and then their role; nothing is listed where that was never made."""
    name = fleet.delivery_role_name
    role = Role(name, fleet.role_arn(name), "", {}, fleet.all_tags, {})
    if role.read(aws) is None:
        return
    for stream in delivery_streams(aws, f"{fleet.prefix}-"):
        yield DeliveryStream(stream, fleet.arn("firehose", f"deliverystream/{stream}"), "", "", "", "", fleet.all_tags)
    yield role


def _is_tagged(fleet: Fleet, candidate: Resource, aws: Aws) -> bool:
    """Say whether it is ours; what is not is not even described, as the provisioner may not."""
    with absent("ResourceNotFoundException"):
        pages = aws.iot.get_paginator("list_tags_for_resource").paginate(resourceArn=candidate.arn)
        return {"Key": STACK_TAG, "Value": fleet.all_tags[STACK_TAG]} in [tag for page in pages for tag in page["tags"]]
    return False


def _rules(fleet: Fleet, aws: Aws) -> list[str]:
    """Return the rules that are named as ours are, after their topic or the raw prefix, so that the tags of few others
    are asked for.
    """
    listed = [rule for page in aws.iot.get_paginator("list_topic_rules").paginate() for rule in page["rules"]]
    wanted = {rule.aws_name for rule in fleet.made_rules}
    return [
        name
        for rule in listed
        if (name := rule["ruleName"]) not in wanted and _is_named_as_ours(fleet, name, rule.get("topicPattern", ""))
    ]


def _is_named_as_ours(fleet: Fleet, name: str, topic: str) -> bool:
    prefix, _, key = topic.partition("/")
    return name in {fleet.just_in_time_rule_name, f"{prefix.replace('-', '_')}_{key}"} or name.startswith(
        fleet.rule_prefix
    )


def _rule(fleet: Fleet, name: str) -> TopicRule:
    return TopicRule(name, fleet.arn("iot", f"rule/{name}"), "", "", {}, {}, fleet.all_tags)
