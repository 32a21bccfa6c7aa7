"""From an empty account to rows in Parquet, as a newcomer goes: `fleet demo`, then a look at everything it left behind."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import pandas as pd
import pyarrow.dataset as ds
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from fleet_pipeline.account import Account
from fleet_pipeline.cli.demo import FOREIGN_SERIAL
from fleet_pipeline.cloud.claims.certificates import read_claim
from fleet_pipeline.definitions import build_definitions
from fleet_pipeline.local import daemon
from fleet_pipeline.model.errors import RegistrationRefused
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.vehicle.driving import drive, made_up_serials
from fleet_pipeline.vehicle.identity import Identity
from fleet_pipeline.vehicle.registration import register

REPOSITORY = Path(__file__).parents[2]
VEHICLES, MESSAGES = 4, 30
HOURS_DRIVEN = 3

BEHIND_A_DEAD_PROXY = dict.fromkeys(
    [f(name) for name in ("http_proxy", "https_proxy", "all_proxy") for f in (str.lower, str.upper)],
    "http://127.0.0.1:9",
) | {
    "NO_PROXY": "",
    "no_proxy": "",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which `fleet demo` has run twice."""
    home = tmp_path_factory.mktemp("demo")
    shutil.copy(REPOSITORY / "dagster.yaml", home)
    yield home
    daemon.stop(home / ".fleet")


def materializations(instance, key):
    return [record.asset_materialization for record in instance.fetch_materializations(key, limit=500).records]


def run(folder, *arguments, **environment):
    command = [sys.executable, "-m", "fleet_pipeline", *arguments]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def demos(folder):
    return [
        run(folder, "demo", "--vehicles", "2", "--messages", "30", **environment)
        for environment in ({}, BEHIND_A_DEAD_PROXY)
    ]


@pytest.fixture(scope="module")
def fleet(folder, demos):
    return Fleet(home=str(folder / ".fleet"))


@pytest.fixture(scope="module")
def account(fleet):
    return Account.of(fleet)


def test_the_demo_succeeds_and_succeeds_again(demos):
    for demo in demos:
        assert demo.returncode == 0, demo.stdout + demo.stderr
        assert demo.stdout.count("equal") == 3
        assert "the hook says: the serial is not 297468" in " ".join(demo.stdout.split())


def test_the_demo_gives_out_and_erases_a_vehicle_that_came_by_once(demos):
    for demo, rows in zip(demos, (1, 0), strict=True):  # in the second its message comes again, and becomes no row
        said = " ".join(demo.stdout.split())
        assert "export of 297468001001: 1 message, " in said, demo.stdout
        assert f"1 raw version and {rows} row are gone; found in the" in said, demo.stdout
        assert "objects that are left: 0; the certificate is lake/_erasures/" in said
        [(before, after)] = re.findall(r"snapshots of rule1_iceberg: (\d+) rows, then (\d+) rows", said)
        assert int(before) - int(after) == rows


def test_no_client_asks_the_shells_proxy_for_this_machine(folder, demos):
    """boto3, libcurl, the AWS IoT SDK, the hook and pyarrow in the demo; urllib and DuckDB here. A proxy that is dead would answer none of them."""
    assert demos[1].returncode == 0, demos[1].stderr
    for command in (["local", "status"], ["query", "SELECT count(*) FROM rule1"]):
        done = run(folder, *command, **BEHIND_A_DEAD_PROXY)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_second_demo_changes_nothing_in_the_cloud(demos):
    assert "16 created" in demos[0].stdout
    assert "16 unchanged" in demos[1].stdout


def test_after_the_demo_all_that_dagster_makes_is_made_each_partition_of_it(folder, fleet, demos, monkeypatch):
    monkeypatch.chdir(folder)
    graph = build_definitions(fleet).resolve_asset_graph()
    first = (folder / ".fleet" / "local-aws" / "first-day").read_text()
    assert datetime.fromisoformat(first).date() in {datetime.now(UTC).date() - timedelta(days=ago) for ago in (0, 1)}
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        for key in graph.executable_asset_keys:
            made = {event.partition for event in materializations(instance, key)}
            assert made, key
            if key.path[0] in {"lake", "vehicles"} and key.path[-1] != "daily":
                assert len(made) >= min(
                    HOURS_DRIVEN,
                    (datetime.now(UTC) - datetime.fromisoformat(f"{first}T00:00Z")) // timedelta(hours=1) - 1,
                )


def test_after_the_demo_nothing_is_out_of_date_and_every_drift_check_is_green(folder, fleet, demos, monkeypatch):
    monkeypatch.chdir(folder)
    assert all(re.search(r" ([1-9][0-9]+) of \1 checks are green", demo.stdout) for demo in demos)
    graph = build_definitions(fleet).resolve_asset_graph()
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        known = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
        for key in graph.executable_asset_keys:
            for partition in {event.partition for event in materializations(instance, key)}:
                assert known.get_stale_causes(key, partition) == [], (key, partition)


def test_the_demo_says_how_many_rows_the_lake_has_beside_those_of_its_table(fleet, command, demos):
    _, counted = command(fleet, "query", "SELECT rule, count(*) AS n FROM messages GROUP BY rule", "--format", "csv")
    rows = dict(line.split(",") for line in counted.splitlines()[1:])
    assert int(rows["rule1"]) > 30 * 2 * 2
    said = ", ".join(f"{rule} {int(count):,}" for rule, count in sorted(rows.items()))
    assert f"the lake has rows of {said}, as `fleet query` counts them" in demos[1].stdout


def test_the_demo_drives_in_hours_that_have_passed_once_and_one_message_of_each_rule_is_damaged(fleet, account, demos):
    assert ["as if they had driven" in demo.stdout for demo in demos] == [True, False]
    statuses = lake(fleet, account).to_table(["rule", "_status"]).to_pylist()
    damaged = Counter(row["rule"] for row in statuses if row["_status"] not in {"ok", "partial"})
    assert damaged == dict.fromkeys(fleet.rule_keys, 1)


def test_every_acknowledged_message_is_one_row_and_no_message_is_two(fleet, account):
    serials = made_up_serials(fleet, VEHICLES)
    claim = read_claim(fleet, account.aws)
    for serial in serials:
        register(fleet, account.broker, Identity(claim.certificate_pem, claim.private_key), serial, account.home)
    begun = datetime.now(UTC)
    acknowledged = drive(fleet, account.broker, account.home, serials, MESSAGES).acknowledged
    assert sum(map(len, acknowledged.values())) == VEHICLES * MESSAGES
    compact(fleet, {Hour.of(begun), Hour.of(datetime.now(UTC))})
    for rule in fleet.rules:
        rows = (
            lake(fleet, account).to_table(["message_id"], filter=ds.field("rule") == rule.key)["message_id"].to_pylist()
        )
        assert not [each for each, count in Counter(rows).items() if count > 1]
        assert set(acknowledged[rule.key]) <= set(rows)
        raw = account.aws.s3.get_paginator("list_object_versions").paginate(Bucket=fleet.bucket, Prefix=rule.raw_prefix)
        assert len(rows) == sum(len(page.get("Versions", [])) for page in raw)


def test_pyarrow_pandas_and_duckdb_read_the_same_rows(fleet, account, tmp_path):
    compact(fleet, {Hour.of(datetime.now(UTC))})
    by_arrow = lake(fleet, account).to_table().num_rows
    root = f"{fleet.lake_bucket}/{fleet.parquet_prefix}/v1"
    by_pandas = pd.read_parquet(root, filesystem=account.arrow_filesystem)
    copy(fleet, account, tmp_path)
    by_duckdb = duckdb.sql(
        f"SELECT rule, date, hour, count(*) FROM read_parquet('{tmp_path}/**/*.parquet', hive_partitioning=true) GROUP BY ALL"
    ).fetchall()
    assert by_arrow == len(by_pandas) == sum(count for *_, count in by_duckdb) > 0
    assert {rule for rule, *_ in by_duckdb} == set(fleet.rule_keys) == set(by_pandas["rule"].unique())


def test_a_refused_serial_makes_no_thing_and_no_certificate_that_works(fleet, account, tmp_path):
    claim = read_claim(fleet, account.aws)
    before = active_certificates(account)
    with pytest.raises(RegistrationRefused):
        register(fleet, account.broker, Identity(claim.certificate_pem, claim.private_key), FOREIGN_SERIAL, tmp_path)
    things = [thing["thingName"] for thing in account.aws.iot.list_things()["things"]]
    assert fleet.thing_name(FOREIGN_SERIAL) not in things
    assert active_certificates(account) == before
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_no_private_key_is_anywhere_but_in_the_vehicles_folders_and_in_s3(folder, fleet, account, demos):
    keys = [path.read_text() for path in (folder / ".fleet" / "vehicles").rglob("private.key")]
    keys.append(read_claim(fleet, account.aws).private_key)
    assert len(keys) >= 3
    said = [demo.stdout + demo.stderr for demo in demos]
    dagsters = [path for path in (folder / ".dagster").rglob("*") if path.is_file()]
    logs = [daemon.status(folder / ".fleet").log_path]
    assert dagsters
    for key in keys:
        lines = [line for line in key.splitlines() if re.fullmatch(r"[A-Za-z0-9+/=]{40,}", line)]
        assert len(lines) > 10
        for line in lines:
            assert [path for path in dagsters + logs if line.encode() in path.read_bytes()] == []
            assert not any(line in text for text in said)


def compact(fleet, hours):
    for hour in hours:
        result = (
            build_definitions(fleet)
            .resolve_job_def("compact")
            .execute_in_process(instance=dg.DagsterInstance.ephemeral(), partition_key=hour.partition_key)
        )
        assert result.success


def lake(fleet, account):
    return ds.dataset(
        f"{fleet.lake_bucket}/{fleet.parquet_prefix}/v1/", filesystem=account.arrow_filesystem, partitioning="hive"
    )


def copy(fleet, account, target):
    """Copy the lake to the disk, where DuckDB needs no extension to read it."""
    for path in lake(fleet, account).files:
        place = target / path.split("/v1/")[1]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(account.arrow_filesystem.open_input_stream(path).read())


def active_certificates(account):
    pages = account.aws.iot.get_paginator("list_certificates").paginate()
    return {
        certificate["certificateId"]
        for page in pages
        for certificate in page["certificates"]
        if certificate["status"] == "ACTIVE"
    }
