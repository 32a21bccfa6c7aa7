"""In which hours a vehicle has messages: `vehicles_hourly` is the index, and where it cannot be trusted, the hour
itself is looked into.

It cannot be trusted for an hour of which it says nothing or of which the lake has got more rows since, and for one that
has messages it could give to nobody, or to their client alone though they may say a name beside the columns.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow.compute as pc

from fleet_pipeline.lake.analytics.vehicles import HOURLY, UNNAMED, UNREADABLE, UNSURE, hourly_table
from fleet_pipeline.lake.layout import Lake, LakePart
from fleet_pipeline.lake.ledger import UNCOMPACTED, Ledger
from fleet_pipeline.lake.reading import opened
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule


@dataclass(frozen=True, slots=True)
class Candidates:
    """The hours in which a vehicle may have messages."""

    known: tuple[Hour, ...]
    """Hours of which the index says so."""
    unsure: tuple[Hour, ...]
    """Hours of which the index cannot say."""
    alike: tuple[str, ...]
    """Names of other vehicles that begin with this one's."""
    searched: int
    """Hours of the lake that the index was asked about."""

    @property
    def hours(self) -> list[Hour]:
        """All of them, in their order."""
        return sorted({*self.known, *self.unsure})


def candidates(fleet: Fleet, lake: Lake, name: str, start: Hour | None = None, end: Hour | None = None) -> Candidates:
    """Return the hours in which a vehicle may have messages, of those from `start` to before `end`.

    Costs a listing of the lake's parts and two small requests for each hour that the lake has in the range.
    """
    table = hourly_table(lake.store, fleet)
    last, found = table.all_last(), _parts(fleet, lake)
    known, unsure, alike = list[Hour](), list[Hour](), set[str]()
    derived_alone = {hour for path in last if (hour := _hour(path)) and hour not in found}
    every = sorted({*found, *derived_alone})
    wanted = [hour for hour in every if (not start or hour >= start) and (not end or hour < end)]
    for hour in wanted:
        revision = last.get(hour.path)
        file = opened(lake.store, revision, HOURLY) if revision else None
        notes = file.facts.get("notes", {}) if file else {}
        if file:
            names = file.read(["vehicle"])["vehicle"]
            alike.update(names.filter(pc.starts_with(names, name)).to_pylist())
            if pc.any(pc.equal(names, name)).as_py():
                known.append(hour)
        if hour in derived_alone:
            continue  # its rows are gone: there is nothing to look into
        is_current = file is not None and file.facts["inputs"] == table.digest(found[hour])
        if not is_current or notes.get(UNNAMED, 1) or notes.get(UNREADABLE, 1) or notes.get(UNSURE):
            unsure.append(hour)
    return Candidates(tuple(known), tuple(unsure), tuple(sorted(alike - {name})), len(wanted))


def _hour(path: str) -> Hour | None:
    found = _PATH.fullmatch(path)
    return Hour.parse(f"{found[1]}-{found[2]}:00") if found else None


_PATH = re.compile(r"date=([0-9]{4}-[0-9]{2}-[0-9]{2})/hour=([0-9]{2})")


def not_yet_rows(fleet: Fleet, lake: Lake, now: datetime) -> set[Hour]:
    """Return the hours that may have messages without rows: the current one, as many before it as are looked at anew,
    and those of which it is recorded that something is missing.
    """
    last = Hour.of(now)
    newest = {Hour(last.start - timedelta(hours=back)) for back in range(fleet.look_back_hours + 1)}
    faults = [fault for rule in fleet.rules for fault in Ledger(lake.store, lake.prefix, rule).faults()]
    return newest | {Hour.parse(fault.hour) for fault in faults if fault.criterion == UNCOMPACTED}


def _parts(fleet: Fleet, lake: Lake) -> Mapping[Hour, Sequence[LakePart]]:
    """Return the parts of each hour, as the index's own inputs stand: rule after rule."""
    found: dict[Hour, list[LakePart]] = {}
    for _, hour, parts in _by_rule(fleet.rules, lake):
        found.setdefault(hour, []).extend(parts)
    return found


def _by_rule(rules: Sequence[Rule], lake: Lake) -> Iterator[tuple[Rule, Hour, list[LakePart]]]:
    for rule in rules:
        for hour, parts in lake.all_parts(rule).items():
            yield rule, hour, parts
