"""A proxy in front of AWS on this machine that answers in its place, or swallows its answer, and remembers every call."""

import http.client
import json
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from aws_calls import READING
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from serving import serving

from fleet_pipeline.aws.clients import Aws


@dataclass(frozen=True)
class Call:
    """One HTTP request, and whether it may change something."""

    method: str
    path: str
    body: bytes = field(repr=False)

    @property
    def service(self) -> str:
        if self.body.startswith(b"Action="):
            return "iam"
        if self.path.startswith("/2015-03-31/functions") or self.path.startswith("/2017-03-31/tags"):
            return "lambda"
        first = urlsplit(self.path).path.split("/")[1]
        return "s3" if first.startswith("fleet-") else "iot"

    @property
    def name(self) -> str:
        """What tells one call from another: IAM's action, or method and path."""
        if self.service == "iam":
            fields = parse_qs(self.body.decode())
            return f"{fields['Action'][0]} {fields.get('RoleName', [''])[0]}"
        return f"{self.method} {self.path}"

    @property
    def writing(self) -> bool:
        return not self.name.startswith(READING) if self.service == "iam" else self.method not in {"GET", "HEAD"}


@dataclass(frozen=True)
class Refusal:
    """AWS's own way to say no, in the service's own form."""

    code: str
    message: str
    status: int = 400

    def body(self, service: str) -> bytes:
        xml = f"<Error><Code>{self.code}</Code><Message>{self.message}</Message></Error>"
        if service == "iam":
            return f"<ErrorResponse>{xml}<RequestId>1</RequestId></ErrorResponse>".encode()
        return xml.encode() if service == "s3" else json.dumps({"message": self.message, "__type": self.code}).encode()


LOST = "the answer is lost"
"""The call is carried out, and the connection closed before its answer."""

Trouble = Callable[[Call], "Refusal | str | None"]


@dataclass
class Proxy:
    """Where it listens, what was called, and how often it made trouble."""

    url: str
    calls: list[Call]
    troubles: list[Call]


@contextmanager
def proxy(upstream: str, trouble: Trouble):
    """Serve a proxy; `trouble` says for each call whether it is refused, its answer lost, or nothing."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.upstream, server.trouble = urlsplit(upstream).netloc, trouble
    server.seen = Proxy(f"http://127.0.0.1:{server.server_address[1]}", [], [])
    with serving(server):
        yield server.seen


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    upstream: str
    trouble: Trouble
    seen: Proxy


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def answer(self):
        if self.headers.get("Expect") == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        call = Call(self.command, self.path, self.rfile.read(int(self.headers.get("Content-Length", 0))))
        what = self.server.trouble(call)
        self.server.seen.calls.append(call)
        self.server.seen.troubles.extend([call] if what else [])
        if isinstance(what, Refusal):
            self.say(what.status, {"x-amzn-errortype": what.code}, what.body(call.service))
        else:
            self.forward(call, lost=what == LOST)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = answer  # noqa: N815 (the standard library's names)

    def forward(self, call, *, lost):
        connection = http.client.HTTPConnection(self.server.upstream, timeout=30)
        connection.request(call.method, call.path, call.body, self.signed_anew(call))
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        if lost:
            self.close_connection = True
        else:
            self.say(
                answer.status, {name: value for name, value in answer.getheaders() if name.lower() not in _OWN}, body
            )

    def signed_anew(self, call):
        """Return the call's headers with a signature for the server itself: it answers to its own name alone, and a signature names the host."""
        account, _, region, service = self.headers["Authorization"].partition("Credential=")[2].split("/")[:4]
        kept = {name: value for name, value in self.headers.items() if name.lower() not in _OF_THE_SIGNATURE}
        request = AWSRequest(call.method, f"http://{self.server.upstream}{call.path}", headers=kept, data=call.body)
        signer = S3SigV4Auth if service == "s3" else SigV4Auth
        signer(Credentials(account, Aws.__dataclass_fields__["secret"].default), service, region).add_auth(request)
        return {**dict(request.headers.items()), "Host": self.server.upstream}

    def say(self, status, headers, body):
        self.send_response_only(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing on stderr."""


_OF_THE_SIGNATURE = {
    "host",
    "authorization",
    "x-amz-date",
    "x-amz-content-sha256",
    "expect",
    "content-length",
    "connection",
}
"""Headers that are made anew for the server."""

_OWN = {"transfer-encoding", "connection", "content-length"}
"""Headers of one connection, which the proxy writes itself."""
