"""Fleet: everything that is chosen about one fleet, with its default, meaning and reason, and checked.

Its names are in `names`.

Pure: nothing here calls AWS or reads the environment. A value that exists has been checked.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import takewhile
from typing import Any, Literal, get_args

from fleet_pipeline.model import company
from fleet_pipeline.model.company import Texts
from fleet_pipeline.model.device import POLICIES, POLICY_DOCUMENT_LIMIT, DeviceRight, check_statement
from fleet_pipeline.model.errors import InvalidName, InvalidSetting
from fleet_pipeline.model.form import Arrays, Form, LenientNumbers, NestedObjects, Numbers, SeveralObjects
from fleet_pipeline.model.names import SERIAL_REST, Names
from fleet_pipeline.model.pattern import Pattern
from fleet_pipeline.model.personal import SETTING as PRIVATE_COLUMNS
from fleet_pipeline.model.personal import PrivateField
from fleet_pipeline.model.rule import TOPIC_LEVEL, RawKeyFormat, RawName, Rule, reads_as_value
from fleet_pipeline.model.rule_table import BUCKET, Delivery, RuleTable, path_of
from fleet_pipeline.model.thing import Parameter, ThingTable

Profile = Literal["local", "aws"]
AllowList = Literal["none", "s3", "dynamodb"]
ClaimStore = Literal["", "s3", "secretsmanager"]
ClaimKeys = Literal["aws", "own"]
OwnCa = Literal["none", "jitr", "jitp"]
BulkRegistration = Literal["off", "on"]
Previews = Literal["", "off", "on"]
Automation = Literal["", "off", "on"]
ValuesAsRuleKeys = Literal["refuse", "allow"]
VehicleNamedBy = Literal["client_id", "message"]
Iceberg = Literal["", "off", "sql", "glue", "rest", "s3tables"]
NOT_OFFERED = frozenset({"s3tables"})
"""Words of settings that are known so that their refusal gives the reason."""

ACCOUNT_WANTED = "with FLEET_PROFILE=aws, name the account that is meant, so that a wrong one is noticed"

EXAMPLE_ACCOUNT = "123456789012"
"""AWS's own example account: that of AWS on this machine, and nobody's."""


CHOICES = {
    "raw_key_format": RawKeyFormat,
    "delivery": Delivery,
    "allow_list": AllowList,
    "claim_store": ClaimStore,
    "claim_keys": ClaimKeys,
    "own_ca": OwnCa,
    "bulk_registration": BulkRegistration,
    "nested_objects": NestedObjects,
    "arrays": Arrays,
    "several_objects": SeveralObjects,
    "lenient_numbers": LenientNumbers,
    "numbers": Numbers,
    "previews": Previews,
    "automation": Automation,
    "values_as_rule_keys": ValuesAsRuleKeys,
    "vehicle_named_by": VehicleNamedBy,
    "iceberg": Iceberg,
}
"""Settings that are one of some words."""

TEMPLATE_NAME_LIMIT = 36
"""Characters of a provisioning template's name. Source: API_CreateProvisioningTemplate."""

EARLIEST_START = date(2015, 10, 8)
"""The day on which AWS IoT opened: no rule can have written before it."""

FIRST_DAY = "2026-01-01"
"""First day of the partitions where none is chosen."""

SHORTEST_SERIAL, LONGEST_SERIAL = 4, 60
"""Characters of a serial: a thing's name has 128, of which the serial is the end."""

NEW_COLUMN_MESSAGES = 3
"""Messages of an hour from which a field is no slip.

Where 100 names of an hour have one wrong letter each, out of 80 letters, two agree in one hour of two, and three in one
of 300.
"""
RETENTIONS = tuple(f"{what}_retention_days" for what in ("raw", "lake", "derived", "report", "upload", "compute_log"))
"""Settings that say how long something is kept, in days; 0 is for ever."""

LONGEST_RETENTION_DAYS = 36_500

_TAKEN = {
    "claim-certificate": "the claim certificate",
    "allow-list": "the allow-list",
    "provisioning": "the lock of those who apply",
    "bulk-registration": "bulk registration",
}
"""Prefixes of the bucket that belong to something."""

_ELSEWHERE = {"raw_prefix": "say a raw prefix of other objects", "layout": "say a layout of other keys"}
"""What to do about a rule that would read another's objects, by the setting that says where it reads."""

_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}")


def _setting(default: Any, meaning: str, reason: str, *, secret: bool = False, said: str = "") -> Any:
    """Declare a setting: its default, what it means, why the default is what it is, and how the file says it where a
    property has that name.

    A secret one is never shown.
    """
    return field(
        default=default,
        metadata={"meaning": meaning, "reason": reason, "secret": secret, "said": said},
        repr=not secret,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet(Names):
    """Everything that is chosen about one fleet, checked; and, inherited, every name that follows from it."""

    profile: Profile = _setting(
        "local", "Where AWS is: `local` on this machine, `aws` in an account.", "A newcomer has no account."
    )
    account: str = _setting(
        EXAMPLE_ACCOUNT,
        "The AWS account's 12 digits. Checked against STS before anything is changed.",
        "AWS's own example account.",
    )
    region: str = _setting("eu-central-1", "The AWS region.", "Any region with AWS IoT Core will do.")
    service: str = _setting(
        "cdk-test",
        "First part of every resource's name.",
        "The CDK app's name, so that its resources can be taken over.",
    )
    application: str = _setting("iot", "Recorded as a tag on every resource.", "As in the CDK app.")
    environment: str = _setting("dev", "Second part of every resource's name.", "As in the CDK app.")
    bucket: str = _setting(
        "cdk-s3-test-bucket",
        "Bucket of raw messages and of the claim certificate.",
        "As in the CDK app. Bucket names are global: choose your own on AWS.",
    )
    lake_bucket: str = _setting(
        "",
        "Bucket of the Parquet files; empty means `{bucket}-lake`.",
        "A bucket of its own can forbid every overwrite.",
    )
    given_buckets: tuple[str, ...] = _setting(
        (),
        "Which of the two buckets are another team's, `raw` and `lake`: checked, and never made, changed, tagged, "
        "emptied or removed.",
        "The fleet makes its own, and says what guards them.",
    )
    serial_prefix: str = _setting("297468", "What a vehicle's serial number must begin with.", "As in the CDK app.")
    serial_pattern: str = _setting(
        "",
        "Regular expression of a serial, the whole, instead of FLEET_SERIAL_PREFIX and 6 to 26 of 0-9 and A-Z, as "
        "`[A-HJ-NPR-Z0-9]{17}`.",
        "As in the CDK app. Virtual vehicles register as `VIRTUAL…` beside it.",
    )
    thing: ThingTable = _setting(
        ThingTable(),
        "What is made for a vehicle in AWS IoT's registry: a table `[thing]` with `name`, `type`, `groups`, "
        "`attributes` and `billing_group` (docs/things.md).",
        "As in the CDK app: `test-thing-${SerialNumber}`, and nothing more.",
    )
    parameters: tuple[Parameter, ...] = _setting(
        (),
        "What vehicles say as they register beside the serial: a table `[parameters.Vin]` for each, with "
        "`pattern`, `required`, `default` and `examples` (docs/things.md).",
        "Any other parameter is refused.",
    )
    rule_keys: tuple[str, ...] = _setting(
        ("rule1", "rule2", "rule3"), "One topic rule for each key.", "As in the CDK app's rule-keys.json."
    )
    rule_tables: tuple[RuleTable, ...] = _setting(
        (),
        "Topic rules with more to say than a key, beside those of the rule keys: tables `[[rules]]` in the file, "
        "JSON in a variable (docs/rules.md).",
        "The CDK app has none.",
        said="rules",
    )
    raw_prefix: str = _setting(
        "test-rule", "First level of the topics, and so the prefix of raw objects.", "As in the CDK app."
    )
    parquet_prefix: str = _setting(
        "lake", "Prefix of the Parquet files in the lake bucket.", "Leaves the bucket room for other tables."
    )
    nested_objects: NestedObjects = _setting(
        "columns",
        "Fields of nested objects in Parquet: `columns` of their own (`position_lat`), or in `structs` "
        "(`position.lat`). For tables begun from now on.",
        "Every engine reads and prunes plain columns, and adding one never changes the type of another.",
    )
    arrays: Arrays = _setting(
        "whole",
        "A message that is an array: `whole`, one row; or `elements`, a row for each object in it. For tables "
        "begun from now on.",
        "A row is then a message as AWS IoT received it.",
    )
    several_objects: SeveralObjects = _setting(
        "off",
        "Several objects in one message, one after another or a line each (NDJSON): `off`, malformed; or `on`, a "
        "row each. For tables begun from now on.",
        "JSON is one value; AWS IoT's own rules read no more either.",
    )
    lenient_numbers: LenientNumbers = _setting(
        "off",
        "Bare `nan`, `inf` and `Infinity` in messages: `off`, malformed; or `on`, null in their column, spelt out "
        "in `_extra`. For tables begun from now on.",
        "They are not JSON, and other readers of the raw objects refuse them.",
    )
    numbers: Numbers = _setting(
        "double",
        "Kind of a column of numbers: `double`, whatever they are; or `exact`, int64 where its first hour has "
        "integers alone. For tables begun from now on.",
        "A speed of 0 in the first hour must not keep 12.5 out of its column for good.",
    )
    new_column_messages: int = _setting(
        NEW_COLUMN_MESSAGES,
        "How many messages of an hour must have a field that is to become a column, 1 to 1,000,000; with fewer its "
        "values stay in `_extra`.",
        "A damaged name comes once or twice, and a column is for good. 1 for a fleet of which an hour has a "
        "message or two.",
    )
    vehicle_field: str = _setting(
        "serial",
        "The field that names the vehicle where the raw key has no client id: `serial`, or `vehicle.id` for "
        '`{"vehicle": {"id": …}}`.',
        "The virtual vehicle's name for it. A dot that belongs to a name is written `\\.`.",
    )
    vehicle_named_by: VehicleNamedBy = _setting(
        "client_id",
        "Whose a message is of which the client id is known: `client_id`, that one's, whatever it says; or `message`, "
        "whose FLEET_VEHICLE_FIELD says, and the client's where it says nothing. `message` for gateways that publish "
        "for many vehicles.",
        "AWS IoT knows the client, and a message may say any name.",
    )
    previews: Previews = _setting(
        "",
        "Whether Dagster shows some rows and positions of each hour and day: `on`, `off`, or empty: on this "
        "machine only.",
        "They lie in Dagster's event log, which outlives the lake's rows: a purge does not reach them.",
    )
    private_columns: tuple[str, ...] = _setting(
        (),
        "Fields that no typed column and no `_extra` holds, as `driver.name`; or holds coarsened only: "
        "`position.latitude=2` to two decimals, `recorded_at=minute` (or `hour`, `day`). They stay in `_payload`.",
        "Nothing is personal until a company says so. What is hidden from the first message on need not be erased "
        "later; hours before it follow by `fleet lake rewrite`.",
    )
    values_as_rule_keys: ValuesAsRuleKeys = _setting(
        "refuse",
        "Rule keys that readers of Parquet take for a number, a date or nothing, as `1`, `1e5` or `null`: "
        "`refuse`; or `allow`, for a fleet that has them.",
        "`1` and `01` are one rule to pyarrow, pandas, Polars and DuckDB, unless each query says that `rule` is a "
        "text.",
    )
    errors_prefix: str = _setting(
        "errors", "Prefix of what a rule could not write.", "Outside the raw prefix, so it is never read as data."
    )
    raw_key_format: RawKeyFormat = _setting(
        "timestamp-uuid",
        "Last segment of a raw key: `timestamp-uuid`, `timestamp-uuid-client`, or the CDK app's `timestamp`.",
        "With `timestamp` alone two messages of one millisecond share a key. `-client` makes the client id known "
        "to the lake.",
    )
    delivery: Delivery = _setting(
        "object",
        "How messages come into the bucket: an `object` each; or `firehose`: a stream of Amazon Data Firehose for each "
        "rule gathers them, many in one object (docs/delivery.md). A rule's table may say another.",
        "As in the CDK app, and a message is there within a second. With 1,000 messages a second a stream costs a "
        "tenth.",
    )
    delivery_buffer_mb: int = _setting(
        64,
        "Megabytes of messages at which a stream writes an object, 1 to 128.",
        "Few objects, each of which is read in pieces.",
    )
    delivery_buffer_seconds: int = _setting(
        300,
        "Seconds after which it writes one at the latest, 0 to 900. An hour is due that much later.",
        "Firehose's own default.",
    )
    device_rights: tuple[DeviceRight, ...] = _setting(
        (),
        "What a vehicle may do beside publishing to the rules: `shadow`, `jobs` and `commands`, each its own alone.",
        "Telemetry needs none of them.",
    )
    policy_statements: tuple[dict[str, Any], ...] = _setting(
        (),
        "Further statements of the device policy, in AWS's form; a resource may be `topic/…`, `topicfilter/…` or "
        "`client/…` without account and region.",
        "A vehicle needs no more for telemetry.",
    )
    allow_list: AllowList = _setting(
        "none",
        "Where the hook looks for serials that may register: `none`, `s3` (an object) or `dynamodb` (a table).",
        "Any serial of the right form may register once, as in the CDK app.",
    )
    claim_client_prefix: str = _setting(
        "claim-",
        "What the client id of a vehicle with the claim certificate begins with; empty allows any.",
        "A holder of the shared key cannot then take the client id of a registered vehicle, and so its connection.",
    )
    claim_store: ClaimStore = _setting(
        "",
        "Where the claim certificate's private key lies: `s3`, beside the certificate; `secretsmanager`; or empty: "
        "in `s3` on this machine only.",
        "In the data bucket, as in the CDK app, whoever may read messages has the factory's key.",
    )
    claim_keys: ClaimKeys = _setting(
        "own",
        "Who makes the claim certificate's key: `own`: here, and AWS IoT signs a request for it (CSR); or `aws`, "
        "as in the CDK app.",
        "A certificate whose making was interrupted is then known by its key, among those of others in the account.",
    )
    kms_key: str = _setting(
        "",
        "Key of AWS KMS for buckets, functions' logs, allow-list table and claim certificate's secret: id, ARN, "
        "`alias/…` or alias's ARN. Empty: AWS's own.",
        "Such a key costs money and can lock everybody out. One that a bucket has by a rule of your company's is "
        "left alone.",
    )
    own_ca: OwnCa = _setting(
        "none",
        "Registration by certificates of a CA of your own: `none`, `jitr` (a function decides) or `jitp` (AWS IoT "
        "fills in a template).",
        "Vehicles register with the claim certificate. The CA's certificates lie in `{home}/ca`.",
    )
    bulk_registration: BulkRegistration = _setting(
        "off", "Registration of many vehicles from one file: `off` or `on`.", "It needs a role of its own."
    )
    role_boundary: str = _setting(
        "",
        "Permissions boundary of the fleet's roles: `own`, the policy `{service}-{environment}-boundary`; the ARN "
        "of another; or empty, none.",
        "An administrator must make it first (`fleet iam boundary`). The rights that `fleet iam provisioner` "
        "prints demand one.",
    )
    tags: Texts = _setting(
        (),
        "Tags of your company's for all that can have some, from the call on that makes it: `[tags]` in "
        "fleet.toml, or `cost-centre=42,team=cars`.",
        "Ours say whose a resource is. A tag that leaves the settings stays where it is.",
    )
    role_path: str = _setting(
        "/",
        "IAM path of the fleet's roles, as `/fleet/`; part of their ARNs, and for good: a role is not moved.",
        "Where AWS puts a role by itself.",
    )
    log_retention_days: int = _setting(
        0,
        "Days for which the functions' logs are kept, one of those that CloudWatch Logs takes (1 to 3653); 0: for "
        "ever, or as somebody has set it.",
        "They say why a vehicle was refused, and no more than its serial and its certificate's id.",
    )
    hook_concurrency: int = _setting(
        0,
        "Requests that each function decides at once, 1 to 1000, reserved for it among those of the account; 0: as "
        "AWS will.",
        "What is reserved is taken from other functions; with too few, vehicles are refused at a rush.",
    )
    hook_dead_letters: str = _setting(
        "",
        "ARN of an SQS queue of the account and region that is told of events on which a function failed; empty: "
        "none, or as somebody has set it.",
        "The hook is waited for and has no such events: only the function of just-in-time registration has.",
    )
    access_log_bucket: str = _setting(
        "",
        "Bucket into which S3 logs each request to the fleet's buckets; empty: none, or as somebody has set it.",
        "It must be there, and let S3 write.",
    )
    access_log_prefix: str = _setting(
        "",
        "What the keys of those logs begin with; the name of the bucket that was asked and a slash follow.",
        "Buckets' names keep them apart.",
    )
    hook_file: str = _setting(
        "",
        "Python file with a check of your own, `verify(serial, parameters, context)`, asked after the hook's "
        "(docs/things.md); empty: none.",
        "The hook decides by serial, parameters, allow-list and registry.",
    )
    hook_requirements: str = _setting(
        "",
        "File of packages that it requires, each pinned, as pip takes it; `fleet hook vendor` installs them for "
        "Lambda.",
        "It has the standard library, and boto3 as Lambda's runtime has it.",
    )
    hook_environment: Texts = _setting(
        (),
        "Variables that it finds in its environment: `[hook_environment]` in fleet.toml, or `NAME=text,…`. No "
        "secrets: whoever sees the function sees them.",
        "It has no settings of its own.",
    )
    hook_policies: tuple[str, ...] = _setting(
        (),
        "ARNs of at most two managed policies of yours with the rights that the check needs; the functions' roles "
        "get them. A boundary must hold them, too.",
        "The roles have the rights that the hook needs.",
    )
    hook_subnets: tuple[str, ...] = _setting(
        (),
        "Subnets of the VPC into which the functions are put, to reach a database there; they must reach AWS IoT "
        "and S3 from there, too.",
        "A VPC needs endpoints or a NAT.",
    )
    hook_security_groups: tuple[str, ...] = _setting(
        (), "Security groups of the functions in that VPC.", "There is no VPC."
    )
    hook_runtime: str = _setting("python3.13", "Lambda runtime of the hook.", "Supported until June 2029.")
    start: str = _setting(
        "",
        f"First day (UTC) of the partitions, as 2026-01-01. Empty: {FIRST_DAY}; on this machine the day on which "
        "AWS was first started here.",
        "Raw objects before it are not compacted. A newcomer's partitions have no months without messages.",
    )
    grace_minutes: int = _setting(
        5,
        "Minutes after the end of an hour at which it is compacted, 0 to 59.",
        "AWS IoT writes within seconds; it may repeat what failed for minutes.",
    )
    catch_up_hours: int = _setting(
        24,
        "How many hours back the schedule makes good what was not compacted, 1 to 744.",
        "A night and a day; the daily sweep finds what is older.",
    )
    engine: str = _setting(
        "processes",
        "Who compacts hours: `processes` of this machine; a Dask cluster by its scheduler's address "
        "(`dask://scheduler:8786`, `dask://tls://…`), or one that is started by the name of its class "
        "(`dask_kubernetes.operator.KubeCluster`).",
        "One machine compacts some 20,000 messages a second; a cluster is one more thing to look after.",
    )
    look_back_hours: int = _setting(
        6,
        "How many closed hours are listed anew every ten minutes for messages that are not in the lake, 1 to 168.",
        "Late messages are minutes late, not days.",
    )
    sweep_days: int = _setting(
        14,
        "How many days back the same is done once a day, 1 to 366.",
        "A listing costs a request for a thousand messages.",
    )
    lag_minutes: int = _setting(
        150,
        "An older message that is not in the lake is an error, 10 to 10080.",
        "Two runs of the hourly schedule may fail before anyone is woken.",
    )
    quarantine_percent: float = _setting(
        1.0,
        "Share of unreadable messages of an hour that draws a warning, 0 to 100.",
        "A broken vehicle of a hundred is worth a look.",
    )
    iceberg: Iceberg = _setting(
        "",
        "Catalog of Apache Iceberg tables over the lake's files, one a rule: `sql` (a database), `glue`, `rest`, "
        "`off`, or empty: `sql` on this machine only.",
        "A catalog is a further service in an account; readers of plain Parquet need none (docs/iceberg.md).",
    )
    iceberg_uri: str = _setting(
        "",
        "Address of that catalog: of the database, as `postgresql+psycopg2://…`, or of the REST server, `https://…`. "
        "Empty: a file on this machine. Never shown.",
        "Glue has none, and on this machine a file in the folder of AWS will do.",
        secret=True,
    )
    iceberg_warehouse: str = _setting(
        "", "Warehouse that a REST catalog is asked for; empty: its own.", "Most have one."
    )
    iceberg_namespace: str = _setting(
        "",
        "Namespace of the tables, in Glue a database; empty: `{service}_{environment}_lake`.",
        "Who provisions the Glue tables has it already.",
    )
    iceberg_snapshot_days: int = _setting(
        7,
        "Days for which a table's former snapshots are kept for time travel, 1 to 3650.",
        "A week of hours is 168 snapshots and some 100 KB of metadata.",
    )
    iceberg_reader_seconds: int = _setting(
        60,
        "Seconds for which an erasure and a retention wait, once a table has none of the files that are to go, for "
        "queries that began before, 0 to 3600. On this machine none.",
        "A query that still reads a file fails as it goes. Most end within a minute.",
    )
    raw_retention_days: int = _setting(
        0,
        "Days after which raw objects go, every version: each hour once all of it is proved to be rows. 0: never.",
        "A raw object that is gone cannot be read anew; what is not in the lake stays whatever its age.",
    )
    lake_retention_days: int = _setting(
        0,
        "Days after which an hour of the lake goes, in every generation and in Iceberg tables. Needs "
        "FLEET_RAW_RETENTION_DAYS, not longer. 0: never.",
        "How long rows are needed only their owner knows. An hour whose raw objects were there would be written again.",
    )
    derived_retention_days: int = _setting(
        0,
        "Days after which a day of the tables about vehicles goes. Needs FLEET_LAKE_RETENTION_DAYS, not longer. "
        "0: never.",
        "They are the index by which a vehicle's hours are found, so they outlast the rows.",
    )
    report_retention_days: int = _setting(
        0,
        "Days after which reports of what a rule could not write go, replayed or not: by a lifecycle rule of the raw "
        "bucket. 0: never.",
        "A report that was not replayed is the only copy of its message.",
    )
    upload_retention_days: int = _setting(
        0,
        "Days after which uploads that were begun and never ended are given up: by a lifecycle rule of each bucket. "
        "0: never.",
        "Nobody can read them, and S3 charges for them.",
    )
    compute_log_retention_days: int = _setting(
        0,
        "Days after which what a run printed (Dagster's compute logs) goes; its events stay. 0: never.",
        "Whoever looks for the cause of an old failure needs them.",
    )
    price_get: float = _setting(0.00043, "US dollars for 1,000 GET requests to S3.", "S3 Standard in eu-central-1.")
    price_put: float = _setting(
        0.0054, "US dollars for 1,000 PUT or LIST requests to S3.", "S3 Standard in eu-central-1."
    )
    automation: Automation = _setting(
        "",
        "Whether Dagster's schedules and sensors run from the start: `on`, `off`, or empty: on this machine all, "
        "in an account those that only read.",
        "Nothing is written in an account before somebody has said so. The UI's switches win over it, one by one.",
    )
    alert_url: str = _setting(
        "",
        "Webhook that hears of failed runs and checks, as Slack takes it; empty means none. Never shown.",
        "Nobody to tell yet.",
        secret=True,
    )
    home: str = _setting(
        ".fleet",
        "Folder of vehicles' certificates and of AWS on this machine.",
        "Beside the project, and ignored by git.",
    )

    def __post_init__(self) -> None:
        """Check every setting against the limits of the services that will carry it."""
        _one_of("profile", self.profile, get_args(Profile))
        _matches("account", self.account, r"[0-9]{12}", "an account id has 12 digits")
        _matches("region", self.region, _REGION, "write it as AWS does, such as eu-central-1")
        for name in ("service", "environment", "application"):
            _matches(
                name,
                getattr(self, name),
                r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,62}[a-zA-Z0-9])?",
                "use 1 to 64 letters, digits and - inside",
            )
        if len(self.template_name) > TEMPLATE_NAME_LIMIT:
            room = TEMPLATE_NAME_LIMIT - len("-provision-template")
            limit = f"because a provisioning template's name ends at {TEMPLATE_NAME_LIMIT}"
            why = (
                f"`FLEET_SERVICE-FLEET_ENVIRONMENT` may have {room} characters and {self.prefix!r} has "
                f"{len(self.prefix)}, {limit}"
            )
            raise InvalidSetting("FLEET_SERVICE", self.service, why)
        if not self.lake_bucket:
            object.__setattr__(self, "lake_bucket", f"{self.bucket}-lake")
        for name in ("bucket", "lake_bucket"):
            _matches(
                name,
                getattr(self, name),
                BUCKET,
                "a bucket's name has 3 to 63 of a-z, 0-9 and -, without AWS's reserved beginnings and ends",
            )
        if self.bucket == self.lake_bucket:
            raise InvalidSetting(
                "FLEET_LAKE_BUCKET", self.lake_bucket, "the lake needs a bucket of its own, apart from FLEET_BUCKET"
            )
        _matches("serial_prefix", self.serial_prefix, r"[0-9A-Z]{1,20}", "use 1 to 20 of 0-9 and A-Z")
        for name, choices in CHOICES.items():
            _one_of(name, getattr(self, name), get_args(choices))
        _matches(
            "claim_client_prefix",
            self.claim_client_prefix,
            r"[a-zA-Z0-9_-]{0,40}",
            "use at most 40 of a-z, A-Z, 0-9, - and _",
        )
        if not self.vehicle_field.isprintable() or "" in self.vehicle_path or "\\" in "".join(self.vehicle_path):
            raise InvalidSetting(
                "FLEET_VEHICLE_FIELD",
                self.vehicle_field,
                r"write a field's name, or names with dots between them; a dot within one is \.",
            )
        self._check_private_fields()
        _within("grace_minutes", self.grace_minutes, 0, 59)
        _within("delivery_buffer_mb", self.delivery_buffer_mb, 1, 128)
        _within("delivery_buffer_seconds", self.delivery_buffer_seconds, 0, 900)
        _within("catch_up_hours", self.catch_up_hours, 1, 744)
        _within("look_back_hours", self.look_back_hours, 1, 168)
        _within("sweep_days", self.sweep_days, 1, 366)
        _within("new_column_messages", self.new_column_messages, 1, 1_000_000)
        _within("lag_minutes", self.lag_minutes, 10, 10_080)
        _within("quarantine_percent", self.quarantine_percent, 0, 100)
        _within("price_get", self.price_get, 0, 1)
        _within("price_put", self.price_put, 0, 1)
        _matches(
            "engine",
            self.engine,
            r"processes|dask://((tcp|tls|ucx)://)?[A-Za-z0-9._-]+:[0-9]{1,5}|[A-Za-z_]\w*(\.\w+)+",
            "write processes, dask://host:port, or the dotted name of a cluster's class",
        )
        if not re.fullmatch(r"(https?://[!-~]+)?", self.alert_url):
            raise InvalidSetting("FLEET_ALERT_URL", None, "write it as https://…, without blanks")
        _matches("hook_runtime", self.hook_runtime, r"python3\.[0-9]{2}", "name a Lambda runtime such as python3.13")
        if not self.home:
            raise InvalidSetting("FLEET_HOME", self.home, "name a folder")
        self._check_boundary()
        self._check_iceberg()
        self._check_retention()
        company.check(self)
        self._check_things()
        self._check_kms_key()
        self._check_start()
        self._check_prefixes()
        self._check_rules()
        self._check_deliveries()

    def _check_deliveries(self) -> None:
        for number, rule in enumerate(self.rules[len(self.rule_keys) :]):
            if rule.delivery == "firehose" and not rule.can_be_enveloped:
                why = (
                    "a stream carries whole messages, and this rule selects columns of its own: write SELECT * with "
                    "whatever WHERE, or let it be delivered as objects"
                )
                raise InvalidSetting(f"rules[{number}].delivery", rule.delivery, why)
            if rule.delivery == "firehose" and rule.table and rule.table.sql_version == "2015-10-08":
                why = "the version 2015-10-08 of AWS IoT SQL does not know encode: use 2016-03-23"
                raise InvalidSetting(f"rules[{number}].sql_version", rule.table.sql_version, why)
        if self.due_minutes > 59:  # noqa: PLR2004 (minutes of an hour)
            why = (
                f"an hour would be due {self.due_minutes} minutes after its end, with FLEET_DELIVERY_BUFFER_SECONDS: "
                "together at most 59"
            )
            raise InvalidSetting("FLEET_GRACE_MINUTES", self.grace_minutes, why)

    def _check_things(self) -> None:
        if len({each.name for each in self.parameters}) < len(self.parameters):
            raise InvalidSetting(
                "FLEET_PARAMETERS", ", ".join(each.name for each in self.parameters), "each has a name of its own"
            )
        self.thing.check_places(each.name for each in self.parameters)
        needed = [each.name for each in self.parameters if each.required]
        if needed and (self.own_ca != "none" or self.bulk_registration == "on"):
            why = (
                "a certificate of your own CA and a line of a bulk registration say the serial alone: give it a "
                "default, or leave these ways in off"
            )
            raise InvalidSetting("FLEET_PARAMETERS", ", ".join(needed), why)
        if self.serial_pattern:
            self._check_serial_pattern()

    def _check_serial_pattern(self) -> None:
        try:
            form = Pattern(self.serial_pattern)
        except ValueError as error:
            raise InvalidSetting("FLEET_SERIAL_PATTERN", self.serial_pattern, str(error)) from error
        if not SHORTEST_SERIAL <= form.shortest <= form.longest <= LONGEST_SERIAL:
            why = (
                f"serials have {SHORTEST_SERIAL} to {LONGEST_SERIAL} characters, and it takes {form.shortest} to "
                f"{form.longest}"
            )
            raise InvalidSetting("FLEET_SERIAL_PATTERN", self.serial_pattern, why)
        if not re.fullmatch(r"[a-zA-Z0-9:_-]+", "".join(form.characters)):
            raise InvalidSetting(
                "FLEET_SERIAL_PATTERN",
                self.serial_pattern,
                "a serial is part of its thing's name, which has a-z, A-Z, 0-9, : _ and -",
            )

    def _check_boundary(self) -> None:
        if self.role_boundary != "own":
            why = "write `own`, or the ARN of a managed policy such as arn:aws:iam::123456789012:policy/boundary"
            _matches(
                "role_boundary", self.role_boundary, r"(arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[!-~]{1,512})?", why
            )

    def _check_iceberg(self) -> None:
        if self.iceberg == "s3tables":
            own = "S3 Tables keeps a table's files in a bucket of its own and takes none that lie in another"
            why = f"{own}, so the lake would have to be there twice: use `glue`"
            raise InvalidSetting("FLEET_ICEBERG", self.iceberg, why)
        if not self.iceberg_namespace:
            object.__setattr__(self, "iceberg_namespace", self.database)
        _matches(
            "iceberg_namespace",
            self.iceberg_namespace,
            r"[a-z0-9_]{1,120}",
            "use 1 to 120 of a-z, 0-9 and _ (Athena takes no others unquoted)",
        )
        _matches("iceberg_warehouse", self.iceberg_warehouse, r"[!-~]{0,500}", "write it without blanks")
        _within("iceberg_snapshot_days", self.iceberg_snapshot_days, 1, 3650)
        _within("iceberg_reader_seconds", self.iceberg_reader_seconds, 0, 3600)
        form, why = {
            "sql": (
                r"[a-z0-9_+]+://[!-~]*",
                "write a database's address as SQLAlchemy does, such as postgresql+psycopg2://user@host/database",
            ),
            "rest": (r"https?://[!-~]+", "write the address of the REST catalog, https://…"),
        }.get(self.iceberg_catalog, ("", "this catalog has no address: leave it empty"))
        may_be_empty = self.iceberg_catalog != "rest" and (self.profile == "local" or self.iceberg_catalog != "sql")
        if not re.fullmatch(form, self.iceberg_uri) and (self.iceberg_uri or not may_be_empty):
            raise InvalidSetting("FLEET_ICEBERG_URI", None, why)

    def _check_retention(self) -> None:
        for name in RETENTIONS:
            _within(name, getattr(self, name), 0, LONGEST_RETENTION_DAYS)
        raw, lake, derived = self.raw_retention_days, self.lake_retention_days, self.derived_retention_days
        if lake and not 0 < raw <= lake:
            why = f"set FLEET_RAW_RETENTION_DAYS to 1 to {lake}: an hour whose raw objects are there is written again"
            raise InvalidSetting("FLEET_LAKE_RETENTION_DAYS", lake, why)
        if derived and not 0 < lake <= derived:
            why = (
                f"set FLEET_LAKE_RETENTION_DAYS to 1 to {derived}: these tables are the index by which a vehicle's "
                "hours are found"
            )
            raise InvalidSetting("FLEET_DERIVED_RETENTION_DAYS", derived, why)

    def _check_kms_key(self) -> None:
        key = r"(mrk-)?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}"
        alias = r"alias/(?!aws/)[a-zA-Z0-9/_-]{1,250}"
        arn = rf"arn:aws[a-z-]*:kms:{self.region}:[0-9]{{12}}:(key/{key}|{alias})"
        why = (
            f"write a key's id, `alias/…`, or the ARN of either in {self.region}; a key of AWS's own (`alias/aws/…`) "
            "needs no setting"
        )
        _matches("kms_key", self.kms_key, rf"({key}|{alias}|{arn})?", why)

    def _check_start(self) -> None:
        if not self.start:
            object.__setattr__(self, "start", FIRST_DAY)
        _matches("start", self.start, r"[0-9]{4}-[0-9]{2}-[0-9]{2}", "write a day as 2026-01-01")
        try:
            first = date.fromisoformat(self.start)
        except ValueError as error:
            raise InvalidSetting("FLEET_START", self.start, "there is no such day") from error
        if first < EARLIEST_START:
            raise InvalidSetting("FLEET_START", self.start, f"no message is older than {EARLIEST_START}")

    def _check_prefixes(self) -> None:
        for name in ("raw_prefix", "parquet_prefix", "errors_prefix"):
            _matches(name, getattr(self, name), TOPIC_LEVEL, "use 1 to 60 of a-z, A-Z, 0-9, - and _, and no slash")
        for name in ("raw_prefix", "errors_prefix"):
            prefix = getattr(self, name)
            if prefix in _TAKEN:
                raise InvalidSetting(_variable(name), prefix, f"this prefix belongs to {_TAKEN[prefix]}")
        if self.raw_prefix == self.errors_prefix:
            raise InvalidSetting("FLEET_ERRORS_PREFIX", self.errors_prefix, "this prefix belongs to FLEET_RAW_PREFIX")

    def _check_rules(self) -> None:
        if not self.rule_keys and all(table.bucket for table in self.rule_tables):
            beside = " beside those of buckets that exist" if self.rule_tables else ""
            why = f"name at least one rule{beside}: a key here, or a table [[rules]] with a topic"
            raise InvalidSetting("FLEET_RULE_KEYS", self.rule_keys, why)
        if len({key.casefold() for key in self.rule_keys}) < len(self.rule_keys):
            raise InvalidSetting(
                "FLEET_RULE_KEYS",
                self.rule_keys,
                "no two rules may have one name (Athena does not tell upper case from lower)",
            )
        try:
            rules = self.rules
        except InvalidName as error:
            raise InvalidSetting("FLEET_RULE_KEYS", self.rule_keys, str(error)) from error
        if self.values_as_rule_keys == "refuse" and (values := [key for key in self.rule_keys if reads_as_value(key)]):
            raise InvalidSetting("FLEET_RULE_KEYS", self.rule_keys, _value_as_key(values))
        taken = dict.fromkeys((*_TAKEN, self.errors_prefix), "something else in the bucket") | {
            rule.raw_prefix[:-1]: rule.key for rule in self._plain_rules
        }
        keys = {key.casefold(): key for key in self.rule_keys}
        for number, rule in enumerate(rules[len(self.rule_keys) :]):
            self._check_rule(f"rules[{number}]", rule, keys, {} if rule.bucket else taken)
            self._check_shards(f"rules[{number}]", rule)
            keys[rule.key.casefold()] = rule.key
            taken |= {} if rule.bucket else {rule.raw_prefix[:-1]: rule.key}
        for number, rule in enumerate(rules[len(self.rule_keys) :]):
            if rule.bucket:
                self._check_given(f"rules[{number}]", rule, taken)
        self._check_topics(rules)
        for number, statement in enumerate(self.policy_statements):
            check_statement(f"policy_statements[{number}]", statement)

    @staticmethod
    def _check_shards(place: str, rule: Rule) -> None:
        if rule.shards > 1 and rule.delivery == "firehose":
            why = "a stream writes few objects, and FLEET_DELIVERY is firehose: leave it out"
            raise InvalidSetting(f"{place}.shards", rule.shards, why)

    def _check_rule(self, place: str, rule: Rule, keys: Mapping[str, str], taken: Mapping[str, str]) -> None:
        if rule.key.casefold() in keys:
            raise InvalidSetting(
                f"{place}.key",
                rule.key,
                f"{keys[rule.key.casefold()]} is another rule's (Athena does not tell upper case from lower)",
            )
        if self.values_as_rule_keys == "refuse" and reads_as_value(rule.key):
            raise InvalidSetting(f"{place}.key", rule.key, _value_as_key([rule.key]))
        for prefix, owner in taken.items():
            if rule.raw_prefix.startswith(f"{prefix}/") or f"{prefix}/".startswith(rule.raw_prefix):
                why = f"raw objects below {prefix}/ belong to {owner}: say a raw prefix of its own"
                raise InvalidSetting(f"{place}.raw_prefix", rule.raw_prefix[:-1], why)

    def _check_given(self, place: str, rule: Rule, taken: Mapping[str, str]) -> None:
        """Refuse a rule that would read what is another's: of two rules, one would read what the other does."""
        own = {f"{prefix}/": owner for prefix, owner in taken.items()} if rule.bucket == self.bucket else {}
        own |= {f"{self.parquet_prefix}/": "the lake"} if rule.bucket == self.lake_bucket else {}
        begins = rule.layout.literal if rule.layout else rule.raw_prefix
        rooted = rule.table is not None and rule.table.raw_prefix
        name = "layout" if rule.layout and not rooted else "raw_prefix"
        said = rule.layout.text if name == "layout" and rule.layout else begins.rstrip("/")
        for prefix, owner in own.items():
            if begins.startswith(prefix) or prefix.startswith(begins):
                why = f"objects below {prefix} of bucket {rule.bucket} belong to {owner}: {_ELSEWHERE[name]}"
                raise InvalidSetting(f"{place}.{name}", said, why)
        before = takewhile(lambda other: other.key != rule.key, self.given_rules)
        for other in before:
            if other.bucket == rule.bucket and _overlap(rule, other):
                why = f"{other.key} reads some of its keys, too: a message would be a row of both rules"
                raise InvalidSetting(f"{place}.{name}", said, why)

    def _check_topics(self, rules: Sequence[Rule]) -> None:
        topics = [topic for rule in rules for topic in rule.ingest]
        size = sum(len(self.arn("iot", f"topic/{topic}")) + len('"",') for topic in topics)
        room = POLICIES * (POLICY_DOCUMENT_LIMIT - 400)  # 400: what stands in a document beside them
        if size > room:
            limit = (
                f"and the {POLICIES} policies that AWS IoT gives a certificate have room for {room}; use fewer rules "
                "or shorter names"
            )
            raise InvalidSetting(
                "FLEET_RULE_KEYS",
                self.rule_keys,
                f"the device policies would name {len(topics)} topics in {size} characters, {limit}",
            )

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The topic rules, in the order of the settings: those of the keys, then those of the tables."""
        tables = (
            Rule(
                self.raw_prefix,
                table.key,
                table,
                self.private_fields,
                "object" if table.bucket else table.delivery or self.delivery,
            )
            for table in self.rule_tables
        )
        return (*self._plain_rules, *tables)

    @property
    def made_rules(self) -> tuple[Rule, ...]:
        """The rules that AWS IoT runs: all but those that read a bucket that exists."""
        return tuple(rule for rule in self.rules if not rule.bucket)

    @property
    def given_rules(self) -> tuple[Rule, ...]:
        """The rules that read a bucket that exists."""
        return tuple(rule for rule in self.rules if rule.bucket)

    def bucket_of(self, rule: Rule) -> str:
        """Return the bucket in which a rule's raw objects lie."""
        return rule.bucket or self.bucket

    def _check_private_fields(self) -> None:
        fields = self.private_fields
        for text, private in zip(self.private_columns, fields, strict=True):
            if private.covers(self.vehicle_path):
                why = f"FLEET_VEHICLE_FIELD names the vehicle by {self.vehicle_field}: tables of vehicles need it"
                raise InvalidSetting(PRIVATE_COLUMNS, text, why)
            if any(other is not private and other.covers(private.path) for other in fields):
                raise InvalidSetting(PRIVATE_COLUMNS, text, "another one covers it: name one of them")

    @property
    def raw_prefixes(self) -> list[str]:
        """The prefixes below which raw objects lie: the raw prefix, and those of rules elsewhere."""
        return [
            self.raw_prefix,
            *(
                rule.raw_prefix[:-1]
                for rule in self.made_rules
                if not rule.raw_prefix.startswith(f"{self.raw_prefix}/")
            ),
        ]

    @property
    def _plain_rules(self) -> tuple[Rule, ...]:
        return tuple(
            Rule(self.raw_prefix, key, private=self.private_fields, delivery=self.delivery) for key in self.rule_keys
        )

    @property
    def batched_rules(self) -> tuple[Rule, ...]:
        """The rules whose messages a stream gathers."""
        return tuple(rule for rule in self.rules if rule.delivery == "firehose")

    @property
    def due_minutes(self) -> int:
        """Minutes after the end of an hour at which it is compacted: no batch of it can be under way any more."""
        buffered = -(-self.delivery_buffer_seconds // 60) if self.batched_rules else 0
        return self.grace_minutes + buffered

    def rule(self, key: str) -> Rule:
        """Return the rule of a key, or raise InvalidName with the keys there are."""
        for rule in self.rules:
            if rule.key == key:
                return rule
        raise InvalidName("rule key", key, f"the settings name {', '.join(rule.key for rule in self.rules)}")

    @property
    def by_hand(self) -> str:
        """What is added where a call of AWS's own command line is advised: on this machine, who makes it. By itself
        that command asks AWS.
        """
        return ", on this machine by the session of `fleet connect boto3`" if self.profile == "local" else ""

    @property
    def form(self) -> Form:
        """How messages become rows of a table that is begun now."""
        return Form(self.nested_objects, self.arrays, self.several_objects, self.lenient_numbers, self.numbers)

    @property
    def vehicle_path(self) -> tuple[str, ...]:
        """The path through nested objects to the field that names the vehicle."""
        return path_of(self.vehicle_field)

    @property
    def private_fields(self) -> tuple[PrivateField, ...]:
        """The fields of messages that no column holds as they are."""
        return tuple(PrivateField.of(text) for text in self.private_columns)

    @property
    def claim_key_store(self) -> Literal["s3", "secretsmanager"]:
        """Where the claim certificate's private key lies."""
        return self.claim_store or ("s3" if self.profile == "local" else "secretsmanager")

    @property
    def iceberg_catalog(self) -> Literal["off", "sql", "glue", "rest", "s3tables"]:
        """Which catalog the tables are in; `off` for none."""
        return self.iceberg or ("sql" if self.profile == "local" else "off")

    @property
    def iceberg_prefix(self) -> str:
        """Where Iceberg's metadata lies in the lake's bucket: below a name that readers of the parts pass over."""
        return f"{self.parquet_prefix}/_iceberg/"

    @property
    def reader_seconds(self) -> int:
        """Seconds that whoever began to read a table is left before its former files go. On this machine none."""
        return 0 if self.profile == "local" else self.iceberg_reader_seconds

    @property
    def shows_previews(self) -> bool:
        """Whether rows and positions may be shown in Dagster."""
        return self.previews == "on" or (not self.previews and self.profile == "local")

    def requests_usd(self, gets: int, others: int) -> float:
        """Return what S3 asks for GET requests, and for PUT and LIST ones, in US dollars."""
        return (gets * self.price_get + others * self.price_put) / 1000

    def made_up_serial(self, number: int) -> str:
        """Return a serial that the hook would take, always the same for a number: 297468000001 and so on."""
        return self.serial(
            Pattern(self.serial_pattern).example(number) if self.serial_pattern else f"{self.serial_prefix}{number:06d}"
        )

    def made_up_parameters(self, number: int) -> dict[str, str]:
        """Return what a made-up vehicle says beside its serial, always the same for a number."""
        return {each.name: each.made_up(number) for each in self.parameters if each.is_made_up}

    def serial(self, text: str) -> str:
        """Return a serial that the hook would take, or raise InvalidName."""
        if self.serial_pattern:
            if not re.fullmatch(self.serial_form, text, re.ASCII):
                raise InvalidName("serial", text, f"it must match {self.serial_pattern}")
            return text
        if not text.startswith(self.serial_prefix) or not SERIAL_REST.fullmatch(text[len(self.serial_prefix) :]):
            raise InvalidName("serial", text, f"it must be {self.serial_prefix} and then 6 to 26 of 0-9 and A-Z")
        return text


_AN_INSTANT = datetime(2026, 11, 23, 10, tzinfo=UTC)


def _overlap(one: Rule, other: Rule) -> bool:
    """Whether one of two rules that read a bucket takes a key that the other would, as far as an example tells."""
    return any(_takes(taking, _example(given)) for taking, given in ((one, other), (other, one)))


def _takes(rule: Rule, key: str) -> bool:
    found = rule.raw_name(key, _AN_INSTANT.isoformat())
    return found is not None


def _example(rule: Rule) -> str:
    return rule.layout.example(_AN_INSTANT) if rule.layout else rule.raw_key(RawName(1_795_428_000_000))


def _value_as_key(values: Sequence[str]) -> str:
    named = ", ".join(values)
    why = (
        f"readers of Parquet take {named} for a number, a date or nothing, and so confuse rules: give it a letter, "
        f"such as rule{values[0]}"
    )
    return (
        f"{why}; a fleet that has such rules goes on with FLEET_VALUES_AS_RULE_KEYS=allow, and its readers must be "
        "told that `rule` is a text"
    )


def _variable(name: str) -> str:
    return f"FLEET_{name.upper()}"


def check_account(fleet: Fleet) -> None:
    """Raise InvalidSetting for a fleet in an account that is not named: a wrong one is noticed by its name alone."""
    if fleet.profile == "aws" and fleet.account == EXAMPLE_ACCOUNT:
        raise InvalidSetting("FLEET_ACCOUNT", None, ACCOUNT_WANTED)


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        words = ", ".join(each for each in choices if each and each not in NOT_OFFERED)
        raise InvalidSetting(_variable(name), value, f"choose one of {words}{', or leave it empty' * ('' in choices)}")


def _within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise InvalidSetting(_variable(name), value, f"choose a number from {least} to {most}")


def _matches(name: str, value: object, pattern: str | re.Pattern[str], why: str) -> None:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise InvalidSetting(_variable(name), value, why)
