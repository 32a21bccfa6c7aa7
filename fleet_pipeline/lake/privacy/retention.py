"""What goes because it is old: raw objects, hours of the lake, days of the derived tables, each by its own setting.

Not for: reports and uploads that never ended, which lifecycle rules of the buckets remove: of these nothing must be
proved first.

A raw hour goes once every version of it was read again and compared with its row, in this very call. An hour of the
lake goes when no raw object of it is left, since compaction would write it again: it is said to be ended, which every
reader of parts sees in one step, then the tables' history lets go of its parts, then these are removed. Killed
anywhere, the next call goes on; two at once end as one.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from fleet_pipeline.aws.store import ObjectVersion
from fleet_pipeline.lake.batches import BatchHour
from fleet_pipeline.lake.containment import contained
from fleet_pipeline.lake.fetching import RawHour
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.listing import NO_DIGIT, shard_starts
from fleet_pipeline.lake.operations.verify import Purged, proven_batches, purge_hour, verify_hour
from fleet_pipeline.lake.privacy.places import Places, Progress
from fleet_pipeline.lake.workplace import workplace
from fleet_pipeline.model.errors import AwsRefused, FleetError, NotVerified
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule

DERIVED = ("vehicles_daily", "vehicles_hourly")
"""The tables about vehicles; the one first that is computed of the other."""

REFUSALS = 3
"""Hours of a rule in a row that AWS refuses before the run ends: a role without the right would have every message
read, each day, for nothing.
"""

_DAY = re.compile(r"date=([0-9]{4}-[0-9]{2}-[0-9]{2})/.*revision-[0-9]{5}\.parquet")

RAW, LAKE, TABLES = "raw objects", "lake", "tables about vehicles"


@dataclass(frozen=True, slots=True)
class InTheWay:
    """An hour that is old enough to go, and why it stays."""

    what: str
    rule: str
    hour: str
    why: str

    def __str__(self) -> str:
        return f"{self.what} {self.rule} {self.hour}: {self.why}"


@dataclass(slots=True)
class Gone:
    """What went, or would go."""

    raw_hours: int = 0
    raw_versions: int = 0
    raw_bytes: int = 0
    kept: int = 0
    """Raw versions that stay although their row is there: no byte in the lake proves them, or they have no id."""
    lake_hours: int = 0
    part_bytes: int = 0
    """Of every version of the parts."""
    snapshots: int = 0
    """Of Iceberg tables, that led to these parts."""
    days: int = 0
    """Of the tables about vehicles, each counted in both."""
    revisions: int = 0
    in_the_way: list[InTheWay] = field(default_factory=list)
    read_only: Counter[str] = field(default_factory=Counter)
    """Hours of the lake that stay, by rule, because their objects lie in a bucket that is only read: as documented, and
    in nobody's way.
    """
    following: dict[str, datetime] = field(default_factory=dict)
    """For each kind of which there is more: when the next goes, if it is in nobody's way."""
    requests: Counter[str] = field(default_factory=Counter)


def age_out(places: Places, now: datetime, *, dry_run: bool = False, on_progress: Progress = lambda *_: None) -> Gone:
    """Return once all is gone that the settings say is too old, and nothing else; or, of a dry run, what would go.

    A dry run reads and verifies what the other would, and writes nothing. What cannot go is named, and holds up nothing
    else. Raw objects in buckets that are only read stay, however old. A second run finds nothing. Rules that the
    settings do not name are not looked at. Raises AwsRefused when AWS refuses some hours in a row.
    """
    run, asked = _Run(places, now, dry_run, on_progress), places.requests
    fleet = places.fleet
    for rule in fleet.made_rules if fleet.raw_retention_days else ():
        run.raw(rule, timedelta(days=fleet.raw_retention_days))
    for rule in fleet.rules if fleet.lake_retention_days else ():
        run.lake(rule, timedelta(days=fleet.lake_retention_days))
    if fleet.derived_retention_days:
        run.derived(timedelta(days=fleet.derived_retention_days))
    run.gone.requests = places.requests - asked
    return run.gone


@dataclass(slots=True)
class _Run:
    places: Places
    now: datetime
    dry_run: bool
    on_progress: Progress
    gone: Gone = field(default_factory=Gone)
    emptied: set[tuple[str, Hour]] = field(default_factory=set)
    """Raw hours of rules that a dry run would have emptied."""
    going: set[tuple[str, Hour]] = field(default_factory=set)
    """Hours of the lake that it would have ended."""

    def raw(self, rule: Rule, age: timedelta) -> None:
        """Purge the hours of a rule that ended before an age."""
        before = Hour.of(self.now - age)
        hours = sorted({*_raw_hours(self.places, rule, before=before)})
        refused = 0
        for number, hour in enumerate(hours):
            self.on_progress(f"{rule.key}: raw hours proved", number, len(hours))
            try:
                with contained(f"{rule.key} {hour.partition_key}"):
                    self._purged(rule, hour)
                refused = 0
            except FleetError as error:
                if not _raw_versions(self.places, rule, hour):
                    continue  # another run was faster
                self._stays(RAW, rule, hour, str(error))
                refused = refused + 1 if isinstance(error, AwsRefused) else 0
                if refused == REFUSALS:
                    raise
        self._next(RAW, age, _first_hour_since(self.places, rule, before))

    def _purged(self, rule: Rule, hour: Hour) -> None:
        places, gone = self.places, self.gone
        done = (
            _provable(places, rule, hour)
            if self.dry_run
            else purge_hour(places.raw, places.lake, rule, hour, now=self.now)
        )
        gone.raw_hours += bool(done.versions)
        gone.raw_versions += done.versions
        gone.raw_bytes += done.raw_bytes
        gone.kept += done.kept
        if done.kept:
            self._stays(RAW, rule, hour, f"{done.kept} raw versions, whose bytes the lake does not hold, stay")
        elif self.dry_run:
            self.emptied.add((rule.key, hour))

    def lake(self, rule: Rule, age: timedelta) -> None:
        """End the hours of a rule that ended before an age, in every generation, and remove their parts."""
        places, before = self.places, Hour.of(self.now - age)
        generations = places.lake.generations()
        every = {each: each.all_parts(rule) for each in generations}
        hours = sorted({hour for parts in every.values() for hour in parts if hour < before})
        coming = bool(places.lake.coming())
        for number, hour in enumerate(hours):
            self.on_progress(f"{rule.key}: hours of the lake", number, len(hours))
            if why := self._holding(rule, hour, coming=coming):
                if any(parts.get(hour) for parts in every.values()):
                    if rule.bucket and not coming:
                        self.gone.read_only[rule.key] += 1
                    else:
                        self._stays(LAKE, rule, hour, why)
            else:
                self._ended(generations, rule, hour)
        if self.dry_run:
            going = [
                parts.get(hour, []) for parts in every.values() for hour in hours if (rule.key, hour) in self.going
            ]
            self.gone.part_bytes += sum(part.size for parts in going for part in parts)
        else:
            self._remove(generations, rule, hours)
        later = [hour for hour, parts in every[generations[-1]].items() if parts and hour >= before]
        self._next(LAKE, age, min(later, default=None))

    def _holding(self, rule: Rule, hour: Hour, *, coming: bool) -> str:
        """Return why an hour of the lake cannot go."""
        if coming:
            return "a new generation of the table is being written: end the rewrite first"
        if (rule.key, hour) in self.emptied:
            return ""
        count = _raw_versions(self.places.at(rule), rule.by_listing, hour)  # an inventory may lack what came since
        return f"{count} of its raw versions are there, of which it would be written again" if count else ""

    def _ended(self, generations: Sequence[Lake], rule: Rule, hour: Hour) -> None:
        if self.dry_run:
            self.gone.lake_hours += 1
            self.going.add((rule.key, hour))
            return
        had_parts = [each.end(rule, hour) for each in generations]
        self.gone.lake_hours += any(had_parts)

    def _remove(self, generations: Sequence[Lake], rule: Rule, hours: Sequence[Hour]) -> None:
        """Remove what is no part of these hours any more, once no table leads to it."""
        found = [each for hour in hours for lake in generations for each in lake.replaced(rule, hour)]
        parts = sorted({each.key for each in found if each.key.endswith(".parquet")})
        if parts:
            self.places.history.synced(rule)
            self.places.history.let_readers_end()
            self.gone.snapshots += self.places.history.forget(rule, parts)
        self.gone.part_bytes += sum(each.size for each in found)
        self.places.store.delete(found)

    def derived(self, age: timedelta) -> None:
        """Remove the days of the tables about vehicles that ended before an age, and of which the lake has no row."""
        places, before = self.places, (self.now - age).strftime("%Y-%m-%d")
        held = {
            f"{hour.start:%Y-%m-%d}"
            for lake in places.lake.generations()
            for rule in places.fleet.rules
            for hour, parts in lake.all_parts(rule).items()
            if parts and (rule.key, hour) not in self.going
        }
        for table in DERIVED:
            days: dict[str, list[ObjectVersion]] = {}
            for day, version in _revisions(places, table):
                days.setdefault(day, []).append(version)
            for day, versions in sorted(days.items()):
                if day >= before:
                    continue
                if day in held:
                    self.gone.in_the_way.append(InTheWay(TABLES, table, day, "the lake has rows of that day"))
                    continue
                self.gone.days += 1
                self.gone.revisions += len(versions)
                if not self.dry_run:
                    last = versions[-1].key  # the revision that counts goes last
                    places.store.delete([each for each in versions if each.key != last])
                    places.store.delete([each for each in versions if each.key == last])
            later = min((day for day in days if day >= before), default=None)
            if later:
                end = datetime.strptime(later, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1) + age
                self.gone.following[TABLES] = min(end, self.gone.following.get(TABLES, end))

    def _stays(self, what: str, rule: Rule, hour: Hour, why: str) -> None:
        self.gone.in_the_way.append(InTheWay(what, rule.key, hour.partition_key, why))

    def _next(self, what: str, age: timedelta, hour: Hour | None) -> None:
        if hour is not None:
            due = hour.end + age
            self.gone.following[what] = min(due, self.gone.following.get(what, due))


def _provable(places: Places, rule: Rule, hour: Hour) -> Purged:
    """Return what a purge would delete. Raises NotVerified."""
    partition, sizes = places.lake.partition(rule, hour), list[int]()
    found = verify_hour(places.raw, places.lake, rule, hour, lambda version: sizes.append(version.size))
    own = [batch for batch in BatchHour(places.raw, places.lake, rule, hour).listed if batch.hour == hour]
    if not found.passed:
        why = f"{found.missing} versions have no row, {found.altered} another payload, {found.doubled} rows are double"
        raise NotVerified(partition, why)
    if places.lake.coming():
        raise NotVerified(partition, "a new generation of the table is being written: end the rewrite first")
    with workplace() as folder:
        proven = proven_batches(places.raw, places.lake, (rule, hour), own, folder)
    sizes += [batch.version.size for batch in proven]
    return Purged(len(sizes), sum(sizes), found.objects + len(own) - len(sizes))


def _raw_hours(places: Places, rule: Rule, *, before: Hour) -> Iterator[Hour]:
    """Yield the hours before another of the keys that a rule wrote, some more than once, and those in which its
    batches begin.
    """
    ranges = (
        *((start, "", f"{start}{before.start_ms}") for start in shard_starts(places.raw, rule)),
        (rule.batch_prefix, "", f"{rule.batch_prefix}{before.start:%Y/%m/%d/%H}/"),
    )
    yield from (hour for each in ranges for hour in _hours_of(places, rule, *each))


def _first_hour_since(places: Places, rule: Rule, since: Hour) -> Hour | None:
    ranges = (
        *((start, f"{start}{since.start_ms - 1}.", f"{start}{NO_DIGIT}") for start in shard_starts(places.raw, rule)),
        (rule.batch_prefix, f"{rule.batch_prefix}{since.start:%Y/%m/%d/%H}/", ""),
    )
    first = [hour for each in ranges if (hour := next(_hours_of(places, rule, *each), None))]
    return min(first, default=None)


def _hours_of(places: Places, rule: Rule, prefix: str, after: str, until: str = "") -> Iterator[Hour]:
    for page in places.raw.versions(prefix, after, until):
        for version in page:
            name = rule.parse_batch_key(version.key) if prefix == rule.batch_prefix else rule.parse_raw_key(version.key)
            if name:
                yield Hour.of_millis(name.millis)


def _raw_versions(places: Places, rule: Rule, hour: Hour) -> int:
    """Return how many raw objects may have messages of an hour."""
    batches = BatchHour(places.raw, places.lake, rule, hour).holding
    return sum(len(block) for block in RawHour(places.raw, rule, hour).blocks()) + len(batches)


def _revisions(places: Places, table: str) -> Iterator[tuple[str, ObjectVersion]]:
    """Yield every version of a derived table's revisions, with its day, in the order of keys."""
    for page in places.store.versions(f"{table}/"):
        for version in page:
            if found := _DAY.fullmatch(version.key[len(table) + 1 :]):
                yield found[1], version
