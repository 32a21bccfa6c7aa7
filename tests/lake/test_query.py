"""`fleet query`, `fleet shell`, `fleet connect`: the lake answers SQL with no address, no secret and no download."""

import csv
import io
import json
import subprocess
import sys
import uuid
from dataclasses import replace
from datetime import UTC, date, datetime

import pyarrow.parquet as pq
import pytest

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.cli.snippets import ENGINES
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.reconcile import reconcile
from fleet_pipeline.lake.analytics.vehicles import seen
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.query import ask, connect, former, rows, tables
from fleet_pipeline.model.errors import QueryRefused
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName

HOURS = [Hour.parse("2026-11-23-23:00"), Hour.parse("2026-11-24-00:00")]
SERIAL = "297468000001"
EVIL = "\x1b[2J<img src=x>"


@pytest.fixture(scope="module")
def fleet(make_fleet):
    return make_fleet()


@pytest.fixture(scope="module")
def account(fleet, local_aws):
    """Two hours of rule1, the second with a column of its own; rule2 and rule3 have none yet."""
    aws = Aws(fleet.region, fleet.account, local_aws.url)
    for name in ("bucket", "lake_bucket"):
        reconcile(blueprint(fleet)[name].resource, aws)
    raw, lake, [rule, *_] = (
        S3Store(aws, fleet.bucket),
        Lake(S3Store(aws, fleet.lake_bucket), fleet.parquet_prefix),
        fleet.rules,
    )
    for hour, more in zip(HOURS, ({}, {"door": EVIL}), strict=True):
        for second in range(3):
            body = json.dumps({"serial": SERIAL, "speed_kmh": 1.5, **more})
            aws.s3.put_object(
                Bucket=fleet.bucket,
                Key=rule.raw_key(RawName(hour.start_ms + 1000 * second, str(uuid.uuid4()))),
                Body=body,
            )
        compact_hour(raw, lake, rule, hour)
        seen(fleet, lake, hour)
    return aws


def answer(account, fleet, sql, **days):
    return list(rows(ask(connect(account, fleet, **days), sql)))


def test_each_rule_is_a_view_and_messages_are_all_of_them(account, fleet):
    found = tables(connect(account, fleet))
    assert set(found) == {"rule1", "rule2", "rule3", "messages", "vehicles_hourly"}
    assert {("door", "VARCHAR"), ("rule", "VARCHAR"), ("date", "VARCHAR"), ("hour", "INTEGER")} <= set(
        found["messages"]
    )
    assert answer(
        account, fleet, "SELECT date, hour, count(*) AS n, count(door) AS doors FROM messages GROUP BY ALL ORDER BY ALL"
    ) == [
        {"date": "2026-11-23", "hour": 23, "n": 3, "doors": 0},
        {"date": "2026-11-24", "hour": 0, "n": 3, "doors": 3},
    ]


def test_a_rule_that_left_the_settings_stays_a_table_and_is_named_as_one(account, fleet, command, monkeypatch):
    left = replace(fleet, rule_keys=("rule2",))
    database = connect(account, left)
    assert set(tables(database)) == {"rule1", "rule2", "messages", "vehicles_hourly"}
    assert former(database) == ["rule1"]
    assert former(connect(account, left, first=date(2027, 1, 1))) == ["rule1"]
    assert former(connect(account, fleet)) == []
    assert answer(account, left, "SELECT rule, count(*) AS n FROM messages GROUP BY ALL") == [{"rule": "rule1", "n": 6}]
    monkeypatch.setenv("FLEET_RULE_KEYS", "rule2")
    said = command(fleet, "query")[1]
    assert said.count("of a rule that left the settings") == 1
    assert command(fleet, "query", "SELECT count(*) AS n FROM rule1")[0] == 0


def test_a_rule_without_parts_has_no_rows_and_can_be_asked(account, fleet):
    assert answer(account, fleet, "SELECT count(*) AS n FROM rule3 WHERE date = '2026-11-23' AND _status = 'ok'") == [
        {"n": 0}
    ]


def test_days_from_and_to_are_both_included(account, fleet):
    count = "SELECT count(*) AS n FROM rule1"
    assert answer(account, fleet, count, first=date(2026, 11, 24)) == [{"n": 3}]
    assert answer(account, fleet, count, last=date(2026, 11, 23)) == [{"n": 3}]
    assert answer(account, fleet, count, first=date(2026, 11, 23), last=date(2026, 11, 24)) == [{"n": 6}]
    assert answer(account, fleet, count, first=date(2026, 11, 25)) == [{"n": 0}]


def test_instants_are_utc_wherever_the_reader_is(account, fleet, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    [row] = answer(account, fleet, "SELECT min(_ts) AS first, min(strftime(_ts, '%H')) AS hour FROM rule1")
    assert row["first"].astimezone(UTC) == datetime(2026, 11, 23, 23, tzinfo=UTC)
    assert row["hour"] == "00"  # the texts of 23 and 00 o'clock


def test_the_last_revision_of_a_vehicles_table_counts(account, fleet):
    assert answer(account, fleet, "SELECT vehicle, hour, messages FROM vehicles_hourly ORDER BY date") == [
        {"vehicle": SERIAL, "hour": 23, "messages": 3},
        {"vehicle": SERIAL, "hour": 0, "messages": 3},
    ]


def test_a_wrong_question_says_which_tables_there_are(account, fleet):
    with pytest.raises(
        QueryRefused, match=r"message2[\s\S]*The tables are: messages, rule1, rule2, rule3, vehicles_hourly"
    ):
        answer(account, fleet, "SELECT 1 FROM message2")


def test_a_query_writes_into_no_bucket(account, fleet, command, tmp_path):
    where = f"s3://{fleet.lake_bucket}/planted.parquet"
    for sql in (
        f"COPY (SELECT 1 AS a) TO '{where}'",
        f"/* x */ copy (SELECT 1 AS a) to\n'{where}' (FORMAT parquet)",
        f"EXPLAIN ANALYZE COPY (SELECT 1 AS a) TO '{where}'",
        f"PREPARE p AS COPY (SELECT 1 AS a) TO '{where}'; EXECUTE p",
        f"SET VARIABLE x = '{where}'; COPY (SELECT 1 AS a) TO (getvariable('x'))",
        f"EXPORT DATABASE 's3://{fleet.lake_bucket}/planted'",
    ):
        code, said = command(fleet, "query", sql)
        assert (code, "a query only reads" in said) == (1, True), (sql, said)
    store = S3Store(account, fleet.lake_bucket)
    assert not [each.key for page in store.versions("planted") for each in page]
    assert command(fleet, "query", f"COPY (SELECT 1 AS a) TO '{tmp_path / 'a.csv'}'")[0] == 0
    assert (tmp_path / "a.csv").read_text() == "a\n1\n"


def test_no_error_and_no_table_holds_the_secret(account, fleet, local_aws):
    database = connect(account, fleet)
    assert f"secret={local_aws.secret}" not in str(database.execute("FROM duckdb_secrets()").fetchall())
    with pytest.raises(QueryRefused) as refused:
        list(rows(ask(database, "FROM read_parquet('s3://no-such-bucket-of-anyone/x.parquet')")))
    assert f"'{local_aws.secret}'" not in str(refused.value)


def test_a_device_text_is_plain_in_a_table(account, fleet, command):
    code, said = command(fleet, "query", "SELECT door FROM rule1 WHERE door IS NOT NULL LIMIT 1")
    assert code == 0
    assert "\x1b" not in said
    assert r"\x1b[2J<img src=x>" in said


def test_csv_and_json_hold_every_row_as_it_is(account, fleet, command):
    sql = "SELECT _ts, _payload, door, [1, 2] AS list, 'nan'::DOUBLE AS nothing FROM rule1 ORDER BY _ts"
    code, said = command(fleet, "query", "--format", "csv", sql)
    head, *lines = csv.reader(io.StringIO(said))
    assert code == 0
    assert head == ["_ts", "_payload", "door", "list", "nothing"]
    assert len(lines) == 6
    assert lines[0][2:4] == ["", "[1,2]"]
    assert json.loads(lines[0][1])["serial"] == SERIAL
    code, said = command(fleet, "query", "--format", "json", sql)
    found = [json.loads(line) for line in said.splitlines()]
    assert found[0]["_ts"] == "2026-11-23T23:00:00Z"
    assert found[-1]["door"] == EVIL
    assert found[0]["nothing"] is None


@pytest.mark.parametrize("suffix", ["parquet", "csv", "json"])
def test_a_file_holds_every_row_and_is_there_when_it_is_whole(suffix, account, fleet, command, tmp_path):
    out = tmp_path / f"day.{suffix}"
    code, said = command(fleet, "query", "--out", str(out), "SELECT serial, speed_kmh FROM rule1")
    assert (code, [path.name for path in tmp_path.iterdir() if path.name.startswith("day")]) == (0, [out.name]), said
    lines = out.read_text(errors="replace").splitlines()
    assert pq.read_table(out).num_rows == 6 if suffix == "parquet" else len(lines) == 6 + (suffix == "csv")


def test_a_file_of_an_unknown_kind_or_place_is_refused(account, fleet, command, tmp_path):
    assert (
        "must end with .parquet, .csv or .json"
        in command(fleet, "query", "--out", str(tmp_path / "x.xlsx"), "SELECT 1")[1]
    )
    assert (
        "No such file or directory" in command(fleet, "query", "--out", str(tmp_path / "no" / "x.csv"), "SELECT 1")[1]
    )


def test_without_a_question_the_tables_are_named(account, fleet, command):
    code, said = command(fleet, "query")
    assert code == 0
    assert "vehicles_hourly" in said
    assert "speed_kmh" in said


def test_a_table_that_is_cut_says_so(account, fleet, command):
    assert "the first 2 rows" in command(fleet, "query", "--rows", "2", "SELECT serial FROM rule1")[1]
    assert "the first" not in command(fleet, "query", "--rows", "6", "SELECT serial FROM rule1")[1]


def test_more_columns_than_the_screen_has_room_for_are_shown_row_by_row(account, fleet, command):
    columns = ", ".join(f"{number} AS column_{number}" for number in range(30))  # the tests' screen has 200 characters
    code, said = command(fleet, "query", f"SELECT {columns} FROM rule1")
    assert code == 0
    assert said.count("column_29") == 6
    assert "row 6" in said
    assert "the first 2 rows" in command(fleet, "query", "--rows", "2", f"SELECT {columns} FROM rule1")[1]
    assert "the first 10 rows" in command(fleet, "query", f"SELECT {columns} FROM rule1, range(3)")[1]


def test_two_columns_of_one_name_are_both_shown(account, fleet, command):
    sql = "SELECT 1 AS a, 2 AS a, 3 AS a_1"
    assert json.loads(command(fleet, "query", "--format", "json", sql)[1]) == {"a": 1, "a_2": 2, "a_1": 3}
    assert command(fleet, "query", "--format", "csv", sql)[1] == "a,a_2,a_1\n1,2,3\n"
    assert command(fleet, "query", sql)[0] == 0


def test_no_row_in_the_answer_is_no_row_in_the_lake_only_where_there_is_none(account, fleet, command):
    assert "`fleet compact`" not in command(fleet, "query", "SELECT 1 FROM rule1 WHERE false")[1]
    for sql, named in (("SELECT * FROM nothing", False), ("SELECT * FROM rule", True)):
        code, said = command(fleet, "query", sql)
        assert (code, "Did you mean" in said, "pg_settings" in said) == (1, named, False), said
    for sql in ("", " -- only this"):
        code, said = command(fleet, "query", sql)
        assert (code, "there is no statement in it" in said) == (1, True), said
    nothing = ("query", "--from", "2026-11-01", "--through", "2026-11-01", "SELECT * FROM rule1")
    assert "`fleet compact` makes them" in command(fleet, *nothing)[1].replace("\n", " ")
    code, said = command(fleet, "query", "--to", "2026-11-23", "SELECT count(*) AS n FROM rule1")
    assert (code, "say --through" in said, " 3 " in said) == (0, True, True), said


def test_an_account_without_a_lake_says_what_makes_one(make_fleet, command):
    code, said = command(make_fleet(), "query", "SELECT 1")
    assert code == 1
    assert "there is no lake yet" in said
    assert "fleet demo" in said


def test_aws_that_is_stopped_is_not_taken_for_an_account_without_a_lake(fleet, command, tmp_path):
    code, said = command(replace(fleet, home=str(tmp_path / "stopped")), "query", "SELECT 1")
    assert (code, "`fleet local up` starts it" in said.replace("\n", " "), "no lake yet" in said) == (1, True, False), (
        said
    )


def test_the_shell_answers_until_it_is_left_and_survives_a_mistake(account, fleet, tmp_path):
    typed = "SELECT nonsense;\nSELECT count(*) AS n\nFROM rule1;\nSELECT 1 AS no_row_at_all WHERE false;\nSELECT 'first'; SELECT 'second';\n"
    typed += ".nothing\nhelp\n.tables\nexit\nSELECT 'after it was left';\n"
    given = {
        "FLEET_ACCOUNT": fleet.account,
        "FLEET_BUCKET": fleet.bucket,
        "FLEET_HOME": fleet.home,
        "COLUMNS": "200",
        "PATH": "/usr/bin:/bin",
    }
    shell = subprocess.run(
        [sys.executable, "-m", "fleet_pipeline", "shell"],
        input=typed,
        env=given,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert shell.returncode == 0, shell.stderr
    assert "nonsense" in shell.stdout
    assert "│ 6 │" in shell.stdout
    assert "There is no .nothing" in shell.stdout
    assert "no_row_at_all" in shell.stdout
    assert "first" in shell.stdout
    assert "second" in shell.stdout
    assert shell.stdout.count("help says this again") == 2
    assert "after it was left" not in shell.stdout
    opening = shell.stdout.split("fleet>")[0]
    assert "rule1" in opening
    assert "_payload" not in opening
    assert opening.count("\n") == 2


def test_each_of_several_statements_is_answered_and_a_file_takes_one(account, fleet, command, tmp_path):
    code, said = command(
        fleet, "query", "CREATE TEMP TABLE t AS SELECT 41 + 1 AS n; SELECT n FROM t; SELECT 'two' AS m"
    )
    assert (code, "42" in said, "two" in said) == (0, True, True), said
    for more in (["--format", "csv"], ["--format", "json"], ["--out", str(tmp_path / "one.csv")]):
        code, said = command(fleet, "query", "SELECT 1 AS n; SELECT 2 AS n", *more)
        assert (code, "hold one answer, and this gives 2" in said) == (1, True), said
    assert not (tmp_path / "one.csv").exists()
    code, said = command(fleet, "query", "SET threads = 1; SELECT 7 AS n", "--format", "csv")
    assert (code, said) == (0, "n\n7\n")
    assert "nonsense" in command(fleet, "query", "SELECT 1; nonsense")[1]


@pytest.mark.parametrize("engine", ENGINES)
def test_connect_prints_no_secret_and_the_true_address(engine, account, fleet, command, local_aws):
    code, said = command(fleet, "connect", engine)
    assert code == 0
    assert f"'{local_aws.secret}'" not in said.replace('"', "'")
    assert local_aws.url.removeprefix("http://") in said or engine == "athena"
    assert fleet.lake_bucket in said or engine == "athena"


def test_what_boto3_is_given_reaches_aws_on_this_machine(account, fleet, command):
    found = {}
    exec(command(fleet, "connect", "boto3")[1], found)
    assert {key.split("/")[2] for key in (each["Key"] for each in found["parts"]["Contents"]) if "part-" in key} == {
        "rule=rule1"
    }


def test_boto3_is_shown_the_way_before_there_is_a_lake(make_fleet, command):
    code, said = command(make_fleet(), "connect", "boto3")
    assert (code, "boto3.Session(" in said) == (0, True)


def test_a_rule_that_is_called_messages_keeps_its_name(account, fleet):
    named = replace(fleet, rule_keys=("rule1", "messages"))
    assert answer(account, named, "SELECT count(*) AS n FROM messages") == [{"n": 0}]


def test_a_damaged_part_is_named_with_what_to_do_and_other_days_can_be_asked(account, fleet, command):
    part = Lake(S3Store(account, fleet.lake_bucket), fleet.parquet_prefix).part_key(fleet.rules[1], HOURS[0], 0)
    account.s3.put_object(Bucket=fleet.lake_bucket, Key=part, Body=b"no part", IfNoneMatch="*")
    try:
        code, said = command(fleet, "query", "SELECT count(*) FROM rule1")
        with pytest.raises(QueryRefused, match="restore its last good version"):
            connect(account, fleet)
        assert answer(account, fleet, "SELECT count(*) AS n FROM rule1", first=date(2026, 11, 24)) == [{"n": 3}]
    finally:
        account.s3.delete_object(Bucket=fleet.lake_bucket, Key=part)
    assert (code, part in said.replace("\n", ""), "Traceback" in said) == (1, True, False)
