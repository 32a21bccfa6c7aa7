"""KeyLayout: how the keys of a bucket that exists are built, and what a key says of its object. Pure.

A layout is a text with placeholders, `raw/{device}/{yyyy}/{MM}/{dd}/{uuid}.json`. Every object has exactly one instant,
and so exactly one hour: that of its key where the key says it to the minute or counts milliseconds; else the instant at
which S3 took it (LastModified); moved into the hour, day, month or year that the key names. An object that was copied
long afterwards is thus of the last millisecond of its day, and no listing of another day is needed to find it.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Literal

from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.hour import Hour

READY = {
    "firehose": "{yyyy}/{MM}/{dd}/{HH}/{*}",
    "iot-analytics": "__dt={yyyy}-{MM}-{dd} 00:00:00/{millis}_{*}",
    "fleetwise": "processed-data/year={yyyy}/month={MM}/date={dd}/hour={HH}/{*}",
}
"""Layouts that have a name: what Amazon Data Firehose, a channel of AWS IoT Analytics and a campaign of AWS IoT
FleetWise write below a prefix.

Sources: Amazon Data Firehose Developer Guide, s3-object-name; AWS IoT Analytics API, ChannelMessages (s3Paths); AWS
IoT FleetWise API, S3Config (prefix).
"""

CDK = "cdk"
"""The name of the layout that is this project's own, and the CDK app's."""

Extent = Literal["hour", "day", "month", "year", "all"]

_UUID = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
_FORMS = {
    "yyyy": "[0-9]{4}",
    "MM": "[0-9]{2}",
    "dd": "[0-9]{2}",
    "HH": "[0-9]{2}",
    "mm": "[0-9]{2}",
    "ss": "[0-9]{2}",
    "millis": "[0-9]{13}",
    "seconds": "[0-9]{10}",
    "device": "[^/]{1,128}",
    "uuid": _UUID,
    "*": "[^/]*",
}
_PARTS = ("yyyy", "MM", "dd", "HH", "mm", "ss")
_EPOCHS = ("millis", "seconds")
_OPEN = ("device", "*")
_WRITTEN = {"yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H"}
_EXTENTS: tuple[Extent, ...] = ("year", "month", "day", "hour")
_LITERAL = re.compile(r"[ -z|~]*")
EVER = (0, 10**13)
"""All of time, in milliseconds: from, and before."""

LONGEST = 512
"""Characters of a layout: S3's keys have 1,024 bytes."""


@dataclass(frozen=True, slots=True)
class ObjectName:
    """What an object's key, and when it was written, say of it."""

    millis: int
    """Its instant, since 1970."""
    uuid: str | None = None
    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class KeyLayout:
    """How keys are built. Raises InvalidSetting, which names the field `layout`, for what is no layout."""

    text: str

    def __post_init__(self) -> None:
        """Check it."""
        names = [name for name, _ in self.tokens if name]
        if len(self.text) > LONGEST or not all(_LITERAL.fullmatch(text) for _, text in self.tokens):
            self._refuse(f"write at most {LONGEST} characters of printable ASCII, and braces around placeholders alone")
        if unknown := [name for name in re.findall(r"\{([^{}]*)\}", self.text) if name not in _FORMS]:
            known = ", ".join(f"{{{name}}}" for name in _FORMS)
            self._refuse(f"{{{unknown[0]}}} is no placeholder; there are {known}")
        if not names:
            self._refuse("it matches one key and no other: write a placeholder where keys differ")
        if twice := next((name for name in names if name != "*" and names.count(name) > 1), ""):
            self._refuse(f"{{{twice}}} stands in it twice: write {{*}} for one of them")
        if {*_EPOCHS} <= {*names}:
            self._refuse("{millis} and {seconds} are two instants: write {*} for one of them")
        said = [part in names for part in _PARTS]
        if said != sorted(said, reverse=True):
            missing = _PARTS[said.index(False)]
            self._refuse(f"it says a part of the time and not {{{missing}}}, which is larger")
        for (first, _), (second, _) in pairwise(self.tokens):
            if first in _OPEN and second in _OPEN:
                self._refuse(f"nothing tells where {{{first}}} ends and {{{second}}} begins")

    def _refuse(self, why: str) -> None:
        raise InvalidSetting("layout", self.text, why)

    @property
    def tokens(self) -> tuple[tuple[str, str], ...]:
        """Its pieces in their order: the name of a placeholder, or a literal."""
        return _tokens(self.text)

    @property
    def literal(self) -> str:
        """What every key begins with."""
        return self.tokens[0][1]

    @property
    def extent(self) -> Extent:
        """Of what time objects are listed to find those of an hour."""
        reached = [name for name, _ in self.tokens[: self._stop + 1]]
        if any(name in _EPOCHS for name in reached):
            return "hour"
        parts = [name for name in _PARTS[:4] if name in reached]
        return _EXTENTS[len(parts) - 1] if parts else "all"

    @property
    def by_folders(self) -> bool:
        """Whether a listing first looks for folders, and then goes into each: those of devices, most of all."""
        return any(self.is_folder(place) for place in range(self._stop))

    @property
    def goes_with_the_time(self) -> bool:
        """Whether a listing finds an hour by its own keys alone, at once."""
        return self.extent == "hour" and not self.by_folders

    @property
    def _stop(self) -> int:
        """The place of the first piece that a listing cannot fill in or go into."""
        for place, (name, _) in enumerate(self.tokens):
            if name and name not in _WRITTEN and not self.is_folder(place):
                return place
        return len(self.tokens)

    def is_folder(self, place: int) -> bool:
        """Whether the piece at a place ends a level of the keys, with a part of the time below it."""
        name, behind = self.tokens[place][0], self.tokens[place + 1 : place + 2]
        below = {name for name, _ in self.tokens[place + 1 :]}
        is_level = bool(behind) and behind[0][1].startswith("/")
        return name in {"device", "uuid", "*"} and is_level and bool(below & {*_WRITTEN, *_EPOCHS})

    def filled(self, hour: Hour) -> list[tuple[str, str]]:
        """Return the pieces with an hour filled in: what is left of names is to be listed."""
        return [
            ("", hour.start.strftime(_WRITTEN[name])) if name in _WRITTEN else (name, text)
            for name, text in self.tokens
        ]

    def named(self, hour: Hour) -> tuple[int, int]:
        """Return the time around an hour that the parts of keys name, to the hour: from, and before. What lies below
        these parts is of this time, whatever else its key says.
        """
        parts = [name for name in _PARTS[:4] if any(name == each for each, _ in self.tokens)]
        return _interval(hour.start, _EXTENTS[len(parts) - 1]) if parts else EVER

    def window(self, hour: Hour) -> tuple[int, int]:
        """Return of which time a listing for an hour is, in milliseconds: from, and before."""
        extent = self.extent
        return EVER if extent == "all" else _interval(hour.start, extent)

    def read(self, key: str, modified: str) -> ObjectName | None:
        """Return what a key says, and when S3 took its object; None for a key of another form, or one that names a time
        that is none.
        """
        found = _form(self.text).fullmatch(key)
        if found is None:
            return None
        said = found.groupdict()
        within = _said_interval(*(said.get(part, "") for part in _PARTS))
        if within is None:
            return None
        first, end = within
        exact = int(said["millis"]) if "millis" in said else int(said["seconds"]) * 1000 if "seconds" in said else None
        if exact is None and end - first <= _MINUTE_MS:
            exact = first
        instant = millis_of(modified) if exact is None else exact
        if instant is None:
            return None
        return ObjectName(min(max(instant, first), end - 1), said.get("uuid"), said.get("device"))

    def example(self, at: datetime) -> str:
        """Return a key of this layout."""
        made = {
            **{name: at.strftime(form) for name, form in (_WRITTEN | {"mm": "%M", "ss": "%S"}).items()},
            "millis": f"{int(at.timestamp() * 1000):013d}",
            "seconds": f"{int(at.timestamp()):010d}",
            "device": "device-1",
            "uuid": "00000000-0000-4000-8000-000000000001",
            "*": "x",
        }
        return "".join(made[name] if name else text for name, text in self.tokens)


def millis_of(modified: str) -> int | None:
    """Return an instant as S3 writes it, in milliseconds since 1970; None for what is no instant."""
    try:
        return int(datetime.fromisoformat(modified).timestamp() * 1000)
    except ValueError:
        return None


def clamped(modified: str, window: tuple[int, int]) -> int:
    """Return an instant as S3 writes it, moved into a time."""
    return min(max(millis_of(modified) or 0, window[0]), window[1] - 1)


_MINUTE_MS = 60_000


@cache
def _tokens(text: str) -> tuple[tuple[str, str], ...]:
    pieces = re.split(r"\{([^{}]*)\}", text)
    found = [("", piece) if number % 2 == 0 else (piece, "") for number, piece in enumerate(pieces)]
    return tuple(each for number, each in enumerate(found) if number == 0 or each != ("", ""))


@cache
def _form(text: str) -> re.Pattern[str]:
    pieces = []
    for name, literal in _tokens(text):
        form = _FORMS.get(name, "")
        pieces.append(re.escape(literal) if not name else f"(?:{form})" if name == "*" else f"(?P<{name}>{form})")
    return re.compile("".join(pieces))


@cache
def _said_interval(*parts: str) -> tuple[int, int] | None:
    """Return the time that some parts name, in milliseconds: from, and before; None for what is none."""
    said = [int(part) for part in parts if part]
    if not said:
        return EVER
    year, month, day, hour, minute, second = [*said, *(1, 1, 1, 0, 0, 0)[len(said) :]]
    try:
        at = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:  # such as the 31st of February
        return None
    if len(said) > len(_EXTENTS):
        span = timedelta(minutes=1) if len(said) == 5 else timedelta(seconds=1)  # noqa: PLR2004 (minutes are said)
        return _millis(at), _millis(at + span)
    return _interval(at, _EXTENTS[len(said) - 1])


def _interval(at: datetime, extent: Extent) -> tuple[int, int]:
    if extent == "hour":
        first = at.replace(minute=0, second=0, microsecond=0)
        end = first + timedelta(hours=1)
    elif extent == "day":
        first = at.replace(hour=0, minute=0, second=0, microsecond=0)
        end = first + timedelta(days=1)
    elif extent == "month":
        first = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        end = (first + timedelta(days=31)).replace(day=1)
    else:
        first = at.replace(month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
        end = first.replace(year=first.year + 1)
    return _millis(first), _millis(end)


def _millis(at: datetime) -> int:
    return int(at.timestamp()) * 1000
