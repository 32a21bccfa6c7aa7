"""What an erasure removes, written down before it is removed: whoever goes on after a stop certifies all of it.

No record has the vehicle's name. A key may hold it, so messages and objects are named by a keyed hash; what is found
again after a stop is thereby the same as before, and is counted once.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self
from uuid import uuid4

from fleet_pipeline.aws.store import ObjectVersion
from fleet_pipeline.lake.privacy.places import Places, Removed, folder
from fleet_pipeline.lake.tombstones import hashed, key_of

_RECORD = re.compile(r"removed-([0-9]{13})-([0-9]{8})\.json")
_CERTIFICATE = re.compile(r"certificate-([0-9]{5})\.json")


@dataclass
class Journal:
    """The removals of one run, and those of runs before it that were stopped and that no certificate has yet."""

    places: Places
    tombstone: str
    before_ms: int
    certified: dict[str, int] = field(default_factory=dict)
    """For each instant before which was erased: the number of the first record that this run's certificate has not."""
    stopped: set[str] = field(default_factory=set)
    """The runs before it."""
    said: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What is gone or about to go: by its kind, and by what names it."""
    undivided: set[str] = field(default_factory=set)
    """Messages and reports that name it and stay, as `Removed` says."""

    def __post_init__(self) -> None:
        self._run = uuid4().hex
        self._key = key_of(self.places.store, self.places.lake.prefix)

    @classmethod
    def of(cls, places: Places, tombstone: str, before_ms: int) -> Self:
        """Return a run's journal, which goes on from what is written down and not certified. A record of a run that
        erased more than this one does waits for one that does, too.
        """
        where, found = folder(places, tombstone), cls(places, tombstone, before_ms)
        live = [version for page in places.store.versions(where) for version in page if version.latest]
        certificates = [each for each in live if _CERTIFICATE.fullmatch(each.key[len(where) :])]
        if certificates:
            found.certified = dict(found._read(certificates[-1]).get("records", {}))
        for version in live:
            named = _RECORD.fullmatch(version.key[len(where) :])
            if named and int(named[1]) <= before_ms and int(named[2]) >= found.certified.get(named[1], 0):
                record = found._read(version)
                found._take(record["said"])
                found.stopped.add(record["run"])
        for version in live:
            if (named := _RECORD.fullmatch(version.key[len(where) :])) and int(named[1]) <= before_ms:
                found.certified[named[1]] = max(found.certified.get(named[1], 0), int(named[2]) + 1)
        return found

    def name(self, *texts: str) -> str:
        """Return what stands for a message or an object, without saying which it is."""
        return hashed(self._key, " ".join(texts))[:32]

    def sizes(self, versions: list[ObjectVersion]) -> dict[str, int]:
        """Return the sizes of some versions, by what stands for each."""
        return {self.name(each.key, each.id): each.size for each in versions}

    def note(self, **said: Mapping[str, Any]) -> None:
        """Write down what is about to go: by its kind, and by what names it. Nothing new writes nothing."""
        new = {
            kind: {name: value for name, value in each.items() if self.said.get(kind, {}).get(name) != value}
            for kind, each in said.items()
        }
        if not any(new.values()):
            return
        at = f"{self.before_ms:013d}"
        record = {"run": self._run, "at": datetime.now(UTC).isoformat(), "said": new}
        body, number = json.dumps(record).encode(), self.certified.get(at, 0)
        where = folder(self.places, self.tombstone)
        while not self.places.store.put_new(f"{where}removed-{at}-{number:08d}.json", body):
            number += 1
        self.certified[at] = number + 1
        self._take(new)

    @property
    def removed(self) -> Removed:
        """Return all of it in numbers."""

        def of(kind: str) -> Mapping[str, Any]:
            return self.said.get(kind, {})

        return Removed(
            hours=len(of("hours")),
            messages=len(of("messages")),
            shared=sum(is_shared for _, is_shared in of("messages").values()),
            undivided=len(self.undivided),
            raw_versions=len(of("raw")),
            raw_bytes=sum(of("raw").values()),
            rows=sum(of("rows").values()),
            parts=len(of("rows")),
            part_bytes=sum(of("parts").values()),
            reports=sum(of("reports").values()),
            revisions=len(of("revisions")),
            snapshots=sum(of("snapshots").values()),
            digests=[digest for digest, _ in of("messages").values()],
            kept=dict(of("kept")),
        )

    def _take(self, said: Mapping[str, Mapping[str, Any]]) -> None:
        for kind, each in said.items():
            self.said.setdefault(kind, {}).update(each)

    def _read(self, version: ObjectVersion) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.places.store.read(version.key, 0, version.size))
        return found
