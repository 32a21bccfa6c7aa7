"""What a company says of whatever it has in an account, whichever fleet it is of: tags, paths, logs.

Its settings are among `Fleet`'s, and are checked here.
"""

import re
from typing import Protocol

from fleet_pipeline.model.errors import InvalidSetting

Texts = tuple[tuple[str, str], ...]
"""Texts by name, in the order of their names: a table of fleet.toml, `a=b,c=d` in a variable."""

LOG_DAYS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)
"""Days for which CloudWatch Logs can keep what is logged. Source: API_PutRetentionPolicy."""

OWN_TAGS = 40
"""Tags of the company's. AWS takes 50 of most resources, of which some are ours and some are left to others."""

TAG_KEYS_LIMIT = 200
"""Characters of the tags' keys together, three more for each: a policy names them, and takes 6,144
characters in all.
"""

ROLE_PATH_LIMIT = 512
"""Characters of an IAM path. Source: API_CreateRole."""

CONCURRENCY_LIMIT = 1000
"""Requests at once that an account has from the start, for all functions together. Source: AWS Lambda quotas."""


HOOKS_OWN = frozenset({
    "ALLOW_LIST", "ATTRIBUTES", "BILLING_GROUP", "CA_CERTIFICATE_ID", "DEVICE_POLICY", "OWN_CHECK", "OWN_SETTINGS",
    "PARAMETERS", "PATTERNS", "SERIAL_FORM", "SERIAL_PREFIX", "TEMPLATE_ARN", "TEMPORARY_CLAIMS",
    "THING_GROUPS", "THING_PREFIX", "THING_TYPE",
})  # fmt: skip
"""Variables by which the functions have their settings. A test compares them."""

ENVIRONMENT_LIMIT = 1500
"""Characters of a check's own variables: of 4,096 bytes that Lambda takes, the rest is the hook's."""

POLICIES = 2
"""Managed policies of a check. AWS takes ten of a role; the provisioner's policy names each."""

INTERFACES = 5
"""Subnets, and security groups: AWS takes 16 and 5, and policies name each."""


class Company(Protocol):
    """The settings that are checked here, and what their checks need to know."""

    @property
    def tags(self) -> Texts:
        """Tags of the company's."""

    @property
    def role_path(self) -> str:
        """IAM path of the roles."""

    @property
    def log_retention_days(self) -> int:
        """How long the functions' logs are kept."""

    @property
    def hook_concurrency(self) -> int:
        """What is reserved for each function."""

    @property
    def hook_dead_letters(self) -> str:
        """ARN of the queue."""

    @property
    def access_log_bucket(self) -> str:
        """Where S3 logs requests."""

    @property
    def access_log_prefix(self) -> str:
        """What the keys of these logs begin with."""

    @property
    def hook_file(self) -> str:
        """The company's check."""

    @property
    def hook_requirements(self) -> str:
        """What it requires."""

    @property
    def hook_environment(self) -> Texts:
        """Its variables."""

    @property
    def hook_policies(self) -> tuple[str, ...]:
        """Policies with its rights."""

    @property
    def hook_subnets(self) -> tuple[str, ...]:
        """Where the functions are."""

    @property
    def hook_security_groups(self) -> tuple[str, ...]:
        """And in which groups."""

    @property
    def own_ca(self) -> str:
        """How vehicles with certificates of another CA are let in."""

    @property
    def given_buckets(self) -> tuple[str, ...]:
        """Which buckets are another team's."""

    @property
    def bucket(self) -> str:
        """The bucket of messages."""

    @property
    def lake_bucket(self) -> str:
        """The bucket of the lake."""

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a resource of the account."""


def check(said: Company) -> None:
    """Check them against the limits of the services that will carry them. Raises InvalidSetting."""
    _check_tags(said.tags)
    _check_role_path(said.role_path)
    if said.log_retention_days not in {0, *LOG_DAYS}:
        raise InvalidSetting(
            "FLEET_LOG_RETENTION_DAYS",
            said.log_retention_days,
            f"choose one of {', '.join(map(str, LOG_DAYS))}; 0 is for ever",
        )
    if not 0 <= said.hook_concurrency <= CONCURRENCY_LIMIT:
        raise InvalidSetting(
            "FLEET_HOOK_CONCURRENCY", said.hook_concurrency, f"choose a number from 0 to {CONCURRENCY_LIMIT}"
        )
    queues = said.arn("sqs", "")
    if not re.fullmatch(rf"({re.escape(queues)}[a-zA-Z0-9_-]{{1,80}})?", said.hook_dead_letters):
        raise InvalidSetting(
            "FLEET_HOOK_DEAD_LETTERS",
            said.hook_dead_letters,
            f"write the ARN of a standard queue, such as {queues}dead-letters",
        )
    _check_access_logs(said)
    _check_hook(said)
    if set(said.given_buckets) - {"raw", "lake"} or len(set(said.given_buckets)) < len(said.given_buckets):
        raise InvalidSetting("FLEET_GIVEN_BUCKETS", ",".join(said.given_buckets), "name raw, lake or both, each once")


def _check_hook(said: Company) -> None:
    if said.hook_file and not said.hook_file.endswith(".py"):
        raise InvalidSetting("FLEET_HOOK_FILE", said.hook_file, "name a Python file, such as checks.py")
    if said.hook_file and said.own_ca == "jitp":
        raise InvalidSetting(
            "FLEET_HOOK_FILE",
            said.hook_file,
            "with FLEET_OWN_CA=jitp AWS IoT asks no function, so nobody would be asked: choose jitr",
        )
    names = ",".join(key for key, _ in said.hook_environment)
    of_the_check = {
        "REQUIREMENTS": said.hook_requirements,
        "POLICIES": ",".join(said.hook_policies),
        "ENVIRONMENT": names,
    }
    for name, text in of_the_check.items():
        if text and not said.hook_file:
            raise InvalidSetting(f"FLEET_HOOK_{name}", text, "it says nothing without FLEET_HOOK_FILE")
    _check_environment(said.hook_environment)
    _check_policies(said.hook_policies)
    _check_network(said)


def _check_environment(variables: Texts) -> None:
    for key, _ in variables:
        if (
            not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_]{1,63}", key)
            or key in HOOKS_OWN
            or key.startswith(("AWS_", "LAMBDA_", "PYTHON"))
        ):
            why = (
                "use a letter and then up to 63 letters, digits and _; not AWS_…, LAMBDA_…, PYTHON…, and no variable "
                "of the hook's"
            )
            raise InvalidSetting("FLEET_HOOK_ENVIRONMENT", key, why)
    if sum(len(key) + len(text) for key, text in variables) > ENVIRONMENT_LIMIT:
        raise InvalidSetting(
            "FLEET_HOOK_ENVIRONMENT",
            None,
            f"names and texts have more than {ENVIRONMENT_LIMIT} characters, of Lambda's 4,096 bytes",
        )


def _check_policies(arns: tuple[str, ...]) -> None:
    form = r"arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[a-zA-Z0-9+=,.@_/-]{1,200}"
    if len(set(arns)) != len(arns) or len(arns) > POLICIES or not all(re.fullmatch(form, each) for each in arns):
        why = (
            f"write the ARNs of at most {POLICIES} managed policies, each once, such as "
            "arn:aws:iam::123456789012:policy/ask-which-cars-were-built"
        )
        raise InvalidSetting("FLEET_HOOK_POLICIES", ",".join(arns), why)


def _check_network(said: Company) -> None:
    one_alone = bool(said.hook_subnets) != bool(said.hook_security_groups)
    for name, form, ids in (
        ("FLEET_HOOK_SUBNETS", "subnet", said.hook_subnets),
        ("FLEET_HOOK_SECURITY_GROUPS", "sg", said.hook_security_groups),
    ):
        well_formed = all(re.fullmatch(rf"{form}-[0-9a-f]{{8,17}}", each) for each in ids)
        if (one_alone and ids) or not well_formed or len(ids) > INTERFACES:
            raise InvalidSetting(
                name,
                ",".join(ids),
                f"name subnets and security groups, 1 to {INTERFACES} of each, such as {form}-0123456789abcdef0",
            )


def _check_tags(tags: Texts) -> None:
    keys = [key.casefold() for key, _ in tags]
    if len(keys) > OWN_TAGS or len(set(keys)) < len(keys):
        raise InvalidSetting(
            "FLEET_TAGS",
            None,
            f"write at most {OWN_TAGS}, and no two keys that differ in upper and lower case alone: IAM takes them "
            "for one",
        )
    if sum(len(key) + 3 for key in keys) > TAG_KEYS_LIMIT:
        raise InvalidSetting(
            "FLEET_TAGS",
            None,
            f"their keys have more than {TAG_KEYS_LIMIT} characters, three added for each, which a policy must name",
        )
    for key, value in tags:
        if not re.fullmatch(r"(?!aws:|fleet_pipeline:)[\w .:/+@-]{1,128}", key, re.IGNORECASE | re.ASCII):
            why = (
                "a tag's key has 1 to 128 of a-z, A-Z, 0-9, blanks and . : / + @ - _, and does not begin with aws: or "
                "fleet_pipeline:"
            )
            raise InvalidSetting("FLEET_TAGS", key, why)
        if not re.fullmatch(r"[\w .:/+@=-]{1,256}", value):
            raise InvalidSetting(
                "FLEET_TAGS", value, f"the value of {key!r} has 1 to 256 letters, digits, blanks and . : / + @ = - _"
            )


def _check_role_path(path: str) -> None:
    if len(path) > ROLE_PATH_LIMIT or not re.fullmatch(r"/([a-zA-Z0-9_.-]+/)*", path):
        why = (
            f"begin and end with a slash, as /fleet/, with a-z, A-Z, 0-9 and . _ - between, {ROLE_PATH_LIMIT} "
            "characters at most"
        )
        raise InvalidSetting("FLEET_ROLE_PATH", path, why)


def _check_access_logs(said: Company) -> None:
    if not re.fullmatch(r"([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?", said.access_log_bucket):
        raise InvalidSetting("FLEET_ACCESS_LOG_BUCKET", said.access_log_bucket, "name a bucket that is there")
    if said.access_log_bucket in {said.bucket, said.lake_bucket}:
        raise InvalidSetting(
            "FLEET_ACCESS_LOG_BUCKET",
            said.access_log_bucket,
            "each log of it would be logged: name a bucket that is not the fleet's",
        )
    if not re.fullmatch(r"[a-zA-Z0-9!_.*'()/-]{0,200}", said.access_log_prefix):
        raise InvalidSetting(
            "FLEET_ACCESS_LOG_PREFIX", said.access_log_prefix, "use at most 200 of a-z, A-Z, 0-9 and ! _ . * ' ( ) / -"
        )
    if said.access_log_prefix and not said.access_log_bucket:
        raise InvalidSetting(
            "FLEET_ACCESS_LOG_PREFIX", said.access_log_prefix, "it says nothing without FLEET_ACCESS_LOG_BUCKET"
        )
