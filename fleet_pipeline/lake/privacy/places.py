"""Where a vehicle's data lie, what of it goes, and what a search finds afterwards."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol, Self

from fleet_pipeline.aws.store import ObjectVersion, Purgeable, Store
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.tombstones import FOLDER
from fleet_pipeline.model.errors import OnlyRead
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule

Progress = Callable[[str, int, int], None]
"""What is done, how much of it is, and of how much."""


class History(Protocol):
    """What keeps parts beyond the lake: the snapshots of Iceberg tables."""

    def replaced(self, rule: Rule, hour: Hour) -> None:
        """Have the current snapshot hold exactly the parts that the lake has of an hour."""

    def keeps(self, rule: Rule) -> bool:
        """Whether there is anything that may lead to parts of a rule."""
        ...

    def synced(self, rule: Rule) -> None:
        """Have the current snapshot hold exactly the parts that the lake has."""

    def let_readers_end(self) -> None:
        """Return once whoever began to read before the last replacement has had time to end."""

    def forget(self, rule: Rule, keys: Sequence[str]) -> int:
        """Have no snapshot lead to these parts; return how many snapshots went."""


class NoHistory:
    """There are no such tables."""

    def replaced(self, rule: Rule, hour: Hour) -> None:
        """Do nothing."""

    def keeps(self, rule: Rule) -> bool:  # noqa: ARG002 (the protocol's)
        """Say that there is none."""
        return False

    def synced(self, rule: Rule) -> None:
        """Do nothing."""

    def let_readers_end(self) -> None:
        """Do nothing."""

    def forget(self, rule: Rule, keys: Sequence[str]) -> int:  # noqa: ARG002 (the protocol's)
        """Do nothing."""
        return 0


class Elsewhere(Protocol):
    """What holds something of a vehicle's and is none of the buckets."""

    def forget(self, name: str, hours: Sequence[Hour]) -> str:
        """Remove what it holds of a vehicle, and of these hours; say what was done and what is left, in words that do
        not name the vehicle.
        """
        ...


EVENT_LOG, FUNCTION_LOGS, VERDICTS = "Dagster's event log", "logs of the functions", "verdicts on hours"
COLUMNS = "names of columns"
"""Where else something is held."""


@dataclass(frozen=True)
class Places:
    """Where a fleet's messages lie, and what may be removed from."""

    fleet: Fleet
    raw: Purgeable
    store: Purgeable
    """The lake's bucket."""
    lake: Lake
    history: History = field(default_factory=NoHistory)
    elsewhere: Mapping[str, Elsewhere] = field(default_factory=dict)
    """What is reached beside the buckets, by its name."""

    given: Mapping[str, Store] = field(default_factory=dict)
    """Buckets that exist and that rules read, by their names."""

    @property
    def requests(self) -> Counter[str]:
        """How many requests all buckets were sent so far, by kind."""
        stores = (self.raw, self.store, *self.given.values())
        return sum((Counter(store.requests) for store in stores), Counter())

    def at(self, rule: Rule) -> Self:
        """Return the places with the bucket of a rule's raw objects in the place of the fleet's: one that is given
        refuses to write and to remove.
        """
        return replace(self, raw=_Read(self.given[rule.bucket], rule)) if rule.bucket else self


@dataclass(frozen=True, slots=True)
class _Read:
    """A bucket that is only read. Raises OnlyRead for anything else."""

    store: Store
    rule: Rule

    @property
    def requests(self) -> Counter[str]:
        return self.store.requests

    def versions(self, prefix: str, after: str = "", until: str = "") -> Iterator[list[ObjectVersion]]:
        return self.store.versions(prefix, after, until)

    def folders(self, prefix: str) -> Iterator[str]:
        return self.store.folders(prefix)

    def beside(self, bucket: str) -> Store:
        return self.store.beside(bucket)

    def bodies(self, versions: Iterable[ObjectVersion | None]) -> Iterator[tuple[int, bytes]]:
        return self.store.bodies(versions)

    def spans(self, wanted: Iterable[tuple[ObjectVersion, int, int] | None]) -> Iterator[tuple[int, bytes]]:
        return self.store.spans(wanted)

    def read(self, key: str, start: int, stop: int) -> bytes:
        return self.store.read(key, start, stop)

    def put_new(self, key: str, body: bytes | Path) -> bool:  # noqa: ARG002 (the protocol's)
        raise OnlyRead(self.rule.bucket, self.rule.key)

    def delete(self, versions: Iterable[ObjectVersion]) -> None:  # noqa: ARG002 (the protocol's)
        raise OnlyRead(self.rule.bucket, self.rule.key)


@dataclass(slots=True)
class Removed:
    """What is gone, or would go."""

    hours: int = 0
    messages: int = 0
    shared: int = 0
    """Messages of several vehicles that were taken apart."""
    undivided: int = 0
    """Messages in which the name stands in what cannot be read, and reports of several vehicles' messages that cannot
    return: they stay.
    """
    raw_versions: int = 0
    raw_bytes: int = 0
    rows: int = 0
    """Rows, of all generations."""
    parts: int = 0
    """Parts that were replaced."""
    part_bytes: int = 0
    reports: int = 0
    revisions: int = 0
    """Of the derived tables."""
    snapshots: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    digests: list[str] = field(default_factory=list)
    """SHA-256 of each message that went."""
    kept: dict[str, str] = field(default_factory=dict)
    """For each hour that was written anew: how many rows stay, and their digest, read back."""


@dataclass(slots=True)
class Searched:
    """What was looked through at the end, and what was found of the name."""

    looked: Counter[str] = field(default_factory=Counter)
    """By kind: how many objects and files."""
    bytes: int = 0
    theirs: list[str] = field(default_factory=list)
    """Objects that are the vehicle's still: none, or the erasure is not done."""
    mentioned: Counter[str] = field(default_factory=Counter)
    """By kind: objects and rows in which the name stands and that are others', or say nobody's name. They stay."""

    def note(self, kind: str, size: int) -> None:
        """Count an object that was looked through."""
        self.looked[kind] += 1
        self.bytes += size


@dataclass(frozen=True)
class Erased:
    """An erasure, done or planned."""

    tombstone: str
    """The hash that stands for the vehicle; empty for a plan."""
    before: datetime
    begun: datetime
    removed: Removed
    searched: Searched
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """What was done beside the buckets, and what is left there, by its name."""
    stopped: int = 0
    """Runs before it that were stopped; what they removed is counted, too."""
    certificate: str = ""
    """The key of the certificate in the lake, as JSON."""
    certificate_sha256: str = ""

    @property
    def clean(self) -> bool:
        """Whether nothing of the vehicle was found at the end."""
        return not self.searched.theirs


def folder(places: Places, tombstone: str) -> str:
    """Return where the records of a vehicle's erasures lie."""
    return f"{places.lake.prefix}/{FOLDER}/runs/{tombstone}/"
