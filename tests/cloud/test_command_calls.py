"""Which calls the commands outside of provisioning make, recorded at the wire on AWS on this machine: their documents allow them all, and what else these allow is named."""

import base64
import json
import os
import re
import uuid
from datetime import UTC, datetime
from pathlib import Path

import click
import dagster as dg
import pytest
from click.testing import CliRunner
from recorded import recording
from test_iam import allowed_by

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cli.main import fleet_command
from fleet_pipeline.cloud.claims.certificates import read_claim
from fleet_pipeline.cloud.claims.keys import certificate_id
from fleet_pipeline.cloud.documents.iam import (
    boundary_policy,
    compaction_policy,
    provisioner_policies,
    replay_policy,
    virtual_vehicle_policy,
)
from fleet_pipeline.definitions import build_definitions
from fleet_pipeline.model.hour import Hour

PAGE = (Path(__file__).parents[2] / "docs" / "iam.md").read_text()
SERIAL, ANOTHER = "297468000001", "297468000002"
HOUR = Hour(datetime(2026, 11, 23, 10, tzinfo=UTC))
MESSAGE = f"{HOUR.start_ms}-00000000-0000-4000-8000-000000000001"
HOURS = ("--from", "2026-11-23-10:00", "--to", "2026-11-23-11:00")
CHOICES = {
    "FLEET_ALLOW_LIST": "dynamodb",
    "FLEET_CLAIM_STORE": "secretsmanager",
    "FLEET_BULK_REGISTRATION": "on",
    "FLEET_ROLE_BOUNDARY": "own",
    "FLEET_RULE_KEYS": "rule1",
    "FLEET_START": "2026-11-23",
}
COMMANDS = [
    ("apply --no-trial", "provisioner"),
    ("vehicle allow --serial", "provisioner", SERIAL, "--serial", ANOTHER),
    ("vehicle allowed", "provisioner"),
    ("vehicle register --serial", "provisioner", SERIAL),
    ("vehicle drive --vehicles 1 --messages 2", "provisioner"),
    ("vehicle why --serial", "provisioner", SERIAL),
    ("vehicle check", "provisioner"),
    ("vehicle restore --serial", "provisioner", SERIAL),
    ("vehicle retire --serial", "provisioner", SERIAL, "--every", "--delete", "--yes"),
    ("hook test", "provisioner", "event.json"),
    ("check", "provisioner + virtual-vehicle"),
    ("claim files --folder files", "provisioner"),
    ("versions device_policy", "provisioner"),
    ("rollback device_policy --to 1", "provisioner"),
    ("compact --dry-run", "compaction", *HOURS),
    ("compact", "compaction", *HOURS),
    ("schema show --rule rule1", "compaction"),
    ("schema pin --rule rule1", "compaction"),
    ("lake rewrite", "compaction"),
    ("lake ddl", "compaction"),
    ("query", "compaction", "SELECT count(*) FROM rule1"),
    ("shell", "compaction"),
    ("connect", "compaction"),
    ("raw purge --dry-run", "compaction", *HOURS),
    ("raw where --rule rule1", "compaction", "test-rule/rule1/{message}"),
    ("errors", "replay"),
    ("replay", "replay"),
    ("cost", "compaction"),
    ("adopt-bucket", "compaction", "s3://{bucket}/old"),
]
"""Commands in an order in which each has something to do, and whose rights each needs."""


def runner(fleet):
    """Return what runs a command with the fleet's settings, in a folder of its own."""
    given = {"FLEET_ACCOUNT": fleet.account, "FLEET_BUCKET": fleet.bucket, "FLEET_HOME": fleet.home, **CHOICES}

    def run(*arguments):
        result = CliRunner().invoke(fleet_command, arguments, env={**os.environ, **given, "COLUMNS": "200"}, input="")
        return result.exit_code, result.output + str(result.exception or "")

    return run


@pytest.fixture(scope="module")
def recorded(make_fleet, local_aws, tmp_path_factory):
    """Return the actions of each command."""
    fleet = make_fleet(role_boundary="own", rule_keys=("rule1",), allow_list="dynamodb", claim_store="secretsmanager")
    aws, run, calls = Aws(fleet.region, fleet.account, local_aws.url), runner(fleet), {}
    name = fleet.boundary_arn.rsplit("/", 1)[1]
    aws.iam.create_policy(PolicyName=name, PolicyDocument=json.dumps(boundary_policy(fleet)))
    with pytest.MonkeyPatch.context() as patch, recording(fleet, local_aws) as seen:
        patch.chdir(tmp_path_factory.mktemp("here"))
        for command, _, *further in COMMANDS:
            seen.made.clear()
            code, said = run(*command.split(), *(each.format(bucket=fleet.bucket, message=MESSAGE) for each in further))
            assert code == 0, (command, said)
            calls[command] = seen.made - {"sts:GetCallerIdentity"}
            if command.startswith("apply"):
                put_messages(fleet, aws)
                Path("event.json").write_text(json.dumps(event(fleet, aws)))
        calls |= {name: made - {"sts:GetCallerIdentity"} for name, made in in_dagster(fleet, seen)}
    return fleet, calls


def event(fleet, aws):
    """What AWS IoT would ask the hook of another vehicle."""
    return {
        "claimCertificateId": certificate_id(read_claim(fleet, aws).certificate_pem),
        "certificateId": "1" * 64,
        "templateArn": fleet.template_arn,
        "clientId": "claim-1",
        "parameters": {"SerialNumber": ANOTHER},
    }


def put_messages(fleet, aws):
    """A message of the hour, and a report of one that its rule could not write."""
    [rule], body = fleet.rules, b'{"serial": "297468000001", "speed_kmh": 48.2}'
    aws.s3.put_object(Bucket=fleet.bucket, Key=f"{rule.raw_prefix}{MESSAGE}", Body=body)
    payload = base64.b64encode(body).decode()
    report = {"ruleName": rule.aws_name, "topic": rule.topic, "base64OriginalPayload": payload, "failures": []}
    aws.s3.put_object(Bucket=fleet.bucket, Key="old/2026/11/23/10/one.json", Body=body)
    key = f"{fleet.report_prefix(rule)}{HOUR.start_ms}-{uuid.uuid4()}"
    aws.s3.put_object(Bucket=fleet.bucket, Key=key, Body=json.dumps(report).encode())


ASSETS = [
    ("lake/rule1", "compaction", ["lake/rule1"], HOUR.partition_key),
    ("vehicles/hourly", "compaction", ["vehicles/hourly"], HOUR.partition_key),
    ("vehicles/daily", "compaction", ["vehicles/daily"], "2026-11-23"),
    ("catalog/*", "compaction", ["catalog/database", "catalog/rule1"], None),
    ("errors/*", "replay", ["errors/rule1"], None),
    ("provisioning/*", "provisioner", ["provisioning/topic_rule_rule1"], None),
]
JOBS = [("look", "compaction"), ("plan", "provisioner")]
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def in_dagster(fleet, seen):
    """Yield the actions of assets and jobs by their names."""
    definitions = build_definitions(fleet)
    with dg.instance_for_test() as instance:
        for name, _, assets, partition in ASSETS:
            seen.made.clear()
            keys = [dg.AssetKey(each.split("/")) for each in assets]
            job = definitions.get_repository_def().get_implicit_job_def_for_assets(keys)
            run = {"instance": instance, "partition_key": partition, "run_config": QUIET}
            assert job.execute_in_process(asset_selection=keys, **run).success, name
            yield name, {*seen.made}
        for name, _ in JOBS:
            seen.made.clear()
            job = definitions.resolve_job_def(name)
            assert job.execute_in_process(instance=instance, run_config=QUIET, raise_on_error=False).dagster_run
            yield name, {*seen.made}


WHOSE = {command: whose for command, whose, *_ in [*COMMANDS, *ASSETS, *JOBS]}


def allowed_to(fleet, whose):
    documents = {
        "provisioner": [*provisioner_policies(fleet).values()],
        "compaction": [compaction_policy(fleet)],
        "replay": [replay_policy(fleet)],
        "virtual-vehicle": [virtual_vehicle_policy(fleet)],
    }
    return {action for each in whose.split(" + ") for document in documents[each] for action in allowed_by(document)}


def line(name, actions):
    """A command is named as it is typed, without what is given to it."""
    said = name if name.endswith("--dry-run") else re.split(r" --| device_policy", name)[0]
    made = ", ".join(f"`{action}`" for action in sorted(actions)) or "none"
    return f"| `{said}` | {WHOSE[name]} | {made} |"


IN_THE_TABLE_OF_PROVISIONING = {"apply --no-trial"}


def test_each_command_calls_what_the_table_says(recorded):
    _, calls = recorded
    lines = [line(*each) for each in calls.items() if each[0] not in IN_THE_TABLE_OF_PROVISIONING]
    assert [each for each in lines if each not in PAGE] == []


def test_whatever_a_command_calls_its_documents_allow(recorded):
    fleet, calls = recorded
    refused = {name: made - allowed_to(fleet, WHOSE[name]) for name, made in calls.items()}
    assert {name: made for name, made in refused.items() if made} == {}


@pytest.mark.parametrize("whose", ["compaction", "replay", "virtual-vehicle"])
def test_what_a_document_allows_beyond_these_calls_is_named_with_its_reason(recorded, whose):
    fleet, calls = recorded
    made = {action for name, actions in calls.items() if whose in WHOSE[name] for action in actions}
    [row] = re.findall(rf"^\| `{whose}` beyond \|(.*)\|.*\|$", PAGE, re.MULTILINE)
    assert set(re.findall(r"`([a-z0-9]+:[A-Za-z]+)`", row)) == allowed_to(fleet, whose) - made


def commands(group, names=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*names, name))
        else:
            yield " ".join((*names, name))


def test_every_command_job_and_asset_is_on_the_page(recorded):
    fleet, _ = recorded
    named = set(re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)))
    repository = build_definitions(fleet).get_repository_def()
    jobs = {job.name for job in repository.get_all_jobs()} - {"__ASSET_JOB"}
    assets = {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()}
    clocks = {each.name for each in (*repository.sensor_defs, *repository.schedule_defs)}
    everything = {*commands(fleet_command), *jobs, *assets, *clocks}
    assert {each for each in everything if each not in named and f"{each.split('/')[0]}/*" not in named} == set()
