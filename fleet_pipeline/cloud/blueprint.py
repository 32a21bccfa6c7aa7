"""Every resource of one fleet, each with those that must exist before it: the model that is planned, applied and
removed.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter

from fleet_pipeline.cloud import lifecycle_rules, own_check
from fleet_pipeline.cloud.claims.certificates import Claims
from fleet_pipeline.cloud.documents import filled
from fleet_pipeline.cloud.documents.actions import action_rights, completed, role_wanted
from fleet_pipeline.cloud.documents.device import device_policies, device_policy_names, with_device_policies
from fleet_pipeline.cloud.encryption import ALGORITHM
from fleet_pipeline.cloud.enrolment.allow_list import AllowListTable
from fleet_pipeline.cloud.enrolment.further_policy import FurtherDevicePolicy
from fleet_pipeline.cloud.kinds.attachment import PolicyAttachment
from fleet_pipeline.cloud.kinds.billing_group import BillingGroup
from fleet_pipeline.cloud.kinds.bucket import Bucket
from fleet_pipeline.cloud.kinds.claim_certificate import ClaimCertificate
from fleet_pipeline.cloud.kinds.delivery_stream import DeliveryStream
from fleet_pipeline.cloud.kinds.function import Function, sha256_of
from fleet_pipeline.cloud.kinds.given_bucket import GivenBucket
from fleet_pipeline.cloud.kinds.iot_policy import IotPolicy
from fleet_pipeline.cloud.kinds.log_group import LogGroup
from fleet_pipeline.cloud.kinds.own_ca import Undescribed, ca_certificate
from fleet_pipeline.cloud.kinds.permission import InvokePermission
from fleet_pipeline.cloud.kinds.role import Role
from fleet_pipeline.cloud.kinds.template import Template
from fleet_pipeline.cloud.kinds.thing_group import ThingGroup
from fleet_pipeline.cloud.kinds.thing_type import ThingType
from fleet_pipeline.cloud.kinds.topic_rule import SQL_VERSION, TopicRule, refuse_unknown, s3_action, stream_action
from fleet_pipeline.cloud.reconcile import Resource
from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.names import log_of
from fleet_pipeline.model.rule import Rule
from fleet_pipeline.model.rule_table import within


@dataclass(frozen=True)
class BlueprintPart:
    """A resource, the names of the parts that must exist before it, and its group in the lineage."""

    resource: Resource
    after: tuple[str, ...] = ()
    group: str = "provisioning"


Blueprint = Mapping[str, BlueprintPart]


def blueprint(fleet: Fleet) -> Blueprint:
    """Return the parts of a fleet by name, in an order in which they can be made."""
    parts = {
        **_storage(fleet),
        **_hook(fleet),
        **_provisioning(fleet),
        **_claim(fleet),
        **_rules(fleet),
        **_own_ca(fleet),
        **_bulk(fleet),
    }
    return {
        name: parts[name]
        for name in TopologicalSorter({name: part.after for name, part in parts.items()}).static_order()
    }


OWN_CA_PARTS = {
    "none": (),
    "jitr": ("just_in_time_role", "just_in_time", "just_in_time_permission", "just_in_time_rule", "ca_certificate"),
    "jitp": ("jitp_template", "ca_certificate"),
}
"""The parts of which none can be described without the authority's certificate.

Where the settings say something of logs, the function's is one more.
"""


def own_ca_parts(fleet: Fleet) -> tuple[str, ...]:
    """Return the parts that a fleet has because of its own CA."""
    return (
        *OWN_CA_PARTS[fleet.own_ca],
        *(("just_in_time_log",) if fleet.own_ca == "jitr" and fleet.makes_logs else ()),
    )


def shown(fleet: Fleet) -> Blueprint:
    """Return the parts for whoever must show a fleet that is not whole, as Dagster when it loads: without the own CA's
    files its parts only say so.

    For actions there is `blueprint`, which raises: beside half of the parts, the other half would look like leftovers.
    """
    try:
        return blueprint(fleet)
    except InvalidSetting as problem:
        if not own_ca_parts(fleet):
            raise
        return {
            **blueprint(replace(fleet, own_ca="none")),
            **{name: BlueprintPart(Undescribed(name, problem), (), "own_ca") for name in own_ca_parts(fleet)},
        }


def topic_rule_name(rule: Rule) -> str:
    """Return the name of a rule's part: `topic_rule_rule1`."""
    return f"topic_rule_{rule.key}"


def stream_part_name(rule: Rule) -> str:
    """Return the name of the part of a rule's stream: `delivery_stream_rule1`."""
    return f"delivery_stream_{rule.key}"


def resources(parts: Blueprint) -> Iterator[Resource]:
    """Yield the resources in the order in which they can be made."""
    return (part.resource for part in parts.values())


def _storage(fleet: Fleet) -> dict[str, BlueprintPart]:
    def bucket(name: str, policy: filled.Document) -> BlueprintPart:
        if name in fleet.given:
            overwrites = name == fleet.bucket
            left = tuple(f"the lifecycle rule {rule}" for rule in lifecycle_rules.wanted(fleet, name))
            arn = fleet.arn("s3", name)
            return BlueprintPart(
                GivenBucket(name, arn, fleet.region, fleet.kms_key_arn, overwrites=overwrites, left_to_its_owner=left)
            )
        plain = Bucket(
            name=name,
            arn=fleet.arn("s3", name),
            region=fleet.region,
            policy=policy,
            tags=fleet.all_tags,
            access_logs=fleet.access_logs(name),
            lifecycle=lifecycle_rules.wanted(fleet, name),
        )
        return BlueprintPart(
            replace(plain, encryption=ALGORITHM, kms_key=fleet.kms_key_arn) if fleet.kms_key else plain
        )

    return {
        "bucket": bucket(fleet.bucket, filled.bucket_policy(fleet)),
        "lake_bucket": bucket(fleet.lake_bucket, filled.lake_bucket_policy(fleet)),
    }


def _hook(fleet: Fleet) -> dict[str, BlueprintPart]:
    code = own_check.code(fleet)
    role = _role(
        fleet,
        fleet.hook_role_name,
        "AWS IAM role for pre-provisioning lambda",
        filled.lambda_trust(fleet),
        {"hook": filled.hook_policy(fleet)},
    )
    function = Function(
        name=fleet.hook_name,
        arn=fleet.hook_arn,
        description="Decides which vehicles may register",
        role_arn=role.arn,
        runtime=fleet.hook_runtime,
        environment={
            **_hook_environment(fleet),
            "PARAMETERS": ",".join(filled.provisioning_template(fleet)["Parameters"]),
            "TEMPORARY_CLAIMS": f"s3://{fleet.bucket}/{fleet.temporary_claims_prefix}",
        },
        tags=fleet.all_tags,
        code_sha256=sha256_of(code),
        code=code,
        concurrency=fleet.hook_concurrency,
        dead_letters=fleet.hook_dead_letters,
        subnets=tuple(sorted(fleet.hook_subnets)),
        security_groups=tuple(sorted(fleet.hook_security_groups)),
    )
    permission = InvokePermission(
        name=fleet.hook_name, arn=fleet.hook_arn, source_arn=fleet.template_arn, source_account=fleet.account
    )
    table = AllowListTable(
        name=fleet.allow_list_table,
        arn=fleet.arn("dynamodb", f"table/{fleet.allow_list_table}"),
        tags=fleet.all_tags,
        kms_key=fleet.kms_key_arn,
    )
    return {
        **_log(fleet, "hook_log", function),
        **({"allow_list_table": BlueprintPart(table)} if fleet.allow_list == "dynamodb" else {}),
        "hook_role": BlueprintPart(replace(role, managed=tuple(sorted(fleet.hook_policies)))),
        "hook": BlueprintPart(
            function,
            (
                "hook_role",
                *(["allow_list_table"] if fleet.allow_list == "dynamodb" else []),
                *_log(fleet, "hook_log", function),
            ),
        ),
        "hook_permission": BlueprintPart(permission, ("hook",)),
    }


def _log(fleet: Fleet, name: str, function: Function) -> dict[str, BlueprintPart]:
    """Return a function's log where the settings say something of it, by the name of its part: it must be there before
    Lambda makes one of the same name.
    """
    group = log_of(function.name)
    log = LogGroup(
        group, fleet.arn("logs", f"log-group:{group}"), fleet.kms_key_arn, fleet.log_retention_days, dict(fleet.tags)
    )
    return {name: BlueprintPart(log)} if fleet.makes_logs else {}


def _hook_environment(fleet: Fleet) -> dict[str, str]:
    where = {
        "none": "",
        "s3": f"s3://{fleet.bucket}/{fleet.allow_list_key}",
        "dynamodb": f"dynamodb://{fleet.allow_list_table}",
    }[fleet.allow_list]
    said = {
        "SERIAL_FORM": fleet.serial_form if fleet.serial_pattern else "",
        "PATTERNS": json.dumps({each.name: [each.form.regex, each.required] for each in fleet.parameters})
        if fleet.parameters
        else "",
        "THING_TYPE": fleet.thing.type,
        "BILLING_GROUP": fleet.thing.billing_group,
        "OWN_CHECK": "on" if fleet.hook_file else "",
        "OWN_SETTINGS": ",".join(name for name, _ in fleet.hook_environment),
    }
    plain = {
        "SERIAL_PREFIX": fleet.serial_prefix,
        "THING_PREFIX": fleet.thing_prefix,
        "TEMPLATE_ARN": fleet.template_arn,
        "ALLOW_LIST": where,
    }
    return dict(fleet.hook_environment) | plain | {name: text for name, text in said.items() if text}


def _just_in_time_environment(fleet: Fleet) -> dict[str, str]:
    said = {
        "THING_GROUPS": ",".join(fleet.thing.groups),
        "ATTRIBUTES": json.dumps(filled.attributes_of_serial(fleet)) if fleet.thing.attributes else "",
    }
    return _hook_environment(fleet) | {name: text for name, text in said.items() if text}


def _provisioning(fleet: Fleet) -> dict[str, BlueprintPart]:
    role = _role(fleet, fleet.provisioning_role_name, "AWS IoT makes things as this role", filled.iot_trust(fleet), {})
    template = Template(
        name=fleet.template_name,
        arn=fleet.template_arn,
        description="Registers a vehicle by its claim certificate",
        body=with_device_policies(fleet, filled.provisioning_template(fleet)),
        role_arn=role.arn,
        hook_arn=fleet.hook_arn,
        tags=fleet.all_tags,
    )
    things = _what_things_are(fleet)
    policies = _device_policies(fleet, tuple(things))
    return {
        **things,
        **policies,
        "provisioning_role": BlueprintPart(replace(role, managed=(fleet.registration_policy_arn,))),
        "provisioning_template": BlueprintPart(template, (*policies, "provisioning_role", "hook_permission")),
    }


def _device_policies(fleet: Fleet, things: tuple[str, ...] = ()) -> dict[str, BlueprintPart]:
    """Return what every vehicle may do: a policy, and further ones where AWS IoT takes no document so long."""
    first, *further = device_policies(fleet)
    # After what things are, so that its vehicles are removed before that.
    parts = {"device_policy": BlueprintPart(_iot_policy(fleet, fleet.device_policy_name, first), things)}
    for number, document in enumerate(further, 2):
        name = fleet.further_device_policy_name(number)
        policy = FurtherDevicePolicy(
            name, fleet.policy_arn(name), document, fleet.all_tags, first=fleet.device_policy_name
        )
        parts[f"device_policy_{number}"] = BlueprintPart(policy, ("device_policy",))
    return parts


def _what_things_are(fleet: Fleet) -> dict[str, BlueprintPart]:
    """Return the type and the groups of the vehicles' things, where the settings name any."""
    thing, tags = fleet.thing, fleet.all_tags
    groups = {
        f"thing_group_{_word(name)}": BlueprintPart(ThingGroup(name, fleet.arn("iot", f"thinggroup/{name}"), tags))
        for name in thing.groups
    }
    return {
        **(
            {"thing_type": BlueprintPart(ThingType(thing.type, fleet.arn("iot", f"thingtype/{thing.type}"), tags))}
            if thing.type
            else {}
        ),
        **groups,
        **(
            {
                "billing_group": BlueprintPart(
                    BillingGroup(thing.billing_group, fleet.arn("iot", f"billinggroup/{thing.billing_group}"), tags)
                )
            }
            if thing.billing_group
            else {}
        ),
    }


def _word(name: str) -> str:
    """Return a group's name as part of a part's, of which Dagster makes a name: another for each."""
    return re.sub("[^a-zA-Z0-9_]", lambda found: f"_{ord(found[0]):x}_", name)


def _claim(fleet: Fleet) -> dict[str, BlueprintPart]:
    claims = Claims.of(fleet)
    return {
        "claim_policy": BlueprintPart(
            _iot_policy(fleet, fleet.claim_policy_name, filled.claim_policy(fleet)), ("provisioning_template",)
        ),
        "claim_certificate": BlueprintPart(
            ClaimCertificate(claims, claims.stored, kms_key=claims.kms_key, secret_tags=claims.tags), ("bucket",)
        ),
        "claim_attachment": BlueprintPart(PolicyAttachment(claims), ("claim_policy", "claim_certificate")),
    }


def _rules(fleet: Fleet) -> dict[str, BlueprintPart]:
    _check_actions(fleet)

    def writer(name: str, what: str, *prefixes: str) -> Role:
        return _role(
            fleet, name, what, filled.iot_trust(fleet), {"iotCoreRolePolicy": filled.write_policy(fleet, *prefixes)}
        )

    return {
        "rule_role": BlueprintPart(
            _role(
                fleet,
                fleet.rule_role_name,
                "Topic rules write messages as this role",
                filled.iot_trust(fleet),
                {"iotCoreRolePolicy": filled.rule_policy(fleet)},
            ),
            ("bucket",),
        ),
        **_actions_role(fleet),
        **_streams(fleet),
        "rule_error_role": BlueprintPart(
            writer(fleet.rule_error_role_name, "Topic rules report failures as this role", fleet.errors_prefix),
            ("bucket",),
        ),
        **{
            topic_rule_name(rule): BlueprintPart(
                _topic_rule(fleet, rule),
                (
                    "rule_role",
                    "rule_error_role",
                    *_actions_role(fleet),
                    *([stream_part_name(rule)] if rule.delivery == "firehose" else []),
                ),
            )
            for rule in fleet.made_rules
        },
    }


def _streams(fleet: Fleet) -> dict[str, BlueprintPart]:
    """Return the streams that gather messages of rules, and the role as which they write."""
    if not fleet.batched_rules:
        return {}
    role = _role(
        fleet,
        fleet.delivery_role_name,
        "Streams write batches of messages as this role",
        filled.firehose_trust(fleet),
        {"delivery": filled.delivery_policy(fleet)},
    )
    streams = {
        stream_part_name(rule): DeliveryStream(
            name=fleet.stream_name(rule),
            arn=fleet.stream_arn(rule),
            role_arn=role.arn,
            bucket_arn=fleet.arn("s3", fleet.bucket),
            prefix=fleet.stream_prefix_expression(rule),
            error_prefix=fleet.stream_error_expression(rule),
            tags=fleet.all_tags,
            buffer_mb=fleet.delivery_buffer_mb,
            buffer_seconds=fleet.delivery_buffer_seconds,
        )
        for rule in fleet.batched_rules
    }
    return {
        "delivery_role": BlueprintPart(role, ("bucket",)),
        **{name: BlueprintPart(stream, ("delivery_role",)) for name, stream in streams.items()},
    }


def _actions_role(fleet: Fleet) -> dict[str, BlueprintPart]:
    """Return the role of the rules' further actions, if any is taken as the fleet's own."""
    rights = action_rights(fleet)
    document = {"further-actions": {"Version": "2012-10-17", "Statement": rights}}
    role = _role(
        fleet,
        fleet.rule_actions_role_name,
        "Topic rules take their further actions as this role",
        filled.iot_trust(fleet),
        document,
    )
    return {"rule_actions_role": BlueprintPart(role)} if rights else {}


def _check_actions(fleet: Fleet) -> None:
    """Raise InvalidSetting for an action that AWS IoT would not take, or with which messages would be written twice or
    go round in circles.
    """
    for number, rule in enumerate(fleet.rules[len(fleet.rule_keys) :]):
        said = {f"actions[{place}]": action for place, action in enumerate(rule.actions)} | (
            {"error_action": rule.error_action} if rule.error_action else {}
        )
        for name, action in said.items():
            refuse_unknown(f"rules[{number}].{name}", completed(fleet, action), role_wanted(action))
            if action.get("s3", {}).get("bucketName") == fleet.bucket:
                raise InvalidSetting(
                    f"rules[{number}].{name}.s3.bucketName",
                    fleet.bucket,
                    "this bucket holds the rules' own raw objects: take another",
                )
            if within(rule.topic, re.sub(r"^[$]{2}", "$", action.get("republish", {}).get("topic", "$"))):
                why = f"the rule reads {rule.topic!r}, and so its own messages, again and again: republish elsewhere"
                raise InvalidSetting(f"rules[{number}].{name}.republish.topic", action["republish"]["topic"], why)


def _own_ca(fleet: Fleet) -> dict[str, BlueprintPart]:
    """Return what lets vehicles with certificates of the user's own CA in."""
    if fleet.own_ca == "none":
        return {}
    if fleet.own_ca == "jitr":
        return {
            "ca_certificate": BlueprintPart(ca_certificate(fleet), ("just_in_time_rule",), "own_ca"),
            **_just_in_time(fleet),
        }
    template = Template(
        name=fleet.jitp_template_name,
        arn=fleet.arn("iot", f"provisioningtemplate/{fleet.jitp_template_name}"),
        description="Registers a vehicle by its certificate of the registered CA",
        body=with_device_policies(fleet, filled.jitp_template(fleet)),
        role_arn=fleet.role_arn(fleet.provisioning_role_name),
        hook_arn="",
        tags=fleet.all_tags,
        payload_version="",
        type="JITP",
    )
    return {
        "jitp_template": BlueprintPart(template, (*_device_policies(fleet), "provisioning_role"), "own_ca"),
        "ca_certificate": BlueprintPart(ca_certificate(fleet), ("jitp_template",), "own_ca"),
    }


def _just_in_time(fleet: Fleet) -> dict[str, BlueprintPart]:
    """Return the function that decides about each new certificate of the CA, and the rule that calls it."""
    code, ca = own_check.code(fleet), ca_certificate(fleet)
    policy, name, what = (
        {"just-in-time": filled.just_in_time_policy(fleet)},
        fleet.just_in_time_name,
        "Decides which certificates of the own CA are let in",
    )
    role = _role(fleet, fleet.just_in_time_role_name, what, filled.lambda_trust(fleet), policy)
    function = Function(
        name=name,
        arn=fleet.arn("lambda", f"function:{name}"),
        description=what,
        role_arn=role.arn,
        runtime=fleet.hook_runtime,
        environment={
            **_just_in_time_environment(fleet),
            "CA_CERTIFICATE_ID": ca.name,
            "DEVICE_POLICY": ",".join(device_policy_names(fleet)),
        },
        tags=fleet.all_tags,
        code_sha256=sha256_of(code),
        code=code,
        handler="just_in_time.lambda_handler",
        concurrency=fleet.hook_concurrency,
        dead_letters=fleet.hook_dead_letters,
        subnets=tuple(sorted(fleet.hook_subnets)),
        security_groups=tuple(sorted(fleet.hook_security_groups)),
    )
    log = {name: replace(part, group="own_ca") for name, part in _log(fleet, "just_in_time_log", function).items()}
    rule = TopicRule(
        name=fleet.just_in_time_rule_name,
        arn=fleet.arn("iot", f"rule/{fleet.just_in_time_rule_name}"),
        description="Tells the function of each new certificate of the own CA",
        sql=f"SELECT * FROM '$aws/events/certificates/registered/{ca.name}'",  # noqa: S608 (AWS IoT SQL; the id is a digest)
        action={"lambda": {"functionArn": function.arn}},
        error_action=s3_action(
            fleet.role_arn(fleet.rule_error_role_name),
            fleet.bucket,
            f"{fleet.errors_prefix}/just-in-time/${{timestamp()}}-${{newuuid()}}",
        ),
        tags=fleet.all_tags,
    )
    permission = InvokePermission(name=name, arn=function.arn, source_arn=rule.arn, source_account=fleet.account)
    return {
        "just_in_time_role": BlueprintPart(replace(role, managed=tuple(sorted(fleet.hook_policies))), (), "own_ca"),
        **log,
        "just_in_time": BlueprintPart(function, ("just_in_time_role", *_device_policies(fleet), *log), "own_ca"),
        "just_in_time_permission": BlueprintPart(permission, ("just_in_time",), "own_ca"),
        "just_in_time_rule": BlueprintPart(rule, ("just_in_time_permission", "rule_error_role"), "own_ca"),
    }


def _bulk(fleet: Fleet) -> dict[str, BlueprintPart]:
    """Return the role as which AWS IoT reads a file of vehicles and registers them."""
    if fleet.bulk_registration == "off":
        return {}
    reading = {"input": filled.read_policy(fleet, fleet.bulk_prefix)}
    role = _role(
        fleet,
        fleet.bulk_role_name,
        "AWS IoT registers vehicles of a file as this role",
        filled.iot_trust(fleet),
        reading,
    )
    return {
        "bulk_role": BlueprintPart(
            replace(role, managed=(fleet.registration_policy_arn,)),
            ("bucket", *_device_policies(fleet)),
            "bulk_registration",
        )
    }


def _topic_rule(fleet: Fleet, rule: Rule) -> TopicRule:
    return TopicRule(
        name=rule.aws_name,
        arn=fleet.arn("iot", f"rule/{rule.aws_name}"),
        description=(
            f"Writes {'every message' if rule.keeps_payloads else 'what the SQL selects of each message'} of "
            f"{rule.topic} to S3"
        ),
        sql=rule.sql,
        action=stream_action(fleet.role_arn(fleet.rule_role_name), fleet.stream_name(rule))
        if rule.delivery == "firehose"
        else s3_action(fleet.role_arn(fleet.rule_role_name), fleet.bucket, fleet.raw_key_expression_of(rule)),
        further_actions=tuple(completed(fleet, each) for each in rule.actions),
        error_action=completed(fleet, rule.error_action)
        if rule.error_action
        else s3_action(fleet.role_arn(fleet.rule_error_role_name), fleet.bucket, fleet.report_key_expression(rule)),
        tags=fleet.all_tags,
        sql_version=rule.table.sql_version if rule.table else SQL_VERSION,
        disabled=not rule.enabled,
    )


def _role(
    fleet: Fleet, name: str, description: str, trust: filled.Document, inline: dict[str, filled.Document]
) -> Role:
    return Role(
        name=name,
        arn=fleet.role_arn(name),
        description=description,
        trust=trust,
        tags=fleet.all_tags,
        inline=inline,
        boundary=fleet.boundary_arn,
        path=fleet.role_path,
    )


def _iot_policy(fleet: Fleet, name: str, document: filled.Document) -> IotPolicy:
    return IotPolicy(name=name, arn=fleet.policy_arn(name), document=document, tags=fleet.all_tags)
