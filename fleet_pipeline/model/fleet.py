"""Fleet, Rule and Hour: every name, topic, key, ARN and partition, derived once.

Pure: nothing here calls AWS or reads the environment. A value that exists has been checked.
"""

import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, Self, get_args

from fleet_pipeline.model.errors import InvalidName, InvalidSetting

Profile = Literal["local", "aws"]
RawKeyFormat = Literal["timestamp-uuid", "timestamp-uuid-client", "timestamp"]
AllowList = Literal["none", "s3", "dynamodb"]
ClaimStore = Literal["", "s3", "secretsmanager"]
ClaimKeys = Literal["aws", "own"]
OwnCa = Literal["none", "jitr", "jitp"]
BulkRegistration = Literal["off", "on"]
NestedObjects = Literal["columns", "structs"]
Arrays = Literal["whole", "elements"]
SeveralObjects = Literal["off", "on"]
LenientNumbers = Literal["off", "on"]
Numbers = Literal["double", "exact"]
Previews = Literal["", "off", "on"]
ValuesAsRuleKeys = Literal["refuse", "allow"]

_CHOICES = {
    "raw_key_format": RawKeyFormat,
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
    "values_as_rule_keys": ValuesAsRuleKeys,
}
"""Settings that are one of some words."""

TEMPLATE_NAME_LIMIT = 36
"""Characters of a provisioning template's name. Source: API_CreateProvisioningTemplate."""

POLICY_DOCUMENT_LIMIT = 2048
"""Characters of an AWS IoT policy document without white space. Source: AWS IoT Core quotas."""

EARLIEST_START = date(2015, 10, 8)
"""The day on which AWS IoT opened: no rule can have written before it."""

NEW_COLUMN_MESSAGES = 3
"""Messages of an hour from which a field is no slip. Where 100 names of an hour have one wrong letter each, out of 80 letters, two agree
in one hour of two, and three in one of 300."""

MILLIS_DIGITS = 13
"""Length of a raw object's milliseconds in its key, from 2001 to 2286: text and numbers sort alike."""

CLIENT_ID_AT = MILLIS_DIGITS + len("-00000000-0000-0000-0000-000000000000-")
"""Where the client id begins in the last segment of a key that has one. For whoever reads many keys at once; see `parse_raw_key`."""

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_CLIENT_ID = "[a-zA-Z0-9:_-]{1,128}|n/a"  # clientid() is `n/a` for a message that did not come by MQTT
_RAW_NAME = re.compile(rf"([0-9]{{13}})(?:-({_UUID})(?:-({_CLIENT_ID}))?)?")
_RULE_KEY = re.compile(r"[a-zA-Z0-9_]{1,64}")
_VALUE = re.compile(
    r"[0-9_]*|0x[0-9a-f_]*(p[0-9_]*)?|0[bo][0-9_]*|_*[0-9][0-9_]*[dfltz]?|[0-9_]*e[0-9_]+[dfl]?|[0-9_]+e[0-9_]*|[0-9_]+t[0-9_]*z?"
    r"|inf|infinity|nan|nat|null|none|na|true|false|epoch|now|today|tomorrow|yesterday|__hive_default_partition__",
    re.IGNORECASE,
)
"""What some reader of hive partitions takes for a number, a truth, an instant or nothing. Java, and so Spark, reads `1d` as a number, Python `1_0`."""
_TOPIC_LEVEL = re.compile(r"[a-zA-Z0-9_-]{1,60}")
_BUCKET = re.compile(r"(?!xn--|sthree-|amzn-s3-demo-)(?!.*(?:-s3alias|--ol-s3|--x-s3|--table-s3)$)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}")
_SERIAL = re.compile(r"[0-9A-Z]{6,26}")


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of AWS with accounts of its own: its name in ARNs, the domain of its services, and of its console where AWS publishes one."""

    name: str
    domain: str
    console: str | None


AWS = Partition("aws", "amazonaws.com", "console.aws.amazon.com")
PARTITIONS = {
    "cn": Partition("aws-cn", "amazonaws.com.cn", "console.amazonaws.cn"),
    "us-gov": Partition("aws-us-gov", "amazonaws.com", "console.amazonaws-us-gov.com"),
    "us-iso": Partition("aws-iso", "c2s.ic.gov", None),
    "us-isob": Partition("aws-iso-b", "sc2s.sgov.gov", None),
    "eu-isoe": Partition("aws-iso-e", "cloud.adc-e.uk", None),
    "us-isof": Partition("aws-iso-f", "csp.hci.ic.gov", None),
    "eusc-de": Partition("aws-eusc", "amazonaws.eu", "console.amazonaws-eusc.eu"),
}
"""The partitions beside `aws`, by what their regions' names begin with. A test compares them with botocore's."""


def log_of(function: str) -> str:
    """Return the log group into which Lambda writes what a function says. Source: AWS Lambda Developer Guide, monitoring-cloudwatchlogs."""
    return f"/aws/lambda/{function}"


@dataclass(frozen=True, slots=True, order=True)
class Hour:
    """One hour of receipt time, UTC: `[start, end)`. The unit in which the lake is partitioned and compacted."""

    start: datetime

    def __post_init__(self) -> None:
        """Refuse a start without a time zone, off UTC or off the hour."""
        if self.start.utcoffset() != timedelta(0) or self.start != self.start.replace(minute=0, second=0, microsecond=0):
            raise InvalidName("hour", self.start.isoformat(), "it must be a full hour in UTC")

    @classmethod
    def parse(cls, partition_key: str) -> Self:
        """Return the hour of a Dagster partition key such as `2026-11-23-10:00`."""
        with suppress(ValueError):
            hour = cls(datetime.strptime(partition_key, "%Y-%m-%d-%H:%M").replace(tzinfo=UTC))
            if hour.partition_key == partition_key:  # strptime also takes 2026-1-3-5:00 and digits of other scripts
                return hour
        raise InvalidName("hour", partition_key, "write it as 2026-11-23-10:00 (UTC)")

    @classmethod
    def of(cls, instant: datetime) -> Self:
        """Return the hour in which an aware instant lies."""
        return cls(instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0))

    @classmethod
    def of_millis(cls, millis: int) -> Self:
        """Return the hour of a raw key's milliseconds since 1970."""
        return cls(datetime.fromtimestamp(millis // 3_600_000 * 3600, UTC))

    @property
    def partition_key(self) -> str:
        """Dagster's key of this hour; the inverse of `parse`."""
        return self.start.strftime("%Y-%m-%d-%H:%M")

    @property
    def end(self) -> datetime:
        """The first instant after this hour."""
        return self.start + timedelta(hours=1)

    @property
    def start_ms(self) -> int:
        """The first millisecond, since 1970."""
        return int(self.start.timestamp()) * 1000

    @property
    def end_ms(self) -> int:
        """The first millisecond after it, since 1970."""
        return self.start_ms + 3_600_000

    @property
    def path(self) -> str:
        """The hive partition below a rule: `date=2026-11-23/hour=10`."""
        return self.start.strftime("date=%Y-%m-%d/hour=%H")

    @property
    def next(self) -> Self:
        """The hour after this one."""
        return type(self)(self.end)


@dataclass(frozen=True, slots=True, order=True)
class RawName:
    """What the last segment of a raw object's key says: receipt time, and what the key's form adds to it."""

    millis: int
    uuid: str | None = None
    client_id: str | None = None


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """One topic rule, and the stations of its messages: topic, raw objects, Parquet.

    `topic_prefix` is the topic's first level and the raw prefix in S3 at once, because the rule writes to `${topic()}/…`.
    """

    topic_prefix: str
    key: str

    def __post_init__(self) -> None:
        """Refuse names that a topic, a rule or an S3 prefix would not carry unchanged."""
        if not _TOPIC_LEVEL.fullmatch(self.topic_prefix):
            raise InvalidName("topic prefix", self.topic_prefix, "use 1 to 60 of a-z, A-Z, 0-9, - and _")
        if not _RULE_KEY.fullmatch(self.key):
            raise InvalidName("rule key", self.key, "use 1 to 64 of a-z, A-Z, 0-9 and _ (AWS IoT allows no others in a rule's name)")

    @property
    def aws_name(self) -> str:
        """The topic rule's name in AWS IoT: `test_rule_rule1`."""
        return f"{self.topic_prefix.replace('-', '_')}_{self.key}"

    @property
    def topic(self) -> str:
        """The topic that the rule reads: `test-rule/rule1`."""
        return f"{self.topic_prefix}/{self.key}"

    @property
    def sql(self) -> str:
        """The rule's statement: every message as it came."""
        return f"SELECT * FROM '{self.topic}'"  # noqa: S608 (AWS IoT SQL; both parts are checked names)

    @property
    def publish_topic(self) -> str:
        """Where a vehicle publishes by Basic Ingest: `$aws/rules/test_rule_rule1/test-rule/rule1`."""
        return f"$aws/rules/{self.aws_name}/{self.topic}"

    @property
    def raw_prefix(self) -> str:
        """Where the rule's raw objects lie: `test-rule/rule1/`."""
        return f"{self.topic}/"

    def raw_key(self, name: RawName) -> str:
        """Return the key that the rule gives a raw object; the inverse of `parse_raw_key`."""
        return self.raw_prefix + "-".join(part for part in (f"{name.millis:013d}", name.uuid, name.client_id) if part)

    def parse_raw_key(self, key: str) -> RawName | None:
        """Return what a key says, in any of the three forms; None for a key that this rule would never have written."""
        found = self.raw_key_form.fullmatch(key)
        return RawName(int(found[1]), found[2], found[3]) if found else None

    @property
    def raw_key_form(self) -> re.Pattern[str]:
        """What `parse_raw_key` takes, whole. For whoever looks at many keys and asks no more than that."""
        return re.compile(re.escape(self.raw_prefix) + _RAW_NAME.pattern)

    def path(self, hour: Hour) -> str:
        """Return the hive partition of an hour below a generation of the lake: `rule=rule1/date=2026-11-23/hour=10`."""
        return f"rule={self.key}/{hour.path}"


@dataclass(frozen=True, slots=True)
class Form:
    """How messages become rows of a table. A generation keeps the form in which it was begun."""

    nested_objects: NestedObjects = "columns"
    """`columns`: a column for each of their fields, `position_lat`. `structs`: one struct column, `position.lat`."""
    arrays: Arrays = "whole"
    """`whole`: a message that is an array is one row. `elements`: an array of objects is a row for each of them."""
    several_objects: SeveralObjects = "off"
    """`on`: several objects one after another in one message are a row each. `off`: the message is not JSON."""
    lenient_numbers: LenientNumbers = "off"
    """`on`: `nan`, `inf` and their like, without quotes, are read as numbers that no column holds. `off`: the message is not JSON."""
    numbers: Numbers = "exact"
    """`double`: every new column of numbers is of doubles. `exact`: one of integers alone is int64, as in records that do not say it."""


def _setting(default: Any, meaning: str, reason: str, *, secret: bool = False) -> Any:
    """Declare a setting: its default, what it means, and why the default is what it is. A secret one is never shown."""
    return field(default=default, metadata={"meaning": meaning, "reason": reason, "secret": secret}, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Everything that is chosen about one fleet, checked; and every name that follows from it."""

    profile: Profile = _setting("local", "Where AWS is: `local` on this machine, `aws` in an account.", "A newcomer has no account.")
    account: str = _setting("123456789012", "The AWS account's 12 digits. Checked against STS before anything is changed.", "AWS's own example account.")
    region: str = _setting("eu-central-1", "The AWS region.", "Any region with AWS IoT Core will do.")
    service: str = _setting("cdk-test", "First part of every resource's name.", "The CDK app's name, so that its resources can be taken over.")
    application: str = _setting("iot", "Recorded as a tag on every resource.", "As in the CDK app.")
    environment: str = _setting("dev", "Second part of every resource's name.", "As in the CDK app.")
    bucket: str = _setting(
        "cdk-s3-test-bucket", "Bucket of raw messages and of the claim certificate.", "As in the CDK app. Bucket names are global: choose your own on AWS."
    )
    lake_bucket: str = _setting("", "Bucket of the Parquet files; empty means `{bucket}-lake`.", "A bucket of its own can forbid every overwrite.")
    serial_prefix: str = _setting("297468", "What a vehicle's serial number must begin with.", "As in the CDK app.")
    rule_keys: tuple[str, ...] = _setting(("rule1", "rule2", "rule3"), "One topic rule for each key.", "As in the CDK app's rule-keys.json.")
    raw_prefix: str = _setting("test-rule", "First level of the topics, and so the prefix of raw objects.", "As in the CDK app.")
    parquet_prefix: str = _setting("lake", "Prefix of the Parquet files in the lake bucket.", "Leaves the bucket room for other tables.")
    nested_objects: NestedObjects = _setting(
        "columns",
        "Fields of nested objects in Parquet: `columns` of their own (`position_lat`), or in `structs` (`position.lat`). For tables begun from now on.",
        "Every engine reads and prunes plain columns, and adding one never changes the type of another.",
    )
    arrays: Arrays = _setting(
        "whole",
        "A message that is an array: `whole`, one row; or `elements`, a row for each object in it. For tables begun from now on.",
        "A row is then a message as AWS IoT received it.",
    )
    several_objects: SeveralObjects = _setting(
        "off",
        "Several objects in one message, one after another or a line each (NDJSON): `off`, malformed; or `on`, a row each. For tables begun from now on.",
        "JSON is one value; AWS IoT's own rules read no more either.",
    )
    lenient_numbers: LenientNumbers = _setting(
        "off",
        "Bare `nan`, `inf` and `Infinity` in messages: `off`, malformed; or `on`, null in their column, spelt out in `_extra`. For tables begun from now on.",
        "They are not JSON, and other readers of the raw objects refuse them.",
    )
    numbers: Numbers = _setting(
        "double",
        "Kind of a column of numbers: `double`, whatever they are; or `exact`, int64 where its first hour has integers alone. For tables begun from now on.",
        "A speed of 0 in the first hour must not keep 12.5 out of its column for good.",
    )
    new_column_messages: int = _setting(
        NEW_COLUMN_MESSAGES,
        "How many messages of an hour must have a field that is to become a column, 1 to 1,000,000; with fewer its values stay in `_extra`.",
        "A damaged name comes once or twice, and a column is for good. 1 for a fleet of which an hour has a message or two.",
    )
    vehicle_field: str = _setting(
        "serial",
        'The field that names the vehicle where the raw key has no client id: `serial`, or `vehicle.id` for `{"vehicle": {"id": …}}`.',
        "The virtual vehicle's name for it. A dot that belongs to a name is written `\\.`.",
    )
    previews: Previews = _setting(
        "",
        "Whether Dagster shows some rows and positions of each hour and day: `on`, `off`, or empty: on this machine only.",
        "They lie in Dagster's event log, which outlives the lake's rows: a purge does not reach them.",
    )
    values_as_rule_keys: ValuesAsRuleKeys = _setting(
        "refuse",
        "Rule keys that readers of Parquet take for a number, a date or nothing, as `1`, `1e5` or `null`: `refuse`; or `allow`, for a fleet that has them.",
        "`1` and `01` are one rule to pyarrow, pandas, Polars and DuckDB, unless each query says that `rule` is a text.",
    )
    errors_prefix: str = _setting("errors", "Prefix of what a rule could not write.", "Outside the raw prefix, so it is never read as data.")
    raw_key_format: RawKeyFormat = _setting(
        "timestamp-uuid",
        "Last segment of a raw key: `timestamp-uuid`, `timestamp-uuid-client`, or the CDK app's `timestamp`.",
        "With `timestamp` alone two messages of one millisecond share a key. `-client` makes the client id known to the lake.",
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
        "Where the claim certificate's private key lies: `s3`, beside the certificate; `secretsmanager`; or empty: in `s3` on this machine only.",
        "In the data bucket, as in the CDK app, whoever may read messages has the factory's key.",
    )
    claim_keys: ClaimKeys = _setting(
        "own",
        "Who makes the claim certificate's key: `own`: here, and AWS IoT signs a request for it (CSR); or `aws`, as in the CDK app.",
        "A certificate whose making was interrupted is then known by its key, among those of others in the account.",
    )
    kms_key: str = _setting(
        "",
        "Key of AWS KMS for buckets, functions' logs, allow-list table and claim certificate's secret: id, ARN, `alias/…` or alias's ARN. Empty: AWS's own.",
        "Such a key costs money and can lock everybody out. One that a bucket has by a rule of your company's is left alone.",
    )
    own_ca: OwnCa = _setting(
        "none",
        "Registration by certificates of a CA of your own: `none`, `jitr` (a function decides) or `jitp` (AWS IoT fills in a template).",
        "Vehicles register with the claim certificate. The CA's certificates lie in `{home}/ca`.",
    )
    bulk_registration: BulkRegistration = _setting("off", "Registration of many vehicles from one file: `off` or `on`.", "It needs a role of its own.")
    role_boundary: str = _setting(
        "",
        "Permissions boundary of the fleet's roles: `own`, the policy `{service}-{environment}-boundary`; the ARN of another; or empty, none.",
        "An administrator must make it first (`fleet iam boundary`). The rights that `fleet iam provisioner` prints demand one.",
    )
    hook_runtime: str = _setting("python3.13", "Lambda runtime of the hook.", "Supported until June 2029.")
    start: str = _setting("2026-01-01", "First day (UTC) of the partitions, as 2026-01-01.", "Raw objects before it are not compacted.")
    grace_minutes: int = _setting(
        5, "Minutes after the end of an hour at which it is compacted, 0 to 59.", "AWS IoT writes within seconds; it may repeat what failed for minutes."
    )
    catch_up_hours: int = _setting(
        24, "How many hours back the schedule makes good what was not compacted, 1 to 744.", "A night and a day; the daily sweep finds what is older."
    )
    look_back_hours: int = _setting(
        6,
        "How many closed hours are listed anew every ten minutes for messages that are not in the lake, 1 to 168.",
        "Late messages are minutes late, not days.",
    )
    sweep_days: int = _setting(14, "How many days back the same is done once a day, 1 to 366.", "A listing costs a request for a thousand messages.")
    lag_minutes: int = _setting(
        150, "An older message that is not in the lake is an error, 10 to 10080.", "Two runs of the hourly schedule may fail before anyone is woken."
    )
    quarantine_percent: float = _setting(
        1.0, "Share of unreadable messages of an hour that draws a warning, 0 to 100.", "A broken vehicle of a hundred is worth a look."
    )
    price_get: float = _setting(0.00043, "US dollars for 1,000 GET requests to S3.", "S3 Standard in eu-central-1.")
    price_put: float = _setting(0.0054, "US dollars for 1,000 PUT or LIST requests to S3.", "S3 Standard in eu-central-1.")
    alert_url: str = _setting(
        "", "Webhook that hears of failed runs and checks, as Slack takes it; empty means none. Never shown.", "Nobody to tell yet.", secret=True
    )
    home: str = _setting(".fleet", "Folder of vehicles' certificates and of AWS on this machine.", "Beside the project, and ignored by git.")

    def __post_init__(self) -> None:
        """Check every setting against the limits of the services that will carry it."""
        _one_of("profile", self.profile, get_args(Profile))
        _matches("account", self.account, r"[0-9]{12}", "an account id has 12 digits")
        _matches("region", self.region, _REGION, "write it as AWS does, such as eu-central-1")
        for name in ("service", "environment", "application"):
            _matches(name, getattr(self, name), r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,62}[a-zA-Z0-9])?", "use 1 to 64 letters, digits and - inside")
        if len(self.template_name) > TEMPLATE_NAME_LIMIT:
            room = TEMPLATE_NAME_LIMIT - len("-provision-template")
            limit = f"because a provisioning template's name ends at {TEMPLATE_NAME_LIMIT}"
            why = f"`FLEET_SERVICE-FLEET_ENVIRONMENT` may have {room} characters and {self.prefix!r} has {len(self.prefix)}, {limit}"
            raise InvalidSetting("FLEET_SERVICE", self.service, why)
        if not self.lake_bucket:
            object.__setattr__(self, "lake_bucket", f"{self.bucket}-lake")
        for name in ("bucket", "lake_bucket"):
            _matches(name, getattr(self, name), _BUCKET, "a bucket's name has 3 to 63 of a-z, 0-9 and -, without AWS's reserved beginnings and ends")
        if self.bucket == self.lake_bucket:
            raise InvalidSetting("FLEET_LAKE_BUCKET", self.lake_bucket, "the lake needs a bucket of its own, apart from FLEET_BUCKET")
        _matches("serial_prefix", self.serial_prefix, r"[0-9A-Z]{1,20}", "use 1 to 20 of 0-9 and A-Z")
        for name, choices in _CHOICES.items():
            _one_of(name, getattr(self, name), get_args(choices))
        _matches("claim_client_prefix", self.claim_client_prefix, r"[a-zA-Z0-9_-]{0,40}", "use at most 40 of a-z, A-Z, 0-9, - and _")
        if not self.vehicle_field.isprintable() or "" in self.vehicle_path or "\\" in "".join(self.vehicle_path):
            raise InvalidSetting("FLEET_VEHICLE_FIELD", self.vehicle_field, r"write a field's name, or names with dots between them; a dot within one is \.")
        _within("grace_minutes", self.grace_minutes, 0, 59)
        _within("catch_up_hours", self.catch_up_hours, 1, 744)
        _within("look_back_hours", self.look_back_hours, 1, 168)
        _within("sweep_days", self.sweep_days, 1, 366)
        _within("new_column_messages", self.new_column_messages, 1, 1_000_000)
        _within("lag_minutes", self.lag_minutes, 10, 10_080)
        _within("quarantine_percent", self.quarantine_percent, 0, 100)
        _within("price_get", self.price_get, 0, 1)
        _within("price_put", self.price_put, 0, 1)
        if not re.fullmatch(r"(https?://[!-~]+)?", self.alert_url):
            raise InvalidSetting("FLEET_ALERT_URL", None, "write it as https://…, without blanks")
        _matches("hook_runtime", self.hook_runtime, r"python3\.[0-9]{2}", "name a Lambda runtime such as python3.13")
        if not self.home:
            raise InvalidSetting("FLEET_HOME", self.home, "name a folder")
        self._check_boundary()
        self._check_kms_key()
        self._check_start()
        self._check_prefixes()
        self._check_rules()

    def _check_boundary(self) -> None:
        if self.role_boundary != "own":
            why = "write `own`, or the ARN of a managed policy such as arn:aws:iam::123456789012:policy/boundary"
            _matches("role_boundary", self.role_boundary, r"(arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[!-~]{1,512})?", why)

    def _check_kms_key(self) -> None:
        key = r"(mrk-)?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}"
        alias = r"alias/(?!aws/)[a-zA-Z0-9/_-]{1,250}"
        arn = rf"arn:aws[a-z-]*:kms:{self.region}:[0-9]{{12}}:(key/{key}|{alias})"
        why = f"write a key's id, `alias/…`, or the ARN of either in {self.region}; a key of AWS's own (`alias/aws/…`) needs no setting"
        _matches("kms_key", self.kms_key, rf"({key}|{alias}|{arn})?", why)

    def _check_start(self) -> None:
        _matches("start", self.start, r"[0-9]{4}-[0-9]{2}-[0-9]{2}", "write a day as 2026-01-01")
        try:
            first = date.fromisoformat(self.start)
        except ValueError as error:
            raise InvalidSetting("FLEET_START", self.start, "there is no such day") from error
        if first < EARLIEST_START:
            raise InvalidSetting("FLEET_START", self.start, f"no message is older than {EARLIEST_START}")

    def _check_prefixes(self) -> None:
        for name in ("raw_prefix", "parquet_prefix", "errors_prefix"):
            _matches(name, getattr(self, name), _TOPIC_LEVEL, "use 1 to 60 of a-z, A-Z, 0-9, - and _, and no slash")
        taken = {
            "claim-certificate": "the claim certificate",
            "allow-list": "the allow-list",
            "provisioning": "the lock of those who apply",
            "bulk-registration": "bulk registration",
        }
        for name in ("raw_prefix", "errors_prefix"):
            prefix = getattr(self, name)
            if prefix in taken:
                raise InvalidSetting(_variable(name), prefix, f"this prefix belongs to {taken[prefix]}")
            taken[prefix] = _variable(name)

    def _check_rules(self) -> None:
        if not self.rule_keys:
            raise InvalidSetting("FLEET_RULE_KEYS", self.rule_keys, "name at least one rule")
        if len({key.casefold() for key in self.rule_keys}) < len(self.rule_keys):
            raise InvalidSetting("FLEET_RULE_KEYS", self.rule_keys, "no two rules may have one name (Athena does not tell upper case from lower)")
        try:
            rules = self.rules
        except InvalidName as error:
            raise InvalidSetting("FLEET_RULE_KEYS", self.rule_keys, str(error)) from error
        topics = sum(len(self.arn("iot", f"topic/{rule.publish_topic}")) + len('"",') for rule in rules)
        if self.values_as_rule_keys == "refuse" and (values := [key for key in self.rule_keys if _VALUE.fullmatch(key)]):
            why = (
                f"readers of Parquet take {', '.join(values)} for a number, a date or nothing, and so confuse rules: give it a letter, such as rule{values[0]}"
            )
            way = "; a fleet that has such rules goes on with FLEET_VALUES_AS_RULE_KEYS=allow, and its readers must be told that `rule` is a text"
            raise InvalidSetting("FLEET_RULE_KEYS", self.rule_keys, why + way)
        if topics > POLICY_DOCUMENT_LIMIT - 400:  # 400: the rest of the device policy
            room = f"and AWS IoT takes {POLICY_DOCUMENT_LIMIT} in all; use fewer rules or shorter names"
            why = f"the device policy would name {len(rules)} topics in {topics} characters, {room}"
            raise InvalidSetting("FLEET_RULE_KEYS", self.rule_keys, why)

    @property
    def prefix(self) -> str:
        """What the names of all resources begin with: `cdk-test-dev`."""
        return f"{self.service}-{self.environment}"

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The topic rules, in the order of the settings."""
        return tuple(Rule(self.raw_prefix, key) for key in self.rule_keys)

    def rule(self, key: str) -> Rule:
        """Return the rule of a key, or raise InvalidName with the keys there are."""
        for rule in self.rules:
            if rule.key == key:
                return rule
        raise InvalidName("rule key", key, f"the settings name {', '.join(self.rule_keys)}")

    @property
    def form(self) -> Form:
        """How messages become rows of a table that is begun now."""
        return Form(self.nested_objects, self.arrays, self.several_objects, self.lenient_numbers, self.numbers)

    @property
    def vehicle_path(self) -> tuple[str, ...]:
        """The path through nested objects to the field that names the vehicle."""
        return tuple(name.replace("\\.", ".") for name in re.split(r"(?<!\\)\.", self.vehicle_field))

    @property
    def claim_key_store(self) -> Literal["s3", "secretsmanager"]:
        """Where the claim certificate's private key lies."""
        return self.claim_store or ("s3" if self.profile == "local" else "secretsmanager")

    @property
    def shows_previews(self) -> bool:
        """Whether rows and positions may be shown in Dagster."""
        return self.previews == "on" or (not self.previews and self.profile == "local")

    @property
    def tags(self) -> dict[str, str]:
        """What marks a resource as this fleet's."""
        return {"fleet_pipeline:stack": self.prefix, "fleet_pipeline:application": self.application}

    @property
    def device_policy_name(self) -> str:
        """IoT policy of every registered vehicle."""
        return f"{self.prefix}-device-policy"

    @property
    def claim_policy_name(self) -> str:
        """IoT policy of the claim certificate."""
        return f"{self.prefix}-claim-certificate-policy"

    @property
    def hook_role_name(self) -> str:
        """IAM role of the hook."""
        return f"{self.prefix}-pre-provisioning-lambda-role"

    @property
    def hook_name(self) -> str:
        """Lambda function of the pre-provisioning hook."""
        return f"{self.prefix}-pre-provisioning-hook-lambda"

    @property
    def provisioning_role_name(self) -> str:
        """IAM role as which AWS IoT makes things."""
        return f"{self.prefix}-provisioning-template-role"

    @property
    def template_name(self) -> str:
        """Provisioning template."""
        return f"{self.prefix}-provision-template"

    @property
    def rule_role_name(self) -> str:
        """IAM role as which the topic rules write."""
        return f"{self.prefix}-rule-engine-role"

    @property
    def rule_error_role_name(self) -> str:
        """IAM role as which the topic rules report what they could not write."""
        return f"{self.prefix}-rule-error-role"

    @property
    def allow_list_table(self) -> str:
        """DynamoDB table of serials that may register, when `allow_list` is `dynamodb`."""
        return f"{self.prefix}-allow-list"

    @property
    def allow_list_key(self) -> str:
        """S3 key of serials that may register, one a line, when `allow_list` is `s3`."""
        return "allow-list/serials.txt"

    @property
    def temporary_claims_prefix(self) -> str:
        """Prefix of S3 keys that name the claim certificates that were lent; the hook takes no other certificate that AWS IoT does not list."""
        return "claim-certificate/temporary/"

    @property
    def just_in_time_name(self) -> str:
        """Lambda function of just-in-time registration, when `own_ca` is `jitr`."""
        return f"{self.prefix}-just-in-time-lambda"

    @property
    def just_in_time_role_name(self) -> str:
        """IAM role of that function."""
        return f"{self.prefix}-just-in-time-role"

    @property
    def just_in_time_rule_name(self) -> str:
        """Topic rule that calls it for each new certificate of the CA."""
        return f"{self.prefix}-just-in-time".replace("-", "_")

    @property
    def jitp_template_name(self) -> str:
        """Template of just-in-time provisioning, when `own_ca` is `jitp`."""
        return f"{self.prefix}-jitp-template"

    @property
    def bulk_role_name(self) -> str:
        """IAM role as which AWS IoT reads and carries out a bulk registration."""
        return f"{self.prefix}-bulk-registration-role"

    @property
    def role_names(self) -> tuple[str, ...]:
        """The roles that any settings of the fleet make."""
        rules = (self.rule_role_name, self.rule_error_role_name)
        return (self.hook_role_name, self.provisioning_role_name, *rules, self.just_in_time_role_name, self.bulk_role_name)

    @property
    def boundary_arn(self) -> str:
        """The policy that bounds the fleet's roles; empty where none does."""
        return self.arn("iam", f"policy/{self.prefix}-boundary") if self.role_boundary == "own" else self.role_boundary

    @property
    def kms_key_arn(self) -> str:
        """ARN of the KMS key, or of the alias by which it is named; empty where the keys are AWS's own."""
        if not self.kms_key or self.kms_key.startswith("arn:"):
            return self.kms_key
        return self.arn("kms", self.kms_key if self.kms_key.startswith("alias/") else f"key/{self.kms_key}")

    def endpoint(self, service: str) -> str:
        """Return the name of a service's endpoint in the region, as KMS tells through whom it was asked: `s3.eu-central-1.amazonaws.com`."""
        return f"{service}.{self.region}.{self._partition.domain}"

    @property
    def bulk_prefix(self) -> str:
        """Prefix of the files of bulk registrations."""
        return "bulk-registration"

    @property
    def registered_by(self) -> str:
        """Thing attribute that names the certificate with which the thing was registered."""
        return "registered_by"

    @property
    def database(self) -> str:
        """Database of the Glue Data Catalog. Athena knows no upper case, and no `-` without quotation marks."""
        return f"{self.prefix}_lake".replace("-", "_").lower()

    @property
    def thing_prefix(self) -> str:
        """What every thing's name begins with."""
        return "test-thing-"

    def requests_usd(self, gets: int, others: int) -> float:
        """Return what S3 asks for GET requests, and for PUT and LIST ones, in US dollars."""
        return (gets * self.price_get + others * self.price_put) / 1000

    @property
    def serial_form(self) -> str:
        """Regular expression of the serials that the hook takes."""
        return re.escape(self.serial_prefix) + _SERIAL.pattern

    def serial(self, text: str) -> str:
        """Return a serial that the hook would take, or raise InvalidName."""
        if not text.startswith(self.serial_prefix) or not _SERIAL.fullmatch(text[len(self.serial_prefix) :]):
            raise InvalidName("serial", text, f"it must be {self.serial_prefix} and then 6 to 26 of 0-9 and A-Z")
        return text

    def thing_name(self, serial: str) -> str:
        """Return the thing of a vehicle: `test-thing-{SerialNumber}`. A vehicle's client id is its thing's name."""
        return f"{self.thing_prefix}{serial}"

    @property
    def partition(self) -> str:
        """ARNs' partition: `aws`, or that of China, GovCloud, the isolated regions or the European Sovereign Cloud."""
        return self._partition.name

    def console_url(self, path: str) -> str | None:
        """Return the address of a page of AWS's console; None where AWS publishes no address of one."""
        console = self._partition.console
        return console and f"https://{self.region}.{console}/{path}"

    @property
    def _partition(self) -> Partition:
        return PARTITIONS.get(self.region.rsplit("-", 2)[0], AWS)

    @property
    def registration_policy_arn(self) -> str:
        """AWS's own policy for roles as which AWS IoT registers things."""
        return f"arn:{self.partition}:iam::aws:policy/service-role/AWSIoTThingsRegistration"

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a resource. S3 has neither account nor region in it, and IAM no region."""
        region = "" if service in {"s3", "iam"} else self.region
        account = "" if service == "s3" else self.account
        return f"arn:{self.partition}:{service}:{region}:{account}:{resource}"

    def role_arn(self, name: str) -> str:
        """Return an IAM role's ARN."""
        return self.arn("iam", f"role/{name}")

    def policy_arn(self, name: str) -> str:
        """Return an IoT policy's ARN."""
        return self.arn("iot", f"policy/{name}")

    @property
    def hook_arn(self) -> str:
        """ARN of the hook's function."""
        return self.arn("lambda", f"function:{self.hook_name}")

    @property
    def template_arn(self) -> str:
        """ARN of the provisioning template, known before it exists."""
        return self.arn("iot", f"provisioningtemplate/{self.template_name}")

    @property
    def raw_key_expression(self) -> str:
        """The S3 action's key, as AWS IoT evaluates it for each message."""
        return {
            "timestamp": "${topic()}/${timestamp()}",
            "timestamp-uuid": "${topic()}/${timestamp()}-${newuuid()}",
            "timestamp-uuid-client": "${topic()}/${timestamp()}-${newuuid()}-${clientid()}",
        }[self.raw_key_format]

    def report_prefix(self, rule: Rule) -> str:
        """Return where a rule reports what it could not write: `errors/rule1/`."""
        return f"{self.errors_prefix}/{rule.key}/"

    def report_key_expression(self, rule: Rule) -> str:
        """Return the key of a rule's error action, as AWS IoT evaluates it for each failure."""
        return f"{self.report_prefix(rule)}${{timestamp()}}-${{newuuid()}}"

    def parse_report_key(self, rule: Rule, key: str) -> RawName | None:
        """Return the time and the UUID of a report; None for a key that the error action would never have written."""
        found = _RAW_NAME.fullmatch(key.removeprefix(self.report_prefix(rule)))
        return RawName(int(found[1]), found[2]) if found and found[2] and not found[3] else None


def _variable(name: str) -> str:
    return f"FLEET_{name.upper()}"


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidSetting(_variable(name), value, f"choose one of {', '.join(choices)}")


def _within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise InvalidSetting(_variable(name), value, f"choose a number from {least} to {most}")


def _matches(name: str, value: object, pattern: str | re.Pattern[str], why: str) -> None:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise InvalidSetting(_variable(name), value, why)
