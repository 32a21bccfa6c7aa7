"""What Dagster shows of messages: taken out of its event log when a vehicle is erased, and drawn anew from what is
left.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import dagster as dg

from fleet_pipeline.assets.lake import parquet, provenance, raw
from fleet_pipeline.assets.lake.hour_metadata import OF_MESSAGES
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.instance.event_log import forget
from fleet_pipeline.instance.names import Taken, take_out
from fleet_pipeline.lake.commit import standing
from fleet_pipeline.lake.containment import outcome_of
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.look import look
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule
from fleet_pipeline.model.spelt import SHORTEST, Spelling

VEHICLES = ("vehicles", "hourly"), ("vehicles", "daily")
"""The assets about vehicles, which are only there with DuckDB; their events may be older."""


@dataclass(frozen=True)
class ShownInDagster:
    """An instance, of which the rows and positions of some hours are to go, whosever they are: a position does not say
    of which vehicle it is. And the vehicle's name, wherever Dagster was told of it. The hours are then shown as they
    are now.
    """

    scope: Scope
    instance: dg.DagsterInstance
    aws: Aws

    def forget(self, name: str, hours: Sequence[Hour]) -> str:
        """Take out what is shown of messages, and the name, say of how many events, and report the hours as they are
        now: what is made from the lake then follows, as after any change of it.
        """
        places = [(rule, hour) for rule in self.scope.fleet.rules for hour in hours]
        drawn = {(rule, hour): self._shows_messages(rule, hour) for rule, hour in places}
        said = self._taken_out(name, hours)
        lake = Lake.of(self.scope.fleet, S3Store(self.aws, self.scope.fleet.lake_bucket))
        told = [
            outcome_of(f"{rule.key} {hour.partition_key}", partial(self._told, lake, rule, hour, drawn=was_drawn))
            for (rule, hour), was_drawn in drawn.items()
            if was_drawn is not None
        ]
        return f"{said}; {told.count(True):,} hours are shown there as they are now"

    def _shows_messages(self, rule: Rule, hour: Hour) -> bool | None:
        """Whether anything of messages is shown of an hour; None where Dagster knows nothing of the hour."""
        wanted = dg.AssetRecordsFilter(parquet.key(self.scope, rule), asset_partitions=[hour.partition_key])
        records = self.instance.fetch_materializations(wanted, limit=1).records
        found = records[0].asset_materialization if records else None
        return None if found is None else bool(OF_MESSAGES & {*found.metadata})

    def _taken_out(self, name: str, hours: Sequence[Hour]) -> str:
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

    def _told(self, lake: Lake, rule: Rule, hour: Hour, *, drawn: bool) -> bool:
        """Report an hour that was changed, or whose pictures were taken out; say whether it was one."""
        fleet, partition = self.scope.fleet, hour.partition_key
        rows = sum(file.rows for file in standing(lake, rule, hour))
        fewer = provenance.known(self.instance, parquet.key(self.scope, rule), partition) != str(rows)
        if not fewer and not drawn:
            return False
        if not rule.bucket:  # one that is only read is as it was
            seen = look(S3Store(self.aws, fleet.bucket_of(rule)), lake, rule, hour)
            source = raw.key(self.scope, rule)
            if compacted := seen.versions - seen.uncompacted:  # none where they were purged
                self.instance.report_runless_asset_event(provenance.seen(source, partition, compacted, seen.bytes))
        why = f"by an erasure of a vehicle at {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        said = {"changed" if fewer else "drawn anew": why}
        self.instance.report_runless_asset_event(
            parquet.as_it_stands(self.instance, self.scope, rule, hour, lake, rows, said)
        )
        return True


def _said(name: Spelling, taken: Taken) -> str:
    if name.is_too_short:
        return f"a name of fewer than {SHORTEST} characters is not looked for in other texts"
    said = f"the name was taken out of {taken.rows:,} further rows and {taken.files:,} files of what runs printed"
    if taken.printed_elsewhere:
        said += "; what runs printed lies elsewhere and was not looked through"
    if taken.remains:
        said += "; what was overwritten stands in its files until the same command is run again while nobody uses them"
    return said
