"""AWS on this machine: the patches and what the fleet relies on besides, each seen from outside, as boto3 and a vehicle see it."""

import base64
import http.client
import json
import re
import socket
import ssl
import uuid
import zipfile
from dataclasses import replace
from io import BytesIO
from urllib.parse import urlsplit

import psutil
import pytest
from awscrt import mqtt_request_response
from awsiot import iotidentity
from bare_vehicle import Vehicle, allowing
from botocore.exceptions import ClientError

from fleet_pipeline.aws.clients import Aws


def trusting(service):
    trust = {"Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [trust]})


@pytest.fixture
def bucket(aws, fleet):
    aws.s3.create_bucket(Bucket=fleet.bucket, CreateBucketConfiguration={"LocationConstraint": fleet.region})
    return fleet.bucket


@pytest.fixture
def role(aws, fleet, bucket):
    """May write below raw/ and errors/ and nowhere else."""
    aws.iam.create_role(RoleName="writer", AssumeRolePolicyDocument=trusting("iot"))
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
    assert {key: json.loads(body) for key, body in objects(aws, bucket).items()} == {
        "raw/one": {"a": 1, "topic": "raw/one"}
    }


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


def test_actions_of_other_kinds_are_carried_out_as_before(aws, bucket, role, rule, publish):
    rule("${topic()}")
    republish = {"roleArn": role, "topic": "raw/one", "qos": 1}
    aws.iot.create_topic_rule(
        ruleName="two", topicRulePayload={"sql": "SELECT * FROM 'raw/two'", "actions": [{"republish": republish}]}
    )
    publish(b'{"a": 1}', topic="raw/two")
    assert objects(aws, bucket) == {"raw/one": b'{"a": 1}'}


def test_a_bucket_with_versions_keeps_what_a_rule_overwrites(aws, bucket, rule, publish):
    aws.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    rule("raw/one")
    publish(b"1")
    publish(b"2")
    versions = aws.s3.list_object_versions(Bucket=bucket)["Versions"]
    assert {
        aws.s3.get_object(Bucket=bucket, Key="raw/one", VersionId=each["VersionId"])["Body"].read() for each in versions
    } == {b"1", b"2"}


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
    aws.iam.create_role(RoleName="other", AssumeRolePolicyDocument=trusting("lambda"))
    aws.iam.put_role_policy(RoleName="other", PolicyName="everything", PolicyDocument=allowing(("s3:PutObject", "*")))
    rule("raw/one", role_arn=fleet.role_arn("other"))
    publish(b"{}")
    assert [key.split("/")[0] for key in objects(aws, bucket)] == ["errors"]


def test_an_expression_that_has_no_value_fails_the_action(aws, bucket, rule, publish):
    rule("raw/${nowhere}")
    publish(b"{}")
    ((_, body),) = objects(aws, bucket, "errors/").items()
    assert "${nowhere}" in json.loads(body)["failures"][0]["errorMessage"]


@pytest.fixture
def vehicle(aws, fleet, local_aws):
    """May connect as car, and publish to raw/one of its own account."""
    return Vehicle(
        aws,
        local_aws,
        ("iot:Connect", fleet.arn("iot", "client/car")),
        ("iot:Publish", fleet.arn("iot", "topic/raw/one")),
    )


def test_a_message_that_a_vehicle_got_acknowledged_is_in_s3_under_its_client_id(aws, bucket, rule, vehicle):
    rule("${topic()}/${clientid()}")
    vehicle.publish("raw/one", PAYLOADS["bytes that are no UTF-8"])
    assert objects(aws, bucket) == {"raw/one/car": PAYLOADS["bytes that are no UTF-8"]}


def test_a_vehicle_connects_under_no_client_id_but_its_own(vehicle):
    with pytest.raises(Exception, match="AWS_ERROR_MQTT"), vehicle.connected("truck"):
        pass


def test_a_vehicle_publishes_to_no_topic_but_its_own(aws, bucket, rule, vehicle):
    rule("${topic()}", sql="SELECT * FROM 'raw/+'")
    with pytest.raises(Exception, match="AWS_ERROR_MQTT"):
        vehicle.publish("raw/two", b"{}")
    vehicle.publish("raw/one", b"{}")
    assert set(objects(aws, bucket)) == {"raw/one"}


def test_the_certificate_of_a_vehicle_that_was_made_inactive_no_longer_connects(aws, vehicle):
    (found,) = aws.iot.list_certificates()["certificates"]
    aws.iot.update_certificate(certificateId=found["certificateId"], newStatus="INACTIVE")
    with pytest.raises(Exception, match="AWS_"), vehicle.connected():
        pass


@pytest.fixture
def handshake(local_aws):
    """TLS 1.2, in which a refused certificate ends the handshake; in 1.3 the client hears of it only when it reads."""
    context = ssl.create_default_context(cafile=local_aws.ca_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def shake():
        with (
            socket.create_connection(("127.0.0.1", local_aws.mqtt_port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost"),
        ):
            pass

    return context, shake


def test_a_client_without_a_certificate_is_refused(handshake):
    _, shake = handshake
    with pytest.raises((ssl.SSLError, ConnectionError)):
        shake()


def test_a_client_with_a_certificate_is_let_in(handshake, vehicle, tmp_path):
    context, shake = handshake
    own = tmp_path / "own.pem"
    own.write_text(vehicle.certificate + vehicle.private_key)
    context.load_cert_chain(own)
    shake()


def test_an_unsigned_web_socket_is_refused(local_aws):
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "mqtt",
    }
    connection = http.client.HTTPConnection(urlsplit(local_aws.url).netloc, timeout=10)
    connection.request("GET", "/mqtt", headers={**upgrade, "Sec-WebSocket-Key": base64.b64encode(b"k" * 16).decode()})
    assert connection.getresponse().status == 403
    connection.close()


def test_the_server_listens_on_the_loopback_address_alone(local_aws):
    listening = {
        each.laddr
        for each in psutil.Process(local_aws.pid).net_connections("inet")
        if each.status == psutil.CONN_LISTEN
    }
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert local_aws.mqtt_port in {address.port for address in listening}


def test_the_endpoint_that_aws_iot_names_is_one_to_connect_to(aws, vehicle):
    endpoint = aws.iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"]
    with vehicle.connected(endpoint=endpoint):
        pass


def test_an_endpoint_of_another_kind_is_answered_as_before(aws):
    with pytest.raises(aws.iot.exceptions.InvalidRequestException):
        aws.iot.describe_endpoint(endpointType="iot:Data")


def test_a_thing_is_not_updated_by_someone_who_saw_a_former_version(aws):
    aws.iot.create_thing(thingName="car", attributePayload={"attributes": {"a": "1", "b": "2"}})
    change = {"attributes": {"a": ""}, "merge": True}
    aws.iot.update_thing(thingName="car", attributePayload=change, expectedVersion=1)
    with pytest.raises(aws.iot.exceptions.VersionConflictException):
        aws.iot.update_thing(thingName="car", attributePayload=change, expectedVersion=1)
    found = aws.iot.describe_thing(thingName="car")
    assert (found["version"], found["attributes"]) == (2, {"b": "2"})


@pytest.fixture
def other(aws, local_aws):
    return Aws(region=aws.region, account=f"{uuid.uuid4().int % 10**12:012d}", endpoint_url=local_aws.url)


def test_the_access_key_is_the_account(aws, other):
    aws.iot.create_thing(thingName="car")
    assert aws.sts.get_caller_identity()["Account"] == aws.account
    assert other.sts.get_caller_identity()["Account"] == other.account
    assert other.iot.list_things()["things"] == []


def test_a_message_reaches_the_rules_of_its_own_account_alone(aws, bucket, rule, other, local_aws):
    rule("raw/one")
    everything = (("iot:*", "*"),)
    Vehicle(other, local_aws, *everything).publish("raw/one", b"theirs")
    assert objects(aws, bucket) == {}
    Vehicle(aws, local_aws, *everything).publish("raw/one", b"ours")
    assert objects(aws, bucket) == {"raw/one": b"ours"}


def test_an_unknown_access_key_is_refused(aws, local_aws):
    stranger = replace(aws, account="AKIAIOSFODNN7EXAMPLE")
    with pytest.raises(ClientError, match="UnrecognizedClientException"):
        stranger.iot.list_things()


FUNCTION = """
import boto3
from botocore.exceptions import ClientError

def handler(event, context):
    client = boto3.client(event["service"])
    try:
        answer = getattr(client, event["call"])(**event["arguments"])
    except ClientError as error:
        return {"error": error.response["Error"]["Code"]}
    answer.pop("ResponseMetadata")
    return {"body": answer["Body"].read().decode()} if "Body" in answer else answer
"""


@pytest.fixture
def calling(aws, fleet):
    """A function that makes one call with boto3 and its role's rights, as the hook does; what it returns is the call's answer."""
    package = BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("function.py", FUNCTION)

    def create(*actions):
        aws.iam.create_role(RoleName="caller", AssumeRolePolicyDocument=trusting("lambda"))
        aws.iam.put_role_policy(RoleName="caller", PolicyName="calls", PolicyDocument=allowing((list(actions), "*")))
        code = {"ZipFile": package.getvalue()}
        aws.functions.create_function(
            FunctionName="caller",
            Runtime="python3.13",
            Handler="function.handler",
            Role=fleet.role_arn("caller"),
            Code=code,
            Timeout=5,
        )

        def call(service, name, **arguments):
            event = {"service": service, "call": name, "arguments": arguments}
            return json.loads(aws.functions.invoke(FunctionName="caller", Payload=json.dumps(event))["Payload"].read())

        return call

    return create


def test_a_function_reaches_the_things_of_its_own_account_where_only_the_first_of_two_takes_an_attribute(aws, calling):
    aws.iot.create_thing(thingName="car", attributePayload={"attributes": {"replacement": "allowed", "kept": "1"}})
    call = calling("iot:DescribeThing", "iot:UpdateThing")
    found = call("iot", "describe_thing", thingName="car")
    assert found["thingArn"] == f"arn:aws:iot:{aws.region}:{aws.account}:thing/car"
    taking = {
        "thingName": "car",
        "attributePayload": {"attributes": {"replacement": ""}, "merge": True},
        "expectedVersion": found["version"],
    }
    assert "error" not in call("iot", "update_thing", **taking)
    assert call("iot", "update_thing", **taking) == {"error": "VersionConflictException"}
    assert call("iot", "describe_thing", thingName="car")["attributes"] == {"kept": "1"}
    assert call("iot", "describe_thing", thingName="truck") == {"error": "ResourceNotFoundException"}


def test_a_function_reads_an_object_in_a_bucket_that_takes_tls_only(aws, bucket, calling):
    everything = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    condition = {"Bool": {"aws:SecureTransport": "false"}}
    refusal = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": everything, "Condition": condition}
    aws.s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [refusal]}))
    aws.s3.put_object(Bucket=bucket, Key="serials", Body=b"297468ABCDEF")
    call = calling("s3:GetObject", "s3:ListBucket")
    assert call("s3", "get_object", Bucket=bucket, Key="serials") == {"body": "297468ABCDEF"}
    assert call("s3", "get_object", Bucket=bucket, Key="absent") == {"error": "NoSuchKey"}


def test_a_function_reads_an_item_from_dynamodb(aws, calling):
    key = {"AttributeName": "serial"}
    aws.dynamodb.create_table(
        TableName="serials",
        AttributeDefinitions=[{**key, "AttributeType": "S"}],
        KeySchema=[{**key, "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    item = {"serial": {"S": "297468ABCDEF"}}
    aws.dynamodb.put_item(TableName="serials", Item=item)
    call = calling("dynamodb:GetItem")
    assert call("dynamodb", "get_item", TableName="serials", Key=item, ConsistentRead=True) == {"Item": item}
    assert call("dynamodb", "get_item", TableName="absent", Key=item) == {"error": "ResourceNotFoundException"}


def test_a_function_may_do_what_its_role_allows_and_no_more(aws, calling):
    aws.iot.create_thing(thingName="car")
    call = calling("iot:DescribeThing")
    assert call("iot", "describe_thing", thingName="car")["thingName"] == "car"
    assert (
        "AccessDenied"
        in call("iot", "update_thing", thingName="car", attributePayload={"attributes": {"a": "1"}})["error"]
    )


def test_neither_private_keys_nor_payloads_are_in_the_log(aws, local_aws):
    everything = (("iot:*", "*"),)
    vehicle = Vehicle(aws, local_aws, *everything)
    with vehicle.connected() as connection:
        options = mqtt_request_response.ClientOptions(
            max_request_response_subscriptions=2, max_streaming_subscriptions=1, operation_timeout_in_seconds=10
        )
        identity = iotidentity.IotIdentityClientV2(connection, options)
        made = identity.create_keys_and_certificate(iotidentity.CreateKeysAndCertificateRequest()).result(10)
    vehicle.publish("raw/one", b"payload-to-look-for")
    log = local_aws.log_path.read_text()
    assert f"serving {aws.account}" in log  # it is the log of these connections
    assert "payload-to-look-for" not in log
    for key in (vehicle.private_key, made.private_key):
        assert not any(line in log for line in key.splitlines() if line)
