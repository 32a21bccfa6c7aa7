"""`fleet compact`, `fleet schema`, `fleet raw` and `fleet lake`: the lake without Dagster."""

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.progress import Progress as Bar
from rich.progress import TaskID, TextColumn
from rich.table import Table

from fleet_pipeline.account import Account
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.cli.shown import ask, console, progress, styled
from fleet_pipeline.lake.containment import contained
from fleet_pipeline.lake.contract import COLUMNS, Contract
from fleet_pipeline.lake.layout import Lake, contract_of
from fleet_pipeline.lake.learning import Evidence
from fleet_pipeline.lake.ledger import EVERY_VERSION, UNCOMPACTED, WHOLE, Ledger, Verdict
from fleet_pipeline.lake.operations.compact import Compaction, compact_hours, forecast_hour
from fleet_pipeline.lake.operations.compact_hour import Compacted, Progress
from fleet_pipeline.lake.operations.rewrite import Rewritten, has_grown, learnt, rewrite_hour
from fleet_pipeline.lake.operations.verify import purge_hour, verify_hour
from fleet_pipeline.lake.operations.where import places_of
from fleet_pipeline.model.errors import (
    AwsRefused,
    FleetError,
    InvalidName,
    NotVerified,
    OnlyRead,
    PartDamaged,
    PartsMissing,
    RecordDamaged,
)
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.plain import plain
from fleet_pipeline.model.rule import Rule

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def hour(text: str) -> Hour:
    """Return an hour written as `2026-11-23-10:00`, or the first hour of a day written as `2026-11-23`; UTC."""
    try:
        return Hour.parse(f"{text}-00:00" if _DAY.fullmatch(text) else text)
    except InvalidName as error:
        raise InvalidName("hour", text, "write an hour as 2026-11-23-10:00 or a day as 2026-11-23 (UTC)") from error


def through_hour(text: str) -> Hour:
    """Return the end of an hour or day that is included."""
    return Hour(hour(text).start + timedelta(days=1)) if _DAY.fullmatch(text) else hour(text).next


def _over_hours(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that choose rules and hours; it is given `start` and, whichever was said, `end`."""

    @wraps(command)
    def with_an_end(*of: Any, to: Hour | None, through: Hour | None, **given: Any) -> None:
        end = to or through
        if end is None or (to and through):
            raise click.UsageError("say where it ends: --through, the last hour or day, or --to, the first left out")
        command(*of, end=end, **given)

    options = [
        click.option("--rule", "keys", multiple=True, help="A rule's key; may be given several times. All without it."),
        click.option(
            "--from",
            "start",
            type=hour,
            metavar="HOUR",
            required=True,
            help="The first hour (2026-11-23-10:00) or day (2026-11-23), UTC.",
        ),
        click.option("--through", type=through_hour, metavar="HOUR", help="The last hour or day; it is included."),
        click.option("--to", type=hour, metavar="HOUR", help="Or: the first hour or day that is left out."),
    ]
    for option in reversed(options):
        with_an_end = option(with_an_end)
    return with_an_end


@click.command()
@_over_hours
@click.option("--dry-run", is_flag=True, help="Say what would be read and written, and what the requests would cost.")
@click.option(
    "--processes",
    type=int,
    default=None,
    help="How many processes of this machine compact hours, as many as there are cores without it; no matter where "
    "FLEET_ENGINE names a cluster.",
)
@click.pass_obj
def compact(  # noqa: PLR0913 (options)
    fleet: Fleet, *, keys: tuple[str, ...], start: Hour, end: Hour, dry_run: bool, processes: int | None
) -> None:
    """Compact hours, with the engine that Dagster uses.

    A second time changes nothing. Exit code 1 if an hour failed.
    """
    hours = _hours(start, end)
    _check_start(fleet, start)
    aws = Account.of(fleet).aws
    jobs = [Compaction.of(fleet, aws, rule) for rule in _rules(fleet, keys)]
    if dry_run:
        _forecast(fleet, jobs, hours)
        return
    table, failed = Table("rule", "hours", "raw versions", "rows added", "rows", "quarantined", "foreign keys"), []
    said: list[str] = []
    for job in jobs:
        done = _compacted(job, hours, processes, fleet.engine)
        Ledger(S3Store(aws, fleet.lake_bucket), fleet.parquet_prefix, job.rule).judge(
            datetime.now(UTC), _verdicts(done)
        )
        good = [each for each in done.values() if not isinstance(each, FleetError)]
        failed += [
            f"{job.rule.key} {hour.partition_key}: {each}"
            for hour, each in sorted(done.items())
            if isinstance(each, FleetError)
        ]
        counts = [
            sum(getattr(each, name) for each in good)
            for name in ("raw_versions", "rows_added", "rows", "quarantined", "foreign_keys")
        ]
        table.add_row(job.rule.key, str(len(good)), *map(str, counts))
        said += _left_out(job.rule, len(done) - len(good))
        if erased := sum(each.erased for each in good):
            said.append(f"{job.rule.key}: {erased:,} versions came of vehicles that were erased, and became no rows")
        said += [line for each in good for line in _of_batches(job.rule, each)]
    console.print(table)
    for line in said:
        console.print(plain(line), highlight=False, markup=False)
    _end(failed)


def _left_out(rule: Rule, failed: int) -> list[str]:
    return [f"{rule.key}: what {failed:,} hours that failed have is not counted above"] if failed else []


def _of_batches(rule: Rule, done: Compacted) -> Iterator[str]:
    """Yield what is to be said of an hour's batch objects."""
    if done.doubled:
        yield f"{rule.key}: {done.doubled:,} records were delivered twice, and are one row each"
    yield from (f"{rule.key}: {each}; what comes before is in the lake, and the object stays" for each in done.damaged)
    for hour in done.strays:
        yield f"{rule.key}: messages of {hour} came in a batch of another time: compact that hour"


def _compacted(
    job: Compaction, hours: Sequence[Hour], processes: int | None, engine: str
) -> dict[Hour, Compacted | FleetError]:
    with progress(TextColumn("{task.fields[read]}")) as bar:
        far = _Far(bar, bar.add_task(f"{job.rule.key}: hours compacted", total=len(hours), read=""))
        done = {}
        for hour, outcome in compact_hours(job, hours, processes=processes, on=engine, on_progress=far.underway):
            far.finished(hour, outcome)
            _refuse_without_bucket(outcome)
            done[hour] = outcome
    return done


def _verdicts(done: Mapping[Hour, Compacted | FleetError]) -> dict[Hour, dict[str, Verdict]]:
    """Return what these outcomes say of each hour: what a command heals, the checks in Dagster learn."""
    clear = dict.fromkeys((EVERY_VERSION, WHOLE, UNCOMPACTED), Verdict(""))
    damaged = {
        hour: {WHOLE: Verdict(plain(each, 400))}
        for hour, each in done.items()
        if isinstance(each, PartDamaged | PartsMissing | RecordDamaged)
    }
    return damaged | {hour: clear for hour, each in done.items() if isinstance(each, Compacted) and each.complete}


class _Far:
    """How far the hours of a rule are, on a bar: those that are finished, and of those under way their share and the
    messages read.
    """

    def __init__(self, bar: Bar, task: TaskID) -> None:
        self._bar, self._task, self._started = bar, task, time.monotonic()
        self._hours = self._read = 0
        self._underway: dict[Hour, Progress] = {}

    def underway(self, hour: Hour, progress: Progress) -> None:
        self._underway[hour] = progress
        self._show()

    def finished(self, hour: Hour, outcome: Compacted | FleetError) -> None:
        self._underway.pop(hour, None)
        self._hours += 1
        self._read += outcome.rows_added if isinstance(outcome, Compacted) else 0
        self._show()

    def _show(self) -> None:
        shares, read = (sum(getattr(each, name) for each in self._underway.values()) for name in ("share", "objects"))
        read += self._read
        rate = read / (time.monotonic() - self._started)
        self._bar.update(self._task, completed=self._hours + shares, read=f"{read:,} messages, {rate:,.0f}/s")


def _forecast(fleet: Fleet, jobs: Sequence[Compaction], hours: Sequence[Hour]) -> None:
    table, usd = Table("rule", "raw versions", "rows there", "to be read", "bytes", "LIST", "GET", "PUT"), 0.0
    batches = 0
    failed, said = list[str](), list[str]()
    for job in jobs:
        raw, lake = job.raw, job.lake
        with progress() as bar:
            found = []
            for hour in bar.track(hours, description=f"{job.rule.key}: hours looked at"):
                with _noted(failed, job.rule, hour):
                    found.append(forecast_hour(raw, lake, job.rule, hour))
        names = ("raw_versions", "rows", "missing", "missing_bytes", "list_requests", "get_requests", "put_requests")
        table.add_row(job.rule.key, *(str(sum(getattr(each, name) for each in found)) for name in names))
        said += _left_out(job.rule, len(hours) - len(found))
        batches += sum(each.batches for each in found)
        usd += sum(fleet.requests_usd(each.get_requests, each.list_requests + each.put_requests) for each in found)
    console.print(table)
    console.print("\n".join(said), end="\n" if said else "")
    if batches:
        console.print(f"to be read are also the messages of {batches:,} batches")
    console.print(f"the requests would cost about {usd:.4f} USD; nothing was changed")
    _end(failed)


@click.group()
def schema() -> None:
    """The typed columns of a rule: learnt, recorded in the lake, only ever added to."""


@schema.command("show")
@click.option("--rule", "key", required=True, help="The rule's key.")
@click.option("--json", "as_json", is_flag=True, help="As a record, which `pin` and `diff` read.")
@click.pass_obj
def show(fleet: Fleet, key: str, *, as_json: bool) -> None:
    """Show the columns that the lake has recorded."""
    contract = _lake(fleet).contract(fleet.rule(key))
    if as_json:
        click.echo(contract.to_json().decode())
        return
    table = Table(
        "column",
        "kind",
        "field of the message",
        title=f"{key}: record {contract.number}{', pinned' if contract.pinned else ''}",
    )
    for name, column in contract.columns.items():
        table.add_row(plain(name), column.kind, plain(".".join(column.path)))
    console.print(table)


@schema.command("pin")
@click.option("--rule", "key", required=True, help="The rule's key.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.pass_obj
def pin(fleet: Fleet, key: str, file: Path | None) -> None:
    """Take no further columns: those of FILE, or without it those recorded now. New fields then stay in `_extra`."""
    lake, rule = _lake(fleet), fleet.rule(key)
    pinned = lake.pin(rule, _read(file) if file else lake.contract(rule))
    console.print(f"{key}: {len(pinned.columns)} columns pinned, record {pinned.number}")


@schema.command("diff")
@click.option("--rule", "key", required=True, help="The rule's key.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def diff(fleet: Fleet, key: str, file: Path) -> None:
    """Say how FILE differs from what the lake has recorded; exit code 0 for not at all, 2 for differences."""
    differences = _lake(fleet).contract(fleet.rule(key)).difference(_read(file))
    for line in differences:
        console.print(plain(line), highlight=False, markup=False)
    sys.exit(2 if differences else 0)


@click.group()
def raw() -> None:
    """The raw objects, as AWS IoT wrote them."""


@raw.command()
@_over_hours
@click.option("--dry-run", is_flag=True, help="Verify only: say of each hour whether it could be purged.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def purge(fleet: Fleet, *, keys: tuple[str, ...], start: Hour, end: Hour, dry_run: bool, yes: bool) -> None:  # noqa: PLR0913 (options)
    """Delete raw versions for good, of hours whose every version is proved to be a row just now.

    Exit code 1 if an hour was not proved.
    """
    hours = _hours(start, end)
    if not (dry_run or yes):
        ask(
            f"Delete the raw messages from {start.partition_key} until {end.partition_key} for good? Their rows stay.",
        )
    aws, lake = Account.of(fleet).aws, _lake(fleet)
    failed: list[str] = []
    kept = 0
    table = Table("rule", "versions", "deleted")
    for rule in _rules(fleet, keys):
        if rule.bucket and not dry_run:
            if keys:
                raise OnlyRead(rule.bucket, rule.key)
            console.print(plain(OnlyRead(rule.bucket, rule.key)), soft_wrap=True)
            continue
        store = S3Store(aws, fleet.bucket_of(rule))
        versions = deleted = 0
        with progress() as bar:
            for each in bar.track(hours, description=f"{rule.key}: hours verified"):
                with _noted(failed, rule, each):
                    counts = _verified(store, lake, rule, each) if dry_run else _purged(store, lake, rule, each)
                    versions, deleted = versions + counts[0], deleted + counts[1]
        table.add_row(rule.key, str(versions), str(deleted))
        kept += 0 if dry_run else versions - deleted
    console.print(table)
    if kept:
        console.print(
            f"{kept} raw versions stay: without an id of their own, too large to be rows with bytes, or batches of "
            "which not every message was proven just now, also in other hours.",
            soft_wrap=True,
        )
    _end(failed)


@raw.command()
@click.option("--rule", required=True, help="The row's rule.")
@click.argument("key", metavar="KEY")
@click.pass_obj
def where(fleet: Fleet, rule: str, key: str) -> None:
    """Say which object holds the message of a row, by the row's _key: an object of many messages has another key.

    Exit code 1 where it is in none.
    """
    which = fleet.rule(rule)
    store = S3Store(Account.of(fleet).aws, bucket := fleet.bucket_of(which))
    table = Table("object", "version", "messages before it")
    for each in places_of(store, _lake(fleet), which, key):
        before = "it is the message" if each.before is None else f"{each.before:,}"
        table.add_row(plain(f"s3://{bucket}/{each.version.key}", 2000), plain(each.version.id), before)
    if not table.row_count:
        raise InvalidName(
            "_key", key, f"bucket {bucket} has no object with its message: it was removed, or never there"
        )
    console.print(table)


def _verified(store: S3Store, lake: Lake, rule: Rule, hour: Hour) -> tuple[int, int]:
    found = verify_hour(store, lake, rule, hour)
    if not found.passed:
        raise NotVerified(
            lake.partition(rule, hour),
            f"{found.missing} versions have no row, {found.altered} another payload, {found.doubled} rows are double",
        )
    return found.versions, 0


def _purged(store: S3Store, lake: Lake, rule: Rule, hour: Hour) -> tuple[int, int]:
    done = purge_hour(store, lake, rule, hour, now=datetime.now(UTC))
    return done.versions + done.kept, done.versions


@click.group()
def lake() -> None:
    """The Parquet of all rules."""


@lake.command("ddl")
@click.option("--rule", "keys", multiple=True, help="A rule's key; may be given several times. All rules without it.")
@click.pass_obj
def print_ddl(fleet: Fleet, keys: tuple[str, ...]) -> None:
    """Print Athena's statements for the database and a table for each rule, with the columns recorded so far."""
    from fleet_pipeline.lake.catalog.tables import ddl, table

    parts = _lake(fleet)
    click.echo(f"CREATE DATABASE IF NOT EXISTS `{fleet.database}`;")
    for rule in _rules(fleet, keys):
        click.echo("\n" + ddl(table(fleet, parts, rule, parts.contract(rule))))


@lake.command()
@click.option("--dry-run", is_flag=True, help="Say how many hours would be written anew, and with which columns.")
@click.option(
    "--contract",
    "contracts",
    multiple=True,
    help="RULE=FILE: the columns of a rule, as `fleet schema show --json` prints them; FILE alone: of every rule.",
)
@click.pass_obj
def rewrite(fleet: Fleet, *, dry_run: bool, contracts: tuple[str, ...]) -> None:
    """Write the table anew as its next generation, and let readers switch to it once every row is there.

    The old one stays.

    Columns are those of the contracts that are given; of the other rules, what all of their messages teach. Compactions
    may go on meanwhile. Stopped, the next call goes on. Then materialize the catalog, whose tables name the generation.
    """
    old = _lake(fleet)
    new = old.next_generation
    chosen = _contracts(fleet, contracts)
    hours = {rule: old.hours(rule) for rule in fleet.rules}
    if dry_run:
        for rule, its_hours in hours.items():
            columns = (
                f"the {len(chosen[rule].columns)} columns that are given"
                if rule in chosen
                else "the columns that its messages teach"
            )
            console.print(
                f"{rule.key}: {len(its_hours)} hours would be written from {old.root} to {new.root} with "
                f"{columns}; nothing was changed"
            )
        return
    failed = _columns_chosen(old, new, chosen, hours)
    new.begin()
    failed = failed or _written_anew(old, new, fleet.rules)
    if not failed:
        new.switch()
        console.print(f"readers use {new.root} from now on; {old.root} stays")
    _end(failed)


def _contracts(fleet: Fleet, given: Sequence[str]) -> dict[Rule, Contract]:
    found: dict[Rule, Contract] = {}
    for each in given:
        key, named, file = each.rpartition("=")
        contract = _read(Path(file))
        found |= dict.fromkeys([fleet.rule(key)] if named else fleet.rules, contract)
    return found


def _columns_chosen(
    old: Lake, new: Lake, chosen: Mapping[Rule, Contract], hours: Mapping[Rule, Sequence[Hour]]
) -> list[str]:
    """Record the columns of each rule's new generation: before any row is written, and so before any compaction adds
    rows there.
    """
    failed: list[str] = []
    for rule, its_hours in hours.items():
        if rule in chosen:
            new.pin(rule, chosen[rule])
        elif (begun := new.contract(rule)).number < 0:
            seen = Evidence()
            with progress() as bar:
                for each in bar.track(its_hours, description=f"{rule.key}: hours learnt from"):
                    with _noted(failed, rule, each):
                        seen.add(learnt(old, begun, rule, each))
            if not failed:
                new.record(rule, seen, begun.form, most=COLUMNS)
    return failed


def _written_anew(old: Lake, new: Lake, rules: Sequence[Rule]) -> list[str]:
    """Write every hour anew, and again those that grew meanwhile, until none has. Return what failed."""
    failed: list[str] = []
    done: dict[tuple[Rule, Hour], Rewritten] = {}
    while not failed and (
        work := [
            (rule, each)
            for rule in rules
            for each in old.hours(rule)
            if _is_due(old, rule, each, done.get((rule, each)))
        ]
    ):
        with progress() as bar:
            for rule, each in bar.track(work, description=f"hours written to {new.root}"):
                with _noted(failed, rule, each):
                    done[rule, each] = rewrite_hour(old, new, rule, each)
                    if not done[rule, each].complete:
                        failed.append(
                            f"{rule.key} {each.partition_key}: {done[rule, each].versions} messages of "
                            f"{done[rule, each].versions_before}"
                        )
    return failed


def _is_due(old: Lake, rule: Rule, hour: Hour, done: Rewritten | None) -> bool:
    return done is None or has_grown(old, rule, hour, done)


@contextmanager
def _noted(failed: list[str], rule: Rule, hour: Hour) -> Iterator[None]:
    """Note an hour that fails, and go on with the next. Raises AwsRefused where a bucket is missing."""
    name = f"{rule.key} {hour.partition_key}"
    try:
        with contained(name):
            yield
    except FleetError as error:
        _refuse_without_bucket(error)
        failed.append(f"{name}: {error}")


def _refuse_without_bucket(outcome: object) -> None:
    """Raise the error of an hour whose bucket does not exist: each hour after it would end with the same one."""
    if isinstance(outcome, AwsRefused) and outcome.code == "NoSuchBucket":
        raise outcome


def _lake(fleet: Fleet) -> Lake:
    return Lake.of(fleet, S3Store(Account.of(fleet).aws, fleet.lake_bucket))


def _rules(fleet: Fleet, keys: Sequence[str]) -> list[Rule]:
    return [fleet.rule(key) for key in keys] or list(fleet.rules)


def _check_start(fleet: Fleet, start: Hour) -> None:
    """Raise InvalidName for an hour before FLEET_START: Dagster has no partition for it, so its rows would be nobody's
    to watch.
    """
    if f"{start.start:%Y-%m-%d}" < fleet.start:
        raise InvalidName(
            "hour",
            start.partition_key,
            f"FLEET_START is {fleet.start}, and no hour before it is compacted; set FLEET_START to an earlier day",
        )


def _hours(start: Hour, end: Hour) -> list[Hour]:
    """Return the hours of a range that have begun. Raises InvalidName when there are none."""
    last = min(end.start, datetime.now(UTC))
    if start.start >= last:
        before = "--from must be before --to, which is left out; --through includes its hour or day"
        why = before if start >= end else "no hour of it has begun; --from must be in the past"
        raise InvalidName("range", f"{start.partition_key} until {end.partition_key}", why)
    return [
        Hour(start.start + timedelta(hours=number)) for number in range(-((start.start - last) // timedelta(hours=1)))
    ]


def _read(file: Path) -> Contract:
    try:
        text = file.read_bytes()
    except OSError as error:
        raise InvalidName("contract", str(file), f"it cannot be read ({error.strerror})") from error
    return contract_of(text, -1, str(file))


def _end(failed: Sequence[str]) -> None:
    """Name what failed and leave with exit code 1, if anything did."""
    for line in failed:
        console.print(styled(("failed", "red"), f" {line}"), soft_wrap=True)
    if failed:
        sys.exit(1)
