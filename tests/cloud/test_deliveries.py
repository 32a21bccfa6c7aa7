"""Streams that gather messages: wanted as the settings say, refused where they cannot carry a rule, kept as they are wanted."""

import json
from dataclasses import replace
from datetime import date

import pytest

from fleet_pipeline.account import Account
from fleet_pipeline.cloud.blueprint import blueprint, stream_part_name
from fleet_pipeline.cloud.documents.iam import boundary_policy
from fleet_pipeline.cloud.hardening.lints import findings
from fleet_pipeline.cloud.kinds.delivery_stream import delivery_streams
from fleet_pipeline.cloud.operations.cloudformation import cloudformation
from fleet_pipeline.cloud.reconcile import Action, look, reconcile, remove
from fleet_pipeline.model.errors import InvalidSetting, NotOurs
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.rule import ENVELOPE
from fleet_pipeline.model.rule_table import RuleTable

BATCHED = Fleet(delivery="firehose")
WHERE = "SELECT * FROM 'vehicles/+/status' WHERE speed > 5"


def fleet_of(**table):
    return Fleet(rule_tables=(RuleTable(key="own", delivery="firehose", **table),))


def topic_rule(fleet, key):
    return blueprint(fleet)[f"topic_rule_{key}"].resource


def test_a_rules_table_wins_over_the_fleets_delivery():
    fleet = replace(BATCHED, rule_tables=(RuleTable(key="own", delivery="object"),))
    assert [rule.key for rule in fleet.batched_rules] == ["rule1", "rule2", "rule3"]
    assert "s3" in topic_rule(fleet, "own").action
    assert "firehose" in topic_rule(fleet, "rule1").action
    assert stream_part_name(fleet.rule("own")) not in blueprint(fleet)


def test_a_rule_hands_over_an_envelope_of_the_whole_message_and_keeps_its_where():
    assert topic_rule(BATCHED, "rule1").sql == f"{ENVELOPE} FROM 'test-rule/rule1'"
    assert topic_rule(fleet_of(sql=WHERE), "own").sql == f"{ENVELOPE} FROM 'vehicles/+/status' WHERE speed > 5"
    assert topic_rule(BATCHED, "rule1").action["firehose"]["separator"] == "\n"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT speed FROM 'a/b'",
        "SELECT *, topic(2) AS vehicle FROM 'a/b'",
        "SELECT VALUE * FROM 'a/b'",
        "SELECT *.a FROM 'a/b'",
    ],
)
def test_a_rule_that_selects_columns_of_its_own_is_refused_with_a_sentence(sql):
    with pytest.raises(InvalidSetting, match="selects columns of its own"):
        fleet_of(sql=sql)
    Fleet(rule_tables=(RuleTable(key="own", sql=sql),))


def test_an_older_sql_that_does_not_know_encode_is_refused():
    with pytest.raises(InvalidSetting, match="does not know encode"):
        fleet_of(topic="a/b", sql_version="2015-10-08")


def test_an_hour_is_due_once_no_batch_of_it_can_be_under_way():
    assert (Fleet().due_minutes, BATCHED.due_minutes) == (5, 10)
    assert replace(BATCHED, delivery_buffer_seconds=61).due_minutes == 7
    with pytest.raises(InvalidSetting, match="60 minutes after its end"):
        replace(BATCHED, grace_minutes=45, delivery_buffer_seconds=900)


def test_each_stream_has_a_name_of_its_own_that_firehose_takes():
    keys = [f"{'k' * 60}{number}" for number in range(3)]
    names = [BATCHED.stream_name(rule) for rule in replace(BATCHED, rule_keys=tuple(keys)).rules]
    assert len({*names}) == 3
    assert max(map(len, names)) == 64


@pytest.mark.parametrize("rules", [3, 20])
def test_the_role_of_the_streams_writes_batches_and_reports_and_nothing_else(rules):
    fleet = replace(BATCHED, rule_keys=tuple(f"rule{number}" for number in range(1, rules + 1)))
    [document] = blueprint(fleet)["delivery_role"].resource.inline.values()
    write, bucket = document["Statement"]
    assert write["Action"] == ["s3:AbortMultipartUpload", "s3:PutObject"]
    assert all("batches" in arn or f":{fleet.bucket}/errors" in arn for arn in write["Resource"])
    assert bucket["Resource"] == f"arn:aws:s3:::{fleet.bucket}"
    assert len(json.dumps(document)) < 2000
    assert not any("firehose" in str(each) for each in boundary_policy(Fleet())["Statement"])


def test_cloudformation_has_the_streams_after_their_role_and_before_their_rules():
    made = cloudformation(BATCHED)["Resources"]
    streams = {name: each for name, each in made.items() if each["Type"] == "AWS::KinesisFirehose::DeliveryStream"}
    assert len(streams) == 3
    assert all("DeliveryRole" in each["DependsOn"] for each in streams.values())
    assert "DeliveryStreamRule1" in made["TopicRuleRule1"]["DependsOn"]


def test_a_stream_that_does_not_encrypt_or_reports_among_the_messages_is_a_finding():
    stream, today = blueprint(BATCHED)["delivery_stream_rule1"].resource, date(2026, 11, 29)
    assert list(findings(stream, BATCHED, today)) == []
    found = findings(replace(stream, encrypted=False, error_prefix=""), BATCHED, today)
    assert [each.what for each in found] == ["not encrypted", "no error prefix"]


@pytest.fixture
def made(make_fleet):
    """A stream and its role on AWS on this machine."""
    fleet = replace(make_fleet(), delivery="firehose", rule_keys=("rule1",))
    aws, parts = Account.of(fleet).aws, blueprint(fleet)
    for name in ("bucket", "delivery_role", "delivery_stream_rule1"):
        assert reconcile(parts[name].resource, aws).action is Action.CREATE
    return aws, parts["delivery_stream_rule1"].resource


@pytest.mark.parametrize(
    "drift",
    [
        {"buffer_mb": 5},
        {"buffer_seconds": 60},
        {"compression": "UNCOMPRESSED"},
        {"prefix": "elsewhere/"},
        {"error_prefix": "elsewhere/!{firehose:error-output-type}/"},
    ],
    ids=str,
)
def test_what_somebody_changed_at_a_stream_is_found_and_put_back(made, drift):
    aws, wanted = made
    replace(wanted, **drift).update(aws, wanted.read(aws))
    assert [change.field for change in look(wanted, aws).changes] == list(drift)
    assert reconcile(wanted, aws).action is Action.UPDATE
    assert look(wanted, aws).action is Action.UNCHANGED


def test_a_stream_that_is_not_ours_is_neither_changed_nor_removed_and_adopted_by_its_tags(made):
    aws, wanted = made
    aws.firehose.untag_delivery_stream(DeliveryStreamName=wanted.name, TagKeys=list(wanted.tags))
    assert look(wanted, aws).action is Action.NOT_OURS
    with pytest.raises(NotOurs):
        remove(wanted, aws)
    live = wanted.read(aws)
    replace(live, tags=wanted.tags).update(aws, live)
    assert look(wanted, aws).action is Action.UNCHANGED


def test_a_stream_that_is_removed_is_gone_and_a_second_time_there_is_nothing_to_do(made):
    aws, wanted = made
    assert delivery_streams(aws, "cdk-test-dev-") == [wanted.name]
    assert remove(wanted, aws).action is Action.DELETE
    assert remove(wanted, aws).action is Action.ABSENT
    assert delivery_streams(aws, "cdk-test-dev-") == []
