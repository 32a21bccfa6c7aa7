"""`python -m fleet_pipeline.instance.webserver`: Dagster's own webserver, with all its options, behind the gate."""

import os
from typing import Any

from dagster_webserver import cli
from dagster_webserver.webserver import DagsterWebserver
from starlette.middleware import Middleware

from fleet_pipeline.instance.gate import LOOPBACK, Gate

HOSTS = "DAGSTER_WEBSERVER_ALLOWED_HOSTS"
"""The variable with the names under which the webserver is reached beside this machine's own, comma-separated."""


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    hosts = (*LOOPBACK, *(each.strip().lower() for each in os.environ.get(HOSTS, "").split(",") if each.strip()))
    inner = DagsterWebserver.build_middleware

    def build_middleware(self: Any) -> list[Middleware]:
        return [Middleware(Gate, hosts=hosts), *inner(self)]

    setattr(DagsterWebserver, "build_middleware", build_middleware)  # noqa: B010 (it has no option for more, and mypy lets no method be assigned)
    cli.main()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
