"""One at a time changes the fleet: the other is told who does and since when, and the lock of one that died lapses."""

import os
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from aws_calls import watch

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.lock import KEY, Lock
from fleet_pipeline.cloud.operations.apply import apply_all, plan_all
from fleet_pipeline.cloud.reconcile import Action, reconcile
from fleet_pipeline.model.errors import AwsRefused, LockHeld
from fleet_pipeline.model.fleet import Fleet

SHORT = timedelta(seconds=2)
"""A lease that a test can wait for; S3 tells an object's age in whole seconds."""


NOT_TAKEN = replace(blueprint(Fleet())["device_policy"].resource, document={"Version": "nothing that AWS would take"})


@pytest.fixture
def bucket(fleet, aws):
    return reconcile(blueprint(fleet)["bucket"].resource, aws).wanted.name


def versions_of_the_lock(aws, bucket):
    return aws.s3.list_object_versions(Bucket=bucket, Prefix=KEY).get("Versions", [])


def test_whoever_comes_second_is_told_who_holds_the_lock_and_since_when_and_changes_nothing(fleet, aws, bucket):
    before = datetime.now(UTC).replace(microsecond=0)
    bobs = Aws(aws.region, aws.account, aws.endpoint_url)
    calls = watch(bobs.session)
    with Lock(aws, bucket, "ann@laptop") as first, Lock(bobs, bucket, "bob@server") as second:
        first.take()
        with pytest.raises(LockHeld) as caught:
            list(apply_all(fleet, bobs, second))
    assert caught.value.holder == "ann@laptop"
    assert before <= datetime.fromisoformat(caught.value.since) <= datetime.now(UTC)
    assert "ann@laptop has held the lock since" in str(caught.value)
    assert caught.value.retryable
    assert calls.writing == ["s3.PutObject"]  # the lock itself, which S3 does not take
    assert plan_all(fleet, aws)[1].action is Action.CREATE


def test_a_lock_that_was_given_back_leaves_nothing_and_can_be_taken(aws, bucket):
    for who in ("ann", "bob"):
        with Lock(aws, bucket, who) as lock:
            lock.take()
            lock.take()
            assert len(versions_of_the_lock(aws, bucket)) == 1
    assert versions_of_the_lock(aws, bucket) == []


def test_a_lock_is_given_back_when_the_work_fails(aws, bucket):
    with pytest.raises(AwsRefused), Lock(aws, bucket, "ann") as lock:
        reconcile(NOT_TAKEN, aws, before_write=lock.take)
    assert versions_of_the_lock(aws, bucket) == []


def test_before_there_is_a_bucket_there_is_no_lock(fleet, aws):
    with Lock(aws, fleet.bucket, "ann") as first, Lock(aws, fleet.bucket, "bob") as second:
        first.take()
        second.take()


def dead_holder(aws, bucket, lease):
    """Take the lock in a process that dies with it."""
    lock = Lock(aws, bucket, "one that died", lease=lease)
    pid = os.fork()
    if pid == 0:
        lock.take()
        os._exit(0)
    os.waitpid(pid, 0)


def test_the_lock_of_one_that_died_stands_for_its_lease_and_is_then_taken_over(aws, bucket):
    dead_holder(aws, bucket, SHORT)
    with Lock(aws, bucket, "ann", lease=SHORT) as lock:
        with pytest.raises(LockHeld, match="one that died"):
            lock.take()
        taken_over_after(lock)
    assert versions_of_the_lock(aws, bucket) == []


def taken_over_after(lock):
    """Try until the lock is ours; return after how many seconds."""
    begun = time.monotonic()
    while time.monotonic() < begun + 20:
        try:
            lock.take()
        except LockHeld:
            time.sleep(0.1)
        else:
            return time.monotonic() - begun
    raise AssertionError("it never lapsed")


def test_the_lock_of_one_that_lives_is_renewed_and_does_not_lapse(aws, bucket):
    with Lock(aws, bucket, "ann", lease=SHORT) as lock, Lock(aws, bucket, "bob", lease=SHORT) as other:
        lock.take()
        end = time.monotonic() + 2 * SHORT.total_seconds()
        while time.monotonic() < end:
            with pytest.raises(LockHeld, match="ann"):
                other.take()
            time.sleep(0.2)
        assert len(versions_of_the_lock(aws, bucket)) > 1
    assert versions_of_the_lock(aws, bucket) == []


def test_one_whose_lock_was_taken_over_is_stopped_before_its_next_change(aws, bucket):
    with Lock(aws, bucket, "ann") as first, Lock(aws, bucket, "bob") as second:
        first.take()
        first._renewed -= 61  # it slept for a minute, and so did its renewals
        aws.s3.delete_object(Bucket=bucket, Key=KEY)
        second.take()
        with pytest.raises(LockHeld, match="bob"):
            first.take()


def test_of_two_applies_at_once_one_wins_and_the_fleet_is_whole(fleet, aws):
    outcomes = [applying(fleet, aws, name) for name in ("ann", "bob")]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in outcomes]
    assert 0 in codes
    assert set(codes) <= {0, LOST}
    assert {step.action for step in plan_all(fleet, aws)} == {Action.UNCHANGED}
    assert [each["status"] for each in aws.iot.list_certificates()["certificates"]] == ["ACTIVE"]
    assert versions_of_the_lock(aws, fleet.bucket) == []


LOST = 7
"""Exit code of the one that was told that the other holds the lock."""


def applying(fleet, aws, who):
    lock = Lock(aws, fleet.bucket, f"{who} {uuid.uuid4()}")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with lock:
                list(apply_all(fleet, aws, lock))
            code = 0
        except LockHeld:
            code = LOST
        finally:
            os._exit(code)
    return pid
