"""An account that another team uses too: whatever is done to the fleet, and wherever it is killed, all that is theirs stays as it was."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cdk_app
import pytest
from another_team import KINDS, lost, make_certificates_beside, put_ours_on_their_group, settle, snapshot
from killing import Kill, is_killed

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.blueprint import blueprint, resources
from fleet_pipeline.cloud.claims import life
from fleet_pipeline.cloud.claims.certificates import delete_versions
from fleet_pipeline.cloud.lock import KEY, Lock
from fleet_pipeline.cloud.operations.adopt import adopt
from fleet_pipeline.cloud.operations.apply import apply_all
from fleet_pipeline.cloud.operations.destroy import destroy
from fleet_pipeline.cloud.reconcile import reconcile
from fleet_pipeline.model.errors import ClaimNotRetired, StillUsed
from fleet_pipeline.model.fleet import Fleet

CHOICES = {
    "FLEET_ALLOW_LIST": "dynamodb",
    "FLEET_CLAIM_STORE": "secretsmanager",
    "FLEET_BULK_REGISTRATION": "on",
    "FLEET_RULE_KEYS": "rule1",
}
SERIAL = "297468000001"


@dataclass(frozen=True)
class Shared:
    """An account in which there are our fleet, or will be, and another team."""

    fleet: Fleet
    aws: Aws
    note: Path

    def their_certificates(self):
        return set(self.note.read_text().split()) if self.note.exists() else set()


@pytest.fixture
def new_shared(make_fleet, local_aws, tmp_path):
    def make(number=0):
        fleet = make_fleet(rule_keys=("rule1",))
        shared = Shared(fleet, Aws(fleet.region, fleet.account, local_aws.url), tmp_path / f"certificates-{number}")
        settle(shared.aws, fleet)
        return shared

    return make


@pytest.fixture
def shared(new_shared):
    return new_shared()


def commands(bucket):
    """Every command that calls AWS, in an order in which each has something to do; and how it may end."""
    confirm = ("--confirm", bucket)
    return {
        ("plan",): 2,
        ("apply", "--no-trial"): 0,
        ("vehicle", "allow", "--serial", SERIAL): 0,
        ("vehicle", "register", "--serial", SERIAL): 0,
        ("check",): 0,
        ("vehicle", "why", "--serial", SERIAL): 0,
        ("vehicle", "check"): 1,  # the other team's thing is named as ours are and has no policy
        ("claim", "rotate"): 0,
        ("claim", "show"): 0,
        ("claim", "retire", "--yes"): 0,
        ("claim", "temporary", "--folder", "lent"): 0,
        ("versions", "device_policy"): 0,
        ("rollback", "device_policy", "--to", "1"): 0,
        ("errors",): 0,
        ("replay",): 0,
        ("adopt", "--apply"): 0,
        ("claim", "revoke", "--yes"): 0,
        ("destroy",): 1,
        ("destroy", *confirm): 0,
        ("destroy", "--with-data", *confirm): 0,
    }


def test_no_command_changes_anything_of_another_team(shared, command, monkeypatch):
    for name, value in CHOICES.items():
        monkeypatch.setenv(name, value)
    before = snapshot(shared.aws)
    assert {kind for kind, _ in before} == set(KINDS)
    for arguments, expected in commands(shared.fleet.bucket).items():
        code, said = command(shared.fleet, *arguments)
        assert code == expected, (arguments, said)
    now = snapshot(shared.aws)
    assert lost(before, now) == {}
    # The virtual vehicle's requests that were refused: AWS IoT deletes these certificates by itself after an hour.
    assert {now[each][0] for each in now.keys() - before.keys()} <= {"PENDING_ACTIVATION"}


def test_with_a_policy_of_ours_on_their_group_a_teardown_stops_and_nothing_at_all_is_changed(shared):
    for resource in resources(blueprint(shared.fleet)):
        reconcile(resource, shared.aws)
    put_ours_on_their_group(shared.aws, shared.fleet.device_policy_name)
    before = snapshot(shared.aws)
    with pytest.raises(StillUsed):
        list(destroy(shared.fleet, shared.aws, confirmed=shared.fleet.bucket, with_data=True))
    assert snapshot(shared.aws) == before


def test_the_snapshot_sees_what_a_careless_sweep_would_do(shared):
    """The control of the tests here."""
    careless = {
        "certificate": lambda aws: aws.iot.delete_certificate(certificateId=next(iter(idle(aws)))),
        "thing": lambda aws: aws.iot.delete_thing(thingName=f"{shared.fleet.thing_prefix}BARE"),
        "topic rule": lambda aws: aws.iot.delete_topic_rule(ruleName="test_rule_theirs"),
        "bucket": lambda aws: delete_versions(aws, f"{shared.fleet.bucket}-another", "provisioning/"),
        "secret": lambda aws: aws.secrets.delete_secret(
            SecretId=f"{shared.fleet.prefix}/claim-certificate/theirs", ForceDeleteWithoutRecovery=True
        ),
        "log group": lambda aws: aws.logs.delete_log_group(logGroupName=f"/aws/lambda/{shared.fleet.hook_name}-2"),
    }
    for kind, action in careless.items():
        before = snapshot(shared.aws)
        action(shared.aws)
        assert {each for each, _ in lost(before, snapshot(shared.aws))} == {kind}


def idle(aws):
    return [
        each["certificateId"] for each in aws.iot.list_certificates()["certificates"] if each["status"] == "INACTIVE"
    ]


def apply(fleet, aws):
    with Lock(aws, fleet.bucket, "one that is killed") as lock:
        list(apply_all(fleet, aws, lock, sleep=lambda _: None))


def rotate(fleet, aws):
    with suppress(ClaimNotRetired):  # it was over when it was killed
        life.rotate(fleet, aws)


def take_over(fleet, aws):
    with Lock(aws, fleet.bucket, "one that is killed") as lock:
        adopt(fleet, aws, lock)


def take_down(fleet, aws):
    list(destroy(fleet, aws, confirmed=fleet.bucket, with_data=True, sleep=lambda _: None))


LIVES = {
    "a fleet of its own": (apply, rotate, life.retire, take_down),
    "the CDK app's": (take_over, apply, rotate, life.retire, take_down),
}
"""What is done to a fleet, one after the other."""


def is_cut_off(shared, action, kill):
    """Do an action until it is killed, long after the one before, while another team makes certificates; say whether it was killed."""
    with suppress(shared.aws.s3.exceptions.NoSuchBucket):
        delete_versions(shared.aws, shared.fleet.bucket, KEY)

    def beside(mortal):
        make_certificates_beside(mortal, shared.note)
        action(shared.fleet, mortal)

    return is_killed(beside, shared.aws, kill)


def harmed(shared, before):
    now = snapshot(shared.aws)
    return {
        *lost(before, now),
        *(each for each in shared.their_certificates() if now.get(("certificate", each), [""])[0] != "INACTIVE"),
    }


@pytest.mark.parametrize("lived", LIVES)
def test_a_fleet_that_is_killed_all_its_life_harms_nobody(shared, lived):
    before, kills = snapshot(shared.aws), 0
    if lived == "the CDK app's":
        cdk_app.deploy(shared.fleet, shared.aws)
    for action in LIVES[lived]:
        while is_cut_off(shared, action, Kill(at=3 + kills * 2 % 11, after=bool(kills % 2), writing_only=True)):
            kills += 1
            assert kills < 60
        assert harmed(shared, before) == set(), (
            action
        )  # what is harmed stays so: one look is enough for all kills of an action
    assert kills >= 8
    assert len(shared.their_certificates()) >= 2
    assert snapshot(shared.aws).keys() - before.keys() == {
        ("certificate", each) for each in shared.their_certificates()
    }


@pytest.mark.crash
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("last", range(4), ids=["apply", "rotate", "retire", "destroy"])
def test_killed_at_any_writing_call_nothing_harms_another_team(new_shared, last, after, capsys):
    *made, action = LIVES["a fleet of its own"][: last + 1]
    kills, killed = 0, True
    while killed:
        shared = new_shared(kills)
        for each in made:
            each(shared.fleet, shared.aws)
        before = {
            each: found
            for each, found in snapshot(shared.aws).items()
            if "another" in str(found) or "theirs" in str(found) or each[1].endswith("-2")
        }
        killed = is_cut_off(shared, action, Kill(at=kills + 1, after=after, writing_only=True))
        assert harmed(shared, before) == set(), kills
        assert not is_cut_off(shared, action, Kill(at=10_000, after=after, writing_only=True))
        assert harmed(shared, before) == set(), kills
        kills += killed
    with capsys.disabled():
        print(f"{kills} kills, nothing of another team lost")  # noqa: T201 (the figure is what it is run for)
