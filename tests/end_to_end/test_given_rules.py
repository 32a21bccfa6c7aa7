"""A bucket that exists beside the fleet's own, on AWS on this machine: nothing is made for it, and its messages are rows."""

import gzip
import hashlib
import io
import json
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from in_dagster import definitions_of, resources_of, schedule_of, ticked

from fleet_pipeline.account import Account
from fleet_pipeline.assets.lake import late_data, parquet
from fleet_pipeline.assets.lake.partitions import closed_hours
from fleet_pipeline.cli.main import fleet_command
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.documents.iam import compaction_policy
from fleet_pipeline.cloud.reconcile import reconcile
from fleet_pipeline.definitions import build_definitions
from fleet_pipeline.lake.ledger import UNCOMPACTED, Verdict
from fleet_pipeline.model import settings
from fleet_pipeline.model.errors import InventoryNotYet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule_table import RuleTable
from fleet_pipeline.resources.account import AccountResource

TOML = """
[[rules]]
key = "by_device"
bucket = "BUCKET"
layout = "raw/{device}/{yyyy}/{MM}/{dd}/{HH}/{uuid}.json"

[[rules]]
key = "gathered"
bucket = "BUCKET"
layout = "firehose"
raw_prefix = "stream"
"""
UUID = "00000000-0000-4000-8000-{:012d}"


def closed_hour():
    """An hour of which nothing is under way any more."""
    return Hour.of(datetime.now(UTC)).before.before


def put_inventory(aws, bucket, began, rows):
    """Deliver an inventory of a bucket into itself, as S3 writes it: Parquet, with all versions."""
    place, out = f"lists/{bucket}/all", io.BytesIO()
    kinds = [pa.string()] * 3 + [pa.bool_()] * 2 + [pa.int64(), pa.timestamp("ms", "UTC"), pa.string()]
    names = ["bucket", "key", "version_id", "is_latest", "is_delete_marker", "size", "last_modified_date", "e_tag"]
    columns = zip(*rows, strict=True) if rows else [[]] * len(names)
    pq.write_table(pa.table([pa.array(c, k) for c, k in zip(columns, kinds, strict=True)], names=names), out)
    body, key = out.getvalue(), f"{place}/data/{began:%d%H%M}.parquet"
    said = {
        "sourceBucket": bucket,
        "destinationBucket": f"arn:aws:s3:::{bucket}",
        "version": "2016-11-30",
        "creationTimestamp": str(int(began.timestamp() * 1000)),
        "fileFormat": "Parquet",
        "fileSchema": "message s3.inventory { }",
        "files": [{"key": key, "size": len(body), "MD5checksum": hashlib.md5(body).hexdigest()}],
    }
    manifest, folder = json.dumps(said).encode(), f"{place}/{began:%Y-%m-%dT%H-%MZ}"
    aws.s3.put_object(Bucket=bucket, Key=key, Body=body)
    aws.s3.put_object(Bucket=bucket, Key=f"{folder}/manifest.json", Body=manifest)
    aws.s3.put_object(Bucket=bucket, Key=f"{folder}/manifest.checksum", Body=hashlib.md5(manifest).hexdigest())


@pytest.fixture
def world(make_fleet, tmp_path):
    bare = make_fleet()
    file = tmp_path / "fleet.toml"
    bucket = f"{bare.bucket}-others"
    file.write_text(TOML.replace("BUCKET", bucket))
    own = {"FLEET_ACCOUNT": bare.account, "FLEET_BUCKET": bare.bucket, "FLEET_HOME": bare.home, "COLUMNS": "160"}
    fleet = settings.read_fleet({name: text for name, text in own.items() if name.startswith("FLEET")}, file)
    aws = Account.of(fleet).aws
    for part in ("bucket", "lake_bucket"):
        reconcile(blueprint(fleet)[part].resource, aws)
    aws.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": fleet.region})

    def run(*arguments, exit_code=0):
        done = CliRunner().invoke(fleet_command, list(arguments), env={**own, "FLEET_FILE": str(file)})
        assert done.exit_code == exit_code, (done.output, done.exception)
        return f"{done.output}{done.exception or ''}"

    return fleet, aws, bucket, run


def test_the_rows_of_a_bucket_that_exists_are_asked_for_like_any_others(world):
    _, aws, bucket, run = world
    hour = closed_hour()
    for number in range(6):
        key = f"raw/car {number % 2}/{hour.start:%Y/%m/%d/%H}/{UUID.format(number)}.json"
        aws.s3.put_object(Bucket=bucket, Key=key, Body=json.dumps({"n": number}).encode())
    lines = b"".join(b'{"n": %d}\n' % number for number in range(1000))
    aws.s3.put_object(Bucket=bucket, Key=f"stream/{hour.start:%Y/%m/%d/%H}/one.gz", Body=gzip.compress(lines))
    span = ["--from", hour.partition_key, "--through", hour.partition_key, "--rule", "by_device", "--rule", "gathered"]
    run("compact", *span)
    said = run("query", "SELECT rule, count(*) AS messages, sum(n) AS total FROM messages GROUP BY rule ORDER BY rule")
    assert [
        line.replace("│", " ").split() for line in said.splitlines() if "by_device" in line or "gathered" in line
    ] == [
        ["by_device", "6", "15.0"],
        ["gathered", "1000", "499500.0"],
    ]
    assert "is only read" in run("raw", "purge", *span, "--yes", exit_code=1)
    assert "is only read" in run("raw", "purge", *span[:4], "--yes")
    run("raw", "purge", *span, "--dry-run")
    assert len(aws.s3.list_objects_v2(Bucket=bucket)["Contents"]) == 7


def test_no_resource_and_no_right_of_a_vehicle_comes_of_it(world):
    fleet, _, bucket, _ = world
    plain = replace(fleet, rule_tables=())
    assert blueprint(fleet) == blueprint(plain)
    statements = {each["Sid"]: each for each in compaction_policy(fleet)["Statement"]}
    assert statements["FindMessagesInGivenBuckets"]["Resource"] == [f"arn:aws:s3:::{bucket}"]
    assert statements["ReadMessagesInGivenBuckets"] == {
        "Sid": "ReadMessagesInGivenBuckets",
        "Effect": "Allow",
        "Action": ["s3:GetObject", "s3:GetObjectVersion"],
        "Resource": [f"arn:aws:s3:::{bucket}/raw/*", f"arn:aws:s3:::{bucket}/stream/*"],
    }


def test_dagster_compacts_it_looks_at_it_and_has_no_errors_of_it(world):
    fleet, aws, bucket, _ = world
    hour = closed_hour()
    aws.s3.put_object(
        Bucket=bucket, Key=f"stream/{hour.start:%Y/%m/%d/%H}/one", Body=b'{"serial": "1", "n": 1}\n{"serial": "2"}'
    )
    definitions = build_definitions(fleet)
    keys = {key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()}
    assert {"raw/gathered", "lake/gathered", "lake/by_device", "errors/rule1"} <= keys
    assert not {"errors/gathered", "provisioning/rule_gathered"} & keys
    selected = dg.AssetSelection.assets("lake/gathered")
    looked = dg.AssetSelection.checks_for_assets("raw/gathered")
    jobs = [
        dg.define_asset_job(name, each, executor_def=dg.in_process_executor)
        for name, each in (("compact", selected), ("look", looked))
    ]
    built = dg.Definitions(
        assets=definitions.assets,
        asset_checks=definitions.asset_checks,
        jobs=jobs,
        resources={**definitions.resources, "io_manager": dg.mem_io_manager},
    )
    with dg.DagsterInstance.ephemeral() as instance:
        before = built.resolve_job_def("look").execute_in_process(instance=instance)
        done = built.resolve_job_def("compact").execute_in_process(instance=instance, partition_key=hour.partition_key)
        after = built.resolve_job_def("look").execute_in_process(instance=instance)
    [made] = done.asset_materializations_for_node(done.job_def.nodes[0].name)
    assert made.metadata["dagster/partition_row_count"].value == 2
    uncompacted = [
        each.passed
        for run in (before, after)
        for each in run.get_asset_check_evaluations()
        if each.check_name == "nothing_is_uncompacted"
    ]
    assert uncompacted == [False, True]


def test_a_bucket_is_looked_at_and_its_rule_is_written_into_the_file(world, monkeypatch):
    _, aws, bucket, run = world
    hour = closed_hour()
    for number in range(6):
        key = f"more/car-{number % 2}/{hour.start:%Y/%m/%d/%H}/{UUID.format(number)}.json"
        aws.s3.put_object(Bucket=bucket, Key=key, Body=json.dumps({"n": number}).encode())
    address = f"s3://{bucket}/more"
    said = run("adopt-bucket", address)
    for each in (
        "6 of 6 (100.0%)",
        "more/{device}/{yyyy}/{MM}/{dd}/{HH}/{uuid}.json",
        "in each of 2 folders",
        "with `inventory` an hour is read from an S3 Inventory",
        "None is configured for this bucket.",
        'key = "more"',
    ):
        assert each in said
    assert "rule key 'more'" in run("schema", "show", "--rule", "more", exit_code=1)
    assert "`fleet compact` reads it from now on" in run("adopt-bucket", address, "--write")
    span = ["--from", hour.partition_key, "--through", hour.partition_key, "--rule", "more"]
    assert "6" in run("compact", *span)
    aws.s3.put_object(Bucket=bucket, Key="more/read me.txt", Body=b"hello")
    assert "1 key does not fit: 'more/read me.txt'; it is foreign" in run("adopt-bucket", address, exit_code=1)
    again = run("adopt-bucket", address, "--key", "again", "--write", exit_code=1)
    assert "more reads some of its keys, too" in again
    assert "It cannot be written as it is" in run("adopt-bucket", address, "--key", "again", exit_code=1)
    assert "there is no object below it" in run("adopt-bucket", f"s3://{bucket}/none", exit_code=1)
    assert "write it as s3://bucket/prefix" in run("adopt-bucket", bucket, exit_code=1)
    monkeypatch.setenv("FLEET_RULES", "[]")
    assert "this variable wins over" in run("adopt-bucket", address, "--key", "again", "--write", exit_code=1)


def test_it_is_said_where_keys_say_no_time_and_where_objects_are_no_json_or_a_gzip_each(world):
    _, aws, bucket, run = world
    for number in range(3):
        aws.s3.put_object(Bucket=bucket, Key=f"dump/{number}.json", Body=gzip.compress(b'{"n": 1}'))
        aws.s3.put_object(Bucket=bucket, Key=f"dated/rule1/{1577836800000 + number}.json", Body=b"\x82\xa1a\x01")
    dump, dated = run("adopt-bucket", f"s3://{bucket}/dump"), run("adopt-bucket", f"s3://{bucket}/dated/rule1")
    for sentence in ("The keys say no time", "Each object that was looked into is a gzip of one message"):
        assert sentence in dump
        assert sentence not in dated
    for sentence in ("3 of 3 objects that were looked into are no JSON", "set it to 2020-01-01 or earlier"):
        assert sentence in dated
        assert sentence not in dump
    assert '_others_rule1"' in dated  # rule1 is a rule of the fleet's, so the bucket stands before it


def test_what_reads_more_and_says_no_time_is_named_and_a_device_by_its_name(world):
    _, aws, bucket, run = world
    for number in range(30):
        name = f"note-{number}" if number % 3 == 0 else 1795420800000 + number
        aws.s3.put_object(Bucket=bucket, Key=f"all/vin={number % 3 + 7}/{name}", Body=b'{"n": 1}')
    said = run("adopt-bucket", f"s3://{bucket}/all")
    assert "all/vin={device}/{millis}" in said
    assert "2, such as '8'" in said
    assert "--layout 'all/vin={device}/{*}' fits 30 keys, and says no time" in said


def test_a_bucket_is_looked_at_before_there_is_a_rule_and_what_the_fleet_lacks_is_said(world, tmp_path):
    _, aws, bucket, run = world
    aws.s3.put_object(Bucket=bucket, Key=f"dated/{1795420800000}.json", Body=b'{"n": 1}')
    (tmp_path / "fleet.toml").write_text("rule_keys = []\n")
    said = run("adopt-bucket", f"s3://{bucket}/dated", exit_code=1)
    assert "dated/{millis}.json" in said
    assert "name at least one rule: a key here, or a table [[rules]] with a topic" in said
    assert "name at least one rule" in run("adopt-bucket", f"s3://{bucket}/dated", "--write", exit_code=1)
    assert (tmp_path / "fleet.toml").read_text() == "rule_keys = []\n"
    assert "name at least one rule" in run("plan", exit_code=1)


def test_a_bucket_of_parquet_is_not_adopted(world):
    _, aws, bucket, run = world
    hour, out = closed_hour(), io.BytesIO()
    pq.write_table(pa.table({"n": [1]}), out)
    folder = f"campaign/processed-data/{hour.start:year=%Y/month=%m/date=%d/hour=%H}"
    for number in range(6):
        aws.s3.put_object(Bucket=bucket, Key=f"{folder}/part-{number}.parquet", Body=out.getvalue())
    address = f"s3://{bucket}/campaign"
    for words in ([], ["--write"]):
        said = run("adopt-bucket", address, *words, exit_code=1)
        assert "Most of what was looked into is Parquet, which no rule reads: it is not adopted" in said
        assert "[[rules]]" not in said
    assert "rule key 'campaign'" in run("schema", "show", "--rule", "campaign", exit_code=1)
    aws.s3.put_object(Bucket=bucket, Key=f"{folder}/one.json", Body=b'{"n": 1}\n')
    layout = "campaign/processed-data/year={yyyy}/month={MM}/date={dd}/hour={HH}/{*}.json"
    said = run("adopt-bucket", address, "--layout", layout, "--write")
    assert "6 keys do not fit" in said
    assert "`fleet compact` reads it from now on" in said


def test_a_rule_that_reads_what_another_one_does_is_named_by_what_stands_in_the_table(world):
    fleet, aws, _, run = world
    hour = closed_hour()
    aws.s3.put_object(Bucket=fleet.bucket, Key=f"test-rule/rule1/{hour.start_ms}", Body=b'{"n": 1}')
    said = run("adopt-bucket", f"s3://{fleet.bucket}/test-rule/rule1", exit_code=1)
    assert 'raw_prefix = "test-rule/rule1"' in said
    assert "raw_prefix is 'test-rule/rule1'" in said
    assert f"objects below test-rule/rule1/ of bucket {fleet.bucket} belong to rule1" in said
    assert ".layout" not in said


def test_an_hour_of_an_inventory_is_due_as_far_as_the_inventory_tells(world, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fleet, aws, bucket, _ = world
    place = f"s3://{bucket}/lists/{bucket}/all/"
    table = RuleTable(key="slow", bucket=bucket, layout="slow/{*}.json", inventory=place)
    fleet = replace(fleet, rule_tables=(*fleet.rule_tables, table), start="2026-11-01")
    [rule] = [each for each in fleet.rules if each.key == "slow"]
    statements = {each["Sid"]: each for each in compaction_policy(fleet)["Statement"]}
    assert statements["SeeInventories"]["Resource"] == [f"arn:aws:s3:::{bucket}"]
    assert statements["ReadInventories"]["Resource"] == [f"arn:aws:s3:::{bucket}/lists/{bucket}/all/*"]
    assert statements["FindInventories"]["Resource"] == [f"arn:aws:s3:::{bucket}"]
    account, now = AccountResource.of(fleet), datetime(2026, 11, 23, 10, tzinfo=UTC)
    with pytest.raises(InventoryNotYet, match="there is none yet"):
        parquet.reach(fleet, account, rule, now)
    put_inventory(aws, bucket, datetime(2026, 11, 20, 1, 30, tzinfo=UTC), [])
    told = parquet.reach(fleet, account, rule, now).until
    assert closed_hours(fleet, told, 2)[-1:] == [Hour.parse("2026-11-19-23:00")]
    assert parquet.reach(fleet, account, fleet.rules[0], now).until == now


@pytest.fixture
def slow(world, tmp_path, monkeypatch):
    """A rule that is read from an inventory, in a world with a message; what delivers one that began some time ago."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fleet, aws, bucket, _ = world
    table = RuleTable(key="slow", bucket=bucket, layout="slow/{*}.json", inventory=f"s3://{bucket}/lists/{bucket}/all/")
    fleet = replace(fleet, rule_tables=(*fleet.rule_tables, table), start="2026-11-01")
    etag = aws.s3.put_object(Bucket=bucket, Key="slow/one.json", Body=b'{"n": 1}')["ETag"].strip('"')

    def deliver(ago):
        began = datetime.now(UTC) - ago
        hour = Hour.of(began - timedelta(hours=1)).before
        at = hour.start + timedelta(minutes=5)
        put_inventory(aws, bucket, began, [(bucket, "slow/one.json", "", True, False, 8, at, etag)])
        return hour

    return fleet, deliver


def in_dagster_run(fleet, instance, name, selection, **said):
    definitions = build_definitions(fleet)
    built = dg.Definitions(
        assets=definitions.assets,
        asset_checks=definitions.asset_checks,
        jobs=[dg.define_asset_job(name, selection, executor_def=dg.in_process_executor)],
        resources={**definitions.resources, "io_manager": dg.mem_io_manager},
    )
    return built.resolve_job_def(name).execute_in_process(instance=instance, **said)


def looked(fleet, instance):
    run = in_dagster_run(fleet, instance, "look", dg.AssetSelection.checks_for_assets("raw/slow"))
    return {each.check_name: each for each in run.get_asset_check_evaluations()}


@pytest.mark.parametrize(("known", "is_fresh"), [(0, True), (4, False)])
def test_the_lake_is_fresh_when_an_inventory_comes_and_not_when_what_it_told_is_left_lying(slow, known, is_fresh):
    fleet, deliver = slow
    hour = deliver(timedelta(hours=9))
    [rule] = [each for each in fleet.rules if each.key == "slow"]
    if known:  # a look said so hours ago, of the inventory before
        ledger = parquet.ledger(fleet, AccountResource.of(fleet), rule)
        ledger.judge(datetime.now(UTC) - timedelta(hours=known), {hour: {UNCOMPACTED: Verdict("1 messages", 1)}})
    with dg.DagsterInstance.ephemeral() as instance:
        before = looked(fleet, instance)
        assert not before[UNCOMPACTED].passed
        assert before[UNCOMPACTED].metadata["hours"].value == {hour.partition_key: 1}
        assert before[late_data.FRESH].passed == is_fresh
        lag = before[late_data.FRESH].metadata["lag in minutes"].value
        assert known * 60 <= lag < known * 60 + 30
        made = in_dagster_run(
            fleet,
            instance,
            "compact",
            dg.AssetSelection.assets("lake/slow"),
            partition_key=hour.partition_key,
        )
        assert made.success
        assert all(each.passed for each in looked(fleet, instance).values())


def test_the_schedule_asks_for_the_hours_of_which_an_inventory_tells_and_for_no_later_one(slow):
    fleet, deliver = slow
    hour = deliver(timedelta(hours=9))
    with dg.instance_for_test() as instance:
        schedule, resources = schedule_of(fleet, "compact_closed_hours"), resources_of(fleet)
        with dg.build_schedule_context(
            instance,
            scheduled_execution_time=datetime.now(UTC),
            repository_def=definitions_of(fleet).get_repository_def(),
            resources=resources,
        ) as context:
            requests = ticked(schedule, context)
    asked = {
        request.partition_key or request.tags["dagster/asset_partition_range_end"]
        for request in requests
        if dg.AssetKey(["lake", "slow"]) in request.asset_selection
    }
    assert asked == {hour.partition_key}


def test_an_inventory_that_comes_no_more_is_not_fresh(slow):
    fleet, deliver = slow
    deliver(late_data.OLD + timedelta(hours=1))
    with dg.DagsterInstance.ephemeral() as instance:
        found = looked(replace(fleet, look_back_hours=3), instance)[late_data.FRESH]
    assert not found.passed
    assert "The newest inventory tells of nothing of the last 10 days" in found.description
