"""Each document, filled in for one fleet.

A base file holds placeholders: `<bucket>` in a string becomes the value of that name, and a string whose placeholder stands for
several values becomes as many strings. Sources: AWS IoT Core Developer Guide (provision-wo-cert, cross-service-confused-deputy-prevention,
audit-chk-iot-policy-permissive), Amazon S3 User Guide (conditional-writes-enforce).
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fleet_pipeline.model.fleet import Fleet

Document = dict[str, Any]
Values = Mapping[str, str | Sequence[str]]

_FOLDER = Path(__file__).parent
_PLACEHOLDER = re.compile(r"<([a-z0-9-]+)>")


def claim_policy(fleet: Fleet) -> Document:
    """The shared certificate may ask for a certificate, for keys of AWS IoT's or of its own, and register through our template, in JSON or CBOR; nothing else.

    `????` stands for json and cbor where answers are heard: spelled out, the document would have up to 2,224 characters of the 2,048 that AWS IoT takes.
    """
    requests = ("certificates/create", "certificates/create-from-csr", f"provisioning-templates/{fleet.template_name}/provision")
    return filled_in("claim-policy", fleet, {"requests": requests, "spellings": ("json", "cbor"), "claim-client-prefix": fleet.claim_client_prefix})


def provisioning_template(fleet: Fleet) -> Document:
    """The thing, its certificate and its policy, as RegisterThing makes them."""
    return filled_in("provisioning-template", fleet, {"device-policy": fleet.device_policy_name, "thing-prefix": fleet.thing_prefix})


def write_policy(fleet: Fleet, *prefixes: str) -> Document:
    """A topic rule writes objects below some prefixes of the bucket."""
    document = filled_in("rule-policy", fleet, {"bucket": fleet.bucket, "prefix": prefixes})
    document["Statement"] += key_rights(fleet, "EncryptWithTheFleetsKey", ("GenerateDataKey",), "s3")
    return document


def hook_policy(fleet: Fleet) -> Document:
    """The hook writes its own log, reserves the thing, asks whether a claim certificate was lent, and reads the allow-list if there is one."""
    return _function_policy("hook-policy", fleet, fleet.hook_name)


def just_in_time_policy(fleet: Fleet) -> Document:
    """The function of just-in-time registration makes the thing, attaches the device policy and activates the certificate."""
    return _function_policy("just-in-time-policy", fleet, fleet.just_in_time_name)


def _function_policy(name: str, fleet: Fleet, function: str) -> Document:
    values = {
        "function": function,
        "thing-prefix": fleet.thing_prefix,
        "serial-prefix": fleet.serial_prefix,
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
        document["Statement"].append({"Sid": "ReadTheAllowList", "Effect": "Allow", "Action": reading[0], "Resource": reading[1]})
    document["Statement"] += telling_of_failures(fleet)
    services = {"s3", "dynamodb"} & {each.split(":")[0] for statement in document["Statement"] for each in _listed(statement["Action"])}
    document["Statement"] += key_rights(fleet, "DecryptWithTheFleetsKey", ("Decrypt",), *sorted(services))
    return document


def telling_of_failures(fleet: Fleet) -> list[Document]:
    """Return the right to send to the queue of dead letters, as Lambda does in the function's name; nothing where there is none."""
    return [{"Sid": "TellOfFailures", "Effect": "Allow", "Action": "sqs:SendMessage", "Resource": fleet.hook_dead_letters}] if fleet.hook_dead_letters else []


def _listed(said: Any) -> list[str]:
    return [said] if isinstance(said, str) else list(said)


def key_rights(fleet: Fleet, sid: str, verbs: Sequence[str], *services: str) -> list[Document]:
    """Return the right to the fleet's KMS key, through these services or, without any, directly; nothing where there is no key or nothing is asked of it.

    An alias is in no ARN of a right: it is a condition on the keys of its account. Source: AWS KMS Developer Guide, alias-authorization.
    """
    if not fleet.kms_key or (not services and verbs != ("DescribeKey",)):
        return []
    before, kind, name = re.split(r":(key|alias)/", fleet.kms_key_arn)
    via = {"StringEquals": {"kms:ViaService": [fleet.endpoint(service) for service in services]}} if services else {}
    alias = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": f"alias/{name}"}} if kind == "alias" else {}
    right = {"Sid": sid, "Effect": "Allow", "Action": [f"kms:{verb}" for verb in verbs], "Resource": f"{before}:key/{'*' if alias else name}"}
    return [{**right, "Condition": via | alias} if via or alias else right]


def jitp_template(fleet: Fleet) -> Document:
    """The thing, its certificate and its policy, as AWS IoT makes them when a certificate of the registered CA connects for the first time."""
    return filled_in("jitp-template", fleet, {"device-policy": fleet.device_policy_name, "thing-prefix": fleet.thing_prefix})


def bulk_template(fleet: Fleet) -> Document:
    """The thing, its certificate for a request of the vehicle's own (CSR) and its policy, for each line of a file."""
    return filled_in("bulk-template", fleet, {"device-policy": fleet.device_policy_name, "thing-prefix": fleet.thing_prefix})


def read_policy(fleet: Fleet, prefix: str) -> Document:
    """AWS IoT reads the objects below one prefix of the bucket."""
    document = filled_in("read-policy", fleet, {"bucket": fleet.bucket, "prefix": prefix})
    document["Statement"] += key_rights(fleet, "DecryptWithTheFleetsKey", ("Decrypt",), "s3")
    return document


def lambda_trust(fleet: Fleet) -> Document:
    """AWS Lambda may assume the role."""
    return filled_in("service-trust", fleet, {"service": "lambda.amazonaws.com"})


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
    """Return a base file with its placeholders filled; `<iot>` and the like stand for what the ARNs of a service begin with."""
    common = {service: fleet.arn(service, "")[:-1] for service in ("dynamodb", "glue", "iam", "iot", "lambda", "logs", "s3")}
    document: Document = _fill(_base(name), {**common, **values})
    return document


def _base(name: str) -> Document:
    document: Document = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return document


def _fill(node: Any, values: Values) -> Any:
    if isinstance(node, dict):
        return {key: _fill(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [text for item in node for text in (_texts(item, values) if isinstance(item, str) else [_fill(item, values)])]
    if isinstance(node, str):
        first, *further = _texts(node, values)
        return [first, *further] if further else first
    return node


def _texts(text: str, values: Values) -> list[str]:
    texts = [text]
    for name in _PLACEHOLDER.findall(text):
        value = values[name]
        texts = [each.replace(f"<{name}>", one) for each in texts for one in ([value] if isinstance(value, str) else value)]
    return texts
