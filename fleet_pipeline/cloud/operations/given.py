"""What settings name and somebody else makes: a boundary, policies, roles, a network, queues, buckets, and what further
actions are taken on. Looked at before anything is made, so that no apply stops half-way for it.

Given buckets and the KMS key are looked at elsewhere: `kinds/given_bucket.py`, `encryption.py`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

from botocore.exceptions import ClientError

from fleet_pipeline.aws.clients import Aws, doing, error_code
from fleet_pipeline.cloud.blueprint import topic_rule_name
from fleet_pipeline.cloud.documents.actions import Target, given_roles, targets
from fleet_pipeline.model.cost import slow_listings
from fleet_pipeline.model.errors import GivenThingMissing
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.rule_table import meet

LOCAL_ACTIONS = frozenset({"dynamoDBv2", "lambda", "republish", "s3", "sns", "sqs"})
"""The kinds of further actions that AWS on this machine carries out. It takes the others and does nothing."""

_ABSENT = frozenset(
    {
        "AWS.SimpleQueueService.NonExistentQueue",
        "InvalidGroup.NotFound",
        "InvalidGroupId.Malformed",
        "InvalidSecurityGroupID.NotFound",
        "InvalidSubnetID.Malformed",
        "InvalidSubnetID.NotFound",
        "NoSuchBucket",
        "NoSuchEntity",
        "NotFound",
        "NotFoundException",
        "QueueDoesNotExist",
        "ResourceNotFoundException",
        "StateMachineDoesNotExist",
    }
)
_DENIED = frozenset(
    {"403", "AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException"}
    | {"UnauthorizedException", "UnauthorizedOperation"}
)


@dataclass(frozen=True, slots=True)
class GivenThing:
    """Something that is given: beside which part of the blueprint it matters, which setting names it, what it is, and
    how it is made.
    """

    part: str
    setting: str
    what: str
    remedy: str
    look: Callable[[], Any]
    """Asks AWS for it: false, or an error that says so, if it is not there."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What became of looking: sentences on what is `missing`, which no apply does without, and on what is worth
    `notes`, since nobody here can see it or it may be meant.
    """

    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def looked_at(fleet: Fleet, aws: Aws, part: str | None = None) -> Looked:
    """Look at whatever is given beside one part of the blueprint, or beside any; of all, notes also say which rules'
    listings cost more than the hour, and which read the same topics. Reads only.
    """
    missing, notes = [], []
    for each in _given(fleet, aws):
        if part in {each.part, None}:
            there = _is_there(each)
            if there is None:
                notes.append(f"{each.setting}: nobody looked for {each.what}: these credentials may not ask for it")
            if there is False:
                missing.append(f"{each.setting}: there is no {each.what}: {each.remedy}")
    unseen = [_unseen(fleet, each) for each in targets(fleet) if part in {topic_rule_name(each.rule), None}]
    known = [*slow_listings(fleet), *_twice(fleet)] if part is None else []
    return Looked(tuple(missing), (*notes, *filter(None, unseen), *known))


def _twice(fleet: Fleet) -> Iterator[str]:
    """Yield a sentence on each two rules of which some topic is both's. By Basic Ingest a message names its rule."""
    for one, other in combinations(fleet.made_rules, 2):
        if one.enabled and other.enabled and meet(one.topic, other.topic):
            yield (
                f"rules {one.key} and {other.key} both read some topics, of {one.topic} and {other.topic}: what is "
                "published there, and not by Basic Ingest, becomes a row of each"
            )


def not_carried(fleet: Fleet) -> list[str]:
    """Return a sentence on each further action that AWS on this machine takes and does nothing about."""
    return [said for each in targets(fleet) if fleet.profile == "local" and (said := _unseen(fleet, each))]


def refuse_missing(fleet: Fleet, aws: Aws, part: str | None = None) -> None:
    """Raise GivenThingMissing if anything is missing that settings name. Reads only."""
    if missing := looked_at(fleet, aws, part).missing:
        raise GivenThingMissing(missing)


def _is_there(given: GivenThing) -> bool | None:
    """Say whether it exists; None where AWS does not say it to these credentials."""
    with doing(f"show {given.what}"):
        try:
            return bool(given.look())
        except ClientError as error:
            code = error_code(error)
            if code in _ABSENT:
                return False
            if code in _DENIED:
                return None
            raise


def _given(fleet: Fleet, aws: Aws) -> Iterator[GivenThing]:
    yield from _policies(fleet, aws)
    yield from _around_the_functions(fleet, aws)
    if name := fleet.access_log_bucket:
        yield GivenThing(
            "bucket",
            "FLEET_ACCESS_LOG_BUCKET",
            f"bucket {name}",
            f"make it in {fleet.region}, and let S3 write access logs into it",
            partial(aws.s3.get_bucket_location, Bucket=name),
        )
    for arn in given_roles(fleet):
        if f":{fleet.account}:role/" in arn:
            yield GivenThing(
                _part_of_role(fleet, arn),
                "roleArn of a further action",
                f"role {arn}",
                "make it, with a trust in iot.amazonaws.com; or leave roleArn out, and the fleet makes one",
                partial(aws.iam.get_role, RoleName=arn.rsplit("/", 1)[1]),
            )
    if fleet.profile == "aws":
        yield from _targets(fleet, aws)


def _policies(fleet: Fleet, aws: Aws) -> Iterator[GivenThing]:
    if arn := fleet.boundary_arn:
        name = arn.rsplit("/", 1)[1]
        own = (
            "an administrator makes it: `fleet iam boundary > boundary.json`, then "
            f"`aws iam create-policy --policy-name {name} --policy-document file://boundary.json`{fleet.by_hand}"
        )
        remedy = own if fleet.role_boundary == "own" else "make it, or set the setting to `own` or to none"
        yield GivenThing(
            "hook_role",
            "FLEET_ROLE_BOUNDARY",
            f"policy {arn}",
            remedy,
            partial(aws.iam.get_policy, PolicyArn=arn),
        )
    for policy in fleet.hook_policies:
        yield GivenThing(
            "hook_role",
            "FLEET_HOOK_POLICIES",
            f"policy {policy}",
            "make it, with the rights that your check needs",
            partial(aws.iam.get_policy, PolicyArn=policy),
        )


def _around_the_functions(fleet: Fleet, aws: Aws) -> Iterator[GivenThing]:
    if arn := fleet.hook_dead_letters:
        owner, name = arn.split(":")[4:]
        yield GivenThing(
            "hook",
            "FLEET_HOOK_DEAD_LETTERS",
            f"queue {name}",
            f"make it: `aws sqs create-queue --queue-name {name}`{fleet.by_hand}",
            partial(aws.looking_at("sqs").get_queue_url, QueueName=name, QueueOwnerAWSAccountId=owner),
        )
    # AWS on this machine has no network, and takes any subnet.
    subnets, groups = (fleet.hook_subnets, fleet.hook_security_groups) if fleet.profile == "aws" else ((), ())
    remedy = f"name one of {fleet.region} and this account"
    for subnet in subnets:
        yield GivenThing(
            "hook",
            "FLEET_HOOK_SUBNETS",
            f"subnet {subnet}",
            remedy,
            partial(aws.looking_at("ec2").describe_subnets, SubnetIds=[subnet]),
        )
    for group in groups:
        yield GivenThing(
            "hook",
            "FLEET_HOOK_SECURITY_GROUPS",
            f"security group {group}",
            remedy,
            partial(aws.looking_at("ec2").describe_security_groups, GroupIds=[group]),
        )


def _targets(fleet: Fleet, aws: Aws) -> Iterator[GivenThing]:
    """Yield what further actions are taken on, where a call of this account and region tells whether it is there."""
    for target in targets(fleet):
        if _is_here(fleet, target):
            yield GivenThing(
                topic_rule_name(target.rule),
                target.place,
                target.arn,
                "make it first, or each message of the rule becomes a report of an error",
                partial(LOOKS[target.kind], aws, target.spec, target.arn),
            )


def _is_here(fleet: Fleet, target: Target) -> bool:
    return bool(target.arn) and {*target.arn.split(":")[3:5]} <= {fleet.region, fleet.account, ""}


def _unseen(fleet: Fleet, target: Target) -> str:
    """Return a sentence on a target at which nobody here can look, or nothing."""
    if fleet.profile == "local":
        said = "not carried by AWS on this machine, which takes the action and does nothing; in an account it is taken"
        return "" if target.kind in LOCAL_ACTIONS else f"{target.place}: {said}"
    if _is_here(fleet, target) or target.kind in _OF_NOBODY:
        return ""
    why = "it is in another account or region" if target.arn else "AWS has no call that would tell"
    return f"{target.place}: nobody looked whether its target exists: {why}"


_OF_NOBODY = frozenset({"republish", "cloudwatchMetric", "http"})
"""Actions whose target nobody has to make, or that nobody but its owner can ask for."""


def _part_of_role(fleet: Fleet, arn: str) -> str:
    return next(topic_rule_name(each.rule) for each in targets(fleet) if each.spec.get("roleArn") == arn)


def _log_groups(aws: Aws, spec: Mapping[str, Any]) -> Sequence[Any]:
    name = spec["logGroupName"]
    pages = aws.logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=name)
    return [each for page in pages for each in page["logGroups"] if each["logGroupName"] == name]


LOOKS: Mapping[str, Callable[[Aws, Mapping[str, Any], str], Any]] = {
    "cloudwatchLogs": lambda aws, spec, _: _log_groups(aws, spec),
    "dynamoDB": lambda aws, spec, _: aws.dynamodb.describe_table(TableName=spec["tableName"]),
    "dynamoDBv2": lambda aws, spec, _: aws.dynamodb.describe_table(TableName=spec["putItem"]["tableName"]),
    "firehose": lambda aws, spec, _: aws.firehose.describe_delivery_stream(
        DeliveryStreamName=spec["deliveryStreamName"]
    ),
    "kafka": lambda aws, _, arn: aws.iot.get_topic_rule_destination(arn=arn),
    "kinesis": lambda aws, spec, _: aws.looking_at("kinesis").describe_stream_summary(StreamName=spec["streamName"]),
    "lambda": lambda aws, _, arn: aws.functions.get_function_configuration(FunctionName=arn),
    "location": lambda aws, spec, _: aws.looking_at("location").describe_tracker(TrackerName=spec["trackerName"]),
    "s3": lambda aws, spec, _: aws.s3.get_bucket_location(Bucket=spec["bucketName"]),
    "sns": lambda aws, _, arn: aws.looking_at("sns").get_topic_attributes(TopicArn=arn),
    "sqs": lambda aws, _, arn: aws.looking_at("sqs").get_queue_url(
        QueueName=arn.rsplit(":", 1)[1], QueueOwnerAWSAccountId=arn.split(":")[4]
    ),
    "stepFunctions": lambda aws, _, arn: aws.looking_at("stepfunctions").describe_state_machine(stateMachineArn=arn),
}
"""The call that tells whether a kind of target exists."""
