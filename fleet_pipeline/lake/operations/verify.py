"""The proof that the lake holds an hour: every raw version read again, its SHA-256 compared with that of its row.

And what may follow: the purge.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TextIO

import pyarrow as pa

from fleet_pipeline.aws.store import NULL_VERSION, ObjectVersion, Purgeable, Store
from fleet_pipeline.lake.batches import BatchHour
from fleet_pipeline.lake.commit import standing
from fleet_pipeline.lake.fetching import RawHour, fetched
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import remaining
from fleet_pipeline.lake.reading import IDENTITY_COLUMNS, Identities
from fleet_pipeline.lake.records import Batch
from fleet_pipeline.lake.rows import identity
from fleet_pipeline.lake.tombstones import Tombstones
from fleet_pipeline.lake.workplace import workplace
from fleet_pipeline.model.errors import NotVerified, OnlyRead
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule

SAME, MISSING, ALTERED, WITHOUT_PAYLOAD = "same", "missing", "altered", "without payload"
ERASED = "of an erased vehicle"

EXAMPLES = 10
"""Keys that a report names."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a comparison of an hour's raw versions with its rows found."""

    versions: int
    """Versions of raw objects, and messages of batches."""
    rows: int
    missing: int
    """Versions without a row."""
    altered: int
    """Versions whose row has other bytes."""
    doubled: int
    """Rows beyond the first of a version."""
    without_payload: int
    """Versions whose row says that they were too large to be read: these are in the lake by name only."""
    examples: tuple[str, ...]
    """Keys of versions that are missing or altered."""
    erased: int = 0
    """Versions of vehicles that were erased, which have no row and are to have none."""
    objects: int = 0
    """Versions of raw objects that are a message each."""

    @property
    def passed(self) -> bool:
        """Whether every version has exactly one row, with its bytes."""
        return not (self.missing or self.altered or self.doubled)


def verify_hour(
    raw: Store, lake: Lake, rule: Rule, hour: Hour, proven: Callable[[ObjectVersion], None] = lambda _: None
) -> Verified:
    """Return what a comparison finds, at one GET for each raw version, and some for each batch.

    Changes nothing. Rows whose raw objects were purged are no fault.

    A bucket that has an inventory is listed nevertheless: so it shows, too, what an inventory left out.

    `proven` is told of each version whose bytes are those of its row, and of those of erased vehicles.
    """
    rule = rule.by_listing
    held, erased = _held(lake, rule, hour), Tombstones.of(lake.store, lake.prefix, rule.encoding)
    found: Counter[str] = Counter()
    examples: list[str] = []
    for versions, payloads in fetched(raw, RawHour(raw, rule, hour).blocks()):
        for version, verdict in zip(versions, _verdicts(held, rule, versions, payloads, erased), strict=True):
            found[verdict] += 1
            if verdict in {SAME, ERASED}:
                proven(version)
            if verdict in {MISSING, ALTERED} and len(examples) < EXAMPLES:
                examples.append(version.key)
    objects = found.total()
    with workplace() as folder:
        batches = BatchHour(raw, lake, rule, hour)
        for block in batches.tables(batches.listed, folder):
            for key, verdict in _verdicts_of_rows(held, block, erased):
                found[verdict] += 1
                if verdict in {MISSING, ALTERED} and len(examples) < EXAMPLES:
                    examples.append(key)
    return Verified(
        found.total(),
        held.rows,
        found[MISSING],
        found[ALTERED],
        held.doubled,
        found[WITHOUT_PAYLOAD],
        tuple(examples),
        found[ERASED],
        objects,
    )


@dataclass(frozen=True, slots=True)
class Purged:
    """What was deleted of an hour's raw objects, and what was kept although its row is there."""

    versions: int
    raw_bytes: int
    kept: int
    """Versions whose bytes are not in the lake, or that have no version id by which they alone could be deleted."""


def purge_hour(raw: Purgeable, lake: Lake, rule: Rule, hour: Hour, *, now: datetime) -> Purged:
    """Delete the raw versions of an hour, by version id, after the hour passed verification just now. Its rows stay.

    Exactly those versions are deleted whose bytes were compared with their rows in this very call. Of batches those
    go that begin in the hour and of which every message was compared, also those of other hours. A second time finds
    nothing. Raises NotVerified, and deletes nothing, when the hour is not over, when any version of it is missing,
    altered or doubled in the lake, or while readers are about to use, or use by now, another generation of the table
    than this one. Raises OnlyRead for a rule that reads a bucket that exists.
    """
    if rule.bucket:
        raise OnlyRead(rule.bucket, rule.key)
    partition = lake.partition(rule, hour)
    if now < hour.end:
        raise NotVerified(partition, f"the hour ends at {hour.end.isoformat()}")
    with workplace() as folder, (folder / "proven").open("w+", encoding="utf-8") as file:
        proven = _Proven(file)
        verified = verify_hour(raw, lake, rule, hour, proven.add)
        if not verified.passed:
            why = (
                f"of {verified.versions} raw versions {verified.missing} have no row and {verified.altered} "
                "another payload, "
                f"and {verified.doubled} rows are double"
            )
            raise NotVerified(partition, why)
        if lake.coming():
            raise NotVerified(
                partition,
                "a new generation of the table is being written, or readers use it by now: end the rewrite first",
            )
        own = [batch for batch in BatchHour(raw, lake, rule, hour).listed if batch.hour == hour]
        for batch in proven_batches(raw, lake, (rule, hour), own, folder):
            proven.add(batch.version)
        raw.delete(proven)
        return Purged(proven.count, proven.bytes, verified.objects + len(own) - proven.count)


def proven_batches(raw: Store, lake: Lake, place: tuple[Rule, Hour], own: Sequence[Batch], folder: Path) -> list[Batch]:
    """Return those of some batches of which every message has a row with its bytes, in whatever hour."""
    rule, hour = place
    looks = [BatchHour(raw, lake, rule, hour)]
    unproven = _unproven(looks[0], own, folder)
    touched = {other for batch in own for other in looks[0].read[batch.id].hours} - {hour.partition_key}
    for other in sorted(touched):
        looks.append(BatchHour(raw, lake, rule, Hour.parse(other)))
        unproven |= _unproven(looks[-1], own, folder)
    kept = {
        batch.id
        for look in (looks if unproven else [])
        for batch, rows in look.unsorted(own)
        if not unproven.isdisjoint(rows["_key"].to_pylist())
    }
    return [batch for batch in own if batch.id not in kept]


def _unproven(look: BatchHour, own: Sequence[Batch], folder: Path) -> set[str]:
    """Return the keys of messages of an hour, in some batches, of which no row has the bytes."""
    held, lake = _held(look.lake, look.rule, look.hour), look.lake
    erased = Tombstones.of(lake.store, lake.prefix, look.rule.encoding)
    return {
        key
        for block in look.tables(own, folder)
        for key, verdict in _verdicts_of_rows(held, block, erased)
        if verdict not in {SAME, ERASED}
    }


class _Proven:
    """Versions whose bytes are in the lake and that can be deleted by their id alone: in a file,
    however many they are.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.count = self.bytes = 0

    def add(self, version: ObjectVersion) -> None:
        """Note a version."""
        if version.id == NULL_VERSION:
            return
        self._file.write(json.dumps(version) + "\n")
        self.count += 1
        self.bytes += version.size

    def __iter__(self) -> Iterator[ObjectVersion]:
        """Yield the versions that were noted."""
        self._file.seek(0)
        yield from (ObjectVersion(*json.loads(line)) for line in self._file)


def _held(lake: Lake, rule: Rule, hour: Hour) -> Identities:
    """Return the hour's rows, each with the SHA-256 of its payload, once no page of their parts is damaged."""
    files = standing(lake, rule, hour)
    for file in files:
        file.prove()
    return Identities.of(files, [*IDENTITY_COLUMNS, "_payload"], _digests)


def _digests(rows: pa.Table) -> pa.Table:
    digests = [None if payload is None else sha256(payload).digest() for payload in rows["_payload"].to_pylist()]
    return rows.set_column(rows.schema.get_field_index("_payload"), "_payload", pa.array(digests, pa.binary()))


def _verdicts(
    held: Identities,
    rule: Rule,
    versions: list[ObjectVersion],
    payloads: Sequence[bytes | None],
    erased: Tombstones,
) -> Iterator[str]:
    rows = {row[:2]: row[2] for row in held.of_keys([version.key for version in versions])}
    for version, payload in zip(versions, payloads, strict=True):
        found = (version.key, identity(version))
        if found not in rows:
            yield MISSING if remaining(erased, rule, [version], [payload]) else ERASED
        elif payload is None:
            yield WITHOUT_PAYLOAD
        else:
            yield SAME if _is_of(rows[found], rule, version, payload, erased) else ALTERED


def _is_of(digest: bytes, rule: Rule, version: ObjectVersion, payload: bytes, erased: Tombstones) -> bool:
    """Whether a row has these bytes, or what of them stays without an erased vehicle's."""
    if digest == sha256(payload).digest():
        return True
    return any(sha256(rest or b"").digest() == digest for _, rest in remaining(erased, rule, [version], [payload]))


def _verdicts_of_rows(held: Identities, rows: pa.Table, erased: Tombstones) -> Iterator[tuple[str, str]]:
    """Yield the key of each message of a batch, and what is found of its row."""
    keys, versions = rows["_key"].to_pylist(), rows["_version"].to_pylist()
    digests = {row[:2]: row[2] for row in held.of_keys(keys)}
    payloads = rows["_payload"].to_pylist()
    for place, (key, version, payload) in enumerate(zip(keys, versions, payloads, strict=True)):
        row, found = rows.slice(place, 1), (key, version)
        if payload is not None and digests.get(found) == sha256(payload).digest():
            yield key, SAME
        elif found not in digests:
            yield key, MISSING if erased.of_rows(row).num_rows else ERASED
        elif payload is None:
            yield key, WITHOUT_PAYLOAD
        else:
            rest = erased.of_rows(row)["_payload"].to_pylist()
            yield key, SAME if [sha256(each or b"").digest() for each in rest] == [digests[found]] else ALTERED
