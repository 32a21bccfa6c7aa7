"""docs/query.md: every example runs, and all engines give one answer."""

import json
import re
import uuid
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest
import sqlglot
from dict_store import DictStore

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cli.snippets import opening
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.reconcile import reconcile
from fleet_pipeline.lake import query
from fleet_pipeline.lake.analytics.vehicles import seen
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName
from fleet_pipeline.vehicle.telemetry import journey

PAGE = (Path(__file__).parents[2] / "docs" / "query.md").read_text()
OPENING, VEHICLES = "Opening the lake", "The tables about vehicles"
HOURS = [Hour.parse("2026-11-23-09:00"), Hour.parse("2026-11-23-10:00")]


def examples():
    """Return the page's blocks of code by heading and engine."""
    found, block = defaultdict(list), None
    heading = engine = ""
    for line in PAGE.splitlines():
        if block is not None:
            if line == "```":
                found[heading, engine].append("\n".join(block))
                block = None
            else:
                block.append(line)
        elif line.startswith("```"):
            block = []
        elif line.startswith("## "):
            heading, engine = line[3:], ""
        elif line.startswith("### "):
            engine = line[4:]
    return found


EXAMPLES = examples()
QUESTIONS = sorted({heading for heading, engine in EXAMPLES if engine == "Athena" and heading != OPENING})


@pytest.fixture(scope="module")
def fleet(make_fleet):
    return make_fleet()


@pytest.fixture(scope="module")
def lake(fleet):
    """Two hours of three vehicles on three rules, one of whose messages cannot be read; as the bucket will hold them."""
    raw, lake = DictStore(), Lake(DictStore(), "lake")
    for vehicle in range(3):
        serial = f"29746800000{vehicle}"
        for number, message in enumerate(islice(journey(serial, 7, HOURS[0].start), 30)):
            instant = HOURS[0].start + timedelta(minutes=4 * number, seconds=vehicle)
            rule = fleet.rules[number % 3]
            raw.put(rule.raw_key(RawName(int(instant.timestamp() * 1000), str(uuid.uuid4()))), message.payload)
    raw.put(fleet.rules[1].raw_key(RawName(HOURS[1].start_ms, str(uuid.uuid4()))), b"{broken")
    for hour in HOURS:
        for rule in fleet.rules:
            compact_hour(raw, lake, rule, hour)
        seen(fleet, lake, hour)
    return lake


@pytest.fixture(scope="module")
def here(fleet, lake, local_aws):
    """Return how the page's text reads on this machine, once the lake is in its S3."""
    aws = Aws(fleet.region, fleet.account, local_aws.url)
    reconcile(blueprint(fleet)["lake_bucket"].resource, aws)
    for key, [(_, body)] in lake.store.objects.items():
        aws.s3.put_object(Bucket=fleet.lake_bucket, Key=key, Body=body, IfNoneMatch="*")
    address = local_aws.url.removeprefix("http://")
    said = {
        "cdk-s3-test-bucket-lake": fleet.lake_bucket,
        "123456789012": fleet.account,
        "127.0.0.1:4566": address,
        "/home/you/project/.fleet/local-aws/secret": str(local_aws.ca_path.with_name("secret")),
    }
    return lambda text: re.sub("|".join(said), lambda found: said[found[0]], text)


@pytest.fixture(scope="module")
def by_duckdb(here):
    database = duckdb.connect()
    database.execute(f"LOAD '{query._extension()}'")
    _, opening = EXAMPLES[OPENING, "DuckDB"]
    database.execute(here(opening.removeprefix("INSTALL httpfs;")))
    return database


@pytest.fixture(scope="module")
def by_athena(fleet, here, by_duckdb):
    """Athena's statements in DuckDB's words, over one table for each rule."""
    database = by_duckdb.cursor()
    database.execute("CREATE SCHEMA athena; USE athena")
    for rule in fleet.rules:
        database.execute(f"CREATE VIEW {rule.key} AS SELECT * FROM memory.main.messages WHERE rule = '{rule.key}'")
    database.execute(in_duckdbs_words(*EXAMPLES[OPENING, "Athena"]))
    return database


def in_duckdbs_words(sql):
    [statement] = sqlglot.transpile(sql, read="athena", write="duckdb")
    return statement


def answers(table):
    """Return an answer as rows that compare, whichever engine gave it."""
    return [tuple(plain(value) for value in row) for row in table]


def plain(value):
    if isinstance(value, datetime):
        instant = value if value.tzinfo else value.replace(tzinfo=UTC)
        return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
    return round(value, 6) if isinstance(value, float) else value


def fetched(result):
    return answers(zip(*(column.to_pylist() for column in result.to_arrow_table().columns), strict=True))


def run(here, engine, question):
    names = {}
    shared = EXAMPLES[OPENING, engine]
    for block in [shared[1], shared[2], *EXAMPLES[question, engine]]:
        exec(compile(here(block), f"docs/query.md: {engine}", "exec"), names)
    return names["answer"]


def test_the_page_asks_five_questions_in_five_engines():
    assert len(QUESTIONS) == 5
    for question in QUESTIONS:
        assert {engine for heading, engine in EXAMPLES if heading == question} == {
            "Athena",
            "DuckDB",
            "pandas",
            "Polars",
            "Spark",
        }


@pytest.mark.parametrize("engine", ["DuckDB", "pandas", "Polars"])
def test_the_page_opens_the_lake_as_fleet_connect_does(engine):
    fleet = replace(Fleet(), home="/home/you/project/.fleet")
    on_aws, here, *after = EXAMPLES[OPENING, engine]
    for block, endpoint in ((on_aws, None), (here, "http://127.0.0.1:4566")):
        assert opening(engine.lower(), fleet, "lake/v1/", endpoint, "2026-11-23") == "\n\n".join([block, *after]) + "\n"


def test_the_first_answer_counts_every_message(by_duckdb, lake):
    counted = fetched(by_duckdb.execute(*EXAMPLES[QUESTIONS[0], "DuckDB"]))
    assert sum(messages for *_, messages in counted) == 91
    assert {(rule, hour) for rule, hour, _ in counted} == {
        (f"rule{number}", hour) for number in (1, 2, 3) for hour in (9, 10)
    }


@pytest.mark.parametrize("question", QUESTIONS)
def test_athena_duckdb_pandas_and_polars_give_one_answer(question, here, by_duckdb, by_athena):
    expected = fetched(by_duckdb.execute(*EXAMPLES[question, "DuckDB"]))
    assert expected
    assert fetched(by_athena.execute(in_duckdbs_words(*EXAMPLES[question, "Athena"]))) == expected
    by_pandas = run(here, "pandas", question)
    assert isinstance(by_pandas, pd.DataFrame)
    assert answers(by_pandas.itertuples(index=False)) == expected
    by_polars = run(here, "Polars", question)
    assert isinstance(by_polars, pl.DataFrame)
    assert answers(by_polars.iter_rows()) == expected


def test_the_last_revision_of_vehicles_hourly_is_read(here, by_duckdb, lake):
    rows = by_duckdb.execute(here(*EXAMPLES[VEHICLES, ""])).to_arrow_table().to_pylist()
    assert [row["vehicle"] for row in rows] == [f"29746800000{vehicle}" for vehicle in range(3)] * 2
    assert sum(row["messages"] for row in rows) == 90


@pytest.mark.spark
def test_spark_gives_the_same_answers(spark, lake, here, by_duckdb, tmp_path):
    for key, [(_, body)] in lake.store.objects.items():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(body)
    for question in QUESTIONS:
        names = {"spark": spark, "path": str(tmp_path / "lake/v1")}
        for block in [*EXAMPLES[OPENING, "Spark"], *EXAMPLES[question, "Spark"]]:
            exec(compile(block, "docs/query.md: Spark", "exec"), names)
        rows = [json.loads(text) for text in names["answer"].toJSON().collect()]
        assert [spelled(row.values()) for row in rows] == [
            spelled(row) for row in fetched(by_duckdb.execute(*EXAMPLES[question, "DuckDB"]))
        ]


def spelled(row):
    """Return a row as JSON writes it: instants as text, to the millisecond."""
    return [re.sub(r"Z$", "", value) if isinstance(value, str) else plain(value) for value in row]
