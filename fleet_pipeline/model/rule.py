"""Rule: one topic rule, its topic, its name in AWS IoT, and the keys of its raw objects. Pure."""

import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, Self

from fleet_pipeline.model.errors import InvalidName
from fleet_pipeline.model.form import JSON, Encoding, Form
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.key_layout import KeyLayout
from fleet_pipeline.model.personal import PrivateField
from fleet_pipeline.model.rule_table import RAW_PREFIX, THING, Delivery, RuleTable, path_of, within

RawKeyFormat = Literal["timestamp-uuid", "timestamp-uuid-client", "timestamp"]

MILLIS_DIGITS = 13
"""Length of a raw object's milliseconds in its key, from 2001 to 2286: text and numbers sort alike."""

CLIENT_ID_AT = MILLIS_DIGITS + len("-00000000-0000-0000-0000-000000000000-")
"""Where the client id begins in the last segment of a key that has one.

For whoever reads many keys at once; see `parse_raw_key`.
"""

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_CLIENT_ID = "[a-zA-Z0-9:_-]{1,128}|n/a"  # clientid() is `n/a` for a message that did not come by MQTT
SHARDS = "shards/"
"""Where a rule's shards lie below its raw prefix, a folder each: behind the digits of all other raw keys, so that one
listing of folders tells which there are, and what lies in them is in no range of times of the others.
"""

WITHIN_SHARD = rf"(?:{SHARDS}[0-9a-f]{{1,2}}/)?"
"""What stands between the raw prefix and a raw object's name."""

BATCHES = "batches/"
"""Where a rule's batch objects lie below its raw prefix: behind the digits of all other raw keys."""

_BATCH_NAME = re.compile(
    r"([a-zA-Z0-9_.-]{1,64})-([0-9]{1,6})-"
    rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}-[0-9]{{2}}-[0-9]{{2}}-[0-9]{{2}})-({_UUID})(\.[a-z0-9.]{{1,16}})?"
)
_BATCH_FOLDER = re.compile(r"[0-9]{4}/[0-9]{2}/[0-9]{2}/[0-9]{2}")
_SELECT_ALL = re.compile(r"\s*SELECT\s+\*(?=\s|$)(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
ENVELOPE = "SELECT encode(*, 'base64') AS p, timestamp() AS t, topic() AS k, clientid() AS c, newuuid() AS u"
"""What a record of a batch says of its message: the bytes as they came, the time of receipt, topic, client id, and an
identity by which a record that was delivered twice is known.
"""

RAW_NAME = re.compile(rf"([0-9]{{13}})(?:-({_UUID})(?:-({_CLIENT_ID}))?)?")
_RULE_KEY = re.compile(r"[a-zA-Z0-9_]{1,64}")
TOPIC_LEVEL = re.compile(r"[a-zA-Z0-9_-]{1,60}")
_VALUE = re.compile(
    r"[0-9_]*|0x[0-9a-f_]*(p[0-9_]*)?|0[bo][0-9_]*|_*[0-9][0-9_]*[dfltz]?|[0-9_]*e[0-9_]+[dfl]?|[0-9_]+e[0-9_]*|[0-9_]+t[0-9_]*z?"
    r"|inf|infinity|nan|nat|null|none|na|true|false|epoch|now|today|tomorrow|yesterday|__hive_default_partition__",
    re.IGNORECASE,
)
"""What some reader of hive partitions takes for a number, a truth, an instant or nothing.

Java, and so Spark, reads `1d` as a number, Python `1_0`.
"""


def reads_as_value(key: str) -> bool:
    """Say whether some reader of Parquet takes this rule key for a value other than a text."""
    return bool(_VALUE.fullmatch(key))


def rule_prefix(topic_prefix: str) -> str:
    """Return what the names of a fleet's rules begin with in AWS IoT, which allows no `-` there: `test_rule_`."""
    return f"{topic_prefix.replace('-', '_')}_"


@dataclass(frozen=True, slots=True, order=True)
class RawName:
    """What the last segment of a raw object's key says: receipt time, and what the key's form adds to it."""

    millis: int
    uuid: str | None = None
    client_id: str | None = None


@dataclass(frozen=True, slots=True, order=True)
class BatchName:
    """What the key of a batch object says, as Amazon Data Firehose names it."""

    millis: int
    """When its oldest record came to the stream, to the second."""
    uuid: str
    stream: str
    version: int = 1
    """That of the stream's configuration."""
    extension: str = ".gz"


def parse_stream_name(name: str) -> BatchName | None:
    """Return what the last segment of a key says that Firehose chose; None for what it would not have chosen."""
    found = _BATCH_NAME.fullmatch(name)
    if found:
        with suppress(ValueError):  # such as the 31st of February
            at = datetime.strptime(found[3], "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC)
            return BatchName(int(at.timestamp()) * 1000, found[4], found[1], int(found[2]), found[5] or "")
    return None


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """One topic rule, and the stations of its messages: topic, raw objects, Parquet.

    `topic_prefix` begins its name in AWS IoT, and its topic and its raw prefix in S3 unless its table says others.
    """

    topic_prefix: str
    key: str
    table: RuleTable | None = field(default=None, hash=False)
    private: tuple[PrivateField, ...] = field(default=(), compare=False)
    """Fields of its messages that no column holds as they are."""
    delivery: Delivery = field(default="object", compare=False)
    """How its messages come into the bucket."""

    def __post_init__(self) -> None:
        """Refuse names that a topic, a rule or an S3 prefix would not carry unchanged."""
        if not TOPIC_LEVEL.fullmatch(self.topic_prefix):
            raise InvalidName("topic prefix", self.topic_prefix, "use 1 to 60 of a-z, A-Z, 0-9, - and _")
        if not _RULE_KEY.fullmatch(self.key):
            raise InvalidName(
                "rule key", self.key, "use 1 to 64 of a-z, A-Z, 0-9 and _ (AWS IoT allows no others in a rule's name)"
            )

    @property
    def aws_name(self) -> str:
        """The topic rule's name in AWS IoT: `test_rule_rule1`."""
        return f"{rule_prefix(self.topic_prefix)}{self.key}"

    @property
    def topic(self) -> str:
        """The topic filter that the rule reads: `test-rule/rule1`, or `vehicles/+/status`."""
        return (self.table and self.table.filter) or self._path

    @property
    def sql(self) -> str:
        """The rule's statement; where none is said: every message as it came. To a stream it is the message in an
        envelope.
        """
        if self.delivery == "firehose" and (found := _SELECT_ALL.fullmatch(self._sql)):
            return f"{ENVELOPE} {found['rest'].strip()}".strip()
        return self._sql

    @property
    def can_be_enveloped(self) -> bool:
        """Whether its statement selects whole messages: what columns select of one cannot be put into an envelope."""
        return bool(_SELECT_ALL.fullmatch(self._sql))

    @property
    def _sql(self) -> str:
        return (self.table and self.table.sql) or f"SELECT * FROM '{self.topic}'"  # noqa: S608 (AWS IoT SQL; the filter is checked)

    @property
    def keeps_payloads(self) -> bool:
        """Whether each message becomes a raw object, byte for byte.

        SQL of a company's own may leave some out, or make others of them.
        """
        return not (self.table and self.table.sql)

    @property
    def bucket(self) -> str:
        """The bucket that it reads and that exists; empty for a rule of which AWS IoT writes the objects."""
        return self.table.bucket if self.table else ""

    @property
    def layout(self) -> KeyLayout | None:
        """How the keys of its objects are built; None where they are `raw_key`'s."""
        return self.table.key_layout if self.table else None

    @property
    def inventory(self) -> str:
        """The S3 Inventory of which its hours are read, `s3://…`; empty where its bucket is listed."""
        return self.table.inventory if self.table else ""

    @property
    def inventory_place(self) -> tuple[str, str]:
        """The bucket and the prefix of that inventory."""
        return self.table.inventory_place if self.table else ("", "")

    @property
    def by_listing(self) -> Self:
        """The same rule, its bucket listed whatever inventory it names."""
        return replace(self, table=replace(self.table, inventory="")) if self.table and self.inventory else self

    @property
    def has_lines(self) -> bool:
        """Whether each line of an object is a message; the objects are batches then, and have the keys of a layout."""
        return self.table is not None and self.table.has_lines

    @property
    def shards(self) -> int:
        """Into how many folders AWS IoT spreads its raw objects; 1 for none. Those of before are always read."""
        return (self.table and self.table.shards) or 1

    @property
    def shards_prefix(self) -> str:
        """Where the folders of its shards lie: `test-rule/rule1/shards/`."""
        return f"{self.raw_prefix}{SHARDS}"

    def shard_prefix(self, shard: str) -> str:
        """Return what the raw keys of a shard begin with: `test-rule/rule1/shards/3f/`; `""` is those of none."""
        return f"{self.shards_prefix}{shard}/" if shard else self.raw_prefix

    def parse_shard(self, prefix: str) -> str | None:
        """Return the shard whose raw keys begin with a prefix; None for what no rule has ever made. The inverse of
        `shard_prefix`.
        """
        folder = prefix.removeprefix(self.raw_prefix)
        known = prefix.startswith(self.raw_prefix) and re.fullmatch(WITHIN_SHARD, folder)
        return folder.removeprefix(SHARDS).removesuffix("/") if known else None

    @property
    def contents(self) -> str:
        """What its raw objects are, in words: ``Every message of `test-rule/rule1` ``."""
        if self.bucket:
            return "Every message in a bucket that exists"
        return f"{'Every message' if self.keeps_payloads else 'What the SQL selects of each message'} of `{self.topic}`"

    @property
    def enabled(self) -> bool:
        """Whether AWS IoT runs it."""
        return self.table is None or self.table.enabled

    @property
    def publish(self) -> tuple[str, ...]:
        """The topics to which vehicles publish, with `{thing}` for the vehicle's own name: by default one that fits the
        filter; none of AWS's own.
        """
        if self.table is not None and self.table.publish is not None:
            return self.table.publish
        return () if self.topic.startswith("$") else (self._literal,)

    @property
    def ingest(self) -> tuple[str, ...]:
        """The same topics as vehicles use them, by Basic Ingest: `$aws/rules/test_rule_rule1/test-rule/rule1`."""
        return tuple(f"$aws/rules/{self.aws_name}/{topic}" for topic in self.publish)

    def published_by(self, thing: str) -> tuple[str, ...]:
        """Return the Basic Ingest topics of one vehicle; below one that ends with `#`, that of the rule's key."""
        return tuple(re.sub("#$", self.key, topic.replace(THING, thing)) for topic in self.ingest)

    def reads(self, topic: str) -> bool:
        """Say whether a message of this topic, or of the Basic Ingest topic around it, is the rule's."""
        return within(self.topic, topic.removeprefix(f"$aws/rules/{self.aws_name}/"))

    @property
    def raw_prefix(self) -> str:
        """Where the rule's raw objects lie: `test-rule/rule1/`.

        It has no wildcard, so that an hour is a range of keys.
        """
        said = self.table and self.table.raw_prefix
        return f"{said or (self.topic if RAW_PREFIX.fullmatch(self.topic) else self._path)}/"

    @property
    def known_topic(self) -> str | None:
        """The topic of each raw object where its key says it: a rule whose raw prefix is its topic writes below
        `${topic()}/`.
        """
        return self.topic if self.raw_prefix == f"{self.topic}/" else None

    @property
    def encoding(self) -> Encoding:
        """What the bytes of its messages are."""
        if self.table is None or not self.table.encoding:
            return JSON
        return Encoding(self.table.encoding, self.table.protobuf_descriptor, self.table.protobuf_message)

    def form(self, fleets: Form) -> Form:
        """Return how the rule's messages become rows: the fleet's way, but for what the rule's table says."""
        return replace(fleets, **self.table.form) if self.table else fleets

    def new_column_messages(self, fleets: int) -> int:
        """Return how many messages of an hour must have a field that is to become a column: as in the fleet, or as the
        rule's table says.
        """
        return (self.table and self.table.new_column_messages) or fleets

    @property
    def actions(self) -> tuple[dict[str, Any], ...]:
        """What AWS IoT does with each message beside writing it to S3, in AWS's own form."""
        return self.table.actions if self.table else ()

    @property
    def error_action(self) -> dict[str, Any]:
        """What AWS IoT does with a message of which an action fails, in AWS's own form; nothing where it is the fleet's
        report to S3.
        """
        return self.table.error_action if self.table else {}

    @property
    def columns(self) -> dict[tuple[str, ...], str]:
        """The columns that its table is to have and no others, by the fields' paths; none where messages decide."""
        return {path_of(name): kind for name, kind in self.table.columns.items()} if self.table else {}

    @property
    def _path(self) -> str:
        return f"{self.topic_prefix}/{self.key}"

    @property
    def _literal(self) -> str:
        """A topic that the filter matches: the vehicle's name for the first wildcard, the rule's key
        for further ones.
        """
        first, *further = re.split(r"[+#]", self.topic)
        return first + "".join((self.key if number else THING) + text for number, text in enumerate(further))

    def raw_key(self, name: RawName) -> str:
        """Return the key that the rule gives a raw object, without a shard; the inverse of `parse_raw_key`."""
        return self.raw_prefix + "-".join(part for part in (f"{name.millis:013d}", name.uuid, name.client_id) if part)

    def raw_name(self, key: str, modified: str) -> RawName | None:
        """Return what the key of a raw object says of its message, and where it does not say the time, when S3 took the
        object (`2026-11-23T10:00:00.000Z`); None for a key that is not of the rule's layout.
        """
        layout = self.layout
        if layout is None:
            return self.parse_raw_key(key)
        said = layout.read(key, modified)
        return RawName(said.millis, said.uuid, said.client_id) if said else None

    def parse_raw_key(self, key: str) -> RawName | None:
        """Return what a key says, in any of the three forms, in a shard or in none; None for a key that this rule would
        never have written.

        Messages of objects of lines have keys of this form, too: their rows' `_key`.
        """
        found = self.raw_key_form.fullmatch(key)
        return RawName(int(found[1]), found[2], found[3]) if found else None

    @property
    def raw_key_form(self) -> re.Pattern[str]:
        """What `parse_raw_key` takes, whole. For whoever looks at many keys and asks no more than that."""
        return re.compile(re.escape(self.raw_prefix) + WITHIN_SHARD + RAW_NAME.pattern)

    @property
    def batch_prefix(self) -> str:
        """Where batch objects of the rule lie: `test-rule/rule1/batches/`."""
        return f"{self.raw_prefix}{BATCHES}"

    def batch_key(self, name: BatchName) -> str:
        """Return the key that Firehose gives a batch object; the inverse of `parse_batch_key`."""
        at = datetime.fromtimestamp(name.millis // 1000, UTC)
        last = f"{name.stream}-{name.version}-{at:%Y-%m-%d-%H-%M-%S}-{name.uuid}{name.extension}"
        return f"{self.batch_prefix}{at:%Y/%m/%d/%H}/{last}"

    def parse_batch_key(self, key: str) -> BatchName | None:
        """Return what a batch object's key says; None for a key that Firehose would never have given one."""
        folder, _, name = key.removeprefix(self.batch_prefix).rpartition("/")
        return parse_stream_name(name) if _BATCH_FOLDER.fullmatch(folder) else None

    def path(self, hour: Hour) -> str:
        """Return the hive partition of an hour below a generation of the lake: `rule=rule1/date=2026-11-23/hour=10`."""
        return f"rule={self.key}/{hour.path}"
