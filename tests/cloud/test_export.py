"""The blueprint as a CloudFormation template: whole, in order, without a secret, and accepted by cfn-lint."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.operations.cloudformation import CERTIFICATE, cloudformation
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.rule_table import RuleTable

pytestmark = pytest.mark.whole  # it starts processes

FLEET = replace(Fleet(), allow_list="dynamodb")
LINT = Path(sys.executable).with_name("cfn-lint")


def lint(template, path):
    path.write_text(json.dumps(template))
    return subprocess.run(
        [LINT, "--regions", FLEET.region, "--", path], capture_output=True, text=True, check=False, timeout=120
    )


def test_cfn_lint_finds_nothing_to_say(tmp_path):
    found = lint(cloudformation(FLEET), tmp_path / "template.json")
    assert (found.stdout, found.returncode) == ("", 0)


def test_cfn_lint_would_see_a_mistake(tmp_path):
    """The control of the test above."""
    template = cloudformation(FLEET)
    template["Resources"]["TopicRuleRule1"]["Properties"]["TopicRulePayload"]["Actions"] = [{"S4": {}}]
    assert "E3002" in lint(template, tmp_path / "template.json").stdout


def test_every_part_but_the_claim_certificate_is_in_the_template():
    template = cloudformation(FLEET)
    assert template["Metadata"]["NotExported"] == ["claim_certificate"]
    assert CERTIFICATE in template["Parameters"]
    assert template["Resources"]["ClaimAttachment"]["Properties"]["Principal"] == {"Ref": CERTIFICATE}
    assert (
        len(template["Resources"]) == len(blueprint(FLEET)) - 1 + 2
    )  # the buckets' policies are resources of their own


def test_what_must_exist_before_is_waited_for():
    resources = cloudformation(FLEET)["Resources"]
    assert "HookPermission" in resources["ProvisioningTemplate"]["DependsOn"]
    assert resources["ClaimAttachment"]["DependsOn"] == ["ClaimPolicy"]
    assert resources["LakeBucketPolicy"]["DependsOn"] == ["LakeBucket"]


def test_a_rules_shards_are_in_the_template():
    fleet = replace(FLEET, rule_keys=(), rule_tables=(RuleTable(key="x", shards=256),))
    [action] = cloudformation(fleet)["Resources"]["TopicRuleX"]["Properties"]["TopicRulePayload"]["Actions"]
    assert action["S3"]["Key"] == "${topic()}/shards/${substring(newuuid(), 0, 2)}/${timestamp()}-${newuuid()}"


@pytest.mark.parametrize("part", ["Bucket", "LakeBucket", "AllowListTable"])
def test_data_outlives_the_stack(part):
    assert cloudformation(FLEET)["Resources"][part]["DeletionPolicy"] == "Retain"
