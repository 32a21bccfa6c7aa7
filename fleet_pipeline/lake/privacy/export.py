"""Everything that the lake and the raw objects hold on one vehicle, as files: its messages byte for byte and as typed
rows, its rows of the derived tables, and what the rules could not write of it. Nothing of anyone else's.
"""

import base64
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fleet_pipeline.aws.store import Store
from fleet_pipeline.lake.analytics.revisions import DerivedTable
from fleet_pipeline.lake.analytics.vehicles import daily_table, hourly_table
from fleet_pipeline.lake.commit import standing
from fleet_pipeline.lake.contract import Contract
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.privacy.hours import Candidates, candidates, not_yet_rows
from fleet_pipeline.lake.privacy.messages import Identity, Marked, Shared, Whom, foreign, marked, mask, uncompacted
from fleet_pipeline.lake.privacy.reports import records_reported_of, reports_of
from fleet_pipeline.lake.privacy.rewriting import aligned
from fleet_pipeline.lake.reading import PartFile, opened
from fleet_pipeline.lake.rows import ORIGINS, conformed, row_schema, typed_again
from fleet_pipeline.lake.whose import Naming
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule

_WRITTEN = (1980, 1, 1, 0, 0, 0)
"""The instant that entries of an archive bear: the same messages give the same bytes."""


@dataclass(slots=True)
class Exported:
    """What was found and written."""

    messages: Counter[str] = field(default_factory=Counter)
    """By rule."""
    rows: Counter[str] = field(default_factory=Counter)
    uncompacted: int = 0
    """Messages among them that have no row yet."""
    foreign: int = 0
    """Objects among them under keys that no rule writes: no compaction reads them."""
    shared: int = 0
    """Messages among them in which other vehicles' objects stood, which were left out."""
    undivided: int = 0
    """Messages of which something was left out because it cannot be read, though the name stands in it."""
    reports: int = 0
    derived: Counter[str] = field(default_factory=Counter)
    candidates: Candidates = field(default_factory=lambda: Candidates((), (), (), 0))

    @property
    def empty(self) -> bool:
        """Whether nothing is held."""
        return not (self.messages.total() or self.reports or self.derived.total())


@dataclass(frozen=True)
class Held:
    """Where a fleet's messages lie."""

    fleet: Fleet
    raw: Store
    lake: Lake
    given: Mapping[str, Store] = field(default_factory=dict)
    """Buckets that exist and that rules read, by their names."""

    def raw_of(self, rule: Rule) -> Store:
        """Return the bucket of a rule's raw objects."""
        return self.given[rule.bucket] if rule.bucket else self.raw


def export(  # noqa: PLR0913 (all that it works on comes in by the front door)
    fleet: Fleet,
    raw: Store,
    lake: Lake,
    name: str,
    folder: Path,
    *,
    given: Mapping[str, Store] | None = None,
    start: Hour | None = None,
    end: Hour | None = None,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> Exported:
    """Write what is held on a vehicle, of messages received from `start` to before `end`, into a folder that is there.

    Changes nothing elsewhere. The newest hours are listed anew for messages that have no row yet; of older ones those
    in which the vehicle was seen.
    """
    now = datetime.now(UTC)
    held = Held(fleet, raw, lake, given or {})
    whom = Whom(Naming.of(fleet), name, end.start_ms if end else int(now.timestamp() * 1000))
    found = candidates(fleet, lake, name, start, end)
    done = Exported(candidates=found)
    waiting = not_yet_rows(fleet, lake, now)
    hours = sorted({*found.hours, *(hour for hour in waiting if _within(hour, start, end))})
    for number, rule in enumerate(fleet.rules):
        with _Files(folder, rule, lake.contract(rule)) as files:
            for place, hour in enumerate(hours):
                _one_hour(files, done, held, (rule, hour), whom)
                on_progress(number * len(hours) + place + 1, len(hours) * len(fleet.rules))
    _reports(held, whom, folder, done, start)
    _derived(held, name, folder, done)
    return done


def _within(hour: Hour, start: Hour | None, end: Hour | None) -> bool:
    return (not start or hour >= start) and (not end or hour < end)


def _one_hour(files: "_Files", done: Exported, held: Held, place: tuple[Rule, Hour], whom: Whom) -> None:
    rule, hour = place
    whom = whom.of(rule)
    for file in standing(held.lake, rule, hour):
        found = marked([file], whom)
        _count(done, rule, found)
        files.add_raw(found)
        done.rows[rule.key] += files.add_rows(file, found)
    late = uncompacted(held.raw_of(rule), held.lake, rule, hour, whom)
    strange = foreign(held.raw_of(rule), rule, hour, whom)
    for found in (late.marked, strange.marked):
        _count(done, rule, found)
        files.add_raw(found)
    done.uncompacted += len(late.versions)
    done.foreign += len(strange.versions)


def _count(done: Exported, rule: Rule, found: Marked) -> None:
    done.messages[rule.key] += len(found.identities)
    done.shared += len(found.shared)
    done.undivided += len(found.unread)


class _Files:
    """The files of one rule: an archive of payloads, Parquet and NDJSON. A rule without messages has none."""

    def __init__(self, folder: Path, rule: Rule, contract: Contract) -> None:
        self._folder, self._rule, self._contract = folder, rule, contract
        self._schema = row_schema(contract)
        self._archive: zipfile.ZipFile | None = None
        self._parquet: pq.ParquetWriter | None = None
        self._lines: IO[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._archive, self._parquet, self._lines):
            if each is not None:
                each.close()

    def add_raw(self, found: Marked) -> None:
        """Write payloads, each under its key's last segment and its version."""
        own = {at: each.own for at, each in found.shared.items()}
        for (key, version), payload in sorted({**found.whole, **own}.items()):
            if payload is None:
                continue  # too large to have been read: the row says so
            if self._archive is None:
                (self._folder / "raw").mkdir(exist_ok=True)
                path = self._folder / "raw" / f"{self._rule.key}.zip"
                self._archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
            name = f"{key.rpartition('/')[2]}-{version}"
            self._archive.writestr(zipfile.ZipInfo(name, _WRITTEN), payload, zipfile.ZIP_DEFLATED)

    def add_rows(self, file: PartFile, found: Marked) -> int:
        """Write the rows of a part that are the vehicle's, and return how many they were."""
        count = 0
        for table in self._rows(file, found):
            count += table.num_rows
            if table.num_rows:
                self._write(table)
        return count

    def _rows(self, file: PartFile, found: Marked) -> Iterator[pa.Table]:
        for batch in file.batches(file.schema.names) if found.identities else ():
            yield aligned(batch.filter(mask(batch, found.whole)), self._schema)
            if found.shared:
                yield from self._typed_anew(batch, found.shared)

    def _typed_anew(self, batch: pa.Table, shared: dict[Identity, Shared]) -> Iterator[pa.Table]:
        """Yield rows of the vehicle's own objects of shared messages."""
        pairs = list(zip(batch["_key"].to_pylist(), batch["_version"].to_pylist(), strict=True))
        rows = batch.filter(pa.array([pair in shared for pair in pairs], pa.bool_()))
        payloads = [shared[pair].own for pair in pairs if pair in shared]
        origins = [rows[name].combine_chunks() for name in ORIGINS]
        for block in typed_again(origins, payloads, self._contract) if payloads else ():
            yield conformed(block, self._contract)

    def _write(self, table: pa.Table) -> None:
        if self._parquet is None or self._lines is None:
            place = self._folder / "messages"
            place.mkdir(exist_ok=True)
            self._parquet = pq.ParquetWriter(place / f"{self._rule.key}.parquet", self._schema, compression="zstd")
            self._lines = (place / f"{self._rule.key}.ndjson").open("w", encoding="utf-8")
        self._parquet.write_table(table)
        self._lines.writelines(as_lines(table))


def as_lines(table: pa.Table) -> Iterable[str]:
    """Yield each row as a line of JSON, without its nulls."""
    for row in table.to_pylist():
        said = {name: value for name, value in row.items() if value is not None}
        yield json.dumps(said, default=_plainly, ensure_ascii=False) + "\n"


def _plainly(value: Any) -> Any:
    """Return what JSON has no kind for: bytes as text where they are, and else in Base64; instants by ISO 8601."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode()}
    return value.isoformat() if isinstance(value, datetime | date) else str(value)


def _reports(held: Held, whom: Whom, folder: Path, done: Exported, start: Hour | None) -> None:
    for rule in held.fleet.made_rules:
        every = reports_of(held.fleet, held.raw, rule, whom)
        found = [each for each in every if _since(held.fleet, rule, each.version.key, start)]
        if found:
            (folder / "reports").mkdir(exist_ok=True)
            with zipfile.ZipFile(folder / "reports" / f"{rule.key}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                for number, each in enumerate(found):
                    name = f"{each.version.key.rpartition('/')[2]}-{number:05d}"
                    archive.writestr(zipfile.ZipInfo(name, _WRITTEN), each.payload, zipfile.ZIP_DEFLATED)
        done.reports += len(found)
        _records_reported(held, rule, whom, folder, done)


def _records_reported(held: Held, rule: Rule, whom: Whom, folder: Path, done: Exported) -> None:
    """Write the payloads of what the rule's stream reported of the vehicle."""
    own = [each for found in records_reported_of(held.fleet, held.raw, rule, whom) for each in found.own]
    if own:
        (folder / "reports").mkdir(exist_ok=True)
        with zipfile.ZipFile(folder / "reports" / f"{rule.key}-stream.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for number, payload in enumerate(own):
                archive.writestr(zipfile.ZipInfo(f"{number:05d}", _WRITTEN), payload, zipfile.ZIP_DEFLATED)
    done.reports += len(own)


def _since(fleet: Fleet, rule: Rule, key: str, start: Hour | None) -> bool:
    name = fleet.parse_report_key(rule, key)
    return start is None or (name is not None and name.millis >= start.start_ms)


def _derived(held: Held, name: str, folder: Path, done: Exported) -> None:
    hours = [hour.path for hour in done.candidates.hours]
    days = sorted({path.partition("/")[0] for path in hours})
    store = held.lake.store
    for table, partitions in ((hourly_table(store, held.fleet), hours), (daily_table(store), days)):
        rows = _rows_of(table, partitions, name)
        if rows is not None and rows.num_rows:
            place = folder / "derived"
            place.mkdir(exist_ok=True)
            pq.write_table(rows, place / f"{table.name}.parquet", compression="zstd")
            (place / f"{table.name}.ndjson").write_text("".join(as_lines(rows)), encoding="utf-8")
            done.derived[table.name] += rows.num_rows


def _rows_of(table: DerivedTable, partitions: Sequence[str], name: str) -> pa.Table | None:
    """Return a vehicle's rows of the last revision of some partitions, each with its partition."""
    last, found = table.all_last(), list[pa.Table]()
    for partition in partitions:
        if partition in last:
            rows = opened(table.store, last[partition], table.schema).read(table.schema.names)
            rows = rows.filter(pc.equal(rows["vehicle"], name))
            found.append(rows.append_column("partition", pa.repeat(partition, rows.num_rows)))
    return pa.concat_tables(found) if found else None
