"""The lake: each rule's messages as Parquet, compacted hour by hour."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import dagster as dg

from fleet_pipeline.assets.lake import provenance, raw, verdicts
from fleet_pipeline.assets.lake.hour_metadata import hour_metadata, standing_metadata
from fleet_pipeline.assets.lake.inspection import inspect
from fleet_pipeline.assets.lake.partitions import hours
from fleet_pipeline.assets.lake.verdicts import Outcome
from fleet_pipeline.assets.provisioning import infrastructure
from fleet_pipeline.assets.shared.failures import failure, reported
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.lake.containment import outcome_of
from fleet_pipeline.lake.contract import Contract
from fleet_pipeline.lake.inventory import told
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.ledger import Ledger
from fleet_pipeline.lake.operations.compact import Compaction, compact_hours
from fleet_pipeline.lake.operations.compact_hour import Compacted, Progress, compact_hour
from fleet_pipeline.model.errors import FleetError, InventoryNotYet
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.plain import plain
from fleet_pipeline.model.rule import Rule
from fleet_pipeline.resources.account import AccountResource

# Backfill policies have been beta for years; the warning would greet every user at every start.
warnings.filterwarnings("ignore", message="Parameter `backfill_policy`", category=dg.BetaWarning)

GROUP = "lake"
POOL = "compaction"
"""The pool of which a compaction takes a slot; `dagster.yaml` says how many there are.

With a key prefix, a fleet has one of its own.
"""

CODE_VERSION = "1"
"""Raised when the same raw objects would give other rows."""

WHEN_IT_GREW = (
    dg.AutomationCondition.any_deps_updated().since_last_handled()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
)
"""When what is made from the lake is made again: for each of its partitions, not the latest only, because messages come
late. That a rule has no rows of an hour, or failed at it, is no reason to wait.
"""

DRAWN_ROWS = 1_000_000
"""Rows of an hour up to which it is read anew for its pictures where no run of Dagster's wrote it."""

TELL_EVERY = 10.0
"""Seconds between two lines in the log that say how far an hour is."""

RETRY = dg.RetryPolicy(max_retries=2, delay=30, backoff=dg.Backoff.EXPONENTIAL)
"""For hours that AWS did not answer for.

Each request was repeated for 40 s before, and what cannot heal is not retried at all.
"""


def lake_assets(scope: Scope) -> list[dg.AssetsDefinition]:
    """Return the Parquet of each rule, one asset a rule, one partition an hour."""
    return [_asset(scope, rule) for rule in scope.fleet.rules]


def key(scope: Scope, rule: Rule) -> dg.AssetKey:
    """Return the asset key of a rule's Parquet."""
    return scope.key(GROUP, rule.key)


def own_checks(scope: Scope) -> dict[dg.AssetKey, list[dg.AssetCheckKey]]:
    """Return the checks that each asset makes in its own run."""
    return {key(scope, rule): [spec.key for spec in verdicts.specs(key(scope, rule))] for rule in scope.fleet.rules}


def stores(fleet: Fleet, account: AccountResource, rule: Rule) -> tuple[S3Store, Lake]:
    """Return where a rule's raw objects lie and where Parquet does: a bucket that overwrites nothing unasked."""
    lake = S3Store(account.aws, fleet.lake_bucket)
    lake.prove()
    return S3Store(account.aws, fleet.bucket_of(rule)), Lake.of(fleet, lake)


@dataclass(frozen=True, slots=True)
class Reach:
    """Up to when a rule's hours can be told, and since when."""

    until: datetime
    delivered: datetime | None = None
    """When the newest inventory came; None for a rule without one, whose hours can be told as they close."""


def reach(fleet: Fleet, account: AccountResource, rule: Rule, now: datetime) -> Reach:
    """Return up to when a rule's hours can be told: now; of a rule with an inventory, as far as the newest tells, so
    that an hour of which it cannot is not due. Raises InventoryNotYet where there is none, and InventoryBroken.
    """
    if not rule.inventory:
        return Reach(now)
    with closing(S3Store(account.aws, fleet.bucket_of(rule))) as raw:
        found = told(raw, rule)
    if found is None:
        raise InventoryNotYet(rule.key, rule.inventory, "Each hour", "there is none yet", "its end and an hour")
    return Reach(min(now, found.until + timedelta(minutes=fleet.due_minutes)), found.delivered)


def as_it_stands(  # noqa: PLR0913, PLR0917 (all that it works on comes in by the front door)
    instance: dg.DagsterInstance, scope: Scope, rule: Rule, hour: Hour, lake: Lake, rows: int, why: Mapping[str, str]
) -> dg.AssetMaterialization:
    """Return what Dagster is told of an hour that something else than a run of it has written, and `why`: what is made
    from the lake then follows. It is read for its pictures unless it has more rows than `DRAWN_ROWS`.

    Raises PartsMissing and PartDamaged.
    """
    of_raw = provenance.of(instance, raw.key(scope, rule), is_external=True, partition=hour.partition_key)
    of_bucket = provenance.of(instance, infrastructure.key(scope, "lake_bucket"))
    metadata: dict[str, Any] = {"dagster/partition_row_count": rows}
    if rows <= DRAWN_ROWS:
        contract = lake.contract(rule)
        found = inspect(scope.fleet, lake, rule, hour, contract)
        rows, metadata = found.rows, standing_metadata(scope, rule, found, contract)
    return dg.AssetMaterialization(
        key(scope, rule),
        partition=hour.partition_key,
        metadata={**metadata, **why},
        tags=provenance.own(CODE_VERSION, str(rows)) | of_bucket | of_raw,
    )


def ledger(fleet: Fleet, account: AccountResource, rule: Rule) -> Ledger:
    """Return where the verdicts on a rule's hours are kept."""
    return Ledger(S3Store(account.aws, fleet.lake_bucket), fleet.parquet_prefix, rule, timedelta(days=fleet.sweep_days))


def _asset(scope: Scope, rule: Rule) -> dg.AssetsDefinition:
    fleet, asset, source, bucket = (
        scope.fleet,
        key(scope, rule),
        raw.key(scope, rule),
        infrastructure.key(scope, "lake_bucket"),
    )

    @dg.asset(
        key=asset,
        deps=[source, bucket],
        group_name=scope.name(GROUP),
        kinds={"s3", "parquet"},
        description=f"{rule.contents}, one row each: payload byte for byte, typed columns beside it.",
        metadata={"dagster/uri": f"s3://{fleet.lake_bucket}/{fleet.parquet_prefix}/"},
        partitions_def=hours(fleet),
        backfill_policy=dg.BackfillPolicy.single_run(),
        code_version=CODE_VERSION,
        check_specs=verdicts.specs(asset),
        pool=scope.name(POOL),
        retry_policy=RETRY,
        # Each hour is reported as it is finished, so that a run which is stopped keeps what it has done.
        output_required=False,
        required_resource_keys={scope.account_key},
    )
    def compact(
        context: dg.AssetExecutionContext,
    ) -> Iterator[dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckResult]:
        account = scope.account(context.resources)
        with reported():
            work = _Work(fleet, rule, account, context.log)
        of_bucket = provenance.of(context.instance, bucket)
        for outcome in work.done(_to_do(context)):
            compacted, partition = outcome.compacted, outcome.hour.partition_key
            if compacted.rows_added:
                yield provenance.seen(source, partition, compacted.raw_versions, compacted.raw_bytes)
            # Rows are only ever added, so their number names the content of an hour.
            tags = provenance.own(CODE_VERSION, str(compacted.rows)) | of_bucket
            tags |= provenance.of(context.instance, source, is_external=True, partition=partition)
            yield dg.AssetMaterialization(
                asset, partition=partition, metadata=hour_metadata(scope, rule, outcome, work.learnt), tags=tags
            )
        with reported():
            faults = ledger(fleet, account, rule).judge(
                datetime.now(UTC), verdicts.judged(fleet, work.outcomes, work.failed)
            )
        yield from verdicts.results(faults, len(work.outcomes) + len(work.failed))
        work.raise_failure(len(context.partition_keys))

    return compact


class _Work:
    """The hours of one rule in one run: what came of them. An hour that fails does not stop the others."""

    def __init__(self, fleet: Fleet, rule: Rule, account: AccountResource, log: dg.DagsterLogManager) -> None:
        self._fleet, self._rule, self._aws, self._log = fleet, rule, account.aws, log
        self._raw, self._lake = stores(fleet, account, rule)
        self.learnt = self._lake.contract(rule)
        self.outcomes: list[Outcome] = []
        self.failed: dict[str, FleetError] = {}

    def done(self, partitions: Iterable[str]) -> Iterator[Outcome]:
        """Yield what came of hours, as they are finished; those that failed are noted."""
        for hour, found in self._compacted(map(Hour.parse, partitions)):
            outcome = (
                found
                if isinstance(found, FleetError)
                else outcome_of(self._what(hour), partial(self._looked_at, hour, found))
            )
            if isinstance(outcome, FleetError):
                self.failed[hour.partition_key] = outcome
                self._log.error("%s: %s", hour.partition_key, plain(outcome))
            else:
                self.outcomes.append(outcome)
                yield outcome

    def _compacted(self, hours: Iterable[Hour]) -> Iterator[tuple[Hour, Compacted | FleetError]]:
        """Yield hours with what was done: one after the other in this process, or by the cluster that is named."""
        hours = list(hours)
        told = {hour: _Told(self._log, hour.partition_key) for hour in hours}
        if self._fleet.engine == "processes":
            for hour in hours:
                yield hour, outcome_of(self._what(hour), partial(self._one, hour, told[hour]))
            return
        work = Compaction.of(self._fleet, self._aws, self._rule)
        with reported():
            yield from compact_hours(
                work, hours, on=self._fleet.engine, on_progress=lambda hour, progress: told[hour](progress)
            )

    def _what(self, hour: Hour) -> str:
        return f"{self._rule.key} {hour.partition_key}"

    def _one(self, hour: Hour, tell: Callable[[Progress], None]) -> Compacted:
        return compact_hour(self._raw, self._lake, self._rule, hour, on_progress=tell)

    def _looked_at(self, hour: Hour, compacted: Compacted) -> Outcome:
        before = self.learnt
        if compacted.schema != before.schema:
            self.learnt = self._lake.contract(self._rule)
        found = inspect(self._fleet, self._lake, self._rule, hour, self.learnt)
        # what another run has learnt meanwhile is no news of an hour that got no rows
        return Outcome(hour, compacted, found, _new(before, self.learnt) if compacted.rows_added else ())

    def raise_failure(self, hours: int) -> None:
        """Raise what ends the run, if an hour failed, naming each; retried only if one of them may heal."""
        if self.failed:
            raise failure(self.failed, hours)


class _Told:
    """What the log hears of an hour that takes long."""

    def __init__(self, log: dg.DagsterLogManager, partition: str) -> None:
        self._log, self._partition, self._logged_at = log, partition, 0.0

    def __call__(self, progress: Progress) -> None:
        if progress.seconds < self._logged_at + TELL_EVERY:
            return
        self._logged_at = progress.seconds
        said = "%s: %s messages read, %.0f a second, about %.0f seconds left"
        self._log.info(said, self._partition, f"{progress.objects:,}", progress.objects_per_s, progress.seconds_left)


def _to_do(context: dg.AssetExecutionContext) -> list[str]:
    """Return the run's hours; when its step is retried, those that it has not finished."""
    if not context.retry_number:
        return list(context.partition_keys)
    done = context.instance.all_logs(context.run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    finished = {
        entry.get_dagster_event().partition
        for entry in done
        if entry.get_dagster_event().asset_key == context.asset_key
    }
    return [partition for partition in context.partition_keys if partition not in finished]


def _new(before: Contract, after: Contract) -> tuple[str, ...]:
    return tuple(name for name in after.columns if name not in before.columns) if before.columns else ()
