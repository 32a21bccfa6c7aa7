"""Drift as Dagster shows it: one check for each resource, red with what differs and what to do; what stands on it shows as out of date."""

import json
from dataclasses import replace

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest
from in_dagster import ALONE, definitions_of

from fleet_pipeline.assets.provisioning import infrastructure
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.claims import life
from fleet_pipeline.cloud.claims.certificates import stored_certificate_id
from fleet_pipeline.cloud.lock import KEY, Lock
from fleet_pipeline.cloud.operations.foreign import findings
from fleet_pipeline.cloud.reconcile import reconcile
from fleet_pipeline.model.fleet import Fleet

ANYTHING = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]})


@pytest.fixture(scope="module")
def fleet(make_fleet):
    return make_fleet()


@pytest.fixture(scope="module")
def aws(fleet, local_aws):
    return Aws(fleet.region, fleet.account, local_aws.url)


@pytest.fixture(scope="module")
def dagster(fleet):
    """A Dagster of its own, in which the fleet was provisioned."""
    dagster = Dagster(definitions_of(fleet), dg.DagsterInstance.ephemeral())
    assert dagster.apply(blueprint(fleet))
    return dagster


class Dagster:
    """What the UI would show."""

    def __init__(self, definitions, instance):
        self.graph, self.instance = definitions.resolve_asset_graph(), instance
        self.repository = definitions.get_repository_def()

    def run(self, **selected):
        job = self.repository.get_implicit_job_def_for_assets([*self.graph.get_all_asset_keys()])
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        return job.get_subset(**selected).execute_in_process(instance=self.instance, run_config=quiet)

    def apply(self, parts):
        return self.run(
            asset_selection={infrastructure.key(ALONE, part) for part in parts}, asset_check_selection=set()
        ).success

    def check(self, *parts):
        checks = {dg.AssetCheckKey(infrastructure.key(ALONE, part), "drift") for part in parts}
        result = self.run(asset_selection=set(), asset_check_selection=checks)
        assert result.get_asset_materialization_events() == []
        return {each.asset_key.path[-1]: each for each in result.get_asset_check_evaluations()}

    def check_one(self, part):
        return self.check(part)[part]

    def stale(self):
        """The provisioning assets that the UI shows as out of date."""
        resolver = CachingStaleStatusResolver(self.instance, self.graph, LoadingContextForTest(self.instance))
        keys = [key for key in self.graph.materializable_asset_keys if key.path[0] == infrastructure.GROUP]
        return {key.path[-1] for key in keys if resolver.get_status(key).value == "STALE"}

    def materializations(self, part):
        return self.instance.fetch_materializations(infrastructure.key(ALONE, part), limit=100).records


def test_after_an_apply_every_check_is_green_and_nothing_is_out_of_date(fleet, dagster):
    found = dagster.check(*blueprint(fleet))
    assert set(found) == set(blueprint(fleet))
    assert all(each.passed for each in found.values())
    assert dagster.stale() == set()


def test_the_job_plan_is_these_checks_and_no_asset(fleet):
    job = definitions_of(fleet).resolve_job_def("plan")
    checked = {key.asset_key.to_user_string() for key in job.asset_layer.asset_graph.asset_check_keys}
    assert checked == {f"provisioning/{part}" for part in blueprint(fleet)} | {
        f"catalog/{rule.key}" for rule in fleet.rules
    }
    assert job.asset_layer.executable_asset_keys == set()


def test_a_changed_resource_is_red_with_what_differs_and_whom_to_ask_and_what_stands_on_it_is_out_of_date_until_it_is_put_back(
    fleet, aws, dagster
):
    aws.iam.put_role_policy(RoleName=fleet.rule_role_name, PolicyName="added", PolicyDocument=ANYTHING)
    before = len(dagster.materializations("rule_role"))
    found = [dagster.check_one("rule_role") for _ in range(2)]
    assert [each.passed for each in found] == [False, False]
    for each in found:
        assert each.description.startswith("Someone changed it outside this fleet")
        assert '-  "added": {' in each.description.split("```diff\n")[1]
        assert not {"who", "console"} & {*each.metadata}, "there is no console on this machine"
        assert [row.data["field"] for row in each.metadata["plan"].records] == ["inline"]
    assert len(dagster.materializations("rule_role")) == before + 1
    assert dagster.stale() == {"rule_role", *(f"topic_rule_{key}" for key in fleet.rule_keys)}
    dagster.apply(["rule_role"])
    assert dagster.check_one("rule_role").passed
    assert dagster.stale() == set()


def test_a_changed_setting_is_told_from_a_change_by_someone_else(fleet, dagster):
    changed = Dagster(definitions_of(replace(fleet, serial_prefix="12")), dagster.instance)
    before = len(dagster.materializations("hook"))
    found = changed.check_one("hook")
    assert not found.passed
    assert found.description.startswith("The settings have changed since it was applied")
    assert len(dagster.materializations("hook")) == before
    assert changed.stale() == {"hook", "hook_role"}


def test_a_resource_that_was_removed_is_red_and_what_stands_on_it_is_out_of_date(fleet, aws, dagster):
    aws.functions.remove_permission(FunctionName=fleet.hook_name, StatementId="InvokePermission")
    found = dagster.check_one("hook_permission")
    assert (found.passed, found.description) == (False, "It does not exist: materialize the asset.")
    assert dagster.stale() == {"hook_permission", "provisioning_template"}
    dagster.apply(["hook_permission"])
    assert dagster.stale() == set()


def test_a_resource_without_our_tag_is_red_and_says_how_to_take_it_over(fleet, aws, dagster):
    arn = fleet.policy_arn(fleet.device_policy_name)
    aws.iot.untag_resource(resourceArn=arn, tagKeys=["fleet_pipeline:stack"])
    found = dagster.check_one("device_policy")
    assert not found.passed
    assert "fleet adopt" in found.description
    aws.iot.tag_resource(resourceArn=arn, tags=[{"Key": "fleet_pipeline:stack", "Value": fleet.prefix}])
    assert dagster.check_one("device_policy").passed


def attach_another_policy(fleet, aws):
    aws.iot.create_policy(policyName="anything", policyDocument=ANYTHING)
    arn = fleet.arn("iot", f"cert/{stored_certificate_id(aws, fleet.bucket)}")
    aws.iot.attach_policy(policyName="anything", target=arn)
    return lambda: aws.iot.detach_policy(policyName="anything", target=arn)


def let_another_certificate_in(fleet, aws):
    made = aws.iot.create_keys_and_certificate(setAsActive=True)
    aws.iot.attach_policy(policyName=fleet.claim_policy_name, target=made["certificateArn"])
    return lambda: aws.iot.update_certificate(certificateId=made["certificateId"], newStatus="INACTIVE")


def disable_a_rule(fleet, aws):
    aws.iot.disable_topic_rule(ruleName=fleet.rules[0].aws_name)


def open_the_bucket(fleet, aws):
    aws.s3.delete_public_access_block(Bucket=fleet.bucket)


def let_others_invoke_the_hook(fleet, aws):
    aws.functions.add_permission(
        FunctionName=fleet.hook_name, StatementId="another", Action="lambda:InvokeFunction", Principal="*"
    )


DOORS = {
    "an extra policy on the claim certificate": (
        "claim_attachment",
        attach_another_policy,
        "also has the policy 'anything'",
    ),
    "an extra active claim certificate": (
        "claim_certificate",
        let_another_certificate_in,
        "never given out by this fleet",
    ),
    "a disabled rule": ("topic_rule_rule1", disable_a_rule, "- disabled: true"),
    "public access": ("bucket", open_the_bucket, "- public_access_blocked: false"),
    "a wider permission": ("hook_permission", let_others_invoke_the_hook, '"Sid": "another"'),
}
"""What someone may open: the part that is then red, how, and what its check says. Where it is not ours to put back, how to."""


@pytest.mark.parametrize("door", DOORS)
def test_something_foreign_that_matters_is_found_and_the_check_is_green_again_once_it_is_gone(
    fleet, aws, dagster, door
):
    part, opened, said = DOORS[door]
    close = opened(fleet, aws)
    found = dagster.check_one(part)
    assert (found.passed, said in found.description) == (False, True)
    if close:
        assert dagster.apply([part])
        assert not dagster.check_one(part).passed  # it may be somebody's intent, so no run takes it away
        close()
    else:
        assert dagster.apply([part])
    assert dagster.check_one(part).passed


def test_the_former_claim_certificate_is_nothing_foreign_while_a_rotation_lasts(fleet, aws, dagster):
    life.rotate(fleet, aws)
    assert findings(fleet, aws) == []
    life.retire(fleet, aws)
    assert findings(fleet, aws) == []


def test_a_run_that_would_change_something_while_someone_else_does_fails_and_says_who_it_is(fleet, aws, dagster):
    aws.iot.disable_topic_rule(ruleName=fleet.rules[0].aws_name)
    with Lock(aws, fleet.bucket, "ann@laptop") as lock:
        lock.take()
        assert dagster.apply(["topic_rule_rule2"])  # nothing is to be done, so no lock is asked for
        with pytest.raises(dg.Failure, match=r"ann@laptop has held the lock since"):
            reconcile_as_the_asset_does(fleet, aws)
    assert dagster.apply(["topic_rule_rule1"])
    assert dagster.check_one("topic_rule_rule1").passed
    assert "Versions" not in aws.s3.list_object_versions(Bucket=fleet.bucket, Prefix=KEY)


def reconcile_as_the_asset_does(fleet, aws):
    scope = Scope(fleet)
    asset = next(
        each
        for each in infrastructure.provisioning_assets(scope)
        if each.key == infrastructure.key(scope, "topic_rule_rule1")
    )
    with dg.build_asset_context(resources=scope.resources) as context:
        asset(context)


def test_drift_is_looked_for_every_hour_in_an_account_and_when_somebody_says_so_on_this_machine(fleet):
    schedules = {
        profile: definitions_of(replace(fleet, profile=profile)).get_schedule_def("look_for_drift")
        for profile in ("aws", "local")
    }
    assert [schedule.default_status.value for schedule in schedules.values()] == ["RUNNING", "STOPPED"]
    assert {schedule.job_name for schedule in schedules.values()} == {"plan"}


def test_the_job_and_the_asset_take_a_right_from_vehicles_only_once_that_is_confirmed(make_fleet, local_aws):
    former = make_fleet(rule_keys=("rule1", "rule2"))
    aws = Aws(former.region, former.account, local_aws.url)
    for part in blueprint(former).values():
        reconcile(part.resource, aws)
    fleet = replace(former, rule_keys=("rule1",))
    job = definitions_of(fleet).get_repository_def().get_job("provision")
    policy = {infrastructure.key(ALONE, "device_policy")}

    def run(**config):
        given = {"ops": {"provisioning__device_policy": {"config": config}}} if config else {}
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        return job.get_subset(asset_selection=policy, asset_check_selection=set()).execute_in_process(
            run_config={**quiet, **given}, raise_on_error=False, instance=dg.DagsterInstance.ephemeral()
        )

    refused = run()
    assert not refused.success
    [event] = [each for each in refused.all_node_events if each.is_step_failure]
    assert "would lose vehicles' right to publish to $aws/rules/test_rule_rule2/" in str(event.event_specific_data)
    assert not run(confirm="another").success
    assert run(confirm=fleet.bucket).success
    assert run().success


def test_the_job_begins_with_another_bucket_only_once_that_is_confirmed(make_fleet, local_aws):
    former = make_fleet(rule_keys=("rule1",))
    aws = Aws(former.region, former.account, local_aws.url)
    for part in blueprint(former).values():
        reconcile(part.resource, aws)
    fleet = replace(former, bucket=f"{former.bucket}-moved", lake_bucket="")
    job = definitions_of(fleet).get_repository_def().get_job("provision")
    done = job.execute_in_process(
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        raise_on_error=False,
        instance=dg.DagsterInstance.ephemeral(),
    )
    failed = {
        str(each.step_key): str(each.event_specific_data) for each in done.all_node_events if each.is_step_failure
    }
    assert "provisioning__bucket" in failed
    assert f"would lose sight of the bucket {former.bucket}" in failed["provisioning__bucket"]
    assert fleet.bucket not in {each["Name"] for each in aws.s3.list_buckets()["Buckets"]}
    [action] = aws.iot.get_topic_rule(ruleName="test_rule_rule1")["rule"]["actions"]
    assert action["s3"]["bucketName"] == former.bucket


def test_links_lead_to_the_console_of_an_account_and_to_none_on_this_machine():
    path = "s3/buckets/b"
    [(name, link)] = infrastructure.console(Fleet(profile="aws"), "console", path).items()
    assert (name, link.url) == ("console", f"https://eu-central-1.console.aws.amazon.com/{path}")
    assert infrastructure.console(Fleet(), "console", path) == {}
