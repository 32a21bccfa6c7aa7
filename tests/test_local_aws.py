"""AWS on this machine: the five mends and what the fleet relies on besides, each seen from outside, as boto3 and a vehicle see it."""

import base64
import json
import re

import pytest

TRUST = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}]}


def allowing(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": resource} for action, resource in statements]})


@pytest.fixture
def bucket(aws, fleet):
    aws.s3.create_bucket(Bucket=fleet.bucket, CreateBucketConfiguration={"LocationConstraint": fleet.region})
    return fleet.bucket


@pytest.fixture
def role(aws, fleet, bucket):
    """May write below raw/ and errors/ and nowhere else."""
    aws.iam.create_role(RoleName="writer", AssumeRolePolicyDocument=json.dumps(TRUST))
    document = allowing(("s3:PutObject", [f"arn:aws:s3:::{bucket}/raw/*", f"arn:aws:s3:::{bucket}/errors/*"]))
    aws.iam.put_role_policy(RoleName="writer", PolicyName="writes", PolicyDocument=document)
    return fleet.role_arn("writer")


@pytest.fixture
def rule(aws, bucket, role):
    def create(key, *, sql="SELECT * FROM 'raw/one'", role_arn=role, bucket_name=bucket):
        error_action = {"s3": {"roleArn": role, "bucketName": bucket, "key": "errors/${topic()}/${newuuid()}"}}
        actions = [{"s3": {"roleArn": role_arn, "bucketName": bucket_name, "key": key}}]
        payload = {"sql": sql, "awsIotSqlVersion": "2016-03-23", "actions": actions, "errorAction": error_action}
        aws.iot.create_topic_rule(ruleName="one", topicRulePayload=payload)

    return create


@pytest.fixture
def publish(aws, local_aws):
    client = aws.session.client("iot-data", endpoint_url=local_aws.url)
    return lambda payload, topic="raw/one": client.publish(topic=topic, qos=1, payload=payload)


def objects(aws, bucket, prefix=""):
    keys = [found["Key"] for found in aws.s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]
    return {key: aws.s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


PAYLOADS = {
    "JSON with its own spaces, order and doubled names": b'{ "b": 1.0,\n "a": 1e2, "a": "\\u00e4" }',
    "JSON in UTF-8": '{"ä": "ö"}'.encode(),
    "an array": b"[1, 2]",
    "a string": b'"text"',
    "null": b"null",
    "text that is no JSON": b"speed=12",
    "half of a JSON": b'{"a": ',
    "bytes that are no UTF-8": b"\xff\xfe\x00\x01",
    "nothing": b"",
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_a_rule_that_selects_all_writes_the_payloads_own_bytes(aws, bucket, rule, publish, payload):
    rule("raw/one")
    publish(payload)
    assert objects(aws, bucket) == {"raw/one": payload}


def test_a_rule_that_selects_fields_writes_them_as_json(aws, bucket, rule, publish):
    rule("raw/one", sql="SELECT a, topic() AS topic FROM 'raw/one'")
    publish(b'{"a": 1, "b": 2}')
    assert {key: json.loads(body) for key, body in objects(aws, bucket).items()} == {"raw/one": {"a": 1, "topic": "raw/one"}}


def test_the_key_of_an_object_is_evaluated_for_each_message(aws, bucket, rule, publish):
    rule("${topic()}/${timestamp()}-${newuuid()}-${clientid()}")
    for _ in range(3):
        publish(b"{}")
    uuid = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    keys = objects(aws, bucket)
    assert len(keys) == 3
    assert all(re.fullmatch(rf"raw/one/[0-9]{{13}}-{uuid}-n/a", key) for key in keys)


def test_basic_ingest_reaches_the_rule_under_the_topic_after_its_name(aws, bucket, rule, publish):
    rule("${topic()}/x")
    publish(b"{}", topic="$aws/rules/one/raw/one")
    assert set(objects(aws, bucket)) == {"raw/one/x"}


def test_a_bucket_with_versions_keeps_what_a_rule_overwrites(aws, bucket, rule, publish):
    aws.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    rule("raw/one")
    publish(b"1")
    publish(b"2")
    versions = aws.s3.list_object_versions(Bucket=bucket)["Versions"]
    assert {aws.s3.get_object(Bucket=bucket, Key="raw/one", VersionId=each["VersionId"])["Body"].read() for each in versions} == {b"1", b"2"}


def test_what_a_rule_may_not_write_reaches_its_error_action_with_aws_error_document(aws, bucket, rule, publish):
    rule("forbidden/${topic()}")
    publish(b"\xff{not json")
    ((key, body),) = objects(aws, bucket).items()
    document = json.loads(body)
    assert key.startswith("errors/raw/one/")
    assert (document["ruleName"], document["topic"], document["clientId"]) == ("one", "raw/one", "N/A")
    assert document["cloudwatchTraceId"]
    assert base64.b64decode(document["base64OriginalPayload"]) == b"\xff{not json"
    (failure,) = document["failures"]
    assert (failure["failedAction"], failure["failedResource"]) == ("S3Action", bucket)
    assert "Access Denied" in failure["errorMessage"]


def test_a_bucket_that_does_not_exist_fails_the_action(aws, bucket, rule, publish):
    aws.iam.put_role_policy(RoleName="writer", PolicyName="everything", PolicyDocument=allowing(("s3:PutObject", "*")))
    rule("raw/one", bucket_name=f"{bucket}-absent")
    publish(b"{}")
    ((_, body),) = objects(aws, bucket, "errors/").items()
    assert "NoSuchBucket" in json.loads(body)["failures"][0]["errorMessage"]


def test_a_role_that_aws_iot_may_not_assume_writes_nothing(aws, fleet, bucket, rule, publish):
    trust = json.dumps(TRUST).replace("iot.amazonaws.com", "lambda.amazonaws.com")
    aws.iam.create_role(RoleName="other", AssumeRolePolicyDocument=trust)
    aws.iam.put_role_policy(RoleName="other", PolicyName="everything", PolicyDocument=allowing(("s3:PutObject", "*")))
    rule("raw/one", role_arn=fleet.role_arn("other"))
    publish(b"{}")
    assert [key.split("/")[0] for key in objects(aws, bucket)] == ["errors"]


def test_an_expression_that_has_no_value_fails_the_action(aws, bucket, rule, publish):
    rule("raw/${nowhere}")
    publish(b"{}")
    ((_, body),) = objects(aws, bucket, "errors/").items()
    assert "${nowhere}" in json.loads(body)["failures"][0]["errorMessage"]
