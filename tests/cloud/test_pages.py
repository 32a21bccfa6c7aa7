"""Listings of AWS that give one item a page: what is planned, found and deleted is the same."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from aws_calls import watch

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.blueprint import blueprint, resources
from fleet_pipeline.cloud.claims import life
from fleet_pipeline.cloud.claims.certificates import Claims, held
from fleet_pipeline.cloud.operations.apply import plan_all
from fleet_pipeline.cloud.operations.destroy import destroy, losses
from fleet_pipeline.cloud.operations.foreign import findings
from fleet_pipeline.cloud.operations.rollback import versions
from fleet_pipeline.cloud.reconcile import Action, reconcile

LISTINGS = {
    "iot": {
        "ListAttachedPolicies": ("policies", "marker", "nextMarker"),
        "ListCACertificates": ("certificates", "marker", "nextMarker"),
        "ListCertificates": ("certificates", "marker", "nextMarker"),
        "ListPrincipalThings": ("things", "nextToken", "nextToken"),
        "ListProvisioningTemplateVersions": ("versions", "nextToken", "nextToken"),
        "ListTagsForResource": ("tags", "nextToken", "nextToken"),
        "ListTargetsForPolicy": ("targets", "marker", "nextMarker"),
        "ListThingPrincipals": ("principals", "nextToken", "nextToken"),
        "ListThings": ("things", "nextToken", "nextToken"),
        "ListTopicRules": ("rules", "nextToken", "nextToken"),
    },
    "iam": {
        "ListAttachedRolePolicies": ("AttachedPolicies", "Marker", "Marker"),
        "ListRolePolicies": ("PolicyNames", "Marker", "Marker"),
        "ListRoleTags": ("Tags", "Marker", "Marker"),
    },
    "dynamodb": {"ListTagsOfResource": ("Tags", "NextToken", "NextToken")},
    "cloudwatch-logs": {
        "DescribeLogGroups": ("logGroups", "nextToken", "nextToken"),
        "DescribeLogStreams": ("logStreams", "nextToken", "nextToken"),
    },
}
"""Every listing that AWS may cut into pages and this package reads, beside those of S3: the items, the parameter and the member that go on. (ListPolicyVersions has no pages.)"""


SOURCES = sorted((Path(__file__).parents[2] / "fleet_pipeline").rglob("*.py"))


def _snake(operation):
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation.replace("CAC", "CaC")).lower()


class OnePerPage:
    """Cuts the answer of a listing into pages of one, by the token that the caller hands back."""

    def __init__(self, items, asked, told):
        self.items, self.asked, self.told, self.place = items, asked, told, 0

    def ask(self, params, **_):
        self.place = int(params.pop(self.asked, None) or 0)

    def cut(self, parsed, **_):
        whole = parsed.get(self.items, [])
        parsed[self.items] = whole[self.place : self.place + 1]
        if self.place + 1 < len(whole):
            parsed.update({self.told: str(self.place + 1)} | ({"IsTruncated": True} if self.told == "Marker" else {}))


def one_per_page(aws):
    """Let every listing of these clients have pages of one."""
    clients = {
        client.meta.service_model.service_id.hyphenize(): client
        for client in (aws.iot, aws.iam, aws.dynamodb, aws.logs)
    }
    for service, operations in LISTINGS.items():
        for operation, names in operations.items():
            pages = OnePerPage(*names)
            clients[service].meta.events.register(f"provide-client-params.{service}.{operation}", pages.ask)
            clients[service].meta.events.register(f"after-call.{service}.{operation}", pages.cut)
    for operation in ("ListObjectVersions", "ListObjectsV2"):
        aws.s3.meta.events.register(
            f"provide-client-params.s3.{operation}", lambda params, **_: params.update(MaxKeys=1)
        )
    aws.dynamodb.meta.events.register("provide-client-params.dynamodb.Scan", lambda params, **_: params.update(Limit=1))
    return aws


@pytest.fixture(scope="module")
def fleet(make_fleet):
    return make_fleet(rule_keys=("rule1", "rule2"), allow_list="dynamodb")


@pytest.fixture(scope="module")
def new_aws(fleet, local_aws):
    return lambda: Aws(fleet.region, fleet.account, local_aws.url)


@pytest.fixture(scope="module")
def lived_in(fleet, new_aws):
    """A fleet with two claim certificates, two vehicles of which one has two certificates, serials, messages, versions and foreign things beside it."""
    aws = new_aws()
    for resource in resources(blueprint(fleet)):
        reconcile(resource, aws)
    life.rotate(fleet, aws)
    for thing in ("test-thing-1", "test-thing-2"):
        aws.iot.create_thing(thingName=thing)
        for _ in thing[-1:] if thing[-1] == "1" else "12":
            made = aws.iot.create_keys_and_certificate(setAsActive=True)["certificateArn"]
            aws.iot.attach_thing_principal(thingName=thing, principal=made)
            aws.iot.attach_policy(policyName=fleet.device_policy_name, target=made)
    for serial in "123":
        aws.dynamodb.put_item(TableName=fleet.allow_list_table, Item={"serial": {"S": serial}})
        aws.s3.put_object(Bucket=fleet.bucket, Key=f"test-rule/rule1/179544240012{serial}", Body=b"{}")
        aws.logs.create_log_group(logGroupName=f"/aws/lambda/{fleet.hook_name}-{serial}")
    aws.logs.create_log_group(logGroupName=f"/aws/lambda/{fleet.hook_name}")
    aws.iot.create_policy(policyName="another", policyDocument='{"Version":"2012-10-17","Statement":[]}')
    aws.iot.attach_policy(
        policyName="another", target=Claims.of(fleet).arn(held(Claims.of(fleet), aws)[0].certificate_id)
    )
    template = blueprint(fleet)["provisioning_template"].resource
    reconcile(
        replace(
            template, body=template.body | {"Parameters": template.body["Parameters"] | {"Another": {"Type": "String"}}}
        ),
        aws,
    )
    reconcile(template, aws)
    return fleet


SEEN = {
    "the plan": lambda fleet, aws: [(step.title, step.action, step.changes) for step in plan_all(fleet, aws)],
    "the findings": lambda fleet, aws: [str(each) for each in findings(fleet, aws)],
    "the losses": lambda fleet, aws: losses(fleet, aws, with_data=True),
    "the claim certificates": lambda fleet, aws: held(Claims.of(fleet), aws),
    "the versions of the policy": lambda fleet, aws: versions(blueprint(fleet)["device_policy"].resource, aws),
    "the versions of the template": lambda fleet, aws: versions(
        blueprint(fleet)["provisioning_template"].resource, aws
    ),
}


@pytest.mark.parametrize("what", SEEN)
def test_what_is_seen_does_not_depend_on_the_length_of_a_page(lived_in, new_aws, what):
    seen = SEEN[what](lived_in, new_aws())
    assert seen
    assert SEEN[what](lived_in, one_per_page(new_aws())) == seen


def test_the_tests_know_every_listing_that_this_package_reads():
    """A listing that is not among them would be read whole here, and cut by AWS."""
    known = {_snake(operation) for operations in LISTINGS.values() for operation in operations}
    read = {
        name
        for path in SOURCES
        for name in re.findall(
            r"\baws\.(?:iot|iam|logs|dynamodb)\.(?:get_paginator\(\")?((?:list|describe_log)_\w+)", path.read_text()
        )
    }
    assert read - known == {
        "list_policy_versions",
        "list_thing_groups_for_thing",
        "list_thing_registration_task_reports",
    }  # the first has no pages, the others a paginator


def test_a_plan_with_pages_of_one_asks_more_than_one_with_whole_pages(lived_in, new_aws):
    """The control of the tests above."""
    counts = []
    for aws in (new_aws(), new_aws()):
        calls = watch(aws.session)
        plan_all(lived_in, one_per_page(aws) if counts else aws)
        counts.append(len(calls.made))
    assert counts[1] > counts[0]


def test_a_fleet_that_exists_is_planned_without_listing_the_rules_of_the_account_for_each_rule(lived_in, new_aws):
    aws = new_aws()
    calls = watch(aws.session)
    assert {step.action for step in plan_all(lived_in, aws)} == {Action.UNCHANGED}
    assert calls.made.count("iot.ListTopicRules") == 1


def test_a_fleet_is_taken_down_whole_whatever_the_length_of_a_page(lived_in, new_aws):
    """The last one: afterwards there is no fleet."""
    gone = list(
        destroy(lived_in, one_per_page(new_aws()), confirmed=lived_in.bucket, with_data=True, sleep=lambda _: None)
    )
    assert any(each.what.startswith("3 certificates") and each.what.endswith("2 things of theirs") for each in gone)
    aws = new_aws()
    left = [
        *aws.iot.list_certificates()["certificates"],
        *aws.iot.list_things()["things"],
        *aws.s3.list_buckets()["Buckets"],
    ]
    assert left == []
    assert [each["logGroupName"][-2:] for each in aws.logs.describe_log_groups()["logGroups"]] == ["-1", "-2", "-3"]
