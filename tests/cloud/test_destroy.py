"""Taking a fleet down: nothing is lost unasked, nothing is left behind, and being killed at any call changes neither."""

import os
import signal
import traceback
from dataclasses import dataclass

import pytest
from aws_calls import READING, Refusals, answer, stale, watch

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.blueprint import blueprint, resources
from fleet_pipeline.cloud.claims import making
from fleet_pipeline.cloud.claims.certificates import Claims
from fleet_pipeline.cloud.claims.keys import PRIVATE_KEY
from fleet_pipeline.cloud.enrolment.enrolled import LEAVING
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations.destroy import DETACHED_PAUSES_S, destroy, losses
from fleet_pipeline.cloud.reconcile import STACK_TAG, reconcile
from fleet_pipeline.cloud.spreading import PAUSES_S
from fleet_pipeline.model.errors import AwsRefused, FleetError, NotOurs, StillUsed, WouldLose
from fleet_pipeline.model.fleet import Fleet

RAW_KEY = "test-rule/rule1/1795442400123"


@dataclass(frozen=True)
class Stack:
    fleet: Fleet
    aws: Aws
    url: str

    def destroy(self, **how):
        return list(destroy(self.fleet, self.aws, **({"confirmed": self.fleet.bucket} | how)))

    def vehicle(self, name):
        """A vehicle as RegisterThing would have made it."""
        iot = self.aws.iot
        made = iot.create_keys_and_certificate(setAsActive=True)
        iot.create_thing(thingName=name)
        iot.attach_thing_principal(thingName=name, principal=made["certificateArn"])
        iot.attach_policy(policyName=self.fleet.device_policy_name, target=made["certificateArn"])
        return made["certificateArn"]

    def left(self):
        aws = self.aws
        return {
            "policies": [each["policyName"] for each in aws.iot.list_policies()["policies"]],
            "certificates": [each["certificateId"] for each in aws.iot.list_certificates()["certificates"]],
            "things": [each["thingName"] for each in aws.iot.list_things()["things"]],
            "templates": [each["templateName"] for each in aws.iot.list_provisioning_templates()["templates"]],
            "rules": [each["ruleName"] for each in aws.iot.list_topic_rules()["rules"]],
            "roles": [each["RoleName"] for each in aws.iam.list_roles()["Roles"]],
            "functions": [each["FunctionName"] for each in aws.functions.list_functions()["Functions"]],
            "tables": aws.dynamodb.list_tables()["TableNames"],
            "logs": [each["logGroupName"] for each in aws.logs.describe_log_groups()["logGroups"]],
            "buckets": [each["Name"] for each in aws.s3.list_buckets()["Buckets"]],
        }

    def kept(self, bucket):
        found = self.aws.s3.list_object_versions(Bucket=bucket)
        return [each["Key"] for kind in ("Versions", "DeleteMarkers") for each in found.get(kind, [])]


@pytest.fixture(scope="module")
def new_stack(make_fleet, local_aws):
    def make(**settings):
        fleet = make_fleet(**{"rule_keys": ("rule1",), **settings})
        stack = Stack(fleet, Aws(fleet.region, fleet.account, local_aws.url), local_aws.url)
        for resource in resources(blueprint(fleet)):
            reconcile(resource, stack.aws)
        return stack

    return make


def lived_in(stack):
    """Give a fleet a vehicle, messages in both buckets, and an earlier claim key among the versions of its object."""
    stack.vehicle("test-thing-297468000001")
    s3, bucket = stack.aws.s3, stack.fleet.bucket
    s3.put_object(Bucket=bucket, Key=PRIVATE_KEY, Body=s3.get_object(Bucket=bucket, Key=PRIVATE_KEY)["Body"].read())
    s3.put_object(Bucket=bucket, Key=RAW_KEY, Body=b"{}")
    s3.put_object(Bucket=stack.fleet.lake_bucket, Key="lake/v1/part-00000.parquet", Body=b"PAR1", IfNoneMatch="*")
    stack.aws.logs.create_log_group(logGroupName=f"/aws/lambda/{stack.fleet.hook_name}")
    return stack


@pytest.fixture
def stack(new_stack):
    """A fleet that may be taken down."""
    return lived_in(new_stack())


@pytest.fixture(scope="module")
def standing(new_stack):
    """A fleet that no test takes down."""
    return lived_in(new_stack())


def test_what_would_be_lost_is_named_and_nothing_is_changed(standing):
    before = standing.left()
    aws = Aws(standing.fleet.region, standing.fleet.account, standing.url)
    calls = watch(aws.session)
    with pytest.raises(WouldLose) as caught:
        list(destroy(standing.fleet, aws, with_data=True))
    said = str(caught.value)
    assert "1 certificates of registered vehicles, such as test-thing-297468000001" in said
    assert "the claim certificate" in said
    assert f"1 object versions in bucket {standing.fleet.bucket};" in said
    assert f"1 object versions in bucket {standing.fleet.lake_bucket}:" in said
    assert f"confirm with the bucket's name: `--confirm {standing.fleet.bucket}`" in said
    assert calls.writing == []
    assert standing.left() == before


@pytest.mark.parametrize("confirmed", ["", "yes", "another-bucket"])
def test_only_the_buckets_own_name_confirms(standing, confirmed):
    with pytest.raises(WouldLose):
        standing.destroy(confirmed=confirmed)


def test_kept_data_is_no_loss(standing):
    assert not [loss for loss in losses(standing.fleet, standing.aws) if "object" in loss]


def test_the_data_is_kept_every_version_of_the_claim_keys_is_not_and_the_fleet_can_be_made_again(stack):
    gone = stack.destroy()
    left = stack.left()
    assert set(left.pop("buckets")) == {stack.fleet.bucket, stack.fleet.lake_bucket}
    assert not any(left.values()), left
    assert stack.kept(stack.fleet.bucket) == [RAW_KEY]
    assert len(stack.kept(stack.fleet.lake_bucket)) == 1
    assert {each.part for each in gone if each.action == "kept"} == {"lake_bucket", "bucket"}
    for resource in resources(blueprint(stack.fleet)):
        reconcile(resource, stack.aws)
    assert RAW_KEY in stack.kept(stack.fleet.bucket)


def test_with_data_nothing_at_all_is_left_and_a_second_teardown_makes_no_writing_call(stack):
    stack.aws.s3.delete_object(Bucket=stack.fleet.bucket, Key=RAW_KEY)
    stack.destroy(with_data=True)
    assert not any(stack.left().values()), stack.left()
    aws = Aws(stack.fleet.region, stack.fleet.account, stack.url)
    calls = watch(aws.session)
    assert {each.action for each in destroy(stack.fleet, aws, with_data=True)} == {"absent"}
    assert calls.writing == []


def test_the_serials_of_the_allow_list_are_not_lost_unasked(new_stack):
    stack = new_stack(allow_list="dynamodb")
    stack.aws.dynamodb.put_item(TableName=stack.fleet.allow_list_table, Item={"serial": {"S": "297468000001"}})
    assert "1 serials of the allow-list" in losses(stack.fleet, stack.aws)


def test_what_others_made_stops_the_teardown_before_anything_is_changed(standing):
    def tag(owner):
        policy = standing.fleet.policy_arn(standing.fleet.device_policy_name)
        standing.aws.iot.tag_resource(resourceArn=policy, tags=[{"Key": STACK_TAG, "Value": owner}])

    before = standing.left()
    tag("another")
    with pytest.raises(NotOurs):
        standing.destroy()
    tag(standing.fleet.prefix)
    assert standing.left() == before


def test_a_thing_with_two_certificates_goes_and_one_named_otherwise_stays(stack):
    twice = stack.aws.iot.create_keys_and_certificate(setAsActive=True)["certificateArn"]
    stack.aws.iot.attach_thing_principal(thingName="test-thing-297468000001", principal=twice)
    stack.aws.iot.attach_policy(policyName=stack.fleet.device_policy_name, target=twice)
    stack.vehicle("someone-elses")
    stack.destroy()
    assert stack.left()["things"] == ["someone-elses"]
    assert stack.left()["certificates"] == []


def test_things_of_another_fleet_in_the_account_stay(new_stack):
    stack = new_stack()
    neighbour = new_stack(account=stack.fleet.account, service="other", raw_prefix="other")
    neighbour.vehicle("test-thing-297468NEIGHBOUR")
    stack.vehicle("test-thing-297468000001")
    stack.destroy()
    assert stack.left()["things"] == ["test-thing-297468NEIGHBOUR"]


@pytest.mark.parametrize("far", [False, True])
def test_a_rotation_that_was_stopped_leaves_no_certificate_behind(new_stack, far):
    stack = new_stack()
    claims, iot = Claims.of(stack.fleet), stack.aws.iot
    if far:
        answer(iot, "AttachPolicy", by=Refusals("UnauthorizedException", "not now", times=1))
        with pytest.raises(iot.exceptions.UnauthorizedException):
            making.replace_current(claims, stack.aws)
    else:
        intent = making._begin(claims, stack.aws)
        iot.create_certificate_from_csr(certificateSigningRequest=intent.request, setAsActive=False)
    assert len(stack.left()["certificates"]) == 2
    stack.destroy()
    assert stack.left()["certificates"] == []
    assert stack.kept(stack.fleet.bucket) == []


def test_the_lock_is_given_back_even_when_its_bucket_is_gone(new_stack):
    stack = new_stack()
    with Lock(stack.aws, stack.fleet.bucket, "a test") as lock:
        stack.destroy(with_data=True, before_write=lock.take)
    assert stack.left()["buckets"] == []


def test_a_policy_that_was_detached_a_moment_ago_is_waited_for(stack):
    slept = []
    answer(
        stack.aws.iot,
        "DeletePolicy",
        by=Refusals("DeleteConflictException", "The policy was detached less than five minutes ago", times=4),
    )
    stack.destroy(sleep=slept.append)
    assert slept == list(DETACHED_PAUSES_S[:4])
    assert stack.left()["policies"] == []


def test_the_wait_for_a_policy_covers_five_minutes_and_ends(stack):
    slept = []
    answer(
        stack.aws.iot,
        "DeletePolicy",
        by=Refusals("DeleteConflictException", "The policy was detached less than five minutes ago", times=99),
    )
    with pytest.raises(AwsRefused, match="DeleteConflict"):
        stack.destroy(sleep=slept.append)
    assert 5 * 60 <= sum(slept) <= 10 * 60


@pytest.mark.parametrize("policy", ["device_policy", "claim_policy"])
@pytest.mark.parametrize("confirmed", [True, False])
def test_a_policy_of_ours_on_a_thing_group_of_others_stops_the_teardown_before_anything_is_changed_and_the_way_on_is_said(
    standing, policy, confirmed
):
    name = blueprint(standing.fleet)[policy].resource.name
    group = standing.aws.iot.create_thing_group(thingGroupName="others")["thingGroupArn"]
    standing.aws.iot.attach_policy(policyName=name, target=group)
    aws = Aws(standing.fleet.region, standing.fleet.account, standing.url)
    calls = watch(aws.session)
    try:
        with pytest.raises(StillUsed, match=f"aws iot detach-policy --policy-name {name} --target {group}"):
            list(destroy(standing.fleet, aws, confirmed=standing.fleet.bucket if confirmed else ""))
        assert calls.writing == []
    finally:
        standing.aws.iot.detach_policy(policyName=name, target=group)
        standing.aws.iot.delete_thing_group(thingGroupName="others")


def test_a_thing_with_a_certificate_of_others_stays_unmarked_and_the_teardown_says_why(stack):
    theirs = stack.aws.iot.create_keys_and_certificate(setAsActive=True)["certificateArn"]
    stack.aws.iot.create_policy(policyName="theirs", policyDocument='{"Version": "2012-10-17", "Statement": []}')
    stack.aws.iot.attach_policy(policyName="theirs", target=theirs)
    stack.aws.iot.attach_thing_principal(thingName="test-thing-297468000001", principal=theirs)
    said = [each.what for each in stack.destroy() if each.action == "kept"]
    assert f"thing 'test-thing-297468000001', because it also has {theirs}, which this fleet did not give it" in said
    assert stack.left()["things"] == ["test-thing-297468000001"]
    assert [each for each in stack.left()["certificates"] if theirs.endswith(each)] == stack.left()["certificates"]
    assert LEAVING not in stack.aws.iot.describe_thing(thingName="test-thing-297468000001")["attributes"]


def test_a_certificate_of_a_vehicle_from_which_somebody_took_the_policy_goes_with_its_thing(stack):
    [former] = stack.aws.iot.list_thing_principals(thingName="test-thing-297468000001")["principals"]
    stack.aws.iot.detach_policy(policyName=stack.fleet.device_policy_name, target=former)
    newest = stack.aws.iot.create_keys_and_certificate(setAsActive=True)["certificateArn"]
    stack.aws.iot.attach_thing_principal(thingName="test-thing-297468000001", principal=newest)
    stack.aws.iot.attach_policy(policyName=stack.fleet.device_policy_name, target=newest)
    said = [each.what for each in stack.destroy()]
    assert f"2 certificates with IoT policy '{stack.fleet.device_policy_name}', and 1 things of theirs" in said
    assert (stack.left()["things"], stack.left()["certificates"]) == ([], [])


LATE = {
    "a thing": ("DeleteThing", "InvalidRequestException", "the thing is attached to one or more principals"),
    "a certificate": ("DeleteCertificate", "DeleteConflictException", "things must be detached"),
    "a certificate's status": ("DeleteCertificate", "CertificateStateException", "the certificate must be deactivated"),
}


@pytest.mark.parametrize("late", LATE)
def test_what_aws_iot_has_not_yet_detached_is_waited_for(stack, late):
    operation, code, message = LATE[late]
    slept = []
    answer(stack.aws.iot, operation, by=Refusals(code, message, times=3))
    stack.destroy(sleep=slept.append)
    assert slept in (list(PAUSES_S[:3]), list(DETACHED_PAUSES_S[:3]))
    assert not any(found for what, found in stack.left().items() if what != "buckets")


def test_the_wait_for_a_detachment_ends(stack):
    slept = []
    answer(stack.aws.iot, "DeleteThing", by=Refusals("InvalidRequestException", "the thing is attached", times=99))
    with pytest.raises(AwsRefused, match="the thing is attached"):
        stack.destroy(sleep=slept.append)
    assert slept == list(PAUSES_S)


def test_listings_that_still_show_what_was_deleted_neither_stop_a_teardown_nor_keep_it_going(stack):
    stack.vehicle("test-thing-297468000002")
    for operation, listed in (
        ("ListTargetsForPolicy", "targets"),
        ("ListThingPrincipals", "principals"),
        ("ListPrincipalThings", "things"),
    ):
        stale(stack.aws.iot, operation, listed)
    said = [each.what for each in stack.destroy(sleep=lambda _: None)]
    assert any(
        each.startswith("2 certificates with IoT policy 'cdk-test-dev-device-policy', and 2 things") for each in said
    )
    assert not any(found for what, found in stack.left().items() if what != "buckets")


def test_a_certificate_that_the_listing_did_not_show_yet_goes_with_the_next_try(stack):
    late = stack.vehicle("test-thing-297468000002")
    hidden = [2]

    def hide(parsed, **_):
        hidden[0] -= 1
        parsed["targets"] = [each for each in parsed["targets"] if each != late or hidden[0] < 0]

    stack.aws.iot.meta.events.register("after-call.iot.ListTargetsForPolicy", hide)
    answer(
        stack.aws.iot, "DeletePolicy", by=Refusals("DeleteConflictException", "The policy is still attached", times=1)
    )
    stack.destroy(sleep=lambda _: None)
    assert stack.left()["certificates"] == []
    assert stack.left()["things"] == []


class Axe:
    """Kills its own process before or after the n-th call, of those that may change something or of all, and notes which call it was."""

    def __init__(self, stack, note, *, after, reading_too=False):
        self.stack, self.note, self.after, self.passed_over = stack, note, after, () if reading_too else READING
        # The clients are made once and used by children only: of a connection there may be but one user.
        self.aws = Aws(stack.fleet.region, stack.fleet.account, stack.url)
        for client in (self.aws.iot, self.aws.iam, self.aws.functions, self.aws.s3, self.aws.dynamodb, self.aws.logs):
            client.meta.events.register("before-call", self.raised)
            client.meta.events.register("after-call", self.fallen)

    def raised(self, event_name, params, **_):
        if not event_name.rsplit(".", 1)[1].startswith(self.passed_over):
            self.calls += 1
            if self.calls == self.at:
                self.note.write_text(f"{event_name} {params['url_path']} {params['body']}")
                self.strike(not self.after)

    def fallen(self, event_name, **_):
        if not event_name.rsplit(".", 1)[1].startswith(self.passed_over):
            self.strike(self.after and self.calls == self.at)

    def strike(self, now):
        if now:
            os.kill(os.getpid(), signal.SIGKILL)

    def kills(self, at):
        """Destroy in a child process, and say whether it was killed at this call."""
        self.calls, self.at = 0, at
        child = os.fork()
        if child == 0:
            code = 1
            try:
                list(destroy(self.stack.fleet, self.aws, confirmed=self.stack.fleet.bucket, with_data=True))
                code = 0
            except FleetError:
                traceback.print_exc()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        return os.WIFSIGNALED(status)


def test_killed_after_every_writing_call_a_teardown_goes_on_and_leaves_nothing(stack, tmp_path):
    """Each child gets one call further than the one before it, past calls that it has to repeat: so every state that can
    be left is started from. Killed before a call it leaves what it would leave after the call before that one.
    """
    note, seen, at = tmp_path / "call", set(), 1
    axe = Axe(stack, note, after=True)
    while axe.kills(at):
        at = at + 1 if note.read_text() in seen else 1
        seen.add(note.read_text())
    assert len(seen) > 25
    assert not any(stack.left().values()), stack.left()


@pytest.mark.crash
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_call_a_teardown_goes_on_and_leaves_nothing(new_stack, tmp_path, capsys, after):
    kills, killed = 0, True
    while killed:
        stack = lived_in(new_stack())
        killed = Axe(stack, tmp_path / "call", after=after, reading_too=True).kills(kills + 1)
        stack.destroy(with_data=True)
        assert not any(stack.left().values()), (kills, stack.left())
        kills += killed
    with capsys.disabled():
        print(f"{kills} kills, {kills} converged, nothing left")  # noqa: T201 (the figure is what it is run for)
