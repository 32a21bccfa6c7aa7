"""Messages that streams gather, on AWS on this machine: vehicles drive, batches arrive, and each message is a row."""

import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from fleet_pipeline.account import Account
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.cloud.claims.certificates import read_claim
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations.apply import apply_all, plan_all
from fleet_pipeline.cloud.reconcile import Action
from fleet_pipeline.lake.batches import BatchHour
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact import Compaction
from fleet_pipeline.lake.operations.compact_hour import Unit
from fleet_pipeline.lake.operations.verify import verify_hour
from fleet_pipeline.lake.reading import opened
from fleet_pipeline.model.errors import WouldLose
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.vehicle.connection import connected
from fleet_pipeline.vehicle.driving import drive, made_up_serials
from fleet_pipeline.vehicle.identity import Identity, VehicleFolder
from fleet_pipeline.vehicle.registration import register

VEHICLES, MESSAGES, BINARY = 3, 40, b"\xff\x00 not text"


def applied(fleet, account, **more):
    with Lock(account.aws, fleet.bucket, "test") as lock:
        return list(apply_all(fleet, account.aws, lock, **more))


def wait_for(what):
    give_up = time.monotonic() + 25
    while not what():
        assert time.monotonic() < give_up
        time.sleep(0.3)


def test_what_vehicles_publish_to_streams_is_rows_byte_for_byte_beside_what_came_as_objects(make_fleet):
    before = make_fleet()
    account = Account.of(before)
    assert {step.action for step in applied(before, account)} == {Action.CREATE}
    serials = made_up_serials(before, VEHICLES)
    claim = read_claim(before, account.aws)
    for serial in serials:
        register(before, account.broker, Identity(claim.certificate_pem, claim.private_key), serial, account.home)
    begun = datetime.now(UTC)
    objects = drive(before, account.broker, account.home, serials, 5).acknowledged
    fleet = replace(before, delivery="firehose", delivery_buffer_seconds=2)
    changed = {step.wanted.name: step.action for step in applied(fleet, account)}
    assert changed["test_rule_rule1"] is Action.UPDATE
    assert changed[fleet.stream_name(fleet.rules[0])] is Action.CREATE
    assert {step.action for step in plan_all(fleet, account.aws)} == {Action.UNCHANGED}
    batched = drive(fleet, account.broker, account.home, serials, MESSAGES).acknowledged
    thing, rule = fleet.thing_name(serials[0]), fleet.rule("rule1")
    identity = VehicleFolder.of(account.home, thing).read()
    with connected(account.broker, identity, thing) as connection:
        connection.publish(rule.published_by(thing)[0], BINARY)
    raw, lake = S3Store(account.aws, fleet.bucket), Lake.of(fleet, S3Store(account.aws, fleet.lake_bucket))
    hours = sorted({Hour.of(begun), Hour.of(datetime.now(UTC))})
    wanted = len(objects["rule1"]) + len(batched["rule1"]) + 1
    where = (account.aws, fleet.bucket, fleet.lake_bucket, fleet.parquet_prefix)

    def compacted():
        done = [Compaction(*where, rule, fleet.form, 3)(Unit(hour), lambda _: None) for hour in hours]
        assert all(each.complete for each in done)
        return sum(each.rows for each in done) == wanted

    wait_for(compacted)
    rows = [
        row for hour in hours for part in lake.parts(rule, hour) for row in opened(lake.store, part).read().to_pylist()
    ]
    assert len(rows) == wanted
    assert {row["message_id"] for row in rows} - {None} == {*objects["rule1"], *batched["rule1"]}
    [binary] = [row for row in rows if row["_payload"] == BINARY]
    assert (binary["_status"], binary["_client_id"], binary["_topic"]) == ("malformed", thing, "test-rule/rule1")
    assert all(verify_hour(raw, lake, rule, hour).passed for hour in hours)
    held = [batch for hour in hours for batch in BatchHour(raw, lake, rule, hour).listed]
    assert held
    assert len({batch.id for batch in held}) < len(batched["rule1"])
    with pytest.raises(WouldLose, match="gathered"):
        applied(before, account)
    again = {step.wanted.name: step.action for step in applied(before, account, confirmed=fleet.bucket)}
    assert again[fleet.stream_name(rule)] is Action.DELETE
    assert {step.action for step in plan_all(before, account.aws)} == {Action.UNCHANGED}
