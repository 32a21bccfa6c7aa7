"""A company's own rule on AWS on this machine: SQL with WHERE over a wildcard, a further action, rights of its own; vehicles drive, and rows arrive."""

import json
import time
from datetime import UTC, datetime

import pytest

from fleet_pipeline.account import Account
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.cloud.claims.certificates import read_claim
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations.apply import apply_all, plan_all
from fleet_pipeline.cloud.operations.destroy import destroy
from fleet_pipeline.cloud.reconcile import Action
from fleet_pipeline.lake.operations.compact import Compaction
from fleet_pipeline.lake.operations.compact_hour import Unit
from fleet_pipeline.lake.query import ask, connect
from fleet_pipeline.model import settings
from fleet_pipeline.model.errors import ConnectionFailed, PublishRefused
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.vehicle.connection import connected
from fleet_pipeline.vehicle.driving import drive, made_up_serials
from fleet_pipeline.vehicle.identity import Identity, VehicleFolder
from fleet_pipeline.vehicle.registration import register
from fleet_pipeline.virtual_vehicle import tried

TOML = """
rule_keys = []
device_rights = ["shadow"]

[[policy_statements]]
Effect = "Allow"
Action = ["iot:Subscribe", "iot:Receive"]
Resource = ["topicfilter/alarms/${iot:Connection.Thing.ThingName}", "topic/alarms/${iot:Connection.Thing.ThingName}"]

[[rules]]
key = "telemetry"
topic = "vehicles/+/telemetry/#"

[[rules]]
key = "fast"
sql = "SELECT message_id, speed_kmh, topic(2) AS vehicle FROM 'fleet/+/speed-report' WHERE speed_kmh > 45"
raw_prefix = "acme/fast"
columns = { message_id = "string", speed_kmh = "double", vehicle = "string" }

[[rules.actions]]
sqs = { queueUrl = "QUEUE" }

[[rules.actions]]
republish = { topic = "alarms/${topic(2)}", qos = 1 }
"""
VEHICLES, MESSAGES = 3, 40


@pytest.fixture(scope="module")
def fleet(make_fleet, tmp_path_factory):
    bare = make_fleet()
    sqs = Account.of(bare).aws.session.client("sqs", endpoint_url=Account.of(bare).aws.endpoint_url)
    file = tmp_path_factory.mktemp("settings") / "fleet.toml"
    queue = sqs.create_queue(QueueName="fast")["QueueUrl"]
    file.write_text(TOML.replace("QUEUE", queue))
    own = {
        "FLEET_ACCOUNT": bare.account,
        "FLEET_BUCKET": bare.bucket,
        "FLEET_HOME": bare.home,
        "FLEET_START": bare.start,
    }
    return settings.read_fleet(own, file)


@pytest.fixture(scope="module")
def account(fleet):
    account = Account.of(fleet)
    with Lock(account.aws, fleet.bucket, "test") as lock:
        assert {step.action for step in apply_all(fleet, account.aws, lock)} == {Action.CREATE}
    return account


@pytest.fixture(scope="module")
def driven(fleet, account):
    """What vehicles published to each rule, and the hours in which they did, all of them arrived and compacted."""
    claim = read_claim(fleet, account.aws)
    serials = made_up_serials(fleet, VEHICLES)
    for serial in serials:
        register(fleet, account.broker, Identity(claim.certificate_pem, claim.private_key), serial, account.home)
    begun = datetime.now(UTC)
    acknowledged = drive(fleet, account.broker, account.home, serials, MESSAGES).acknowledged
    hours = {Hour.of(begun), Hour.of(datetime.now(UTC))}
    give_up = time.monotonic() + 60
    while len(raw(fleet, account, "telemetry")) < len(acknowledged["telemetry"]) and time.monotonic() < give_up:
        time.sleep(0.2)
    for rule in fleet.rules:
        compaction = Compaction.of(fleet, account.aws, rule)
        for hour in hours:
            assert compaction(Unit(hour), lambda _: None).complete
    return acknowledged


def raw(fleet, account, key):
    store = S3Store(account.aws, fleet.bucket)
    return [version for page in store.versions(fleet.rule(key).raw_prefix) for version in page]


def rows(fleet, account, sql):
    return ask(connect(account.aws, fleet), sql).fetchall()


def test_an_applied_fleet_of_own_rules_is_as_the_settings_want_it(fleet, account):
    assert {step.action for step in plan_all(fleet, account.aws)} == {Action.UNCHANGED}


def test_every_message_of_a_topic_a_vehicle_is_a_row(fleet, account, driven):
    found = rows(fleet, account, "SELECT message_id FROM telemetry")
    assert sorted(each for (each,) in found) == sorted(driven["telemetry"])


def test_where_and_columns_decide_what_becomes_a_row_and_the_topic_names_the_vehicle(fleet, account, driven):
    found = rows(fleet, account, "SELECT message_id, speed_kmh, vehicle, _topic FROM fast")
    assert 0 < len(found) < len(driven["fast"]), "WHERE leaves some out, of this journey"
    assert {each for each, *_ in found} <= set(driven["fast"])
    assert all(speed > 45 and topic is None for _, speed, _, topic in found)
    assert {vehicle for _, _, vehicle, _ in found} <= {
        fleet.thing_name(serial) for serial in made_up_serials(fleet, VEHICLES)
    }
    assert len(found) == len(raw(fleet, account, "fast"))


def test_a_further_action_gets_what_the_raw_objects_are(fleet, account, driven):
    sqs = account.aws.session.client("sqs", endpoint_url=account.aws.endpoint_url)
    queue, received = sqs.get_queue_url(QueueName="fast")["QueueUrl"], []
    while batch := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
        received += [json.loads(each["Body"])["message_id"] for each in batch]
        sqs.delete_message_batch(
            QueueUrl=queue,
            Entries=[{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(batch)],
        )
    assert sorted(received) == sorted(each for (each,) in rows(fleet, account, "SELECT message_id FROM fast"))


@pytest.mark.parametrize("topic", ["vehicles/{other}/telemetry/telemetry", "vehicles/{own}/telemetry/else"])
def test_a_vehicle_publishes_below_its_own_name_alone(fleet, account, driven, topic):
    own, other = (fleet.thing_name(serial) for serial in made_up_serials(fleet, 2))
    rule = fleet.rule("telemetry")
    with (
        connected(account.broker, VehicleFolder.of(account.home, own).read(), own) as connection,
        pytest.raises((PublishRefused, ConnectionFailed)),
    ):
        connection.publish(f"$aws/rules/{rule.aws_name}/{topic.format(own=own, other=other)}", b"{}")


def test_the_virtual_vehicle_tries_the_rules_whose_objects_are_the_messages(fleet, account, driven):
    trials = tried(fleet, account)
    assert [trial for trial in trials if not trial.so] == []
    assert {trial.what for trial in trials if "arrives" in trial.what} == {"a message of telemetry arrives"}


def test_a_teardown_leaves_nothing_of_them(fleet, account, driven):
    list(destroy(fleet, account.aws, confirmed=fleet.bucket, with_data=True, sleep=lambda _: None))
    assert account.aws.iot.list_topic_rules()["rules"] == []
    assert [
        each["RoleName"] for each in account.aws.iam.list_roles()["Roles"] if each["RoleName"].startswith(fleet.prefix)
    ] == []
