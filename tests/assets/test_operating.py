"""The jobs and checks of running the fleet for years, as Dagster launches them: one fleet goes through all of them, in this order."""

import json

import dagster as dg
import pytest
from in_dagster import ALONE, definitions_of

from fleet_pipeline.account import Account
from fleet_pipeline.assets.lake import errors, raw
from fleet_pipeline.assets.provisioning import infrastructure
from fleet_pipeline.cloud.blueprint import blueprint

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
REPORTED = "errors/rule1/1795442400123-0f8fad5b-d9cb-469f-a165-70867728950e"
WIDE = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}


@pytest.fixture(scope="module")
def fleet(make_fleet):
    return make_fleet(rule_keys=("rule1",))


@pytest.fixture(scope="module")
def aws(fleet):
    return Account.of(fleet).aws


@pytest.fixture(scope="module")
def launch(fleet):
    instance = dg.DagsterInstance.ephemeral()

    def run(job, config=None, **selection):
        definition = definitions_of(fleet).resolve_job_def(job)
        run_config = QUIET | ({"ops": {f"{job.removesuffix('_claim')}_op": {"config": config}}} if config else {})
        return definition.execute_in_process(
            instance=instance, run_config=run_config, raise_on_error=False, **selection
        )

    run.instance = instance
    return run


@pytest.fixture(scope="module")
def provisioned(launch):
    return launch("provision")


def evaluations(result):
    return {(each.asset_key.path[-1], each.check_name): each for each in result.get_asset_check_evaluations()}


def said(result):
    return next(
        event.step_failure_data.user_failure_data.description for event in result.all_events if event.is_step_failure
    )


def test_after_an_apply_the_policies_stand_the_attacks_the_virtual_vehicle_drives_and_no_setting_invites_trouble(
    provisioned, fleet
):
    assert provisioned.success
    found = evaluations(provisioned)
    assert {name for name, each in found.items() if not each.passed} == set()
    assert {("device_policy", "attacks"), ("claim_policy", "attacks"), ("claim_attachment", "virtual_vehicle")} <= set(
        found
    )
    assert {part for part, check in found if check == "hardened"} == set(blueprint(fleet))


def test_a_wide_policy_turns_its_checks_red_and_the_apply_puts_it_right(provisioned, launch, fleet, aws):
    aws.iot.create_policy_version(
        policyName=fleet.device_policy_name, policyDocument=json.dumps(WIDE), setAsDefault=True
    )
    keys = [dg.AssetCheckKey(infrastructure.key(ALONE, "device_policy"), check) for check in ("attacks", "hardened")]
    looked = dg.materialize(
        [*definitions_of(fleet).assets, *definitions_of(fleet).asset_checks],
        selection=dg.AssetSelection.checks(*keys),
        instance=launch.instance,
        resources=definitions_of(fleet).resources,
        run_config=QUIET,
        raise_on_error=False,
    )
    red = evaluations(looked)
    assert not red["device_policy", "attacks"].passed
    assert "changes another vehicle's shadow" in red["device_policy", "attacks"].description
    assert "wide Connect" in red["device_policy", "hardened"].description
    assert all(each.passed for each in evaluations(launch("provision")).values())


def test_a_rollback_lasts_until_the_next_apply_and_says_what_that_would_change(provisioned, launch, fleet, aws):
    versions = {
        each["versionId"]: each
        for each in aws.iot.list_policy_versions(policyName=fleet.device_policy_name)["policyVersions"]
    }
    wide = next(
        number
        for number in versions
        if json.loads(
            aws.iot.get_policy_version(policyName=fleet.device_policy_name, policyVersionId=number)["policyDocument"]
        )
        == WIDE
    )
    assert launch("rollback", {"resource": "device_policy", "to": int(wide)}).success
    assert json.loads(aws.iot.get_policy(policyName=fleet.device_policy_name)["policyDocument"]) == WIDE
    assert launch("provision").success
    assert json.loads(aws.iot.get_policy(policyName=fleet.device_policy_name)["policyDocument"]) != WIDE


@pytest.mark.parametrize("job", ["rotate_claim", "retire_claim", "revoke_claim"])
def test_a_job_that_ends_a_claim_certificate_changes_nothing_until_the_buckets_name_is_typed(
    provisioned, launch, fleet, aws, job
):
    before = aws.iot.list_certificates()["certificates"]
    for config in ({}, {"confirm": "yes"}):
        assert f"set `confirm` in its config to the bucket's name, {fleet.bucket}" in said(launch(job, config))
    assert aws.iot.list_certificates()["certificates"] == before


def test_a_rollback_of_what_has_no_versions_names_what_has(provisioned, launch):
    assert "device_policy, provisioning_template, claim_policy" in said(
        launch("rollback", {"resource": "bucket", "to": 1})
    )


def test_what_a_rule_could_not_write_is_counted_then_replayed_then_gone(provisioned, launch, fleet, aws):
    report = {
        "ruleName": "test_rule_rule1",
        "topic": "test-rule/rule1",
        "clientId": "N/A",
        "base64OriginalPayload": "e30=",
        "failures": [{"failedAction": "S3Action", "failedResource": fleet.bucket, "errorMessage": "Access Denied"}],
    }
    aws.s3.put_object(Bucket=fleet.bucket, Key=REPORTED, Body=json.dumps(report).encode())
    rule = fleet.rules[0]

    def counted():
        result = dg.materialize(
            [*definitions_of(fleet).assets],
            selection=[errors.key(ALONE, rule)],
            instance=launch.instance,
            resources=definitions_of(fleet).resources,
            run_config=QUIET,
        )
        return result.asset_materializations_for_node("errors__rule1")[0].metadata["waiting"].value, evaluations(
            result
        )["rule1", "nothing_waits"].passed

    assert counted() == (1, False)
    replayed = launch("replay")
    assert replayed.success
    assert [event.asset_key for event in replayed.all_events if event.event_type_value == "ASSET_OBSERVATION"] == [
        raw.key(ALONE, rule)
    ]
    assert counted() == (0, True)
    assert (
        aws.s3.get_object(Bucket=fleet.bucket, Key=f"test-rule/rule1/{REPORTED.rsplit('/', 1)[1]}")["Body"].read()
        == b"{}"
    )


def test_the_export_shows_the_template(launch):
    result = launch("export_cloudformation")
    metadata = next(event.step_output_data.metadata for event in result.all_events if event.is_successful_output)
    assert "TopicRuleRule1" in metadata["template"].value["Resources"]


def test_a_teardown_is_refused_without_the_buckets_name_and_afterwards_shows_as_not_materialized(
    provisioned, launch, fleet
):
    def materialized(part):
        return launch.instance.get_latest_materialization_event(infrastructure.key(ALONE, part)) is not None

    refused = launch("destroy")
    assert fleet.bucket in said(refused)
    assert materialized("device_policy")
    assert launch("destroy", {"confirm": fleet.bucket}).success
    assert {part for part in blueprint(fleet) if materialized(part)} == {"bucket", "lake_bucket"}
