"""Vehicles that make their own key, and those that speak CBOR: they ask on topics of their own, and end as any other vehicle does."""

import json
import re
import uuid
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import cbor2
import pytest
from awscrt import mqtt
from awsiot import mqtt_connection_builder
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.blueprint import blueprint, resources
from fleet_pipeline.cloud.claims.certificates import read_claim
from fleet_pipeline.cloud.reconcile import reconcile
from fleet_pipeline.model.errors import RegistrationRefused
from fleet_pipeline.vehicle.connection import Broker, connected
from fleet_pipeline.vehicle.identity import Identity, VehicleFolder
from fleet_pipeline.vehicle.registration import register
from fleet_pipeline.vehicle.requesting import new_key, request_for

SPEAK = {"json": (lambda said: json.dumps(said).encode(), json.loads), "cbor": (cbor2.dumps, cbor2.loads)}


@pytest.fixture(scope="module")
def fleet(make_fleet):
    return make_fleet(rule_keys=("rule1",))


@pytest.fixture(scope="module")
def aws(fleet, local_aws):
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


@pytest.fixture
def serial():
    return f"297468{uuid.uuid4().hex[:12].upper()}"


@pytest.fixture
def ask(fleet, claim, local_aws):
    """Publish bytes to a topic with the claim certificate, and return the answer: accepted or rejected, and its bytes."""
    with claimed(fleet, claim, local_aws) as connection:

        def one(topic, payload):
            heard = Queue()
            for answer in ("accepted", "rejected"):
                hear = lambda topic, payload, **_: heard.put((topic.rsplit("/", 1)[1], payload))  # noqa: E731 (bound to this request's queue)
                connection.subscribe(f"{topic}/{answer}", mqtt.QoS.AT_LEAST_ONCE, hear)[0].result(10)
            connection.publish(topic, payload, mqtt.QoS.AT_LEAST_ONCE)[0].result(10)
            return heard.get(timeout=10)

        yield one


@contextmanager
def claimed(fleet, claim, local_aws):
    connection = mqtt_connection_builder.mtls_from_bytes(
        claim.certificate_pem.encode(),
        claim.private_key.encode(),
        endpoint=local_aws.mqtt_host,
        port=local_aws.mqtt_port,
        ca_bytes=local_aws.ca_path.read_bytes(),
        client_id=fleet.claim_client_prefix + uuid.uuid4().hex,
        clean_session=True,
    )
    connection.connect().result(10)
    try:
        yield connection
    finally:
        connection.disconnect().result(10)


def certificates(aws):
    return {each["certificateId"] for each in aws.iot.list_certificates(pageSize=250)["certificates"]}


def test_a_vehicle_registers_with_a_key_that_it_has_made_and_publishes(fleet, broker, claim, serial, tmp_path):
    vehicle = register(fleet, broker, claim, serial, tmp_path, own_key=True)
    identity = VehicleFolder(vehicle.folder).read()
    certificate = x509.load_pem_x509_certificate(identity.certificate_pem.encode())
    assert load_pem_private_key(identity.private_key.encode(), None).public_key() == certificate.public_key()
    assert register(fleet, broker, claim, serial, tmp_path, own_key=True) == vehicle
    with connected(broker, identity, vehicle.thing_name) as connection:
        connection.publish(fleet.rules[0].ingest[0], b"{}")


def test_a_refused_vehicle_keeps_no_key_of_its_own_either(fleet, broker, claim, tmp_path):
    with pytest.raises(RegistrationRefused):
        register(fleet, broker, claim, "999999000001", tmp_path, own_key=True)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_command_registers_a_vehicle_with_a_key_of_its_own(fleet, aws, command, serial):
    code, said = command(fleet, "vehicle", "register", "--serial", serial, "--own-key")
    assert (code, f"registered {fleet.thing_name(serial)}" in said) == (0, True)
    assert "EC PRIVATE KEY" in VehicleFolder.of(Path(fleet.home), fleet.thing_name(serial)).read().private_key


@pytest.mark.parametrize("own_key", [False, True])
@pytest.mark.parametrize("spelling", SPEAK)
def test_a_vehicle_registers_in_json_and_in_cbor(fleet, broker, ask, serial, spelling, own_key):  # noqa: PLR0917 (fixtures)
    say, hear = SPEAK[spelling]
    key, pem = new_key()
    way = ("create-from-csr", {"certificateSigningRequest": request_for(key, "vehicle")}) if own_key else ("create", {})
    kind, told = ask(f"$aws/certificates/{way[0]}/{spelling}", say(way[1]))
    made = hear(told)
    assert (kind, "privateKey" in made) == ("accepted", not own_key)
    request = {"certificateOwnershipToken": made["certificateOwnershipToken"], "parameters": {"SerialNumber": serial}}
    kind, told = ask(f"$aws/provisioning-templates/{fleet.template_name}/provision/{spelling}", say(request))
    assert (kind, hear(told)) == ("accepted", {"deviceConfiguration": {}, "thingName": fleet.thing_name(serial)})
    with connected(
        broker, Identity(made["certificatePem"], made.get("privateKey", pem)), fleet.thing_name(serial)
    ) as connection:
        connection.publish(fleet.rules[0].ingest[0], b"{}")


@pytest.mark.parametrize("spelling", SPEAK)
def test_a_refusal_comes_in_the_spelling_of_the_request(fleet, ask, spelling):
    say, hear = SPEAK[spelling]
    _, told = ask(f"$aws/certificates/create/{spelling}", say({}))
    request = {
        "certificateOwnershipToken": hear(told)["certificateOwnershipToken"],
        "parameters": {"SerialNumber": "999999000001"},
    }
    kind, told = ask(f"$aws/provisioning-templates/{fleet.template_name}/provision/{spelling}", say(request))
    assert (kind, hear(told)) == (
        "rejected",
        {"statusCode": 403, "errorCode": "AccessDenied", "errorMessage": "Access Denied"},
    )


BAD = {
    "nothing": b"",
    "no CBOR": b"\xff",
    "half a text": b"\x78\x05ab",
    "a number": cbor2.dumps(1),
    "bytes for a request": cbor2.dumps({"certificateSigningRequest": b"x"}),
    "a request that is none": cbor2.dumps({"certificateSigningRequest": "-----BEGIN CERTIFICATE REQUEST-----"}),
}


@pytest.mark.parametrize("payload", BAD.values(), ids=BAD)
def test_what_is_no_request_is_rejected_and_makes_no_certificate(aws, ask, payload):
    before = certificates(aws)
    kind, told = ask("$aws/certificates/create-from-csr/cbor", payload)
    assert (kind, cbor2.loads(told)["errorCode"]) == ("rejected", "InvalidPayload")
    assert certificates(aws) == before


def test_a_certificate_of_an_own_key_does_not_work_before_it_is_registered(aws, ask):
    key, _ = new_key()
    _, told = ask(
        "$aws/certificates/create-from-csr/json",
        json.dumps({"certificateSigningRequest": request_for(key, "vehicle")}).encode(),
    )
    made = json.loads(told)
    assert re.fullmatch("[0-9a-f]{64}", made["certificateId"])
    assert (
        aws.iot.describe_certificate(certificateId=made["certificateId"])["certificateDescription"]["status"]
        == "PENDING_ACTIVATION"
    )
