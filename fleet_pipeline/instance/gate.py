"""The gate before Dagster's webserver, which has no login and carries out whatever reaches its `/graphql`, by GET too.

A web page in the same browser, or an image in a text that a vehicle chose, can send requests that need no answer. So
nothing is passed on that names another host, comes from another origin, or could be sent by a page without a preflight.
Pure ASGI: it stands before any application.
"""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""The names under which a browser on the same machine reaches it.

No other name is ever resolved to them by someone else.
"""

HARMLESS = {"GET", "HEAD"}
"""Methods that change nothing, but for `/graphql`, where Dagster carries out mutations by GET."""


@dataclass(frozen=True, slots=True)
class Gate:
    """An application that is reached by its own pages and by programs alone, under these host names and any port."""

    app: App
    hosts: tuple[str, ...] = LOOPBACK
    is_welcome: Callable[[Mapping[str, Any]], bool] = lambda _scope: True
    """Says of a request's scope whether who sent it may."""

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it in a sentence with status 403."""
        why = "" if scope["type"] == "lifespan" else self._refusal(scope)
        if not why:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": why})
        else:
            body = f"Refused: {why}\n".encode()
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def _refusal(self, scope: Mapping[str, Any]) -> str:
        hosts = [value.decode("latin-1").lower() for name, value in scope["headers"] if name.lower() == b"host"]
        headers = {name.decode("latin-1").lower(): value.decode("latin-1").lower() for name, value in scope["headers"]}
        if len(hosts) != 1 or _name(hosts[0]) not in self.hosts:
            return "this address is not one of the webserver's own (DAGSTER_WEBSERVER_ALLOWED_HOSTS names more)."
        if not self.is_welcome(scope):
            return "the request comes from another user of this machine."
        if "origin" in headers and headers["origin"].partition("://")[2] != hosts[0]:
            return "the request comes from a page of another origin."
        return _unasked(scope, headers) if scope["type"] == "http" else ""


def _unasked(scope: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    """Return why a request may have been sent by a page that was not asked for leave."""
    graphql = scope["path"].rstrip("/").endswith("/graphql")
    if (
        graphql
        and scope["method"] != "POST"
        and (scope["query_string"] or headers.get("sec-fetch-mode", "navigate") != "navigate")
    ):
        return "GraphQL is taken by POST alone."
    if scope["method"] in HARMLESS:
        return ""
    if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        return "the request comes from a page of another origin."
    if graphql and headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return "GraphQL is taken as application/json alone."
    return ""


def _name(host: str) -> str:
    """Return the name in a Host header, without its port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
