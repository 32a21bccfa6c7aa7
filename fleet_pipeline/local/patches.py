"""What ministack does otherwise than AWS IoT, and that the fleet relies on, changed from outside.

Each patch replaces functions of the emulator, which have no public names: so it is pinned to one version, and
`apply_patches` refuses to go on when a name that it replaces or calls is gone. Mends that ministack takes up itself can
be deleted here.
"""

# ruff: noqa: SLF001 (the emulator has no other names for what is patched)

import asyncio
import json
import re
import socket
import ssl
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from importlib import import_module, metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fleet_pipeline.local import deliveries, provisioning_topics
from fleet_pipeline.local.deliveries import Deliveries
from fleet_pipeline.local.guard import Signatures, secret_of_function
from fleet_pipeline.model.errors import LocalAwsUnsupported

MINISTACK = "1.5.33"
"""The version whose source the patches were written for; also in pyproject.toml."""

NAMES = {
    "ministack.app": ("_build_persistence_save_dict", "pin_request_origin"),
    "ministack.core.iam_actions": ("extract_resource_arn",),
    "ministack.core.iam_evaluator": (
        "CredentialResolutionError",
        "find_iam_access_key_account",
        "is_root_access_key",
        "resolve_credential",
    ),
    "ministack.core.lambda_runtime": ("execution_credentials",),
    "ministack.core.persistence": ("save_all",),
    "ministack.core.responses": ("_account_from_sts_session", "request_scope"),
    "ministack.core.sigv4": (
        "SIGNATURE_MISMATCH",
        "header_signature_failure",
        "parse_header_signature",
        "parse_query_signature",
        "presigned_request_is_expired",
        "request_time_failure",
    ),
    "ministack.core.x509_utils": ("_require_crypto", "sign_certificate_request"),
    "ministack.services.firehose": deliveries.NAMES,
    "ministack.services.iam": ("_roles",),
    "ministack.services.iot": (
        "AccountRegionScopedDict",
        "_MISSING",
        "_MtlsAcceptor",
        "_RULE_ACTION_RESOURCE_KEYS",
        "_TAGGABLE_RESOURCES",
        "_describe_endpoint",
        "_dispatch_rule_action",
        "_error_not_found",
        "_eval_select_expr",
        "_eval_select_function",
        "_iot_role_usable",
        "_mtls_build_ssl_context",
        "_mtls_loop",
        "_mtls_server",
        "_mtls_start_locked",
        "_provisioning_role_allows",
        "_restore_state",
        "_route_request",
        "_rule_event",
        "_rule_message",
        "_rule_select_clause",
        "_run_rule_actions",
        "_set_created_tags",
        "_sql_as_string",
        "_things",
        "_update_thing",
        "error_response_json",
        "get_account_id",
        "get_ca_cert_pem",
        "get_region",
        "get_state",
        "json_response",
    ),
    "ministack.services.lambda_svc": ("_LAMBDA_STATE_TRANSITION_DELAY", "execution_credentials"),
    "ministack.services.s3": ("_put_object",),
    "ministack.services.sts": ("_sessions", "register_session"),
}
"""What the launcher and its patches take from the emulator."""


FUNCTION_STARTS_S = 0.1
"""How long a new function is pending, as AWS's are for some seconds; the emulator has each wait for half a second."""


def check_version(installed: str | None = None) -> None:
    """Return when the installed emulator is the one that is known; raise LocalAwsUnsupported otherwise."""
    try:
        found = installed or metadata.version("ministack")
    except metadata.PackageNotFoundError as error:
        raise LocalAwsUnsupported("ministack is not installed") from error
    if found != MINISTACK:
        raise LocalAwsUnsupported(f"ministack {found} is installed and its patches are written for {MINISTACK}")


def check_names(module: object, names: Iterable[str]) -> None:
    """Return when a module of the emulator has all these names; raise LocalAwsUnsupported otherwise."""
    gone = [name for name in names if not hasattr(module, name)]
    if gone:
        raise LocalAwsUnsupported(f"{getattr(module, '__name__', module)} no longer has {', '.join(gone)}")


def apply_patches(mqtt: socket.socket, ca_path: Path, secret: str) -> Signatures:
    """Apply every patch to the emulator in this process; MQTT is to be served on the given socket.

    Return how it knows its keys.
    """
    check_version()
    modules = {name: import_module(name) for name in NAMES}
    for name, module in modules.items():
        check_names(module, NAMES[name])
    iot: Any = modules["ministack.services.iot"]
    s3, responses = modules["ministack.services.s3"], modules["ministack.core.responses"]
    streams = Deliveries(modules["ministack.services.firehose"], s3, responses, iot, modules["ministack.services.iam"])
    write_to_s3(iot, s3, responses, streams)
    cut_texts(iot)
    listen(iot, mqtt, ca_path)
    require_certificates(iot)
    name_the_endpoint(iot)
    check_expected_version(iot)
    keep_billing_groups(iot)
    check_names(iot, provisioning_topics.NAMES)
    provisioning_topics.answer_all_provisioning_topics(iot, modules["ministack.core.responses"])
    authorize_policies_on_their_target(modules["ministack.core.iam_actions"])
    count_loopback_as_tls(modules["ministack.app"])
    keep_function_keys_secret(modules, secret)
    read_the_authority_once(modules["ministack.core.x509_utils"])
    start_functions_soon(modules["ministack.services.lambda_svc"])
    return Signatures(
        modules["ministack.core.sigv4"],
        modules["ministack.core.iam_evaluator"],
        modules["ministack.core.responses"],
        secret,
    )


@dataclass(frozen=True, slots=True)
class _Message:
    """The message that the rules engine is busy with, and its rule."""

    rule: dict[str, Any]
    payload: bytes
    topic: str
    client_id: str | None


_message: ContextVar[_Message] = ContextVar("_message")


class S3ActionFailed(Exception):
    """A rule could not write an object; the rule's error action is told so."""


def write_to_s3(iot: Any, s3: Any, responses: Any, streams: Deliveries) -> None:
    """Let rules write to S3, and hand records to streams: the emulator takes these actions, and does nothing."""
    run, dispatch, select = iot._run_rule_actions, iot._dispatch_rule_action, iot._rule_event

    async def run_rule_actions(  # noqa: PLR0913, PLR0917 (the emulator's signature)
        account: str, region: str, rule: Any, payload: bytes, topic: str = "", client_id: str | None = None
    ) -> None:
        token = _message.set(_Message(rule or {}, payload or b"", topic, client_id))
        try:
            await run(account, region, rule, payload, topic, client_id)
        finally:
            _message.reset(token)

    async def dispatch_rule_action(account: str, region: str, rule_name: str, action: Any, event: Any) -> None:
        if "firehose" in action:
            with responses.request_scope(account, region):
                streams.put(action["firehose"], _body(iot, action, event))
            return
        if "s3" not in action:
            await dispatch(account, region, rule_name, action, event)
            return
        with responses.request_scope(account, region):
            _put(iot, s3, action["s3"], _body(iot, action, event))

    def rule_event(sql: str, topic: str, payload: bytes, *rest: Any, **more: Any) -> Any:
        event = select(sql, topic, payload, *rest, **more)
        return payload if event is iot._MISSING else event  # otherwise a payload that is not UTF-8 ends here

    iot._run_rule_actions, iot._dispatch_rule_action, iot._rule_event = (
        run_rule_actions,
        dispatch_rule_action,
        rule_event,
    )
    iot._RULE_ACTION_RESOURCE_KEYS["s3"] = ("bucketName",)
    iot._RULE_ACTION_RESOURCE_KEYS["firehose"] = ("deliveryStreamName",)


def _body(iot: Any, action: Any, event: Any) -> bytes:
    """Return what is to be written: for `SELECT *` the payload's own bytes, whatever they are."""
    message = _message.get()
    if action is not message.rule.get("errorAction") and iot._rule_select_clause(message.rule.get("sql", "")) == "*":
        return message.payload
    return json.dumps(event, separators=(",", ":")).encode()


def _put(iot: Any, s3: Any, action: dict[str, str], body: bytes) -> None:
    bucket, key = _substituted(iot, action["bucketName"]), _substituted(iot, action["key"])
    if not iot._provisioning_role_allows(action["roleArn"], [("s3:PutObject", f"arn:aws:s3:::{bucket}/{key}")]):
        raise _failed(bucket, key, 403, "AccessDenied", "Access Denied")
    headers = {
        "content-type": "application/octet-stream",
        **({"x-amz-acl": action["cannedAcl"]} if action.get("cannedAcl") else {}),
    }
    status, _, answer = s3._put_object(bucket, key, body, headers)
    if status != HTTPStatus.OK:
        raise _failed(bucket, key, status, _element(answer, "Code"), _element(answer, "Message"))


def _substituted(iot: Any, template: str) -> str:
    return re.sub(r"\$\{([^}]*)\}", lambda found: _evaluated(iot, found[1]), template)


def _evaluated(iot: Any, expression: str) -> str:
    message = _message.get()
    value = iot._eval_select_expr(
        expression, message.topic, message.payload, iot._rule_message(message.payload), message.client_id
    )
    text: str | None = iot._sql_as_string(value)
    if text is None:
        raise S3ActionFailed(f"${{{expression}}} is undefined for this message, or the emulator does not know it")
    return text


def _failed(bucket: str, key: str, status: int, code: str, reason: str) -> S3ActionFailed:
    received = f"{reason} (Service: Amazon S3; Status Code: {status}; Error Code: {code})"
    where = f"Message arrived on: {_message.get().topic}, Action: s3, Bucket: {bucket}, Key: {key}"
    return S3ActionFailed(f"Failed to put S3 object. The error received was {received}. {where}")


def _element(answer: bytes, name: str) -> str:
    found = re.search(rf"<{name}>([^<]*)</{name}>".encode(), answer)
    return found[1].decode() if found else "Unknown"


def cut_texts(iot: Any) -> None:
    """Have the rules' SQL know `substring`, from a place and before another, both from 0.

    Source: AWS IoT Core Developer Guide, iot-sql-functions.
    """
    known = iot._eval_select_function

    def evaluate(  # noqa: PLR0913, PLR0917 (the emulator's own)
        name: str, args: list[str], topic: str, payload: bytes, message: Any, client_id: str | None = None
    ) -> Any:
        if name != "substring":
            return known(name, args, topic, payload, message, client_id)
        text, *places = (iot._eval_select_expr(each, topic, payload, message, client_id) for each in args)
        if not isinstance(text, str) or not places or not all(isinstance(place, int) for place in places):
            return iot._MISSING
        start, end = (*places, len(text))[:2]
        return text[start:end] if 0 <= start <= end <= len(text) else iot._MISSING

    iot._eval_select_function = evaluate


def listen(iot: Any, mqtt: socket.socket, ca_path: Path) -> None:
    """Serve MQTT on this socket alone, where the emulator would bind all interfaces; write the authority for clients to
    trust.
    """

    def write_authority() -> None:
        ca_path.write_text(iot.get_ca_cert_pem())
        ca_path.chmod(0o600)

    async def start() -> None:
        await asyncio.to_thread(write_authority)
        if iot._mtls_server is None:
            iot._mtls_loop = asyncio.get_running_loop()
            iot._mtls_server = await iot._mtls_loop.create_server(iot._MtlsAcceptor, sock=mqtt.dup())

    iot._mtls_start_locked = start


def require_certificates(iot: Any) -> None:
    """Refuse MQTT clients without a certificate, which the emulator would give every right."""
    build = iot._mtls_build_ssl_context

    def build_ssl_context() -> ssl.SSLContext:
        context: ssl.SSLContext = build()
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    iot._mtls_build_ssl_context = build_ssl_context


def name_the_endpoint(iot: Any) -> None:
    """Answer DescribeEndpoint with a name that resolves and that the server's certificate has."""
    describe = iot._describe_endpoint

    def describe_endpoint(query: dict[str, str]) -> Any:
        if query.get("endpointType", "iot:Data-ATS") == "iot:Data-ATS":
            return iot.json_response({"endpointAddress": "localhost"})
        return describe(query)

    iot._describe_endpoint = describe_endpoint


def check_expected_version(iot: Any) -> None:
    """Refuse UpdateThing with a stale `expectedVersion`, which the emulator does not look at. The hook relies on it."""
    update = iot._update_thing

    def update_thing(name: str, payload: dict[str, Any]) -> Any:
        thing, expected = iot._things.get(name), payload.get("expectedVersion")
        if thing and expected is not None and int(expected) != thing.get("version", 1):
            return iot.error_response_json(
                "VersionConflictException", f"The version for thing {name} does not match the expected version.", 409
            )
        return update(name, payload)

    iot._update_thing = update_thing


def keep_billing_groups(iot: Any) -> None:
    """Make, show and remove billing groups, of which the emulator knows none.

    Things are in none: nothing is billed here.
    """
    route, state, restore, groups = iot._route_request, iot.get_state, iot._restore_state, iot.AccountRegionScopedDict()
    iot._TAGGABLE_RESOURCES["billinggroup"] = (groups, "Billing Group {name} does not exist.")

    async def route_request(method: str, path: str, headers: Any, body: bytes, query: Any) -> Any:
        name = path.removeprefix("/billing-groups/")
        return await route(method, path, headers, body, query) if name == path else answered(method, name, body)

    def answered(method: str, name: str, body: bytes) -> Any:
        group = groups.get(name)
        if method == "POST" and group is None:
            group = {
                "billingGroupName": name,
                "billingGroupArn": f"arn:aws:iot:{iot.get_region()}:{iot.get_account_id()}:billinggroup/{name}",
            }
            groups[name] = group
            iot._set_created_tags(group["billingGroupArn"], json.loads(body or b"{}").get("tags"))
        if method == "DELETE":
            groups.pop(name, None)
            return iot.json_response({})
        return iot._error_not_found("DescribeBillingGroup", name) if group is None else iot.json_response(group)

    def get_state() -> Any:
        return {**state(), "billing_groups": groups}

    def restore_state(saved: Any) -> None:
        restore(saved)
        groups.update((saved or {}).get("billing_groups", {}))

    iot._route_request, iot.get_state, iot._restore_state = route_request, get_state, restore_state


def authorize_policies_on_their_target(actions: Any) -> None:
    """Ask whether a role may attach a policy to this very certificate; the emulator asks whether it
    may to all (`*`).
    """
    extract = actions.extract_resource_arn

    def extract_resource_arn(service: str, method: str, path: str, headers: Any, body: bytes, *rest: Any) -> Any:
        if service == "iot" and path.startswith("/target-policies/"):
            return json.loads(body).get("target", "*")
        return extract(service, method, path, headers, body, *rest)

    actions.extract_resource_arn = extract_resource_arn


def count_loopback_as_tls(app: Any) -> None:
    """Let `aws:SecureTransport` be true: calls never leave this machine, and a bucket's TLS-only policy would refuse
    every role.
    """
    pin = app.pin_request_origin

    def pin_request_origin(source_ip: str, _: object) -> None:
        pin(source_ip, secure_transport=True)

    app.pin_request_origin = pin_request_origin


def read_the_authority_once(certificates: Any) -> None:
    """Keep the authority's private key once it was read: the emulator reads it for each certificate that it signs.

    OpenSSL proves an RSA key whenever it reads one: 28 of the 30 ms that a certificate cost.
    """
    certificates._require_crypto()
    shown = {name: getattr(certificates.serialization, name) for name in certificates.serialization.__all__}
    load = cache(certificates.serialization.load_pem_private_key)
    certificates.serialization = SimpleNamespace(**shown | {"load_pem_private_key": load})


def start_functions_soon(functions: Any) -> None:
    """Let a new function be pending for a moment, so that whoever does not wait for it is seen here, and no longer."""
    functions._LAMBDA_STATE_TRANSITION_DELAY = FUNCTION_STARTS_S


def keep_function_keys_secret(modules: Mapping[str, Any], secret: str) -> None:
    """Give functions a secret key that nobody can guess; the emulator makes it from the names of the function and its
    role.
    """
    runtime, functions, sts = (
        modules[f"ministack.{name}"] for name in ("core.lambda_runtime", "services.lambda_svc", "services.sts")
    )
    given = runtime.execution_credentials

    def execution_credentials(config: dict[str, Any]) -> dict[str, str]:
        credentials: dict[str, str] = given(config)
        key = credentials["AWS_ACCESS_KEY_ID"]
        own = secret_of_function(secret, f"{config.get('FunctionArn', '')}:{config.get('Role', '')}")
        sts.register_session(key, {**sts._sessions[key], "SecretAccessKey": own})
        return {**credentials, "AWS_SECRET_ACCESS_KEY": own}

    runtime.execution_credentials = functions.execution_credentials = execution_credentials
