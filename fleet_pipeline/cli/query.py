"""`fleet query`, `fleet shell` and `fleet connect`: SQL on the lake, here and now, and the way in for other tools."""

import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from fleet_pipeline.account import Account
from fleet_pipeline.cli.iceberg import opened
from fleet_pipeline.cli.shown import console, errors, styled
from fleet_pipeline.cli.snippets import ENGINES, needed, snippet
from fleet_pipeline.model.errors import FleetError, InvalidName, MissingExtra, QueryRefused
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.plain import plain

if TYPE_CHECKING:
    import duckdb

    from fleet_pipeline.lake.iceberg.scans import Scan

_CELL = 80
"""Characters of a value in a table: a message's payload has up to 128 KB."""

_ROWS, _ROWS_ONE_BY_ONE = 100, 10
"""Rows that are shown unless more are wanted: in a table, and one below the other where a table is too wide."""

_NARROWEST = 8
"""Characters that a column needs at least for anybody to read it."""

_DAY = click.DateTime(["%Y-%m-%d"])


def _over_days(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that choose days."""
    command = click.option("--to", "older", type=_DAY, hidden=True)(command)
    command = click.option("--through", "last", type=_DAY, help="The last day, UTC; it is included.")(command)
    return click.option(
        "--from", "first", type=_DAY, help="The first day, UTC (2026-11-23). Without it, and --through, all days."
    )(command)


@click.command()
@click.argument("sql", required=False)
@_over_days
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="json: one object a line.",
)
@click.option(
    "--rows",
    "most",
    type=click.IntRange(min=1),
    help=f"How many rows a table shows, {_ROWS} without it; {_ROWS_ONE_BY_ONE} where its columns are too many to fit "
    "and each row is a list of its own. csv and json show all.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all rows to this file instead: .parquet, .csv or .json.",
)
@click.option("--iceberg", "through", is_flag=True, help="Read through the Iceberg tables, each in one snapshot.")
@click.option(
    "--as-of",
    "at",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"]),
    help="Read the Iceberg tables as they were at this instant, UTC (2026-11-23T10:05).",
)
@click.pass_obj
def query(  # noqa: PLR0913
    fleet: Fleet,
    *,
    sql: str | None,
    first: datetime | None,
    last: datetime | None,
    older: datetime | None,
    through: bool,
    at: datetime | None,
    form: str,
    most: int | None,
    out: Path | None,
) -> None:
    """Ask the lake in DuckDB's SQL. Without a question: say which tables and columns there are. Of several statements,
    each answer is shown; csv, json and --out take one.

    For example: fleet query "SELECT rule, date, hour, count(*) FROM messages GROUP BY ALL ORDER BY ALL"
    """
    scans = _scans(fleet, at) if through or at else None
    left_out = [] if scans is None else [each.key for each in fleet.rules if each.key not in scans]
    why = (
        "it has no Iceberg table of that instant, or no more (`fleet iceberg show --snapshots`)"
        if at
        else "it has no Iceberg table; `fleet iceberg sync` makes what is missing"
    )
    for rule in left_out:
        errors.print(f"{rule} is left out: {why}", soft_wrap=True)
    database = _database(fleet, first, _last_day(last, older), scans)
    if sql is None:
        _show_tables(database)
        return
    from fleet_pipeline.lake.query import ask, asked_of, statements, to_csv, to_json, write

    asked = statements(database, sql)
    read = {name for each, _ in asked for name in asked_of(database, fleet, each)} if left_out else set()
    if read and read <= {*left_out}:
        raise QueryRefused(f"nothing of what is asked is there: of {' and '.join(sorted(read))}, {why}", ())
    if (out or form != "table") and (several := sum(answers for _, answers in asked)) > 1:
        raise QueryRefused(f"csv, json and --out hold one answer, and this gives {several}: ask one by one", ())
    for statement, _ in asked:
        answer = ask(database, statement)
        if answer is None:
            continue
        if out:
            write(answer, out)
            console.print(f"written: {out}")
        elif form == "table":
            _show(database, answer, most)
        else:
            {"csv": to_csv, "json": to_json}[form](answer, sys.stdout)


@click.command()
@_over_days
@click.pass_obj
def shell(fleet: Fleet, *, first: datetime | None, last: datetime | None, older: datetime | None) -> None:
    """Ask the lake in DuckDB's SQL, question after question.

    A statement ends with `;`; `help` says more, and `exit` or Ctrl-D leaves.
    """
    from fleet_pipeline.lake.query import tables

    database = _database(fleet, first, _last_day(last, older))
    console.print(f"The tables are {', '.join(sorted(tables(database)))}.", soft_wrap=True)
    if sys.stdin.isatty():
        import readline  # noqa: F401 (input() then has a history and the arrow keys)
    console.print(_HELP)
    for statement in _statements():
        if statement in _LEAVING:
            return
        _answer(database, statement)


_HELP = "A statement ends with ;   .tables shows the columns of each table   help says this again   exit leaves"

_LEAVING = {".exit", ".quit"}

_WORDS = {"help", "exit", "quit", "tables"}
"""What is taken without its dot, too, where a statement would begin: none of them begins one."""


def _statements() -> Iterable[str]:
    """Yield what is typed: a line that begins with a dot (or is one of the words without it), or lines up to one that
    ends with a semicolon.
    """
    begun: list[str] = []
    while True:
        try:
            line = input("   ...> " if begun else "fleet> ").strip()
        except EOFError:
            if begun:
                yield "\n".join(begun)
            return
        except KeyboardInterrupt:
            console.print()
            begun = []
            continue
        word = line.rstrip("; ").lower()
        if not begun and (word in _WORDS or line.startswith(".")):
            yield f".{word}" if word in _WORDS else line
        elif line or begun:
            begun.append(line)
            if line.endswith(";"):
                yield "\n".join(begun)
                begun = []


def _answer(database: "duckdb.DuckDBPyConnection", statement: str) -> None:
    """Show the answers to what was typed, or why there is none: the next may be typed."""
    from fleet_pipeline.lake.query import ask, statements

    try:
        if statement == ".tables":
            _show_tables(database)
        elif statement == ".help":
            console.print(_HELP)
        elif statement.startswith("."):
            console.print(f"There is no {statement}: .tables, .help and .exit are known, and SQL that ends with ;")
        else:
            for each, _ in statements(database, statement):
                answer = ask(database, each)
                if answer is not None:  # an answer of no rows is false, and counting them asks once more
                    _show(database, answer)
    except FleetError as error:
        console.print(styled(("error:", "red"), f" {error}"), soft_wrap=True)


@click.command()
@click.argument("engine", type=click.Choice([*ENGINES], case_sensitive=False), required=False)
@click.pass_obj
def connect(fleet: Fleet, engine: str | None) -> None:
    """Print what DuckDB, pandas, Polars, Spark, Athena, PyIceberg or boto3 is given to read this fleet's lake, with its
    true address.
    """
    account = Account.of(fleet)
    for name in [engine.lower()] if engine else ENGINES:
        if not engine:
            console.print(styled((f"# {name}", "bold")))
        click.echo(needed(name) + snippet(name, fleet, account.aws))


def _last_day(last: datetime | None, older: datetime | None) -> datetime | None:
    """Return the last day. `--to`, by which it was said, leaves out what it names everywhere else."""
    if older and last:
        raise click.UsageError("say the last day once, by --through")
    if older:
        errors.print("note: say --through: --to includes its day here alone, and will not be taken", soft_wrap=True)
    return last or older


def _scans(fleet: Fleet, at: datetime | None) -> "dict[str, Scan]":
    tables = opened(fleet)
    from fleet_pipeline.lake.iceberg.scans import scans

    return scans(tables, at and at.replace(tzinfo=UTC))


def _database(
    fleet: Fleet, first: datetime | None, last: datetime | None, scans: "dict[str, Scan] | None" = None
) -> "duckdb.DuckDBPyConnection":
    if first and last and last < first:
        raise InvalidName("range of days", f"{first:%Y-%m-%d} to {last:%Y-%m-%d}", "--through is a day before --from")
    try:
        from fleet_pipeline.lake import query as asked
    except ModuleNotFoundError as error:
        raise MissingExtra("DuckDB", "analytics") from error
    account = Account.of(fleet)
    if account.is_stopped:
        raise QueryRefused(
            "AWS on this machine does not run, and the lake lies there: `fleet local up` starts it; `fleet demo` makes "
            "a lake where there was none",
            (),
        )
    if not account.has_bucket(fleet.lake_bucket):
        raise QueryRefused(
            f"there is no lake yet: no bucket {fleet.lake_bucket!r} in this account. `fleet demo` or `fleet apply` "
            "makes it",
            (),
        )
    return asked.connect(account.aws, fleet, first and first.date(), last and last.date(), scans)


def _show_tables(database: "duckdb.DuckDBPyConnection") -> None:
    from fleet_pipeline.lake.query import FORMER, former, tables

    table, past = Table("table", "columns"), {*former(database)}
    for name, columns in sorted(tables(database).items()):
        table.add_row(
            styled(name, (f"\n{FORMER}", "yellow") if name in past else ""), ", ".join(column for column, _ in columns)
        )
    console.print(table)


def _show(database: "duckdb.DuckDBPyConnection", answer: "duckdb.DuckDBPyRelation", wanted: int | None = None) -> None:
    """Show an answer's first rows: in a table, or each by itself where the columns are too many for the screen."""
    from fleet_pipeline.lake.query import as_text, is_empty, names, rows

    found, heads = rows(answer), [plain(name) for name in names(answer)]
    wide = len(heads) * _NARROWEST > console.width
    most = wanted or (_ROWS_ONE_BY_ONE if wide else _ROWS)
    shown = [[plain(as_text(value), _CELL) for value in row.values()] for row in islice(found, most)]
    if wide and shown:
        for number, row in enumerate(shown, 1):
            table = Table(f"row {number}", "")
            for name, text in zip(heads, row, strict=True):
                table.add_row(name, text)
            console.print(table)
    else:
        table = Table(*heads)
        for row in shown:
            table.add_row(*row)
        console.print(table)
    if next(found, None) is not None:
        console.print(f"the first {most} rows; --rows shows more, --out writes all of them to a file")
    if not shown and is_empty(database):
        errors.print(
            "the lake has no row yet: `fleet compact` makes them of the raw objects of the hours that it is told"
        )
