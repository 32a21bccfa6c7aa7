"""Bulk registration. AWS on this machine has no registration tasks: botocore's Stubber answers as AWS IoT's model says, S3 is real."""

import json
import uuid
from dataclasses import replace

import pytest
from botocore.stub import Stubber
from cryptography import x509

from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.documents import filled
from fleet_pipeline.cloud.enrolment import bulk
from fleet_pipeline.cloud.reconcile import Action, reconcile
from fleet_pipeline.model.errors import AwsRefused, InvalidName, InvalidSetting
from fleet_pipeline.vehicle.identity import VehicleFolder
from fleet_pipeline.vehicle.requesting import accept, request

TASK = str(uuid.uuid4())
SERIALS = ["297468000001", "297468000002"]


@pytest.fixture
def on(fleet):
    return replace(fleet, bulk_registration="on")


@pytest.fixture
def requests(on, tmp_path):
    return {serial: request(tmp_path, on.thing_name(serial)) for serial in SERIALS}


@pytest.fixture
def iot(aws):
    with Stubber(aws.iot) as stubber:
        yield stubber


def file_of(on, aws):
    return [each["Key"] for each in aws.s3.list_objects_v2(Bucket=on.bucket, Prefix=on.bulk_prefix).get("Contents", [])]


def test_every_vehicle_of_the_file_is_handed_to_aws_iot_with_its_request_and_no_key(on, aws, requests):
    reconcile(blueprint(on)["bucket"].resource, aws)
    asked = {}
    with Stubber(aws.iot) as iot:
        aws.iot.meta.events.register(
            "provide-client-params.iot.StartThingRegistrationTask", lambda params, **_: asked.update(params)
        )
        iot.add_response("start_thing_registration_task", {"taskId": TASK})
        assert bulk.start(on, aws, requests) == TASK
    [key] = file_of(on, aws)
    body = aws.s3.get_object(Bucket=on.bucket, Key=key)["Body"].read().decode()
    assert [json.loads(line) for line in body.splitlines()] == [
        {"SerialNumber": serial, "CSR": csr} for serial, csr in requests.items()
    ]
    assert "PRIVATE KEY" not in body
    assert (asked["inputFileBucket"], asked["inputFileKey"], asked["roleArn"]) == (
        on.bucket,
        key,
        blueprint(on)["bulk_role"].resource.arn,
    )
    assert json.loads(asked["templateBody"]) == filled.bulk_template(on)


def test_a_refused_task_says_why(on, aws, requests):
    reconcile(blueprint(on)["bucket"].resource, aws)
    with Stubber(aws.iot) as iot:
        iot.add_client_error("start_thing_registration_task", "LimitExceededException", "One task may be in progress")
        with pytest.raises(
            AwsRefused,
            match=r"AWS would not start a bulk registration: One task may be in progress \(LimitExceededException\)",
        ):
            bulk.start(on, aws, requests)


def test_a_serial_that_the_hook_would_refuse_stops_the_whole_file_before_any_call(on, aws, iot):
    with pytest.raises(InvalidName, match="999999000001"):
        bulk.start(on, aws, {"999999000001": "csr"})


def test_without_the_setting_nothing_is_started(fleet, aws, iot, requests):
    with pytest.raises(InvalidSetting, match="FLEET_BULK_REGISTRATION"):
        bulk.start(fleet, aws, requests)


def test_a_task_says_how_far_it_is(aws, iot):
    iot.add_response(
        "describe_thing_registration_task",
        {"status": "InProgress", "successCount": 7, "failureCount": 1, "percentageProgress": 80},
    )
    assert bulk.task(aws, TASK) == bulk.Task(TASK, "InProgress", 7, 1, 80, "")


def test_all_parts_of_a_report_are_read(aws, iot, tmp_path):
    for number in (1, 2):
        (tmp_path / f"{number}.json").write_text(f'{{"part": {number}}}\n')
    links = [(tmp_path / f"{number}.json").as_uri() for number in (1, 2)]
    iot.add_response(
        "list_thing_registration_task_reports",
        {"resourceLinks": links[:1], "nextToken": "more"},
        {"taskId": TASK, "reportType": "ERRORS"},
    )
    iot.add_response(
        "list_thing_registration_task_reports",
        {"resourceLinks": links[1:]},
        {"taskId": TASK, "reportType": "ERRORS", "nextToken": "more"},
    )
    assert list(bulk.report(aws, TASK, "ERRORS")) == ['{"part": 1}\n', '{"part": 2}\n']


def test_each_certificate_of_a_report_goes_to_the_vehicle_whose_key_it_has(aws, on, requests, tmp_path):
    made = [aws.iot.create_certificate_from_csr(certificateSigningRequest=csr) for csr in requests.values()]
    others = aws.iot.create_keys_and_certificate()["certificatePem"]
    lines = [
        {"line": 1, "response": {"certificate": {"pem": made[1]["certificatePem"]}}},
        {"answers": [made[0]["certificatePem"], others]},
        {"line": 3},
    ]
    told = "\n".join(json.dumps(line) for line in lines)
    assert sorted(accept(tmp_path, told)) == [on.thing_name(serial) for serial in SERIALS]
    for serial, certificate in zip(SERIALS, made, strict=True):
        assert VehicleFolder.of(tmp_path, on.thing_name(serial)).read().certificate_id == certificate["certificateId"]
    assert list(accept(tmp_path, told)) == []


def test_a_vehicle_that_asks_again_asks_with_the_same_key(on, tmp_path):
    first, second = (x509.load_pem_x509_csr(request(tmp_path, on.thing_name(SERIALS[0])).encode()) for _ in range(2))
    assert first.public_key() == second.public_key()
    [key] = tmp_path.rglob("private.key")
    assert (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_the_role_of_bulk_registration_exists_only_when_the_setting_is_on(fleet, on, aws):
    assert "bulk_role" not in blueprint(fleet)
    assert reconcile(blueprint(on)["bulk_role"].resource, aws).action is Action.CREATE
    assert reconcile(blueprint(on)["bulk_role"].resource, aws).action is Action.UNCHANGED
