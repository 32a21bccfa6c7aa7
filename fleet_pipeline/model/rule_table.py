"""A topic rule as a company says it: a table `[[rules]]` of fleet.toml.

What the table leaves out, the fleet fills in (`model/rule.py`).

Sources: AWS IoT Core Developer Guide, topics (filters, limits), iot-sql-reference, iot-basic-ingest; Amazon S3 User
    Guide, object-keys.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from fleet_pipeline.model import iot_sql
from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.key_layout import CDK, READY, KeyLayout

Delivery = Literal["object", "firehose"]
SqlVersion = Literal["2016-03-23", "2015-10-08", "beta"]

TOPIC_BYTES = 256
"""Bytes of a topic or a topic filter. Source: AWS IoT Core quotas."""

TOPIC_LEVELS = 8
"""Levels of a topic: seven slashes. Source: AWS IoT Core quotas."""

RULE_ACTIONS = 10
"""Actions of a rule, that to S3 among them. Source: AWS IoT Core quotas."""

THING = "{thing}"
"""What stands for the vehicle's own name in a topic that it publishes to."""

COLUMN_KINDS = ("bool", "int64", "double", "decimal(20,0)", "string", "json")
"""What a pinned column may hold; with `[]` behind it, arrays of these but of `json`.

A test compares them with those of the lake.
"""

SHARD_COUNTS = (1, 16, 256)
"""How many shards a rule may have: none, one hexadecimal digit, or two."""

_LEVEL = re.compile(r"[a-zA-Z0-9_.:@=,~;-]+")
_KEY = re.compile(r"[a-zA-Z0-9_]{1,64}")
BUCKET = re.compile(
    r"(?!xn--|sthree-|amzn-s3-demo-)(?!.*(?:-s3alias|--ol-s3|--x-s3|--table-s3)$)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]"
)
"""A bucket's name. Source: Amazon S3 User Guide, bucketnamingrules."""

RAW_PREFIX = re.compile(r"[a-zA-Z0-9_-]{1,60}(/[a-zA-Z0-9_.=-]{1,60}){0,6}")
"""What may stand before a rule's raw objects."""

_INVENTORY = re.compile(
    r"s3://(?P<bucket>[a-z0-9.-]{3,63})/(?:[!-~]{1,512}/)?(?P<source>[a-z0-9.-]{3,63})/[a-zA-Z0-9_.-]{1,64}/?"
)
"""Where S3 writes an inventory. Source: Amazon S3 User Guide, storage-inventory-location."""

_LEVELS_ARE = "parts between slashes of a-z, A-Z, 0-9 and _.:@=,~;- (no other, and none empty)"


def _said(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTable:
    """One topic rule, as far as it is said.

    Raises InvalidSetting, which names the field, for what AWS IoT would not take.
    """

    key: str = field(
        metadata={
            "meaning": (
                "Its name in the lake (`rule=key`), in Dagster and behind the raw prefix in AWS IoT: 1 to 64 of a-z, "
                "A-Z, 0-9 and _."
            )
        }
    )
    topic: str = _said(
        "",
        "The topic filter that it reads, with `+` and `#`; left out: what the SQL reads from, or `{raw_prefix}/{key}`.",
    )
    sql: str = _said("", "AWS IoT SQL; left out: `SELECT * FROM '{topic}'`, which keeps each payload byte for byte.")
    delivery: Literal["", "object", "firehose"] = _said(
        "",
        "How messages come into the bucket: an `object` each, or gathered by `firehose`, many in one object "
        "(docs/delivery.md); left out: as the fleet.",
    )
    sql_version: SqlVersion = _said("2016-03-23", "Version of AWS IoT SQL.")
    enabled: bool = _said(True, "Whether AWS IoT runs it. Messages to a rule that is not run are lost.")
    raw_prefix: str = _said(
        "",
        "Where its raw objects lie in the bucket; left out: the topic, or with wildcards `{raw_prefix of the "
        "fleet}/{key}`.",
    )
    bucket: str = _said(
        "",
        "A bucket that exists, in this account: the rule reads it, and makes nothing in AWS IoT (docs/layouts.md). "
        "Nothing is ever written to it or removed from it.",
    )
    layout: str = _said(
        "",
        "How the keys of that bucket are built, as `raw/{device}/{yyyy}/{MM}/{dd}/{uuid}.json`, or a name: `cdk`, "
        "`firehose`, `iot-analytics`, `fleetwise`; below `raw_prefix` where one is said. Left out: `cdk`.",
    )
    objects: Literal["", "message", "lines"] = _said(
        "",
        "What an object of that bucket is: a `message`, of up to 1 MB; or `lines`, a message each, of any size, plain "
        "or gzip. Left out: `lines` with the names but `cdk`, else `message`.",
    )
    inventory: str = _said(
        "",
        "Of a bucket whose keys do not go with the time: the S3 Inventory of which hours are read instead of listing "
        "the bucket, `s3://bucket/prefix/source-bucket/config-id/` (docs/layouts.md). Left out: the bucket is listed.",
    )
    shards: int = _said(
        0,
        "Into how many folders its raw objects are spread at random: 16 or 256, so that S3 can take more than 3,500 in "
        "a second (docs/layouts.md); left out or 1: none. Objects of before are read whatever it is.",
    )
    publish: tuple[str, ...] | None = _said(
        None,
        "The topics to which vehicles publish, each within `topic`; `{thing}` is the vehicle's own name, and a "
        "last level `#` all below. "
        "Left out: the topic, its first wildcard as `{thing}` and further ones as the key. Empty: vehicles do not "
        "publish to it.",
    )
    actions: tuple[dict[str, Any], ...] = field(
        default=(),
        hash=False,
        metadata={
            "meaning": "Further actions, as CreateTopicRule takes them. Without `roleArn` the fleet's own role is used."
        },
    )
    error_action: dict[str, Any] = field(
        default_factory=dict,
        hash=False,
        metadata={
            "meaning": (
                "What is done with a message when an action fails, as CreateTopicRule takes it; left out: a report "
                "below the errors' prefix."
            )
        },
    )
    encoding: Literal["", "json", "gzip", "cbor", "msgpack", "protobuf"] = _said(
        "",
        "What the bytes of its messages are (docs/layouts.md); left out: `json`. A message that begins with `{` or `[` "
        "is read as JSON whatever is said.",
    )
    protobuf_descriptor: str = _said(
        "",
        "Of `protobuf`: the file, by `protoc --include_imports --descriptor_set_out=…`, that describes its messages; "
        "from the folder of fleet.toml on.",
    )
    protobuf_message: str = _said("", "Of `protobuf`: the full name of the message, `acme.Telemetry`.")
    columns: dict[str, str] = field(
        default_factory=dict,
        hash=False,
        metadata={
            "meaning": (
                'The table\'s columns, by field: `{ speed_kmh = "double", "position.lat" = "double" }`. Said, it takes '
                "no others."
            )
        },
    )
    nested_objects: Literal["", "columns", "structs"] = _said(
        "", "As the setting of this name; left out: as the fleet."
    )
    arrays: Literal["", "whole", "elements"] = _said("", "As the setting of this name; left out: as the fleet.")
    several_objects: Literal["", "off", "on"] = _said("", "As the setting of this name; left out: as the fleet.")
    lenient_numbers: Literal["", "off", "on"] = _said("", "As the setting of this name; left out: as the fleet.")
    numbers: Literal["", "double", "exact"] = _said("", "As the setting of this name; left out: as the fleet.")
    new_column_messages: int = _said(0, "As the setting of this name, 1 to 1,000,000; left out: as the fleet.")

    def __post_init__(self) -> None:
        """Check every field that can be checked without the fleet and without AWS."""
        if not _KEY.fullmatch(self.key):
            raise InvalidSetting(
                "key", self.key, "use 1 to 64 of a-z, A-Z, 0-9 and _ (AWS IoT allows no others in a rule's name)"
            )
        self._check_given()
        self._check_inventory()
        self._check_encoding()
        self._check_shards()
        self._check_sql()
        if self.topic:
            check_filter("topic", self.topic)
        self._check_raw_prefix()
        self._check_publish()
        self._check_actions()
        self._check_columns()
        if not 0 <= self.new_column_messages <= 1_000_000:  # noqa: PLR2004 (the limit of the setting)
            raise InvalidSetting("new_column_messages", self.new_column_messages, "choose a number from 1 to 1000000")

    @property
    def filter(self) -> str:
        """The topic filter that is said, by the topic or by the SQL; empty where neither says one."""
        return self.topic or source_of(self.sql)

    @property
    def form(self) -> dict[str, Any]:
        """What is said of how messages become rows, by the names of `Form`."""
        names = ("nested_objects", "arrays", "several_objects", "lenient_numbers", "numbers")
        return {name: said for name in names if (said := getattr(self, name))}

    @property
    def key_layout(self) -> KeyLayout | None:
        """How the keys of a given bucket are built; None where they are the rule's own, as the CDK app writes them."""
        if not self.bucket or self.layout in {"", CDK}:
            return None
        root = f"{self.raw_prefix}/" if self.raw_prefix else ""
        return KeyLayout(root + READY.get(self.layout, self.layout))

    @property
    def has_lines(self) -> bool:
        """Whether an object of a given bucket has a message in each line."""
        return bool(self.bucket) and (self.objects or ("lines" if self.layout in READY else "message")) == "lines"

    @property
    def inventory_place(self) -> tuple[str, str]:
        """The bucket in which the inventory lies, and its prefix, which ends with a slash; empty where none is said."""
        bucket, _, prefix = self.inventory.removeprefix("s3://").partition("/")
        return bucket, f"{prefix.rstrip('/')}/" if prefix else ""

    @property
    def may_have_inventory(self) -> bool:
        """Whether it may name an inventory: where keys do not go with the time alone."""
        layout = self.key_layout
        return layout is not None and not layout.goes_with_the_time

    def _check_inventory(self) -> None:
        layout = self.key_layout
        if not self.inventory:
            return
        found = _INVENTORY.fullmatch(self.inventory)
        if not found or not BUCKET.fullmatch(found["bucket"]):
            why = "write it as s3://bucket/prefix/source-bucket/config-id/, as S3 writes it there"
            raise InvalidSetting("inventory", self.inventory, why)
        if found["source"] != self.bucket:
            why = f"it is of the bucket {found['source']}, and the rule reads {self.bucket}"
            raise InvalidSetting("inventory", self.inventory, why)
        if layout is None or not self.may_have_inventory:
            why = "an hour is found by its own keys, at once: leave it out, an inventory is a day old"
            raise InvalidSetting("inventory", self.inventory, why)
        bucket, prefix = self.inventory_place
        written = (f"{prefix}{each}" for each in ("2026-11-23T01-00Z/manifest.json", "data/x.csv.gz"))
        if bucket == self.bucket and any(layout.read(key, "2026-11-23T10:00:00.000Z") for key in written):
            why = "its files would be messages of the rule, by its layout: have it written elsewhere"
            raise InvalidSetting("inventory", self.inventory, why)

    def _check_given(self) -> None:
        if not self.bucket:
            if name := next((name for name in ("layout", "objects", "inventory") if getattr(self, name)), ""):
                why = (
                    "it says how a bucket that exists is read, and no `bucket` is named: what AWS IoT writes for this "
                )
                raise InvalidSetting(name, getattr(self, name), f"{why}fleet has the fleet's own keys")
            return
        if not BUCKET.fullmatch(self.bucket):
            why = "write a bucket's name: 3 to 63 of a-z, 0-9 and - (one with dots is not reached over TLS)"
            raise InvalidSetting("bucket", self.bucket, why)
        names = ("topic", "sql", "delivery", "actions", "error_action", "publish")
        if name := next((name for name in names if getattr(self, name)), ""):
            why = (
                "the rule reads a bucket that exists, and makes nothing in AWS IoT: leave it out, or leave out `bucket`"
            )
            raise InvalidSetting(name, None, why)
        if self.layout and "{" not in self.layout and self.layout not in {CDK, *READY}:
            why = f"write a pattern with placeholders, or one of {', '.join((CDK, *READY))}"
            raise InvalidSetting("layout", self.layout, why)
        is_cdks = self.key_layout is None  # which raises for what is no layout
        if self.objects == "lines" and is_cdks:
            why = "what the CDK app writes is a message an object: leave it out, or say a layout"
            raise InvalidSetting("objects", self.objects, why)

    def _check_shards(self) -> None:
        if self.shards not in {0, *SHARD_COUNTS}:
            raise InvalidSetting("shards", self.shards, f"choose one of {', '.join(map(str, SHARD_COUNTS))}")
        if self.shards > 1 and self.delivery == "firehose":
            raise InvalidSetting("shards", self.shards, "a stream writes few objects: leave it out")
        if self.shards > 1 and self.bucket:
            raise InvalidSetting("shards", self.shards, "the keys of a bucket that exists are as its layout says")

    def _check_encoding(self) -> None:
        names = ("protobuf_descriptor", "protobuf_message")
        lacking = [name for name in names if not getattr(self, name)]
        if self.encoding == "protobuf" and lacking:
            raise InvalidSetting(lacking[0], None, "protobuf messages are read by a file that describes them: say both")
        if self.encoding != "protobuf" and len(lacking) < len(names):
            said = next(name for name in names if name not in lacking)
            raise InvalidSetting(said, getattr(self, said), 'it is for messages of encoding = "protobuf"')
        if self.encoding not in {"", "json"} and self.has_lines:
            raise InvalidSetting("encoding", self.encoding, "lines are JSON; a gzip of lines needs no encoding")

    def _check_sql(self) -> None:
        if not self.sql:
            return
        try:
            iot_sql.check(self.sql)
            source = source_of(self.sql)
        except ValueError as error:
            raise InvalidSetting("sql", self.sql, str(error)) from error
        if source:
            check_filter("sql", source)
            if self.topic and source != self.topic:
                raise InvalidSetting(
                    "topic", self.topic, f"the SQL reads from {source!r}: say one of both, or the same twice"
                )

    def _check_raw_prefix(self) -> None:
        if self.raw_prefix and not RAW_PREFIX.fullmatch(self.raw_prefix):
            why = (
                "write up to seven levels such as telemetry/status, the first of 1 to 60 of a-z, A-Z, 0-9, - and _, "
                "further ones with . and = too"
            )
            raise InvalidSetting("raw_prefix", self.raw_prefix, f"{why}; no slash at either end")

    def _check_publish(self) -> None:
        for number, topic in enumerate(self.publish or ()):
            name = f"publish[{number}]"
            plain = topic.replace(THING, "thing")
            check_filter(name, plain)
            if "+" in plain.split("/") or topic.startswith("$"):
                raise InvalidSetting(
                    name,
                    topic,
                    f"a vehicle publishes to a topic: write {THING} for its own name, and # as the last level for "
                    "all below",
                )
            if self.filter and not within(self.filter, plain):
                raise InvalidSetting(name, topic, f"the rule reads {self.filter!r}, which does not match it")

    def _check_actions(self) -> None:
        if len(self.actions) > RULE_ACTIONS - 1:
            raise InvalidSetting(
                "actions",
                None,
                f"these are {len(self.actions)}: beside that to S3, AWS IoT takes {RULE_ACTIONS - 1} of a rule",
            )
        for name, action in self._named_actions():
            if len(action) != 1 or not isinstance(next(iter(action.values())), dict):
                raise InvalidSetting(
                    name, None, 'write one action and its parameters, such as { sqs = { queueUrl = "https://…" } }'
                )

    def _named_actions(self) -> Iterator[tuple[str, dict[str, Any]]]:
        yield from ((f"actions[{number}]", action) for number, action in enumerate(self.actions))
        if self.error_action:
            yield "error_action", self.error_action

    def _check_columns(self) -> None:
        kinds = {*COLUMN_KINDS, *(f"{kind}[]" for kind in COLUMN_KINDS if kind != "json")}
        for name, kind in self.columns.items():
            if kind not in kinds:
                raise InvalidSetting(f"columns.{name}", kind, f"a column holds one of {', '.join(sorted(kinds))}")
            if "" in (path := path_of(name)) or "\\" in "".join(path) or not name.isprintable():
                raise InvalidSetting(
                    f"columns.{name}", kind, r"name a field, or fields with dots between them; a dot within one is \."
                )


def check_filter(name: str, topic: str) -> None:
    """Raise InvalidSetting unless AWS IoT takes this as a topic filter, and a policy, a key and SQL
    carry it unchanged.
    """
    levels = topic.split("/")
    if len(topic.encode()) > TOPIC_BYTES or len(levels) > TOPIC_LEVELS:
        raise InvalidSetting(name, topic, f"AWS IoT takes {TOPIC_BYTES} bytes and {TOPIC_LEVELS - 1} slashes")
    if "#" in levels[:-1] or any(level not in {"+", "#"} and ({"+", "#"} & {*level}) for level in levels):
        raise InvalidSetting(name, topic, "+ stands for a whole level, and # for all levels at the end")
    wrong = [
        level
        for number, level in enumerate(levels)
        if not _LEVEL.fullmatch(level) and level not in {"+", "#"} and (number, level) != (0, "$aws")
    ]
    if wrong or topic == "$aws":
        raise InvalidSetting(name, topic, f"write {_LEVELS_ARE}")


def source_of(sql: str) -> str:
    """Return the topic filter that SQL reads from; empty where it does not say one, as a rule for Basic Ingest alone
    need not.
    """
    return iot_sql.topic_filter(sql)


def within(topic_filter: str, topic: str) -> bool:
    """Say whether a filter matches a topic, or every topic of another filter.

    A first wildcard matches none of AWS's own (`$aws/…`).
    """
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in {"+", "#"}:
        return False
    if wanted[-1] == "#":
        wanted = wanted[:-1]
        levels = levels[: len(wanted)] if len(levels) >= len(wanted) else []
    return len(wanted) == len(levels) and all(
        each == level or (each == "+" and level != "#") for each, level in zip(wanted, levels, strict=True)
    )


def meet(one: str, other: str) -> bool:
    """Say whether there is a topic that both filters match."""
    of_one, of_other = one.split("/"), other.split("/")
    if "$" in {one[:1], other[:1]} and one[:1] != other[:1] and {of_one[0], of_other[0]} & {"+", "#"}:
        return False
    for first, second in zip(of_one, of_other, strict=False):
        if "#" in {first, second}:
            return True
        if first != second and "+" not in {first, second}:
            return False
    longer = max(of_one, of_other, key=len)
    return len(of_one) == len(of_other) or longer[min(len(of_one), len(of_other))] == "#"


def path_of(name: str) -> tuple[str, ...]:
    r"""Return the path through nested objects that is written with dots between names; a dot within a name is `\.`."""
    return tuple(part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.", name))
