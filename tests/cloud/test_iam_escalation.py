"""No way from the provisioner to an administrator: each known one is tried, against an evaluator that is not ours (that of AWS on this machine)."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document
from moto.iam.aws_managed_policies import aws_managed_policies_data

from fleet_pipeline.cloud.blueprint import blueprint, resources
from fleet_pipeline.cloud.documents.iam import boundary_policy, provisioner_policies
from fleet_pipeline.cloud.kinds.role import Role
from fleet_pipeline.model.fleet import Fleet

FLEET = replace(Fleet(), role_boundary="own")
SECURITY = Path(__file__).parents[2] / "docs" / "security.md"
POLICIES = [parse_policy_document(document) for document in provisioner_policies(FLEET).values()]
LIMIT = [parse_policy_document(boundary_policy(FLEET))]
WITHIN = {"iam:permissionsboundary": FLEET.boundary_arn}
HOOK_ROLE = FLEET.role_arn(FLEET.hook_role_name)
OTHERS_ROLE = FLEET.role_arn("administrator")
OTHERS_FUNCTION = FLEET.arn("lambda", "function:cdk-test-dev-deploy")
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


@dataclass(frozen=True)
class Call:
    """A call, and what AWS fills its conditions with."""

    action: str
    arn: str
    conditions: dict = field(default_factory=dict)


def allowed(call, policies=POLICIES, *limits):
    context = EvalContext(
        FLEET.role_arn("x"), "AssumedRole", FLEET.account, call.action, call.arn, FLEET.region, "198.51.100.1", True
    )
    context.service_context.update(call.conditions)
    return evaluate(context, policies, *limits).decision == "Allow"


ESCALATIONS = {
    "make a role without a boundary": Call("iam:CreateRole", HOOK_ROLE),
    "make a role within a boundary of one's own": Call(
        "iam:CreateRole", HOOK_ROLE, {"iam:permissionsboundary": FLEET.arn("iam", "policy/wide")}
    ),
    "make a role of another name, within the boundary": Call("iam:CreateRole", OTHERS_ROLE, WITHIN),
    "make a role that is named like the fleet's": Call(
        "iam:CreateRole", FLEET.role_arn("cdk-test-dev-administrator"), WITHIN
    ),
    "give a role without a boundary a policy": Call("iam:PutRolePolicy", HOOK_ROLE),
    "give another's role a policy": Call("iam:PutRolePolicy", OTHERS_ROLE, WITHIN),
    "attach AdministratorAccess": Call(
        "iam:AttachRolePolicy", HOOK_ROLE, {**WITHIN, "iam:policyarn": "arn:aws:iam::aws:policy/AdministratorAccess"}
    ),
    "attach what is allowed to a role without a boundary": Call(
        "iam:AttachRolePolicy", HOOK_ROLE, {"iam:policyarn": FLEET.registration_policy_arn}
    ),
    "take a boundary away": Call("iam:DeleteRolePermissionsBoundary", HOOK_ROLE, WITHIN),
    "put a wider boundary in its place": Call(
        "iam:PutRolePermissionsBoundary", HOOK_ROLE, {"iam:permissionsboundary": FLEET.arn("iam", "policy/wide")}
    ),
    "write the boundary anew": Call("iam:CreatePolicyVersion", FLEET.boundary_arn),
    "set an older version of the boundary": Call("iam:SetDefaultPolicyVersion", FLEET.boundary_arn),
    "delete the boundary, to make another of its name": Call("iam:DeletePolicy", FLEET.boundary_arn),
    "make a policy": Call("iam:CreatePolicy", FLEET.arn("iam", "policy/cdk-test-dev-boundary")),
    "change whom another's role trusts": Call("iam:UpdateAssumeRolePolicy", OTHERS_ROLE, WITHIN),
    "change whom a role without a boundary trusts": Call("iam:UpdateAssumeRolePolicy", HOOK_ROLE),
    "assume another's role": Call("sts:AssumeRole", OTHERS_ROLE),
    "pass another's role to a function": Call(
        "iam:PassRole", OTHERS_ROLE, {"iam:passedtoservice": "lambda.amazonaws.com"}
    ),
    "pass the fleet's role to EC2": Call("iam:PassRole", HOOK_ROLE, {"iam:passedtoservice": "ec2.amazonaws.com"}),
    "give a role a tag by which others grant rights": Call("iam:TagRole", HOOK_ROLE, {"aws:tagkeys": ["team"]}),
    "replace the code of another's function": Call("lambda:UpdateFunctionCode", OTHERS_FUNCTION),
    "give another's function another role": Call("lambda:UpdateFunctionConfiguration", OTHERS_FUNCTION),
    "let anybody invoke another's function": Call(
        "lambda:AddPermission", OTHERS_FUNCTION, {"lambda:principal": "iot.amazonaws.com"}
    ),
    "let another account invoke the hook": Call(
        "lambda:AddPermission", FLEET.hook_arn, {"lambda:principal": "210987654321"}
    ),
    "invoke the hook with code of one's own": Call("lambda:InvokeFunction", FLEET.hook_arn),
    "make a user": Call("iam:CreateUser", FLEET.arn("iam", "user/x")),
    "make a user's access key": Call("iam:CreateAccessKey", FLEET.arn("iam", "user/administrator")),
    "write the policy of another's bucket": Call("s3:PutBucketPolicy", "arn:aws:s3:::others"),
    "read another's secret": Call("secretsmanager:GetSecretValue", FLEET.arn("secretsmanager", "secret:others")),
    "replace another's topic rule": Call("iot:ReplaceTopicRule", FLEET.arn("iot", "rule/theirs")),
    "delete another's topic rule": Call("iot:DeleteTopicRule", FLEET.arn("iot", "rule/theirs")),
    "write another's IoT policy": Call("iot:CreatePolicyVersion", FLEET.policy_arn("theirs")),
    "rewrite another's provisioning template": Call(
        "iot:CreateProvisioningTemplateVersion", FLEET.arn("iot", "provisioningtemplate/theirs")
    ),
    "delete another's things": Call("iot:DeleteThing", FLEET.arn("iot", "thing/theirs")),
}
"""Ways to more rights than one has, of the published lists (role and policy, passing, trust, functions, tags, resource policies)."""

OPEN = {
    "activate or deactivate any certificate": Call("iot:UpdateCertificate", FLEET.arn("iot", "cert/theirs")),
    "attach an IoT policy to any certificate": Call("iot:AttachPolicy", FLEET.arn("iot", "cert/theirs")),
    "let others read the fleet's own buckets by their policies": Call(
        "s3:PutBucketPolicy", f"arn:aws:s3:::{FLEET.bucket}"
    ),
}
"""What IAM has no condition for. docs/security.md says what follows from each."""

NEEDED = {
    "make a role within the boundary": Call(
        "iam:CreateRole", HOOK_ROLE, {**WITHIN, "aws:tagkeys": ["fleet_pipeline:stack"]}
    ),
    "tag it": Call("iam:TagRole", HOOK_ROLE, {"aws:tagkeys": ["fleet_pipeline:stack", "fleet_pipeline:application"]}),
    "put the boundary on a role that has none": Call("iam:PutRolePermissionsBoundary", HOOK_ROLE, WITHIN),
    "give it a policy": Call("iam:PutRolePolicy", HOOK_ROLE, WITHIN),
    "attach AWS's policy for registration": Call(
        "iam:AttachRolePolicy", HOOK_ROLE, {**WITHIN, "iam:policyarn": FLEET.registration_policy_arn}
    ),
    "pass it to its function": Call("iam:PassRole", HOOK_ROLE, {"iam:passedtoservice": "lambda.amazonaws.com"}),
    "let AWS IoT invoke the hook": Call(
        "lambda:AddPermission", FLEET.hook_arn, {"lambda:principal": "iot.amazonaws.com"}
    ),
    "remove a role that never had a boundary": Call("iam:DeleteRole", HOOK_ROLE),
}


@pytest.mark.parametrize("way", ESCALATIONS)
def test_the_provisioner_is_refused(way):
    assert not allowed(ESCALATIONS[way])


@pytest.mark.parametrize("action", NEEDED)
def test_the_provisioner_may(action):
    assert allowed(NEEDED[action])


@pytest.mark.parametrize("way", OPEN)
def test_what_iam_cannot_refuse_is_said_in_the_page_on_security(way):
    assert allowed(OPEN[way])
    assert f"| {way} |" in SECURITY.read_text()


def test_each_way_that_is_tried_stands_in_the_page_on_security():
    page = SECURITY.read_text()
    assert [way for way in ESCALATIONS if f"- {way}\n" not in page] == []


ADMINISTRATORS = [
    Call("iam:CreateUser", FLEET.arn("iam", "user/x")),
    Call("iam:PutRolePolicy", OTHERS_ROLE),
    Call("sts:AssumeRole", OTHERS_ROLE),
    Call("s3:GetObject", f"arn:aws:s3:::{FLEET.bucket}/{FLEET.raw_prefix}/rule1/1795442400123"),
    Call("s3:GetObject", f"arn:aws:s3:::{FLEET.bucket}/claim-certificate/claim.private.key"),
    Call("s3:PutObject", f"arn:aws:s3:::{FLEET.lake_bucket}/lake/x"),
    Call("iot:CreatePolicy", FLEET.policy_arn("everything")),
    Call("iot:DeleteThing", FLEET.arn("iot", "thing/test-thing-297468000001")),
    Call("lambda:UpdateFunctionCode", FLEET.hook_arn),
    Call("ec2:RunInstances", "*"),
    Call("kms:Decrypt", FLEET.arn("kms", "key/x")),
]


@pytest.mark.parametrize("call", ADMINISTRATORS, ids=lambda call: f"{call.action} {call.arn.split(':')[-1]}")
def test_a_role_of_the_fleet_that_is_given_every_right_may_still_not(call):
    everything = [parse_policy_document(EVERYTHING)]
    assert allowed(call, everything)
    assert not allowed(call, everything, LIMIT)


@pytest.mark.parametrize(
    "settings", [{}, {"allow_list": "s3"}, {"allow_list": "dynamodb"}, {"bulk_registration": "on"}], ids=str
)
def test_the_boundary_lets_each_role_do_all_that_its_own_policies_say(settings):
    fleet = replace(FLEET, **settings)
    limit = [parse_policy_document(boundary_policy(fleet))]
    for role in (each for each in resources(blueprint(fleet)) if isinstance(each, Role)):
        for document in role.inline.values():
            own = [parse_policy_document(document)]
            for call in (
                Call(action, arn)
                for statement in document["Statement"]
                for action in listed(statement["Action"])
                for arn in listed(statement["Resource"])
            ):
                assert allowed(call, own, limit), (role.name, call)


NOT_FOR_REGISTRATION = {
    "AddThingToBillingGroup",
    "AddThingToThingGroup",
    "CreatePolicy",
    "RegisterCertificate",
    "RemoveThingFromBillingGroup",
    "RemoveThingFromThingGroup",
    "UpdateThingGroupsForThing",
}
"""Of AWS's policy for registration: what templates need that name groups, make policies or bring certificates. Ours do none of it."""


def test_the_boundary_has_of_awss_policy_for_registration_what_our_templates_need():
    [theirs] = json.loads(aws_managed_policies_data)["AWSIoTThingsRegistration"]["Document"]["Statement"]
    bounded = {action for statement in boundary_policy(FLEET)["Statement"] for action in listed(statement["Action"])}
    assert set(theirs["Action"]) - bounded == {f"iot:{verb}" for verb in NOT_FOR_REGISTRATION}


def listed(said):
    return [said] if isinstance(said, str) else said
