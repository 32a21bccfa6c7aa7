"""`python -m fleet_pipeline.instance.webserver`: Dagster's own webserver, with all its options, behind the gate."""

import os
from typing import Any

from dagster_webserver import cli
from dagster_webserver.webserver import DagsterWebserver
from starlette.middleware import Middleware

from fleet_pipeline.instance.gate import LOOPBACK, Gate
from fleet_pipeline.instance.peer import is_of_this_user

HOSTS = "DAGSTER_WEBSERVER_ALLOWED_HOSTS"
"""The variable with the names under which the webserver is reached beside this machine's own, comma-separated."""

OWN_USER = "DAGSTER_WEBSERVER_OWN_USER"
"""The variable that, set to anything, keeps other users of this machine out; `fleet ui` sets it."""


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    hosts = (*LOOPBACK, *(each.strip().lower() for each in os.environ.get(HOSTS, "").split(",") if each.strip()))
    more = who_is_welcome()
    inner = DagsterWebserver.build_middleware

    def build_middleware(self: Any) -> list[Middleware]:
        return [Middleware(Gate, hosts=hosts, **more), *inner(self)]

    setattr(DagsterWebserver, "build_middleware", build_middleware)  # noqa: B010 (it has no option for more, and mypy lets no method be assigned)
    cli.main()  # type: ignore[no-untyped-call]


def who_is_welcome() -> dict[str, Any]:
    """Return what the gate is told of who may ask; addresses are then those of connections, whatever a client says."""
    if not os.environ.get(OWN_USER):
        return {}
    os.environ["FORWARDED_ALLOW_IPS"] = ""  # uvicorn's: by itself it believes X-Forwarded-For from this machine
    return {"is_welcome": is_of_this_user}


if __name__ == "__main__":
    main()
