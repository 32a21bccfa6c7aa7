"""The folder of AWS on this machine: what lies where, and the two locks that keep it to one server.

`local-aws.lock` is held while someone starts or stops a server. `server.lock` is held by the server itself for as long
as it lives, so a server is known to live by its lock and never by a process id, which another process may have by now.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fleet_pipeline.model import first_day
from fleet_pipeline.model.private import kept_from_git, lock_file, made_private


@dataclass(frozen=True, slots=True)
class ServerFolder:
    """The folder, and what lies in it."""

    path: Path

    @classmethod
    def of(cls, home: Path) -> Self:
        """Return the folder of a home; nothing is made."""
        return cls(home.absolute() / "local-aws")

    @property
    def record(self) -> Path:
        """What the server says of itself."""
        return self.path / "server.json"

    @property
    def lock(self) -> Path:
        """Held by the server for as long as it lives."""
        return self.path / "server.lock"

    @property
    def log(self) -> Path:
        """What the server wrote to its standard output and error."""
        return self.path / "server.log"

    @property
    def former_log(self) -> Path:
        """The log of the server before this one."""
        return self.path / "server.former.log"

    @property
    def secret(self) -> Path:
        """The secret access key of every account: who cannot read it gets nothing from the server."""
        return self.path / "secret"

    @property
    def ca(self) -> Path:
        """The certificate of the authority that signs the MQTT server's and the vehicles' certificates."""
        return self.path / "ca.pem"

    @property
    def state(self) -> Path:
        """The checkpoints: one JSON file for each service. The authority's private key is in one of them."""
        return self.path / "state"

    @property
    def objects(self) -> Path:
        """The contents of all buckets."""
        return self.path / "s3"

    def make(self) -> None:
        """Make the folder with its secret, for its owner alone. One that others could read is closed to them."""
        made_private(self.path.parent)
        is_new = not self.path.exists()
        made_private(self.path)
        kept_from_git(self.path)
        if is_new:
            first_day.write(self.path)
        if not self.secret.exists():
            new = self.secret.with_suffix(".new")
            new.unlink(missing_ok=True)
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                file.write(secrets.token_hex(32))
            new.replace(self.secret)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Wait until nobody else starts or stops a server here, and keep others waiting."""
        made_private(self.path.parent)
        with lock_file(self.path.with_suffix(".lock")) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield

    @contextmanager
    def server_lock(self) -> Iterator[int]:
        """Take the server's lock, to be inherited by the server: it is free when the last copy of the descriptor is
        closed.
        """
        with lock_file(self.lock) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor

    def has_server(self) -> bool:
        """Say whether a server lives."""
        if not self.lock.exists():
            return False
        with lock_file(self.lock) as descriptor:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def is_locked_by(self, descriptor: int) -> bool:
        """Say whether this descriptor is of the server's lock that lies here, and not of one that was deleted since."""
        try:
            return os.path.samestat(os.fstat(descriptor), self.lock.stat())
        except FileNotFoundError:
            return False
