"""A look at hours: what each has of raw objects beside its rows. It compacts nothing."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from fleet_pipeline.aws.store import Store
from fleet_pipeline.lake.batches import BatchHour
from fleet_pipeline.lake.commit import standing
from fleet_pipeline.lake.containment import outcome_of
from fleet_pipeline.lake.fetching import EXAMPLES, RawHour, fetched
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.listing import Folders, Listing
from fleet_pipeline.lake.operations.compact import Compaction
from fleet_pipeline.lake.operations.compact_hour import Progress, Unit, remaining
from fleet_pipeline.lake.operations.engine import engine
from fleet_pipeline.lake.operations.hours import Hours, Spans
from fleet_pipeline.lake.reading import Identities, PartFile
from fleet_pipeline.lake.rows import identity
from fleet_pipeline.lake.tombstones import Tombstones
from fleet_pipeline.lake.workplace import workplace
from fleet_pipeline.model.errors import CompactionError, FleetError
from fleet_pipeline.model.hour import Hour, Span
from fleet_pipeline.model.rule import Rule


@dataclass(frozen=True, slots=True)
class Seen:
    """An hour's raw objects beside its rows."""

    versions: int
    bytes: int
    held: int
    """Versions of which there is a row."""
    rows: int
    uncompacted: int
    """Versions that have no row."""
    foreign: tuple[str, ...]
    """Some keys that no rule would have written."""


def look(raw: Store, lake: Lake, rule: Rule, hour: Hour) -> Seen:
    """Return what an hour has of raw objects and of rows. Of an hour whose parts are not whole no row counts.

    The sums of both sides' identities tell whether they are the same. Where they are not, because messages came late or
    raw objects were purged, each version is looked up among the rows.
    """
    files = _files(lake, rule, hour)
    return _beside(_listed(raw, rule, hour), files, raw, lake, (rule, hour))


def look_at_hours(
    compaction: Compaction, hours: Sequence[Hour], *, on: str = "processes", processes: int | None = None
) -> Iterator[tuple[Hour, Seen | FleetError]]:
    """Yield what each hour has, or why it could not be looked at: that holds up no other.

    Long hours come last, in spans on an engine, as `compact_hours` has them: there they are listed and, where the sums
    differ, looked up. To know which are long costs up to ten requests for an hour that has no rows or a million.
    Raises ProcessLost and EngineUnreachable.
    """
    rule, long = compaction.rule, list[Hour]()
    with compaction.opened() as (raw, lake):
        folders = Folders.of(raw, rule) if hours else None
        for hour in hours:
            seen = outcome_of(_what(rule, hour), partial(_unless_long, raw, lake, compaction, hour, folders))
            if seen is None:
                long.append(hour)
            else:
                yield hour, seen
        for hour, listed in _listed_on_engine(compaction, lake, long, on, processes):
            if isinstance(listed, FleetError):
                yield hour, listed
            else:
                beside = partial(_beside, listed, _files(lake, rule, hour), raw, lake, (rule, hour))
                yield hour, outcome_of(_what(rule, hour), beside)


def _what(rule: Rule, hour: Hour) -> str:
    return f"{rule.key} {hour.partition_key}"


def _unless_long(raw: Store, lake: Lake, compaction: Compaction, hour: Hour, folders: Folders | None) -> Seen | None:
    """Return what an hour has, or None where it is so long that spans of it are to be listed one by one."""
    rule, many = compaction.rule, 2 * compaction.span_versions
    files = _files(lake, rule, hour)
    may_be_long = not files or sum(file.versions for file in files) >= many
    listing = Listing(raw, rule, hour, folders)
    if may_be_long and listing.spans(compaction.span_versions):
        return None
    listed = _listed(raw, rule, hour, listing)
    return _beside(listed, files, raw, lake, (rule, hour), looks=listing.may_have_batches)


@dataclass(frozen=True, slots=True)
class _Listed:
    """An hour's raw objects, or those of a span of it."""

    versions: int
    bytes: int
    fingerprint: int
    """The sum of the identities of all versions."""
    foreign: tuple[str, ...]
    missing: int | None = None
    """Versions that have no row, where they were looked up."""


def _listed(raw: Store, rule: Rule, hour: Hour | Span, listing: Listing | None = None) -> _Listed:
    listed, fingerprint = RawHour(raw, rule, hour, listing), 0
    for versions in listed.blocks():
        fingerprint += sum(int(identity(version), 16) for version in versions)
    return _Listed(listed.versions, listed.bytes, fingerprint, tuple(listed.foreign_examples))


def _joined(_hour: Hour, of_spans: Sequence[_Listed]) -> _Listed:
    return _Listed(
        sum(each.versions for each in of_spans),
        sum(each.bytes for each in of_spans),
        sum(each.fingerprint for each in of_spans),
        tuple(key for each in of_spans for key in each.foreign)[:EXAMPLES],
        None if any(each.missing is None for each in of_spans) else sum(each.missing or 0 for each in of_spans),
    )


@dataclass(frozen=True)
class _Listing:
    """The listing of a long hour's spans, as an engine can be given it."""

    compaction: Compaction
    looks_up: bool = False
    """Whether each version is looked up among the rows."""

    def __call__(self, unit: Unit, tell: Callable[[Progress], None]) -> _Listed | Spans | FleetError:  # noqa: ARG002
        """List a span of an hour; or say which spans it has; or why neither can be."""
        return outcome_of(f"{self.compaction.rule.key} {unit}", lambda: self._done(unit.hour, unit.span))

    def _done(self, hour: Hour, span: Span | None) -> _Listed | Spans:
        rule = self.compaction.rule
        with self.compaction.opened() as (raw, lake):
            if not span:
                cut = Listing(raw, rule, hour).spans(self.compaction.span_versions)
                return Spans(cut or [Span(hour.start_ms, hour.end_ms)])
            listed = _listed(raw, rule, span)
            if not self.looks_up:
                return listed
            files = _files(lake, rule, hour)
            missing = listed.versions if files is None else _missing(raw, lake, rule, span, files)
            return replace(listed, missing=missing)


def _listed_on_engine(
    compaction: Compaction, lake: Lake, hours: Sequence[Hour], on: str, processes: int | None
) -> Iterator[tuple[Hour, _Listed | FleetError]]:
    """Yield long hours as they are listed; those whose sum is not that of the rows come last, looked up."""
    if not hours:
        return
    work, rule, differing = _Listing(compaction.unused), compaction.rule, list[Hour]()
    with engine(work, on, processes) as doing:
        for hour, listed in Hours(rule.key, doing, _joined).of(hours):
            if isinstance(listed, FleetError) or _is_all(listed, _files(lake, rule, hour)):
                yield hour, listed
            else:
                differing.append(hour)
    if differing:
        with engine(replace(work, looks_up=True), on, processes) as doing:
            yield from Hours(rule.key, doing, _joined).of(differing)


def _files(lake: Lake, rule: Rule, hour: Hour) -> list[PartFile] | None:
    """Return the hour's parts, or None where they are not whole."""
    try:
        return standing(lake, rule, hour)
    except CompactionError:
        return None


def _is_all(listed: _Listed, files: Sequence[PartFile] | None) -> bool:
    """Whether the rows are those of the raw objects that are listed; purged ones all together are no difference."""
    return not listed.versions or sum(file.fingerprint or 0 for file in files or ()) == listed.fingerprint


def _beside(  # noqa: PLR0913 (both sides, and where)
    listed: _Listed,
    files: list[PartFile] | None,
    raw: Store,
    lake: Lake,
    place: tuple[Rule, Hour],
    *,
    looks: bool = True,
) -> Seen:
    """Return what an hour has, by parts that were there before it was listed; `looks` says whether for batches, too."""
    rule, hour = place
    batches = BatchHour(raw, lake, rule, hour, writes=True, looks=looks)
    if not _is_all(listed, files) or batches.unread:
        files = _files(lake, rule, hour)  # a compaction may have come between
    uncompacted = messages = 0
    try:
        if files is None:
            uncompacted = listed.versions
        elif not _is_all(listed, files):
            uncompacted = _missing(raw, lake, rule, hour, files) if listed.missing is None else listed.missing
        if files is not None:
            uncompacted += _missing_of_batches(batches, files)
            messages = batches.noted_messages or batches.messages
    except CompactionError:
        files, uncompacted, messages = None, listed.versions, 0
    return Seen(
        listed.versions + messages,
        listed.bytes + batches.bytes,
        sum(file.versions for file in files or ()),
        sum(file.rows for file in files or ()),
        uncompacted,
        (*listed.foreign, *batches.foreign)[:EXAMPLES],
    )


def _missing(raw: Store, lake: Lake, rule: Rule, hour: Hour | Span, files: Sequence[PartFile]) -> int:
    """Return how many versions have no row, without those of erased vehicles: to tell these, where there are any, costs
    a GET for each version without a row.
    """
    known, erased = Identities.of(files), Tombstones.of(lake.store, lake.prefix, rule.encoding)
    missing = (known.missing(block) for block in RawHour(raw, rule, hour).blocks())
    if not erased:
        return sum(map(len, missing))
    messages = fetched(raw, (block for block in missing if block))
    return sum(len(remaining(erased, rule, versions, payloads)) for versions, payloads in messages)


def _missing_of_batches(batches: BatchHour, files: Sequence[PartFile]) -> int:
    """Return how many messages of the hour have no row, in batches that nobody has read for it; where none has none,
    it is noted.
    """
    if not (unread := batches.unread):
        return 0
    known, lake = Identities.of(files), batches.lake
    parts = {each.number for each in batches.noted_later([file.part for file in files])}
    not_noted = Identities.of(file for file in files if file.part.number in parts)
    missing = repeated = gone = 0
    erased = Tombstones.of(lake.store, lake.prefix, batches.rule.encoding)
    with workplace() as folder:
        for rows in batches.tables(unread, folder):
            lacking = known.without(rows)
            staying = erased.of_rows(lacking).num_rows
            missing, gone = missing + staying, gone + lacking.num_rows - staying
            repeated += not_noted.without(rows).num_rows - lacking.num_rows
    if not missing:
        repeated = repeated if batches.is_repeated else 0
        last = files[-1].part.number if files else -1
        batches.note(unread, batches.messages - repeated - gone, batches.doubled + repeated, last)
    return missing
