"""Who is let in to AWS on this machine: whoever can read this home's secret, and nobody else.

The server listens on a port of this machine, which every web page in its browser and every other user can reach, and it
runs code: the hook's. So a request is passed on only when it names this machine as its host, comes from no web page,
and is signed with the secret. The emulator takes any signature for an account's own key; this stands in front of it and
takes none but the right one.
"""

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from fleet_pipeline.model.plain import plain

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

HEALTH = "/_ministack/health"
"""Answered without a signature: whether the server lives is no secret, and is asked by who starts it."""

LONGEST_PRESIGNED_S = 7 * 24 * 3600
"""Source: Amazon S3, "Sharing objects with presigned URLs"."""

_ACCOUNT = re.compile("[0-9]{12}")
_HASH = re.compile("[0-9a-f]{64}")
_XML = {"s3", "iam", "sts"}
_QUERY_CREDENTIALS = {"x-amz-algorithm", "x-amz-credential", "x-amz-signature", "awsaccesskeyid"}
_INVALID_KEY = "The security token included in the request is invalid."


class Refusal(NamedTuple):
    """Why a request is not passed on."""

    code: str
    why: str


@dataclass(frozen=True, slots=True)
class Signatures:
    """How the emulator knows signatures and the keys that it gave out itself, those of roles and users."""

    sigv4: Any
    iam: Any
    responses: Any
    secret: str

    def refusal(self, scope: Mapping[str, Any], headers: Mapping[str, str], body: bytes) -> Refusal | None:
        """Return why a request is not signed as it must be, or None when it is."""
        query = parse_qs(scope.get("query_string", b"").decode("utf-8", "replace"), keep_blank_values=True)
        in_query = any(name.lower() in _QUERY_CREDENTIALS for name in query)
        in_header = headers.get("authorization", "")
        if not in_query and not in_header:
            return Refusal("MissingAuthenticationToken", "Request is missing Authentication Token")
        if in_query and in_header:
            return Refusal("InvalidArgument", "Only one auth mechanism allowed")
        algorithm = in_header.partition(" ")[0] if in_header else query.get("X-Amz-Algorithm", [""])[0]
        if algorithm != "AWS4-HMAC-SHA256":
            return Refusal("IncompleteSignature", "The request signature does not conform to AWS standards.")
        signature = self.sigv4.parse_query_signature(query) if in_query else self.sigv4.parse_header_signature(headers)
        if isinstance(signature, tuple):
            return Refusal(*signature)
        return self._timely(signature, query) or self._signed(signature, scope, query, headers, body)

    def _timely(self, signature: Any, query: Mapping[str, list[str]]) -> Refusal | None:
        if "X-Amz-Expires" not in query:
            skewed = self.sigv4.request_time_failure(signature)
            return Refusal(*skewed) if skewed else None
        try:
            seconds = int(query["X-Amz-Expires"][0])
            late = not 0 < seconds <= LONGEST_PRESIGNED_S or self.sigv4.presigned_request_is_expired(
                signature.amz_date, seconds
            )
        except ValueError:
            late = True
        return Refusal("AccessDenied", "Request has expired") if late else None

    def _signed(
        self, signature: Any, scope: Mapping[str, Any], query: Any, headers: Mapping[str, str], body: bytes
    ) -> Refusal | None:
        presigned = "X-Amz-Signature" in query
        token = query.get("X-Amz-Security-Token", [""])[0] if presigned else headers.get("x-amz-security-token", "")
        secret = self._secret_of(signature.access_key_id, token)
        if secret is None:
            return Refusal("UnrecognizedClientException", _INVALID_KEY)
        claimed = headers.get("x-amz-content-sha256", "")
        if "host" not in signature.signed_headers.split(";") or (
            _HASH.fullmatch(claimed) and claimed != hashlib.sha256(body).hexdigest()
        ):
            return Refusal("SignatureDoesNotMatch", self.sigv4.SIGNATURE_MISMATCH)
        path = scope["raw_path"].decode("latin-1")
        failure = self.sigv4.header_signature_failure(
            signature, secret, scope["method"], path, query, headers, body, presigned=presigned
        )
        return Refusal(*failure) if failure else None

    def _secret_of(self, key: str, token: str) -> str | None:
        if _ACCOUNT.fullmatch(key):
            return self.secret if not token else None
        if self.iam.is_root_access_key(key):  # `test` and the like, which the emulator takes for everybody's
            return None
        account = self.responses._account_from_sts_session(key) or self.iam.find_iam_access_key_account(key)  # noqa: SLF001
        found = self.iam.resolve_credential(key, account, token)
        return None if isinstance(found, self.iam.CredentialResolutionError) else str(found.secret_access_key)


@dataclass(frozen=True, slots=True)
class Guard:
    """The emulator's application behind the gate. `signatures` says whether a request may pass."""

    app: App
    port: int
    signatures: Signatures

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":  # vehicles speak MQTT over TLS on a port of its own
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        headers = joined(scope["headers"])
        refusal = self._foreign(scope, headers)
        if refusal:
            await _refuse(send, refusal, "")
            return
        if scope["path"] == HEALTH and scope["method"] in {"GET", "HEAD"}:
            await self.app(scope, receive, _without_cors(send))
            return
        body = await _whole(receive)
        if body is None:
            return
        refusal = self.signatures.refusal(scope, headers, body)
        if refusal:
            await _refuse(send, refusal, _service(headers, scope["query_string"]))
        else:
            await self.app(scope, _again(body, receive), _without_cors(send))

    def _foreign(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> Refusal | None:
        """Return why a request is none of this machine's own programs'; a browser says of itself where a page's request
        comes from.
        """
        hosts = [value for name, value in scope["headers"] if name.lower() == b"host"]
        if len(hosts) != 1 or not is_own(hosts[0].decode("latin-1"), self.port):
            return Refusal("AccessDenied", "AWS on this machine answers to 127.0.0.1 and localhost alone.")
        if "origin" in headers or headers.get("sec-fetch-site", "none") != "none" or scope["method"] == "OPTIONS":
            return Refusal("AccessDenied", "AWS on this machine answers no web page.")
        return None


def is_own(host: str, port: int) -> bool:
    """Say whether a Host header names this machine: by its address, as `localhost`, or as a bucket's own name below
    `localhost`.
    """
    name, _, given = host.lower().rpartition(":")
    return given == str(port) and (name in {"127.0.0.1", "localhost"} or name.endswith(".localhost"))


def joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by their lower-case names; of one that came twice both values, as a signature has them."""
    found: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("latin-1").lower(), value.decode("utf-8", "replace")
        found[key] = f"{found[key]},{text}" if key in found else text
    return found


async def _whole(receive: Receive) -> bytes | None:
    """Return the whole body, or None when the client went away."""
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that hands out a body that was read already, and then goes on as before."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_again


def _without_cors(send: Send) -> Send:
    """Return a `send` that lets no web page read an answer."""

    async def send_without(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [
                (name, value)
                for name, value in message.get("headers", [])
                if not name.lower().startswith(b"access-control-")
            ]
            message = {**message, "headers": kept}
        await send(message)

    return send_without


def _service(headers: Mapping[str, str], query: bytes) -> str:
    """Return the service that a request says it is for, so that its refusal can be read by that service's clients."""
    said = headers.get("authorization", "") or parse_qs(query.decode("latin-1")).get("X-Amz-Credential", [""])[0]
    parts = said.split("Credential=")[-1].split(",")[0].split("/")
    return parts[3] if len(parts) > 4 else "s3"  # noqa: PLR2004 (key, day, region, service, aws4_request)


async def _refuse(send: Send, refusal: Refusal, service: str) -> None:
    code, why = (
        refusal.code,
        plain(refusal.why).replace("&", "&amp;").replace("<", "&lt;").replace('"', "'").replace("\\", "/"),
    )
    if not service:
        kind, text = "text/plain", why
    elif service == "s3":
        kind, text = "application/xml", f"<Error><Code>{code}</Code><Message>{why}</Message></Error>"
    elif service in _XML:
        kind, text = (
            "text/xml",
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{why}</Message></Error></ErrorResponse>",
        )
    else:
        kind, text = "application/json", f'{{"__type":"{code}","message":"{why}"}}'
    body = text.encode()
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"x-amzn-errortype", code.encode()),
    ]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def secret_of_function(secret: str, arn: str) -> str:
    """Return the secret key of a function's role: the emulator would make it from the function's name, which everyone
    can guess.
    """
    return hmac.new(secret.encode(), arn.encode(), hashlib.sha256).hexdigest()
