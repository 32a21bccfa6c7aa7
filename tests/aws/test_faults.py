"""A whole `fleet apply` through a proxy that throttles, refuses what has not spread yet, and loses answers: it always ends right."""

import pytest
from aws_proxy import LOST, Call, Refusal, proxy

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.claims.certificates import read_claim
from fleet_pipeline.cloud.lock import KEY, Lock
from fleet_pipeline.cloud.operations.apply import apply_all, plan_all
from fleet_pipeline.cloud.reconcile import Action

THROTTLED = {
    "iam": Refusal("Throttling", "Rate exceeded"),
    "iot": Refusal("ThrottlingException", "Rate exceeded"),
    "lambda": Refusal("TooManyRequestsException", "Rate exceeded", 429),
    "s3": Refusal("SlowDown", "Please reduce your request rate.", 503),
}

SPREADING = {
    "POST /2015-03-31/functions": Refusal(
        "InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda."
    ),
    "POST /provisioning-templates": Refusal(
        "InvalidRequestException", "The provisioning role cannot be assumed by AWS IoT"
    ),
    "POST /rules/": Refusal(
        "InvalidRequestException",
        "AWS IoT (iot.amazonaws.com) is unable to assume role (sts:AssumeRole) on resource: the role",
    ),
}
"""What AWS refuses for some seconds after a role was made: the beginning of the call, and its words."""


class Once:
    """Trouble for every n-th call of those that are meant, the first time that it is made."""

    def __init__(self, trouble, *, nth=1, writing=True):
        self.trouble, self.nth, self.writing, self.had = trouble, nth, writing, set()

    def __call__(self, call):
        if call.name in self.had or (self.writing and not call.writing):
            return None
        self.had.add(call.name)
        return self.trouble(call) if len(self.had) % self.nth == 0 else None


def throttled(call):
    return THROTTLED[call.service]


def lost(_):
    return LOST


def spreading(call):
    return next((refusal for beginning, refusal in SPREADING.items() if call.name.startswith(beginning)), None)


TROUBLES = {
    "every third writing call is throttled": Once(throttled, nth=3),
    "every writing call's answer is lost once": Once(lost),
    "roles spread slowly": Once(spreading),
    "every fifth call's answer is lost": Once(lost, nth=5, writing=False),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_an_apply_ends_right_although(fleet, local_aws, trouble):
    with proxy(local_aws.url, TROUBLES[trouble]) as between:
        aws = Aws(fleet.region, fleet.account, between.url)
        with Lock(aws, fleet.bucket, "ann") as lock:
            steps = list(apply_all(fleet, aws, lock, sleep=lambda _: None))
    assert len(between.troubles) > 4
    assert {step.action for step in steps} == {Action.CREATE}
    assert_whole(fleet, Aws(fleet.region, fleet.account, local_aws.url))


def assert_whole(fleet, aws):
    assert {step.action for step in plan_all(fleet, aws)} == {Action.UNCHANGED}
    assert [each["status"] for each in aws.iot.list_certificates()["certificates"]] == ["ACTIVE"]
    assert read_claim(fleet, aws).private_key
    assert "Versions" not in aws.s3.list_object_versions(Bucket=fleet.bucket, Prefix=KEY)


def test_the_proxy_tells_what_writes_from_what_reads():
    assert Call("POST", "/", b"Action=CreateRole&RoleName=x").writing
    assert not Call("POST", "/", b"Action=GetRole&RoleName=x").writing
    assert not Call("GET", "/policies/x", b"").writing
    assert [
        Call("PUT", path, b"").service
        for path in ("/fleet-1/key", "/keys-and-certificate", "/2015-03-31/functions/f/policy")
    ] == ["s3", "iot", "lambda"]
