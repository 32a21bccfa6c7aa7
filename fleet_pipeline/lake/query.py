"""The lake as DuckDB reads it: a view for each table, in a database in memory.

Nothing is downloaded, and nothing is written.

The views of rules and of vehicles read Parquet where it lies, so what is asked after an hour was compacted sees that
hour.
"""

import csv
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from datetime import date, datetime, timedelta
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import duckdb
import msgspec
import pyarrow as pa

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.rows import row_schema
from fleet_pipeline.model.errors import InvalidName, QueryRefused
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.plain import plain
from fleet_pipeline.model.rule import Rule

if TYPE_CHECKING:
    from fleet_pipeline.lake.iceberg.scans import Scan

MESSAGES = "messages"
"""The view of all rules' messages, each with the columns that any of them has."""

VEHICLES = {"vehicles_hourly": "date, hour", "vehicles_daily": "date"}
"""The tables about vehicles, and the columns of which the last revision counts. Source: `analytics`."""

FORMER = "of a rule that left the settings"
"""What is said of a table whose rule has left the settings."""

_PARTITIONS = [pa.field("rule", pa.string()), pa.field("date", pa.string()), pa.field("hour", pa.int32())]
_HIVE = "hive_partitioning = true, hive_types = {'rule': VARCHAR, 'date': VARCHAR, 'hour': INTEGER}"

_MAY_WRITE = {
    duckdb.StatementType.COPY,
    duckdb.StatementType.EXPORT,
    duckdb.StatementType.EXPLAIN,  # ANALYZE runs what it explains
    duckdb.StatementType.PREPARE,
}
_TABLE_NAME = re.compile(r'"table_name":"([^"]*)"')
"""How DuckDB's tree of a statement names a table that is read."""
_WRITES = re.compile(r"\b(?:copy|export)\b", re.IGNORECASE)
_TO_FILE = re.compile(r"\b(?:to|database)\s+'[^']*'", re.IGNORECASE)
"""How a statement names the file that it writes; anything else may turn out to be an address."""


def connect(
    aws: Aws,
    fleet: Fleet,
    first: date | None = None,
    last: date | None = None,
    scans: "Mapping[str, Scan] | None" = None,
) -> duckdb.DuckDBPyConnection:
    """Return a database with a view for each rule, named by its key, and `messages`, `vehicles_hourly`,
    `vehicles_daily`; instants in UTC.

    With `first` and `last` the views of rules hold the days from the one to the other, both included, and no other
    day's files are opened: DuckDB reads every file's footer for its columns, which takes seconds for a thousand hours.
    A rule without parts is an empty view; one that has left the settings is a view as long as it has parts, and
    `former` names it. With `scans` the rules of the settings are read through their Iceberg tables, each in that one
    snapshot, and a rule without one is an empty view. Raises AwsRefused where there is no lake, QueryRefused where
    DuckDB's extension for S3 cannot be had, or where a file is not Parquet.
    """
    database = duckdb.connect(config={"allow_persistent_secrets": "false"})
    database.execute("SET TimeZone = 'UTC'")
    _reach(database, aws)
    if scans is not None:
        _load(database, "avro", "iceberg")
        _load(database, "iceberg", "iceberg")
    lake = Lake.current(S3Store(aws, fleet.lake_bucket), fleet.parquet_prefix)
    rules = [*fleet.rules, *(_former_rules(fleet, lake) if scans is None else ())]
    for rule in rules:
        if scans is None:
            _show_rule(database, fleet, lake, rule, _days(lake, rule, first, last))
        elif scan := scans.get(rule.key):
            _view(database, _name(rule.key), _through(rule, scan, first, last))
        else:
            _show_nothing(database, lake, rule)
    for rule in rules[len(fleet.rules) :]:
        kind = "VIEW" if _days(lake, rule, first, last) else "TABLE"
        database.execute(f"COMMENT ON {kind} {_name(rule.key)} IS {_text(FORMER)}")
    union = " UNION ALL BY NAME ".join(f"SELECT * FROM {_name(rule.key)}" for rule in rules)
    taken = {rule.key.lower() for rule in rules}
    views = {
        MESSAGES: union,
        **{name: _last_revisions(fleet, name, by) for name, by in VEHICLES.items() if _is_there(lake, name)},
    }
    for name, query in views.items():
        if name not in taken:
            _view(database, name, query)
    return database


def tables(database: duckdb.DuckDBPyConnection) -> dict[str, list[tuple[str, str]]]:
    """Return the columns of each view, with their types, by the view's name."""
    found: dict[str, list[tuple[str, str]]] = {}
    for table, column, kind in database.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal"
    ).fetchall():
        found.setdefault(table, []).append((column, kind))
    return found


def former(database: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the names of the views of rules that have left the settings: messages that they wrote."""
    found = database.execute(
        "SELECT view_name FROM duckdb_views() WHERE comment = $said "
        "UNION ALL SELECT table_name FROM duckdb_tables() WHERE comment = $said ORDER BY 1",
        {"said": FORMER},
    ).fetchall()
    return [name for (name,) in found]


def is_empty(database: duckdb.DuckDBPyConnection) -> bool:
    """Say whether no rule has a message in the lake, in the days that were named."""
    found = ask(database, f"SELECT 1 FROM {MESSAGES} LIMIT 1")
    return found is None or found.fetchone() is None


def ask(database: duckdb.DuckDBPyConnection, sql: str) -> duckdb.DuckDBPyRelation | None:
    """Return the answer to a statement, not yet read; None for one that has none.

    Raises QueryRefused with DuckDB's reason.
    """
    try:
        return database.sql(sql)
    except duckdb.Error as error:
        known = tuple(sorted(tables(database)))
        raise QueryRefused(_without_guess(str(error), known), known) from error


def _without_guess(said: str, known: Collection[str]) -> str:
    """Return what DuckDB says without the table that it guesses, where that is one of its own."""
    return re.sub(r'\s*Did you mean "([^"]*)"\?', lambda guess: guess[0] if guess[1] in known else "", said)


def asked_of(database: duckdb.DuckDBPyConnection, fleet: Fleet, sql: str) -> set[str]:
    """Return the tables that a question names; of `messages` those of all rules. Nothing of another statement."""
    [said] = database.execute("SELECT json_serialize_sql($sql)::VARCHAR", {"sql": sql}).fetchone() or ("",)
    named = {name.casefold() for name in _TABLE_NAME.findall(said)}
    return {rule.key for rule in fleet.rules if {rule.key.casefold(), MESSAGES} & named} | {
        name for name in VEHICLES if name in named
    }


def statements(database: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[str, bool]]:
    """Return the statements of a text, one after the other, and of each whether it gives an answer.

    Raises QueryRefused for what is no SQL, and for what would write into a bucket: here one reads.
    """
    try:
        found = database.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryRefused(str(error), tuple(sorted(tables(database)))) from error
    if not found:
        raise QueryRefused("there is no statement in it; without any, `fleet query` lists the tables", ())
    said = [each.query.strip() for each in found if each.type in _MAY_WRITE]
    if writing := [each for each in said if _WRITES.search(each) and ("://" in each or not _TO_FILE.search(each))]:
        why = f"this would write into a bucket, and a query only reads: {plain(writing[0], 200)}"
        raise QueryRefused(f"{why}; `--out FILE` keeps an answer", tuple(sorted(tables(database))))
    return [(each.query, duckdb.ExpectedResultType.QUERY_RESULT in each.expected_result_type) for each in found]


def names(answer: duckdb.DuckDBPyRelation) -> list[str]:
    """Return the names of an answer's columns, the second `a` as `a_1`: `SELECT 1 a, 2 a` has two."""
    named: list[str] = []
    for name in answer.columns:
        other = (f"{name}_{number}" for number in count(1))
        named.append(name if name not in named else next(each for each in other if each not in answer.columns + named))
    return named


def rows(answer: duckdb.DuckDBPyRelation) -> Iterator[dict[str, object]]:
    """Yield the rows of an answer as they are read, instants as `datetime` in UTC.

    Raises QueryRefused when reading fails.
    """
    named = names(answer)
    try:
        for batch in answer.to_arrow_reader(1000):
            columns = [column.to_pylist() for column in batch.columns]
            yield from (dict(zip(named, values, strict=True)) for values in zip(*columns, strict=True))
    except duckdb.Error as error:
        raise QueryRefused(str(error), ()) from error


def to_csv(answer: duckdb.DuckDBPyRelation, stream: TextIO) -> None:
    """Write an answer as CSV with a head; what has fields or elements as JSON."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(names(answer))
    writer.writerows(
        [_json(value) if isinstance(value, dict | list) else as_text(value) for value in row.values()]
        for row in rows(answer)
    )


def to_json(answer: duckdb.DuckDBPyRelation, stream: TextIO) -> None:
    """Write an answer as one JSON object a line: instants as RFC 3339, bytes as the text that they are, infinities and
    NaN as null.
    """
    stream.writelines(
        f"{_json({name: as_text(value) if isinstance(value, bytes) else value for name, value in row.items()})}\n"
        for row in rows(answer)
    )


def write(answer: duckdb.DuckDBPyRelation, out: Path) -> None:
    """Write an answer to a file, as its name ends: .parquet, .csv or .json. The file is there when it is whole.

    Raises InvalidName where the file cannot be written, QueryRefused when reading fails.
    """
    if out.suffix not in {".parquet", ".csv", ".json"}:
        raise InvalidName("file", str(out), "its name says how it is written: it must end with .parquet, .csv or .json")
    new = out.with_name(f"{out.name}.new")
    try:
        if out.suffix == ".parquet":
            answer.write_parquet(str(new), compression="zstd")
        else:
            with new.open("w", encoding="utf-8", newline="") as stream:
                (to_csv if out.suffix == ".csv" else to_json)(answer, stream)
        new.replace(out)
    except OSError as error:
        raise InvalidName("file", str(out), error.strerror or str(error)) from error
    except duckdb.Error as error:
        raise QueryRefused(str(error), ()) from error
    finally:
        new.unlink(missing_ok=True)


def as_text(value: object) -> object:
    """Return a value as people read it: bytes as text, an instant to the millisecond, nothing for null."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return (
        value.isoformat(sep=" ", timespec="milliseconds")
        if isinstance(value, datetime)
        else ""
        if value is None
        else value
    )


def _json(value: object) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()


def _reach(database: duckdb.DuckDBPyConnection, aws: Aws) -> None:
    """Let the database read this account's S3 with the credentials that every other call has.

    They stay in memory, for this connection.
    """
    _load(database, "httpfs", "analytics")
    if aws.endpoint_url:
        database.execute(
            "SET http_proxy = ''; SET httpfs_client_implementation = 'httplib'"
        )  # never behind a proxy; its curl would read HTTP_PROXY by itself
    elif bundle := os.environ.get("AWS_CA_BUNDLE"):
        database.execute(f"SET ca_cert_file = {_text(bundle)}")
    given = ", ".join(f"{name} {_text(value)}" for name, value in _secret(aws).items())
    database.execute(f"CREATE SECRET (TYPE s3, USE_SSL {aws.s3.meta.endpoint_url.startswith('https:')}, {given})")


def _load(database: duckdb.DuckDBPyConnection, name: str, extra: str) -> None:
    """Load an extension of DuckDB's, from its wheel where that is installed."""
    extension = _extension(name)
    try:
        database.execute(f"LOAD {_text(str(extension))}" if extension else f"INSTALL {name}; LOAD {name}")
    except duckdb.Error as error:
        why = f"pip install 'fleet-pipeline[{extra}]' brings it ({error})"
        raise QueryRefused(f"DuckDB cannot load its extension {name}: {why}", ()) from error


def _secret(aws: Aws) -> Mapping[str, str]:
    credentials = aws.session.get_credentials()
    if credentials is None:
        raise QueryRefused("there are no AWS credentials: set them up as for any AWS tool (`aws configure`)", ())
    found = credentials.get_frozen_credentials()
    given = {"KEY_ID": found.access_key, "SECRET": found.secret_key, "SESSION_TOKEN": found.token, "REGION": aws.region}
    endpoint = aws.s3.meta.endpoint_url.partition("://")[2]  # botocore knows every partition's
    return {name: value for name, value in (given | {"ENDPOINT": endpoint, "URL_STYLE": "path"}).items() if value}


def _extension(name: str = "httpfs") -> Path | None:
    """Return an extension of DuckDB's as its own wheel brings it, for the DuckDB that is installed."""
    spec = find_spec(f"duckdb_extension_{name}")
    found = [
        Path(folder, "extensions", f"v{duckdb.__version__}", f"{name}.duckdb_extension")
        for folder in (spec and spec.submodule_search_locations) or ()
    ]
    return next((path for path in found if path.exists()), None)


def _former_rules(fleet: Fleet, lake: Lake) -> list[Rule]:
    """Return the rules that have parts and are not in the settings; no key that no rule can have, or that differs from
    another's in letters' case alone, which DuckDB does not tell apart.
    """
    known, found = {rule.key.casefold() for rule in fleet.rules}, []
    for key in lake.rule_keys():
        with suppress(InvalidName):
            if key.casefold() not in known:
                known.add(key.casefold())
                found.append(Rule(fleet.raw_prefix, key))
    return found


def _days(lake: Lake, rule: Rule, first: date | None, last: date | None) -> list[str]:
    """Return the days whose parts are read, as globs of their folders: one for all of them when no day is named."""
    found = {hour.start.date() for hour in lake.hours(rule)}
    if found and not (first or last):
        return ["*"]
    return [f"date={day}" for day in sorted(found) if (not first or day >= first) and (not last or day <= last)]


def _show_rule(database: duckdb.DuckDBPyConnection, fleet: Fleet, lake: Lake, rule: Rule, days: list[str]) -> None:
    if not days:
        _show_nothing(database, lake, rule)
        return
    files = ", ".join(
        _text(f"s3://{fleet.lake_bucket}/{lake.root}rule={rule.key}/{day}/*/part-*.parquet") for day in days
    )
    _view(database, _name(rule.key), f"SELECT * FROM read_parquet([{files}], union_by_name = true, {_HIVE})")


def _show_nothing(database: duckdb.DuckDBPyConnection, lake: Lake, rule: Rule) -> None:
    database.register("empty", pa.schema([*row_schema(lake.contract(rule)), *_PARTITIONS]).empty_table())
    database.execute(f"CREATE TABLE {_name(rule.key)} AS SELECT * FROM empty")
    database.unregister("empty")


def _through(rule: Rule, scan: "Scan", first: date | None, last: date | None) -> str:
    """Return the query of a rule's table in one snapshot, with the columns that the lake has in its paths."""
    told = [f"_ts >= TIMESTAMPTZ '{first} 00:00:00+00'"] if first else []
    told += [f"_ts < TIMESTAMPTZ '{last + timedelta(days=1)} 00:00:00+00'"] if last else []
    paths = f"{_text(rule.key)} AS rule, strftime(_ts, '%Y-%m-%d') AS date, CAST(hour(_ts) AS INTEGER) AS hour"
    source = f"iceberg_scan({_text(scan.metadata)}, snapshot_from_id = {scan.snapshot})"
    return f"SELECT *, {paths} FROM {source}{' WHERE ' if told else ''}{' AND '.join(told)}"


def _view(database: duckdb.DuckDBPyConnection, name: str, query: str) -> None:
    """Make a view, for whose columns DuckDB opens its files.

    Raises QueryRefused, which names the file, where one of them is not Parquet.
    """
    try:
        database.execute(f"CREATE VIEW {name} AS {query}")
    except duckdb.Error as error:
        raise QueryRefused(
            f"{str(error).splitlines()[0]}: restore its last good version in the bucket, or leave its day out "
            "(--from, --through)",
            (),
        ) from error


def _last_revisions(fleet: Fleet, name: str, by: str) -> str:
    levels = "/*" * (by.count(",") + 1)
    files = _text(f"s3://{fleet.lake_bucket}/{name}{levels}/revision-*.parquet")
    types = "{'date': VARCHAR, 'hour': INTEGER}" if "hour" in by else "{'date': VARCHAR}"
    source = f"read_parquet({files}, union_by_name = true, hive_partitioning = true, hive_types = {types})"
    return f"SELECT * EXCLUDE (revision) FROM {source} QUALIFY revision = max(revision) OVER (PARTITION BY {by})"


def _is_there(lake: Lake, name: str) -> bool:
    return any(page for page in lake.store.versions(f"{name}/"))


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
