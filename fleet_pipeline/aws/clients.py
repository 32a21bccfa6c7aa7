"""AWS as this package reaches it: one client per service from one session, and botocore's errors turned into ours in
one place.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, WaiterError
from botocore.exceptions import ConnectionError as UnreachableError
from botocore.loaders import Loader, create_loader

from fleet_pipeline.model.errors import AwsRefused, AwsUnavailable, FleetError, WrongAccount, WrongRegion

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_glue import GlueClient
    from types_boto3_iam import IAMClient
    from types_boto3_iot import IoTClient
    from types_boto3_lambda import LambdaClient
    from types_boto3_logs import CloudWatchLogsClient
    from types_boto3_s3 import S3Client
    from types_boto3_sts import STSClient

RETRIES = Config(retries={"mode": "adaptive", "max_attempts": 8}, connect_timeout=5, read_timeout=30)
"""IoT's control plane allows 10 to 15 calls a second: `adaptive` slows down when it is told to."""

CONFLICT_RETRIES = 5
"""How often a call that met another change is sent again: over six seconds."""

_NO_PROXY = Config(proxies={})
"""For AWS on this machine, which is never behind the proxy that HTTP_PROXY names."""

_NOBODYS = {
    name: (None, None, value, None)
    for name, value in (("profile", None), ("config_file", os.devnull), ("credentials_file", os.devnull))
}
"""AWS on this machine has nothing to do with the profiles that this machine's user has of AWS."""

_CONFLICTS = {
    "ConcurrentModification",
    "ConcurrentModificationException",
    "ConflictException",
    "ConflictingResourceUpdateException",
    "OperationAborted",
    "ResourceConflictException",
}
"""Error codes of a refusal, 409 as a rule, because another change is being made at this moment.

botocore does not send such a call again: this package does.
"""

_PASSING = _CONFLICTS | {
    "ConditionalRequestConflict",
    "LimitExceededException",  # of calls at a time, as botocore has it; a true limit is reported after the wait
    "PreconditionFailed",  # someone else was faster: look again
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestTimeout",
    "RequestTimeoutException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
    "TransactionInProgressException",
}
"""Error codes of a refusal that may pass by itself although its status is 4xx.

Throttling is 400 at many services: the codes are botocore's.
"""


def passes(status: int) -> bool:
    """Say whether an HTTP status may pass by itself, however the error is called."""
    return status in {408, 425, 429} or (status >= 500 and status not in {501, 505})  # noqa: PLR2004 (HTTP's statuses)


_SPREADING = ("be assumed", "to assume", "sts:assumerole", "access denied during lambda validation")
"""What AWS says for some seconds about a role or a permission made a moment ago: "cannot be assumed by Lambda", "is
unable to assume role (sts:AssumeRole)". Source: terraform-provider-aws, issue 33433 and `internal/service/iot`, which
wait for the same.
"""

for _name in ("boto3", "botocore", "s3transfer", "urllib3"):
    # At DEBUG these log response bodies, and CreateKeysAndCertificate answers with a private key.
    logging.getLogger(_name).setLevel(max(logging.INFO, logging.getLogger(_name).level))


@dataclass(frozen=True)
class Aws:
    """The clients of one account and region.

    `endpoint_url` is None for AWS itself. AWS on this machine has one, takes the account's id as the access key, and
    has a secret for all of them. Every S3 call names the account as the expected owner of the bucket, so that a bucket
    of someone else's is never used.
    """

    region: str
    account: str
    endpoint_url: str | None = None
    secret: str = field(default="local", repr=False)
    """The secret access key at the endpoint. Not used for AWS itself; a server that verifies none takes any."""

    @cached_property
    def session(self) -> boto3.Session:
        """The one session, on AWS's ordinary chain of credentials."""
        if self.endpoint_url:
            own = botocore.session.Session(_NOBODYS)
            own.register_component("data_loader", _descriptions())
            return boto3.Session(self.account, self.secret, region_name=self.region, botocore_session=own)
        return boto3.Session(region_name=self.region)

    def _client(self, service: str) -> Any:
        session: Any = self.session  # the stubs overload by literal name
        config = RETRIES.merge(_NO_PROXY) if self.endpoint_url else RETRIES
        client = session.client(service, endpoint_url=self.endpoint_url, config=config)
        client.meta.events.register("provide-client-params.s3", self._name_the_owner)
        client.meta.events.register("needs-retry", _pause_before_another_try)
        if service != "s3":  # whose listings are read by `get`: it leaves out what is empty by its own description
            client.meta.events.register("after-call", _complete)
        return client

    def _name_the_owner(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        if "ExpectedBucketOwner" in model.input_shape.members:
            params.setdefault("ExpectedBucketOwner", self.account)

    @cached_property
    def iot(self) -> "IoTClient":
        """AWS IoT Core's control plane."""
        return self._client("iot")  # type: ignore[no-any-return]

    @cached_property
    def iam(self) -> "IAMClient":
        """Roles and their policies."""
        return self._client("iam")  # type: ignore[no-any-return]

    @cached_property
    def functions(self) -> "LambdaClient":
        """AWS Lambda."""
        return self._client("lambda")  # type: ignore[no-any-return]

    @cached_property
    def s3(self) -> "S3Client":
        """Buckets and objects."""
        return self._client("s3")  # type: ignore[no-any-return]

    @cached_property
    def dynamodb(self) -> "DynamoDBClient":
        """The allow-list's table."""
        return self._client("dynamodb")  # type: ignore[no-any-return]

    @cached_property
    def glue(self) -> "GlueClient":
        """The catalog of tables."""
        return self._client("glue")  # type: ignore[no-any-return]

    @cached_property
    def logs(self) -> "CloudWatchLogsClient":
        """What functions wrote."""
        return self._client("logs")  # type: ignore[no-any-return]

    @cached_property
    def secrets(self) -> Any:
        """AWS Secrets Manager."""
        return self._client("secretsmanager")

    @cached_property
    def kms(self) -> Any:
        """Keys of AWS KMS."""
        return self._client("kms")

    @cached_property
    def firehose(self) -> Any:
        """Amazon Data Firehose."""
        return self._client("firehose")

    def looking_at(self, service: str) -> Any:
        """Return a client of a service in which the fleet has nothing of its own, and of which it asks whether
        somebody else's thing is there.
        """
        return self._client(service)

    @cached_property
    def sts(self) -> "STSClient":
        """Whose credentials these are."""
        return self._client("sts")  # type: ignore[no-any-return]


@cache
def _descriptions() -> Loader:
    """Return AWS's services as botocore describes them: megabytes of JSON, read once in a process."""
    return create_loader()


def _pause_before_another_try(*, response: Any, attempts: int, **_: Any) -> float | None:
    """Return the seconds to wait before a call is sent again that botocore would not repeat: 409 for a change beside
    it, 429 by any name.
    """
    if response is None or attempts > CONFLICT_RETRIES:
        return None
    http, parsed = response
    passing = parsed.get("Error", {}).get("Code") in _CONFLICTS or http.status_code == HTTPStatus.TOO_MANY_REQUESTS
    return 0.1 * 2.0**attempts if passing else None


def _complete(*, parsed: dict[str, Any], model: Any, **_: Any) -> None:
    """Give an answer the lists that it leaves out: a service may leave out what is empty, and no listing may fail for
    it.
    """
    members = model.output_shape.members if model.output_shape and "Error" not in parsed else {}
    for name, shape in members.items():
        if shape.type_name == "list":
            parsed.setdefault(name, [])


def check_whereabouts(aws: Aws) -> None:
    """Return when account and region are those that are meant; raise WrongAccount or WrongRegion before anything was
    changed.

    A region that AWS's own settings name beside the credentials (AWS_REGION, the profile's) must be the same; naming
    none is fine.
    """
    for elsewhere in _regions() if aws.endpoint_url is None else ():
        if elsewhere != aws.region:
            raise WrongRegion(aws.region, elsewhere)
    with doing("say whose credentials these are"):
        found = aws.sts.get_caller_identity()["Account"]
    if found != aws.account:
        raise WrongAccount(aws.account, found)


def _regions() -> list[str]:
    """Return the regions that AWS's own settings name.

    boto3 does not look at AWS_REGION, which every other SDK obeys.
    """
    try:
        with doing("let the settings of this machine's AWS profile be read"):
            found = [os.environ.get("AWS_REGION"), boto3.Session().region_name]
    except OSError as error:
        raise AwsRefused(
            "let the settings of this machine's AWS profile be read", type(error).__name__, str(error)
        ) from error
    return [each for each in found if each]


@contextmanager
def doing(action: str) -> Iterator[None]:
    """Turn what botocore raises during an action into AwsRefused, or into AwsUnavailable where another try may succeed.

    The action completes the sentence "AWS would not …": `doing("create topic rule 'x'")`.
    """
    try:
        yield
    except ClientError as error:
        raise _answered(action, error.response) from error
    except WaiterError as error:
        raise _waited(action, error) from error
    except (UnreachableError, HTTPClientError) as error:
        raise AwsUnavailable(action, type(error).__name__, str(error)) from error
    except BotoCoreError as error:
        raise AwsRefused(action, type(error).__name__, str(error)) from error


def error_code(error: ClientError) -> str:
    """Return AWS's code of an error, such as `ResourceNotFoundException`."""
    return str(error.response.get("Error", {}).get("Code", "Unknown"))


@contextmanager
def absent(*codes: str) -> Iterator[None]:
    """Swallow the answers that mean "there is no such thing", and no others."""
    try:
        yield
    except ClientError as error:
        if error_code(error) not in codes:
            raise


def _waited(action: str, error: WaiterError) -> FleetError:
    """Return what ended a wait: AWS's own refusal if that did, such as that it has not heard yet of
    what was just made.
    """
    if "Error" in error.last_response:
        return _answered(action, error.last_response)
    return AwsRefused(action, type(error).__name__, str(error))


def _answered(action: str, response: Any) -> FleetError:
    code = str(response.get("Error", {}).get("Code", "Unknown"))
    message = str(response.get("Error", {}).get("Message", "")) or "no reason given"
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    passing = passes(status) or code in _PASSING or any(words in message.lower() for words in _SPREADING)
    return (AwsUnavailable if passing else AwsRefused)(action, code, message)
