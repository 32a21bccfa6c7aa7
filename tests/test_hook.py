"""The pre-provisioning hook: as a pure decision, as Lambda runs it, and against the services that it asks."""

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import boto3
import lambda_function as hook
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from moto import mock_aws

LISTED = "297468LISTED01"
THING = f"test-thing-{LISTED}"
TEMPLATE = "arn:aws:iot:eu-central-1:123456789012:provisioningtemplate/cdk-test-dev-provision-template"
EXPECTED = hook.Expected("297468", "test-thing-", TEMPLATE)
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIDWTCCAkGgAwIBAgIUW\n-----END CERTIFICATE-----\n"
CLAIM = "c" * 64
ANSWER_WITHIN_S = 5.0
"""AWS IoT waits no longer."""


def request(serial: object = LISTED, **changed: object) -> dict[str, Any]:
    event = {
        "claimCertificateId": CLAIM,
        "certificateId": "d" * 64,
        "certificatePem": CERTIFICATE,
        "templateArn": TEMPLATE,
        "clientId": "claim-1",
        "parameters": {"SerialNumber": serial},
    }
    return event | changed


@dataclass
class FakeThings:
    """A registry in a dictionary: the attributes of each thing; the version counts the changes."""

    things: dict[str, dict[str, str]] = field(default_factory=dict)
    version: int = 1
    claims: dict[str, str] = field(default_factory=dict)

    def claim_status(self, certificate_id: str) -> str | None:
        return self.claims.get(certificate_id)

    def describe(self, thing_name: str) -> dict[str, Any] | None:
        attributes = self.things.get(thing_name)
        return None if attributes is None else {"thingName": thing_name, "attributes": dict(attributes), "version": self.version}

    def use_replacement(self, thing_name: str, version: int) -> bool:
        if version != self.version:
            return False
        del self.things[thing_name][hook.REPLACEMENT]
        self.version += 1
        return True


@dataclass
class FakeAllowList:
    serials: frozenset[str]

    def names(self, serial: str) -> bool:
        return serial in self.serials


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
    "an unknown parameter besides": request(parameters={"SerialNumber": LISTED, "AWS::IoT::Certificate::Id": "0"}),
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


@pytest.mark.parametrize(("status", "allowed"), [("ACTIVE", True), ("INACTIVE", False), ("REVOKED", False), ("PENDING_TRANSFER", False)])
def test_a_claim_certificate_that_does_not_work_registers_nothing(status, allowed):
    assert hook.decide(request(), EXPECTED, FakeThings(claims={CLAIM: status}), Everyone()).allowed == allowed


def test_a_claim_certificate_that_no_list_names_is_a_temporary_one_and_is_allowed():
    assert hook.decide(request(), EXPECTED, FakeThings(claims={"d" * 64: "REVOKED"}), None).allowed


def test_a_thing_that_exists_is_not_taken_over():
    assert not hook.decide(request(), EXPECTED, FakeThings({THING: {}}), Everyone()).allowed


@pytest.mark.parametrize("value", ["", "Allowed", "denied", "true"])
def test_only_the_word_allowed_lets_a_thing_be_given_a_new_certificate(value):
    assert not hook.decide(request(), EXPECTED, FakeThings({THING: {hook.REPLACEMENT: value}}), None).allowed


def test_a_replacement_that_was_allowed_is_used_up_by_the_first_request():
    things = FakeThings({THING: {hook.REPLACEMENT: "allowed"}})
    assert [hook.decide(request(), EXPECTED, things, None).allowed for _ in range(2)] == [True, False]


def test_of_two_replacements_at_once_one_is_denied():
    things = FakeThings({THING: {hook.REPLACEMENT: "allowed"}})

    class Rival(FakeThings):
        """Sees the thing, and is overtaken by another request before it takes the permission."""

        def describe(self, thing_name: str) -> dict[str, Any] | None:
            seen = things.describe(thing_name)
            assert hook.decide(request(), EXPECTED, things, None).allowed
            return seen

        def use_replacement(self, thing_name: str, version: int) -> bool:
            return things.use_replacement(thing_name, version)

    assert not hook.decide(request(), EXPECTED, Rival(), None).allowed


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
near_serials = st.one_of(st.just(LISTED), st.from_regex(r"297468[0-9A-Z]{6,26}\n?", fullmatch=True), st.text(), json_values)
near_parameters = st.fixed_dictionaries({"SerialNumber": near_serials}, optional={"Color": st.text()})
near_events = st.fixed_dictionaries(
    {"parameters": near_parameters, "templateArn": st.sampled_from([TEMPLATE, TEMPLATE[:-1]])},
    optional={"clientId": json_values, "claimCertificateId": st.just(CLAIM) | json_values},
)
events = st.one_of(near_events, json_values)


@given(events)
@settings(deadline=None, max_examples=1000)
def test_nothing_but_the_listed_serial_through_our_template_is_ever_allowed(event):
    decision = hook.decide(event, EXPECTED, FakeThings(), FakeAllowList(frozenset({LISTED})))
    asked = {"parameters": {"SerialNumber": LISTED}, "templateArn": TEMPLATE, "claimCertificateId": CLAIM}
    assert decision.allowed == (isinstance(event, dict) and {name: event.get(name) for name in asked} == asked)


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
    with mock_aws():
        yield boto3.client("iot")


def answer(event: object) -> bool:
    answered = hook.lambda_handler(event, None)
    yes = {"allowProvisioning": True, "parameterOverrides": {"ClaimCertificateId": CLAIM}}
    assert answered in (yes, {"allowProvisioning": False})
    return answered["allowProvisioning"]


def test_lambda_answers_yes_once_and_no_when_the_thing_exists(registry):
    assert answer(request())
    registry.create_thing(thingName=THING)
    assert not answer(request())


def test_lambda_asks_whether_the_claim_certificate_works(registry, capsys):
    claim = registry.create_keys_and_certificate(setAsActive=False)["certificateId"]
    assert hook.lambda_handler(request(claimCertificateId=claim), None) == {"allowProvisioning": False}
    assert "the claim certificate is not active" in capsys.readouterr().out


def test_lambda_takes_the_permission_to_replace_back(registry):
    registry.create_thing(thingName=THING, attributePayload={"attributes": {hook.REPLACEMENT: "allowed", "colour": "red"}})
    assert [answer(request()) for _ in range(2)] == [True, False]
    assert registry.describe_thing(thingName=THING)["attributes"] == {"colour": "red"}


def test_lambda_denies_what_is_hostile_in_one_line_of_log_each(registry, capsys):
    hostile = [*HOSTILE_EVENTS.values(), *(request(serial) for serial in HOSTILE_SERIALS.values())]
    assert not any(answer(event) for event in hostile)
    assert len(capsys.readouterr().out.splitlines()) == len(hostile)


@given(event=events)
@example(request("297468" + "A" * 100_000, clientId="\0" * 100_000))
@settings(deadline=None)
def test_lambda_logs_one_short_line_of_json_for_any_request(event):
    line = hook.log_line(event, hook.Decision(allowed=False, reason="no"))
    assert json.loads(line)["allowed"] is False
    assert len(line.splitlines()) == 1
    assert len(line) < 4000


def test_lambda_logs_serial_and_reason_and_no_certificate(registry, capsys):
    answer(request())
    log = capsys.readouterr().out
    assert LISTED in log
    assert "a new vehicle" in log
    assert "CERTIFICATE" not in log
    assert "MIIDWTCC" not in log


@pytest.mark.parametrize("missing", ["SERIAL_PREFIX", "THING_PREFIX", "TEMPLATE_ARN"])
def test_lambda_denies_and_says_so_when_a_setting_is_missing(registry, environment, capsys, missing):
    environment.delenv(missing)
    assert not answer(request())
    assert missing in capsys.readouterr().out


@pytest.mark.parametrize("where", ["ftp://elsewhere", "s3://bucket-without-key", "s3://no-such-bucket/serials.txt", "nonsense"])
def test_lambda_denies_when_the_allow_list_cannot_be_read(registry, environment, where):
    environment.setenv("ALLOW_LIST", where)
    assert not answer(request())


def test_lambda_denies_in_time_when_aws_does_not_answer(environment):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        assert not answer(request())
        assert time.monotonic() - started < ANSWER_WITHIN_S


def test_lambda_denies_when_aws_cannot_be_reached(environment):
    environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert not answer(request())


def test_the_registry_and_its_fake_answer_alike(aws):
    attributes = {hook.REPLACEMENT: "allowed"}
    aws.iot.create_thing(thingName=THING, attributePayload={"attributes": attributes})
    for things in (hook.IotThings(aws.iot), FakeThings({THING: attributes})):
        assert things.describe("test-thing-another") is None
        seen = things.describe(THING)
        assert (seen["attributes"], seen["version"]) == (attributes, 1)
        assert not things.use_replacement(THING, 2)
        assert things.describe(THING)["attributes"] == attributes
        assert things.use_replacement(THING, 1)
        assert things.describe(THING)["attributes"] == {}


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
        TableName=table, KeySchema=[{"AttributeName": "serial", "KeyType": "HASH"}], AttributeDefinitions=serial, BillingMode="PAY_PER_REQUEST"
    )
    for serial in serials:
        dynamodb.put_item(TableName=table, Item={"serial": {"S": serial}})


ALLOW_LISTS = pytest.mark.parametrize(("where", "make"), [("s3://bucket/allow-list/serials.txt", s3_list), ("dynamodb://allow-list", dynamodb_list)])


@ALLOW_LISTS
def test_lambda_asks_the_allow_list(registry, environment, where, make):
    environment.setenv("ALLOW_LIST", where)
    make(where, "297468FIRST001", LISTED, "297468LAST0001")
    assert answer(request())
    assert not answer(request(LISTED[:-1]))
    assert not answer(request(LISTED + "0"))


@ALLOW_LISTS
def test_a_missing_allow_list_names_nobody(registry, environment, capsys, where, make):
    environment.setenv("ALLOW_LIST", where)
    make(where)
    assert not answer(request())
    assert "not on the allow-list" in capsys.readouterr().out


def test_an_allow_list_too_long_to_be_read_in_time_denies(registry, environment, capsys):
    environment.setenv("ALLOW_LIST", "s3://bucket/serials.txt")
    s3_list("s3://bucket/serials.txt", LISTED, "X" * hook.ALLOW_LIST_LIMIT_BYTES)
    assert not answer(request())
    assert "use DynamoDB" in capsys.readouterr().out
