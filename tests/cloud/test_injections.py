"""A fleet's whole life on an AWS that is slow, stale, busy or terse: each command ends right in one run, and the plan afterwards finds nothing to do."""

from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import cycle

import pytest
from another_team import snapshot
from aws_calls import stale
from aws_proxy import Refusal, proxy
from botocore.awsrequest import AWSResponse

from fleet_pipeline.account import Account
from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.claims import life
from fleet_pipeline.cloud.claims.certificates import read_claim
from fleet_pipeline.cloud.hardening.review import reviewed
from fleet_pipeline.cloud.lock import KEY, Lock
from fleet_pipeline.cloud.operations.adopt import adopt
from fleet_pipeline.cloud.operations.apply import apply_all, plan_all
from fleet_pipeline.cloud.operations.destroy import destroy
from fleet_pipeline.cloud.reconcile import Action
from fleet_pipeline.virtual_vehicle import tried

SERVERS_ERRORS = [
    Refusal("ServiceException", "not now", 500),
    Refusal("InternalServiceException", "not now", 500),
    Refusal("InternalFailure", "not now", 500),
    Refusal("InternalFailureException", "not now", 500),
    Refusal("500", "not now", 500),
    Refusal("503", "not now", 503),
    Refusal("ServiceUnavailable", "not now", 503),
    Refusal("ServiceUnavailableException", "not now", 503),
    Refusal("", "", 502),
]
TOO_MANY = [
    Refusal("Throttling", "Rate exceeded"),
    Refusal("ThrottlingException", "Rate exceeded"),
    Refusal("TooManyRequestsException", "Rate exceeded", 429),
    Refusal("TooManyRequests", "Rate exceeded", 429),
    Refusal("LimitExceededException", "Rate exceeded"),
    Refusal("RequestLimitExceeded", "Rate exceeded"),
    Refusal("SlowDown", "Rate exceeded", 503),
]
ANOTHER_CHANGE = [
    Refusal("ConflictException", "another change is being made", 409),
    Refusal("ConcurrentModification", "another change is being made", 409),
    Refusal("ConcurrentModificationException", "another change is being made", 409),
    Refusal("ConflictingResourceUpdateException", "another change is being made", 409),
    Refusal("ResourceConflictException", "another change is being made", 409),
    Refusal("OperationAborted", "another change is being made", 409),
]


S3_SAYS = {409: "OperationAborted", 429: "SlowDown", 400: "SlowDown"}
"""S3 has one code for each, where other services have many: its own client knows these and no others."""


@dataclass
class OnceEach:
    """Every n-th call, the first time that it is made, is refused, in one spelling after the other; by S3 in its own."""

    refusals: list[Refusal]
    nth: int
    writing_only: bool = False
    had: set[str] = field(default_factory=set)

    def __post_init__(self):
        self.turns = cycle(self.refusals)

    def __call__(self, call):
        if call.name in self.had or (self.writing_only and not call.writing):
            return None
        self.had.add(call.name)
        if len(self.had) % self.nth:
            return None
        turn = next(self.turns)
        if call.service == "s3" and turn.status in S3_SAYS:
            return Refusal(S3_SAYS[turn.status], turn.message, 409 if turn.status == HTTPStatus.CONFLICT else 503)
        return turn


NAMES = ("policyName", "templateName", "ruleName", "RoleName", "FunctionName", "Bucket", "certificateId")
MISSING = {"iam": "NoSuchEntity", "s3": "NoSuchBucket"}


@dataclass
class NotYetThere:
    """What was made a moment ago is not found, the first time that it is asked for by name."""

    made: set[tuple[str, str]] = field(default_factory=set)
    denied: int = 0

    def note(self, parsed, model, **_):
        service = model.service_model.service_id.hyphenize()
        names = {*self.asked, parsed.get("certificateId", "")} - {""}
        if model.name.startswith("Create") and "Error" not in parsed:
            self.made |= {(service, each) for each in names}

    def remember(self, params, **_):
        self.asked = {str(params[name]) for name in NAMES if isinstance(params, dict) and name in params}

    def answer(self, model, **_):
        service = model.service_model.service_id.hyphenize()
        hit = {(service, each) for each in self.asked} & self.made
        if not hit or not model.name.startswith(("Get", "Describe", "Head")):
            return None
        self.made -= hit
        self.denied += 1
        code = "404" if model.name.startswith("Head") else MISSING.get(service, "ResourceNotFoundException")
        return AWSResponse("", 404, {}, None), {
            "Error": {"Code": code, "Message": "not yet"},
            "ResponseMetadata": {"HTTPStatusCode": 404},
        }


def clients(aws):
    return [aws.iot, aws.iam, aws.functions, aws.s3, aws.dynamodb, aws.logs]


@contextmanager
def refusing(local_aws, fleet, trouble):
    with proxy(local_aws.url, trouble) as between:
        yield Aws(fleet.region, fleet.account, between.url)
        assert len(between.troubles) > 10


@contextmanager
def not_yet_there(local_aws, fleet):
    aws, late = Aws(fleet.region, fleet.account, local_aws.url), NotYetThere()
    for client in clients(aws):
        client.meta.events.register("provide-client-params", late.remember)
        client.meta.events.register("before-call", late.answer)
        client.meta.events.register("after-call", late.note)
    yield aws
    assert late.denied > 10


LISTINGS = {
    "ListTargetsForPolicy": ("targets", str),
    "ListThingPrincipals": ("principals", str),
    "ListPrincipalThings": ("things", str),
    "ListCertificates": ("certificates", lambda each: each["certificateId"]),
    "ListTopicRules": ("rules", lambda each: each["ruleName"]),
    "ListThings": ("things", lambda each: each["thingName"]),
}


@contextmanager
def stale_listings(local_aws, fleet):
    """What was deleted is listed for good."""
    aws = Aws(fleet.region, fleet.account, local_aws.url)
    for operation, (listed, key) in LISTINGS.items():
        stale(aws.iot, operation, listed, key)
    yield aws


@contextmanager
def late_listings(local_aws, fleet):
    """What was made is listed from the second time on."""
    aws, seen = Aws(fleet.region, fleet.account, local_aws.url), {}

    def hide(listed, key):
        def late(parsed, **_):
            for each in parsed.get(listed, []):
                seen[listed, key(each)] = seen.get((listed, key(each)), 0) + 1
            parsed[listed] = [each for each in parsed.get(listed, []) if seen[listed, key(each)] > 1]

        return late

    for operation, (listed, key) in LISTINGS.items():
        if operation != "ListThings":  # its only reader, a teardown, looks for what an earlier one left
            aws.iot.meta.events.register(f"after-call.iot.{operation}", hide(listed, key))
    yield aws


def without_the_empty(node):
    """Leave out the lists and maps that are empty, at every depth."""
    if isinstance(node, dict):
        return {name: without_the_empty(each) for name, each in node.items() if each not in ([], {}, None)}
    return [without_the_empty(each) for each in node] if isinstance(node, list) else node


@contextmanager
def terse(local_aws, fleet):
    """No answer has a list or a map that is empty, nor an empty text beside them."""
    aws = Aws(fleet.region, fleet.account, local_aws.url)

    def shorten(parsed, **_):
        if "Error" not in parsed:
            kept = without_the_empty(
                {name: each for name, each in parsed.items() if name != "ResponseMetadata" and each != ""}
            )
            for name in parsed.keys() - kept.keys() - {"ResponseMetadata"}:
                del parsed[name]
            parsed.update(kept)

    for client in clients(aws):
        client.meta.events.register_first("after-call", shorten)
    yield aws


WEATHER = {
    "a server's errors, of every spelling": lambda *of: refusing(*of, OnceEach(SERVERS_ERRORS, nth=5)),
    "too many calls, by every name": lambda *of: refusing(*of, OnceEach(TOO_MANY, nth=9)),
    "another change, by every name": lambda *of: refusing(*of, OnceEach(ANOTHER_CHANGE, nth=1, writing_only=True)),
    "what was just made is not found yet": not_yet_there,
    "listings still show what was deleted": stale_listings,
    "listings do not show yet what was made": late_listings,
    "no answer has an empty member": terse,
}
"""What is injected in front of AWS on this machine. Pages of one are in test_pages, lost answers and roles that spread slowly in test_faults, kills in test_crashes."""


def no_sleep(_seconds):
    """AWS's delays are counted in calls here."""


def locked(aws, fleet, action):
    with Lock(aws, fleet.bucket, "ann") as lock:
        return action(fleet, aws, lock)


def registered(aws, fleet):
    """A vehicle as RegisterThing would have made it."""
    made = aws.iot.create_keys_and_certificate(setAsActive=True)["certificateArn"]
    aws.iot.create_thing(thingName=f"{fleet.thing_prefix}297468000001")
    aws.iot.attach_thing_principal(thingName=f"{fleet.thing_prefix}297468000001", principal=made)
    aws.iot.attach_policy(policyName=fleet.device_policy_name, target=made)


def working(aws):
    return [each["certificateId"] for each in aws.iot.list_certificates()["certificates"] if each["status"] == "ACTIVE"]


@pytest.mark.parametrize("weather", WEATHER)
def test_every_command_ends_right_in_one_run_whatever_aws_is_like(make_fleet, local_aws, weather):
    fleet = make_fleet(rule_keys=("rule1",))
    plain = Aws(fleet.region, fleet.account, local_aws.url)
    with WEATHER[weather](local_aws, fleet) as aws:
        assert {step.action for step in plan_all(fleet, aws)} == {Action.CREATE}
        locked(aws, fleet, lambda *of: list(apply_all(*of, sleep=no_sleep)))
        assert {step.action for step in plan_all(fleet, plain)} == {Action.UNCHANGED}
        assert locked(aws, fleet, adopt) == []

        first = working(plain)
        given_out = life.rotate(fleet, aws, sleep=no_sleep)
        assert sorted(working(plain)) == sorted([*first, given_out])
        assert life.retire(fleet, aws, sleep=no_sleep) == first
        assert working(plain) == [given_out]
        assert read_claim(fleet, plain).private_key
        assert {step.action for step in plan_all(fleet, plain)} == {Action.UNCHANGED}

        assert reviewed(fleet, aws, datetime.now(UTC).date()) == []
        account = Account.of(fleet)
        account.__dict__["aws"] = aws
        assert [each for each in tried(fleet, account) if not each.so] == []

        registered(plain, fleet)
        list(destroy(fleet, aws, confirmed=fleet.bucket, with_data=True, sleep=no_sleep))
    left = snapshot(plain)
    assert [each for each, found in left.items() if found[0] != "PENDING_ACTIVATION"] == []


def test_a_bucket_that_cannot_be_born_with_tags_is_tagged_by_the_run_that_makes_it(make_fleet, local_aws):
    fleet = make_fleet(rule_keys=("rule1",))
    with proxy(
        local_aws.url,
        lambda call: Refusal("UnsupportedArgument", "Tags are not supported") if b"<Tags>" in call.body else None,
    ) as between:
        aws = Aws(fleet.region, fleet.account, between.url)
        locked(aws, fleet, lambda *of: list(apply_all(*of)))
        assert {step.action for step in plan_all(fleet, aws)} == {Action.UNCHANGED}
        assert "Versions" not in aws.s3.list_object_versions(Bucket=fleet.bucket, Prefix=KEY)
    assert between.troubles


def test_a_bucket_that_was_born_without_the_tags_that_it_asked_for_is_tagged_by_the_run_that_makes_it(
    make_fleet, local_aws
):
    """moto's server, as any store that does not know them, leaves the tags out without a word."""
    fleet = make_fleet(rule_keys=("rule1",))
    aws = Aws(fleet.region, fleet.account, local_aws.url)

    def without_tags(params, **_):
        params["CreateBucketConfiguration"].pop("Tags")

    aws.s3.meta.events.register("before-parameter-build.s3.CreateBucket", without_tags)
    locked(aws, fleet, lambda *of: list(apply_all(*of)))
    assert {step.action for step in plan_all(fleet, aws)} == {Action.UNCHANGED}
