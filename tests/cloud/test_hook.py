"""The pre-provisioning hook: as a pure decision, as Lambda runs it, and against the services that it asks."""

import copy
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

import boto3
import botocore.session
import lambda_function as hook
import pytest
from botocore.exceptions import ClientError
from botocore.loaders import create_loader
from deadline import DEADLINE_S
from examples import tries
from hypothesis import example, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from fleet_pipeline.cloud.kinds.function import HOOK_FOLDER

LISTED = "297468LISTED01"
THING = f"test-thing-{LISTED}"
TEMPLATE = "arn:aws:iot:eu-central-1:123456789012:provisioningtemplate/cdk-test-dev-provision-template"
EXPECTED = hook.Expected("297468", "test-thing-", TEMPLATE)
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIDWTCCAkGgAwIBAgIUW\n-----END CERTIFICATE-----\n"
CLAIM, CERTIFICATE_ID, RIVAL = "c" * 64, "d" * 64, "e" * 64
NOW = 1_700_000_000
ANSWER_WITHIN_S = 5.0
"""AWS IoT waits no longer."""

DRIPS_FOR_S, DRIP_S = 300, 0.1
"""How long an answer takes that comes byte by byte: whoever waits for its end is found out on any machine."""


def request(serial: object = LISTED, **changed: object) -> dict[str, Any]:
    event = {
        "claimCertificateId": CLAIM,
        "certificateId": CERTIFICATE_ID,
        "certificatePem": CERTIFICATE,
        "templateArn": TEMPLATE,
        "clientId": "claim-1",
        "parameters": {"SerialNumber": serial},
    }
    return event | changed


@dataclass
class FakeThings:
    """A registry in dictionaries: the attributes of each thing, the status of each certificate, whose each is; the version counts the changes."""

    things: dict[str, dict[str, str]] = field(default_factory=dict)
    version: int = 1
    certificates: dict[str, str] = field(
        default_factory=lambda: {CLAIM: "ACTIVE", CERTIFICATE_ID: "PENDING_ACTIVATION", RIVAL: "PENDING_ACTIVATION"}
    )
    owners: dict[str, str] = field(default_factory=dict)

    def certificate_status(self, certificate_id: str) -> str | None:
        return self.certificates.get(certificate_id)

    def describe(self, thing_name: str) -> dict[str, Any] | None:
        attributes = self.things.get(thing_name)
        return (
            None
            if attributes is None
            else {"thingName": thing_name, "attributes": dict(attributes), "version": self.version}
        )

    def create(self, thing_name: str, attributes: dict[str, str]) -> bool:
        return self.things.setdefault(thing_name, attributes) == attributes

    def change(self, thing_name: str, attributes: dict[str, str], version: int) -> bool:
        if version != self.version:
            return False
        self.things[thing_name] |= attributes
        self.version += 1
        return True

    def has(self, thing_name: str, certificate_id: str) -> bool:
        return self.owners.get(certificate_id) == thing_name

    def register(self, certificate_id: str) -> None:
        """Do what the template does after the hook's yes."""
        self.things.setdefault(THING, {})[hook.REGISTERED_BY] = CLAIM
        self.certificates[certificate_id] = "ACTIVE"
        self.owners[certificate_id] = THING


@dataclass
class FakeAllowList:
    serials: frozenset[str]

    def names(self, serial: str) -> bool:
        return serial in self.serials


@dataclass
class FakeLent:
    certificates: frozenset[str]

    def names(self, certificate_id: str) -> bool:
        return certificate_id in self.certificates


class Everyone:
    """An allow-list that would let anything through, so that only the hook's own rules are left to deny."""

    def names(self, _serial: str) -> bool:
        return True


HOSTILE_SERIALS = {
    "empty": "",
    "the prefix alone": "297468",
    "too short": "297468ABCDE",
    "too long": "297468" + "A" * 27,
    "100 KB": "297468" + "A" * 100_000,
    "prefix spoof": "1297468ABCDEF",
    "prefix inside": "ABC297468ABCDEF",
    "another prefix": "111111ABCDEF",
    "leading space": " 297468ABCDEF",
    "newline at the end": "297468ABCDEF\n",
    "newline inside": "297468ABC\nDEF",
    "log forging": '297468ABCDEF\n{"allowed": true, "reason": "a new vehicle"}',
    "carriage return": "297468ABCDEF\r",
    "path traversal": "297468../../ABC",
    "second name after a colon": "297468ABCDEF:admin",
    "lower case": "297468abcdef",
    "Arabic-Indic digits": "297468\u0661\u0662\u0663\u0664\u0665\u0666",
    "full-width letters": "297468\uff21\uff22\uff23\uff24\uff25\uff26",
    "full-width prefix": "\uff12\uff19\uff17\uff14\uff16\uff18ABCDEF",
    "NUL": "297468ABC\0DEF",
    "right-to-left override": "297468ABC\u202eDEF",
    "lone surrogate": "297468ABC\ud800DEF",
    "policy variable": "297468${iot:ClientId}",
    "wildcard": "297468*",
    "single wildcard": "297468ABCDE?",
    "MQTT wildcard": "297468ABCDE+",
    "slash": "297468ABC/DEF",
    "null": None,
    "a number": 297468123456,
    "true": True,
    "a list": [LISTED],
    "an object": {"SerialNumber": LISTED},
}

HOSTILE_EVENTS = {
    "null": None,
    "a text": LISTED,
    "a list": [request()],
    "empty": {},
    "no parameters": {name: value for name, value in request().items() if name != "parameters"},
    "parameters null": request(parameters=None),
    "parameters a text": request(parameters="SerialNumber"),
    "parameters a list": request(parameters=["SerialNumber", LISTED]),
    "parameters empty": request(parameters={}),
    "another parameter instead": request(parameters={"serialNumber": LISTED}),
    "an unknown parameter besides": request(parameters={"SerialNumber": LISTED, "Colour": "red"}),
    "a certificate's id that is not the request's": request(
        parameters={"SerialNumber": LISTED, "AWS::IoT::Certificate::Id": RIVAL}
    ),
    "a claim certificate's id that is not the request's": request(
        parameters={"SerialNumber": LISTED, "ClaimCertificateId": RIVAL}
    ),
    "a certificate's id that is no text": request(
        parameters={"SerialNumber": LISTED, "AWS::IoT::Certificate::Id": [CERTIFICATE_ID]}
    ),
    "a certificate's id alone": request(parameters={"AWS::IoT::Certificate::Id": CERTIFICATE_ID}),
    "no certificate": {name: value for name, value in request().items() if name != "certificateId"},
    "a certificate that is no id": request(certificateId="d" * 63),
    "another template": request(templateArn=TEMPLATE + "2"),
    "another account's template": request(templateArn=TEMPLATE.replace("123456789012", "210987654321")),
    "template null": request(templateArn=None),
    "template a list": request(templateArn=[TEMPLATE]),
    "no claim certificate": request(claimCertificateId=None),
    "a claim certificate that is a list": request(claimCertificateId=[CLAIM]),
    "a claim certificate with a newline": request(claimCertificateId=CLAIM + "\n"),
    "a client id without end": request("", clientId=reduce(lambda inner, _: [inner], range(100_000), [])),
}


def test_a_new_vehicle_with_a_serial_of_the_right_form_is_allowed():
    assert hook.decide(request(), EXPECTED, FakeThings(), None) == hook.Decision(allowed=True, reason="a new vehicle")


@pytest.mark.parametrize("serial", ["297468ABCDEF", "297468000000", "297468" + "Z" * 26])
def test_a_serial_has_six_to_26_digits_and_capitals_after_the_prefix(serial):
    assert hook.decide(request(serial), EXPECTED, FakeThings(), None).allowed


@pytest.mark.parametrize("serial", HOSTILE_SERIALS.values(), ids=HOSTILE_SERIALS)
def test_a_hostile_serial_is_denied_even_when_every_serial_is_listed(serial):
    assert not hook.decide(request(serial), EXPECTED, FakeThings(), Everyone()).allowed


@pytest.mark.parametrize("event", HOSTILE_EVENTS.values(), ids=HOSTILE_EVENTS)
def test_a_hostile_event_is_denied_even_when_every_serial_is_listed(event):
    assert not hook.decide(event, EXPECTED, FakeThings(), Everyone()).allowed


def test_a_dot_in_the_prefix_stands_for_a_dot():
    assert not hook.decide(request(), hook.Expected("29.468", "test-thing-", TEMPLATE), FakeThings(), None).allowed


def test_a_serial_that_the_allow_list_does_not_name_is_denied():
    allowed = FakeAllowList(frozenset({LISTED}))
    assert hook.decide(request(), EXPECTED, FakeThings(), allowed).allowed
    assert not hook.decide(request("297468UNLISTED"), EXPECTED, FakeThings(), allowed).allowed


DECLARED = {
    "the certificate's id": {"AWS::IoT::Certificate::Id": CERTIFICATE_ID},
    "the claim certificate's id": {"ClaimCertificateId": CLAIM},
    "one that our template declares": {"Colour": "red"},
    "all of them": {"AWS::IoT::Certificate::Id": CERTIFICATE_ID, "ClaimCertificateId": CLAIM, "Colour": ""},
}


@pytest.mark.parametrize("more", DECLARED.values(), ids=DECLARED)
def test_a_parameter_that_the_template_declares_is_accepted(more):
    expected = replace(EXPECTED, parameters=EXPECTED.parameters | {"Colour"})
    assert hook.decide(request(parameters={"SerialNumber": LISTED, **more}), expected, FakeThings(), None).allowed


def test_a_parameter_that_the_template_does_not_declare_is_refused_by_its_name():
    decision = hook.decide(
        request(parameters={"SerialNumber": LISTED, "Col\nour": "red"}), EXPECTED, FakeThings(), None
    )
    assert decision == hook.Decision(allowed=False, reason="the template does not declare the parameter 'Col\\nour'")


@pytest.mark.parametrize(
    ("status", "allowed"), [("ACTIVE", True), ("INACTIVE", False), ("REVOKED", False), ("PENDING_TRANSFER", False)]
)
def test_a_claim_certificate_that_does_not_work_registers_nothing(status, allowed):
    assert hook.decide(request(), EXPECTED, FakeThings(certificates={CLAIM: status}), Everyone()).allowed == allowed


@pytest.mark.parametrize("status", ["INACTIVE", "REVOKED"])
def test_a_claim_certificate_that_was_lent_and_is_listed_after_all_must_be_active(status):
    lent = FakeLent(frozenset({CLAIM}))
    assert not hook.decide(request(), EXPECTED, FakeThings(certificates={CLAIM: status}), None, lent).allowed


def test_a_claim_certificate_that_aws_iot_does_not_list_registers_only_if_it_was_lent():
    deleted = FakeThings(certificates={})
    assert hook.decide(request(), EXPECTED, deleted, None, FakeLent(frozenset({RIVAL}))) == hook.Decision(
        allowed=False, reason="the claim certificate was deleted, or was lent more than five minutes ago"
    )
    assert not hook.decide(request(), EXPECTED, deleted, None).allowed
    assert hook.decide(request(), EXPECTED, deleted, None, FakeLent(frozenset({CLAIM}))).allowed


def test_a_thing_that_exists_is_not_taken_over():
    assert not hook.decide(request(), EXPECTED, FakeThings({THING: {}}), Everyone()).allowed


@pytest.mark.parametrize("value", ["", "Allowed", "denied", "true", f"{RIVAL}/", f"{RIVAL}/x", RIVAL])
def test_only_the_word_allowed_lets_a_thing_be_given_a_new_certificate(value):
    assert not hook.decide(request(), EXPECTED, FakeThings({THING: {hook.REPLACEMENT: value}}), None).allowed


def ask(things: FakeThings, certificate_id: str, after_s: int = 0) -> hook.Decision:
    return hook.decide(request(certificateId=certificate_id), EXPECTED, things, None, now=NOW + after_s)


BEFORE = {"a new vehicle": {}, "a replacement": {THING: {hook.REGISTERED_BY: CLAIM, hook.REPLACEMENT: "allowed"}}}

every_way_to_register = pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)


def registry_with(before: dict[str, dict[str, str]]) -> FakeThings:
    return FakeThings(copy.deepcopy(before))


@every_way_to_register
def test_of_two_certificates_for_one_serial_the_second_is_refused_while_the_first_is_registered_and_for_good_afterwards(
    before,
):
    things = registry_with(before)
    assert ask(things, RIVAL).allowed
    assert not ask(things, CERTIFICATE_ID, after_s=1).allowed
    things.register(RIVAL)
    assert not ask(things, CERTIFICATE_ID, after_s=10 * hook.LEASE_S).allowed


@every_way_to_register
def test_of_two_requests_that_have_both_seen_the_registry_before_either_changed_it_one_is_refused(before):
    things = registry_with(before)

    @dataclass
    class Overtaken(FakeThings):
        """Looks at the registry, and is overtaken by a rival before it changes anything."""

        def describe(self, thing_name: str) -> dict[str, Any] | None:
            seen = things.describe(thing_name)
            assert ask(things, RIVAL).allowed
            return seen

        create, change = things.create, things.change

    assert not ask(Overtaken(), CERTIFICATE_ID).allowed


@every_way_to_register
def test_a_registration_that_died_half_way_is_free_for_its_own_certificate_at_once_and_for_another_after_a_minute(
    before,
):
    things = registry_with(before)
    assert ask(things, RIVAL).allowed
    assert ask(things, RIVAL, after_s=1).allowed
    assert not ask(things, CERTIFICATE_ID, after_s=hook.LEASE_S).allowed
    assert ask(things, CERTIFICATE_ID, after_s=1 + hook.LEASE_S).allowed
    assert not ask(things, RIVAL, after_s=2 + hook.LEASE_S).allowed


@every_way_to_register
@pytest.mark.parametrize("status", ["ACTIVE", "INACTIVE", "REVOKED"])
def test_a_registration_whose_certificate_became_active_is_never_taken_over(before, status):
    things = registry_with(before)
    assert ask(things, RIVAL).allowed
    things.certificates[RIVAL] = status
    assert not ask(things, CERTIFICATE_ID, after_s=10 * hook.LEASE_S).allowed


def test_when_the_certificate_of_a_dead_registration_is_gone_a_new_vehicle_goes_on_and_a_replacement_must_be_allowed_again():
    for name, before in BEFORE.items():
        things = registry_with(before)
        assert ask(things, RIVAL).allowed
        del things.certificates[RIVAL]
        assert ask(things, CERTIFICATE_ID, after_s=10 * hook.LEASE_S).allowed == (name == "a new vehicle")


@every_way_to_register
def test_a_vehicle_that_lost_the_answer_may_ask_again_with_the_same_certificate_unless_it_was_deactivated(before):
    things = registry_with(before)
    assert ask(things, CERTIFICATE_ID).allowed
    things.register(CERTIFICATE_ID)
    assert ask(things, CERTIFICATE_ID, after_s=1).reason == "the vehicle has this certificate already"
    things.certificates[CERTIFICATE_ID] = "INACTIVE"
    assert not ask(things, CERTIFICATE_ID, after_s=2).allowed


def test_a_replacement_that_was_allowed_is_used_up_by_the_certificate_that_used_it():
    things = registry_with(BEFORE["a replacement"])
    assert ask(things, RIVAL).allowed
    things.register(RIVAL)
    things.certificates[RIVAL] = "INACTIVE"
    assert [ask(things, each, after_s=10 * hook.LEASE_S).allowed for each in (CERTIFICATE_ID, RIVAL)] == [False, False]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
near_serials = st.one_of(
    st.just(LISTED), st.from_regex(r"297468[0-9A-Z]{6,26}\n?", fullmatch=True), st.text(), json_values
)
near_parameters = st.fixed_dictionaries({"SerialNumber": near_serials}, optional={"Color": st.text()})
near_events = st.fixed_dictionaries(
    {"parameters": near_parameters, "templateArn": st.sampled_from([TEMPLATE, TEMPLATE[:-1]])},
    optional={
        "clientId": json_values,
        "claimCertificateId": st.just(CLAIM) | json_values,
        "certificateId": st.just(CERTIFICATE_ID) | json_values,
    },
)
events = st.one_of(near_events, json_values)


@given(events)
@settings(deadline=None, max_examples=tries(250, 1000))
def test_nothing_but_the_listed_serial_through_our_template_is_ever_allowed(event):
    decision = hook.decide(event, EXPECTED, FakeThings(), FakeAllowList(frozenset({LISTED})))
    asked = {"parameters": {"SerialNumber": LISTED}, "templateArn": TEMPLATE, "claimCertificateId": CLAIM}
    own = isinstance(event, dict) and hook.matches("[0-9a-f]{64}", event.get("certificateId"))
    assert decision.allowed == (own and {name: event.get(name) for name in asked} == asked)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name, value in {
        "SERIAL_PREFIX": "297468",
        "THING_PREFIX": "test-thing-",
        "TEMPLATE_ARN": TEMPLATE,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    hook.client.cache_clear()
    yield monkeypatch
    hook.client.cache_clear()


@pytest.fixture
def registry(environment) -> Iterator[Any]:
    environment.setattr(
        hook, "DEADLINE_S", 60
    )  # moto answers in this process, which may have to wait for a busy machine
    with mock_aws():
        session = botocore.session.get_session()
        session.register_component("data_loader", DESCRIPTIONS)
        boto3.setup_default_session(botocore_session=session)
        yield boto3.client("iot")


DESCRIPTIONS = create_loader()
"""AWS's services as botocore describes them, read once for all of these tests: moto forgets boto3's session with each."""


@pytest.fixture
def claim(registry) -> str:
    return registry.create_keys_and_certificate(setAsActive=True)["certificateId"]


def answer(event: object) -> bool:
    answered = hook.lambda_handler(event, None)
    if answered != {"allowProvisioning": False}:
        assert answered == {
            "allowProvisioning": True,
            "parameterOverrides": {"ClaimCertificateId": event["claimCertificateId"]},
        }
    return answered["allowProvisioning"]


def test_lambda_answers_yes_and_reserves_the_thing_for_that_certificate(registry, claim):
    assert answer(request(claimCertificateId=claim))
    assert not answer(request(claimCertificateId=claim, certificateId=RIVAL))
    (thing,) = registry.list_things()["things"]
    assert (thing["thingName"], hook.Reservation.read(thing["attributes"]["registered_by"]).certificate_id) == (
        THING,
        CERTIFICATE_ID,
    )


def test_lambda_answers_no_when_the_thing_exists(registry, claim):
    registry.create_thing(thingName=THING)
    assert not answer(request(claimCertificateId=claim))


def test_lambda_asks_whether_the_claim_certificate_works(registry, claim, capsys):
    registry.update_certificate(certificateId=claim, newStatus="REVOKED")
    assert hook.lambda_handler(request(claimCertificateId=claim), None) == {"allowProvisioning": False}
    assert "the claim certificate is not active" in capsys.readouterr().out


def test_lambda_refuses_a_deleted_claim_certificate_and_takes_one_that_was_lent_within_five_minutes(
    registry, environment
):
    environment.setenv("TEMPORARY_CLAIMS", "s3://bucket/claim-certificate/temporary/")
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    assert not answer(request())
    s3.put_object(Bucket="bucket", Key=f"claim-certificate/temporary/{RIVAL}")
    assert not answer(request())
    s3.put_object(Bucket="bucket", Key=f"claim-certificate/temporary/{CLAIM}")
    assert hook.S3Lent(s3, "bucket", "claim-certificate/temporary/").names(CLAIM)
    assert answer(request())


@pytest.mark.parametrize(("seconds", "lent"), [(0, True), (290, True), (301, False), (3600, False)])
def test_a_certificate_was_lent_for_five_minutes(seconds, lent):
    class S3:
        def head_object(self, **_):
            return {"LastModified": datetime.now(UTC) - timedelta(seconds=seconds)}

    assert hook.S3Lent(S3(), "bucket", "lent/").names(CLAIM) == lent


def test_lambda_uses_a_permission_to_replace_up(registry, claim):
    registry.create_thing(
        thingName=THING, attributePayload={"attributes": {hook.REPLACEMENT: "allowed", "colour": "red"}}
    )
    assert answer(request(claimCertificateId=claim))
    attributes = registry.describe_thing(thingName=THING)["attributes"]
    assert (attributes["colour"], hook.Reservation.read(attributes[hook.REPLACEMENT]).certificate_id) == (
        "red",
        CERTIFICATE_ID,
    )
    assert not answer(request(claimCertificateId=claim, certificateId=RIVAL))


def test_lambda_denies_what_is_hostile_in_one_line_of_log_each(registry, capsys):
    hostile = [*HOSTILE_EVENTS.values(), *(request(serial) for serial in HOSTILE_SERIALS.values())]
    assert not any(answer(event) for event in hostile)
    assert len(capsys.readouterr().out.splitlines()) == len(hostile)


SHOWN = {
    "a text": (LISTED, f"'{LISTED}'"),
    "a text with a line end": ("a\nb", r"'a\nb'"),
    "a text in another script": ("\u0661", r"'\u0661'"),
    "a text that says missing": ("missing", "'missing'"),
    "a number": (297468123456, "the number 297468123456"),
    "a huge number": (10**4000, "a number"),
    "true": (True, "true"),
    "null": (None, "null"),
    "a list": ([LISTED], "a list"),
    "an object": ({"SerialNumber": LISTED}, "an object"),
}


@pytest.mark.parametrize(("serial", "shown"), SHOWN.values(), ids=SHOWN)
def test_the_log_says_what_the_serial_was_even_when_it_was_no_text(serial, shown):
    line = hook.log_line(
        request(parameters={"SerialNumber": serial, "more": 1}), hook.Decision(allowed=False, reason="no")
    )
    assert json.loads(line)["serial"] == shown


@pytest.mark.parametrize(
    "event", [None, [], {}, {"parameters": None}, {"parameters": {}}, {"parameters": {"serialNumber": LISTED}}]
)
def test_the_log_says_that_a_serial_was_missing(event):
    assert json.loads(hook.log_line(event, hook.Decision(allowed=False, reason="no")))["serial"] == "missing"


@given(event=events)
@example(request("297468" + "A" * 100_000, clientId="\0" * 100_000))
@settings(deadline=None)
def test_lambda_logs_one_short_line_of_json_for_any_request(event):
    line = hook.log_line(event, hook.Decision(allowed=False, reason="no"))
    assert json.loads(line)["allowed"] is False
    assert len(line.splitlines()) == 1
    assert len(line) < 4000


def test_lambda_logs_serial_and_reason_and_no_certificate(registry, claim, capsys):
    answer(request(claimCertificateId=claim))
    log = capsys.readouterr().out
    assert LISTED in log
    assert "a new vehicle" in log
    assert "BEGIN" not in log
    assert "MIIDWTCC" not in log


@pytest.mark.parametrize("missing", ["SERIAL_PREFIX", "THING_PREFIX", "TEMPLATE_ARN"])
def test_lambda_denies_and_says_so_when_a_setting_is_missing(registry, environment, claim, capsys, missing):
    environment.delenv(missing)
    assert not answer(request(claimCertificateId=claim))
    assert missing in capsys.readouterr().out


@pytest.mark.parametrize(
    "where", ["ftp://elsewhere", "s3://bucket-without-key", "s3://no-such-bucket/serials.txt", "nonsense"]
)
def test_lambda_denies_when_the_allow_list_cannot_be_read(registry, environment, claim, where):
    environment.setenv("ALLOW_LIST", where)
    assert not answer(request(claimCertificateId=claim))


def silent(connection: socket.socket) -> None:
    """Take the request and say nothing until the client hangs up."""
    connection.recv(1)


def dripping_header(connection: socket.socket) -> None:
    drip(connection, b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * round(DRIPS_FOR_S / DRIP_S))


def dripping_body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    drip(connection, b"{" + b" " * round(DRIPS_FOR_S / DRIP_S))


def serve(say: Any, connection: socket.socket) -> None:
    connection.recv(65536)
    say(connection)


def drip(connection: socket.socket, said: bytes) -> None:
    with suppress(OSError):
        for byte in said:
            connection.sendall(bytes([byte]))
            time.sleep(DRIP_S)


@contextmanager
def server(say: Any) -> Iterator[str]:
    """Serve every request so; yield the address. At the end no connection is open, and whoever waited for one has ended."""
    before, accepted = set(threading.enumerate()), []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    accepted.append(listener.accept()[0])
                    threading.Thread(target=serve, args=(say, accepted[-1]), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    for connection in accepted:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    for thread in set(threading.enumerate()) - before:
        thread.join(60)


def test_the_deadline_leaves_time_to_start_a_process():
    assert DEADLINE_S <= ANSWER_WITHIN_S - 1.5


@pytest.mark.whole
@pytest.mark.parametrize("service", ["IOT", "S3", "DYNAMODB"])
@pytest.mark.parametrize("say", [silent, dripping_header, dripping_body])
def test_lambda_denies_in_time_and_says_so_whatever_aws_does(registry, environment, claim, capsys, say, service):  # noqa: PLR0917 (fixtures)
    """Only one service at a time is at fault: the others answer as they should. A client gives silence up by itself; what
    drips is left at the deadline, which is a short one here.
    """
    environment.setenv("ALLOW_LIST", "dynamodb://allow-list" if service == "DYNAMODB" else "s3://bucket/serials.txt")
    environment.setattr(hook, "DEADLINE_S", DRIPS_FOR_S if say is silent else 0.3)
    with server(say) as url:
        environment.setenv(f"AWS_ENDPOINT_URL_{service}", url)
        for each in ("iot", "s3", "dynamodb"):
            hook.client(each)  # as Lambda does before a request
        started = time.monotonic()
        assert not answer(request(claimCertificateId=claim))
        assert time.monotonic() - started < DRIPS_FOR_S / 10  # and half of what a client waits by itself
    said = json.loads(capsys.readouterr().out)
    assert said["serial"] == f"'{LISTED}'"
    assert ("within 0.3 s" in said["reason"]) == (say is not silent)


def test_what_is_too_late_changes_nothing(aws):
    late = hook.IotThings(aws.iot, hook.Deadline(time.monotonic() - 1))
    aws.iot.create_thing(thingName=THING, attributePayload={"attributes": {"colour": "red"}})
    with pytest.raises(hook.TooLate):
        late.create("test-thing-another", {})
    with pytest.raises(hook.TooLate):
        late.change(THING, {"colour": "blue"}, 1)
    assert [thing["attributes"] for thing in aws.iot.list_things()["things"]] == [{"colour": "red"}]


def test_lambda_denies_when_aws_cannot_be_reached(environment):
    environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert not answer(request())


@pytest.mark.parametrize(("where", "services"), [("", {"iot", "s3"}), ("dynamodb://list", {"iot", "s3", "dynamodb"})])
def test_lambda_makes_its_clients_before_the_first_request(where, services):
    """In a process of its own, as Lambda starts it."""
    lambdas = {
        "AWS_LAMBDA_FUNCTION_NAME": "hook",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "ALLOW_LIST": where,
        "PYTHONPATH": str(HOOK_FOLDER),
    }
    code = "import lambda_function as hook; before = hook.client.cache_info().currsize; [hook.client(name) for name in SERVICES]"
    code = f"{code.replace('SERVICES', repr(sorted(services)))}; print(before, hook.client.cache_info().currsize)"
    ran = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **lambdas}, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == [str(len(services))] * 2


def test_the_registry_and_its_fake_answer_alike(aws):
    certificate = aws.iot.create_keys_and_certificate(setAsActive=True)
    principal = {"thingName": THING, "principal": certificate["certificateArn"]}
    for things in (
        hook.IotThings(aws.iot),
        FakeThings(certificates={certificate["certificateId"]: "ACTIVE"}, owners={certificate["certificateId"]: THING}),
    ):
        assert things.describe(THING) is None
        assert [things.create(THING, {"colour": colour}) for colour in ("red", "red", "blue")] == [True, True, False]
        seen = things.describe(THING)
        assert (seen["attributes"], seen["version"]) == ({"colour": "red"}, 1)
        assert not things.change(THING, {"colour": "blue"}, 2)
        assert things.describe(THING)["attributes"] == {"colour": "red"}
        assert things.change(THING, {"size": "big"}, 1)
        assert things.describe(THING)["attributes"] == {"colour": "red", "size": "big"}
        aws.iot.attach_thing_principal(**principal)
        assert [things.has(THING, each) for each in (certificate["certificateId"], RIVAL)] == [True, False]
        assert [things.certificate_status(each) for each in (certificate["certificateId"], RIVAL)] == ["ACTIVE", None]


def s3_list(where: str, *serials: str) -> None:
    bucket, key = where.removeprefix("s3://").split("/", 1)
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    if serials:
        s3.put_object(Bucket=bucket, Key=key, Body="\r\n".join(serials).encode())


def dynamodb_list(where: str, *serials: str) -> None:
    if not serials:
        return
    dynamodb, table = boto3.client("dynamodb"), where.removeprefix("dynamodb://")
    serial = [{"AttributeName": "serial", "AttributeType": "S"}]
    dynamodb.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "serial", "KeyType": "HASH"}],
        AttributeDefinitions=serial,
        BillingMode="PAY_PER_REQUEST",
    )
    for serial in serials:
        dynamodb.put_item(TableName=table, Item={"serial": {"S": serial}})


ALLOW_LISTS = pytest.mark.parametrize(
    ("where", "make"), [("s3://bucket/allow-list/serials.txt", s3_list), ("dynamodb://allow-list", dynamodb_list)]
)


@ALLOW_LISTS
def test_lambda_asks_the_allow_list(registry, environment, claim, where, make):
    environment.setenv("ALLOW_LIST", where)
    make(where, "297468FIRST001", LISTED, "297468LAST0001")
    assert answer(request(claimCertificateId=claim))
    assert not answer(request(LISTED[:-1], claimCertificateId=claim))
    assert not answer(request(LISTED + "0", claimCertificateId=claim))


@ALLOW_LISTS
def test_a_missing_allow_list_names_nobody(registry, environment, claim, capsys, where, make):  # noqa: PLR0917 (fixtures)
    environment.setenv("ALLOW_LIST", where)
    make(where)
    assert not answer(request(claimCertificateId=claim))
    assert re.search("there is no list|not on the allow-list", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("code", "reason"), [("NoSuchKey", "there is no list"), ("AccessDenied", "there is no list"), ("SlowDown", None)]
)
def test_s3_says_access_denied_of_a_missing_list_to_whoever_may_not_list_the_bucket(code, reason):
    class S3:
        def get_object(self, **_):
            raise ClientError({"Error": {"Code": code}}, "GetObject")

    with pytest.raises(hook.Unclear if reason else ClientError, match=reason):
        hook.S3AllowList(S3(), "bucket", "serials.txt").names(LISTED)


def test_an_allow_list_too_long_to_be_read_in_time_denies(registry, environment, claim, capsys):
    environment.setenv("ALLOW_LIST", "s3://bucket/serials.txt")
    s3_list("s3://bucket/serials.txt", LISTED, "X" * hook.ALLOW_LIST_LIMIT_BYTES)
    assert not answer(request(claimCertificateId=claim))
    assert "use DynamoDB" in capsys.readouterr().out
