"""Whose process is at the other end of a connection on this machine, as Linux tells it.

The webserver has no login, and every user of the machine reaches its port.
"""

import os
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
"""The kernel's tables of TCP sockets, each with its user. Source: proc_net_tcp.txt of the Linux kernel."""

_LOCAL, _REMOTE, _USER, _INODE = 1, 2, 7, 9
"""The columns of interest."""

ROOT = 0


def is_of_this_user(scope: Mapping[str, Any]) -> bool:
    """Say whether an ASGI request was sent by this process's own user, or by root.

    What was not sent from this machine passes, and all passes where the kernel has no such table, as on macOS. A socket
    of which nothing is known, because its process is gone, is nobody's.
    """
    client, server = scope.get("client"), scope.get("server")
    if not client or not server or not _address(client[0]).is_loopback or not TABLES[0].exists():
        return True
    return user_of((client[0], client[1]), (server[0], server[1])) in {os.getuid(), ROOT}


def user_of(client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """Return the id of the user whose socket is `client` of a connection to `server`, or None."""
    wanted = {(_spelled(client, mapped=mapped), _spelled(server, mapped=mapped)) for mapped in (False, True)}
    for local, remote, user, inode in _sockets():
        if (local, remote) in wanted and inode != "0":  # without a process it shows root as its user
            return int(user)
    return None


def _sockets() -> Iterator[tuple[str, str, str, str]]:
    for table in TABLES:
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            cells = line.split()
            yield cells[_LOCAL], cells[_REMOTE], cells[_USER], cells[_INODE]


def _spelled(end: tuple[str, int], *, mapped: bool) -> str:
    """Return an address and port as the tables have them: words of four bytes, each the other way round."""
    address = _address(end[0])
    packed = (b"\0" * 10 + b"\xff\xff" if mapped and isinstance(address, IPv4Address) else b"") + address.packed
    words = (packed[at : at + 4][::-1].hex().upper() for at in range(0, len(packed), 4))
    return f"{''.join(words)}:{end[1]:04X}"


def _address(text: str) -> IPv4Address | IPv6Address:
    """Return an address; IPv4's own where it comes as one of IPv6, as at a server of both."""
    address = ip_address(text)
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
