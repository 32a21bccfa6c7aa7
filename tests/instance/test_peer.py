"""Another user of the machine who reaches the UI's port gets nothing, as far as Linux tells whose connection it is."""

import asyncio
import os
import socket
from pathlib import Path

import pytest
import uvicorn

from fleet_pipeline.instance import peer, webserver
from fleet_pipeline.instance.gate import Gate

pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="Linux alone has this table")
NOBODY = 65534


@pytest.fixture(params=["127.0.0.1", "::1"])
def server(request):
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        with socket.create_server((request.param, 0), family=family) as listening:
            yield listening
    except OSError as error:
        pytest.skip(f"this machine has no {request.param}: {error}")


@pytest.fixture
def dual():
    """A server on all addresses of both families, which IPv4 clients reach by mapped ones."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listening:
        yield listening


def scope(client, server):
    return {"type": "http", "client": client[:2], "server": server[:2]}


def test_a_connection_of_ones_own_is_known(server):
    with socket.create_connection(server.getsockname()[:2]), server.accept()[0] as accepted:
        assert peer.user_of(accepted.getpeername()[:2], accepted.getsockname()[:2]) == os.getuid()
        assert peer.is_of_this_user(scope(accepted.getpeername(), accepted.getsockname()))


def test_a_connection_by_a_mapped_address_is_known(dual):
    with socket.create_connection(("127.0.0.1", dual.getsockname()[1])), dual.accept()[0] as accepted:
        assert peer.user_of(accepted.getpeername()[:2], accepted.getsockname()[:2]) == os.getuid()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_another_user_by_a_mapped_address_is_told_apart(dual):
    with connected_as(NOBODY, dual) as accepted:
        assert not peer.is_of_this_user(scope(accepted.getpeername(), accepted.getsockname()))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_another_user_is_told_apart_and_refused(server):
    with connected_as(NOBODY, server) as accepted:
        ends = accepted.getpeername()[:2], accepted.getsockname()[:2]
        assert peer.user_of(*ends) == NOBODY
        assert not peer.is_of_this_user(scope(*ends))


class connected_as:  # noqa: N801 (a context, named as one)
    """A child that becomes another user, connects, and stays until it is told to end."""

    def __init__(self, user, server):
        self.user, self.server = user, server

    def __enter__(self):
        reading, self.writing = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            os.close(self.writing)
            os.setuid(self.user)
            host, port = self.server.getsockname()[:2]
            with socket.create_connection(("127.0.0.1" if host == "::" else host, port)):
                os.read(reading, 1)
            os._exit(0)
        os.close(reading)
        self.accepted = self.server.accept()[0]
        return self.accepted

    def __exit__(self, *_):
        os.close(self.writing)
        os.waitpid(self.child, 0)
        self.accepted.close()


def test_who_sent_and_went_away_is_nobody(server):
    """The kernel shows root as the user of a socket without a process."""
    with socket.create_connection(server.getsockname()[:2]) as client, server.accept()[0] as accepted:
        ends = accepted.getpeername()[:2], accepted.getsockname()[:2]
        client.sendall(b"POST /graphql")
        client.close()
        assert peer.user_of(*ends) is None
        assert not peer.is_of_this_user(scope(*ends))


def test_what_comes_from_another_machine_passes_here():
    assert peer.is_of_this_user(scope(("192.0.2.1", 40000), ("192.0.2.2", 3000)))


def test_the_gate_lets_nobody_in_who_is_not_welcome():
    said = []

    async def app(*_):
        said.append("passed on")

    async def send(message):
        said.append(message.get("status") or message.get("code") or message["body"].decode())

    gate = Gate(app, is_welcome=lambda _scope: False)
    for kind in ("http", "websocket"):
        headers = [(b"host", b"127.0.0.1:3000")]
        request = {"type": kind, "method": "GET", "path": "/", "query_string": b"", "headers": headers}
        with pytest.raises(StopIteration):
            gate(request, None, send).__await__().send(None)
    assert said == [403, "Refused: the request comes from another user of this machine.\n", 1008]


@pytest.mark.parametrize(("alone", "believed"), [("1", False), ("", True)])
def test_no_header_says_another_address_where_others_are_kept_out(monkeypatch, alone, believed):
    monkeypatch.setenv(webserver.OWN_USER, alone)
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "127.0.0.1")
    welcome = webserver.who_is_welcome()
    assert welcome == ({} if believed else {"is_welcome": peer.is_of_this_user})
    seen = []

    async def app(scope, *_):
        seen.append(scope["client"][0])

    config = uvicorn.Config(app, proxy_headers=True)
    config.load()
    headers = [(b"x-forwarded-for", b"192.0.2.1")]
    request = {"type": "http", "client": ("127.0.0.1", 40000), "headers": headers, "scheme": "http", "asgi": {}}
    asyncio.run(config.loaded_app(request, None, None))
    assert seen == ["192.0.2.1" if believed else "127.0.0.1"]
