"""Every reader agrees: the questions of docs/query.md have one answer through Iceberg and by the files, whoever asks."""

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import reduce

import duckdb
import polars as pl
import pytest
from iceberg_lake import HOURS, Filled
from pyiceberg.catalog import load_catalog
from test_query_page import (  # noqa: F401 (fixtures are asked for by name)
    EXAMPLES,
    QUESTIONS,
    answers,
    by_duckdb,
    fetched,
    fleet,
    here,
    lake,
    plain,
    spelled,
)

from fleet_pipeline.account import Account
from fleet_pipeline.lake import query
from fleet_pipeline.lake.iceberg.check import compare
from fleet_pipeline.lake.iceberg.files import properties_of
from fleet_pipeline.lake.iceberg.maintenance import maintain
from fleet_pipeline.lake.iceberg.scans import scans
from fleet_pipeline.lake.iceberg.sync import sync
from fleet_pipeline.lake.iceberg.tables import NAME, Tables
from fleet_pipeline.lake.privacy.erase import erase
from fleet_pipeline.lake.privacy.places import Places
from fleet_pipeline.model.errors import CatalogRefused, NotOurTable
from fleet_pipeline.places import Snapshots

PATHS = "strftime(_ts, '%Y-%m-%d') AS date, CAST(hour(_ts) AS INTEGER) AS hour"
"""What the lake's paths say, by the instant of receipt."""


@pytest.fixture(scope="module")
def tables(fleet, here):  # noqa: F811
    account = Account.of(fleet)
    tables = Tables.of(fleet, account.aws, account.catalog_uri(""))
    for rule in fleet.rules:
        sync(tables, rule)
    return tables


def of_rules(tables, read):
    """Return the messages of all rules, each table as a reader gives it, in a database that knows no file."""
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    for rule in tables.fleet.rules:
        database.register(f"_{rule.key}", read(tables.find(rule)))
    union = (f"SELECT *, '{rule.key}' AS rule, {PATHS} FROM _{rule.key}" for rule in tables.fleet.rules)
    database.execute(f"CREATE VIEW messages AS {' UNION ALL BY NAME '.join(union)}")
    return database


def by_polars(tables, table):
    aws = tables.aws
    options = {
        "s3.endpoint": aws.endpoint_url,
        "s3.access-key-id": aws.account,
        "s3.secret-access-key": aws.secret,
        "s3.region": aws.region,
    }
    return pl.scan_iceberg(table.metadata_location, storage_options=options).collect().to_arrow()


@pytest.mark.parametrize("question", QUESTIONS)
def test_pyiceberg_duckdb_polars_and_the_files_give_one_answer(question, tables, by_duckdb, monkeypatch):  # noqa: F811
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    [asked] = EXAMPLES[question, "DuckDB"]
    expected = fetched(by_duckdb.execute(asked))
    assert expected
    through = query.connect(tables.aws, tables.fleet, scans=scans(tables))
    assert fetched(through.execute(asked)) == expected
    assert fetched(of_rules(tables, lambda table: table.scan().to_arrow()).execute(asked)) == expected
    assert fetched(of_rules(tables, lambda table: by_polars(tables, table)).execute(asked)) == expected


def test_every_column_of_every_row_is_the_same_through_iceberg_and_by_the_files(tables):
    by_files = query.connect(tables.aws, tables.fleet)
    through = query.connect(tables.aws, tables.fleet, scans=scans(tables))
    for rule in tables.fleet.rules:
        names = ", ".join(sorted(field.name for field in tables.find(rule).schema().fields))
        asked = f"SELECT rule, date, hour, {names} FROM {rule.key} ORDER BY _key, _version"
        rows = by_files.execute(asked).fetchall()
        assert rows
        assert through.execute(asked).fetchall() == rows


def test_days_narrow_what_is_read_and_a_rule_without_a_table_is_empty(tables):
    day = HOURS[0].start.date()
    found = {rule.key: scan for rule, scan in zip(tables.fleet.rules, scans(tables).values(), strict=True)}
    del found["rule3"]
    for first, last, there in ((day, day, True), (day + timedelta(days=1), None, False)):
        through = query.connect(tables.aws, tables.fleet, first, last, scans=found)
        assert bool(through.execute("SELECT count(*) FROM rule1").fetchone()[0]) is there
        assert through.execute("SELECT count(*) FROM rule3").fetchone() == (0,)


def test_fleet_query_reads_through_iceberg_as_the_tables_are_or_were(make_fleet, command):
    filled = Filled(make_fleet())
    filled.add(HOURS[0], *({"speed_kmh": 1} for _ in range(3)))
    filled.sync()
    between = filled.tables.find(filled.rule).current_snapshot().timestamp_ms / 1000 + 1
    while datetime.now(UTC).timestamp() < between + 1:
        filled.lake.parts(filled.rule, HOURS[0])  # the command takes whole seconds
    filled.add(HOURS[1], *({"speed_kmh": 1} for _ in range(4)))
    filled.sync()
    asked = "SELECT count(*) AS n FROM rule1"
    at = f"{datetime.fromtimestamp(between, UTC):%Y-%m-%dT%H:%M:%S}"
    for options, rows in ((["--iceberg"], 7), (["--as-of", at], 3), ([], 7)):
        code, said = command(filled.fleet, "query", asked, "--format", "csv", *options)
        assert (code, said.endswith(f"n\n{rows}\n")) == (0, True), said
        assert ("rule2 is left out: it has no Iceberg table" in said) == bool(options)
    for table, *options in (
        ("rule1", "--as-of", "2020-01-01"),
        ("messages", "--as-of", "2020-01-01"),
        ("rule2", "--iceberg"),
    ):
        code, said = command(filled.fleet, "query", f"SELECT count(*) FROM {table}", *options)
        assert (code, "nothing of what is asked is there: of rule" in said) == (1, True), said
    assert command(filled.fleet, "query", "SELECT count(*) FROM messages", "--iceberg")[0] == 0


def test_fleet_connect_gives_pyiceberg_what_it_needs(make_fleet, command):
    filled = Filled(make_fleet())
    filled.add(HOURS[0], *({"speed_kmh": 1} for _ in range(3)))
    filled.sync()
    code, said = command(filled.fleet, "connect", "pyiceberg")
    names = {}
    exec(compile(said, "fleet connect pyiceberg", "exec"), names)
    assert (code, names["day"].num_rows, names["before"].num_rows) == (0, 3, 3)


def test_readers_see_whole_commits_only_while_files_come_and_are_written_anew_and_metadata_goes(make_fleet):
    filled = Filled(make_fleet())
    filled.add(HOURS[0], *({"n": 0} for _ in range(4)))
    filled.sync()
    over, wrong = threading.Event(), []

    def read():
        tables = Tables.of(filled.fleet, filled.aws, Account.of(filled.fleet).catalog_uri(""))
        database = query.connect(filled.aws, filled.fleet, scans={})
        before = 0
        while not over.is_set():
            table = tables.find(filled.rule)
            rows = table.scan(selected_fields=("n",)).to_arrow()["n"]
            again = database.execute(f"SELECT n FROM iceberg_scan('{table.metadata_location}')").to_arrow_table()["n"]
            wrong.extend(seen for seen in (rows, again) if seen.null_count or len(seen) % 4 or len(seen) < before)
            before = len(rows)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 6):
        filled.add(HOURS[number % 2], *({"n": number} for _ in range(4)))
        filled.sync()
        if number % 2:
            filled.generation()
            filled.sync()
        maintain(filled.tables, filled.rule, datetime.now(UTC) + timedelta(days=8), unfinished=timedelta(days=9))
    alive = reader.is_alive()
    over.set()
    reader.join()
    assert (alive, wrong) == (True, [])


def test_before_and_after_every_writing_call_of_an_erasure_and_a_rewrite_others_rows_are_read_once(make_fleet):
    filled = Filled(make_fleet())
    for hour in (*HOURS, *HOURS):
        filled.add(hour, *({"serial": f"29746800000{number % 3}", "n": number} for number in range(9)))
    filled.sync()
    store, database = filled.tables.store, query.connect(filled.aws, filled.fleet, scans={})
    catalog, seen = filled.tables.catalog, set()

    def look():
        table = filled.tables.find(filled.rule)
        scan = database.execute(f"SELECT serial FROM iceberg_scan('{table.metadata_location}')")
        said = (scan.to_arrow_table(), table.scan(selected_fields=("serial",)).to_arrow())
        counts = [Counter(each["serial"].to_pylist()) for each in said]
        assert counts[0] == counts[1]
        assert [counts[0][f"29746800000{number}"] for number in (0, 2)] == [12, 12]
        seen.add(counts[0]["297468000001"])

    def looked_at(call):
        def done(*arguments):
            look()
            found = call(*arguments)
            look()
            return found

        return done

    store.put_new, store.delete = looked_at(store.put_new), looked_at(store.delete)
    catalog.commit_table = looked_at(catalog.commit_table)
    places = Places(filled.fleet, filled.raw, store, filled.lake, Snapshots(filled.tables))
    assert erase(places, "297468000001", datetime.now(UTC), by="test").clean
    filled.generation()
    filled.sync()
    assert seen == {12, 6, 0}  # an hour after the other


@pytest.fixture
def in_glue(make_fleet):
    return Filled(make_fleet(iceberg="glue"))


def test_in_glue_a_table_is_made_follows_and_is_told_from_the_glue_table_of_the_same_rule(in_glue):
    in_glue.add(HOURS[0], *({"speed_kmh": 1} for _ in range(3)))
    assert in_glue.sync().rows == 3
    in_glue.add(HOURS[1], *({"speed_kmh": 1, "tags": ["a"]} for _ in range(4)))
    in_glue.generation()
    done = in_glue.sync()
    assert (done.files, done.rows, in_glue.rows().num_rows) == (2, 7, 7)
    found = in_glue.aws.glue.get_table(DatabaseName=in_glue.fleet.database, Name="rule1_iceberg")["Table"]
    assert found["Parameters"]["metadata_location"] == done.metadata_location
    assert maintain(in_glue.tables, in_glue.rule, datetime.now(UTC) + timedelta(days=30)).snapshots == 1
    assert in_glue.rows().num_rows == 7


def test_a_table_of_glues_that_is_no_iceberg_table_is_refused(in_glue):
    in_glue.aws.glue.create_database(DatabaseInput={"Name": in_glue.fleet.database})
    theirs = {"Name": "rule1_iceberg", "TableType": "EXTERNAL_TABLE", "Parameters": {"classification": "parquet"}}
    in_glue.aws.glue.create_table(DatabaseName=in_glue.fleet.database, TableInput=theirs)
    in_glue.add(HOURS[0], *({"speed_kmh": 1} for _ in range(3)))
    with pytest.raises(NotOurTable, match="no Iceberg table"):
        in_glue.sync()
    left = in_glue.aws.glue.get_table(DatabaseName=in_glue.fleet.database, Name="rule1_iceberg")["Table"]
    assert left["Parameters"] == theirs["Parameters"]


def test_two_stale_handles_of_a_glue_table_end_with_every_file_once(in_glue):
    in_glue.add(HOURS[0], *({"speed_kmh": 1} for _ in range(3)))
    in_glue.sync()
    in_glue.add(HOURS[1], *({"speed_kmh": 1} for _ in range(3)))
    handles = [Tables.of(in_glue.fleet, in_glue.aws, "") for _ in range(2)]
    with ThreadPoolExecutor() as both:
        done = [*both.map(lambda tables: sync(tables, in_glue.rule), handles)]
    assert [each.files for each in done] == [2, 2]
    assert (in_glue.sync().files, in_glue.rows().num_rows) == (2, 6)


@pytest.fixture
def in_rest(make_fleet, local_aws):
    """The REST endpoint of Glue's catalog on this machine, with signatures, which PyIceberg is told of by its own settings.

    It keeps each metadata.json in a bucket of its own, whatever it is told; manifests lie where we say.
    """
    mine = make_fleet()
    chosen = {"iceberg": "rest", "iceberg_uri": f"{local_aws.url}/iceberg", "iceberg_warehouse": mine.account}
    signed = {
        "rest.sigv4-enabled": "true",
        "rest.signing-name": "glue",
        "rest.signing-region": mine.region,
        "client.access-key-id": mine.account,
        "client.secret-access-key": local_aws.secret,
        "client.region": mine.region,
    }
    place = {"type": "rest", "uri": chosen["iceberg_uri"], "warehouse": mine.account}
    return Filled(replace(mine, **chosen), lambda aws: load_catalog(NAME, **place, **signed, **properties_of(aws)))


def test_in_a_rest_catalog_a_table_is_made_and_follows_and_a_server_that_forgets_no_snapshot_is_named(in_rest):
    in_rest.add(HOURS[0], *({"speed_kmh": 1} for _ in range(3)))
    assert in_rest.sync().rows == 3
    in_rest.add(HOURS[1], *({"speed_kmh": 1, "tags": ["a"]} for _ in range(4)))
    in_rest.generation()
    assert (in_rest.sync().rows, in_rest.rows().num_rows) == (7, 7)
    assert compare(in_rest.tables, in_rest.rule).same
    assert maintain(in_rest.tables, in_rest.rule, datetime.now(UTC)).manifests == 1
    with pytest.raises(CatalogRefused, match="did not forget"):  # this server knows no removal of snapshots
        maintain(in_rest.tables, in_rest.rule, datetime.now(UTC) + timedelta(days=30))
    assert in_rest.rows().num_rows == 7


@pytest.fixture
def in_spark(spark, tables, tmp_path):
    """Spark with Iceberg's own reader, for which a bucket is a folder: no jar of AWS's is needed, and every path in the metadata is as it is."""
    if not spark.conf.get("spark.jars"):
        pytest.skip("ICEBERG_SPARK_JARS names no runtime of Iceberg's for Spark")
    hadoop, bucket = spark.sparkContext._jsc.hadoopConfiguration(), tables.fleet.lake_bucket
    hadoop.set("fs.s3.impl", "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme")
    hadoop.set("fs.viewfs.overload.scheme.target.s3.impl", "org.apache.hadoop.fs.LocalFileSystem")
    hadoop.set("fs.viewfs.overload.scheme.target.file.impl", "org.apache.hadoop.fs.LocalFileSystem")
    hadoop.set(f"fs.viewfs.mounttable.{bucket}.linkFallback", tmp_path.as_uri())
    for each in tables.aws.s3.list_objects_v2(Bucket=bucket)["Contents"]:
        path = tmp_path / each["Key"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tables.aws.s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read())
    return spark


def by_spark(spark, table, snapshot=None):
    reader = spark.read.format("iceberg")
    return (reader.option("snapshot-id", snapshot) if snapshot else reader).load(table.metadata_location)


@pytest.mark.spark
def test_spark_gives_the_same_answers_through_iceberg(in_spark, tables, by_duckdb):  # noqa: F811
    paths = ("date_format(_ts, 'yyyy-MM-dd') AS date", "hour(_ts) AS hour")
    of_rules = [
        by_spark(in_spark, tables.find(rule)).selectExpr("*", f"'{rule.key}' AS rule", *paths)
        for rule in tables.fleet.rules
    ]
    messages = reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), of_rules)
    messages.createOrReplaceTempView("messages")
    for question in QUESTIONS:
        names = {"spark": in_spark, "messages": messages}
        for block in EXAMPLES[question, "Spark"]:
            exec(compile(block, "docs/query.md: Spark", "exec"), names)
        rows = [json.loads(text) for text in names["answer"].toJSON().collect()]
        asked = fetched(by_duckdb.execute(*EXAMPLES[question, "DuckDB"]))
        assert [spelled(row.values()) for row in rows] == [spelled(row) for row in asked]
    assert messages.count() == 91


@pytest.mark.spark
def test_spark_reads_every_row_of_every_column_and_prunes_by_the_instant(in_spark, tables):
    for rule in tables.fleet.rules:
        table = tables.find(rule)
        found = by_spark(in_spark, table)
        theirs = {row["_key"]: row.asDict(recursive=True) for row in found.collect()}
        ours = {row["_key"]: row for row in table.scan().to_arrow().to_pylist()}
        assert theirs.keys() == ours.keys()
        assert {type(row["_ts"]) for row in theirs.values()} == {datetime}
        for key, row in ours.items():
            assert {name: plain(value) for name, value in theirs[key].items()} == {
                name: plain(value) for name, value in row.items()
            }
        late = [row for row in ours.values() if row["_ts"] >= HOURS[1].start]
        narrow = found.where(f"_ts >= timestamp '{HOURS[1].start:%Y-%m-%d %H:%M:%S}+00:00'")
        assert (narrow.count(), narrow.rdd.getNumPartitions(), found.select("_file").distinct().count()) == (
            len(late),
            1,
            2,
        )
        assert narrow.select("_file").distinct().count() == 1
        assert by_spark(in_spark, table, table.current_snapshot().snapshot_id).count() == len(ours)
