"""`fleet apply`, killed with SIGKILL before and after its calls, and run again: it always ends with the same fleet, and nothing leaks.

What AWS holds changes with writing calls only, so by default it is around these that an apply is killed: some of them, and one run after
the other until a run comes through. `make crash` starts anew for every call, reading ones too, and kills before it and after it.
"""

import pytest
from killing import Kill, is_killed

from fleet_pipeline.aws.clients import Aws, absent
from fleet_pipeline.cloud.claims.certificates import delete_versions, read_claim
from fleet_pipeline.cloud.lock import KEY, Lock
from fleet_pipeline.cloud.operations.apply import apply_all, plan_all
from fleet_pipeline.cloud.reconcile import Action


@pytest.fixture
def new_aws(local_aws):
    return lambda fleet: Aws(fleet.region, fleet.account, local_aws.url)


def was_killed(fleet, aws, kill):
    """Apply in a process of its own, long after the one before; return whether it was killed."""
    let_the_lock_lapse(fleet, aws)

    def apply(mortal):
        with Lock(mortal, fleet.bucket, "one that is killed") as lock:
            list(apply_all(fleet, mortal, lock, sleep=lambda _: None))

    return is_killed(apply, aws, kill)


def apply_again(fleet, aws):
    let_the_lock_lapse(fleet, aws)
    with Lock(aws, fleet.bucket, "the next one") as lock:
        return list(apply_all(fleet, aws, lock, sleep=lambda _: None))


def let_the_lock_lapse(fleet, aws):
    """As if a minute had passed since the holder was killed."""
    with absent("NoSuchBucket"):
        delete_versions(aws, fleet.bucket, KEY)


def certificates(aws):
    return {each["certificateId"]: each["status"] for each in aws.iot.list_certificates()["certificates"]}


def assert_whole(fleet, aws):
    """The fleet is as the settings want it, one claim certificate exists, works and has its key, and no lock is left."""
    assert {step.action for step in plan_all(fleet, aws)} == {Action.UNCHANGED}
    assert list(certificates(aws).values()) == ["ACTIVE"]
    assert read_claim(fleet, aws).private_key
    assert "Versions" not in aws.s3.list_object_versions(Bucket=fleet.bucket, Prefix=KEY)


def test_an_apply_that_is_killed_again_and_again_ends_with_the_same_fleet(make_fleet, new_aws):
    fleet = make_fleet()
    watcher, kills = new_aws(fleet), 0
    # The first writing call takes the lock. One call more is not always enough: a key whose maker dies is lost and made anew, seven calls in all.
    while was_killed(fleet, watcher, Kill(at=2 + kills % 7, after=True, writing_only=True)):
        kills += 1
        assert list(certificates(watcher).values()).count("ACTIVE") <= 1
        assert kills < 50
    assert kills >= 7
    apply_again(fleet, watcher)
    assert_whole(fleet, watcher)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [2, 12, 24])
def test_an_apply_that_was_killed_goes_on(make_fleet, new_aws, at, after):
    fleet = make_fleet()
    watcher = new_aws(fleet)
    assert was_killed(fleet, watcher, Kill(at=at, after=after, writing_only=True))
    apply_again(fleet, watcher)
    assert_whole(fleet, watcher)


def test_an_apply_that_is_not_killed_ends_by_itself(make_fleet, new_aws):
    """The control of the tests above: they are told apart from a run that went through."""
    fleet = make_fleet()
    watcher = new_aws(fleet)
    assert not was_killed(fleet, watcher, Kill(at=10_000, after=False, writing_only=False))
    assert_whole(fleet, watcher)


@pytest.mark.crash
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("writing_only", [True, False], ids=["writing call", "call"])
def test_an_apply_that_was_killed_at_any_call_goes_on(make_fleet, new_aws, capsys, writing_only, after):
    kills, killed = 0, True
    while killed:
        fleet = make_fleet()
        watcher = new_aws(fleet)
        killed = was_killed(fleet, watcher, Kill(at=kills + 1, after=after, writing_only=writing_only))
        apply_again(fleet, watcher)
        assert_whole(fleet, watcher)
        kills += killed
    with capsys.disabled():
        print(f"{kills} kills, {kills} converged, 0 certificates leaked")  # noqa: T201 (the figure is what it is run for)
