"""Hour: the partition of receipt time, in Dagster, in S3 and in the lake. Pure."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from fleet_pipeline.model.errors import InvalidName


@dataclass(frozen=True, slots=True, order=True)
class Hour:
    """One hour of receipt time, UTC: `[start, end)`. The unit in which the lake is partitioned and compacted."""

    start: datetime

    def __post_init__(self) -> None:
        """Refuse a start without a time zone, off UTC or off the hour."""
        if self.start.utcoffset() != timedelta(0) or self.start != self.start.replace(
            minute=0, second=0, microsecond=0
        ):
            raise InvalidName("hour", self.start.isoformat(), "it must be a full hour in UTC")

    @classmethod
    def parse(cls, partition_key: str) -> Self:
        """Return the hour of a Dagster partition key such as `2026-11-23-10:00`."""
        with suppress(ValueError):
            hour = cls(datetime.strptime(partition_key, "%Y-%m-%d-%H:%M").replace(tzinfo=UTC))
            if hour.partition_key == partition_key:  # strptime also takes 2026-1-3-5:00 and digits of other scripts
                return hour
        raise InvalidName("hour", partition_key, "write it as 2026-11-23-10:00 (UTC)")

    @classmethod
    def of(cls, instant: datetime) -> Self:
        """Return the hour in which an aware instant lies."""
        return cls(instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0))

    @classmethod
    def of_millis(cls, millis: int) -> Self:
        """Return the hour of a raw key's milliseconds since 1970."""
        return cls(datetime.fromtimestamp(millis // 3_600_000 * 3600, UTC))

    @property
    def partition_key(self) -> str:
        """Dagster's key of this hour; the inverse of `parse`."""
        return self.start.strftime("%Y-%m-%d-%H:%M")

    @property
    def end(self) -> datetime:
        """The first instant after this hour."""
        return self.start + timedelta(hours=1)

    @property
    def start_ms(self) -> int:
        """The first millisecond, since 1970."""
        return int(self.start.timestamp()) * 1000

    @property
    def end_ms(self) -> int:
        """The first millisecond after it, since 1970."""
        return self.start_ms + 3_600_000

    @property
    def path(self) -> str:
        """The hive partition below a rule: `date=2026-11-23/hour=10`."""
        return self.start.strftime("date=%Y-%m-%d/hour=%H")

    @property
    def next(self) -> Self:
        """The hour after this one."""
        return type(self)(self.end)

    @property
    def before(self) -> Self:
        """The hour before this one."""
        return type(self)(self.start - timedelta(hours=1))


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A range of time within an hour, `[start_ms, end_ms)`: what of a long hour is done by itself."""

    start_ms: int
    """The first millisecond, since 1970."""
    end_ms: int
    """The first millisecond after it, since 1970."""
    shards: tuple[str, ...] = ()
    """The shards of which it is; all of them where none is named."""

    def is_first(self, hour: "Hour") -> bool:
        """Whether it is the one of an hour's spans that has what is not cut."""
        return self.start_ms == hour.start_ms and (not self.shards or "" in self.shards)
