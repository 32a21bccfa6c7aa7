"""Vehicles over real mTLS: they register, connect as themselves, publish what arrives, and are refused everything else."""

import json
import logging
import re
import stat
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Barrier

import pytest
from awsiot import V2ServiceException
from awsiot.iotidentity import CreateCertificateFromCsrRequest, IotIdentityClientV2, RegisterThingRequest

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.blueprint import blueprint, resources
from fleet_pipeline.cloud.claims.certificates import read_claim
from fleet_pipeline.cloud.documents import filled
from fleet_pipeline.cloud.enrolment.hook_log import decisions
from fleet_pipeline.cloud.reconcile import reconcile
from fleet_pipeline.model.errors import (
    ConnectionFailed,
    InvalidName,
    NotRegistered,
    PublishRefused,
    RegistrationRefused,
)
from fleet_pipeline.vehicle import registration
from fleet_pipeline.vehicle.connection import Broker, connected
from fleet_pipeline.vehicle.driving import drive, made_up_serials
from fleet_pipeline.vehicle.identity import Identity, VehicleFolder
from fleet_pipeline.vehicle.registration import register
from fleet_pipeline.vehicle.requesting import new_key, request_for


@pytest.fixture(scope="module")
def fleet(make_fleet):
    return make_fleet()


@pytest.fixture(scope="module")
def aws(fleet, local_aws):
    """An account in which vehicles can register."""
    aws = Aws(region=fleet.region, account=fleet.account, endpoint_url=local_aws.url)
    for resource in resources(blueprint(fleet)):
        reconcile(resource, aws)
    return aws


@pytest.fixture(scope="module")
def broker(local_aws):
    return Broker(local_aws.mqtt_host, local_aws.mqtt_port, local_aws.ca_path)


@pytest.fixture(scope="module")
def claim(aws, fleet):
    found = read_claim(fleet, aws)
    return Identity(found.certificate_pem, found.private_key)


@pytest.fixture(scope="module")
def enrol(fleet, broker, claim):
    """Register the vehicle of a serial, its folder below a home."""
    return partial(register, fleet, broker, claim)


@pytest.fixture(scope="module")
def vehicle(enrol, tmp_path_factory):
    """A vehicle that the tests do not change."""
    return enrol("297468SHARED", tmp_path_factory.mktemp("home"))


@pytest.fixture
def connection(broker, vehicle):
    with connected(broker, identity_of(vehicle), vehicle.thing_name) as connection:
        yield connection


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def serial():
    return f"297468{uuid.uuid4().hex[:12].upper()}"


def identity_of(vehicle):
    return VehicleFolder(vehicle.folder).read()


def things(aws):
    return {thing["thingName"] for page in aws.iot.get_paginator("list_things").paginate() for thing in page["things"]}


def active_certificates(aws):
    listed = [each for page in aws.iot.get_paginator("list_certificates").paginate() for each in page["certificates"]]
    return {each["certificateId"] for each in listed if each["status"] == "ACTIVE"}


def raw_objects(aws, fleet, rule):
    pages = aws.s3.get_paginator("list_objects_v2").paginate(Bucket=fleet.bucket, Prefix=rule.raw_prefix)
    return [
        aws.s3.get_object(Bucket=fleet.bucket, Key=each["Key"])["Body"].read()
        for page in pages
        for each in page.get("Contents", [])
    ]


def test_a_vehicle_registers_and_connects_with_a_certificate_of_its_own(aws, fleet, claim, vehicle, connection):
    own = identity_of(vehicle)
    described = aws.iot.describe_certificate(certificateId=own.certificate_id)["certificateDescription"]
    principals = aws.iot.list_thing_principals(thingName=vehicle.thing_name)["principals"]
    policies = [
        each["policyName"] for each in aws.iot.list_attached_policies(target=described["certificateArn"])["policies"]
    ]
    assert own.certificate_id == vehicle.certificate_id != claim.certificate_id
    assert (described["status"], principals, policies) == (
        "ACTIVE",
        [described["certificateArn"]],
        [fleet.device_policy_name],
    )
    connection.publish(fleet.rules[0].ingest[0], b"{}")


def test_only_the_owner_may_read_what_a_vehicle_keeps(vehicle):
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (vehicle.folder, *vehicle.folder.iterdir())}
    assert modes == {vehicle.thing_name: 0o700, "certificate.pem": 0o600, "private.key": 0o600, ".gitignore": 0o600}
    assert list(vehicle.folder.parent.iterdir()) == [vehicle.folder]


def test_a_vehicle_that_is_registered_keeps_its_certificate(aws, enrol, serial, home):
    vehicle, before = enrol(serial, home), active_certificates(aws)
    assert enrol(serial, home) == vehicle
    assert active_certificates(aws) == before


def test_a_vehicle_that_lost_the_answer_is_registered_by_its_next_try(enrol, serial, home):
    vehicle = enrol(serial, home)
    folder = VehicleFolder(vehicle.folder)
    folder.move_to(folder.unconfirmed)
    assert enrol(serial, home) == vehicle
    assert list(vehicle.folder.parent.iterdir()) == [vehicle.folder]


def test_what_a_stopped_registration_left_behind_is_replaced(fleet, enrol, serial, home):
    VehicleFolder.of(home, fleet.thing_name(serial)).unconfirmed.write(Identity("half a certifi", "half a ke"))
    vehicle = enrol(serial, home)
    assert list(vehicle.folder.parent.iterdir()) == [vehicle.folder]


def test_a_vehicle_whose_replacement_was_allowed_is_given_a_new_certificate(aws, enrol, serial, home):
    vehicle = enrol(serial, home)
    aws.iot.update_certificate(certificateId=vehicle.certificate_id, newStatus="INACTIVE")
    aws.iot.update_thing(
        thingName=vehicle.thing_name, attributePayload={"attributes": {"replacement": "allowed"}, "merge": True}
    )
    replaced = enrol(serial, home)
    assert replaced.certificate_id != vehicle.certificate_id
    assert identity_of(replaced).certificate_id == replaced.certificate_id


def test_a_vehicle_that_is_replaced_keeps_its_groups_its_type_and_its_other_attributes(aws, enrol, serial, home):
    vehicle = enrol(serial, home)
    groups, thing_type = {f"{serial}-{name}" for name in ("north", "trial")}, f"{serial}-van"
    for group in groups:
        aws.iot.create_thing_group(thingGroupName=group)
        aws.iot.add_thing_to_thing_group(thingGroupName=group, thingName=vehicle.thing_name)
    aws.iot.create_thing_type(thingTypeName=thing_type)
    told = {"attributes": {"replacement": "allowed", "colour": "red"}, "merge": True}
    aws.iot.update_thing(thingName=vehicle.thing_name, thingTypeName=thing_type, attributePayload=told)
    aws.iot.update_certificate(certificateId=vehicle.certificate_id, newStatus="INACTIVE")
    assert enrol(serial, home).certificate_id != vehicle.certificate_id
    described = aws.iot.describe_thing(thingName=vehicle.thing_name)
    assert {
        each["groupName"] for each in aws.iot.list_thing_groups_for_thing(thingName=vehicle.thing_name)["thingGroups"]
    } == groups
    assert (described["thingTypeName"], described["attributes"]["colour"]) == (thing_type, "red")


def test_a_refused_serial_leaves_no_file_no_thing_and_no_certificate_that_works(aws, enrol, home):
    before = things(aws), active_certificates(aws)
    with pytest.raises(
        RegistrationRefused,
        match=r"'999999000001': Access Denied \(403 AccessDenied\); `fleet vehicle why --serial 999999000001` says why",
    ):
        enrol("999999000001", home)
    assert [path for path in home.rglob("*") if path.is_file()] == []
    assert (things(aws), active_certificates(aws)) == before


def test_a_claim_certificate_registers_through_its_own_template_only(fleet, broker, claim, serial, home):
    with pytest.raises(ConnectionFailed, match=r"register_thing failure: .*SUBSCRIBE_FAILURE"):
        register(replace(fleet, environment="other"), broker, claim, serial, home)


def test_a_serial_that_is_taken_is_refused_to_another_vehicle(aws, enrol, vehicle, home):
    with pytest.raises(RegistrationRefused):
        enrol(vehicle.serial, home)
    assert len(aws.iot.list_thing_principals(thingName=vehicle.thing_name)["principals"]) == 1


@pytest.fixture
def certified(fleet, broker, claim):
    """Connect with the claim certificate and get a certificate; yield its id and what has it registered for a serial, True for yes."""

    @contextmanager
    def one():
        with connected(broker, claim, fleet.claim_client_prefix + uuid.uuid4().hex) as connection:
            aws_iot = IotIdentityClientV2(connection.client, registration._OPTIONS)
            key, _ = new_key()
            asked = CreateCertificateFromCsrRequest(certificate_signing_request=request_for(key, "vehicle"))
            made = connection.answer(aws_iot.create_certificate_from_csr(asked))

            def registers(serial, **more):
                parameters = {"SerialNumber": serial, **more}
                request = RegisterThingRequest(
                    template_name=fleet.template_name,
                    certificate_ownership_token=made.certificate_ownership_token,
                    parameters=parameters,
                )
                try:
                    return connection.answer(aws_iot.register_thing(request)).thing_name == fleet.thing_name(serial)
                except V2ServiceException as error:
                    if error.modeled_error.error_code != "AccessDenied":
                        raise
                    return False

            yield made.certificate_id, registers

    return one


def test_of_two_vehicles_that_register_with_one_serial_at_once_one_wins(aws, fleet, certified):
    """Twenty pairs, each of two connections."""
    for _ in range(20):
        serial, together = f"297468{uuid.uuid4().hex[:12].upper()}", Barrier(2)
        with certified() as (first_id, first), certified() as (second_id, second), ThreadPoolExecutor(2) as both:
            won = list(
                both.map(
                    lambda registers, serial=serial, together=together: (
                        together.wait(10) is not None and registers(serial)
                    ),
                    (first, second),
                )
            )
        principals = aws.iot.list_thing_principals(thingName=fleet.thing_name(serial))["principals"]
        assert sorted(won) == [False, True]
        assert [arn.rsplit("/", 1)[1] for arn in principals] == [first_id if won[0] else second_id]


def test_a_vehicle_may_ask_again_with_the_certificate_that_it_has_registered(certified, serial):
    with certified() as (certificate_id, registers), certified() as (_, another):
        assert registers(serial)
        assert not another(serial)
        assert registers(serial, **{"AWS::IoT::Certificate::Id": certificate_id})


def test_a_registration_that_died_half_way_keeps_others_away_for_a_minute_and_no_longer(
    aws, fleet, claim, certified, serial
):
    with certified() as (dead_id, _), certified() as (alive_id, registers):
        event = {
            "claimCertificateId": claim.certificate_id,
            "certificateId": dead_id,
            "templateArn": fleet.template_arn,
            "clientId": "dead",
            "parameters": {"SerialNumber": serial},
        }
        answer = aws.functions.invoke(FunctionName=fleet.hook_name, Payload=json.dumps(event).encode())[
            "Payload"
        ].read()
        assert json.loads(answer)["allowProvisioning"]
        assert not registers(serial)
        thing = fleet.thing_name(serial)
        former = aws.iot.describe_thing(thingName=thing)["attributes"][fleet.registered_by]
        aged = f"{dead_id}/{int(former.split('/')[1]) - 61}"
        aws.iot.update_thing(
            thingName=thing, attributePayload={"attributes": {fleet.registered_by: aged}, "merge": True}
        )
        assert registers(serial)
        described = aws.iot.describe_thing(thingName=thing)
        assert described["attributes"] == {fleet.registered_by: claim.certificate_id}
        assert [arn.rsplit("/", 1)[1] for arn in aws.iot.list_thing_principals(thingName=thing)["principals"]] == [
            alive_id
        ]


def test_what_the_hook_reserves_becomes_what_the_template_alone_would_make(aws, fleet, enrol, serial, home):
    vehicle = enrol(serial, home)
    described = aws.iot.describe_thing(thingName=vehicle.thing_name)
    template = filled.provisioning_template(fleet)["Resources"]["thing"]["Properties"]
    assert described["attributes"].keys() == template["AttributePayload"].keys()
    assert (
        aws.iot.list_thing_groups_for_thing(thingName=vehicle.thing_name)["thingGroups"]
        == template["ThingGroups"]
        == []
    )
    assert (described.get("thingTypeName"), template.get("ThingTypeName"), template.get("BillingGroup")) == (
        None,
        None,
        None,
    )


def test_a_claim_certificate_that_was_deleted_registers_nothing_and_the_log_says_why(aws, fleet, serial):
    deleted = aws.iot.create_keys_and_certificate(setAsActive=False)["certificateId"]
    aws.iot.delete_certificate(certificateId=deleted)
    event = {
        "claimCertificateId": deleted,
        "certificateId": "d" * 64,
        "templateArn": fleet.template_arn,
        "parameters": {"SerialNumber": serial},
    }
    answer = aws.functions.invoke(FunctionName=fleet.hook_name, Payload=json.dumps(event).encode())["Payload"].read()
    assert json.loads(answer) == {"allowProvisioning": False}
    assert [each.reason for each in decisions(fleet, aws, serial)] == [
        "the claim certificate was deleted, or was lent more than five minutes ago"
    ]


ODD = {
    "no serial at all": {"parameters": {}},
    "no parameters": {"parameters": None},
    "a number": {"parameters": {"SerialNumber": 297468000001}},
    "a list": {"parameters": {"SerialNumber": ["297468000001"]}},
    "a parameter of its own": {"parameters": {"SerialNumber": "297468000001", "Colour": "red"}},
    "signs that a terminal obeys": {"parameters": {"SerialNumber": "297468\x1b[31m\u202e\n'\"[red]"}},
    "another script": {"parameters": {"SerialNumber": "\u0661\u0662"}},
    "100 KB": {"parameters": {"SerialNumber": "A" * 100_000}},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_whatever_the_hook_was_asked_there_is_an_answer_why_by_client_by_serial_and_in_the_list_of_all(
    aws, fleet, command, odd
):
    client = f"claim-{uuid.uuid4().hex}"
    aws.functions.invoke(
        FunctionName=fleet.hook_name,
        Payload=json.dumps({"clientId": client, "templateArn": fleet.template_arn, **odd}).encode(),
    )
    (decided,) = decisions(fleet, aws, client_id=client)
    assert not decided.allowed
    _, by_client = command(fleet, "vehicle", "why", "--client", client)
    _, all_of_them = command(fleet, "vehicle", "why")
    assert "refused: " in by_client
    assert client in all_of_them
    assert not re.search(r"[^\n -~…]", by_client + all_of_them)
    serial = (odd["parameters"] or {}).get("SerialNumber")
    if isinstance(serial, str):
        assert decided in decisions(fleet, aws, serial)


@pytest.mark.parametrize(
    "serial", ["297468../../ABC", "297468*", "297468${iot:ClientId}", "297468ABCDEF\n", "297468ABC/DEF", ""]
)
def test_a_hostile_serial_is_refused_by_the_hook_as_aws_iot_runs_it(fleet, broker, claim, home, serial):
    with (
        connected(broker, claim, fleet.claim_client_prefix + "hostile") as connection,
        pytest.raises(RegistrationRefused, match="AccessDenied"),
    ):
        registration._accepted(fleet, connection, {registration.SERIAL: serial}, VehicleFolder.of(home, "hostile"))


@pytest.mark.parametrize("serial", ["../../escaped", "297468ABC/DEF", "297468ABCDEF\n", "A" * 129])
def test_a_serial_that_no_thing_could_have_is_not_even_asked_for(enrol, home, serial):
    with pytest.raises(InvalidName):
        enrol(serial, home)
    assert not home.exists()


@pytest.mark.parametrize("client_id", ["test-thing-297468000000", "+", "claim-1", ""])
def test_a_vehicle_may_not_connect_as_another(broker, vehicle, client_id):
    with pytest.raises(ConnectionFailed, match="NOT_AUTHORIZED"), connected(broker, identity_of(vehicle), client_id):
        pass


FOREIGN_TOPICS = [
    "test-rule/rule1",
    "$aws/rules/test_rule_rule1",
    "$aws/rules/test_rule_rule1/test-rule/rule2",
    "$aws/rules/test_rule_rule1/claim-certificate/claim.pem",
    "$aws/rules/another_rule/test-rule/rule1",
    "$aws/things/test-thing-297468000000/shadow/update",
    "$aws/certificates/create/json",
]


@pytest.mark.parametrize("topic", FOREIGN_TOPICS)
def test_a_vehicle_may_not_publish_to_a_topic_that_is_not_its_own(connection, topic):
    with pytest.raises(PublishRefused, match="NOT_AUTHORIZED"):
        connection.publish(topic, b"{}")


def test_the_claim_certificate_may_not_connect_as_a_vehicle_nor_publish_as_one(fleet, broker, claim, vehicle):
    with pytest.raises(ConnectionFailed, match="NOT_AUTHORIZED"), connected(broker, claim, vehicle.thing_name):
        pass
    with (
        connected(broker, claim, fleet.claim_client_prefix + "spy") as connection,
        pytest.raises(PublishRefused, match="NOT_AUTHORIZED"),
    ):
        connection.publish(fleet.rules[0].ingest[0], b"{}")


def test_every_acknowledged_message_arrives_at_its_rule_once(aws, fleet, broker, enrol, home):
    serials = made_up_serials(fleet, 4)
    for serial in serials:
        enrol(serial, home)
    heard = []
    driven = drive(fleet, broker, home, serials, 7, on_acknowledged=heard.append)
    assert {key: len(ids) for key, ids in driven.acknowledged.items()} == {"rule1": 10, "rule2": 9, "rule3": 9}
    assert heard == [1] * 28
    for rule in fleet.rules:
        ids = [json.loads(body)["message_id"] for body in raw_objects(aws, fleet, rule) if b'"serial"' in body]
        assert sorted(ids) == sorted(driven.acknowledged[rule.key])


def test_vehicles_drive_again_with_other_messages(fleet, broker, vehicle):
    home = vehicle.folder.parent.parent
    first, second = (drive(fleet, broker, home, [vehicle.serial, vehicle.serial], 3).acknowledged for _ in range(2))
    ids = [message_id for driven in (first, second) for ids in driven.values() for message_id in ids]
    assert len(ids) == len(set(ids)) == 6


def test_nobody_drives_before_all_are_registered(fleet, broker, vehicle):
    heard = []
    with pytest.raises(NotRegistered, match="fleet vehicle register --serial 297468000099"):
        drive(
            fleet,
            broker,
            vehicle.folder.parent.parent,
            [vehicle.serial, "297468000099"],
            3,
            on_acknowledged=heard.append,
        )
    assert heard == []


def test_made_up_serials_are_as_many_as_wanted_and_always_the_same(fleet):
    serials = made_up_serials(fleet, 1000)
    assert (serials[0], serials[-1], len(set(serials))) == ("297468000001", "297468001000", 1000)
    assert made_up_serials(fleet, 3) == serials[:3]


@pytest.mark.parametrize("topic", ["", "#", "test-rule/+", "nul\0"])
def test_what_is_no_topic_is_refused_before_it_is_sent(connection, topic):
    with pytest.raises(PublishRefused, match="VALIDATION"):
        connection.publish(topic, b"{}")


PAYLOADS = {
    "nothing": b"",
    "null": b"null",
    "no text": b"\xff\xfe\x00",
    "half of a JSON": b'{"a": ',
    "130 kB": bytes(130_000),
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_a_payload_arrives_byte_for_byte(aws, fleet, connection, payload):
    rule = fleet.rules[0]
    before = raw_objects(aws, fleet, rule).count(payload)
    connection.publish(rule.ingest[0], payload)
    assert raw_objects(aws, fleet, rule).count(payload) == before + 1


def test_a_message_beyond_128_kb_is_not_sent_and_the_next_one_is(fleet, connection):
    topic = fleet.rules[0].ingest[0]
    with pytest.raises(PublishRefused, match="longer than the broker takes"):
        connection.publish(topic, bytes(128 * 1024))
    connection.publish(topic, b"{}")


def test_of_two_connections_of_one_vehicle_the_first_is_told_that_it_is_over(fleet, broker, vehicle, connection):
    topic = fleet.rules[0].ingest[0]
    with connected(broker, identity_of(vehicle), vehicle.thing_name) as second:
        second.publish(topic, b"{}")
        with pytest.raises(ConnectionFailed, match="SESSION_TAKEN_OVER"):
            connection.publish(topic, b"{}")
        second.publish(topic, b"{}")


def test_a_broker_that_is_not_there_is_named(broker, vehicle):
    nowhere = replace(broker, port=9)
    with (
        pytest.raises(ConnectionFailed, match=r"localhost:9: .*CONNECTION_REFUSED"),
        connected(nowhere, identity_of(vehicle), vehicle.thing_name),
    ):
        pass


def test_no_private_key_is_shown_or_logged(enrol, claim, home, local_aws, caplog, capfd):  # noqa: PLR0917 (fixtures)
    caplog.set_level(logging.DEBUG)
    vehicle = enrol("297468SECRET", home)
    with pytest.raises(RegistrationRefused) as refused:
        enrol("999999000002", home)
    own = identity_of(vehicle)
    shown = [
        repr(claim),
        repr(own),
        repr(vehicle),
        repr(refused.value),
        caplog.text,
        *capfd.readouterr(),
        local_aws.log_path.read_text(),
    ]
    lines = [line for key in (claim.private_key, own.private_key) for line in key.splitlines()[1:-1]]
    assert [line for line in lines if any(line in text for text in shown)] == []


def test_a_vehicle_that_was_cut_off_is_said_to_be_and_the_others_drive(aws, fleet, enrol, serial, command):
    there, cut_off = (enrol(each, Path(fleet.home)) for each in (serial, f"{serial}1"))
    aws.iot.update_certificate(certificateId=cut_off.certificate_id, newStatus="INACTIVE")
    code, said = command(fleet, "vehicle", "drive", "--serial", serial, "--serial", f"{serial}1", "--messages", "1")
    assert (code, f"does not let the vehicle '{serial}1' in with the certificate that it has" in said) == (1, True), (
        said
    )
    assert (f"{fleet.rules[0].topic}: 1 messages" in said, there.serial) == (True, serial)
