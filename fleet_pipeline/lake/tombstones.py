"""Which vehicles were erased, without saying which: a keyed hash of each one's name, and the instant before which its
messages are to be gone.

Whoever adds rows asks here, so that a message that comes late, or returns by a replay, becomes no row again. The key is
made once for a lake and lies in it: the hashes say nothing to whoever has them without it. Serials can be guessed, so
to whoever may read the lake they are a list of erased vehicles; of their data they say nothing.
"""

import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import blake2b, sha256
from typing import Self

import pyarrow as pa

from fleet_pipeline.aws.store import Store
from fleet_pipeline.lake.whose import Naming
from fleet_pipeline.model.form import JSON, Encoding

FOLDER = "_erasures"
"""Below the prefix of the table; readers of tables pass over names that begin with `_`."""

KEY_BYTES = 32


@dataclass(frozen=True)
class Tombstones:
    """The erased vehicles of a lake, as they were listed last."""

    names: frozenset[str] = frozenset()
    """The records as they are named: other names mean that a vehicle was erased since."""
    _key: bytes = field(default=b"", repr=False)
    _namings: Mapping[str, Naming] = field(default_factory=dict)
    """How messages said whose they were as a vehicle was erased, by the digest of it."""
    _known: dict[str, str] = field(default_factory=dict, repr=False)
    """Hashes of names that were asked for."""

    @classmethod
    def of(cls, store: Store, prefix: str, encoding: Encoding = JSON) -> Self:
        """Return those of a lake, for messages of an encoding: at one request where nobody was ever erased."""
        names = listed(store, prefix)
        if not names:
            return cls()
        digests = {name.split("-")[1] for name in names}
        return cls(
            names, key_of(store, prefix), {each: _naming(store, prefix, each).reading(encoding) for each in digests}
        )

    def __bool__(self) -> bool:
        """Whether anybody was erased."""
        return bool(self.names)

    def remains(self, client_id: str | None, payload: bytes | None, millis: int) -> tuple[bool, bytes | None]:
        """Return whether anything of a message stays without what erased vehicles sent, and its bytes then.

        What cannot be read is nobody's, and stays.
        """
        for digest, naming in self._namings.items():
            stays, payload = naming.without(client_id, payload, partial(self._is_gone, digest, millis))
            if not stays:
                return False, None
        return True, payload

    def of_rows(self, rows: pa.Table) -> pa.Table:
        """Return rows that stand for versions without those of erased vehicles, and with payloads without them."""
        if not self:
            return rows
        millis = rows["_ts"].cast(pa.int64()).to_pylist()
        columns = (rows["_client_id"].to_pylist(), rows["_payload"].to_pylist(), millis)
        found = [self.remains(*message) for message in zip(*columns, strict=True)]
        kept = rows.filter(pa.array([stays for stays, _ in found], pa.bool_()))
        payloads = pa.array([payload for stays, payload in found if stays], pa.binary())
        return kept.set_column(kept.schema.get_field_index("_payload"), "_payload", payloads)

    def _is_gone(self, naming: str, millis: int, name: str) -> bool:
        """Whether what a vehicle sent at an instant is to be gone."""
        if name not in self._known:
            self._known[name] = hashed(self._key, name)
        return millis < self._before.get((self._known[name], naming), 0)

    @cached_property
    def _before(self) -> dict[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = {}
        for each in self.names:
            name, naming, millis = each.split("-")
            found[name, naming] = max(found.get((name, naming), 0), int(millis))
        return found


def bury(store: Store, prefix: str, naming: Naming, name: str, before_ms: int) -> str:
    """Return the hash of a vehicle's name once it stands among the erased: what was received from it before an instant
    becomes no row any more. A second time changes nothing.
    """
    store.put_new(f"{prefix}/{FOLDER}/key", secrets.token_bytes(KEY_BYTES))
    named = {"path": naming.path, "thing_prefix": naming.thing_prefix}
    said = json.dumps(named if naming.by == "client_id" else named | {"by": naming.by}).encode()
    digest = blake2b(said, digest_size=8).hexdigest()
    store.put_new(f"{prefix}/{FOLDER}/naming/{digest}.json", said)
    found = hashed(key_of(store, prefix), name)
    store.put_new(f"{prefix}/{FOLDER}/tombstones/{found}-{digest}-{before_ms:013d}", b"")
    return found


def hashed(key: bytes, name: str) -> str:
    """Return what stands for a name."""
    return hmac.new(key, name.encode(), sha256).hexdigest()


def listed(store: Store, prefix: str) -> frozenset[str]:
    """Return the names of the records: one request for a thousand."""
    folder = f"{prefix}/{FOLDER}/tombstones/"
    return frozenset(
        version.key[len(folder) :] for page in store.versions(folder) for version in page if version.latest
    )


def key_of(store: Store, prefix: str) -> bytes:
    """Return the key of a lake's hashes, which is there once anybody was erased."""
    return store.read(f"{prefix}/{FOLDER}/key", 0, KEY_BYTES)


def _naming(store: Store, prefix: str, digest: str) -> Naming:
    place = f"{prefix}/{FOLDER}/naming/{digest}.json"
    [size] = [version.size for page in store.versions(place) for version in page if version.latest]
    said = json.loads(store.read(place, 0, size))
    return Naming(tuple(said["path"]), said["thing_prefix"], said.get("by", "client_id"))
