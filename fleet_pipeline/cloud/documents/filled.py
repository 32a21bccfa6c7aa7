"""Each document, filled in for one fleet.

A base file holds placeholders: `<bucket>` in a string becomes the value of that name, and a string whose placeholder
stands for several values becomes as many strings. Sources: AWS IoT Core Developer Guide (provision-wo-cert,
cross-service-confused-deputy-prevention, audit-chk-iot-policy-permissive), Amazon S3 User Guide
(conditional-writes-enforce).
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.thing import SERIAL, parts

Document = dict[str, Any]
Values = Mapping[str, str | Sequence[str]]

_FOLDER = Path(__file__).parent
_PLACEHOLDER = re.compile(r"<([a-z0-9-]+)>")


def claim_policy(fleet: Fleet) -> Document:
    """The shared certificate may ask for a certificate, for keys of AWS IoT's or of its own, and register through our
    template, in JSON or CBOR; nothing else.

    `????` stands for json and cbor where answers are heard: spelled out, the document would have up to 2,224 characters
    of the 2,048 that AWS IoT takes.
    """
    requests = (
        "certificates/create",
        "certificates/create-from-csr",
        f"provisioning-templates/{fleet.template_name}/provision",
    )
    return filled_in(
        "claim-policy",
        fleet,
        {"requests": requests, "spellings": ("json", "cbor"), "claim-client-prefix": fleet.claim_client_prefix},
    )


def provisioning_template(fleet: Fleet) -> Document:
    """The thing, its certificate and its policy, as RegisterThing makes them."""
    document = filled_in(
        "provisioning-template", fleet, {"device-policy": fleet.device_policy_name, "thing-prefix": fleet.thing_prefix}
    )
    document["Parameters"] |= {
        each.name: {"Type": "String", **({} if each.required else {"Default": each.default})}
        for each in fleet.parameters
    }
    if fleet.thing.groups:  # the hook has made the thing before: groups are added to those that it has
        document["Resources"]["thing"]["OverrideSettings"]["ThingGroups"] = "MERGE"
    return _with_thing(fleet, document, {name: _resolved(text, {}) for name, text in fleet.thing.attributes.items()})


def write_policy(fleet: Fleet, *prefixes: str) -> Document:
    """A topic rule writes objects below some prefixes of the bucket."""
    document = filled_in("rule-policy", fleet, {"bucket": fleet.bucket, "prefix": prefixes})
    document["Statement"] += key_rights(fleet, "EncryptWithTheFleetsKey", ("GenerateDataKey",), "s3")
    return document


NAMED_RULES = 8
"""Rules that a policy of the fleet's own names one by one; of more, what their names have in common."""


def rule_policy(fleet: Fleet) -> Document:
    """Topic rules write messages as objects, and hand them to the streams of rules that have one."""
    document = write_policy(fleet, *fleet.raw_prefixes)
    streams = [fleet.stream_arn(rule) for rule in fleet.batched_rules]
    if len(streams) > NAMED_RULES:
        streams = [fleet.arn("firehose", f"deliverystream/{fleet.prefix}-*")]
    if streams:
        document["Statement"].append({"Effect": "Allow", "Action": "firehose:PutRecord", "Resource": streams})
    return document


def delivery_policy(fleet: Fleet) -> Document:
    """Streams write batches, and reports of what they could not process."""
    prefixes = [rule.batch_prefix[:-1] for rule in fleet.batched_rules]
    reports = [fleet.report_prefix(rule)[:-1] for rule in fleet.batched_rules]
    if len(prefixes) > NAMED_RULES:
        prefixes, reports = [f"{prefix}/*batches" for prefix in fleet.raw_prefixes], [fleet.errors_prefix]
    document = write_policy(fleet, *prefixes, *reports)
    document["Statement"][0]["Action"] = ["s3:AbortMultipartUpload", "s3:PutObject"]
    document["Statement"].insert(1, streams_bucket(fleet))
    return document


def streams_bucket(fleet: Fleet) -> Document:
    """Return the rights to the bucket itself that Firehose asks for.

    Source: Amazon Data Firehose Developer Guide, controlling-access (grant access to an Amazon S3 destination).
    """
    verbs = ("GetBucketLocation", "ListBucket", "ListBucketMultipartUploads")
    return {"Effect": "Allow", "Action": [f"s3:{verb}" for verb in verbs], "Resource": fleet.arn("s3", fleet.bucket)}


def hook_policy(fleet: Fleet) -> Document:
    """The hook writes its own log, reserves the thing, asks whether a claim certificate was lent, and reads the
    allow-list if there is one.
    """
    document = _function_policy("hook-policy", fleet, fleet.hook_name)
    document["Statement"] += into_groups(fleet, "CreateThing")
    return document


def just_in_time_policy(fleet: Fleet) -> Document:
    """The function of just-in-time registration makes the thing, attaches the device policy and activates the
    certificate.
    """
    document = _function_policy("just-in-time-policy", fleet, fleet.just_in_time_name)
    document["Statement"] += into_groups(fleet, "CreateThing", "AddThingToThingGroup")
    return document


def _function_policy(name: str, fleet: Fleet, function: str) -> Document:
    values = {
        "function": function,
        "thing-prefix": fleet.thing_prefix,
        "serial-prefix": fleet.serial_beginning,
        "bucket": fleet.bucket,
        "temporary-claims-prefix": fleet.temporary_claims_prefix,
    }
    document = filled_in(name, fleet, values)
    reading = {
        "none": None,
        "s3": ("s3:GetObject", fleet.arn("s3", f"{fleet.bucket}/{fleet.allow_list_key}")),
        "dynamodb": ("dynamodb:GetItem", fleet.arn("dynamodb", f"table/{fleet.allow_list_table}")),
    }[fleet.allow_list]
    if reading:
        document["Statement"].append(
            {"Sid": "ReadTheAllowList", "Effect": "Allow", "Action": reading[0], "Resource": reading[1]}
        )
    document["Statement"] += [*telling_of_failures(fleet), *reaching_the_network(fleet)]
    services = {"s3", "dynamodb"} & {
        each.split(":")[0] for statement in document["Statement"] for each in _listed(statement["Action"])
    }
    document["Statement"] += key_rights(fleet, "DecryptWithTheFleetsKey", ("Decrypt",), *sorted(services))
    return document


def into_groups(fleet: Fleet, *verbs: str) -> list[Document]:
    """Return the right to put things into the groups of the settings; nothing where there are none.

    CreateThing asks for a billing group.
    """
    billing = [fleet.arn("iot", f"billinggroup/{name}") for name in [fleet.thing.billing_group] if name]
    groups = [fleet.arn("iot", f"thinggroup/{name}") for name in fleet.thing.groups]
    things = fleet.arn("iot", f"thing/{fleet.thing_prefix}{fleet.serial_beginning}*")
    into_billing = [f"iot:{verb}" for verb in verbs if verb in {"CreateThing", "AddThingToBillingGroup"}]
    into_others = [f"iot:{verb}" for verb in verbs if f"iot:{verb}" not in into_billing]
    return [
        *(
            [{"Sid": "IntoTheBillingGroup", "Effect": "Allow", "Action": into_billing, "Resource": [*billing, things]}]
            if billing and into_billing
            else []
        ),
        *(
            [{"Sid": "IntoTheGroups", "Effect": "Allow", "Action": into_others, "Resource": [*groups, things]}]
            if groups and into_others
            else []
        ),
    ]


def telling_of_failures(fleet: Fleet) -> list[Document]:
    """Return the right to send to the queue of dead letters, as Lambda does in the function's name; nothing where there
    is none.
    """
    return (
        [{"Sid": "TellOfFailures", "Effect": "Allow", "Action": "sqs:SendMessage", "Resource": fleet.hook_dead_letters}]
        if fleet.hook_dead_letters
        else []
    )


def reaching_the_network(fleet: Fleet, *, any_of_them: bool = False) -> list[Document]:
    """Return the rights by which Lambda puts a function into the VPC of the settings, in the function's name; nothing
    where there is none.

    A boundary, which has little room, speaks of any subnet and group: the role's own policy names them.
    Source: AWS Lambda Developer Guide, configuration-vpc; Service Authorization Reference, Amazon EC2.
    """
    if not fleet.hook_subnets:
        return []
    interfaces = fleet.arn("ec2", "network-interface/*")
    subnets = [fleet.arn("ec2", f"subnet/{name}") for name in (["*"] if any_of_them else fleet.hook_subnets)]
    groups = [
        fleet.arn("ec2", f"security-group/{name}") for name in (["*"] if any_of_them else fleet.hook_security_groups)
    ]
    change = [
        f"ec2:{verb}" for verb in ("AssignPrivateIpAddresses", "DeleteNetworkInterface", "UnassignPrivateIpAddresses")
    ]
    return [
        {
            "Sid": "MakeInterfaces",
            "Effect": "Allow",
            "Action": "ec2:CreateNetworkInterface",
            "Resource": [interfaces, *subnets, *groups],
        },
        {"Sid": "ChangeInterfaces", "Effect": "Allow", "Action": change, "Resource": interfaces},
        {
            "Sid": "FindInterfaces",
            "Effect": "Allow",
            "Action": ["ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"],
            "Resource": "*",
        },
    ]


def _listed(said: Any) -> list[str]:
    return [said] if isinstance(said, str) else list(said)


def key_rights(fleet: Fleet, sid: str, verbs: Sequence[str], *services: str) -> list[Document]:
    """Return the right to the fleet's KMS key, through these services or, without any, directly; nothing where there is
    no key or nothing is asked of it.

    An alias is in no ARN of a right: it is a condition on the keys of its account. Source: AWS KMS Developer Guide,
    alias-authorization.
    """
    if not fleet.kms_key or (not services and verbs != ("DescribeKey",)):
        return []
    before, kind, name = re.split(r":(key|alias)/", fleet.kms_key_arn)
    via = {"StringEquals": {"kms:ViaService": [fleet.endpoint(service) for service in services]}} if services else {}
    alias = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": f"alias/{name}"}} if kind == "alias" else {}
    right = {
        "Sid": sid,
        "Effect": "Allow",
        "Action": [f"kms:{verb}" for verb in verbs],
        "Resource": f"{before}:key/{'*' if alias else name}",
    }
    return [{**right, "Condition": via | alias} if via or alias else right]


def jitp_template(fleet: Fleet) -> Document:
    """The thing, its certificate and its policy, as AWS IoT makes them when a certificate of the registered CA connects
    for the first time.
    """
    document = filled_in(
        "jitp-template", fleet, {"device-policy": fleet.device_policy_name, "thing-prefix": fleet.thing_prefix}
    )
    name = {SERIAL: "AWS::IoT::Certificate::CommonName"}
    return _with_thing(
        fleet, document, {each: _resolved(text, name) for each, text in attributes_of_serial(fleet).items()}
    )


def bulk_template(fleet: Fleet) -> Document:
    """The thing, its certificate for a request of the vehicle's own (CSR) and its policy, for each line of a file."""
    document = filled_in(
        "bulk-template", fleet, {"device-policy": fleet.device_policy_name, "thing-prefix": fleet.thing_prefix}
    )
    return _with_thing(
        fleet, document, {each: _resolved(text, {}) for each, text in attributes_of_serial(fleet).items()}
    )


def attributes_of_serial(fleet: Fleet) -> dict[str, str]:
    """Return the attributes of a thing of which nothing but the serial is known: what else they speak of has its
    default.
    """
    defaults = {each.name: each.default for each in fleet.parameters}
    said = {name: parts(text) for name, text in fleet.thing.attributes.items()}
    return {
        name: "".join(f"${{{place}}}" if place == SERIAL else defaults.get(place, text) for place, text in pieces)
        for name, pieces in said.items()
    }


def _with_thing(fleet: Fleet, document: Document, attributes: Document) -> Document:
    """Return a template with what the settings say of a thing."""
    thing, properties = fleet.thing, document["Resources"]["thing"]["Properties"]
    properties["AttributePayload"] |= attributes
    properties |= {"ThingTypeName": thing.type} if thing.type else {}
    properties |= {"ThingGroups": [*thing.groups]} if thing.groups else {}
    properties |= {"BillingGroup": thing.billing_group} if thing.billing_group else {}
    return document


def _resolved(text: str, names: Mapping[str, str]) -> Any:
    """Return a text in which `${…}` stands for parameters, as a template says it; `names` are those that are called
    otherwise there.
    """
    pieces = [{"Ref": names.get(place, place)} if place else literal for place, literal in parts(text)]
    return pieces[0] if len(pieces) == 1 else {"Fn::Join": ["", pieces]}


def read_policy(fleet: Fleet, prefix: str) -> Document:
    """AWS IoT reads the objects below one prefix of the bucket."""
    document = filled_in("read-policy", fleet, {"bucket": fleet.bucket, "prefix": prefix})
    document["Statement"] += key_rights(fleet, "DecryptWithTheFleetsKey", ("Decrypt",), "s3")
    return document


def lambda_trust(fleet: Fleet) -> Document:
    """AWS Lambda may assume the role."""
    return filled_in("service-trust", fleet, {"service": "lambda.amazonaws.com"})


def firehose_trust(fleet: Fleet) -> Document:
    """Amazon Data Firehose may assume the role."""
    return filled_in("service-trust", fleet, {"service": "firehose.amazonaws.com"})


def iot_trust(fleet: Fleet) -> Document:
    """AWS IoT may assume the role, for this account and region only."""
    document = filled_in("service-trust", fleet, {"service": "iot.amazonaws.com"})
    document["Statement"][0]["Condition"] = {
        "StringEquals": {"aws:SourceAccount": fleet.account},
        "ArnLike": {"aws:SourceArn": fleet.arn("iot", "*")},
    }
    return document


def bucket_policy(fleet: Fleet) -> Document:
    """Only requests over TLS."""
    return filled_in("bucket-policy", fleet, {"bucket": fleet.bucket})


def lake_bucket_policy(fleet: Fleet) -> Document:
    """Only requests over TLS, and no object is ever overwritten."""
    return filled_in("lake-bucket-policy", fleet, {"bucket": fleet.lake_bucket})


def filled_in(name: str, fleet: Fleet, values: Values) -> Document:
    """Return a base file with its placeholders filled; `<iot>` and the like stand for what the ARNs of a service begin
    with.
    """
    common = {
        service: fleet.arn(service, "")[:-1] for service in ("dynamodb", "glue", "iam", "iot", "lambda", "logs", "s3")
    }
    document: Document = _fill(_base(name), {**common, **values})
    return document


def _base(name: str) -> Document:
    document: Document = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return document


def _fill(node: Any, values: Values) -> Any:
    if isinstance(node, dict):
        return {key: _fill(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [
            text for item in node for text in (_texts(item, values) if isinstance(item, str) else [_fill(item, values)])
        ]
    if isinstance(node, str):
        first, *further = _texts(node, values)
        return [first, *further] if further else first
    return node


def _texts(text: str, values: Values) -> list[str]:
    texts = [text]
    for name in _PLACEHOLDER.findall(text):
        value = values[name]
        texts = [
            each.replace(f"<{name}>", one) for each in texts for one in ([value] if isinstance(value, str) else value)
        ]
    return texts
