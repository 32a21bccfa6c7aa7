"""What is wrong with which hours of a rule, since when, and how often they were asked for again: kept in the lake,
beside the rows.

A verdict belongs to an hour. Whoever judged an hour, a compaction, a look or a command, may change or clear what stands
there of it; of other hours nobody says anything. So a red hour stays red until somebody has looked at that very hour,
however many others were green meanwhile.

A record holds all that is wrong at its time, and is written when that changes only. Records are never overwritten:
whoever finds the next number taken reads again and goes on from there. Their keys count down, so that the newest is the
first of the listing, whatever its length.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from fleet_pipeline.aws.store import ObjectVersion, Store
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule
from fleet_pipeline.model.spelt import Spelling

EVERY_VERSION = "every_version_is_a_row"
WHOLE = "parts_are_whole"
UNCOMPACTED = "nothing_is_uncompacted"
"""The criteria that a compaction judges, with Dagster or without; the last is the looks', and a compaction clears it
where it is complete.
"""

LAST = 99_999_999
"""The number of the first record; each later one has one less."""


class Fault(msgspec.Struct, frozen=True):
    """One criterion that an hour breaks."""

    hour: str
    """Its partition key, `2026-11-23-10:00`."""
    criterion: str
    said: str
    since: datetime
    """When it was judged so first."""
    count: int = 0
    """How many messages it is about, where that is known."""
    error: bool = True
    """Whether it is an error; else a warning, which is forgotten after some days."""
    attempts: int = 0
    """How often the hour was asked for because of it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of one criterion in one hour: nothing said means that the hour keeps it."""

    said: str
    count: int = 0
    error: bool = True


_Faults = dict[tuple[str, str], Fault]


@dataclass(frozen=True)
class Ledger:
    """The faults of one rule's hours."""

    store: Store
    prefix: str
    rule: Rule
    keep_warnings: timedelta = timedelta(days=14)

    def faults(self) -> list[Fault]:
        """Return what is wrong now, by hour and criterion."""
        return list(self._read()[1].values())

    def judge(self, now: datetime, verdicts: Mapping[Hour, Mapping[str, Verdict]]) -> list[Fault]:
        """Return what is wrong once these verdicts stand, hour by hour and criterion by criterion.

        Nothing else changes, but old warnings go.
        """
        while True:
            number, before = self._read()
            after = {
                key: fault for key, fault in before.items() if fault.error or now - fault.since < self.keep_warnings
            }
            for hour, found in verdicts.items():
                for criterion, verdict in found.items():
                    after = _with(after, (hour.partition_key, criterion), verdict, now)
            if self._wrote(number, before, after):
                return list(after.values())

    def ask(self, criterion: str, hours: Iterable[Hour], most: int) -> list[Hour]:
        """Return those of some hours that break a criterion and were asked for less than so many times, and count that
        they are asked for now.
        """
        wanted = list(hours)
        while True:
            number, before = self._read()
            due = [
                hour
                for hour in wanted
                if (fault := before.get((hour.partition_key, criterion))) and fault.attempts < most
            ]
            keys = {(hour.partition_key, criterion) for hour in due}
            after = {
                key: msgspec.structs.replace(fault, attempts=fault.attempts + 1) if key in keys else fault
                for key, fault in before.items()
            }
            if self._wrote(number, before, after):
                return due

    def without(self, name: Spelling) -> list[ObjectVersion]:
        """Return the records that have a vehicle's name in them, which nobody needs any more: the newest says the same
        without it. Keys that no rule writes may name a vehicle, and errors quote keys.
        """
        while True:
            number, before = self._read()
            after = {
                key: msgspec.structs.replace(fault, said=name.taken_out_of(fault.said)) for key, fault in before.items()
            }
            if self._wrote(number, before, after):
                break
        every = [version for page in self.store.versions(self._folder) for version in page]
        bodies = self.store.bodies(every) if every else ()
        return [every[place] for place, body in bodies if name.stands_in(body.decode(errors="replace"))]

    @property
    def _folder(self) -> str:
        return f"{self.prefix}/_verdicts/rule={self.rule.key}/"

    def _wrote(self, number: int, before: _Faults, after: _Faults) -> bool:
        ordered = dict(sorted(after.items()))
        return after == before or self.store.put_new(
            f"{self._folder}{number:08d}.json", msgspec.json.encode(list(ordered.values()))
        )

    def _read(self) -> tuple[int, _Faults]:
        """Return the number of the next record, and what the newest says.

        One that cannot be read is passed over: looks say all of it anew.
        """
        newest = LAST + 1
        for version in next(iter(self.store.versions(self._folder)), []):
            name = version.key[len(self._folder) :].removesuffix(".json")
            if not (version.latest and name.isascii() and name.isdigit() and len(name) == len(str(LAST))):
                continue
            newest = min(newest, int(name))
            try:
                found = msgspec.json.decode(self.store.read(version.key, 0, version.size), type=list[Fault])
            except ValueError:  # msgspec's errors are ValueErrors
                continue
            return newest - 1, {(fault.hour, fault.criterion): fault for fault in found}
        return newest - 1, {}


def _with(faults: _Faults, key: tuple[str, str], verdict: Verdict, now: datetime) -> _Faults:
    before = faults.get(key)
    if not verdict.said:
        return {other: fault for other, fault in faults.items() if other != key}
    fault = before or Fault(*key, verdict.said, now.astimezone(UTC).replace(microsecond=0))
    return {**faults, key: msgspec.structs.replace(fault, said=verdict.said, count=verdict.count, error=verdict.error)}
