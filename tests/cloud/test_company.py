"""What a company says of all that it has in an account: its tags, a path of its roles, how long logs are kept, what is reserved, where failures and requests are told."""

import json
from dataclasses import replace
from fnmatch import fnmatchcase

import pytest
from aws_calls import watch
from test_iam import acting_as, as_the_emulator_checks, at_once

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.blueprint import blueprint, resources
from fleet_pipeline.cloud.claims import life
from fleet_pipeline.cloud.documents.iam import boundary_policy, provisioner_policies
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations.adopt import adopt
from fleet_pipeline.cloud.operations.apply import apply_all, plan_all
from fleet_pipeline.cloud.operations.cloudformation import cloudformation
from fleet_pipeline.cloud.operations.destroy import destroy
from fleet_pipeline.cloud.reconcile import Action, look, reconcile
from fleet_pipeline.cloud.tags import spelled
from fleet_pipeline.model.errors import CannotChange, NotOurs
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.names import log_of

TAGS = (("cost-centre", "42 / A+B=C"), ("team", "cars"))


def apply(fleet, aws):
    with Lock(aws, fleet.bucket, "a test") as lock:
        return list(apply_all(fleet, aws, lock))


@pytest.fixture
def company(aws, fleet):
    """A fleet of which everything is said, in an account that has a queue and a bucket for logs."""
    aws.session.client("sqs", endpoint_url=aws.endpoint_url).create_queue(QueueName="dead-letters")
    aws.s3.create_bucket(Bucket=f"{fleet.bucket}-logs", CreateBucketConfiguration={"LocationConstraint": fleet.region})
    return replace(
        fleet,
        tags=TAGS,
        role_path="/cars/eu/",
        log_retention_days=30,
        hook_concurrency=7,
        hook_dead_letters=fleet.arn("sqs", "dead-letters"),
        access_log_bucket=f"{fleet.bucket}-logs",
        access_log_prefix="s3/",
        allow_list="dynamodb",
        claim_store="secretsmanager",
    )


def tags_in_aws(fleet, aws):
    """Return the tags of each thing that can have some, as AWS tells them."""
    iot = {
        each.arn: aws.iot.list_tags_for_resource(resourceArn=each.arn)["tags"]
        for each in resources(blueprint(fleet))
        if each.kind in {"IoT policy", "topic rule", "provisioning template"}
    }
    roles = {name: aws.iam.list_role_tags(RoleName=name)["Tags"] for name in fleet.role_names[:4]}
    buckets = {name: aws.s3.get_bucket_tagging(Bucket=name)["TagSet"] for name in (fleet.bucket, fleet.lake_bucket)}
    secrets = {each["Name"]: each.get("Tags", []) for each in aws.secrets.list_secrets()["SecretList"]}
    table = aws.dynamodb.list_tags_of_resource(ResourceArn=fleet.arn("dynamodb", f"table/{fleet.allow_list_table}"))[
        "Tags"
    ]
    function = spelled(aws.functions.get_function(FunctionName=fleet.hook_name)["Tags"])
    log = spelled(aws.logs.list_tags_for_resource(resourceArn=blueprint(fleet)["hook_log"].resource.arn)["tags"])
    listed = {**iot, **roles, **buckets, **secrets, "table": table, "function": function, "log": log}
    return {name: {tag["Key"]: tag["Value"] for tag in found} for name, found in listed.items()}


def test_whatever_can_have_tags_is_born_with_the_companys_and_a_second_apply_changes_nothing(aws, company):
    calls = watch(aws.session)
    apply(company, aws)
    found = tags_in_aws(company, aws)
    assert len(found) == 6 + 4 + 2 + 1 + 3
    assert {name for name, tags in found.items() if not dict(TAGS).items() <= tags.items()} == set()
    assert [call for call in calls.writing if "Tag" in call] == []
    calls.made.clear()
    assert {step.action for step in apply(company, aws)} == {Action.UNCHANGED}
    assert calls.writing == []


def test_a_fleet_that_stands_is_brought_to_what_the_company_says_with_its_claim_certificate_unharmed(aws, company):
    plain = replace(
        company,
        tags=(),
        log_retention_days=0,
        hook_concurrency=0,
        hook_dead_letters="",
        access_log_bucket="",
        access_log_prefix="",
    )
    apply(plain, aws)
    life.rotate(plain, aws)
    done = {
        step.title: {change.field for change in step.changes}
        for step in apply(company, aws)
        if step.action is Action.UPDATE
    }
    assert done[f"S3 bucket '{company.bucket}'"] == {"tags", "access_logs"}
    assert done[f"Lambda function '{company.hook_name}'"] == {"tags", "concurrency", "dead_letters"}
    assert done[f"claim certificate 's3://{company.bucket}/claim-certificate/claim.pem'"] == {"secret_tags"}
    found = tags_in_aws(company, aws)
    assert len(found) == 17  # the former claim certificate's secret, too
    assert {name for name, tags in found.items() if not dict(TAGS).items() <= tags.items()} == set()
    assert {step.action for step in plan_all(company, aws)} == {Action.UNCHANGED}


def drop_a_tag_of_the_secret(aws, _fleet):
    [secret] = aws.secrets.list_secrets()["SecretList"]
    aws.secrets.untag_resource(SecretId=secret["Name"], TagKeys=["team"])


DRIFTS = {
    "a topic rule's tag": (
        "topic_rule_rule1",
        "tags",
        lambda aws, it: aws.iot.untag_resource(resourceArn=it.arn, tagKeys=["team"]),
    ),
    "a role's tag": ("hook_role", "tags", lambda aws, it: aws.iam.untag_role(RoleName=it.name, TagKeys=["team"])),
    "the log's tag": (
        "hook_log",
        "tags",
        lambda aws, it: aws.logs.untag_resource(resourceArn=it.arn, tagKeys=["team"]),
    ),
    "the log's days": (
        "hook_log",
        "retention_days",
        lambda aws, it: aws.logs.delete_retention_policy(logGroupName=it.name),
    ),
    "what is reserved": (
        "hook",
        "concurrency",
        lambda aws, it: aws.functions.delete_function_concurrency(FunctionName=it.name),
    ),
    "the queue": (
        "hook",
        "dead_letters",
        lambda aws, it: aws.functions.update_function_configuration(
            FunctionName=it.name, DeadLetterConfig={"TargetArn": ""}
        ),
    ),
    "the access logs": (
        "lake_bucket",
        "access_logs",
        lambda aws, it: aws.s3.put_bucket_logging(Bucket=it.name, BucketLoggingStatus={}),
    ),
    "the secret's tag": ("claim_certificate", "secret_tags", drop_a_tag_of_the_secret),
}


def test_what_others_change_of_it_is_drift_and_is_put_back(aws, company):
    apply(company, aws)
    for part, field, inject in DRIFTS.values():
        resource = blueprint(company)[part].resource
        inject(aws, resource)
        step = reconcile(resource, aws)
        assert (step.action, [change.field for change in step.changes]) == (Action.UPDATE, [field])
    assert {step.action for step in plan_all(company, aws)} == {Action.UNCHANGED}


def test_what_somebody_has_set_stays_where_the_settings_say_nothing_of_it(aws, company):
    apply(company, aws)
    silent = replace(
        company,
        log_retention_days=0,
        hook_concurrency=0,
        hook_dead_letters="",
        access_log_bucket="",
        access_log_prefix="",
        hook_runtime="python3.12",
    )
    assert {step.title for step in apply(silent, aws) if step.action is not Action.UNCHANGED} == {
        f"Lambda function '{company.hook_name}'",
        f"IAM role '{company.hook_role_name}'",  # its right to the queue
    }
    assert {
        step.wanted.kind
        for step in plan_all(replace(company, hook_runtime="python3.12"), aws)
        if step.action is not Action.UNCHANGED
    } == {"IAM role"}


def test_a_roles_path_is_for_good_and_a_role_is_known_by_its_name_wherever_it_lies(aws, company):
    apply(company, aws)
    assert aws.iam.get_role(RoleName=company.hook_role_name)["Role"]["Arn"] == company.role_arn(company.hook_role_name)
    assert ":role/cars/eu/" in company.role_arn(company.hook_role_name)
    step = look(blueprint(replace(company, role_path="/"))["hook_role"].resource, aws)
    assert isinstance(step.refusal, CannotChange)
    assert step.action is Action.CANNOT_CHANGE


def test_adopting_gives_the_companys_tags_with_ours_and_nothing_else(aws, company):
    apply(replace(company, tags=()), aws)
    rule = blueprint(company)["topic_rule_rule1"].resource
    aws.iot.untag_resource(resourceArn=rule.arn, tagKeys=list(Fleet().all_tags))
    with pytest.raises(NotOurs):
        reconcile(rule, aws)
    with Lock(aws, company.bucket, "a test") as lock:
        [adopted] = adopt(company, aws, lock)
    assert adopted.wanted.name == rule.name
    assert look(rule, aws).action is Action.UNCHANGED


def test_destroying_removes_the_log_and_leaves_the_bucket_of_logs_and_the_queue(aws, company):
    apply(company, aws)
    aws.logs.put_retention_policy(logGroupName=log_of(company.hook_name), retentionInDays=7)  # it is there
    gone = [(each.what, each.action) for each in destroy(company, aws, confirmed=company.bucket, with_data=True)]
    assert [action for what, action in gone if what.startswith("log group")] == ["delete"]
    assert aws.logs.describe_log_groups()["logGroups"] == []
    assert [bucket["Name"] for bucket in aws.s3.list_buckets()["Buckets"]] == [company.access_log_bucket]
    assert len(aws.session.client("sqs", endpoint_url=aws.endpoint_url).list_queues()["QueueUrls"]) == 1


def without_paths(document):
    """Return the policy as the emulator needs it: it takes a role's name for all of its ARN, whatever the path."""
    return json.loads(json.dumps(document).replace(":role/*/", ":role/"))


def test_the_provisioners_right_to_roles_is_to_these_names_at_any_path():
    fleet = Fleet(role_boundary="own", role_path="/cars/eu/")
    [changing] = [
        each
        for each in provisioner_policies(fleet)["roles"]["Statement"]
        if each["Sid"] == "ChangeRolesWithinTheBoundary"
    ]
    assert all(any(fnmatchcase(fleet.role_arn(name), arn) for arn in changing["Resource"]) for name in fleet.role_names)
    for other in (f"{fleet.hook_role_name}-2", f"x{fleet.hook_role_name}", "admin"):
        assert not any(fnmatchcase(fleet.role_arn(other), arn) for arn in changing["Resource"])


def test_the_provisioner_does_all_of_it_with_its_policies_alone(aws, company):
    bound = replace(company, role_boundary="own")
    aws.iam.create_policy(
        PolicyName=bound.boundary_arn.rsplit("/", 1)[1], PolicyDocument=json.dumps(boundary_policy(bound))
    )
    documents = [as_the_emulator_checks(each) for each in provisioner_policies(bound).values()]
    someone = acting_as(aws, replace(bound, role_path="/"), *(without_paths(each) for each in documents))
    wanted = [*resources(blueprint(bound))]
    assert {reconcile(each, someone, sleep=at_once).action for each in wanted} == {Action.CREATE}
    for part, _, inject in DRIFTS.values():
        inject(aws, blueprint(bound)[part].resource)
    assert {reconcile(each, someone, sleep=at_once).action for each in wanted} == {Action.UPDATE, Action.UNCHANGED}


def test_the_right_to_tag_roles_ends_at_the_companys_tags_and_ours():
    [tagging] = [
        each
        for each in provisioner_policies(Fleet(role_boundary="own", tags=TAGS))["roles"]["Statement"]
        if each["Sid"] == "TagRolesAsTheFleets"
    ]
    assert tagging["Condition"] == {
        "ForAllValues:StringLike": {"aws:TagKeys": ["fleet_pipeline:*", "cost-centre", "team"]}
    }


def test_the_functions_may_tell_the_queue_and_no_other_of_failures():
    queue = "arn:aws:sqs:eu-central-1:123456789012:dead-letters"
    fleet = Fleet(hook_dead_letters=queue, own_ca="none")
    for document in (blueprint(fleet)["hook_role"].resource.inline["hook"], boundary_policy(fleet)):
        [told] = [each for each in document["Statement"] if each["Sid"] == "TellOfFailures"]
        assert (told["Action"], told["Resource"]) == ("sqs:SendMessage", queue)
    assert "sqs" not in json.dumps([boundary_policy(Fleet()), blueprint(Fleet())["hook_role"].resource.inline])


def test_the_exported_template_says_what_the_company_says():
    fleet = Fleet(
        tags=TAGS,
        role_path="/cars/",
        log_retention_days=30,
        hook_concurrency=7,
        hook_dead_letters="arn:aws:sqs:eu-central-1:123456789012:dead-letters",
        access_log_bucket="company-logs",
        access_log_prefix="s3/",
    )
    made = {name: each["Properties"] for name, each in cloudformation(fleet)["Resources"].items()}
    assert made["Bucket"]["LoggingConfiguration"] == {
        "DestinationBucketName": "company-logs",
        "LogFilePrefix": "s3/cdk-s3-test-bucket/",
    }
    assert made["HookLog"] == {
        "LogGroupName": f"/aws/lambda/{fleet.hook_name}",
        "RetentionInDays": 30,
        "Tags": spelled(dict(TAGS)),
    }
    assert (made["Hook"]["ReservedConcurrentExecutions"], made["Hook"]["DeadLetterConfig"]) == (
        7,
        {"TargetArn": fleet.hook_dead_letters},
    )
    assert made["HookRole"]["Path"] == "/cars/"
    assert {
        name
        for name, each in made.items()
        if "Tags" in each and not all(tag in each["Tags"] for tag in spelled(dict(TAGS)))
    } == set()


def test_a_tag_of_aws_iot_that_holds_what_parts_tags_arrives_whole(local_aws, fleet):
    aws = Aws(fleet.region, fleet.account, local_aws.url)
    fleet = replace(fleet, tags=(("a b", "x=1/y+2"),))
    for part in ("bucket", "rule_role", "rule_error_role", "topic_rule_rule1"):
        reconcile(blueprint(fleet)[part].resource, aws)
    arn = blueprint(fleet)["topic_rule_rule1"].resource.arn
    assert {"Key": "a b", "Value": "x=1/y+2"} in aws.iot.list_tags_for_resource(resourceArn=arn)["tags"]
