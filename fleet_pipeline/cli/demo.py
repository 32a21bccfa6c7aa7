"""`fleet demo`: the whole way on one machine, counted at every station."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from rich.table import Table

from fleet_pipeline.account import Account
from fleet_pipeline.assets.lake.forgetting import ShownInDagster
from fleet_pipeline.assets.lake.partitions import closed_hours, range_tags
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.cli.alone import alone
from fleet_pipeline.cli.shown import console, styled
from fleet_pipeline.cli.vehicle import drive_all, register_all
from fleet_pipeline.cloud.enrolment.hook_log import decisions
from fleet_pipeline.definitions import build_definitions
from fleet_pipeline.lake import iceberg
from fleet_pipeline.lake.batches import BatchHour
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.listing import pages
from fleet_pipeline.lake.workplace import workplace
from fleet_pipeline.model.errors import DemoStopped, RegistrationRefused
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour, Span
from fleet_pipeline.model.plain import plain
from fleet_pipeline.model.rule import Rule
from fleet_pipeline.vehicle.driving import made_up_serials
from fleet_pipeline.vehicle.past import write_hours, write_visit

FOREIGN_SERIAL = "999999000001"
"""A serial of another maker, which the hook must refuse."""

SHOWN = {
    "_ts": ["_ts"],
    "serial": ["serial"],
    "speed_kmh": ["speed_kmh"],
    "battery_charge_percent": ["battery", "charge_percent"],
}
"""Columns of the first rows, few enough for a narrow terminal; and the way to each through structs."""

PAST_HOURS, DRIVEN_HOURS = 48, 3
"""How many hours that have passed are compacted, on this machine, and in how many of them vehicles have driven."""

VISITOR = 1_001
"""The number of a vehicle that came by once: no other of the demo has it."""

ARRIVAL_PATIENCE_S = 30
"""AWS IoT's rules act within a second or two."""

QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
"""Dagster's own lines would hide the demo's; the UI shows them all."""


@dataclass(frozen=True, slots=True)
class Counts:
    """One rule's messages of this demo at the three stations."""

    published: int
    raw_objects: int
    rows: int

    @property
    def agree(self) -> bool:
        """Whether nothing was lost and nothing came twice."""
        return self.published == self.raw_objects == self.rows


def run(fleet: Fleet, vehicles: int, messages: int) -> bool:
    """Provision, register, drive, compact and count; return whether every count agrees. May be run again and again.

    Raises InUse while another demo of this folder is at work, and DemoStopped, naming the station, when it is
    interrupted or one of its runs fails.
    """
    with alone("demo"):
        return _run(fleet, vehicles, messages)


def _run(fleet: Fleet, vehicles: int, messages: int) -> bool:
    account = Account.of(fleet)
    with _station("AWS"):
        where = account.aws.endpoint_url or f"account {fleet.account} in {fleet.region}"
    console.print(f"  {where}")
    dagster = _Dagster(build_definitions(fleet), dg.DagsterInstance.from_config(str(Path.cwd())))
    with _station("provision: every resource is a Dagster asset"):
        _provision(dagster)
    with _station("drift: AWS holds what the settings want"):
        _look_for_drift(dagster)
    serials = made_up_serials(fleet, vehicles)
    with _station("register: claim certificate → certificate of its own"):
        refused = _register(fleet, account, serials)
    begun, past = datetime.now(UTC), list[Hour]()
    with _station("drive: telemetry by Basic Ingest"):
        published = drive_all(fleet, account, serials, messages)
        hours = _hours(begun, datetime.now(UTC))
        if fleet.profile == "local":
            past = _past(fleet, account, serials, begun)
            hours = past + hours
            if past and _can_erase(fleet):
                write_visit(fleet, account.aws, fleet.made_up_serial(VISITOR), past[-1])
    with _station("compact: raw objects → Parquet"):
        _wait_for(fleet, account, published, begun)
        _compact(dagster, hours)
    if fleet.profile == "local":  # in an account a catalog is made by who wants one
        with _station("tables: vehicles, catalog, what the rules could not write"):
            _derive(dagster, hours)
    with _station("count: published = raw objects = rows"):
        counts = _count(fleet, account, published, begun)
    if fleet.profile == "local" and past and _can_erase(fleet):
        with _station("personal data: a snapshot, what is held on a vehicle, and its end"):
            _forget(fleet, account, dagster, past[-1])
    _show(fleet, account, counts)
    return refused and all(count.agree for count in counts.values())


@dataclass(frozen=True, slots=True)
class _Dagster:
    """The fleet's definitions and the instance that remembers what was made of them."""

    definitions: dg.Definitions
    instance: dg.DagsterInstance

    def run(self, job: dg.JobDefinition, **selection: Any) -> dg.ExecuteInProcessResult:
        """Run a job in this process, and return what it did."""
        return job.execute_in_process(instance=self.instance, run_config=QUIET, **selection)

    def made(self, job: dg.JobDefinition, **selection: Any) -> Iterator[dg.AssetMaterialization]:
        """Run a job and return what it materialized."""
        result = self.run(job, **selection)
        return (
            event.step_materialization_data.materialization
            for event in result.all_events
            if event.is_step_materialization
        )

    def job(self, name: str) -> dg.JobDefinition:
        """Return one of the fleet's jobs."""
        return self.definitions.resolve_job_def(name)

    def assets(self, *names: str) -> list[dg.AssetKey]:
        """Return the keys of assets, each named by its key or its group."""
        specs = self.definitions.resolve_all_asset_specs()
        return [spec.key for spec in specs if spec.group_name in names or spec.key.to_user_string() in names]


@contextmanager
def _station(title: str) -> Iterator[None]:
    console.print(title, style="bold")
    begun = time.monotonic()
    try:
        yield
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        raise DemoStopped(title, "it was interrupted") from None
    except dg.Failure as failure:
        raise DemoStopped(title, failure.description or str(failure)) from failure
    console.print(f"  {time.monotonic() - begun:.1f} s", style="dim")


def _provision(dagster: _Dagster) -> None:
    done = Counter(made.metadata["action"].value for made in dagster.made(dagster.job("provision")))
    console.print("  " + ", ".join(f"{count} {action}" for action, count in done.items()))


def _look_for_drift(dagster: _Dagster) -> None:
    checks = dagster.run(dagster.job("plan")).get_asset_check_evaluations()
    console.print(f"  {sum(check.passed for check in checks)} of {len(checks)} checks are green")


def _compact(dagster: _Dagster, hours: Sequence[Hour]) -> None:
    rows: Counter[str] = Counter()
    for made in dagster.made(dagster.job("compact"), tags=_range(hours)):
        rows[made.asset_key.to_user_string()] += int(str(made.metadata["rows added"].value))
    for asset, added in rows.items():
        console.print(f"  {asset}, {hours[0].partition_key} to {hours[-1].partition_key}: {added} rows added")


def _derive(dagster: _Dagster, hours: Sequence[Hour]) -> None:
    """Make what follows from the lake, so that nothing in the graph waits for its first run."""
    everything = dagster.definitions.resolve_implicit_global_asset_job_def()
    days = sorted({f"{hour.start:%Y-%m-%d}" for hour in hours})
    made: Counter[str] = Counter()
    for names, tags in (
        (("catalog", "errors", "iceberg"), {}),
        (("vehicles/hourly",), _range(hours)),
        (("vehicles/daily",), range_tags(days[0], days[-1])),
    ):
        if keys := dagster.assets(*names):
            made.update(each.asset_key.path[0] for each in dagster.made(everything, asset_selection=keys, tags=tags))
    console.print("  " + ", ".join(f"{count} of {group}" for group, count in made.items()))


def _can_erase(fleet: Fleet) -> bool:
    """Whether the engine of the tables about vehicles is there, and it can be told whose a message of the demo is."""
    is_named = fleet.vehicle_field == "serial" or fleet.raw_key_format == "timestamp-uuid-client"
    return find_spec("duckdb") is not None and bool(_counted(fleet)) and is_named


def _forget(fleet: Fleet, account: Account, dagster: _Dagster, hour: Hour) -> None:
    """Give out what is held on a vehicle that came by once, erase it, and show what the table of its rule is now."""
    from fleet_pipeline.personal_data import Order, erase_vehicle, give_out

    serial, rule = fleet.made_up_serial(VISITOR), _counted(fleet)[0]
    has_tables = iceberg.is_wanted(fleet)
    before = _snapshot(fleet, account, rule) if has_tables else ""
    with TemporaryDirectory(prefix="fleet-", dir=account.home) as folder:
        given = give_out(fleet, account, serial, Path(folder, "answer"), start=hour, end=hour.next)
    console.print(
        f"  export of {serial}: {given.found.messages.total()} message, {given.files} files and their SHA-256"
    )
    shown = ShownInDagster(Scope(fleet), dagster.instance, account.aws)
    done = erase_vehicle(fleet, account, Order(serial, before=hour.end), confirm=serial, event_log=shown)
    _derive(dagster, [hour])
    removed, looked = done.removed, sum(done.searched.looked.values())
    console.print(
        f"  erasure of {serial}: {removed.raw_versions} raw version and {removed.rows} row are gone; found in the "
        f"{looked} objects that are left: {len(done.searched.theirs)}; the certificate is {done.certificate}",
        soft_wrap=True,
    )
    if has_tables:
        console.print(f"  snapshots of {rule.key}_iceberg: {before}, then {_snapshot(fleet, account, rule)}")
    else:
        console.print("  no Iceberg tables: the extra iceberg is not installed, or FLEET_ICEBERG is off")


def _snapshot(fleet: Fleet, account: Account, rule: Rule) -> str:
    """Say what the current snapshot of a rule's Iceberg table has."""
    from fleet_pipeline.lake.iceberg.sync import shown
    from fleet_pipeline.lake.iceberg.tables import Tables

    tables = Tables.of(fleet, account.aws, account.catalog_uri(fleet.iceberg_uri))
    found = tables.find(rule)
    return f"{shown(tables, rule, found).rows} rows" if found else "none"


def _range(hours: Sequence[Hour]) -> dict[str, str]:
    return range_tags(hours[0].partition_key, hours[-1].partition_key)


def _register(fleet: Fleet, account: Account, serials: Sequence[str]) -> bool:
    """Register vehicles and one foreign serial; return whether that one was refused."""
    register_all(fleet, account, serials)
    try:
        register_all(fleet, account, [FOREIGN_SERIAL])
    except RegistrationRefused as refusal:
        reasons = {decided.reason for decided in decisions(fleet, account.aws, FOREIGN_SERIAL)}
        console.print(
            f"  {FOREIGN_SERIAL} refused: {refusal.message} ({refusal.status_code} {refusal.error_code}); the hook "
            f"says: {', '.join(reasons)}"
        )
        return True
    console.print(f"  {FOREIGN_SERIAL} was registered and should not have been", style="red")
    return False


def _wait_for(fleet: Fleet, account: Account, published: Mapping[str, Sequence[str]], begun: datetime) -> None:
    """Wait until every message is an object: AWS IoT acknowledges a message before its rules have acted."""
    buffered = fleet.delivery_buffer_seconds if fleet.batched_rules else 0
    if buffered:
        console.print(f"  waiting up to {buffered} s for the streams: FLEET_DELIVERY_BUFFER_SECONDS")
    give_up = time.monotonic() + ARRIVAL_PATIENCE_S + buffered
    while time.monotonic() < give_up and any(
        _raw_objects(fleet, account, rule, begun) < len(published[rule.key]) for rule in _counted(fleet)
    ):
        time.sleep(0.2)


def _counted(fleet: Fleet) -> list[Rule]:
    """Return the rules of which each message becomes a row: what SQL of one's own leaves out cannot be told from what
    is lost.
    """
    return [rule for rule in fleet.made_rules if rule.keeps_payloads]


def _hours(begun: datetime, ended: datetime) -> list[Hour]:
    hours = [Hour.of(begun)]
    while hours[-1].end <= ended:
        hours.append(hours[-1].next)
    return hours


def _past(fleet: Fleet, account: Account, serials: Sequence[str], now: datetime) -> list[Hour]:
    """Let the vehicles have driven in the last hours, and return the hours that have passed since the fleet's first
    day, two days at most.
    """
    hours = closed_hours(fleet, now, PAST_HOURS)
    driven = hours[-DRIVEN_HOURS:]
    if written := write_hours(fleet, account.aws, serials, driven):
        console.print(
            f"  and {written} messages as if they had driven in the {len(driven)} hours before, "
            f"{len(_counted(fleet))} of them damaged"
        )
    return hours


def _count(
    fleet: Fleet, account: Account, published: Mapping[str, Sequence[str]], begun: datetime
) -> dict[Rule, Counts]:
    counts, lake = {}, _lake(fleet, account)
    for rule in _counted(fleet):
        rows = Counter(lake.to_table(["message_id"], filter=ds.field("rule") == rule.key)["message_id"].to_pylist())
        ids = published[rule.key]
        counts[rule] = Counts(
            published=len(ids),
            raw_objects=_raw_objects(fleet, account, rule, begun),
            rows=sum(rows[each] for each in ids),
        )
    return counts


def _raw_objects(fleet: Fleet, account: Account, rule: Rule, begun: datetime) -> int:
    """Return how many messages lie in the bucket since the demo began, each counted once."""
    if rule.delivery == "firehose":
        return _batched(fleet, account, rule, begun)
    since = Span(int(begun.timestamp() * 1000), Hour.of(datetime.now(UTC)).next.end_ms)
    keys = {each.key for page in pages(S3Store(account.aws, fleet.bucket), rule, since) for each in page}
    return sum(rule.parse_raw_key(key) is not None for key in keys)


def _batched(fleet: Fleet, account: Account, rule: Rule, begun: datetime) -> int:
    raw, lake = S3Store(account.aws, fleet.bucket), Lake.of(fleet, S3Store(account.aws, fleet.lake_bucket))
    since, count = pa.scalar(begun, pa.timestamp("ms", "UTC")), 0
    for hour in _hours(begun, datetime.now(UTC)):
        with workplace() as folder:
            batches = BatchHour(raw, lake, rule, hour)
            tables = batches.tables(batches.listed, folder)
            count += sum(int(pc.sum(pc.greater_equal(each["_ts"], since)).as_py() or 0) for each in tables)
    return count


def _lake(fleet: Fleet, account: Account) -> ds.Dataset:
    root = Lake.current(S3Store(account.aws, fleet.lake_bucket), fleet.parquet_prefix).root
    return ds.dataset(
        f"{fleet.lake_bucket}/{root}", filesystem=account.arrow_filesystem, partitioning=ds.partitioning(flavor="hive")
    )


def first_rows(lake: ds.Dataset) -> pa.Table:
    """Return a few rows of the columns that are shown, whatever form their table has."""
    return lake.head(
        5, columns={name: ds.field(name if name in lake.schema.names else tuple(path)) for name, path in SHOWN.items()}
    )


def _show(fleet: Fleet, account: Account, counts: Mapping[Rule, Counts]) -> None:
    table = Table("rule", "published", "raw objects", "rows", "")
    for rule, count in counts.items():
        table.add_row(
            rule.key,
            *map(str, (count.published, count.raw_objects, count.rows)),
            styled(("equal", "green") if count.agree else ("differ", "red")),
        )
    console.print(table)
    lake = _lake(fleet, account)
    whole = [f"{rule.key} {lake.count_rows(filter=ds.field('rule') == rule.key):,}" for rule in counts]
    console.print(
        f"The table counts what was published just now. With the hours before, the lake has rows of "
        f"{', '.join(whole)}, as `fleet query` counts them.",
        soft_wrap=True,
    )
    head = first_rows(lake)
    rows = Table(
        *(name.lstrip("_") for name in SHOWN),
        title=f"the first rows of s3://{fleet.lake_bucket}/{fleet.parquet_prefix}/",
    )
    for row in head.to_pylist():
        rows.add_row(f"{row.pop('_ts'):%H:%M:%S.%f}"[:-3], *(plain(value) for value in row.values()))
    console.print(rows)
    command = "make ui" if Path("Makefile").exists() else "fleet ui"
    console.print(
        styled(
            "Now look at it: ",
            (command, "bold"),
            ", then http://127.0.0.1:3000. Under Lineage open its groups: all that Dagster makes is green.",
        )
    )
    console.print(
        "Click `lake/rule1` there, and in it an hour: messages a minute, where the vehicles were, what could not "
        "be read."
    )
