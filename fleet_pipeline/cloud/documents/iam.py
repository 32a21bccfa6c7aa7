"""What the people and machines around a fleet may do: IAM policies for the roles that this package runs as, and does
not make itself.

Least privilege: each names this fleet's resources and no others. None may delete a message or a part of the lake, but
for the virtual vehicle's, which removes its own messages, the erasure's and the retention's. What a provisioner makes
stays within a boundary that it cannot change: without one, whoever makes roles and functions makes an administrator.
Source: IAM User Guide, access_policies_boundaries (delegating responsibility to others).
"""

from collections.abc import Callable, Mapping

from fleet_pipeline.cloud.documents.actions import action_rights, given_roles, looking_at_targets
from fleet_pipeline.cloud.documents.device import device_policy_names
from fleet_pipeline.cloud.documents.filled import (
    Document,
    filled_in,
    into_groups,
    key_rights,
    reaching_the_network,
    streams_bucket,
    telling_of_failures,
)
from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.names import log_of
from fleet_pipeline.model.rule import Rule

MANAGED_POLICY_LIMIT = 6144
"""Characters of a managed policy without white space. Source: IAM User Guide, reference_iam-quotas."""

RULE_ARNS_LIMIT = 2200
"""Characters of the rules' ARNs for which the provisioner's document has room."""

VIRTUAL = "VIRTUAL"
"""What the serials of virtual vehicles have in them."""


def boundary_policy(fleet: Fleet) -> Document:
    """The most that any role of the fleet may do, whatever its own policies say: what the blueprint's roles need
    together.
    """
    document = filled_in("boundary-policy", fleet, _names(fleet))
    if fleet.batched_rules:
        [write] = [each for each in document["Statement"] if each["Sid"] == "RulesWrite"]
        _deliver(fleet, write)
    return _with(
        document,
        action_rights(fleet),
        key_rights(fleet, "TheFleetsKey", ("Decrypt", "GenerateDataKey"), "s3", "dynamodb"),
        telling_of_failures(fleet),
        reaching_the_network(fleet, any_of_them=True),
        into_groups(
            fleet, "CreateThing", "AddThingToBillingGroup", "AddThingToThingGroup", "UpdateThingGroupsForThing"
        ),
    )


def compaction_policy(fleet: Fleet) -> Document:
    """Who compacts reads messages, adds to the lake, and keeps the lake's tables in step."""
    return _with(
        filled_in("compaction-policy", fleet, _names(fleet)),
        _reading_given(fleet, "GetObject", "GetObjectVersion"),
        _keeping_iceberg_small(fleet),
        key_rights(fleet, "TheFleetsKey", ("Decrypt", "GenerateDataKey"), "s3"),
    )


def _reading_given(fleet: Fleet, *verbs: str) -> list[Document]:
    """Return what is needed to list the buckets that exist and that rules read, and to read what lies in them."""
    if not fleet.given_rules:
        return []
    lists = [
        _allowed(
            "FindMessagesInGivenBuckets",
            "s3",
            ("ListBucketVersions",),
            sorted({fleet.arn("s3", rule.bucket) for rule in fleet.given_rules}),
        )
    ]
    lists += [*_seeing_inventories(fleet), *_finding_inventories(fleet)] if verbs else []
    places = sorted({fleet.arn("s3", f"{rule.bucket}/{_begins(rule)}*") for rule in fleet.given_rules})
    return lists + ([_allowed("ReadMessagesInGivenBuckets", "s3", verbs, places)] if verbs else [])


def _seeing_inventories(fleet: Fleet) -> list[Document]:
    """Return what `fleet adopt-bucket` needs to see which inventories are configured, where a rule may name one."""
    rules = [rule for rule in fleet.given_rules if rule.table and rule.table.may_have_inventory]
    buckets = sorted({fleet.arn("s3", rule.bucket) for rule in rules})
    return [_allowed("SeeInventories", "s3", ("GetInventoryConfiguration",), buckets)] if buckets else []


def _finding_inventories(fleet: Fleet) -> list[Document]:
    """Return what is needed to find the inventories of which hours are read, and to read them."""
    wanted = sorted({rule.inventory_place for rule in fleet.given_rules if rule.inventory})
    if not wanted:
        return []
    buckets = sorted({fleet.arn("s3", bucket) for bucket, _ in wanted})
    places = [fleet.arn("s3", f"{bucket}/{prefix}*") for bucket, prefix in wanted]
    return [
        _allowed("FindInventories", "s3", ("ListBucketVersions",), buckets),
        _allowed("ReadInventories", "s3", ("GetObject",), places),
    ]


def _begins(rule: Rule) -> str:
    return rule.layout.literal if rule.layout else rule.raw_prefix


def replay_policy(fleet: Fleet) -> Document:
    """Who replays reads what the rules could not write, puts it back among the messages, and hides its report."""
    return _with(
        filled_in("replay-policy", fleet, _names(fleet)),
        key_rights(fleet, "TheFleetsKey", ("Decrypt", "GenerateDataKey"), "s3"),
    )


def erasure_policy(fleet: Fleet) -> Document:
    """Who erases a vehicle removes its messages, reports, parts and snapshots by their versions, and adds what takes
    their place.

    The lake's records of erasures are none of what may be removed. With the thing go its certificates and its line of
    the allow-list.
    """
    document = filled_in("erasure-policy", fleet, _names(fleet))
    services = ("s3", *(["dynamodb"] if fleet.allow_list == "dynamodb" else []))
    return _with(
        document,
        _removing_a_thing(fleet),
        _its_line_of_the_allow_list(fleet),
        _its_lines_of_the_logs(fleet),
        _iceberg_tables_in_glue(fleet),
        key_rights(fleet, "TheFleetsKey", ("Decrypt", "GenerateDataKey"), *services),
    )


def retention_policy(fleet: Fleet) -> Document:
    """Who removes what is too old reads messages and rows to prove them, ends hours of the lake, and removes versions:
    of messages, parts, revisions and Iceberg metadata, never of the records of erasures.
    """
    return _with(
        filled_in("retention-policy", fleet, _names(fleet)),
        _reading_given(fleet),
        _iceberg_tables_in_glue(fleet),
        key_rights(fleet, "TheFleetsKey", ("Decrypt", "GenerateDataKey"), "s3"),
    )


def virtual_vehicle_policy(fleet: Fleet) -> Document:
    """Who runs the virtual vehicle reads the claim certificate's key, and removes the thing, the certificates and the
    messages that it made.
    """
    document = filled_in("virtual-vehicle-policy", fleet, _names(fleet))
    secrets, table = fleet.claim_key_store == "secretsmanager", fleet.allow_list == "dynamodb"
    services = ("s3", *(["secretsmanager"] if secrets else []), *(["dynamodb"] if table else []))
    verbs = ("Decrypt", *(["GenerateDataKey"] if fleet.allow_list == "s3" else []))  # it writes nothing else
    return _with(
        document,
        _its_line_of_the_allow_list(fleet),
        _reading_the_secret(fleet),
        key_rights(fleet, "TheFleetsKey", verbs, *services),
    )


def provisioner_policies(fleet: Fleet) -> dict[str, Document]:
    """Who provisions makes, changes and removes the fleet's resources, and reads no message.

    In parts: together they are longer than AWS takes.

    Raises InvalidSetting where the fleet has no boundary.
    """
    return {name: policy(fleet) for name, policy in PROVISIONER.items()}


def roles_policy(fleet: Fleet) -> Document:
    """Roles within the boundary. Raises InvalidSetting where the fleet has none."""
    if not fleet.boundary_arn:
        way = (
            "make the policy that `fleet iam boundary` prints, and set FLEET_ROLE_BOUNDARY=own, or to the ARN of a "
            "boundary of your company's"
        )
        raise InvalidSetting(
            "FLEET_ROLE_BOUNDARY", None, f"whoever makes roles without a boundary can become an administrator: {way}"
        )
    passed = given_roles(fleet)
    to_iot = {"Condition": {"StringEquals": {"iam:PassedToService": "iot.amazonaws.com"}}}
    given = [_allowed("RolesThatActionsName", "iam", ("PassRole",), passed) | to_iot] if passed else []
    seen = [
        _allowed("SeeTheBoundary", "iam", ("GetPolicy",), fleet.boundary_arn),
        *([_allowed("SeeRolesThatActionsName", "iam", ("GetRole",), passed)] if passed else []),
    ]
    document = _with(filled_in("provisioner-roles-policy", fleet, _names(fleet)), given, seen)
    if fleet.tags:
        [tagging] = [each for each in document["Statement"] if each["Sid"] == "TagRolesAsTheFleets"]
        tagging["Condition"] = {"ForAllValues:StringLike": {"aws:TagKeys": ["fleet_pipeline:*", *dict(fleet.tags)]}}
    return document


def functions_policy(fleet: Fleet) -> Document:
    """The functions that run as the roles, and their logs; type and groups of the vehicles' things, for which what
    names them has no room.
    """
    logs = [
        fleet.arn("logs", f"log-group:{log_of(name)}{end}")
        for name in (fleet.hook_name, fleet.just_in_time_name)
        for end in ("", ":*")
    ]
    tagged = ("ListTagsForResource", "TagResource") if fleet.tags else ()
    verbs = (
        *(("AssociateKmsKey",) if fleet.kms_key else ()),
        "CreateLogGroup",
        *tagged,
        *(("PutRetentionPolicy",) if fleet.log_retention_days else ()),
    )
    made = [_allowed("EncryptedLogs" if fleet.kms_key else "Logs", "logs", verbs, logs)] if fleet.makes_logs else []
    functions = [fleet.arn("lambda", f"function:{name}") for name in (fleet.hook_name, fleet.just_in_time_name)]
    seen = ("DescribeSecurityGroups", "DescribeSubnets", "DescribeVpcs")
    network = [_allowed("FindTheNetwork", "ec2", seen, "*")] if fleet.hook_subnets else []
    reserved = (
        [_allowed("ReserveConcurrency", "lambda", ("PutFunctionConcurrency",), functions)]
        if fleet.hook_concurrency
        else []
    )
    return _with(
        filled_in("provisioner-functions-policy", fleet, _names(fleet)),
        made,
        reserved,
        _what_things_are(fleet),
        network,
        _attaching_the_checks_policies(fleet),
    )


def things_policy(fleet: Fleet) -> Document:
    """Everything in AWS IoT."""
    document = filled_in("provisioner-things-policy", fleet, _names(fleet))
    [without_resource] = [each for each in document["Statement"] if each["Sid"] == "WhatHasNoResource"]
    without_resource["Action"] += [
        f"iot:{verb}"
        for verb in (*(_PROOF if fleet.own_ca != "none" else ()), *(_BULK if fleet.bulk_registration == "on" else ()))
    ]
    ca = [_allowed("OwnCa", "iot", _CA, fleet.arn("iot", "cacert/*"))] if fleet.own_ca != "none" else []
    return _with(document, ca, _former(fleet))


def storage_policy(fleet: Fleet) -> Document:
    """Buckets, and what lies in them beside messages; the allow-list's table, the claim certificate's keys, the lake's
    database.
    """
    table = (
        ("AllowList", (*_TABLE, *(("UpdateTable",) if fleet.kms_key else ())))
        if fleet.allow_list == "dynamodb"
        else ("FormerAllowList", _FORMER_TABLE)
    )
    further = (*(("UpdateSecret",) if fleet.kms_key else ()), *(("TagResource",) if fleet.tags else ()))
    secrets = (
        [_allowed("ClaimKeys", "secretsmanager", (*_SECRETS, *further), _secrets(fleet))]
        if fleet.claim_key_store == "secretsmanager"
        else []
    )
    allow_list = _allowed(table[0], "dynamodb", table[1], fleet.arn("dynamodb", f"table/{fleet.allow_list_table}"))
    document, made = (
        filled_in("provisioner-storage-policy", fleet, _names(fleet)),
        [name for name in (fleet.bucket, fleet.lake_bucket) if name not in fleet.given],
    )
    document["Statement"] = [each for each in document["Statement"] if each["Resource"]]
    given = (
        [_allowed("GivenBuckets", "s3", _SEEN_OF_A_BUCKET, [fleet.arn("s3", name) for name in fleet.given])]
        if fleet.given
        else []
    )
    buckets = [fleet.arn("s3", name) for name in made]
    logged = (
        [_allowed("AccessLogs", "s3", ("GetBucketLogging", "PutBucketLogging"), buckets)]
        if fleet.access_log_bucket and buckets
        else []
    )
    return _with(
        document,
        given,
        secrets,
        [allow_list],
        _making_what_is_encrypted(fleet),
        logged,
        _streams(fleet),
        _looking_at_what_is_given(fleet),
    )


def key_policy(fleet: Fleet) -> Document:
    """What the policy of the KMS key must say, beside what lets its administrators administer it: IAM policies of the
    account decide, and logs are encrypted.

    Raises InvalidSetting where no key is chosen.
    """
    if not fleet.kms_key:
        raise InvalidSetting("FLEET_KMS_KEY", None, "set it to the key whose policy is wanted")
    document = filled_in("key-policy", fleet, _names(fleet))
    asked, through, logs = document["Statement"]
    through["Condition"]["StringEquals"]["kms:ViaService"] = [
        fleet.endpoint(each) for each in ("s3", "dynamodb", "secretsmanager")
    ]
    for each in (asked, through):
        each["Principal"] = {"AWS": fleet.arn("iam", "root")}
    logs["Principal"] = {"Service": fleet.endpoint("logs")}
    return document


PROVISIONER: Mapping[str, Callable[[Fleet], Document]] = {
    "roles": roles_policy,
    "functions": functions_policy,
    "things": things_policy,
    "storage": storage_policy,
}
"""The parts of a provisioner's rights. Each is a managed policy of its own."""


def _deliver(fleet: Fleet, write: Document) -> None:
    """Let what the rules may do hold what streams need, too: in a boundary, for which a statement of its own is too
    long.
    """
    bucket = streams_bucket(fleet)
    streams = fleet.arn("firehose", f"deliverystream/{fleet.prefix}-*")
    write["Action"] = ["firehose:PutRecord", "s3:AbortMultipartUpload", *bucket["Action"], "s3:PutObject"]
    write["Resource"] = [*write["Resource"], bucket["Resource"], streams]


def _keeping_iceberg_small(fleet: Fleet) -> list[Document]:
    """The right to remove Iceberg's metadata that nothing refers to, and no part; and Glue's tables where they have a
    database of their own.
    """
    if fleet.iceberg_catalog == "off":
        return []
    unused = fleet.arn("s3", f"{fleet.lake_bucket}/{fleet.iceberg_prefix}*")
    removed = _allowed("RemoveUnusedIcebergMetadata", "s3", ("DeleteObjectVersion",), unused)
    if fleet.iceberg_catalog != "glue" or fleet.iceberg_namespace == fleet.database:
        return [removed]
    name = fleet.iceberg_namespace
    place = [fleet.arn("glue", each) for each in ("catalog", f"database/{name}", f"table/{name}/*")]
    verbs = ("GetDatabase", "CreateDatabase", "GetTable", "CreateTable", "UpdateTable")
    return [removed, _allowed("KeepTheIcebergTables", "glue", verbs, place)]


def _names(fleet: Fleet) -> dict[str, str | list[str]]:
    # A role's name is unique in an account, whatever its path; the path itself, 36 times over, would not fit into a
    # managed policy.
    anywhere = "" if fleet.role_path == "/" else "*/"
    return {
        "bucket": fleet.bucket,
        "prefix": fleet.prefix,
        "lake-bucket": fleet.lake_bucket,
        "made-buckets": [name for name in (fleet.bucket, fleet.lake_bucket) if name not in fleet.given],
        "raw-prefix": fleet.raw_prefixes,
        "addable": [
            f"{fleet.parquet_prefix}/v*/rule=*/_ended-*",
            *([f"{fleet.iceberg_prefix}*"] if fleet.iceberg_catalog != "off" else []),
        ],
        "removable": [
            f"{fleet.parquet_prefix}/v*/rule=*",
            f"{fleet.iceberg_prefix}*",
            "vehicles_hourly/*",
            "vehicles_daily/*",
        ],
        "verdicts": f"{fleet.parquet_prefix}/_verdicts/*",
        "errors-prefix": fleet.errors_prefix,
        "bulk-prefix": fleet.bulk_prefix,
        "temporary-claims-prefix": fleet.temporary_claims_prefix,
        "allow-list-key": fleet.allow_list_key,
        "allow-list-table": fleet.allow_list_table,
        "thing-prefix": fleet.thing_prefix,
        "virtual": VIRTUAL,
        "topic-rules": [*_rule_names(fleet), *([fleet.just_in_time_rule_name] if fleet.own_ca == "jitr" else [])],
        "own-prefixes": [
            "allow-list",
            "claim-certificate",
            "provisioning",
            *([fleet.bulk_prefix] if fleet.bulk_registration == "on" else []),
        ],
        "database": fleet.database,
        "registration-policy": fleet.registration_policy_arn,
        "boundary": fleet.boundary_arn,
        "roles": [f"{anywhere}{name}" for name in _role_names(fleet)],
        "prefixed-roles": f"{anywhere}{fleet.prefix}-*",
        "functions": [fleet.hook_name, fleet.just_in_time_name],
        "device-policy": device_policy_names(fleet),
        "iot-policies": [fleet.device_policy_name, fleet.further_device_policy_name("*"), fleet.claim_policy_name],
        "templates": [fleet.template_name, fleet.jitp_template_name],
    }


def _role_names(fleet: Fleet) -> list[str]:
    """Return the names of the fleet's roles; those of rules by what they have in common: each does not fit."""
    rules = f"{fleet.prefix}-rule-"
    return [*(name for name in fleet.role_names if not name.startswith(rules)), f"{rules}*-role"]


def _rule_names(fleet: Fleet) -> list[str]:
    """Return the names of the fleet's rules, or what they begin with where all of them would make the document too
    long.
    """
    names = [rule.aws_name for rule in fleet.made_rules]
    return (
        names
        if sum(len(fleet.arn("iot", f"rule/{name}")) for name in names) <= RULE_ARNS_LIMIT
        else [f"{fleet.rule_prefix}*"]
    )


def _former(fleet: Fleet) -> list[Document]:
    """Return what is needed to find and delete what other settings made in AWS IoT: by the fleet's tag."""
    tagged = {
        "Condition": {
            "StringEquals": {
                f"aws:ResourceTag/{key}": value for key, value in fleet.all_tags.items() if key.endswith(":stack")
            }
        }
    }
    return [
        _allowed("FormerRules", "iot", ("DeleteTopicRule", "GetTopicRule"), fleet.arn("iot", "rule/*")) | tagged,
        *(
            [_allowed("FormerCa", "iot", _FORMER_CA, fleet.arn("iot", "cacert/*")) | tagged]
            if fleet.own_ca == "none"
            else []
        ),
    ]


def _attaching_the_checks_policies(fleet: Fleet) -> list[Document]:
    """Return the right to give the functions' roles the policies of the company's check, and no others, within the
    boundary.
    """
    if not fleet.hook_policies:
        return []
    anywhere = "" if fleet.role_path == "/" else "*/"
    roles = [
        fleet.arn("iam", f"role/{anywhere}{name}") for name in (fleet.hook_role_name, fleet.just_in_time_role_name)
    ]
    within = {
        "ArnEquals": {"iam:PolicyARN": [*fleet.hook_policies]},
        **({"StringEquals": {"iam:PermissionsBoundary": fleet.boundary_arn}} if fleet.boundary_arn else {}),
    }
    return [_allowed("AttachTheChecksPolicies", "iam", ("AttachRolePolicy",), roles) | {"Condition": within}]


def _what_things_are(fleet: Fleet) -> list[Document]:
    """Return the right to make, change and remove the type and the groups of the vehicles' things."""
    named = (
        ("ThingType", "thingtype", [fleet.thing.type] if fleet.thing.type else [], ("DeprecateThingType",)),
        ("ThingGroup", "thinggroup", [*fleet.thing.groups], ()),
        ("BillingGroup", "billinggroup", [fleet.thing.billing_group] if fleet.thing.billing_group else [], ()),
    )
    return [
        _allowed(
            f"{kind}s",
            "iot",
            (f"Create{kind}", f"Delete{kind}", f"Describe{kind}", *more, "ListTagsForResource", "TagResource"),
            [fleet.arn("iot", f"{word}/{name}") for name in names],
        )
        for kind, word, names, more in named
        if names
    ]


def _removing_a_thing(fleet: Fleet) -> list[Document]:
    """Return the rights to remove a vehicle's thing and its certificates."""
    thing = ("DeleteThing", "DescribeThing", "ListThingPrincipals", "UpdateThing")
    certificate = (
        "DeleteCertificate",
        "DescribeCertificate",
        "DetachThingPrincipal",
        "ListPrincipalThings",
        "UpdateCertificate",
    )
    return [
        _allowed("WhatHasNoResource", "iot", ("ListAttachedPolicies",), "*"),
        _allowed("RemoveTheThing", "iot", thing, fleet.arn("iot", f"thing/{fleet.thing_prefix}*")),
        _allowed("RemoveItsCertificates", "iot", certificate, fleet.arn("iot", "cert/*")),
    ]


def _iceberg_tables_in_glue(fleet: Fleet) -> list[Document]:
    """Return the rights to commit to the Iceberg tables, where Glue is their catalog."""
    if fleet.iceberg_catalog != "glue":
        return []
    where = ("catalog", f"database/{fleet.iceberg_namespace}", f"table/{fleet.iceberg_namespace}/*")
    verbs = ("GetDatabase", "GetTable", "UpdateTable")
    return [_allowed("CommitToIcebergTables", "glue", verbs, [fleet.arn("glue", each) for each in where])]


def _its_lines_of_the_logs(fleet: Fleet) -> list[Document]:
    """Return the rights to find a serial in the functions' logs, and to remove streams of theirs."""
    functions = (fleet.hook_name, *([fleet.just_in_time_name] if fleet.own_ca == "jitr" else []))
    groups = [fleet.arn("logs", f"log-group:{log_of(name)}{end}") for name in functions for end in ("", ":*")]
    verbs = ("DeleteLogStream", "DescribeLogStreams", "FilterLogEvents")
    return [_allowed("FindAndRemoveLogStreams", "logs", verbs, groups)]


def _its_line_of_the_allow_list(fleet: Fleet) -> list[Document]:
    if fleet.allow_list == "s3":
        return [
            _allowed(
                "AllowList", "s3", ("GetObject", "PutObject"), fleet.arn("s3", f"{fleet.bucket}/{fleet.allow_list_key}")
            )
        ]
    if fleet.allow_list == "dynamodb":
        return [
            _allowed(
                "AllowList",
                "dynamodb",
                ("DeleteItem", "PutItem"),
                fleet.arn("dynamodb", f"table/{fleet.allow_list_table}"),
            )
        ]
    return []


def _reading_the_secret(fleet: Fleet) -> list[Document]:
    return (
        [_allowed("ClaimKeys", "secretsmanager", ("GetSecretValue",), _secrets(fleet))]
        if fleet.claim_key_store == "secretsmanager"
        else []
    )


def _making_what_is_encrypted(fleet: Fleet) -> list[Document]:
    services = ("s3", *(["secretsmanager"] if fleet.claim_key_store == "secretsmanager" else []))
    return [
        *key_rights(fleet, "SeeTheFleetsKey", ("DescribeKey",)),
        *key_rights(fleet, "TheFleetsKey", ("Decrypt", "GenerateDataKey"), *services),
        *key_rights(
            fleet,
            "TheFleetsKeyForTheTable",
            _KEY_OF_A_TABLE if fleet.allow_list == "dynamodb" else ("Decrypt",),
            "dynamodb",
        ),
    ]


def _looking_at_what_is_given(fleet: Fleet) -> list[Document]:
    """Return the rights to see whether what the settings name is there: of the functions, the buckets and the rules."""
    logs = fleet.access_log_bucket
    named = (
        ("SeeTheAccessLogs", "s3", "GetBucketLocation", [fleet.arn("s3", logs)] if logs else []),
        ("SeeTheChecksPolicies", "iam", "GetPolicy", [*fleet.hook_policies]),
        ("SeeTheDeadLetters", "sqs", "GetQueueUrl", [fleet.hook_dead_letters] if fleet.hook_dead_letters else []),
    )
    return [
        *(_allowed(sid, service, (verb,), arns) for sid, service, verb, arns in named if arns),
        *looking_at_targets(fleet),
    ]


def _streams(fleet: Fleet) -> list[Document]:
    """What makes, changes and removes streams; without any in the settings, what finds and removes former ones."""
    made = ("CreateDeliveryStream", "StartDeliveryStreamEncryption", "TagDeliveryStream", "UpdateDestination")
    former = ("DeleteDeliveryStream", "DescribeDeliveryStream", "ListTagsForDeliveryStream")
    verbs = tuple(sorted((*former, *(made if fleet.batched_rules else ()))))
    return [
        _allowed("Streams", "firehose", verbs, fleet.arn("firehose", f"deliverystream/{fleet.prefix}-*")),
        _allowed("WhatHasNoResource", "firehose", ("ListDeliveryStreams",), "*"),
    ]


_KEY_OF_A_TABLE = (
    "CreateGrant",
    "Decrypt",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
    "ReEncryptFrom",
    "ReEncryptTo",
)
"""What DynamoDB asks KMS for in the name of who makes a table.

Source: Amazon DynamoDB Developer Guide, encryption.usagenotes.
"""

_SEEN_OF_A_BUCKET = (
    "GetBucketLocation",
    "GetBucketPolicy",
    "GetBucketPublicAccessBlock",
    "GetBucketTagging",
    "GetBucketVersioning",
    "GetEncryptionConfiguration",
    "ListBucket",
    "ListBucketVersions",
)
_TABLE = (
    "CreateTable",
    "DeleteItem",
    "DeleteTable",
    "DescribeTable",
    "GetItem",
    "ListTagsOfResource",
    "PutItem",
    "Scan",
    "TagResource",
)
_SECRETS = ("CreateSecret", "DeleteSecret", "DescribeSecret", "GetSecretValue")
_CA = ("DeleteCACertificate", "DescribeCACertificate", "TagResource", "UpdateCACertificate")
_FORMER_CA = ("DeleteCACertificate", "DescribeCACertificate", "UpdateCACertificate")
_FORMER_TABLE = ("DeleteTable", "DescribeTable", "ListTagsOfResource", "Scan")
_PROOF = ("GetRegistrationCode", "RegisterCACertificate")
_BULK = ("DescribeThingRegistrationTask", "ListThingRegistrationTaskReports", "StartThingRegistrationTask")


def _secrets(fleet: Fleet) -> str:
    return fleet.arn("secretsmanager", f"secret:{fleet.prefix}/claim-certificate/*")


def _with(document: Document, *further: list[Document]) -> Document:
    return {
        **document,
        "Statement": [*document["Statement"], *(statement for statements in further for statement in statements)],
    }


def _allowed(sid: str, service: str, verbs: tuple[str, ...], resource: str | list[str]) -> Document:
    return {"Sid": sid, "Effect": "Allow", "Action": [f"{service}:{verb}" for verb in verbs], "Resource": resource}
