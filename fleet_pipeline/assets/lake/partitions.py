"""The hours of the lake, and the days made of them, as Dagster partitions."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from fleet_pipeline.instance.event_log import Last, last_of
from fleet_pipeline.instance.internals import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour

# The parameter has been beta since 1.6; the warning would greet every user at every start.
warnings.filterwarnings("ignore", message="Parameter `allow_nonexistent_upstream_partitions`", category=dg.BetaWarning)

CLOSED_HOURS, LATE_HOURS = {"dagster/priority": "10"}, {"dagster/priority": "5"}
"""Tags by which runs leave the queue: hours that have just closed, and looks, first; then hours that got late messages;
then backfills.
"""

RECORDS = 1000
"""Materializations that are looked at, newest first, to tell which hours were compacted before they had ended."""


def hours(fleet: Fleet) -> dg.HourlyPartitionsDefinition:
    """Return one partition for each hour (UTC) from the fleet's start to the hour that is running now.

    The running hour may be compacted like any other: what arrives later is appended by the next run.
    """
    return dg.HourlyPartitionsDefinition(start_date=f"{fleet.start}-00:00", end_offset=1)


def closed_hours(fleet: Fleet, now: datetime, count: int) -> list[Hour]:
    """Return the last hours that ended at least the grace time ago, oldest first: at most `count`, and none before the
    fleet's start.
    """
    running = Hour.of(now - timedelta(minutes=fleet.due_minutes))
    first = Hour(datetime.fromisoformat(fleet.start).replace(tzinfo=UTC))
    closed = (Hour(running.start - timedelta(hours=ago)) for ago in range(count, 0, -1))
    return [hour for hour in closed if hour >= first]


def hour_ranges(hours: Iterable[Hour]) -> list[tuple[Hour, Hour]]:
    """Return the first and the last hour of each range without a gap."""
    found: list[tuple[Hour, Hour]] = []
    for hour in sorted(hours):
        if found and found[-1][1].next == hour:
            found[-1] = (found[-1][0], hour)
        else:
            found.append((hour, hour))
    return found


def untouched(
    instance: dg.DagsterInstance, fleet: Fleet, among: Mapping[dg.AssetKey, Sequence[Hour]]
) -> dict[dg.AssetKey, list[Hour]]:
    """Return the hours of each asset that no run has materialized since they were closed, failed to, or is about to.

    Dagster's database is asked twice for 500 assets; where there is none of its own, some times for each asset.
    """
    last = last_of(instance, list(among), sorted({hour.partition_key for hours in among.values() for hour in hours}))
    if last is None:
        return {asset: untouched_of(instance, asset, fleet, hours) for asset, hours in among.items()}
    runs = sorted({each.run for each in last.values() if each.run})
    busy = {
        run.run_id
        for run in (instance.get_runs(dg.RunsFilter(run_ids=runs)) if runs else ())
        if run.status is dg.DagsterRunStatus.FAILURE or not run.is_finished
    }
    closed = timedelta(minutes=fleet.due_minutes)

    def is_wanted(asset: dg.AssetKey, hour: Hour) -> bool:
        found = last.get((asset, hour.partition_key), Last())
        return found.run not in busy and (found.made is None or found.made < hour.end + closed)

    return {asset: [hour for hour in hours if is_wanted(asset, hour)] for asset, hours in among.items()}


def untouched_of(instance: dg.DagsterInstance, asset: dg.AssetKey, fleet: Fleet, among: Iterable[Hour]) -> list[Hour]:
    """Return the same of one asset, by Dagster's own calls."""
    statuses = _statuses(instance, asset, fleet, among)
    wanted = dg.AssetRecordsFilter(asset, asset_partitions=[hour.partition_key for hour in statuses])
    made = instance.fetch_materializations(wanted, limit=RECORDS).records
    closed = timedelta(minutes=fleet.due_minutes)
    final = {
        record.partition_key
        for record in made
        if record.partition_key and record.timestamp >= (Hour.parse(record.partition_key).end + closed).timestamp()
    }
    early = {
        hour
        for hour, status in statuses.items()
        if status is dg.AssetPartitionStatus.MATERIALIZED and hour.partition_key not in final
    }
    return [hour for hour, status in statuses.items() if status is None or hour in early]


def idle(instance: dg.DagsterInstance, asset: dg.AssetKey, fleet: Fleet, among: Iterable[Hour]) -> list[Hour]:
    """Return the hours at which no run is working or about to."""
    statuses = _statuses(instance, asset, fleet, among)
    return [hour for hour, status in statuses.items() if status is not dg.AssetPartitionStatus.IN_PROGRESS]


def _statuses(
    instance: dg.DagsterInstance, asset: dg.AssetKey, fleet: Fleet, among: Iterable[Hour]
) -> dict[Hour, dg.AssetPartitionStatus | None]:
    wanted = list(among)
    known = instance.get_status_by_partition(asset, [hour.partition_key for hour in wanted], hours(fleet)) or {}
    return {hour: known.get(hour.partition_key) for hour in wanted}


def run_requests(
    wanted: Mapping[dg.AssetKey, Iterable[Hour]],
    checks: Mapping[dg.AssetKey, Sequence[dg.AssetCheckKey]],
    occasion: str,
    tags: Mapping[str, str],
) -> Iterator[dg.RunRequest]:
    """Yield one run for each range of hours without a gap, the newest first; assets that want the same range share
    it. They make these checks only.

    The run key is made of the occasion and of what is wanted: asked twice on one occasion, Dagster starts one run.
    """
    shared: dict[tuple[Hour, Hour], list[dg.AssetKey]] = {}
    for asset, its_hours in wanted.items():
        for hour_range in hour_ranges(its_hours):
            shared.setdefault(hour_range, []).append(asset)
    for (first, last), assets in sorted(shared.items(), reverse=True):
        names = ",".join(asset.to_user_string() for asset in assets)
        own = [check for asset in assets for check in checks[asset]]
        run_key = f"{occasion} {first.partition_key}...{last.partition_key} {names}"
        if first == last:
            yield dg.RunRequest(
                run_key,
                partition_key=first.partition_key,
                asset_selection=assets,
                asset_check_keys=own,
                tags=dict(tags),
            )
        else:
            of_range = range_tags(first.partition_key, last.partition_key)
            yield dg.RunRequest(run_key, asset_selection=assets, asset_check_keys=own, tags={**tags, **of_range})


def range_tags(first: str, last: str) -> dict[str, str]:
    """Return the tags of a run over a range of partitions, by their keys."""
    return {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}


def days(fleet: Fleet) -> dg.DailyPartitionsDefinition:
    """Return one partition for each day (UTC) from the fleet's start to the day that is running now."""
    return dg.DailyPartitionsDefinition(start_date=fleet.start, end_offset=1)


def hours_of_the_day() -> dg.TimeWindowPartitionMapping:
    """Return how a day is made of hours; those of the running day that have not begun are none of its parents."""
    return dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)
