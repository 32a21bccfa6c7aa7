"""A vehicle's end in the lake: what was received from it before an instant is gone from raw objects, reports, every
generation of the lake, the derived tables and the history of Iceberg tables, and no compaction brings it back.

The order is that of a compaction. First a tombstone: from then on nobody adds a row of the vehicle. Then the plan, so
that whoever goes on knows the hours although nothing of the vehicle is left in them. Then, hour by hour, what others
sent in shared messages gets an object of its own, the raw versions go by their ids, and the hour's rows are written
anew without the vehicle's and take the place of the old parts in one step; then the tables' history, the old parts, the
derived tables and the reports; then a search for the name. Killed anywhere, the same call goes on and ends alike.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import Any
from uuid import NAMESPACE_OID, uuid4, uuid5

import pyarrow.compute as pc

from fleet_pipeline.aws.store import ObjectVersion
from fleet_pipeline.lake.analytics.revisions import DerivedTable
from fleet_pipeline.lake.analytics.vehicles import daily_table, hourly_table, rolled_up, seen
from fleet_pipeline.lake.batches import BatchHour, Noted
from fleet_pipeline.lake.fetching import RawHour, fetched
from fleet_pipeline.lake.ledger import Ledger
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.privacy.batched import Theirs, of_hour, standing, take_out, theirs_in
from fleet_pipeline.lake.privacy.certificate import certify
from fleet_pipeline.lake.privacy.hours import candidates, not_yet_rows
from fleet_pipeline.lake.privacy.journal import Journal
from fleet_pipeline.lake.privacy.messages import Identity, Marked, Uncompacted, Whom, foreign, marked
from fleet_pipeline.lake.privacy.places import COLUMNS, VERDICTS, Erased, Places, Progress, Removed, Searched, folder
from fleet_pipeline.lake.privacy.reports import records_reported_of, reports_of
from fleet_pipeline.lake.privacy.rewriting import Moved, Replaced, without
from fleet_pipeline.lake.privacy.search import names, search
from fleet_pipeline.lake.reading import Identities, opened
from fleet_pipeline.lake.records import Batch
from fleet_pipeline.lake.rows import identity
from fleet_pipeline.lake.tombstones import bury
from fleet_pipeline.lake.whose import NOBODY, Naming
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import BatchName, RawName, Rule
from fleet_pipeline.model.spelt import Spelling

ROUNDS = 5
"""Times that what a search finds is erased before that is called a failure: others may be writing."""


def plan(places: Places, name: str, before: datetime, *, every_hour: bool = False) -> Erased:
    """Return what `erase` would do now. Reads what it would read, and writes nothing."""
    whom = Whom(Naming.of(places.fleet), name, _millis(before))
    done, begun = Removed(), datetime.now(UTC)
    asked = places.requests
    for rule, hour in _work(places, _hours(places, whom, every_hour=every_hour)):
        found = _found(places, rule, hour, whom)
        done.hours += bool(found.marked.identities or found.foreign.versions)
        _count(done, found)
        done.part_bytes += sum(part.size for part in places.lake.parts(rule, hour)) if found.in_rows else 0
    done.reports = sum(1 for rule in places.fleet.made_rules for _ in reports_of(places.fleet, places.raw, rule, whom))
    done.requests = places.requests - asked
    return Erased("", before, begun, done, Searched())


def erase(  # noqa: PLR0913 (all that it works on comes in by the front door)
    places: Places,
    name: str,
    before: datetime,
    *,
    by: str,
    every_hour: bool = False,
    on_progress: Progress = lambda *_: None,
) -> Erased:
    """Return once nothing of a vehicle is left that was received before an instant, with a certificate in the lake.

    `by` is who did it. Other vehicles' rows are as they were. A second run finds nothing and writes another
    certificate. Killed, the next run goes on. Readers of plain Parquet may, until the old parts are gone, see an hour's
    other rows twice; readers of the Iceberg tables do not.
    """
    whom, begun = Whom(Naming.of(places.fleet), name, _millis(before)), datetime.now(UTC)
    asked = places.requests
    tombstone = bury(places.store, places.lake.prefix, whom.naming, name, whom.before_ms)
    hours = _planned(places, tombstone, _hours(places, whom, every_hour=every_hour), by)
    journal, searched = Journal.of(places, tombstone, whom.before_ms), Searched()
    for _ in range(ROUNDS):
        work = _work(places, hours)
        doubtful = frozenset(searched.theirs)
        kept = {rule.key for rule in places.fleet.rules if places.history.keeps(rule)}
        for number, (rule, hour) in enumerate(work):
            on_progress("hours erased", number, len(work))
            _erase_hour(places, (rule, hour), whom, journal, doubtful)
            if rule.key not in kept:  # at once: whoever reads the folders sees others' rows twice until then
                _forget_parts(places, [rule], [hour], journal)
        _forget_parts(places, places.fleet.rules, hours, journal)
        _erase_reports(places, whom, journal)
        _erase_derived(places, hours, whom, journal)
        searched = search(places, hours, whom, on_progress)
        if not searched.theirs:
            break
    elsewhere = {where: each.forget(name, hours) for where, each in places.elsewhere.items()}
    elsewhere |= {VERDICTS: _erase_verdicts(places, name), COLUMNS: _named_columns(places, name)}
    done = journal.removed
    done.requests = places.requests - asked
    erased = Erased(tombstone, before, begun, done, searched, elsewhere, len(journal.stopped))
    key, digest = certify(places, erased, by, len(hours), journal.certified)
    return replace(erased, certificate=key, certificate_sha256=digest)


def _millis(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)


def _hours(places: Places, whom: Whom, *, every_hour: bool) -> list[Hour]:
    """Return the hours in which something of the vehicle may lie."""
    fleet, lake = places.fleet, places.lake
    found = set(candidates(fleet, lake, whom.name).hours) | not_yet_rows(fleet, lake, datetime.now(UTC))
    if every_hour:
        found |= {hour for each in lake.generations() for rule in fleet.rules for hour in each.all_parts(rule)}
        found |= _raw_hours(places)
    found |= {Hour.of_millis(_report_millis(places, rule, key)) for rule, key in _reports(places, whom)}
    return sorted(hour for hour in found if hour.start_ms < whom.before_ms)


def _reports(places: Places, whom: Whom) -> Iterator[tuple[Rule, str]]:
    """Yield the reports of the vehicle's messages: a replay has put them back into their hours."""
    for rule in places.fleet.made_rules:
        for each in reports_of(places.fleet, places.raw, rule, whom):
            yield rule, each.version.key


def _report_millis(places: Places, rule: Rule, key: str) -> int:
    name = places.fleet.parse_report_key(rule, key)
    return name.millis if name else 0


def _raw_hours(places: Places) -> set[Hour]:
    found = set()
    for rule in places.fleet.made_rules:
        for page in places.raw.versions(rule.raw_prefix):
            names = [rule.parse_raw_key(version.key) or rule.parse_batch_key(version.key) for version in page]
            found |= {Hour.of_millis(name.millis) for name in names if name}
            found |= {
                near
                for name in names
                if isinstance(name, BatchName)
                for near in (Hour.of_millis(name.millis).before, Hour.of_millis(name.millis).next)
            }
    return found


def _work(places: Places, hours: Sequence[Hour]) -> list[tuple[Rule, Hour]]:
    return [(rule, hour) for rule in places.fleet.rules for hour in hours]


def _planned(places: Places, tombstone: str, hours: Sequence[Hour], by: str) -> list[Hour]:
    """Return these hours and those of earlier plans for the vehicle, once all of them are recorded."""
    where = folder(places, tombstone)
    while True:
        live = [version for page in places.store.versions(where) for version in page if version.latest]
        plans = [version for version in live if version.key[len(where) :].startswith("plan-")]
        before = {text for each in plans for text in _read(places, each)["hours"]}
        wanted = before | {hour.partition_key for hour in hours}
        if plans and wanted == before:
            return sorted(map(Hour.parse, wanted))
        said = {"by": by, "at": datetime.now(UTC).isoformat(), "hours": sorted(wanted)}
        if places.store.put_new(f"{where}plan-{len(plans):05d}.json", json.dumps(said).encode()):
            return sorted(map(Hour.parse, wanted))


def _read(places: Places, version: ObjectVersion) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(places.store.read(version.key, 0, version.size))
    return found


@dataclass(slots=True)
class _Found:
    """What of an hour is the vehicle's."""

    marked: Marked = field(default_factory=Marked)
    in_rows: set[Identity] = field(default_factory=set)
    raw: list[ObjectVersion] = field(default_factory=list)
    """The raw versions of these messages."""
    batches: list[Theirs] = field(default_factory=list)
    """The batches that have some of them."""
    batched: Marked = field(default_factory=Marked)
    """Those of these messages that stand in them."""
    look: list[Batch] = field(default_factory=list)
    """All batches that may have messages of the hour."""
    foreign: Uncompacted = field(default_factory=Uncompacted)
    """What is the vehicle's under keys that the rule would never have written."""


def _found(places: Places, rule: Rule, hour: Hour, whom: Whom, doubtful: frozenset[str] = frozenset()) -> _Found:
    """Return what of an hour is the vehicle's: by its rows in any generation, and of raw versions that no row of the
    current one speaks for, and of doubtful ones, by their bytes: a late message of several vehicles has a row without
    this one's part.
    """
    whom = whom.of(rule)
    found = _Found()
    for lake in places.lake.generations():
        found.marked.add(marked([opened(lake.store, part) for part in lake.parts(rule, hour)], whom))
    found.in_rows = found.marked.identities
    if rule.bucket:
        return found  # it is only read: what lies there stays, and the tombstone keeps it out of the lake
    known = Identities.of(opened(places.lake.store, part) for part in places.lake.parts(rule, hour))
    listed = RawHour(places.raw, rule, hour)
    for versions in listed.blocks():
        found.raw += [each for each in versions if (each.key, identity(each)) in found.in_rows]
        unknown = {*known.missing(versions), *(each for each in versions if each.key in doubtful)}
        _judge(places, rule, sorted(unknown), whom, found)
    _find_batches(places, (rule, hour), whom, found, doubtful)
    found.foreign = foreign(places.raw, rule, hour, whom)
    return found


def _find_batches(
    places: Places, place: tuple[Rule, Hour], whom: Whom, found: _Found, doubtful: frozenset[str]
) -> None:
    """Note the batches that have messages of the vehicle, of whatever hour: where none of the hour's rows is its, those
    are read of which not every message is a row.
    """
    rule, hour = place
    look = BatchHour(places.raw, places.lake, rule, hour)
    unread = {batch.id for batch in look.unread}
    every = bool(found.in_rows)
    wanted = [each for each in look.listed if every or each.id in unread or each.version.key in doubtful]
    found.look = look.listed
    found.batches = theirs_in(places.raw, rule, wanted, whom)
    found.batched = of_hour(found.batches, rule, hour)
    found.marked.add(found.batched)


def _judge(places: Places, rule: Rule, versions: list[ObjectVersion], whom: Whom, found: _Found) -> None:
    """Read raw versions, and note those that are the vehicle's and were not known to be."""
    unknown = [each for each in versions if (each.key, identity(each)) not in found.in_rows]
    for some, payloads in fetched(places.raw, [unknown] if unknown else []):
        for version, payload in zip(some, payloads, strict=True):
            name, at = rule.raw_name(version.key, version.modified), (version.key, identity(version))
            if name and name.millis < whom.before_ms:
                found.marked.judge(whom, at, name.client_id, payload)
                found.raw += [version] if at in found.marked.identities else []


def _count(done: Removed, found: _Found) -> None:
    versions = [*found.raw, *(each.batch.version for each in found.batches), *found.foreign.versions.values()]
    done.raw_versions += len(versions)
    done.raw_bytes += sum(version.size for version in versions)
    for some in (found.marked, found.foreign.marked):
        done.messages += len(some.identities)
        done.shared += len(some.shared)
        done.undivided += len(some.unread)


def _erase_hour(
    places: Places, place: tuple[Rule, Hour], whom: Whom, journal: Journal, doubtful: frozenset[str]
) -> None:
    rule, hour = place
    found = _found(places, rule, hour, whom, doubtful)
    gone, moved = found.marked.identities, dict[Identity, Moved]()
    journal.undivided |= {journal.name(*at) for at in found.marked.unread | found.foreign.marked.unread}
    if gone or found.batches:
        _note(journal, place, found.marked, [*found.raw, *(each.batch.version for each in found.batches)])
        moved = _moved(places, rule, found)
        if rule.has_lines:
            _note_lines(places, place, found.marked, journal)
        if not rule.bucket:
            places.raw.delete(found.raw)
            places.raw.delete(take_out(places, rule, found.batches))
    for lake in places.lake.generations():
        fence = bool(gone) and lake.generation >= places.lake.generation
        note = partial(_note_rows, journal, lake.partition(rule, hour))
        without(lake, rule, hour, gone, moved=moved, fence=fence, note=note)
    if found.marked.shared and not rule.bucket:
        compact_hour(places.raw, places.lake, rule, hour)
    if found.foreign.versions:
        _note(journal, place, found.foreign.marked, [*found.foreign.versions.values()])
        for at, shared in found.foreign.marked.shared.items():  # a dot is in no key of a rule's
            places.raw.put_new(f"{at[0]}.without-{uuid5(NAMESPACE_OID, ' '.join(at))}", shared.rest)
        places.raw.delete([*found.foreign.versions.values()])


def _note_lines(places: Places, place: tuple[Rule, Hour], found: Marked, journal: Journal) -> None:
    """Have it known how many rows an hour lacks from now on that objects of lines, which stay, are known to have."""
    for lake in places.lake.generations():
        name = f"erased-{journal.tombstone}-{journal.before_ms:013d}"
        Noted(lake, *place).add_erased(name, len(found.whole))


def _note(journal: Journal, place: tuple[Rule, Hour], found: Marked, versions: list[ObjectVersion]) -> None:
    """Write down what of an hour is about to go."""
    rule, hour = place
    whole = {at: (payload, False) for at, payload in found.whole.items()}
    parts = {at: (each.own, True) for at, each in found.shared.items()}
    journal.note(
        hours={f"{rule.key} {hour.partition_key}": 1},
        messages={
            journal.name(*at): [sha256(payload or b"").hexdigest(), is_shared]
            for at, (payload, is_shared) in {**whole, **parts}.items()
        },
        raw=journal.sizes(versions),
    )


def _note_rows(journal: Journal, partition: str, done: Replaced) -> None:
    journal.note(rows=done.parts, kept={partition: f"{done.kept} rows, {done.digest}"})


def _moved(places: Places, rule: Rule, found: _Found) -> dict[Identity, Moved]:
    """Return what others sent in shared messages, once it lies in objects of its own, whether or not the raw object is
    there still: raw objects may have been purged, and a run that was stopped has deleted some.

    What stands in a batch is put apart with all else in it, and is the same message as before. Of a bucket that is only
    read, the row alone says from now on what others sent.
    """
    if rule.bucket:
        return {at: Moved(at[0], (at[1],), shared.rest) for at, shared in found.marked.shared.items()}
    alone = {(version.key, identity(version)) for version in found.raw}
    batched = {at: each.rest for at, each in found.batched.shared.items()}
    unknown = found.marked.shared.keys() - alone - batched.keys()
    batched |= standing(places.raw, rule, found.look, unknown)
    moved = {}
    for at, shared in sorted(found.marked.shared.items()):
        name = rule.parse_raw_key(at[0])
        if name is None or at in batched:  # a key of before the settings were changed: only the row is left
            moved[at] = Moved(at[0], (at[1],), batched.get(at, shared.rest))
        else:
            client = None if name.client_id == NOBODY else name.client_id
            key = rule.raw_key(RawName(name.millis, str(uuid5(NAMESPACE_OID, " ".join(at))), client))
            places.raw.put_new(key, shared.rest)  # of the same millisecond, and always the same object
            there = [each for page in places.raw.versions(key) for each in page if each.key == key]
            moved[at] = Moved(key, tuple(identity(each) for each in there), shared.rest, client)
    return moved


def _forget_parts(places: Places, rules: Sequence[Rule], hours: Sequence[Hour], journal: Journal) -> None:
    """Remove the parts that were replaced, once no table leads to them."""
    going = {rule: _replaced(places, rule, hours) for rule in rules}
    if any(going.values()):
        places.history.let_readers_end()
    for rule, gone in going.items():
        parts = sorted({version.key for version in gone if version.key.endswith(".parquet")})
        journal.note(parts=journal.sizes(gone))
        snapshots = places.history.forget(rule, parts) if parts else 0
        journal.note(snapshots={uuid4().hex: snapshots} if snapshots else {})
        places.store.delete(gone)


def _replaced(places: Places, rule: Rule, hours: Sequence[Hour]) -> list[ObjectVersion]:
    """Return the parts that were replaced, once the current snapshot has none of them."""
    gone: list[ObjectVersion] = []
    for hour in hours:
        replaced = [each for lake in places.lake.generations() for each in lake.replaced(rule, hour)]
        if replaced:
            places.history.replaced(rule, hour)
        gone += replaced
    return gone


def _erase_reports(places: Places, whom: Whom, journal: Journal) -> None:
    """Remove every version of the reports of the vehicle's messages.

    What others sent in them returns as a replay would have it; a report that may not return stays, and is counted.
    """
    for rule in places.fleet.made_rules:
        found = list(reports_of(places.fleet, places.raw, rule, whom))
        staying = [each for each in found if each.rest is not None and not each.report.returnable]
        for each in found:
            if each.rest is not None and each.report.returnable:
                places.raw.put_new(rule.raw_key(each.report.name), each.rest)
        going = [each.version for each in found if each not in staying]
        journal.note(reports=dict.fromkeys(journal.sizes(going), 1))
        places.raw.delete(going)
        journal.undivided |= {*journal.sizes([each.version for each in staying])}
        for records in list(records_reported_of(places.fleet, places.raw, rule, whom)):
            if (others := records.others) is not None:
                places.raw.put_new(rule.batch_key(others.batch), others.body)
            journal.note(reports=dict.fromkeys(journal.sizes([records.version]), len(records.own)))
            places.raw.delete([records.version])


def _erase_verdicts(places: Places, name: str) -> str:
    """Remove the records of what is wrong with hours that name the vehicle, once the newest does not; say how many."""
    spelling, count = Spelling(name, places.fleet.thing_prefix), 0
    for rule in places.fleet.rules:
        gone = Ledger(places.store, places.lake.prefix, rule).without(spelling)
        places.store.delete(gone)
        count += len(gone)
    return f"{count:,} records that named it were removed"


def _named_columns(places: Places, name: str) -> str:
    """Say how many columns are named by the vehicle: a message that has a field for each vehicle makes such, and what
    others have in a table is not taken from it.
    """
    spelling = Spelling(name, places.fleet.thing_prefix)
    count = sum(
        any(part == name or spelling.stands_in(part) for part in column.path)
        for lake in places.lake.generations()
        for rule in places.fleet.rules
        for column in lake.contract(rule).columns.values()
    )
    if not count:
        return "none has it"
    return f"{count:,} columns have it and stay; a table written anew with a contract without them has none"


def _erase_derived(places: Places, hours: Sequence[Hour], whom: Whom, journal: Journal) -> None:
    """Compute the derived tables anew, and remove every revision that names the vehicle and is not the last."""
    fleet, lake = places.fleet, places.lake
    hourly, daily = hourly_table(lake.store, fleet), daily_table(lake.store)
    last = hourly.all_last()
    for hour in hours:
        if hour.path in last:
            ended = any(lake.found(rule, hour).ended for rule in fleet.rules)
            compute = partial(_left_out, hourly, hour, whom) if ended else partial(seen, fleet, lake, hour)
            _renew(places, hourly, hour.path, whom.name, compute, journal)
    last = daily.all_last()
    for day in sorted({hour.start.date() for hour in hours}):
        if f"date={day}" in last:
            _renew(places, daily, f"date={day}", whom.name, partial(rolled_up, lake.store, day), journal)


def _left_out(table: DerivedTable, hour: Hour, whom: Whom) -> None:
    """Leave the vehicle out of what is said of an hour of which the rows are gone."""
    table.revise(hour.path, lambda rows: rows.filter(pc.not_equal(rows["vehicle"], whom.name)))


def _renew(  # noqa: PLR0913, PLR0917
    places: Places, table: DerivedTable, partition: str, name: str, compute: Callable[[], object], journal: Journal
) -> None:
    named = [part for part in table.revisions(partition) if names(table, part, name)]
    if not named:
        return
    compute()
    last = table.last(partition)
    keys = {part.key for part in named if last is None or part.key != last.key}
    gone = [
        version for key in sorted(keys) for page in places.store.versions(key) for version in page if version.key == key
    ]
    journal.note(revisions=journal.sizes(gone))
    places.store.delete(gone)
