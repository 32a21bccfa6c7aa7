"""Rule: one topic rule, its topic, its name in AWS IoT, and the keys of its raw objects. Pure."""

import re
from dataclasses import dataclass
from typing import Literal

from fleet_pipeline.model.errors import InvalidName
from fleet_pipeline.model.hour import Hour

RawKeyFormat = Literal["timestamp-uuid", "timestamp-uuid-client", "timestamp"]

MILLIS_DIGITS = 13
"""Length of a raw object's milliseconds in its key, from 2001 to 2286: text and numbers sort alike."""

CLIENT_ID_AT = MILLIS_DIGITS + len("-00000000-0000-0000-0000-000000000000-")
"""Where the client id begins in the last segment of a key that has one. For whoever reads many keys at once; see `parse_raw_key`."""

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_CLIENT_ID = "[a-zA-Z0-9:_-]{1,128}|n/a"  # clientid() is `n/a` for a message that did not come by MQTT
RAW_NAME = re.compile(rf"([0-9]{{13}})(?:-({_UUID})(?:-({_CLIENT_ID}))?)?")
_RULE_KEY = re.compile(r"[a-zA-Z0-9_]{1,64}")
TOPIC_LEVEL = re.compile(r"[a-zA-Z0-9_-]{1,60}")
_VALUE = re.compile(
    r"[0-9_]*|0x[0-9a-f_]*(p[0-9_]*)?|0[bo][0-9_]*|_*[0-9][0-9_]*[dfltz]?|[0-9_]*e[0-9_]+[dfl]?|[0-9_]+e[0-9_]*|[0-9_]+t[0-9_]*z?"
    r"|inf|infinity|nan|nat|null|none|na|true|false|epoch|now|today|tomorrow|yesterday|__hive_default_partition__",
    re.IGNORECASE,
)
"""What some reader of hive partitions takes for a number, a truth, an instant or nothing. Java, and so Spark, reads `1d` as a number, Python `1_0`."""


def reads_as_value(key: str) -> bool:
    """Say whether some reader of Parquet takes this rule key for a value other than a text."""
    return bool(_VALUE.fullmatch(key))


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
        if not TOPIC_LEVEL.fullmatch(self.topic_prefix):
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
        return re.compile(re.escape(self.raw_prefix) + RAW_NAME.pattern)

    def path(self, hour: Hour) -> str:
        """Return the hive partition of an hour below a generation of the lake: `rule=rule1/date=2026-11-23/hour=10`."""
        return f"rule={self.key}/{hour.path}"
