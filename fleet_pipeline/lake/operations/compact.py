"""Many hours: what compacting them would read, write and cost; and compacting them, on an engine."""

import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.aws.store import S3Store, Store
from fleet_pipeline.lake.batches import BatchHour
from fleet_pipeline.lake.commit import standing
from fleet_pipeline.lake.containment import outcome_of
from fleet_pipeline.lake.encodings import reader
from fleet_pipeline.lake.fetching import EXAMPLES, RawHour
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.listing import SPAN_VERSIONS, Folders, Listing
from fleet_pipeline.lake.operations.compact_hour import Compacted, Progress, Unit, compact_hour
from fleet_pipeline.lake.operations.engine import engine
from fleet_pipeline.lake.operations.hours import Hours, Spans
from fleet_pipeline.lake.reading import Identities, opened
from fleet_pipeline.lake.records import PIECE
from fleet_pipeline.model.errors import FleetError
from fleet_pipeline.model.fleet import NEW_COLUMN_MESSAGES, Fleet
from fleet_pipeline.model.form import Form
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule

HERE_S = 1.0
"""Seconds for which short hours are compacted in this process, before others are started."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What compacting an hour would do."""

    raw_versions: int
    raw_bytes: int
    foreign_keys: int
    rows: int
    """Rows that the lake holds already."""
    missing: int
    """Versions that would be read and become rows: one GET each."""
    missing_bytes: int
    list_requests: int
    batches: int = 0
    """Batch objects that would be read: how many messages they hold is known then."""
    batch_pieces: int = 0
    """GETs for them."""

    @property
    def get_requests(self) -> int:
        """GETs of raw objects."""
        return self.missing + self.batch_pieces

    @property
    def put_requests(self) -> int:
        """Parts that would be written, at most one for some hours and none for a finished one; for batches, one more,
        and the note of which were read.
        """
        return (1 if self.missing else 0) + (2 if self.batches else 0)


def forecast_hour(raw: Store, lake: Lake, rule: Rule, hour: Hour) -> Forecast:
    """Return what `compact_hour` would do now.

    Lists the raw objects and reads the identities that the lake holds, and no message.
    """
    asked = raw.requests["LIST"] + lake.store.requests["LIST"]
    known = Identities.of(opened(lake.store, part) for part in lake.parts(rule, hour))
    listed = RawHour(raw, rule, hour)
    missing = missing_bytes = 0
    for versions in listed.blocks():
        new = known.missing(versions)
        missing, missing_bytes = missing + len(new), missing_bytes + sum(version.size for version in new)
    batches = BatchHour(raw, lake, rule, hour)
    unread = [batch.version.size for batch in batches.unread]
    lists = raw.requests["LIST"] + lake.store.requests["LIST"] - asked
    return Forecast(
        listed.versions + batches.noted_messages,
        listed.bytes + batches.bytes,
        listed.foreign + len(batches.foreign),
        known.rows,
        missing,
        missing_bytes + sum(unread),
        lists,
        len(unread),
        sum(-(-size // PIECE) for size in unread),
    )


class _Kept:
    """What hours of one process leave to the next ones: open connections, and what there is in the raw bucket."""

    def __init__(self) -> None:
        self.folders: Folders | None = None
        self._idle: deque[tuple[S3Store, S3Store]] = deque()
        weakref.finalize(self, _close, self._idle)

    def __reduce__(self) -> "tuple[type[_Kept], tuple[()]]":
        return _Kept, ()  # another process connects by itself

    @contextmanager
    def lent(self, connected: Callable[[], tuple[S3Store, S3Store]]) -> Iterator[tuple[S3Store, S3Store]]:
        """Lend two stores that nobody else uses meanwhile. They are kept unless an error comes."""
        try:
            stores = self._idle.pop()
        except IndexError:
            stores = connected()
        try:
            yield stores
        except BaseException:
            _close([stores])
            raise
        for store in stores:
            store.forget()
        self._idle.append(stores)


def _close(stores: Iterable[tuple[S3Store, S3Store]]) -> None:
    for store in chain.from_iterable(stores):
        store.close()


@dataclass(frozen=True)
class Compaction:
    """The compaction of one rule's hours, as a process of its own can be given it."""

    aws: Aws
    bucket: str
    lake_bucket: str
    prefix: str
    rule: Rule
    form: Form = Form()
    new_column_messages: int = NEW_COLUMN_MESSAGES
    span_versions: int = SPAN_VERSIONS
    """Versions of a span, when a long hour is cut."""
    kept: _Kept = field(default_factory=_Kept, compare=False, repr=False)

    @classmethod
    def of(cls, fleet: Fleet, aws: Aws, rule: Rule) -> "Compaction":
        """Return the compaction of one of a fleet's rules.

        Raises MissingExtra, and InvalidSetting for a file of descriptors, where its messages cannot be read at all.
        """
        reader(rule.encoding)
        return cls(
            aws,
            fleet.bucket_of(rule),
            fleet.lake_bucket,
            fleet.parquet_prefix,
            rule,
            fleet.form,
            fleet.new_column_messages,
        )

    @property
    def unused(self) -> "Compaction":
        """The same, as it can be sent to another process: a session that was used cannot be."""
        return replace(self, aws=replace(self.aws))

    @property
    def raw(self) -> Store:
        """The bucket of raw objects."""
        return S3Store(self.aws, self.bucket)

    @property
    def lake(self) -> Lake:
        """The generation of the table that readers use, in a bucket that overwrites nothing unasked."""
        return self._lake(S3Store(self.aws, self.lake_bucket))

    @contextmanager
    def opened(self) -> Iterator[tuple[Store, Lake]]:
        """Lend both. Their connections are kept for the next who asks; all are closed as nobody has this any more."""
        with self.kept.lent(self._connected) as (raw, store):
            yield raw, self._lake(store)

    def _connected(self) -> tuple[S3Store, S3Store]:
        return S3Store(self.aws, self.bucket), S3Store(self.aws, self.lake_bucket)

    def _folders(self, raw: Store, hour: Hour) -> Folders:
        """Return what there is beside an hour's keys, asked once for hours that come one after the other."""
        if self.kept.folders is None or not self.kept.folders.serves(hour):
            self.kept.folders = Folders.of(raw, self.rule)
        return self.kept.folders

    def _lake(self, store: S3Store) -> Lake:
        store.prove()
        return Lake.current(store, self.prefix, self.form, self.new_column_messages)

    def __call__(self, unit: Unit, tell: Callable[[Progress], None]) -> Compacted | Spans | FleetError:
        """Compact an hour, or a span of it; or say into which spans an hour is to be cut, because it is long; or why
        neither can be.
        """
        return outcome_of(f"{self.rule.key} {unit}", lambda: self._done(unit, tell))

    def _done(self, unit: Unit, tell: Callable[[Progress], None]) -> Compacted | Spans:
        with self.opened() as (raw, lake):
            if unit.span:
                return compact_hour(raw, lake, self.rule, unit.hour, span=unit.span, on_progress=tell)
            listing = Listing(raw, self.rule, unit.hour, self._folders(raw, unit.hour))
            if cut := listing.spans(self.span_versions):
                return Spans(cut)
            return compact_hour(raw, lake, self.rule, unit.hour, listing=listing, on_progress=tell)

    def short(self, hour: Hour, tell: Callable[[Progress], None]) -> Compacted | FleetError | None:
        """Compact an hour that is short (`Listing.is_short`), or say why it cannot be; None for any other, of which
        nothing is done.
        """
        return outcome_of(f"{self.rule.key} {hour.partition_key}", lambda: self._short(hour, tell))

    def _short(self, hour: Hour, tell: Callable[[Progress], None]) -> Compacted | None:
        with self.opened() as (raw, lake):
            listing = Listing(raw, self.rule, hour, self._folders(raw, hour))
            if not listing.is_short:
                return None
            return compact_hour(raw, lake, self.rule, hour, listing=listing, on_progress=tell)

    def joined(self, hour: Hour, of_spans: Sequence[Compacted]) -> Compacted:
        """Return what the lake holds of an hour whose spans were compacted one by one, and what all of them took."""
        with self.opened() as (_, lake):
            files = standing(lake, self.rule, hour)
            schema = lake.contract(self.rule).schema
        rows, added = sum(file.rows for file in files), sum(each.rows_added for each in of_spans)
        totals = {
            name: sum(getattr(each, name) for each in of_spans)
            for name in (
                *("raw_versions", "raw_bytes", "recovered_collisions", "foreign_keys", "parquet_bytes"),
                *("get_requests", "list_requests", "put_requests", "seconds", "erased", "batches", "doubled"),
            )
        }
        return Compacted(
            **totals,
            foreign_examples=tuple(key for each in of_spans for key in each.foreign_examples)[:EXAMPLES],
            held=sum(file.versions for file in files),
            rows_before=rows - added,
            rows_added=added,
            rows=rows,
            statuses=dict(sorted(sum((Counter(each.statuses) for each in of_spans), Counter()).items())),
            parts_added=tuple(sorted(key for each in of_spans for key in each.parts_added)),
            schema=schema,
            damaged=tuple(said for each in of_spans for said in each.damaged),
            strays={hour: count for each in of_spans for hour, count in each.strays.items()},
        )


def compact_hours(
    compaction: Compaction,
    hours: Iterable[Hour],
    *,
    processes: int | None = None,
    on: str = "processes",
    on_progress: Callable[[Hour, Progress], None] = lambda *_: None,
) -> Iterator[tuple[Hour, Compacted | FleetError]]:
    """Yield every hour with what was done, as they are finished: several at once, by as many processes as there are
    cores, or by a Dask cluster (`on`, as in the setting FLEET_ENGINE). A long hour is cut into spans. Unless somebody
    says how many processes, short hours are compacted in this one for as long as it takes to start others.

    An hour that fails holds up no other; its error stands in its place. Stopped, the finished hours are finished and no
    other is begun. Raises ProcessLost when one of the processes was killed, and EngineUnreachable when there is no
    cluster for a minute. Processes end by themselves when this one does.
    """
    waiting = iter(hours)
    if on == "processes" and processes is None:
        waiting = yield from _short_ones(compaction, waiting, on_progress)
    for first in waiting:
        with engine(compaction.unused, on, processes) as doing:
            yield from Hours(compaction.rule.key, doing, compaction.joined, on_progress).of(chain([first], waiting))


def _short_ones(
    compaction: Compaction, hours: Iterator[Hour], on_progress: Callable[[Hour, Progress], None]
) -> Generator[tuple[Hour, Compacted | FleetError], None, Iterator[Hour]]:
    """Yield the first hours while they are short, for a time; return those that are left."""
    begun = time.monotonic()
    for hour in hours:
        in_time = time.monotonic() - begun < HERE_S
        outcome = compaction.short(hour, partial(on_progress, hour)) if in_time else None
        if outcome is None:
            return chain([hour], hours)
        yield hour, outcome
    return hours
