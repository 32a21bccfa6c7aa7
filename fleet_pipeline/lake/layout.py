"""Where everything lies in the lake, and the only ways in: the next free part of an hour, the next free record of a
contract.

Whoever wins a part number has looked at all parts before it, and these never change: that is why nothing is lost or
doubled, however many write at once, however they die. Nothing is overwritten, and nothing deleted but by an erasure,
which adds a part that stands for all before it, says so, and then removes these; and by age: the hour is said to be
ended, and then its parts are removed.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from fleet_pipeline.aws.store import ObjectVersion, Store
from fleet_pipeline.lake.contract import KINDS, Contract
from fleet_pipeline.lake.learning import Evidence
from fleet_pipeline.model.errors import InvalidName, PartDamaged, PartsMissing, RecordDamaged
from fleet_pipeline.model.fleet import NEW_COLUMN_MESSAGES, Fleet
from fleet_pipeline.model.form import JSON, Form
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.plain import plain
from fleet_pipeline.model.rule import Rule

_HOUR = re.compile(r"date=([0-9]{4}-[0-9]{2}-[0-9]{2})/hour=([0-9]{2})")

TAIL = 65_536
"""Bytes at a part's end that are read back after it was written: the footer of any but the widest."""

_NUMBER = re.compile(r"part-([0-9]{5})\.parquet")
_FROM = re.compile(r"_from-([0-9]{5})")
"""What says that the parts before a number are replaced: that part has all of their rows that are to stay."""
_ENDED = re.compile(r"_ended-([0-9]{5})")
"""What says that the parts before a number are gone, with all of their rows: the next part has this number at least."""
_RECORD = re.compile(r"([0-9]{5})\.json")
_GENERATION = re.compile(r"v([0-9]{5})")
_BEGUN = re.compile(r"(?:oming|urrent)/v([0-9]{5})")


@dataclass(frozen=True, slots=True)
class LakePart:
    """A Parquet file of an hour."""

    key: str
    size: int

    @property
    def number(self) -> int:
        """Its number in the hour. Raises InvalidName for what is no part."""
        found = _NUMBER.fullmatch(self.key.rpartition("/")[2])
        if not found:
            raise InvalidName("part", self.key, "parts are called part-00000.parquet")
        return int(found[1])


@dataclass(frozen=True, slots=True)
class HourParts:
    """The parts of an hour."""

    parts: list[LakePart]
    """In their order."""
    following: int
    """The number of the part after them."""
    ended: bool
    """Whether the hour was ended once: rows that it has came after that."""


@dataclass(frozen=True, slots=True)
class Lake:
    """One generation of the Parquet table: `{prefix}/v1/rule=rule1/date=2026-11-23/hour=10/part-00000.parquet`."""

    store: Store
    prefix: str
    generation: int = 1
    form: Form = Form()
    """How messages become rows where that is not recorded yet."""
    new_column_messages: int = NEW_COLUMN_MESSAGES
    """How many messages of an hour must have a field that is to become a column."""

    @classmethod
    def current(
        cls, store: Store, prefix: str, form: Form | None = None, new_column_messages: int = NEW_COLUMN_MESSAGES
    ) -> Self:
        """Return the generation that readers use: the one switched to last, or the first."""
        return cls(
            store,
            prefix,
            max(_numbered(store, f"{prefix}/_current/", _GENERATION), default=1),
            form or Form(),
            new_column_messages,
        )

    @classmethod
    def of(cls, fleet: Fleet, store: Store) -> Self:
        """Return the generation that readers use now, to be written as the settings say."""
        return cls.current(store, fleet.parquet_prefix, fleet.form, fleet.new_column_messages)

    def begin(self) -> None:
        """Say that this generation is being written: from now on whoever compacts an hour adds its rows here, too.

        A second time changes nothing.
        """
        self.store.put_new(f"{self.prefix}/_coming/v{self.generation:05d}", b"")

    def switch(self) -> None:
        """Make this the generation that readers use. A second time changes nothing."""
        self.store.put_new(f"{self.prefix}/_current/v{self.generation:05d}", b"")

    @property
    def next_generation(self) -> Self:
        """The same table, to be written anew."""
        return replace(self, generation=self.generation + 1)

    def coming(self) -> list[Self]:
        """Return the generations that are being written beside this one, or that readers have switched to meanwhile,
        oldest first.
        """
        begun = _numbered(self.store, f"{self.prefix}/_c", _BEGUN)  # one request for both folders
        return [replace(self, generation=number) for number in sorted({*begun}) if number > self.generation]

    @property
    def root(self) -> str:
        """Where this generation's partitions lie; what a reader is given."""
        return f"{self.prefix}/v{self.generation}/"

    def generations(self) -> list[Self]:
        """Return every generation that there ever was, newest first: those that are being written are among them."""
        begun = _numbered(self.store, f"{self.prefix}/_c", _BEGUN)
        return [replace(self, generation=number) for number in range(max(begun, default=1), 0, -1)]

    def partition(self, rule: Rule, hour: Hour) -> str:
        """Return where the parts of an hour lie."""
        return f"{self.root}{rule.path(hour)}/"

    def part_key(self, rule: Rule, hour: Hour, number: int) -> str:
        """Return the key of a part."""
        return f"{self.partition(rule, hour)}part-{number:05d}.parquet"

    def parts(self, rule: Rule, hour: Hour) -> list[LakePart]:
        """Return the parts of an hour in their order.

        Raises PartsMissing when they are not numbered without a gap: from 0, from the one that replaced all before, or
        from where the hour was ended.

        Objects of other names are not parts, and are never read.
        """
        return self.found(rule, hour).parts

    def found(self, rule: Rule, hour: Hour) -> HourParts:
        """Return the parts of an hour, and which number the next one has. Raises as `parts` does."""
        partition = self.partition(rule, hour)
        live = {
            version.key[len(partition) :]: version
            for page in self.store.versions(partition)
            for version in page
            if version.latest
        }
        replaced, ended = _highest(_FROM, live), _highest(_ENDED, live)
        first = max(replaced, ended, 0)
        every = [LakePart(version.key, version.size) for name, version in live.items() if _NUMBER.fullmatch(name)]
        parts = [part for part in every if part.number >= first]
        least = int(replaced > ended)  # a part that replaced others is there
        if [part.number for part in parts] != [*range(first, first + max(len(parts), least))]:
            raise PartsMissing(partition, tuple(part.key[len(partition) :] for part in parts))
        return HourParts(parts, first + len(parts), ended >= 0)

    def end(self, rule: Rule, hour: Hour) -> bool:
        """Have an hour hold nothing from now on, in one step; say whether it had parts. These stay until somebody
        removes them, as `replaced` lists them.

        What is compacted afterwards, of messages that come late, is a part as any. A second time changes nothing.
        """
        found = self.found(rule, hour)
        if found.parts:
            self.store.put_new(f"{self.partition(rule, hour)}_ended-{found.following:05d}", b"")
        return bool(found.parts)

    def replace_before(self, rule: Rule, hour: Hour, number: int) -> None:
        """Have a part, which is there, stand for all before it: from now on these are no parts of the hour.

        A second time changes nothing. The parts before it stay until somebody removes them.
        """
        self.store.put_new(f"{self.partition(rule, hour)}_from-{number:05d}", b"")

    def replaced(self, rule: Rule, hour: Hour) -> list[ObjectVersion]:
        """Return every version of an hour's parts that were replaced or ended, and of what said so before."""
        partition = self.partition(rule, hour)
        found = [version for page in self.store.versions(partition) for version in page]
        live = [version.key[len(partition) :] for version in found if version.latest]
        first, ended = _first(live), _highest(_ENDED, live)
        return [
            version
            for version in found
            if (name := version.key[len(partition) :])
            and any(
                (named := form.fullmatch(name)) and int(named[1]) < (ended if form is _ENDED else first)
                for form in (_NUMBER, _FROM, _ENDED)
            )
        ]

    def rule_keys(self) -> list[str]:
        """Return the keys of all rules that have parts, in their order, at a request for each: those that have left the
        settings too.
        """
        root, found, after = f"{self.root}rule=", [], ""
        while page := next(iter(self.store.versions(root, after)), []):
            key = page[0].key[len(root) :].partition("/")[0]
            found.append(key)
            after = f"{root}{key}0"  # the first text behind all that begin with the key and a slash
        return found

    def hours(self, rule: Rule) -> list[Hour]:
        """Return the hours of which there are parts, in their order."""
        return sorted(hour for hour, parts in self.all_parts(rule).items() if parts)

    def all_parts(self, rule: Rule) -> dict[Hour, list[LakePart]]:
        """Return the parts of every hour of a rule, at one request for a thousand of them; none of an hour whose parts
        are ended and not removed. A gap in their numbers is no error here.
        """
        prefix = f"{self.root}rule={rule.key}/"
        found: dict[Hour, list[LakePart]] = {}
        first: dict[Hour, int] = {}
        for page in self.store.versions(prefix):
            for version in page:
                place, _, name = version.key[len(prefix) :].rpartition("/")
                if not (version.latest and (at := _HOUR.fullmatch(place)) and (hour := _hour(*at.groups()))):
                    continue
                if _NUMBER.fullmatch(name):
                    found.setdefault(hour, []).append(LakePart(version.key, version.size))
                else:
                    first[hour] = max(first.get(hour, 0), _first([name]))
        return {hour: [part for part in parts if part.number >= first.get(hour, 0)] for hour, parts in found.items()}

    def check(self, part: LakePart, file: Path) -> None:
        """Return when the lake holds a part as it was written, to its size and the bytes of its footer; raise
        PartDamaged otherwise.
        """
        tail = min(TAIL, part.size)
        with file.open("rb") as source:
            source.seek(part.size - tail)
            if self.store.read(part.key, part.size - tail, part.size) != source.read():
                raise PartDamaged(part.key, "its footer is not the one that was written")

    def contract(self, rule: Rule, until: int | None = None) -> Contract:
        """Return the rule's contract as it was recorded last, or until a record; before the first one of the columns
        that the settings say.

        Raises RecordDamaged.
        """
        found = self._last_record(rule, until)
        found = found or replace(Contract(form=rule.form(self.form)).saying(rule.columns), number=-1)
        if not rule.private and rule.encoding == JSON:
            return found
        return replace(found, private=rule.private, encoding=rule.encoding)

    def _last_record(self, rule: Rule, until: int | None) -> Contract | None:
        records = self._records(rule)
        live = {version.key: version for page in self.store.versions(records) for version in page if version.latest}
        recorded = [int(found[1]) for key in live if (found := _RECORD.fullmatch(key[len(records) :]))]
        numbers = [number for number in recorded if until is None or number <= until]
        if not numbers:
            return None
        last = live[f"{records}{max(numbers):05d}.json"]
        return contract_of(self.store.read(last.key, 0, last.size), max(numbers), last.key)

    def record(self, rule: Rule, seen: Evidence, form: Form, most: int | None = None) -> Contract:
        """Return the recorded contract once it has the columns that the settings say, or that what was seen calls for.

        Others may be recording too.

        It gets no more than `most` in all: half of those that there is room for, where it is not said. Raises
        ContractBroken when the table has another form.
        """
        while True:
            found = self.contract(rule)
            said, new = (
                found.saying(rule.columns),
                seen.columns(found, rule.new_column_messages(self.new_column_messages)),
            )
            wanted = said.adding(new, form, found.most_new if most is None else max(0, most - len(said.columns)))
            if wanted is found or self.store.put_new(
                f"{self._records(rule)}{wanted.number:05d}.json", wanted.to_json()
            ):
                return wanted

    def pin(self, rule: Rule, contract: Contract) -> Contract:
        """Return the contract once it is recorded with exactly these columns and takes no others: new fields stay in
        `_extra`.

        Columns may be added to those that stand, and none taken away or changed. Raises ContractBroken otherwise: that
        needs a new generation.
        """
        while True:
            found = self.contract(rule)
            wanted = found.pinning(contract)
            if wanted == found or self.store.put_new(
                f"{self._records(rule)}{wanted.number:05d}.json", wanted.to_json()
            ):
                return wanted

    def _records(self, rule: Rule) -> str:
        return f"{self.prefix}/_schema/v{self.generation}/rule={rule.key}/"


def contract_of(text: bytes, number: int, name: str) -> Contract:
    """Return the contract that a record holds. Raises RecordDamaged, which names it, when it is none."""
    try:
        contract = Contract.of_json(text, number)
        sound = all(
            column.kind in KINDS and column.path and all(isinstance(each, str) for each in column.path)
            for column in contract.columns.values()
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # msgspec's errors are ValueErrors
        raise RecordDamaged(
            name, f"it is no record of columns that this version knows ({type(error).__name__}: {plain(error, 200)})"
        ) from error
    if not sound:
        raise RecordDamaged(name, "it names a kind or a path that this version does not know")
    return contract


def _first(names: Iterable[str]) -> int:
    """Return the number before which no part is one of the hour's: 0 where none was replaced or ended."""
    every = [*names]
    return max(_highest(_FROM, every), _highest(_ENDED, every), 0)


def _highest(form: re.Pattern[str], names: Iterable[str]) -> int:
    """Return the highest number among names of a form; -1 where there is none."""
    return max((int(found[1]) for found in map(form.fullmatch, names) if found), default=-1)


def _numbered(store: Store, folder: str, name: re.Pattern[str]) -> list[int]:
    """Return the numbers of the objects in a folder whose name is of this form. Others are not ours."""
    live = (version.key[len(folder) :] for page in store.versions(folder) for version in page if version.latest)
    return [int(found[1]) for found in map(name.fullmatch, live) if found]


def _hour(day: str, hour: str) -> Hour | None:
    with suppress(InvalidName):  # such as date=2026-13-45, which somebody else made
        return Hour.parse(f"{day}-{hour}:00")
    return None
