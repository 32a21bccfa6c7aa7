"""The gate before Dagster's webserver: its own pages and programs pass, and nothing that another page can send."""

import asyncio

import pytest

from fleet_pipeline.instance.gate import Gate

OWN = {"host": "127.0.0.1:3000"}
PAGE = OWN | {"origin": "http://127.0.0.1:3000", "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}
JSON = {"content-type": "application/json"}


def answered(method, path, headers, *, query="", kind="http", hosts=None):
    """Return the status of a request: 200 when it was passed on."""
    said = []

    async def app(scope, receive, send):
        said.append(200)

    async def send(message):
        said.append(message.get("status", message.get("code")))

    pairs = [
        (name.encode(), value.encode()) for name, value in (headers.items() if isinstance(headers, dict) else headers)
    ]
    scope = {"type": kind, "method": method, "path": path, "query_string": query.encode(), "headers": pairs}
    asyncio.run((Gate(app, hosts) if hosts else Gate(app))(scope, None, send))
    return said[0]


PASSED = {
    "the UI's page": ("GET", "/", OWN | {"sec-fetch-site": "none"}),
    "a link to it from elsewhere": (
        "GET",
        "/runs",
        OWN | {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    ),
    "GraphiQL": ("GET", "/graphql", OWN | {"sec-fetch-mode": "navigate"}),
    "the page's own question": ("POST", "/graphql", PAGE | JSON),
    "a program's question": ("POST", "/graphql", OWN | {"content-type": "application/json; charset=utf-8"}),
    "by name": ("POST", "/graphql", {"host": "localhost:3000"} | JSON),
    "a log that is downloaded": ("GET", "/logs/1", OWN),
    "an upload by a program": ("POST", "/report_asset_materialization/a", OWN | JSON),
}
REFUSED = {
    "another host": ("GET", "/", {"host": "evil.example"}),
    "a rebound name": ("POST", "/graphql", {"host": "rebound.example:3000"} | JSON),
    "no host": ("GET", "/", {}),
    "two hosts": ("GET", "/", [("host", "127.0.0.1:3000"), ("host", "evil.example")]),
    "another origin": ("POST", "/graphql", PAGE | JSON | {"origin": "https://evil.example"}),
    "another port of this machine": ("POST", "/graphql", PAGE | JSON | {"origin": "http://127.0.0.1:9000"}),
    "no origin at all": ("POST", "/graphql", PAGE | JSON | {"origin": "null"}),
    "a form's text": ("POST", "/graphql", OWN | {"content-type": "text/plain"}),
    "a form": ("POST", "/graphql", OWN | {"content-type": "application/x-www-form-urlencoded"}),
    "a form with files": ("POST", "/graphql", OWN | {"content-type": "multipart/form-data; boundary=x"}),
    "GraphQL's own type": ("POST", "/graphql", OWN | {"content-type": "application/graphql"}),
    "no type": ("POST", "/graphql", OWN),
    "GET by an image": ("GET", "/graphql", OWN | {"sec-fetch-site": "same-origin", "sec-fetch-mode": "no-cors"}),
    "another method": ("PUT", "/graphql", OWN | {"sec-fetch-site": "cross-site"} | JSON),
    "an asset reported from elsewhere": (
        "POST",
        "/report_asset_materialization/a",
        OWN | {"sec-fetch-site": "same-site"},
    ),
    "below a path": ("POST", "/dagster/graphql", OWN | {"content-type": "text/plain"}),
}


@pytest.mark.parametrize("request_", PASSED.values(), ids=PASSED)
def test_the_ui_and_programs_pass(request_):
    assert answered(*request_) == 200


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
def test_what_another_page_can_send_is_refused(request_):
    assert answered(*request_) == 403


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("mode", [{}, {"sec-fetch-mode": "navigate"}, {"sec-fetch-mode": "no-cors"}])
def test_no_question_is_taken_from_an_address(method, mode):
    assert answered(method, "/graphql", OWN | mode, query="query=mutation{x}") == 403


def test_a_websocket_is_opened_for_the_own_page_alone():
    assert answered("GET", "/graphql", PAGE, kind="websocket") == 200
    assert answered("GET", "/graphql", OWN | {"origin": "https://evil.example"}, kind="websocket") == 1008
    assert (
        answered("GET", "/graphql", {"host": "evil.example", "origin": "https://evil.example"}, kind="websocket")
        == 1008
    )


def test_a_deployment_names_the_host_under_which_it_is_reached():
    headers = {"host": "fleet.example.com", "origin": "https://fleet.example.com"} | JSON
    assert answered("POST", "/graphql", headers) == 403
    assert answered("POST", "/graphql", headers, hosts=("fleet.example.com",)) == 200
