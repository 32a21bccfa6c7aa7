"""The life of a claim certificate, killed by SIGKILL before and after each writing call: the next run always ends it right.

One matrix for each action; the last one, of the CDK app's order, shows that the matrices can fail.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HELPERS = Path(__file__).parents[1] / "helpers"
ACTIONS = {
    "create": (1, ()),
    "rotate, then rotate": (2, ()),
    "rotate, then apply": (2, ("claim_store=secretsmanager",)),
    "retire": (1, ()),
}
"""How many certificates there are once the action is done, and settings to do it with."""

BOTH = "before-send,after-call"
ONCE = ("rotate, then rotate", "rotate, then apply", "retire", "create as the CDK app")
WHENS = {} if os.environ.get("CRASH") else dict.fromkeys(ONCE, "after-call")
"""When an action is killed. Before a call AWS holds what it held after the last one: only where another team makes a
certificate in between, which `create` tries, is it another state. `make crash` kills both times.
"""


@pytest.fixture(scope="module")
def crashes(local_aws):
    """The crashes of an action; each is made once."""
    made = {}

    def crashes(action, *settings):
        key = (action, WHENS.get(action, BOTH), *settings)
        if key not in made:
            ran = subprocess.run(
                [sys.executable, HELPERS / "crashes.py", local_aws.url, *key],
                cwd=HELPERS.parents[1],
                capture_output=True,
                check=False,
            )
            assert ran.returncode == 0, ran.stderr.decode()
            made[key] = [json.loads(line) for line in ran.stdout.splitlines()]
        return made[key]

    return crashes


def leaked(certificates):
    """Certificates that work without being the fleet's: without the policy by which they are found, or without a key that can be given out."""
    return [
        each for each in certificates if each["status"] == "ACTIVE" and not (each["has_policy"] and each["has_key"])
    ]


def is_converged(crash, wanted):
    """Only certificates that work, one of them given out; and nothing left of the intent."""
    usable = all(each["status"] == "ACTIVE" and each["has_policy"] and each["has_key"] for each in crash["then"])
    current = sum(each["current"] for each in crash["then"])
    return (
        usable
        and current == 1
        and len(crash["then"]) in wanted
        and not any("intent" in key for key in crash["objects"])
        and not crash["written_again"]
    )


@pytest.mark.parametrize("action", ACTIONS)
def test_whatever_the_call_at_which_it_is_killed_the_next_run_ends_it_right(crashes, action, record_property):
    certificates, settings = ACTIONS[action]
    wanted = (
        {1, 2} if "apply" in action else {certificates}
    )  # an apply undoes a rotation that has no key yet, and ends any other
    found = crashes(action, *settings)
    record_property("kills", len(found))
    assert len(found) >= (10 if action in {"create", "rotate, then rotate", "rotate, then apply"} else 5)
    assert [crash["killed"] for crash in found if not is_converged(crash, wanted)] == []


@pytest.mark.parametrize("action", ACTIONS)
def test_no_certificate_works_before_its_key_is_stored_and_its_policy_attached_not_even_at_the_moment_of_a_kill(
    crashes, action
):
    assert [
        crash["killed"]
        for crash in crashes(action, *ACTIONS[action][1])
        if leaked(crash["at_once"]) or leaked(crash["then"])
    ] == []


@pytest.mark.parametrize("action", ["rotate, then rotate", "rotate, then apply"])
def test_while_a_rotation_is_stopped_a_certificate_that_works_is_given_out(crashes, action):
    given_out = [
        [each for each in crash["at_once"] if each["current"]] for crash in crashes(action, *ACTIONS[action][1])
    ]
    assert all(
        len(current) == 1 and current[0]["status"] == "ACTIVE" and current[0]["has_key"] for current in given_out
    )


@pytest.mark.parametrize("action", ACTIONS)
def test_another_teams_inactive_certificates_survive_every_kill_even_those_made_in_the_same_second(crashes, action):
    found = crashes(action, *ACTIONS[action][1])
    assert max(crash["neighbours"] for crash in found) >= (1 if action == "retire" else 3)
    assert [crash["killed"] for crash in found if crash["neighbours_lost"]] == []
    assert not any(crash["noted"] for crash in found)


def test_with_keys_of_aws_what_a_kill_may_have_left_is_noted_among_the_neighbours_and_nothing_of_theirs_is_deleted(
    crashes,
):
    found = crashes("create", "claim_keys=aws")
    assert [crash["killed"] for crash in found if crash["neighbours_lost"] or leaked(crash["then"])] == []
    lost = [crash for crash in found if len(crash["then"]) > 1]
    assert {crash["killed"] for crash in lost} == {
        "after-call iot.CreateKeysAndCertificate",
        "before-send s3.PutObject",
    }
    assert all(crash["noted"] for crash in lost)


def test_once_retired_no_former_version_of_a_key_is_left(crashes):
    assert {crash["versions"] for crash in crashes("retire")} == {3}


def test_the_order_of_the_cdk_app_leaks_certificates_that_work(crashes):
    """The control of the tests above."""
    found = crashes("create as the CDK app")
    assert [crash["killed"] for crash in found if leaked(crash["then"])]
    assert [crash["killed"] for crash in found if not is_converged(crash, {1})]
