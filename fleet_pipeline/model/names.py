"""Names: every name, ARN and key expression that follows from a fleet's settings, derived once. Pure."""

import re
from hashlib import blake2b

from fleet_pipeline.model.company import Texts
from fleet_pipeline.model.partitions import AWS, PARTITIONS, Partition
from fleet_pipeline.model.pattern import Pattern
from fleet_pipeline.model.rule import RAW_NAME, SHARDS, RawKeyFormat, RawName, Rule, rule_prefix
from fleet_pipeline.model.thing import ThingTable

STREAM_NAME_LIMIT = 64
"""Characters of a stream's name. Source: API_CreateDeliveryStream."""

SERIAL_REST = re.compile(r"[0-9A-Z]{6,26}")
"""What a serial has after its prefix."""


def log_of(function: str) -> str:
    """Return the log group into which Lambda writes what a function says.

    Source: AWS Lambda Developer Guide, monitoring-cloudwatchlogs.
    """
    return f"/aws/lambda/{function}"


_SHARD = {
    1: "",
    16: f"{SHARDS}${{substring(newuuid(), 0, 1)}}/",
    256: f"{SHARDS}${{substring(newuuid(), 0, 2)}}/",
}
"""The folder of a raw object, as AWS IoT evaluates it: the first digits of a UUID, which are random. A client id's hash
would put all of what did not come by MQTT, whose client id is `n/a`, and a busy vehicle's messages into one.

Source: AWS IoT Core Developer Guide, iot-sql-functions (newuuid; substring: from a place, and before another).
"""


class Names:
    """What the settings of a fleet are called in AWS. `Fleet` has the settings, and inherits their names."""

    __slots__ = ()

    account: str
    region: str
    bucket: str
    lake_bucket: str
    given_buckets: tuple[str, ...]
    service: str
    application: str
    environment: str
    serial_prefix: str
    serial_pattern: str
    thing: ThingTable
    raw_prefix: str
    errors_prefix: str
    raw_key_format: RawKeyFormat
    role_boundary: str
    kms_key: str
    tags: Texts
    role_path: str
    log_retention_days: int
    access_log_bucket: str
    access_log_prefix: str

    @property
    def prefix(self) -> str:
        """What the names of all resources begin with: `cdk-test-dev`."""
        return f"{self.service}-{self.environment}"

    @property
    def all_tags(self) -> dict[str, str]:
        """What marks a resource as this fleet's, and the company's own tags."""
        return {"fleet_pipeline:stack": self.prefix, "fleet_pipeline:application": self.application, **dict(self.tags)}

    @property
    def makes_logs(self) -> bool:
        """Whether the settings say anything of the functions' logs, so that they are not left to Lambda."""
        return bool(self.kms_key or self.log_retention_days or self.tags)

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the buckets that are another team's."""
        return tuple(
            name for word, name in (("raw", self.bucket), ("lake", self.lake_bucket)) if word in self.given_buckets
        )

    def access_logs(self, bucket: str) -> str:
        """Return where S3 logs the requests to a bucket, `s3://bucket/prefix`; empty where nothing is said of it."""
        return f"s3://{self.access_log_bucket}/{self.access_log_prefix}{bucket}/" if self.access_log_bucket else ""

    @property
    def device_policy_name(self) -> str:
        """IoT policy of every registered vehicle."""
        return f"{self.prefix}-device-policy"

    def further_device_policy_name(self, number: int | str) -> str:
        """Return the name of the second policy of every registered vehicle, the third, and so on, where one document
        does not hold all.
        """
        return f"{self.device_policy_name}-{number}"

    @property
    def claim_policy_name(self) -> str:
        """IoT policy of the claim certificate."""
        return f"{self.prefix}-claim-certificate-policy"

    @property
    def hook_role_name(self) -> str:
        """IAM role of the hook."""
        return f"{self.prefix}-pre-provisioning-lambda-role"

    @property
    def hook_name(self) -> str:
        """Lambda function of the pre-provisioning hook."""
        return f"{self.prefix}-pre-provisioning-hook-lambda"

    @property
    def provisioning_role_name(self) -> str:
        """IAM role as which AWS IoT makes things."""
        return f"{self.prefix}-provisioning-template-role"

    @property
    def template_name(self) -> str:
        """Provisioning template."""
        return f"{self.prefix}-provision-template"

    @property
    def rule_role_name(self) -> str:
        """IAM role as which the topic rules write."""
        return f"{self.prefix}-rule-engine-role"

    @property
    def rule_error_role_name(self) -> str:
        """IAM role as which the topic rules report what they could not write."""
        return f"{self.prefix}-rule-error-role"

    @property
    def rule_actions_role_name(self) -> str:
        """IAM role as which the topic rules take their further actions, where these name no other."""
        return f"{self.prefix}-rule-actions-role"

    @property
    def rule_prefix(self) -> str:
        """What the names of the topic rules begin with."""
        return rule_prefix(self.raw_prefix)

    @property
    def delivery_role_name(self) -> str:
        """IAM role as which streams write to S3."""
        return f"{self.prefix}-rule-delivery-role"

    @property
    def allow_list_table(self) -> str:
        """DynamoDB table of serials that may register, when `allow_list` is `dynamodb`."""
        return f"{self.prefix}-allow-list"

    @property
    def allow_list_key(self) -> str:
        """S3 key of serials that may register, one a line, when `allow_list` is `s3`."""
        return "allow-list/serials.txt"

    @property
    def temporary_claims_prefix(self) -> str:
        """Prefix of S3 keys that name the claim certificates that were lent; the hook takes no other certificate that
        AWS IoT does not list.
        """
        return "claim-certificate/temporary/"

    @property
    def just_in_time_name(self) -> str:
        """Lambda function of just-in-time registration, when `own_ca` is `jitr`."""
        return f"{self.prefix}-just-in-time-lambda"

    @property
    def just_in_time_role_name(self) -> str:
        """IAM role of that function."""
        return f"{self.prefix}-just-in-time-role"

    @property
    def just_in_time_rule_name(self) -> str:
        """Topic rule that calls it for each new certificate of the CA."""
        return f"{self.prefix}-just-in-time".replace("-", "_")

    @property
    def jitp_template_name(self) -> str:
        """Template of just-in-time provisioning, when `own_ca` is `jitp`."""
        return f"{self.prefix}-jitp-template"

    @property
    def bulk_role_name(self) -> str:
        """IAM role as which AWS IoT reads and carries out a bulk registration."""
        return f"{self.prefix}-bulk-registration-role"

    @property
    def role_names(self) -> tuple[str, ...]:
        """The roles that any settings of the fleet make."""
        rules = (self.rule_role_name, self.rule_error_role_name, self.rule_actions_role_name)
        return (
            self.hook_role_name,
            self.provisioning_role_name,
            *rules,
            self.delivery_role_name,
            self.just_in_time_role_name,
            self.bulk_role_name,
        )

    @property
    def boundary_arn(self) -> str:
        """The policy that bounds the fleet's roles; empty where none does."""
        return self.arn("iam", f"policy/{self.prefix}-boundary") if self.role_boundary == "own" else self.role_boundary

    @property
    def kms_key_arn(self) -> str:
        """ARN of the KMS key, or of the alias by which it is named; empty where the keys are AWS's own."""
        if not self.kms_key or self.kms_key.startswith("arn:"):
            return self.kms_key
        return self.arn("kms", self.kms_key if self.kms_key.startswith("alias/") else f"key/{self.kms_key}")

    def endpoint(self, service: str) -> str:
        """Return the name of a service's endpoint in the region, as KMS tells through whom it was asked:
        `s3.eu-central-1.amazonaws.com`.
        """
        return f"{service}.{self.region}.{self._partition.domain}"

    @property
    def bulk_prefix(self) -> str:
        """Prefix of the files of bulk registrations."""
        return "bulk-registration"

    @property
    def registered_by(self) -> str:
        """Thing attribute that names the certificate with which the thing was registered."""
        return "registered_by"

    @property
    def database(self) -> str:
        """Database of the Glue Data Catalog. Athena knows no upper case, and no `-` without quotation marks."""
        return f"{self.prefix}_lake".replace("-", "_").lower()

    @property
    def thing_prefix(self) -> str:
        """What every thing's name begins with."""
        return self.thing.prefix

    @property
    def serial_beginning(self) -> str:
        """What every serial begins with, as far as the settings say."""
        return "" if self.serial_pattern else self.serial_prefix

    @property
    def virtual_beginning(self) -> str:
        """What the serial of a virtual vehicle begins with."""
        return f"{self.serial_beginning}VIRTUAL"

    @property
    def serial_form(self) -> str:
        """Regular expression of the serials that the hook takes; those of virtual vehicles are among them."""
        if self.serial_pattern:
            return f"(?:{Pattern(self.serial_pattern).regex}|VIRTUAL[0-9A-F]{{10}}K?)"
        return re.escape(self.serial_prefix) + SERIAL_REST.pattern

    def thing_name(self, serial: str) -> str:
        """Return the thing of a vehicle: `test-thing-{SerialNumber}` by default.

        A vehicle's client id is its thing's name.
        """
        return f"{self.thing_prefix}{serial}"

    @property
    def partition(self) -> str:
        """ARNs' partition: `aws`, or that of China, GovCloud, the isolated regions or the European Sovereign Cloud."""
        return self._partition.name

    def console_url(self, path: str) -> str | None:
        """Return the address of a page of AWS's console; None where AWS publishes no address of one."""
        console = self._partition.console
        return console and f"https://{self.region}.{console}/{path}"

    @property
    def _partition(self) -> Partition:
        return PARTITIONS.get(self.region.rsplit("-", 2)[0], AWS)

    @property
    def registration_policy_arn(self) -> str:
        """AWS's own policy for roles as which AWS IoT registers things."""
        return f"arn:{self.partition}:iam::aws:policy/service-role/AWSIoTThingsRegistration"

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a resource. S3 has neither account nor region in it, and IAM no region."""
        region = "" if service in {"s3", "iam"} else self.region
        account = "" if service == "s3" else self.account
        return f"arn:{self.partition}:{service}:{region}:{account}:{resource}"

    def role_arn(self, name: str) -> str:
        """Return an IAM role's ARN."""
        return self.arn("iam", f"role{self.role_path}{name}")

    def policy_arn(self, name: str) -> str:
        """Return an IoT policy's ARN."""
        return self.arn("iot", f"policy/{name}")

    @property
    def hook_arn(self) -> str:
        """ARN of the hook's function."""
        return self.arn("lambda", f"function:{self.hook_name}")

    @property
    def template_arn(self) -> str:
        """ARN of the provisioning template, known before it exists."""
        return self.arn("iot", f"provisioningtemplate/{self.template_name}")

    @property
    def raw_key_expression(self) -> str:
        """The S3 action's key, as AWS IoT evaluates it for each message."""
        return {
            "timestamp": "${topic()}/${timestamp()}",
            "timestamp-uuid": "${topic()}/${timestamp()}-${newuuid()}",
            "timestamp-uuid-client": "${topic()}/${timestamp()}-${newuuid()}-${clientid()}",
        }[self.raw_key_format]

    def raw_key_expression_of(self, rule: Rule) -> str:
        """Return a rule's key expression: where the topic is not its raw prefix, the prefix stands there as it is."""
        said = self.raw_key_expression.replace("${timestamp()}", f"{_SHARD[rule.shards]}${{timestamp()}}")
        return said if rule.known_topic else said.replace("${topic()}/", rule.raw_prefix)

    def stream_name(self, rule: Rule) -> str:
        """Return the name of a rule's stream, of at most 64 characters: `cdk-test-dev-rule1`."""
        name = f"{self.prefix}-{rule.key}"
        digest = blake2b(name.encode(), digest_size=4).hexdigest()
        return name if len(name) <= STREAM_NAME_LIMIT else f"{name[: STREAM_NAME_LIMIT - 9]}-{digest}"

    def stream_arn(self, rule: Rule) -> str:
        """Return the ARN of a rule's stream."""
        return self.arn("firehose", f"deliverystream/{self.stream_name(rule)}")

    def stream_prefix_expression(self, rule: Rule) -> str:
        """Return what the keys of a stream's objects begin with, as Firehose evaluates it: by the hour of an object's
        oldest record.
        """
        return f"{rule.batch_prefix}!{{timestamp:yyyy/MM/dd/HH}}/"

    def stream_error_expression(self, rule: Rule) -> str:
        """Return where a stream reports what it could not process, as Firehose evaluates it."""
        return f"{self.report_prefix(rule)}!{{firehose:error-output-type}}/!{{timestamp:yyyy/MM/dd/HH}}/"

    def report_prefix(self, rule: Rule) -> str:
        """Return where a rule reports what it could not write: `errors/rule1/`."""
        return f"{self.errors_prefix}/{rule.key}/"

    def report_key_expression(self, rule: Rule) -> str:
        """Return the key of a rule's error action, as AWS IoT evaluates it for each failure."""
        return f"{self.report_prefix(rule)}${{timestamp()}}-${{newuuid()}}"

    def parse_report_key(self, rule: Rule, key: str) -> RawName | None:
        """Return the time and the UUID of a report; None for a key that the error action would never have written."""
        found = RAW_NAME.fullmatch(key.removeprefix(self.report_prefix(rule)))
        return RawName(int(found[1]), found[2]) if found and found[2] and not found[3] else None
