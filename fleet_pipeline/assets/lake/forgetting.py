"""What Dagster shows of messages, and how it is taken out of its event log when a vehicle is erased."""

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from fleet_pipeline.assets.lake import parquet
from fleet_pipeline.assets.lake.hour_metadata import OF_MESSAGES
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.instance.event_log import forget
from fleet_pipeline.instance.names import Taken, take_out
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.spelt import SHORTEST, Spelling

VEHICLES = ("vehicles", "hourly"), ("vehicles", "daily")
"""The assets about vehicles, which are only there with DuckDB; their events may be older."""


@dataclass(frozen=True)
class ShownInDagster:
    """An instance, of which the rows and positions of some hours are to go, whosever they are: a position does not say
    of which vehicle it is. And the vehicle's name, wherever Dagster was told of it.
    """

    scope: Scope
    instance: dg.DagsterInstance

    def forget(self, name: str, hours: Sequence[Hour]) -> str:
        """Take out what is shown of messages, and the name, and say of how many events."""
        of_hours, of_days = {each.partition_key for each in hours}, {f"{each.start:%Y-%m-%d}" for each in hours}
        hourly, daily = (self.scope.key(*path) for path in VEHICLES)
        shown = {parquet.key(self.scope, rule): of_hours for rule in self.scope.fleet.rules}
        count = forget(self.instance, shown | {hourly: of_hours, daily: of_days}, OF_MESSAGES)
        if count is None:
            return "its storage is none of Dagster's databases: nothing was taken out of it"
        spelling = Spelling(name, self.scope.fleet.thing_prefix)
        taken = take_out(self.instance, spelling, OF_MESSAGES)
        shown_of = f"rows and positions were taken out of {count:,} events of {len(of_hours):,} hours"
        return f"{shown_of}; {_said(spelling, taken)}"


def _said(name: Spelling, taken: Taken) -> str:
    if name.is_too_short:
        return f"a name of fewer than {SHORTEST} characters is not looked for in other texts"
    said = f"the name was taken out of {taken.rows:,} further rows and {taken.files:,} files of what runs printed"
    if taken.printed_elsewhere:
        said += "; what runs printed lies elsewhere and was not looked through"
    if taken.remains:
        said += "; what was overwritten stands in its files until the same command is run again while nobody uses them"
    return said
