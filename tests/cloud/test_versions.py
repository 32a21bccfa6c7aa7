"""Former versions of policies and templates: kept, listed, put in force again, and never in the way of the next change."""

import json
from dataclasses import replace

import pytest
from aws_calls import watch

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.operations.rollback import roll_back, versioned, versions
from fleet_pipeline.cloud.reconcile import STACK_TAG, Action, plan, reconcile
from fleet_pipeline.model.errors import InvalidName, NotOurs

BEFORE = {
    "device_policy": (),
    "provisioning_template": ("hook_role", "hook", "hook_permission", "device_policy", "provisioning_role"),
}
DOCUMENT = {"device_policy": "document", "provisioning_template": "body"}


@pytest.fixture(params=BEFORE)
def part(request):
    return request.param


@pytest.fixture
def wanted(fleet, aws, part):
    parts = blueprint(fleet)
    for name in (*BEFORE[part], part):
        reconcile(parts[name].resource, aws)
    return versioned(parts, part)


@pytest.fixture
def change(wanted, part):
    """The resource with another document, numbered."""

    def changed(number):
        before = json.dumps(getattr(wanted, DOCUMENT[part]))
        after = {
            "device_policy": ("topic/$aws/rules/", f"topic/$aws/rules/n{number}_"),
            "provisioning_template": ("test-thing-", f"thing-{number}-"),
        }[part]
        return replace(wanted, **{DOCUMENT[part]: json.loads(before.replace(*after))})

    return changed


def test_the_twentieth_change_works_and_the_last_five_versions_are_kept(wanted, change, aws, part):
    for number in range(2, 21):
        reconcile(change(number), aws)
    kept = versions(wanted, aws)
    assert [version.number for version in kept] == [20, 19, 18, 17, 16]
    assert [version.live for version in kept] == [True, False, False, False, False]
    assert [version.document for version in kept] == [
        getattr(change(number), DOCUMENT[part]) for number in range(20, 15, -1)
    ]


def test_a_rollback_puts_a_former_version_in_force_until_the_next_apply(wanted, change, aws, part):
    reconcile(change(2), aws)
    step = roll_back(change(2), 1, aws)
    assert (step.action, [each.field for each in step.changes]) == (Action.UPDATE, [DOCUMENT[part]])
    assert plan(wanted, aws).action is Action.UNCHANGED
    reconcile(change(2), aws)
    assert [version.number for version in versions(wanted, aws) if version.live] == [3]


def test_a_version_that_was_rolled_back_to_is_never_pruned(wanted, change, aws):
    for number in range(2, 6):
        reconcile(change(number), aws)
    roll_back(wanted, 1, aws)
    reconcile(change(7), aws)
    assert [version.number for version in versions(wanted, aws)] == [6, 5, 4, 3, 1]


def test_a_second_rollback_to_the_same_version_makes_no_writing_call(wanted, change, fleet, local_aws, aws):
    reconcile(change(2), aws)
    roll_back(wanted, 1, aws)
    again = Aws(fleet.region, fleet.account, local_aws.url)
    calls = watch(again.session)
    roll_back(wanted, 1, again)
    assert calls.writing == []


def test_a_version_that_aws_has_not_kept_is_refused_with_those_that_it_has(wanted, change, aws):
    reconcile(change(2), aws)
    with pytest.raises(InvalidName, match="AWS has kept 1, 2 of"):
        roll_back(wanted, 9, aws)


def test_what_others_made_is_not_rolled_back(wanted, aws):
    aws.iot.tag_resource(resourceArn=wanted.arn, tags=[{"Key": STACK_TAG, "Value": "another"}])
    with pytest.raises(NotOurs):
        roll_back(wanted, 1, aws)


def test_a_resource_without_versions_is_refused_with_those_that_have_some(fleet):
    with pytest.raises(InvalidName, match="device_policy, provisioning_template, claim_policy"):
        versioned(blueprint(fleet), "bucket")
