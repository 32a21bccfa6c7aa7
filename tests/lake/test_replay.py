"""What a rule could not write comes back once, under one key, and nothing else is taken for it."""

import base64
import json
import uuid
from dataclasses import replace

import pytest
from batches import batch_key, packed, record
from dict_store import DictStore
from hypothesis import given
from hypothesis import strategies as st

from fleet_pipeline.account import Account
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.cloud.blueprint import blueprint, resources
from fleet_pipeline.cloud.claims.certificates import read_claim
from fleet_pipeline.cloud.reconcile import reconcile
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.replay import Replayed, parsed, replay, reports, returned, waiting
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName, Rule
from fleet_pipeline.model.rule_table import RuleTable
from fleet_pipeline.vehicle.connection import connected
from fleet_pipeline.vehicle.identity import Identity, VehicleFolder
from fleet_pipeline.vehicle.registration import register

FLEET = Fleet()
RULE = FLEET.rules[0]
UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
NAME = f"1795442400123-{UUID}"
KEY = f"errors/rule1/{NAME}"
FAILURE = {
    "failedAction": "S3Action",
    "failedResource": "bucket",
    "errorMessage": f"Access Denied, key test-rule/rule1/{NAME}",
}


def document(payload=b"{}", **other):
    said = {
        "ruleName": "test_rule_rule1",
        "topic": "test-rule/rule1",
        "clientId": "test-thing-297468000001",
        "base64OriginalPayload": base64.b64encode(payload).decode(),
        "failures": [FAILURE],
    }
    return json.dumps(said | other).encode()


@given(st.binary())
def test_the_payload_comes_back_byte_for_byte_under_the_time_and_the_uuid_of_its_report(payload):
    report = parsed(FLEET, RULE, KEY, document(payload))
    assert report.payload == payload
    assert RULE.raw_key(report.name) == f"test-rule/rule1/{NAME}-test-thing-297468000001"
    assert RULE.parse_raw_key(RULE.raw_key(report.name)) == report.name


@pytest.mark.parametrize("raw_key_format", ["timestamp", "timestamp-uuid", "timestamp-uuid-client"])
def test_a_report_has_one_raw_key_whatever_the_settings_say_by_then(raw_key_format):
    fleet = replace(FLEET, raw_key_format=raw_key_format)
    assert parsed(fleet, RULE, KEY, document(clientId="N/A")).name == RawName(1795442400123, UUID)


def test_a_reason_is_the_same_for_equal_failures():
    assert parsed(FLEET, RULE, KEY, document()).reason == "S3Action to bucket: Access Denied, key test-rule/rule1/…-…"


STRANGE = {
    "another rule's": (KEY, document(ruleName="other")),
    "a topic of the device's choice": (KEY, document(topic="claim-certificate/claim.pem")),
    "no base64": (KEY, document(base64OriginalPayload="%")),
    "no payload": (KEY, json.dumps({"ruleName": "test_rule_rule1", "topic": "test-rule/rule1"}).encode()),
    "a topic that is no text": (KEY, document(topic=["test-rule/rule1"])),
    "failures that are none": (KEY, document(failures=[1])),
    "no JSON": (KEY, b"\xff"),
    "an array": (KEY, b"[]"),
    "too deep": (KEY, b"[" * 100_000),
    "a key without a UUID": ("errors/rule1/1795442400123", document()),
    "a key of words": ("errors/rule1/notes.txt", document()),
    "a key of another rule": (f"errors/rule2/{NAME}", document()),
}


@pytest.mark.parametrize("strange", STRANGE)
def test_what_is_no_report_of_the_rule_is_never_replayed(strange):
    assert parsed(FLEET, RULE, *STRANGE[strange]) is None


@given(st.binary(max_size=200))
def test_no_bytes_of_a_report_stop_a_replay(body):
    parsed(FLEET, RULE, KEY, body)


class Bucket(DictStore):
    """A bucket that a test may stop at any of its writing calls."""

    calls_left = 10**9

    def spend(self):
        if self.calls_left == 0:
            raise KeyboardInterrupt
        self.calls_left -= 1

    def put_new(self, key, body):
        self.spend()
        return super().put_new(key, body)

    def drop(self, keys):
        self.spend()
        for key in keys:
            del self.objects[key]

    def replay(self):
        return returned(FLEET, RULE, self, self, self.drop)


def bucket_with(count):
    bucket = Bucket()
    for number in range(count):
        bucket.put(f"errors/rule1/{1795442400000 + number}-{uuid.UUID(int=number)}", document(str(number).encode()))
    bucket.put("errors/rule1/notes.txt", b"mine")
    return bucket


def payloads(bucket):
    return sorted(
        body for key, versions in bucket.objects.items() if key.startswith("test-rule/") for _, body in versions
    )


def test_every_report_comes_back_once_and_a_second_replay_finds_none():
    bucket = bucket_with(2500)
    first = bucket.replay()
    assert (first.returned, first.already, first.hours, first.strange) == (
        2500,
        0,
        (Hour.of_millis(1795442400000),),
        ("errors/rule1/notes.txt",),
    )
    assert bucket.replay() == Replayed(0, 0, (), ("errors/rule1/notes.txt",))
    assert payloads(bucket) == sorted(str(number).encode() for number in range(2500))


@pytest.mark.parametrize("stopped_after", range(6))
def test_stopped_at_any_call_the_next_replay_makes_no_doubles(stopped_after):
    bucket = bucket_with(5)
    bucket.calls_left = stopped_after
    with pytest.raises(KeyboardInterrupt):
        bucket.replay()
    bucket.calls_left = 10**9
    assert bucket.replay().already == min(stopped_after, 5)
    assert payloads(bucket) == [b"0", b"1", b"2", b"3", b"4"]


FURTHER = RuleTable(
    key="rule1", actions=({"sqs": {"queueUrl": "https://sqs/1/q"}}, {"s3": {"bucketName": "copies", "key": "k"}})
)
SQS = {"failedAction": "SqsAction", "failedResource": "https://sqs/1/q", "errorMessage": "no such queue"}
COPY = {"failedAction": "S3Action", "failedResource": "copies", "errorMessage": "Access Denied"}


@pytest.mark.parametrize(
    ("table", "failures", "returns"),
    [
        (FURTHER, [SQS], False),
        (FURTHER, [COPY], False),
        (FURTHER, [SQS, COPY], False),
        (FURTHER, [SQS, FAILURE], True),
        (None, [FAILURE], True),
        (RuleTable(key="rule1", sql="SELECT speed FROM 'test-rule/rule1'"), [FAILURE], False),
    ],
    ids=["a queue", "a copy", "both", "a queue and the raw object", "the raw object", "SQL makes another of it"],
)
def test_only_what_is_no_raw_object_yet_and_would_be_the_message_itself_comes_back(table, failures, returns):
    rule = Rule("test-rule", "rule1", table)
    report = parsed(FLEET, rule, KEY, document(failures=failures))
    assert report.returnable is returns
    bucket = Bucket()
    bucket.put(KEY, document(failures=failures))
    done = returned(FLEET, rule, bucket, bucket, bucket.drop)
    assert (done.returned, done.kept) == ((1, 0) if returns else (0, 1))
    assert bool(payloads(bucket)) is returns


def test_a_report_of_a_topic_with_a_wildcard_is_the_rules_where_the_filter_matches():
    rule = Rule("test-rule", "rule1", RuleTable(key="rule1", topic="vehicles/+/status"))
    for topic, its in {
        "vehicles/V1/status": True,
        f"$aws/rules/{rule.aws_name}/vehicles/V1/status": True,
        "vehicles/V1/door": False,
        "vehicles": False,
    }.items():
        assert (parsed(FLEET, rule, KEY, document(topic=topic)) is not None) is its


def test_a_message_that_a_rule_could_not_write_comes_back_and_becomes_one_row(fleet, aws, local_aws, tmp_path):
    fleet = replace(fleet, rule_keys=("rule1",), lake_bucket=f"{fleet.bucket}-lake")
    account, rule = Account.of(fleet), fleet.rules[0]
    for resource in resources(blueprint(fleet)):
        reconcile(resource, aws)
    claim = read_claim(fleet, aws)
    vehicle = register(
        fleet, account.broker, Identity(claim.certificate_pem, claim.private_key), "297468000001", tmp_path
    )
    aws.iam.delete_role_policy(RoleName=fleet.rule_role_name, PolicyName="iotCoreRolePolicy")
    with connected(account.broker, VehicleFolder(vehicle.folder).read(), vehicle.thing_name) as connection:
        connection.publish(rule.ingest[0], b'{"speed_kmh": 48.2}')
    while not (found := waiting(fleet, aws, rule)).reports:
        assert not found.strange
    assert [count for reason, count in found.reasons.items() if "Access" in reason] == [1]
    replayed = replay(fleet, aws, rule)
    assert (replayed.returned, replay(fleet, aws, rule).returned) == (1, 0)
    lake = Lake(S3Store(aws, fleet.lake_bucket), fleet.parquet_prefix)
    assert [compact_hour(S3Store(aws, fleet.bucket), lake, rule, replayed.hours[0]).rows for _ in range(2)] == [1, 1]


def failed(*records, stream="cdk-test-dev-rule1"):
    """A report of a stream: a line for each record that it could not process."""
    lines = [
        {
            "attemptsMade": 4,
            "arrivalTimestamp": 1795442400123,
            "errorCode": "Lambda.FunctionTimedOut",
            "errorMessage": "it took too long",
            "rawData": base64.b64encode(each + b"\n").decode(),
        }
        for each in records
    ]
    key = f"errors/rule1/processing-failed/2026/11/23/14/{stream}-1-2026-11-23-14-00-00-{UUID}"
    return key, "\n".join(json.dumps(line) for line in lines).encode()


def test_records_that_a_stream_could_not_process_return_as_the_messages_that_they_are():
    store, lake = DictStore(), Lake(DictStore(), "lake")
    records = [record(1795442400123 + number, b'{"speed": 1}', number=number) for number in range(3)]
    store.put(batch_key(RULE, 1795442400000), packed(records[:1]))  # which was delivered all the same
    store.put(*failed(*records))
    found = [each for each in reports(FLEET, RULE, store) if not isinstance(each, str)]
    assert [len(each.records) for each in found] == [3]
    assert found[0].reasons[0] == "Firehose: Lambda.FunctionTimedOut: it took too long"
    gone = []
    hour = Hour.of_millis(1795442400123)
    assert returned(FLEET, RULE, store, store, gone.extend) == Replayed(3, 0, (hour,), ())
    assert gone == [failed()[0]]
    assert returned(FLEET, RULE, store, store, gone.extend) == Replayed(0, 3, (hour,), ())
    done = compact_hour(store, lake, RULE, hour)
    assert (done.rows, done.doubled, done.statuses) == (3, 1, {"ok": 3})


@pytest.mark.parametrize("body", [b"", b"no JSON", b'{"rawData": "%"}', b"[1]", b'{"rawData": 5}', b"\x1f\x8b00"])
def test_what_is_no_report_of_a_stream_is_a_strange_key(body):
    store = DictStore()
    store.put(failed()[0], body)
    assert list(reports(FLEET, RULE, store)) == [failed()[0]]


def test_a_record_that_the_rule_could_not_hand_over_returns_as_an_object():
    failures = [{"failedAction": "FirehoseAction", "failedResource": "cdk-test-dev-rule1", "errorMessage": "no"}]
    assert parsed(FLEET, RULE, KEY, document(failures=failures)).returnable
    table = RuleTable(key="rule1", actions=({"firehose": {"deliveryStreamName": "cdk-test-dev-rule1"}},))
    assert not parsed(FLEET, replace(RULE, table=table), KEY, document(failures=failures)).returnable
