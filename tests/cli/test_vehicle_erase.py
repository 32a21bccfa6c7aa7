"""`fleet vehicle erase` and its job, on AWS on this machine, with Iceberg tables: nothing is left of the vehicle, and each refusal is a sentence."""

import io
import json
from hashlib import sha256

import dagster as dg
import pyarrow.parquet as pq
import pytest

from fleet_pipeline.account import Account
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.reconcile import reconcile
from fleet_pipeline.definitions import build_definitions
from fleet_pipeline.lake.iceberg.tables import Tables
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName
from fleet_pipeline.vehicle.identity import Identity, VehicleFolder

TEN = Hour.parse("2026-11-23-10:00")
A, B = "297468000001", "297468000002"
UUID = "00000000-0000-4000-8000-{:012d}"


@pytest.fixture
def driven(fleet, aws, command):
    """A fleet in which two vehicles sent a message each, which are rows of the lake and of an Iceberg table."""
    for name in ("bucket", "lake_bucket"):
        reconcile(blueprint(fleet)[name].resource, aws)
    for place, serial in enumerate((A, B)):
        key = fleet.rules[0].raw_key(RawName(TEN.start_ms + place, UUID.format(place)))
        aws.s3.put_object(Bucket=fleet.bucket, Key=key, Body=json.dumps({"serial": serial}).encode())
    aws.iot.create_thing(thingName=fleet.thing_name(A))
    VehicleFolder.of(Account.of(fleet).home, fleet.thing_name(A)).write(Identity("certificate", "key"))
    assert command(fleet, "compact", "--from", TEN.partition_key, "--to", TEN.next.partition_key)[0] == 0
    assert command(fleet, "iceberg", "sync")[0] == 0
    return fleet


def held(fleet, aws, name):
    """Every version of every object of both buckets in which a name stands."""
    found = []
    for bucket in (fleet.bucket, fleet.lake_bucket):
        for each in aws.s3.list_object_versions(Bucket=bucket).get("Versions", []):
            body = aws.s3.get_object(Bucket=bucket, Key=each["Key"], VersionId=each["VersionId"])["Body"].read()
            rows = str(pq.read_table(io.BytesIO(body)).to_pylist()) if each["Key"].endswith(".parquet") else ""
            found += [each["Key"]] if name.encode() in body or name in each["Key"] or name in rows else []
    return found


def test_the_command_erases_what_was_confirmed_and_prints_its_certificate(driven, aws, command):
    fleet = driven
    code, said = command(fleet, "vehicle", "erase", "--serial", A, "--dry-run")
    assert (code, "1 messages in 1 hours" in said, "nothing was changed" in " ".join(said.split())) == (
        0,
        True,
        True,
    ), said
    code, said = command(fleet, "vehicle", "erase", "--serial", A, "--confirm", B)
    assert (code, "confirm it with the serial itself" in said) == (1, True), said
    code, said = command(fleet, "vehicle", "erase", "--serial", "2974*", "--confirm", "2974*")
    assert (code, "without wildcards" in said) == (1, True), said
    assert len(held(fleet, aws, A)) == 2
    code, said = command(fleet, "vehicle", "erase", "--serial", A, "--confirm", A, "--with-thing")
    assert (code, "Removed: 1 messages" in said, "Found of the vehicle: 0." in said) == (0, True, True), said
    assert held(fleet, aws, A) == []
    assert len(held(fleet, aws, B)) == 2
    tables = Tables.of(fleet, aws, Account.of(fleet).catalog_uri(""))
    table = tables.find(fleet.rules[0])
    assert [row["serial"] for row in table.scan().to_arrow().to_pylist()] == [B]
    live = {entry["file_path"] for entry in table.inspect.all_files().to_pylist()}
    assert [path.rpartition("/")[2] for path in live] == ["part-00001.parquet"]
    assert aws.iot.list_things()["things"] == []
    assert VehicleFolder.of(Account.of(fleet).home, fleet.thing_name(A)).read() is None
    assert command(fleet, "iceberg", "check")[0] == 0
    code, said = command(fleet, "vehicle", "export", "--serial", A, "--out", str(Account.of(fleet).home / "nothing"))
    assert (code, "nothing is held" in said) == (1, True), said
    late = fleet.rules[0].raw_key(RawName(TEN.start_ms + 9, UUID.format(9)))
    aws.s3.put_object(Bucket=fleet.bucket, Key=late, Body=json.dumps({"serial": A}).encode())
    code, said = command(fleet, "compact", "--from", TEN.partition_key, "--to", TEN.next.partition_key)
    assert (code, "rule1: 1 versions came of vehicles that were erased, and became no rows" in said) == (0, True), said


def test_the_jobs_give_out_and_erase_and_without_confirmation_say_what_would_go(driven, aws, instance, tmp_path):
    definitions = build_definitions(driven)

    def run(job, **config):
        ops = {"ops": {f"{job}_op": {"config": config}}}
        done = definitions.resolve_job_def(job).execute_in_process(ops, instance=instance)
        [said] = [event for event in done.all_events if event.is_successful_output]
        return {name: value.value for name, value in said.event_specific_data.metadata.items()}

    table = [dg.AssetKey(["iceberg", "rule1"])]
    everything = definitions.resolve_implicit_global_asset_job_def()
    assert everything.execute_in_process(instance=instance, asset_selection=table).success
    given = run("export_vehicle", serial=A, out=str(tmp_path / "out"))
    assert (given["messages"], given["where it lies"]) == (1, str(tmp_path / "out"))
    assert given["manifest.json, SHA-256"] == sha256((tmp_path / "out/manifest.json").read_bytes()).hexdigest()
    planned = run("erase_vehicle", serial=A)
    assert (planned["done"], planned["messages"]) == (False, 1)
    assert len(held(driven, aws, A)) == 2
    done = run("erase_vehicle", serial=A, confirm=A)
    assert (done["done"], done["messages"], done["found at the end"]) == (True, 1, 0)
    assert held(driven, aws, A) == []
    key = done["certificate"].removeprefix(f"s3://{driven.lake_bucket}/")
    body = aws.s3.get_object(Bucket=driven.lake_bucket, Key=key)["Body"].read()
    assert done["certificate, SHA-256"] == sha256(body).hexdigest()
    made = instance.fetch_materializations(table[0], limit=9).records
    assert [each.asset_materialization.metadata["dagster/row_count"].value for each in made] == [1, 2]
    check = dg.AssetCheckKey(table[0], "table_is_the_lake")
    said = instance.event_log_storage.get_asset_check_execution_history(check, limit=9)
    assert [each.event.dagster_event.asset_check_evaluation_data.passed for each in said] == [True, True]
    assert said[0].run_id == made[0].run_id  # by which Dagster knows that it is of this state of the table
    assert run("erase_vehicle", serial=A, confirm=A)["messages"] == 0
    assert len(instance.fetch_materializations(table[0], limit=9).records) == 2
    runs = instance.get_runs()
    assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS] * 5
    assert A not in str([run.run_config for run in runs])
