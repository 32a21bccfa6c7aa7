"""Batch objects: many messages each, as Amazon Data Firehose writes them; read as the messages of an hour, in the order
of their keys, each once.

A record of a batch is an envelope (`model/rule.ENVELOPE`). Its message has the key that it would have had as an object
of its own, `{raw prefix}{receipt time}-{u}`, and a `_version` that follows from `u`: so a record that was delivered
twice is the same row, whatever object it came in. What is no such record is a row, too, of the hour in which its object
begins, with the status `no_record`.

An object's name holds the time of its oldest record, so an hour's objects are those that begin from `LONGEST` before it
to `DELAY` after it. A record that lies elsewhere is noted in the lake for the hour that it belongs to.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from fleet_pipeline.aws.store import Store
from fleet_pipeline.lake.fetching import sorted_out
from fleet_pipeline.lake.layout import Lake, LakePart
from fleet_pipeline.lake.listing import pages
from fleet_pipeline.lake.records import Batch, Records, Runs, no_records, records_of, table
from fleet_pipeline.lake.rows import BLOCK_ROWS
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import BatchName, Rule

LONGEST = timedelta(seconds=960)
"""How long after its oldest record a batch may still take one: Firehose's longest buffer, and a minute for clocks.

Source: Amazon Data Firehose, API_BufferingHints.
"""

DELAY = timedelta(seconds=300)
"""How long a record may need from AWS IoT, which repeats what failed, to its stream."""


@dataclass(slots=True)
class Read:
    """What was read of one batch."""

    first_ms: int = 10**13
    last_ms: int = 0
    """The receipt times of its messages, of all hours."""
    hours: set[str] = field(default_factory=set)
    """The hours of its messages, by their partition keys."""
    no_records: Counter[str] = field(default_factory=Counter)
    damage: str = ""
    """Why it could not be read to its end; nothing where it could."""

    def touches(self, hour: Hour) -> bool:
        """Whether some of its messages may be of an hour."""
        return self.first_ms < hour.end_ms and self.last_ms >= hour.start_ms


@dataclass
class BatchHour:
    """The batch objects that may hold messages of an hour, and what was counted while they were read."""

    store: Store
    lake: Lake
    rule: Rule
    hour: Hour
    writes: bool = False
    """Whether messages of hours in which nobody would look for them are noted there, or just counted."""
    looks: bool = True
    """Whether batches are looked for; else there are none."""
    listed: list[Batch] = field(default_factory=list)
    """All of them."""
    foreign: list[str] = field(default_factory=list)
    """Keys among theirs that are not of the form that Firehose writes. They are not read."""
    read: dict[str, Read] = field(default_factory=dict)
    """What was read of each batch, by its id."""
    messages: int = 0
    """Messages of the hour, each counted once; what is no record among them."""
    doubled: int = 0
    """Records beyond the first of a message."""
    strays: Counter[str] = field(default_factory=Counter)
    """Messages of hours of which nobody would look for them in their batch, by the hours."""

    def __post_init__(self) -> None:
        """List them: one request for a thousand, and one for what is noted of the hour."""
        self._noted = Noted(self.lake, self.rule, self.hour)
        self._noted_strays: set[tuple[str, str]] = set()
        if self.looks and self.rule.has_lines:
            self._list_by_layout()
        elif self.looks and self.rule.layout is None:
            self._list()

    def _list(self) -> None:
        start, end = self.hour.start - LONGEST, self.hour.end + DELAY
        first, last = (f"{self.rule.batch_prefix}{at:%Y/%m/%d/%H}" for at in (start - _FOLDER, end + 2 * _FOLDER))
        for page in self.store.versions(self.rule.batch_prefix, first, last):
            for version in page:
                name = self.rule.parse_batch_key(version.key)
                if name is None:
                    if f"/{self.hour.start:%Y/%m/%d/%H}/" in version.key:
                        self.foreign.append(version.key)
                elif int(start.timestamp()) * 1000 <= name.millis < int(end.timestamp()) * 1000:
                    self.listed.append(Batch(version, name))
        known = {batch.id for batch in self.listed}
        self.listed += [batch for batch in self._noted.strays(self.store) if batch.id not in known]

    def _list_by_layout(self) -> None:
        """List objects of lines: all of an object's messages are of the hour of its instant."""
        for page in pages(self.store, self.rule, self.hour):
            own, foreign = sorted_out(self.rule, self.hour, page)
            self.foreign += foreign
            for version in own:
                if (said := self.rule.raw_name(version.key, version.modified)) is not None:
                    self.listed.append(Batch(version, BatchName(said.millis, "", ""), said.client_id))

    @property
    def unread(self) -> list[Batch]:
        """The batches of which it is not known that all of the hour's messages are rows."""
        if not self.listed:
            return []
        done = self._noted.done
        left = [batch for batch in self.listed if batch.id not in done]
        others = self._noted_near() if any(batch.hour != self.hour for batch in left) else {}
        return [
            batch
            for batch in left
            if batch.hour == self.hour or batch.id not in others or others[batch.id].touches(self.hour)
        ]

    @property
    def holding(self) -> list[Batch]:
        """The batches that may have rows of the hour: those that begin in it, since what is no record of theirs is of
        it, and of the others all but those of which it is known that they have no message of the hour.
        """
        if not self.listed:
            return []
        known = self._noted.done | self._noted_near()
        return [
            each
            for each in self.listed
            if each.hour == self.hour or each.id not in known or known[each.id].touches(self.hour)
        ]

    def _noted_near(self) -> dict[str, Read]:
        """Return what was read of batches for the hour before and the one after."""
        before, after = (Noted(self.lake, self.rule, near).done for near in (self.hour.before, self.hour.next))
        return before | after

    @property
    def bytes(self) -> int:
        """Bytes of all batches that begin in the hour."""
        return sum(each.version.size for each in self.listed if each.hour == self.hour)

    @property
    def noted_messages(self) -> int:
        """Messages of the hour in batches that were read before; of batches that were read together, none once one of
        them was purged or written anew.
        """
        return sum(said.messages for said in self._said if said.batches.keys() <= self._ids)

    @property
    def noted_doubles(self) -> int:
        """Records beyond the first of a message, in batches that were read before."""
        return sum(said.doubled for said in self._said)

    @property
    def noted_erased(self) -> int:
        """Messages of the hour, in batches that were read before, that are no rows any more."""
        return sum(said.erased for said in self._said)

    @property
    def is_repeated(self) -> bool:
        """Whether what is a row already, of batches that were not read yet, was delivered twice: they came after others
        that were read, and none of these was written anew since.
        """
        return bool(self._said) and all(said.batches.keys() <= self._ids for said in self._said)

    def noted_later(self, parts: Sequence[LakePart]) -> list[LakePart]:
        """Return the parts of the hour that came after all that is noted: whoever wrote a message's row there was
        stopped before it could note its batch, or has yet to. The first part after an erasure has what was noted.
        """
        first = parts[0].number if parts and parts[0].number else -1
        last = max([first, *(said.part for said in self._said)])
        return [part for part in parts if part.number > last]

    @property
    def _said(self) -> "list[Said]":
        return self._noted.said if self.listed else []

    @property
    def _ids(self) -> set[str]:
        return {batch.id for batch in self.listed}

    @property
    def damaged(self) -> list[str]:
        """What is wrong with batches that could not be read to their end, in words."""
        keys = {batch.id: batch.version.key for batch in self.listed}
        return [f"{keys[each]}: {found.damage}" for each, found in self.read.items() if found.damage]

    def tables(self, batches: Sequence[Batch], folder: Path) -> Iterator[pa.Table]:
        """Yield the hour's messages that some batches hold, each once, in the order of keys, a block at a time.

        Messages of other hours where nobody would look for them are noted there, if that is wanted, before the first
        is yielded.
        """
        runs = Runs(folder)
        for _, rows in self.unsorted(batches):
            runs.add(rows)
        yield from self._each_once(runs.merged())

    def unsorted(self, batches: Sequence[Batch]) -> Iterator[tuple[Batch, pa.Table]]:
        """Yield the hour's messages that some batches hold, as they stand there, with the batch of each."""
        reading = ""
        for batch, records in records_of(self.store, self.rule, batches):
            if batch.id != reading:
                reading, self.read[batch.id] = batch.id, Read()
            yield from ((batch, rows) for rows in self._of_hour(batch, records))

    def note(self, batches: Sequence[Batch], messages: int, doubled: int, part: int) -> None:
        """Have it known that all of the hour's messages in some batches are rows, while the hour has part `part`.

        What others noted since these were looked for is not said twice.
        """
        if batches:
            self._noted.add({each.id: self.read.get(each.id, Read()) for each in batches}, messages, doubled, part)

    def _of_hour(self, batch: Batch, found: Records) -> Iterator[pa.Table]:
        read = self.read[batch.id]
        if found.good:
            rows = table(self.rule, found.good)
            millis = rows["_ts"].cast(pa.int64())
            extent = pc.min_max(millis).as_py()
            read.first_ms, read.last_ms = min(read.first_ms, extent["min"]), max(read.last_ms, extent["max"])
            read.hours.update(_hours(millis))
            if extent["min"] < self.hour.start_ms or extent["max"] >= self.hour.end_ms:
                inside = pc.and_(pc.greater_equal(millis, self.hour.start_ms), pc.less(millis, self.hour.end_ms))
                self._note_strays(batch, millis.filter(pc.invert(inside)))
                rows = rows.filter(inside)
            yield rows
        lost = [*found.bad, *([None] if found.damage else [])]
        read.damage = read.damage or found.damage
        if lost and batch.hour == self.hour:
            yield no_records(self.rule, batch, lost, read.no_records)

    def _note_strays(self, batch: Batch, millis: pa.ChunkedArray) -> None:
        for key, messages in sorted(_hours(millis).items()):
            hour = Hour.parse(key)
            if not _begins_near(batch, hour):
                if self.writes and (batch.id, key) not in self._noted_strays:
                    Noted(self.lake, self.rule, hour).add_stray(batch)
                    self._noted_strays.add((batch.id, key))
                self.strays[key] += messages

    def _each_once(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        last = ("", "")
        for rows in tables:
            pairs = pc.binary_join_element_wise(rows["_key"], rows["_version"], " ").combine_chunks()
            fresh = pc.not_equal(pairs[1:], pairs[:-1])
            if fresh.false_count or pairs[0].as_py() == " ".join(last):
                first = pairs[0].as_py() != " ".join(last)
                kept = rows.filter(pa.concat_arrays([pa.array([first]), fresh]))
                self.doubled += rows.num_rows - kept.num_rows
            else:
                kept = rows
            last = (rows["_key"][-1].as_py(), rows["_version"][-1].as_py())
            self.messages += kept.num_rows
            for start in range(0, kept.num_rows, BLOCK_ROWS):
                yield kept.slice(start, BLOCK_ROWS)


_FOLDER = timedelta(hours=1)
"""What is listed beyond an hour's own folders: nobody says that a folder's hour is that of the name."""


def _hours(millis: pa.ChunkedArray) -> dict[str, int]:
    """Return the hours of some instants, and how many of them lie in each."""
    return {
        Hour.of_millis(each["values"] * _HOUR_MS).partition_key: each["counts"]
        for each in pc.value_counts(pc.divide(millis, _HOUR_MS)).to_pylist()
    }


_HOUR_MS = 3_600_000


def _begins_near(batch: Batch, hour: Hour) -> bool:
    """Whether whoever reads an hour finds a batch by its name."""
    before, after = (int(each.total_seconds()) * 1000 for each in (LONGEST, DELAY))
    return hour.start_ms - before <= batch.name.millis < hour.end_ms + after


@dataclass(frozen=True, slots=True)
class Said:
    """What is noted of some batches that were read together."""

    part: int
    """The hour's last part then."""
    messages: int
    doubled: int
    batches: dict[str, Read]
    erased: int = 0
    """Messages that are no rows any more, though their batch stands in a bucket that is only read."""


def _without(said: Said, others: Iterable[Said]) -> Said:
    """Return what is left to say of some batches after others have spoken of some of them."""
    batches, messages, doubled = dict(said.batches), said.messages, said.doubled
    for other in others:
        if other.batches.keys() <= said.batches.keys():
            messages, doubled = messages - other.messages, doubled - other.doubled
        batches = {name: read for name, read in batches.items() if name not in other.batches}
    return Said(said.part, max(messages, 0), max(doubled, 0), batches)


class Noted:
    """What the lake holds of the batches of an hour: which of them were read, and which lie where nobody looks."""

    def __init__(self, lake: Lake, rule: Rule, hour: Hour) -> None:
        self._lake, self._rule, self._hour = lake, rule, hour
        self._folder = f"{lake.prefix}/_batches/v{lake.generation}/{rule.path(hour)}/"
        self._strays = f"{lake.prefix}/_batches/strays/{rule.path(hour)}/"
        self._found: dict[str, Said] | None = None
        self._next = 0

    @property
    def done(self) -> dict[str, Read]:
        """The batches of which all of the hour's messages are rows."""
        return {name: read for said in self.said for name, read in said.batches.items()}

    @property
    def said(self) -> list[Said]:
        """What is noted, as long as the parts are there that were then."""
        return list(self._by_name.values())

    @property
    def _by_name(self) -> dict[str, Said]:
        if self._found is None:
            self._found = {}
            live = [each for page in self._lake.store.versions(self._folder) for each in page if each.latest]
            names = {version.key.removeprefix(self._folder).removesuffix(".json"): version for version in live}
            self._next = max((int(name) for name in names if name.isdecimal()), default=-1) + 1
            parts = self._lake.parts(self._rule, self._hour) if live else []
            last = parts[-1].number if parts else -1
            for name, version in names.items():
                said = json.loads(self._lake.store.read(version.key, 0, version.size))
                if said["part"] <= last:
                    extents = {batch: Read(*extent) for batch, extent in said["batches"].items()}
                    self._found[name] = Said(
                        said["part"], said["messages"], said["doubled"], extents, said.get("erased", 0)
                    )
        return self._found

    def add(self, batches: dict[str, Read], messages: int, doubled: int, part: int) -> None:
        """Note some that were read. What others noted meanwhile, who took a number first, is not said once more."""
        before, whole = {*self._by_name}, Said(part, messages, doubled, batches)
        mine = whole
        while not self._put(f"{self._next:05d}", mine):
            self._found = None
            mine = _without(whole, [said for name, said in self._by_name.items() if name not in before])
            if not mine.batches:
                return
        self._next += 1

    def _put(self, name: str, said: Said) -> bool:
        """Note it under a name that is free; or return that it is taken."""
        body = {
            "part": said.part,
            "messages": said.messages,
            "doubled": said.doubled,
            "batches": {batch: [read.first_ms, read.last_ms] for batch, read in said.batches.items()},
            **({"erased": said.erased} if said.erased else {}),
        }
        if not self._lake.store.put_new(f"{self._folder}{name}.json", json.dumps(body).encode()):
            return False
        self._by_name[name] = said
        return True

    def add_erased(self, name: str, messages: int) -> None:
        """Note that so many messages that were rows are none any more: once under a name."""
        if self.said:
            self._put(name, Said(self._lake.parts(self._rule, self._hour)[-1].number, 0, 0, {}, messages))

    def add_stray(self, batch: Batch) -> None:
        """Note a batch that has messages of the hour and begins elsewhere."""
        self._lake.store.put_new(f"{self._strays}{batch.id}.json", json.dumps(batch.version.key).encode())

    def strays(self, raw: Store) -> Iterator[Batch]:
        """Yield those batches, as far as they are there."""
        listed = [each for page in self._lake.store.versions(self._strays) for each in page if each.latest]
        keys = sorted({json.loads(self._lake.store.read(each.key, 0, each.size)) for each in listed})
        for key in keys:
            name = self._rule.parse_batch_key(key)
            for page in raw.versions(key) if name else ():
                yield from (Batch(version, name) for version in page if version.key == key and name)
