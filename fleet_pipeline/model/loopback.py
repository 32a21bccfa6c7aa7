"""What opens an address: this machine is never behind a proxy, whatever HTTP_PROXY says; everything else is opened as
`urlopen` would.
"""

from urllib.parse import urlsplit
from urllib.request import OpenerDirector, ProxyHandler, build_opener

NAMES = {"127.0.0.1", "localhost", "::1"}
"""The names of this machine."""


def opener(url: str) -> OpenerDirector:
    """Return what opens an address. It is made anew each time: `urlopen` keeps the first proxies that it sees."""
    return build_opener(*([ProxyHandler({})] if urlsplit(url).hostname in NAMES else []))
