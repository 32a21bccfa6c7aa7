"""One vehicle's messages in batch objects: found, and taken out. What others sent becomes an object of its own, which
begins at the same second and is always called the same: killed anywhere, the same call goes on.
"""

import gzip
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

import msgspec

from fleet_pipeline.aws.store import ObjectVersion, Store
from fleet_pipeline.lake.privacy.messages import Identity, Marked, Whom
from fleet_pipeline.lake.privacy.places import Places
from fleet_pipeline.lake.records import Batch, Envelope, identity_of, read_lines, records_of
from fleet_pipeline.lake.workplace import workplace
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import BatchName, RawName, Rule


@dataclass(slots=True)
class Theirs:
    """A batch with messages of the vehicle."""

    batch: Batch
    whom: Whom
    marked: Marked = field(default_factory=Marked)
    """These messages, of all hours."""
    lines: int = 0
    """Lines that are no record, and all the vehicle's by what they say."""


def theirs_in(raw: Store, rule: Rule, batches: Sequence[Batch], whom: Whom) -> list[Theirs]:
    """Return those of some batches that have messages of the vehicle. Reads each of them."""
    whom = whom.of(rule)
    found = []
    for batch in batches:
        each = Theirs(batch, whom)
        for _, records in records_of(raw, rule, [batch]):
            for envelope in records.good:
                _judge(rule, envelope, whom, each.marked)
            each.lines += sum(_is_own(batch, line, whom) for line in records.bad)
        if each.marked.identities or each.lines:
            found.append(each)
    return found


def of_hour(found: Sequence[Theirs], rule: Rule, hour: Hour) -> Marked:
    """Return the messages of one hour among those that some batches have."""
    marked = Marked()
    for each in found:
        marked.add(each.marked)

    def is_of(at: Identity) -> bool:
        name = rule.parse_raw_key(at[0])
        return name is not None and hour.start_ms <= name.millis < hour.end_ms

    return Marked(
        {at: payload for at, payload in marked.whole.items() if is_of(at)},
        {at: shared for at, shared in marked.shared.items() if is_of(at)},
        {at for at in marked.unread if is_of(at)},
    )


def standing(raw: Store, rule: Rule, batches: Sequence[Batch], wanted: Collection[Identity]) -> dict[Identity, bytes]:
    """Return which of some messages stand in some batches, with their bytes. Reads each batch where any is wanted."""
    return {
        at: envelope.p
        for _, records in (records_of(raw, rule, batches) if wanted else ())
        for envelope in records.good
        if (at := _at(rule, envelope)) in wanted
    }


def take_out(places: Places, rule: Rule, found: Sequence[Theirs]) -> list[ObjectVersion]:
    """Return versions that may be removed, once what others sent in them lies in objects of their own."""
    for each in found:
        with workplace() as folder:
            if (file := _of_others(places.raw, rule, each, folder)) is not None:
                name = each.batch.name
                other = str(uuid5(NAMESPACE_OID, f"{each.batch.id} without"))
                places.raw.put_new(rule.batch_key(BatchName(name.millis, other, name.stream, name.version)), file)
    return [each.batch.version for each in found]


def named_in(raw: Store, rule: Rule, batch: Batch, whom: Whom) -> tuple[bool, bool]:
    """Return whether a batch has messages of the vehicle, and whether its name stands in what is others'."""
    whom = whom.of(rule)
    theirs, name, is_named, has_lines = Marked(), whom.name.encode(), False, False
    for _, records in records_of(raw, rule, [batch]):
        for envelope in records.good:
            before = len(theirs.identities)
            _judge(rule, envelope, whom, theirs)
            is_others = len(theirs.identities) == before
            said = (envelope.c or "").encode(errors="replace")
            is_named = is_named or (is_others and (name in envelope.p or name in said))
        own = [_is_own(batch, line, whom) for line in records.bad]
        has_lines = has_lines or any(own)
        is_named = is_named or any(
            name in (line or b"") and not is_own for line, is_own in zip(records.bad, own, strict=True)
        )
    return bool(theirs.identities) or has_lines, is_named


def taken_apart(rule: Rule, record: bytes, whom: Whom) -> tuple[bytes | None, bytes | None]:
    """Return what of a record's message is the vehicle's, and the record without it: None for nothing."""
    whom = whom.of(rule)
    read = read_lines(rule, [record.strip()]).good
    if len(read) != 1:
        return None, record
    envelope = read[0]
    marked, at = Marked(), _at(rule, envelope)
    _judge(rule, envelope, whom, marked)
    if at in marked.whole:
        return envelope.p, None
    if at in marked.shared:
        return marked.shared[at].own, msgspec.json.encode(msgspec.structs.replace(envelope, p=marked.shared[at].rest))
    return None, record


def _judge(rule: Rule, envelope: Envelope, whom: Whom, marked: Marked) -> None:
    if envelope.t < whom.before_ms:
        marked.judge(whom, _at(rule, envelope), envelope.c, envelope.p)


def _at(rule: Rule, envelope: Envelope) -> Identity:
    return rule.raw_key(RawName(envelope.t, envelope.u)), identity_of(envelope)


def _of_others(raw: Store, rule: Rule, theirs: Theirs, folder: Path) -> Path | None:
    """Return a file with the records of others; None where there are none."""
    file, count = folder / "others.gz", 0
    with gzip.GzipFile(file, "wb", mtime=0) as packed:
        for line in _lines_of_others(raw, rule, theirs):
            packed.write(line + b"\n")
            count += 1
    return file if count else None


def _lines_of_others(raw: Store, rule: Rule, theirs: Theirs) -> Iterator[bytes]:
    batch, marked = theirs.batch, theirs.marked
    for _, records in records_of(raw, rule, [batch]):
        for envelope in records.good:
            at = _at(rule, envelope)
            if at in marked.shared:
                yield msgspec.json.encode(msgspec.structs.replace(envelope, p=marked.shared[at].rest))
            elif at not in marked.whole:
                yield msgspec.json.encode(envelope)
        yield from (line for line in records.bad if line is not None and not _is_own(batch, line, theirs.whom))


def _is_own(batch: Batch, line: bytes | None, whom: Whom) -> bool:
    """Whether what is no record is a vehicle's and nobody else's. It is of the instant at which its batch begins."""
    return batch.name.millis < whom.before_ms and not whom.naming.apart(None, line, whom.is_it).stays
