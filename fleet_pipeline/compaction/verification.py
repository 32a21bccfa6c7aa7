"""The proof that the lake holds an hour: every raw version read again, its SHA-256 compared with that of its row. And what may follow: the purge."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

import pyarrow as pa

from fleet_pipeline.compaction.lake import Lake
from fleet_pipeline.compaction.parts import ROW_GROUP, Identities, opened
from fleet_pipeline.compaction.raw import RawHour, fetched
from fleet_pipeline.compaction.rows import identity
from fleet_pipeline.errors import NotVerified
from fleet_pipeline.fleet import Hour, Rule
from fleet_pipeline.store import NULL_VERSION, Purgeable, Store, Version

SAME, MISSING, ALTERED, WITHOUT_PAYLOAD = "same", "missing", "altered", "without payload"

EXAMPLES = 10
"""Keys that a report names."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a comparison of an hour's raw versions with its rows found."""

    versions: int
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

    @property
    def passed(self) -> bool:
        """Whether every version has exactly one row, with its bytes."""
        return not (self.missing or self.altered or self.doubled)


def verify_hour(raw: Store, lake: Lake, rule: Rule, hour: Hour) -> Verified:
    """Return what a comparison finds, at one GET for each raw version. Changes nothing. Rows whose raw objects were purged are no fault."""
    held = _held(lake, rule, hour)
    found: Counter[str] = Counter()
    examples: list[str] = []
    for versions, payloads in fetched(raw, RawHour(raw, rule, hour).blocks()):
        for version, verdict in zip(versions, _verdicts(held, versions, payloads), strict=True):
            found[verdict] += 1
            if verdict in {MISSING, ALTERED} and len(examples) < EXAMPLES:
                examples.append(version.key)
    return Verified(found.total(), held.rows, found[MISSING], found[ALTERED], held.doubled, found[WITHOUT_PAYLOAD], tuple(examples))


@dataclass(frozen=True, slots=True)
class Purged:
    """What was deleted of an hour's raw objects, and what was kept although its row is there."""

    versions: int
    raw_bytes: int
    kept: int
    """Versions whose bytes are not in the lake, or that have no version id by which they alone could be deleted."""


def purge_hour(raw: Purgeable, lake: Lake, rule: Rule, hour: Hour, *, now: datetime) -> Purged:
    """Delete the raw versions of an hour, by version id, after the hour passed verification just now. Its rows stay.

    A version that came after the verification is not deleted. A second time finds nothing. Raises NotVerified, and deletes nothing, when the hour
    is not over or any version of it is missing, altered or doubled in the lake.
    """
    partition = lake.partition(rule, hour)
    if now < hour.end:
        raise NotVerified(partition, f"the hour ends at {hour.end.isoformat()}")
    verified = verify_hour(raw, lake, rule, hour)
    if not verified.passed:
        why = (
            f"of {verified.versions} raw versions {verified.missing} have no row and {verified.altered} another payload, and {verified.doubled} rows are double"
        )
        raise NotVerified(partition, why)
    held, deleted, size = _held(lake, rule, hour), 0, 0
    listed = RawHour(raw, rule, hour)
    for versions in listed.blocks():
        known = {row[:2] for row in held.between(versions[0].key, versions[-1].key) if row[2] is not None}
        proven = [version for version in versions if version.id != NULL_VERSION and (version.key, identity(version)) in known]
        raw.delete(proven)
        deleted, size = deleted + len(proven), size + sum(version.size for version in proven)
    return Purged(deleted, size, listed.versions - deleted)


def _held(lake: Lake, rule: Rule, hour: Hour) -> Identities:
    """Return the hour's rows with the SHA-256 of each payload, part by part."""
    held = Identities()
    for part in lake.parts(rule, hour):
        batches = opened(lake.store, part).iter_batches(ROW_GROUP, columns=["_key", "_version", "_payload"])
        held.add(pa.concat_tables(_digests(batch) for batch in batches))
    return held


def _digests(batch: pa.RecordBatch) -> pa.Table:
    digests = [None if payload is None else sha256(payload).hexdigest() for payload in batch["_payload"].to_pylist()]
    return pa.table([batch["_key"], batch["_version"], pa.array(digests, pa.string())], ["_key", "_version", "_sha256"])


def _verdicts(held: Identities, versions: list[Version], payloads: Sequence[bytes | None]) -> Iterator[str]:
    rows = {row[:2]: row[2] for row in held.between(versions[0].key, versions[-1].key)}
    for version, payload in zip(versions, payloads, strict=True):
        found = (version.key, identity(version))
        if found not in rows:
            yield MISSING
        elif payload is None:
            yield WITHOUT_PAYLOAD
        else:
            yield SAME if rows[found] == sha256(payload).hexdigest() else ALTERED
