"""Which messages of an hour are one vehicle's: rows of the lake by the version that they stand for, and raw objects
that have no row.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from fleet_pipeline.aws.store import ObjectVersion, Store
from fleet_pipeline.lake.batches import BatchHour
from fleet_pipeline.lake.fetching import RawHour, fetched
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.listing import pages
from fleet_pipeline.lake.reading import Identities, PartFile, opened
from fleet_pipeline.lake.rows import IDENTITY, LARGEST, identity
from fleet_pipeline.lake.whose import Naming
from fleet_pipeline.lake.workplace import workplace
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import MILLIS_DIGITS, WITHIN_SHARD, Rule

Identity = tuple[str, str]
"""Key and `_version` of a message."""

_READ = ["_key", "_version", "_ts", "_client_id", "_payload"]


@dataclass(frozen=True, slots=True)
class Whom:
    """One vehicle, and the instant before which its messages were received."""

    naming: Naming
    name: str
    before_ms: int

    def of(self, rule: Rule) -> Self:
        """Return the same for the messages of a rule."""
        return replace(self, naming=self.naming.reading(rule.encoding))

    def is_it(self, name: str) -> bool:
        """Whether a name is this vehicle's."""
        return name == self.name


@dataclass(frozen=True, slots=True)
class Shared:
    """A message of several vehicles, taken apart."""

    own: bytes = field(repr=False)
    """This vehicle's objects."""
    rest: bytes = field(repr=False)
    """Those of the others."""


@dataclass(slots=True)
class Marked:
    """The messages of an hour that are a vehicle's."""

    whole: dict[Identity, bytes | None] = field(default_factory=dict)
    """Messages that are nobody else's, with their bytes."""
    shared: dict[Identity, Shared] = field(default_factory=dict)
    """Messages of several vehicles."""
    unread: set[Identity] = field(default_factory=set)
    """Messages of which something stays because it cannot be read, though the vehicle's name stands in it."""

    @property
    def identities(self) -> set[Identity]:
        """Those of which something can be given out or taken away."""
        return {*self.whole, *self.shared}

    def judge(self, whom: Whom, at: Identity, client_id: str | None, payload: bytes | None) -> None:
        """Note a message if it is the vehicle's."""
        found = whom.naming.apart(client_id, payload, whom.is_it)
        if not found.stays:
            self.whole[at] = payload
        elif found.is_theirs:
            self.shared[at] = Shared(found.own or b"", found.rest or b"")
        if found.stays and whom.naming.unread(client_id, payload, whom.name):
            self.unread.add(at)

    def add(self, other: "Marked") -> None:
        """Note what another has, too."""
        self.whole |= other.whole
        self.shared |= other.shared
        self.unread |= other.unread


def marked(files: Sequence[PartFile], whom: Whom) -> Marked:
    """Return which messages of some parts are a vehicle's. Reads every payload of them."""
    found = Marked()
    for file in files:
        for batch in file.batches(_READ):
            for key, version, millis, client_id, payload in _messages(batch):
                if millis < whom.before_ms:
                    found.judge(whom, (key, version), client_id, payload)
    return found


def _messages(batch: pa.Table) -> Iterator[tuple[Any, ...]]:
    """Yield the columns of `_READ` of each row that stands for a version, its instant as milliseconds."""
    rows = batch.filter(pc.equal(pc.utf8_length(batch["_version"]), IDENTITY))
    columns = [rows[name].cast(pa.int64()) if name == "_ts" else rows[name] for name in _READ]
    return zip(*(column.to_pylist() for column in columns), strict=True)


def mask(batch: pa.Table, identities: Collection[Identity]) -> pa.Array:
    """Return which rows stand for one of some versions, or for an element of one."""
    versions = pc.utf8_slice_codeunits(batch["_version"], 0, IDENTITY).to_pylist()
    return pa.array([pair in identities for pair in zip(batch["_key"].to_pylist(), versions, strict=True)], pa.bool_())


@dataclass(slots=True)
class Uncompacted:
    """Raw versions of an hour that have no row, and which of them are a vehicle's."""

    marked: Marked = field(default_factory=Marked)
    versions: dict[Identity, ObjectVersion] = field(default_factory=dict)
    """Every version among them that is the vehicle's, whole or in part."""


def uncompacted(raw: Store, lake: Lake, rule: Rule, hour: Hour, whom: Whom) -> Uncompacted:
    """Return what of an hour is not in the lake and is a vehicle's, at one GET for each version that has no row.
    A bucket that has an inventory is listed nevertheless: what came since counts as well.
    """
    whom, rule = whom.of(rule), rule.by_listing
    known = Identities.of(opened(lake.store, part) for part in lake.parts(rule, hour))
    found = Uncompacted()
    missing = (known.missing(versions) for versions in RawHour(raw, rule, hour).blocks())
    for versions, payloads in fetched(raw, (versions for versions in missing if versions)):
        for version, payload in zip(versions, payloads, strict=True):
            _judge(found, rule, version, payload, whom)
    _judge_batches(found, BatchHour(raw, lake, rule, hour), known, whom)
    return found


def foreign(raw: Store, rule: Rule, hour: Hour, whom: Whom) -> Uncompacted:
    """Return what lies among an hour's raw objects under keys that the rule would never have written, and is a
    vehicle's: no compaction reads it, so it never has a row. Reads all of it but what is larger than a message can be.
    """
    whom = whom.of(rule)
    found, form = Uncompacted(), rule.raw_key_form
    if rule.layout is not None:
        return found  # of a bucket that exists, what is no message of the rule is not the fleet's
    for page in pages(raw, rule, hour):
        strange = [each for each in page if not form.fullmatch(each.key) and each.size <= LARGEST]
        for place, body in raw.bodies(strange) if strange else ():
            version = strange[place]
            if received_ms(rule, hour, version.key) < whom.before_ms:
                at = (version.key, identity(version))
                found.marked.judge(whom, at, None, body)
                if at in found.marked.identities:
                    found.versions[at] = version
    return found


def received_ms(rule: Rule, hour: Hour, key: str) -> int:
    """Return when a raw object of an hour was received: by the 13 digits of its key, and where it has none as late as
    it may have been.
    """
    digits = re.match(f"{WITHIN_SHARD}([0-9]{{{MILLIS_DIGITS}}})", key.removeprefix(rule.raw_prefix))
    return int(digits[1]) if digits else hour.end_ms - 1


def _judge_batches(found: Uncompacted, batches: BatchHour, known: Identities, whom: Whom) -> None:
    with workplace() as folder:
        for block in batches.tables(batches.unread, folder):
            for key, version, millis, client_id, payload in _messages(known.without(block)):
                if millis < whom.before_ms:
                    at = (key, version)
                    found.marked.judge(whom, at, client_id, payload)
                    if at in found.marked.identities:
                        found.versions[at] = ObjectVersion(key, version, len(payload or b""), "", "", latest=True)


def _judge(found: Uncompacted, rule: Rule, version: ObjectVersion, payload: bytes | None, whom: Whom) -> None:
    name = rule.raw_name(version.key, version.modified)
    if name is None or name.millis >= whom.before_ms:
        return
    at = (version.key, identity(version))
    found.marked.judge(whom, at, name.client_id, payload)
    if at in found.marked.identities:
        found.versions[at] = version
