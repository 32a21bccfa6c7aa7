"""The one server of a home folder: start it, find it, stop it, forget it.

The server outlives whoever started it: it runs in a session of its own, and stopping `dagster dev` does not stop it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fleet_pipeline.local.folder import ServerFolder
from fleet_pipeline.local.patches import check_version
from fleet_pipeline.model.errors import LocalAwsDidNotStart
from fleet_pipeline.model.loopback import opener

START_PATIENCE_S = 60
"""A start takes about a second, and some thirty on a machine that is busy with other things."""

STOP_PATIENCE_S = 15
"""A stop takes less than a second; after this long the process is killed.

Its state was saved when it was asked to stop.
"""

ANSWER_PATIENCE_S = 5
"""For one answer about its health, which takes milliseconds unless the server is writing a checkpoint or the machine is
busy.
"""

_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class LocalAws:
    """Where AWS on this machine is."""

    url: str
    mqtt_host: str
    mqtt_port: int
    ca_path: Path
    pid: int
    log_path: Path
    secret: str = field(repr=False)
    """The secret access key of every account. The access key's id is the account's 12 digits."""


def ensure_running(home: Path, *, account: str, region: str) -> LocalAws:
    """Return the server of this home, after starting it if there is none. Many callers at once get the same server.

    `account` is that of calls which name none; a call's own account is its access key. A server that was there before
    starts anew with its old state, on its old ports if they are free.

    Raises:
        LocalAwsUnsupported: the installed emulator is not the one that the launcher was written for.
        LocalAwsDidNotStart: it ended, or did not answer in time.
    """
    running = status(home)
    if running:
        return running
    check_version()
    folder = ServerFolder.of(home)
    with folder.changing():
        if folder.has_server() and not folder.secret.exists():
            _stop(folder)  # a former version's, which answers everyone
        folder.make()
        if folder.has_server():
            return _answering(home, None)
        return _answering(home, _spawn(folder, account, region))


def status(home: Path) -> LocalAws | None:
    """Return the server of this home if it lives and answers, and None otherwise."""
    folder = ServerFolder.of(home)
    if not folder.has_server():
        return None
    server = recorded(folder)
    return server if server and _answers(server.url) else None


def stop(home: Path) -> bool:
    """Stop the server of this home, its state saved. Return False if there was none."""
    folder = ServerFolder.of(home)
    with folder.changing():
        return _stop(folder)


def reset(home: Path) -> None:
    """Stop the server of this home and delete everything that it kept: accounts, certificates, objects, its log."""
    folder = ServerFolder.of(home)
    with folder.changing():
        _stop(folder)
        if folder.path.exists():
            shutil.rmtree(folder.path)


def _spawn(folder: ServerFolder, account: str, region: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fleet_pipeline.local.launcher", str(folder.path), account, region]
    if folder.log.exists():
        folder.log.replace(folder.former_log)
    log = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        with folder.server_lock() as lock:
            process = subprocess.Popen(  # noqa: S603 (our own module, by the interpreter that runs us)
                [*command, str(lock)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
                start_new_session=True,
            )
    finally:
        os.close(log)
    threading.Thread(target=process.wait, daemon=True).start()  # so that it never stays behind as a zombie
    return process


def _answering(home: Path, process: subprocess.Popen[bytes] | None) -> LocalAws:
    folder = ServerFolder.of(home)
    deadline = time.monotonic() + START_PATIENCE_S
    while time.monotonic() < deadline:
        running = status(home)
        if running:
            return running
        if not folder.has_server():
            raise LocalAwsDidNotStart(_last_line(folder.log), str(folder.log))
        time.sleep(_POLL_S)
    if process:
        process.kill()
    raise LocalAwsDidNotStart(f"it lives but did not answer within {START_PATIENCE_S} s", str(folder.log))


def _stop(folder: ServerFolder) -> bool:
    server = recorded(folder)
    if server is None or not folder.has_server():
        return False
    if not _gone(folder, server.pid, signal.SIGTERM):
        _gone(folder, server.pid, signal.SIGKILL)
    return True


def _gone(folder: ServerFolder, pid: int, by: signal.Signals) -> bool:
    deadline = time.monotonic() + STOP_PATIENCE_S
    with suppress(ProcessLookupError):  # it may have ended by itself
        os.kill(pid, by)
    while folder.has_server() and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return not folder.has_server()


def record(folder: ServerFolder, url: str, mqtt_port: int) -> None:
    """Write where this process serves, so that a reader finds all of it or the former record."""
    new = folder.record.with_suffix(".new")
    new.write_text(json.dumps({"url": url, "mqtt_host": "localhost", "mqtt_port": mqtt_port, "pid": os.getpid()}))
    new.replace(folder.record)


def recorded(folder: ServerFolder) -> LocalAws | None:
    """Return what the last server of this folder said of itself, whether or not it lives."""
    if not folder.record.exists() or not folder.secret.exists():
        return None
    said = json.loads(folder.record.read_text())
    return LocalAws(
        said["url"],
        said["mqtt_host"],
        said["mqtt_port"],
        folder.ca,
        said["pid"],
        folder.log,
        folder.secret.read_text(encoding="ascii").strip(),
    )


def _answers(url: str) -> bool:
    try:
        with opener(url).open(f"{url}/_ministack/health", timeout=ANSWER_PATIENCE_S) as answer:
            return bool(json.load(answer)["iot_mtls"] == "listening")
    except OSError:  # refused, reset or out of time
        return False


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line for line in reversed(lines) if line.strip()), "it wrote nothing")
