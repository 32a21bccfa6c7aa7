"""Which raw object holds the message of a row: an object of many messages has another key than they."""

from collections.abc import Iterator
from dataclasses import dataclass

from fleet_pipeline.aws.store import ObjectVersion, Store
from fleet_pipeline.lake.batches import BatchHour
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.records import records_of
from fleet_pipeline.model.errors import InvalidName
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName, Rule


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message lies."""

    version: ObjectVersion
    before: int | None = None
    """How many messages stand before it in the object; None where the object is the message."""


def places_of(store: Store, lake: Lake, rule: Rule, key: str) -> Iterator[Place]:
    """Yield where the messages lie whose rows have a `_key`: none where they are gone, several where the key was
    written more than once, or a stream delivered a record twice.

    Lists the hour's objects where they have many messages, and reads them where a stream made them. Raises InvalidName
    for a key that no row of the rule has.
    """
    name = rule.parse_raw_key(key) if rule.has_lines or rule.layout is None else None
    if name is None and (rule.has_lines or rule.raw_name(key, _ANY_INSTANT) is None):
        raise InvalidName("_key", key, f"no row of rule {rule.key} has such a key")
    if not rule.has_lines:
        yield from (Place(each) for page in store.versions(key) for each in page if each.key == key)
    if name is not None and name.uuid:
        yield from _in_batches(store, lake, rule, name)


_ANY_INSTANT = "2026-01-01T00:00:00.000Z"


def _in_batches(store: Store, lake: Lake, rule: Rule, name: RawName) -> Iterator[Place]:
    uuid = name.uuid or ""
    batches = BatchHour(store, lake, rule, Hour.of_millis(name.millis)).listed
    if rule.has_lines:
        yield from (Place(each.version, int(uuid[24:], 16)) for each in batches if each.id[:24] == uuid[:24])
        return
    count, reading = 0, None
    for batch, records in records_of(store, rule, batches):
        count, reading = (0 if batch is not reading else count), batch
        for place, envelope in enumerate(records.good):
            if (envelope.t, envelope.u) == (name.millis, uuid):
                yield Place(batch.version, count + place)
        count += len(records.good)
