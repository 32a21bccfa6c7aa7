"""The server's own process: sets the emulator's environment, patches it, and serves until it is asked to stop.

Started by `daemon` alone, as `python -m fleet_pipeline.local.launcher FOLDER ACCOUNT REGION LOCK`, where LOCK is the
inherited descriptor of the server's lock. What the emulator reads from its environment is written here, and nothing
else is let through: a stray `AWS_ENDPOINT_URL` or `SERVICES` of the caller's shell would make another machine of it.
"""

import asyncio
import logging
import os
import resource
import signal
import socket
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hypercorn.asyncio import serve
from hypercorn.config import Config

from fleet_pipeline.local.daemon import record, recorded
from fleet_pipeline.local.folder import ServerFolder
from fleet_pipeline.local.guard import Guard
from fleet_pipeline.local.patches import apply_patches
from fleet_pipeline.model.errors import LocalAwsUnsupported
from fleet_pipeline.model.plain import plain, plain_lines

CHECKPOINT_S = 5
"""What a killed server may lose, in seconds, while its state is small.

A checkpoint of a thousand vehicles takes a tenth of a second, in which nothing is answered.
"""

CHECKPOINT_SHARE = 0.02
"""Part of the time that checkpoints may take: those of a large state come less often."""

LONGEST_LINE = 10_000
"""Characters of a line of the log: what a function printed is in it."""

_LOOPBACK = "127.0.0.1"
_KEPT = ("HOME", "LANG", "LC_ALL", "PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV")


def main(folder: ServerFolder, account: str, region: str, lock: int) -> None:
    """Serve AWS from this folder until SIGTERM, or until the folder is deleted."""
    web, mqtt = _listening(folder)
    record(folder, f"http://{_LOOPBACK}:{_port(web)}", _port(mqtt))
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    os.environ.clear()
    os.environ.update(environment, **emulator_environment(folder, account, region, _port(web), _port(mqtt)))
    asyncio.run(_serve(folder, lock, web, mqtt))


def emulator_environment(
    folder: ServerFolder, account: str, region: str, web_port: int, mqtt_port: int
) -> dict[str, str]:
    """Return the environment of the emulator and of the functions that it runs."""
    return {
        "AUTH": "true",
        "AWS_CONFIG_FILE": os.devnull,  # a function must not find this machine's own credentials
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SECRET_ACCESS_KEY": folder.secret.read_text(encoding="ascii").strip(),  # by which it knows presigned URLs
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "BIND_HOST": _LOOPBACK,
        "GATEWAY_PORT": str(web_port),
        "IOT_MTLS_PORT": str(mqtt_port),
        "LOG_LEVEL": "INFO",
        "MINISTACK_ACCOUNT_ID": account,
        "MINISTACK_REGION": region,
        "PERSIST_STATE": "1",
        "S3_DATA_DIR": str(folder.objects),
        "S3_PERSIST": "1",
        "SFTP_ENABLED": "0",
        "STATE_DIR": str(folder.state),
    }


def _listening(folder: ServerFolder) -> tuple[socket.socket, socket.socket]:
    """Listen on the former server's two ports, or on others if someone else has them by now."""
    former = recorded(folder)
    return _listener(urlsplit(former.url).port or 0 if former else 0), _listener(former.mqtt_port if former else 0)


def _listener(port: int) -> socket.socket:
    try:
        return socket.create_server((_LOOPBACK, port), backlog=512)
    except OSError:
        return socket.create_server((_LOOPBACK, 0), backlog=512)


def _port(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


async def _serve(folder: ServerFolder, lock: int, web: socket.socket, mqtt: socket.socket) -> None:
    from ministack import app  # noqa: PLC0415 (it reads its environment when it is imported)

    signatures = apply_patches(mqtt, folder.ca, os.environ["AWS_SECRET_ACCESS_KEY"])
    logging.getLogger("persistence").setLevel(logging.WARNING)  # every checkpoint would add a line for each service
    for handler in logging.getLogger().handlers:
        handler.setFormatter(PlainLines("%(asctime)s %(levelname)s [%(name)s] %(message)s"))
    _allow_many_connections()
    port = _port(web)
    config = Config()
    config.bind = [f"fd://{web.detach()}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 1
    config.errorlog = logging.getLogger("hypercorn.error")
    guarded: Any = Guard(app.app, port, signatures)  # hypercorn has a type for each message of ASGI
    await serve(guarded, config, shutdown_trigger=partial(_checkpoints, folder, lock))


class PlainLines(logging.Formatter):
    """Lines of the log in which nothing that a vehicle called itself or published is obeyed by a terminal, or begins a
    line.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        """Return one line."""
        record.message = plain(record.message, LONGEST_LINE)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Return a traceback, each of its lines plain."""
        return plain_lines(super().formatException(ei))


async def _checkpoints(folder: ServerFolder, lock: int) -> None:
    """Save the state every few seconds, and a last time when SIGTERM asks the server to stop; then return."""
    from ministack import app  # noqa: PLC0415
    from ministack.core import persistence  # noqa: PLC0415

    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    took = 0.0
    while not asked.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(asked.wait(), max(CHECKPOINT_S, took / CHECKPOINT_SHARE))
        if not folder.is_locked_by(lock):
            os._exit(1)  # an orderly end would save the state, and so make the deleted folder anew
        begun = time.monotonic()
        persistence.save_all(app._build_persistence_save_dict())  # noqa: SLF001
        took = time.monotonic() - begun


def _allow_many_connections() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(
        ValueError, OSError
    ):  # some systems name a limit that they do not grant; the usual one does for hundreds of vehicles
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    inherited = int(sys.argv[4])
    os.set_inheritable(inherited, False)  # the functions that the server starts must not keep its lock
    os.umask(0o077)
    try:
        main(ServerFolder(Path(sys.argv[1])), sys.argv[2], sys.argv[3], inherited)
    except LocalAwsUnsupported as error:
        sys.exit(str(error))
