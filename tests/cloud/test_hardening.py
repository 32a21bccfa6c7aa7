"""Each lint turns red for what it is there for and is silent about our own blueprint; in an account the cases are put to AWS IoT itself."""

from dataclasses import replace
from datetime import date, timedelta

import pytest
from botocore.stub import Stubber

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.enrolment.enrolled import PAGE
from fleet_pipeline.cloud.hardening.access_cases import claim_cases, device_cases
from fleet_pipeline.cloud.hardening.authorization import misjudged_by_aws
from fleet_pipeline.cloud.hardening.lints import NOTICE, RUNTIME_ENDS, findings
from fleet_pipeline.cloud.hardening.review import wrongly_judged
from fleet_pipeline.model.fleet import Fleet

FLEET = replace(Fleet(), allow_list="dynamodb")
PARTS = {name: part.resource for name, part in blueprint(FLEET).items()}
TODAY = date(2026, 11, 23)


@pytest.mark.parametrize("part", PARTS)
def test_there_is_nothing_to_say_about_our_own_resources(part):
    assert list(findings(PARTS[part], FLEET, TODAY)) == []


def connect(resource, **more):
    return {"document": {"Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": resource, **more}]}}


def without_condition(trust):
    return {
        "trust": trust
        | {
            "Statement": [
                {key: value for key, value in each.items() if key != "Condition"} for each in trust["Statement"]
            ]
        }
    }


BROKEN = {
    "Connect to everything": ("device_policy", connect("*"), "wide Connect"),
    "Connect as any client": (
        "device_policy",
        connect("arn:aws:iot:eu-central-1:123456789012:client/*"),
        "wide Connect",
    ),
    "Connect as whatever one says": (
        "device_policy",
        connect("arn:aws:iot:eu-central-1:123456789012:client/${iot:ClientId}"),
        "wide Connect",
    ),
    "every action": (
        "claim_policy",
        {"document": {"Statement": {"Effect": "Allow", "Action": "IOT:*", "Resource": "*"}}},
        "wide Connect",
    ),
    "a trust without conditions": ("rule_role", without_condition(PARTS["rule_role"].trust), "no SourceArn"),
    "a permission without an ARN": ("hook_permission", {"source_arn": ""}, "no SourceArn"),
    "a permission without an account": ("hook_permission", {"source_account": ""}, "no SourceArn"),
    "a runtime that has ended": ("hook", {"runtime": "python3.9"}, "runtime near its end"),
    "a hook that may take longer than AWS IoT waits": ("hook", {"timeout_s": 6}, "slow hook"),
    "no errorAction": ("topic_rule_rule1", {"error_action": {}}, "no errorAction"),
    "the SQL of 2015": ("topic_rule_rule1", {"sql_version": "2015-10-08"}, "old SQL version"),
    "a disabled rule": ("topic_rule_rule1", {"disabled": True}, "disabled"),
    "a FROM of another topic": ("topic_rule_rule1", {"sql": "SELECT * FROM 'topic-rule/rule1'"}, "FROM never matches"),
    "a FROM of Basic Ingest": (
        "topic_rule_rule1",
        {"sql": "SELECT * FROM '$aws/rules/test_rule_rule1/test-rule/rule1'"},
        "FROM never matches",
    ),
    "an unversioned bucket": ("bucket", {"versioned": False}, "unversioned"),
    "a bucket in clear": ("bucket", {"encryption": "none"}, "unencrypted"),
    "a bucket open to the public": ("lake_bucket", {"public_access_blocked": False}, "open to the public"),
    "a bucket over plain HTTP": ("bucket", {"policy": {}}, "no TLS"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_broken_on_purpose_is_found_with_its_reason_and_its_remedy(broken):
    part, changed, what = BROKEN[broken]
    found = list(findings(replace(PARTS[part], **changed), FLEET, TODAY))
    assert [each.what for each in found] == [what]
    assert found[0].why
    assert found[0].fix


HARMLESS = {
    "a FROM with wildcards": ("topic_rule_rule1", {"sql": "SELECT * FROM '+/#'"}),
    "Connect as one's own thing by its id": (
        "device_policy",
        connect(
            "arn:aws:iot:eu-central-1:123456789012:client/${iot:ClientId}",
            Condition={"Bool": {"iot:Connection.Thing.IsAttached": "true"}},
        ),
    ),
}


@pytest.mark.parametrize("harmless", HARMLESS)
def test_what_is_unusual_and_sound_is_not_found(harmless):
    part, changed = HARMLESS[harmless]
    assert list(findings(replace(PARTS[part], **changed), FLEET, TODAY)) == []


@pytest.mark.parametrize("runtime", RUNTIME_ENDS)
def test_a_runtime_is_reported_half_a_year_before_its_end(runtime):
    hook = replace(PARTS["hook"], runtime=runtime)
    assert list(findings(hook, FLEET, RUNTIME_ENDS[runtime] - NOTICE)) == []
    assert list(findings(hook, FLEET, RUNTIME_ENDS[runtime] - NOTICE + timedelta(days=1)))


CERTIFICATE = f"arn:aws:iot:eu-central-1:123456789012:cert/{'a' * 64}"
TYPES = {"CONNECT": "iot:Connect", "PUBLISH": "iot:Publish", "RECEIVE": "iot:Receive", "SUBSCRIBE": "iot:Subscribe"}


class Judge:
    """AWS IoT's answer to TestAuthorization, by the cases themselves, wrong about those that are named."""

    def __init__(self, cases, wrong=()):
        self.cases, self.wrong = cases, wrong

    def answers(self, stub):
        """Expect the calls, a client and at most ten cases each; botocore checks both sides against its model."""
        for client in dict.fromkeys(case.connection.client_id for case in self.cases):
            its = [case for case in self.cases if case.connection.client_id == client]
            for first in range(0, len(its), 10):
                self._expect(stub, client, its[first : first + 10])

    def _expect(self, stub, client, cases):
        kind = {action: name for name, action in TYPES.items()}
        infos = [{"actionType": kind[case.action], "resources": [FLEET.arn("iot", case.resource)]} for case in cases]
        results = [
            {
                "authInfo": info,
                "authDecision": "ALLOWED" if case.legitimate != (case.title in self.wrong) else "IMPLICIT_DENY",
            }
            for case, info in zip(cases, infos, strict=True)
        ]
        stub.add_response(
            "test_authorization",
            {"authResults": results},
            {"principal": CERTIFICATE, "clientId": client, "authInfos": infos},
        )


@pytest.fixture
def account(monkeypatch):
    """Clients of an account that never leave this process: whatever is not expected is an error."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    aws = Aws(FLEET.region, FLEET.account)
    with Stubber(aws.iot) as stub:
        yield aws, stub
        stub.assert_no_pending_responses()


def askable(cases, *, of_a_thing):
    return [case for case in cases if case.action in TYPES.values() and (case.connection.thing or not of_a_thing)]


@pytest.mark.parametrize("wrong", [(), ("connects as another vehicle",), ("publishes to rule1", "hears everything")])
def test_in_an_account_a_vehicles_cases_are_put_to_aws_iot_by_ten_for_its_own_thing(account, wrong):
    aws, stub = account
    cases = askable(device_cases(FLEET, "297468000001"), of_a_thing=True)
    stub.add_response(
        "list_targets_for_policy",
        {"targets": [CERTIFICATE]},
        {"policyName": FLEET.device_policy_name, "pageSize": PAGE},
    )
    stub.add_response("list_principal_things", {"things": ["test-thing-297468000001"]}, {"principal": CERTIFICATE})
    Judge(cases, wrong).answers(stub)
    assert {case.title for case in misjudged_by_aws(FLEET, aws, FLEET.device_policy_name)} == set(wrong)


def test_in_an_account_the_claim_certificates_cases_are_put_to_aws_iot(account):
    aws, stub = account
    cases = askable(claim_cases(FLEET), of_a_thing=False)
    stub.add_response(
        "list_targets_for_policy", {"targets": [CERTIFICATE]}, {"policyName": FLEET.claim_policy_name, "pageSize": PAGE}
    )
    Judge(cases, ("publishes messages",)).answers(stub)
    assert [case.title for case in misjudged_by_aws(FLEET, aws, FLEET.claim_policy_name)] == ["publishes messages"]


def test_without_a_certificate_there_is_nobody_to_ask_about(account):
    aws, stub = account
    stub.add_response(
        "list_targets_for_policy", {"targets": []}, {"policyName": FLEET.device_policy_name, "pageSize": PAGE}
    )
    assert misjudged_by_aws(FLEET, aws, FLEET.device_policy_name) is None


def test_aws_iot_is_asked_in_an_account_only_and_believed_over_our_own_evaluation(account):
    aws, stub = account
    policy = PARTS["claim_policy"]
    assert wrongly_judged(FLEET, aws, policy) == []
    stub.add_response(
        "list_targets_for_policy", {"targets": [CERTIFICATE]}, {"policyName": policy.name, "pageSize": PAGE}
    )
    Judge(askable(claim_cases(FLEET), of_a_thing=False), ("publishes messages",)).answers(stub)
    assert [each.what for each in wrongly_judged(replace(FLEET, profile="aws"), aws, policy)] == ["allows an attack"]


def test_a_policy_that_cannot_be_judged_is_a_finding(account):
    aws, _ = account
    odd = replace(
        PARTS["claim_policy"],
        document={"Statement": [{"Effect": "Allow", "NotAction": "iot:Connect", "Resource": "*"}]},
    )
    assert [each.what for each in wrongly_judged(FLEET, aws, odd)] == ["cannot be judged"]
