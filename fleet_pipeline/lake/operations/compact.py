"""Many hours: what compacting them would read, write and cost; and compacting them, on an engine."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.aws.store import S3Store, Store
from fleet_pipeline.lake.batches import BatchHour
from fleet_pipeline.lake.containment import outcome_of
from fleet_pipeline.lake.fetching import EXAMPLES, RawHour
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.listing import SPAN_VERSIONS, spans
from fleet_pipeline.lake.operations.compact_hour import Compacted, Progress, Unit, compact_hour
from fleet_pipeline.lake.operations.engine import Engine, Lost, engine
from fleet_pipeline.lake.reading import Identities, opened
from fleet_pipeline.lake.records import PIECE
from fleet_pipeline.model.errors import FleetError, ProcessLost
from fleet_pipeline.model.fleet import NEW_COLUMN_MESSAGES, Fleet
from fleet_pipeline.model.form import Form
from fleet_pipeline.model.hour import Hour, Span
from fleet_pipeline.model.rule import Rule

TELL_EVERY = 0.5
"""Seconds between two looks at how far the processes are."""


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
    known = Identities()
    for part in lake.parts(rule, hour):
        known.add(opened(lake.store, part))
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


@dataclass(frozen=True, slots=True)
class Spans:
    """An hour is so long that spans of it are compacted one by one."""

    spans: list[Span]


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

    @classmethod
    def of(cls, fleet: Fleet, aws: Aws, rule: Rule) -> "Compaction":
        """Return the compaction of one of a fleet's rules."""
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
    def raw(self) -> Store:
        """The bucket of raw objects."""
        return S3Store(self.aws, self.bucket)

    @property
    def lake(self) -> Lake:
        """The generation of the table that readers use, in a bucket that overwrites nothing unasked."""
        return self._lake(S3Store(self.aws, self.lake_bucket))

    def _lake(self, store: S3Store) -> Lake:
        store.prove()
        return Lake.current(store, self.prefix, self.form, self.new_column_messages)

    def __call__(self, unit: Unit, tell: Callable[[Progress], None]) -> Compacted | Spans | FleetError:
        """Compact an hour, or a span of it; or say into which spans an hour is to be cut, because it is long; or why
        neither can be.
        """
        return outcome_of(f"{self.rule.key} {unit}", lambda: self._done(unit, tell))

    def _done(self, unit: Unit, tell: Callable[[Progress], None]) -> Compacted | Spans:
        with closing(S3Store(self.aws, self.bucket)) as raw, closing(S3Store(self.aws, self.lake_bucket)) as store:
            if not unit.span and (cut := spans(raw, self.rule, unit.hour, self.span_versions)):
                return Spans(cut)
            return compact_hour(raw, self._lake(store), self.rule, unit.hour, span=unit.span, on_progress=tell)

    def joined(self, hour: Hour, of_spans: Sequence[Compacted]) -> Compacted:
        """Return what the lake holds of an hour whose spans were compacted one by one, and what all of them took."""
        with closing(S3Store(self.aws, self.lake_bucket)) as store:
            lake = self._lake(store)
            files = [opened(store, part) for part in lake.parts(self.rule, hour)]
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
    cores, or by a Dask cluster (`on`, as in the setting FLEET_ENGINE). A long hour is cut into spans.

    An hour that fails holds up no other; its error stands in its place. Stopped, the finished hours are finished and no
    other is begun. Raises ProcessLost when one of the processes was killed, and EngineUnreachable when there is no
    cluster for a minute. Processes end by themselves when this one does.
    """
    # A fresh copy: a session that was used cannot be sent to another process.
    job = replace(compaction, aws=replace(compaction.aws))
    with engine(job, on, processes) as doing:
        yield from _Hours(compaction, doing, on_progress).of(hours)


class _Hours:
    """Hours under way on an engine, some of them as spans."""

    def __init__(
        self,
        compaction: Compaction,
        doing: "Engine[Compacted | Spans | FleetError]",
        on_progress: Callable[[Hour, Progress], None],
    ) -> None:
        self._compaction, self._doing, self._on_progress = compaction, doing, on_progress
        self._asked: dict[Future[Any], Unit] = {}
        self._cut: dict[Hour, dict[Unit, Compacted | FleetError | None]] = {}
        """What came of each span of hours that were cut; None for each that is to come."""
        self._far: dict[Unit, Progress] = {}

    def of(self, hours: Iterable[Hour]) -> Iterator[tuple[Hour, Compacted | FleetError]]:
        waiting: Iterator[Unit] = (Unit(hour) for hour in hours)
        try:
            while True:
                for unit in islice(waiting, max(0, self._doing.ahead - len(self._asked))):
                    self._ask(unit)
                if not self._asked:
                    return
                done, _ = wait(self._asked, TELL_EVERY, FIRST_COMPLETED)
                self._tell()
                if not done:
                    self._doing.check()
                for each in done:
                    unit = self._asked.pop(each)
                    try:
                        outcome = self._doing.result(each)
                    except Lost:
                        self._ask(unit)
                        continue
                    if isinstance(outcome, Spans):
                        cut = [Unit(unit.hour, span) for span in outcome.spans]
                        self._cut[unit.hour] = dict.fromkeys(cut)
                        waiting = chain(cut, waiting)
                    elif (finished := self._finished(unit, outcome)) is not None:
                        yield unit.hour, finished
        except BrokenProcessPool as error:
            raise ProcessLost(tuple(sorted({unit.hour.partition_key for unit in self._asked.values()}))) from error

    def _ask(self, unit: Unit) -> None:
        self._asked[self._doing.submit(unit)] = unit

    def _tell(self) -> None:
        underway = set(self._asked.values())
        for unit, progress in self._doing.heard():
            if unit in underway:  # and not done meanwhile
                self._far[unit] = progress
                self._on_progress(unit.hour, self._of_hour(unit))

    def _of_hour(self, unit: Unit) -> Progress:
        """Return how far the hour of a unit is, all of its spans together."""
        if unit.span is None:
            return self._far[unit]
        of_hour = [far for each, far in self._far.items() if each.hour == unit.hour]
        share = sum(far.share for far in of_hour) / len(self._cut[unit.hour])
        return Progress(sum(far.objects for far in of_hour), max(far.seconds for far in of_hour), share)

    def _finished(self, unit: Unit, outcome: Compacted | FleetError) -> Compacted | FleetError | None:
        """Return what came of the hour of a unit that is done; None while other spans of it are under way."""
        if unit.span is None:
            self._far.pop(unit, None)
            return outcome
        found = self._cut[unit.hour]
        found[unit] = outcome
        done = [each for each in found.values() if each is not None]
        if len(done) < len(found):
            return None
        del self._cut[unit.hour]
        self._far = {each: far for each, far in self._far.items() if each.hour != unit.hour}
        for each in done:
            if isinstance(each, FleetError):
                return each
        of_spans = [each for each in done if isinstance(each, Compacted)]
        what = f"{self._compaction.rule.key} {unit.hour.partition_key}"
        return outcome_of(what, lambda: self._compaction.joined(unit.hour, of_spans))
