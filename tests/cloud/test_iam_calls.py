"""Which calls each command of the provisioner makes, recorded on AWS on this machine: the printed documents allow them, and what else they allow is named."""

import json
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from test_iam import UNLIKE_THE_API, allowed_by

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.claims import life
from fleet_pipeline.cloud.claims.certificates import Claims, held, read_claim
from fleet_pipeline.cloud.documents.iam import boundary_policy, provisioner_policies
from fleet_pipeline.cloud.enrolment import allow_list
from fleet_pipeline.cloud.hardening.review import reviewed
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations import foreign
from fleet_pipeline.cloud.operations.adopt import adopt
from fleet_pipeline.cloud.operations.apply import apply_all, plan_all
from fleet_pipeline.cloud.operations.destroy import destroy
from fleet_pipeline.cloud.operations.given import looked_at

PAGE = Path(__file__).parents[2] / "docs" / "iam.md"
PREFIXES = {"cloudwatch-logs": "logs", "secrets-manager": "secretsmanager"}
BY_VERSION = {"s3:GetObject": "s3:GetObjectVersion", "s3:DeleteObject": "s3:DeleteObjectVersion"}


def apply(fleet, aws, **confirmed):
    with Lock(aws, fleet.bucket, "a test") as lock:
        list(apply_all(fleet, aws, lock, **confirmed))


def adopt_all(fleet, aws):
    with Lock(aws, fleet.bucket, "a test") as lock:
        assert adopt(fleet, aws, lock)


def changed(fleet):
    return replace(
        fleet,
        application="other",
        hook_runtime="python3.12",
        serial_prefix="29746",
        claim_client_prefix="new-",
        rule_keys=("rule1", "rule2"),
    )


def as_others_left_it(fleet, aws):
    """Nothing carries a tag of ours, as after a stack of the CDK app."""
    for part in (fleet.bucket, fleet.lake_bucket):
        aws.s3.delete_bucket_tagging(Bucket=part)
    for rule in fleet.rules:
        aws.iot.untag_resource(resourceArn=fleet.arn("iot", f"rule/{rule.aws_name}"), tagKeys=[*fleet.all_tags])


LIFE = {
    "plan": lambda fleet, aws: (plan_all(fleet, aws), looked_at(fleet, aws)),
    "apply": apply,
    "apply, settings changed": lambda fleet, aws: apply(changed(fleet), aws, confirmed=fleet.bucket),
    "adopt": lambda fleet, aws: adopt_all(changed(fleet), aws),
    "check, without the virtual vehicle": lambda fleet, aws: (
        reviewed(changed(fleet), aws, date(2026, 11, 29)),
        foreign.findings(fleet, aws),
    ),
    "claim show": lambda fleet, aws: (held(Claims.of(fleet), aws), read_claim(fleet, aws)),
    "claim rotate": life.rotate,
    "claim retire": life.retire,
    "claim temporary": life.temporary,
    "claim revoke": life.revoke,
    "vehicle allow": lambda fleet, aws: (allow_list.add(fleet, aws, "297468000001"), allow_list.read(fleet, aws)),
    "destroy": lambda fleet, aws: list(destroy(changed(fleet), aws, confirmed=fleet.bucket, with_data=True)),
}
"""The life of a fleet, command by command."""


@pytest.fixture(scope="module")
def recorded(make_fleet, local_aws):
    """Return the actions of each command, in a fleet with every option that needs no files."""
    fleet = make_fleet(
        role_boundary="own", allow_list="dynamodb", claim_store="secretsmanager", kms_key="alias/company"
    )
    aws = Aws(fleet.region, fleet.account, local_aws.url)
    aws.iam.create_policy(
        PolicyName=fleet.boundary_arn.rsplit("/", 1)[1], PolicyDocument=json.dumps(boundary_policy(fleet))
    )
    aws.kms.create_alias(AliasName="alias/company", TargetKeyId=aws.kms.create_key()["KeyMetadata"]["KeyId"])
    calls = {}
    for command, action in LIFE.items():
        if command == "adopt":
            as_others_left_it(changed(fleet), aws)
        calls[command] = _recorded(action, fleet, local_aws.url)
    return fleet, calls


def _recorded(action, fleet, url):
    made, aws = set(), Aws(fleet.region, fleet.account, url)

    def note(model, params, **_):
        service = model.service_model.service_id.hyphenize()
        action = f"{PREFIXES.get(service, service)}:{model.name}"
        action = UNLIKE_THE_API.get(action, action)
        made.add(BY_VERSION.get(action, action) if "versionId" in str(params.get("query_string")) else action)

    aws.session.events.register_first("before-call", note)
    action(fleet, aws)
    return made


def test_each_command_calls_what_the_table_says(recorded):
    _, calls = recorded
    rows = [
        f"| `{command}` | {', '.join(f'`{action}`' for action in sorted(made))} |" for command, made in calls.items()
    ]
    assert [row for row in rows if row not in PAGE.read_text()] == []


def test_whatever_a_command_calls_the_printed_documents_allow(recorded):
    fleet, calls = recorded
    allowed = {action for document in provisioner_policies(fleet).values() for action in allowed_by(document)}
    assert {command: made - allowed for command, made in calls.items() if made - allowed} == {}


def test_what_the_documents_allow_beyond_these_calls_is_named_with_its_reason(recorded):
    fleet, calls = recorded
    allowed = {action for document in provisioner_policies(fleet).values() for action in allowed_by(document)}
    beyond = allowed - {action for made in calls.values() for action in made}
    named = re.search(r"Beyond these calls.*?\n\n((?:\|.*\n)+)", PAGE.read_text())
    assert named
    assert beyond == {action for row in named[1].splitlines() for action in re.findall(r"`([a-z0-9]+:[A-Za-z]+)`", row)}
