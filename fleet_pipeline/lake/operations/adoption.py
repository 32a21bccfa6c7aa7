"""A bucket that exists, looked at: how its keys are built, what a rule would read there, and what that costs.

Lists some of it and reads the beginning of a few objects; writes nothing.
"""

import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice

from fleet_pipeline.aws.store import ObjectVersion, Store
from fleet_pipeline.lake.encodings import GZIP, GZIP_BITS
from fleet_pipeline.lake.json_texts import Messages, is_json
from fleet_pipeline.lake.records import PIECE
from fleet_pipeline.lake.rows import LARGEST
from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.key_layout import CDK, READY, KeyLayout, millis_of
from fleet_pipeline.model.rule import RawName, Rule
from fleet_pipeline.model.rule_table import RAW_PREFIX, RuleTable

LISTED = 100
"""Pages that are listed: 100,000 keys, $0.0005."""

FOLDERS = 20
"""Folders of which a page each is listed where there are more keys."""

TEMPLATES = 2_000
"""Keys of which a layout is made up."""

OBJECTS, BEGINNING = 5, 65_536
"""Objects that are looked into, and how many bytes of each."""

EXAMPLES = 5
"""Keys that do not fit, and endings, that are named."""

MOSTLY, ZONES = 0.8, 14
"""Keys seem to be local times where this share of the objects was written as many hours off, up to so many."""

NEARLY, FEW = 0.95, 5
"""A guess is what fits this share of the keys, or most of them and all but so many."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule would read in a bucket."""

    table: RuleTable
    """The rule as it can be written into the settings."""
    keys: int
    """Versions that were listed."""
    whole: bool
    """Whether these are all there are."""
    fitting: int
    bytes: int
    """Of those that fit."""
    hours: int
    first: Hour | None
    last: Hour | None
    hours_off: int
    """By how many hours nearly all objects were written after the hour that their keys say, as where these are in local
    time; 0 where they were not, or keys say no hour.
    """
    devices: int
    some_device: str
    """One of them, as it will be a row's `_client_id`; empty where keys name none."""
    folders: int
    """Folders into which each listing goes."""
    others: tuple[str, ...]
    """Keys that do not fit, some of them."""
    foreign: int
    """How many keys do not fit."""
    endings: tuple[tuple[str, int], ...]
    """How the names of what fits end, `.json.gz`, and how many do: the most first, some of them."""
    kinds: tuple[str, ...]
    """What some of the objects are, in words."""
    get_requests: int
    """To read all that fit once."""
    list_requests: int
    """To find all that fit once, hour by hour."""
    wider: RuleTable
    """What fits more keys, and says less of the time; the same as `table` where there is no such."""
    wider_fitting: int

    @property
    def is_parquet(self) -> bool:
        """Whether most objects that were looked into are Parquet, which no rule reads."""
        return self.kinds.count(PARQUET) > len(self.kinds) / 2


class NoKeys(Exception):
    """There is nothing below the prefix."""


def looked_at(store: Store, bucket: str, prefix: str, key: str, *, layout: str = "") -> Found:
    """Return what a rule of a key would read below a prefix of a bucket: by a layout that is said, or else by a guess.

    A layout that is said by its name begins below the prefix; a pattern is of whole keys. A guess is what fits nearly
    all keys, one with a name first, then one that says a time; else what fits most of them. Raises NoKeys;
    InvalidSetting for what is no layout, or one that fits no key.
    """
    versions, whole = _listed(store, prefix)
    if not versions:
        raise NoKeys(prefix)
    keys = [version.key for version in versions]
    root = prefix.rstrip("/") if layout in {CDK, *READY} else ""
    said = RuleTable(key=key, bucket=bucket, layout=layout, raw_prefix=root) if layout else None
    guessed = None if said else _guess(key, bucket, prefix, versions)
    best, of_most = (said, said) if said else guessed or (None, None)
    if best is None or of_most is None or not _count(best, versions):
        why = f"no key fits, of {len(keys)} below s3://{bucket}/{prefix} that were listed, such as {keys[0]!r}"
        raise InvalidSetting("layout", layout or None, f"{why}; say one that does by --layout (docs/layouts.md)")
    fitting = [version for version in versions if _rule(best).raw_name(version.key, version.modified)]
    kinds = _kinds(store, fitting)
    table = _with_objects(best, kinds, fitting)
    found = _counted(table, versions, fitting, kinds, whole=whole)
    return found if of_most == best else replace(found, wider=of_most, wider_fitting=_count(of_most, versions))


def as_toml(table: RuleTable) -> str:
    """Return a rule as a table of fleet.toml."""
    names = ("key", "bucket", "layout", "raw_prefix", "objects", "inventory")
    said = ((name, getattr(table, name)) for name in names)
    return "[[rules]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in said if value)


def _listed(store: Store, prefix: str) -> tuple[list[ObjectVersion], bool]:
    """Return versions below a prefix, and whether these are all."""
    pages = store.versions(prefix)
    found = [version for page in islice(pages, LISTED) for version in page]
    if next(pages, None) is None:
        return found, True
    every = list(store.folders(prefix))
    some = every[:: max(1, len(every) // FOLDERS)][:FOLDERS]
    known = {(version.key, version.id) for version in found}
    more = [version for folder in some for version in next(store.versions(folder), [])]
    return found + [version for version in more if (version.key, version.id) not in known], False


def _rule(table: RuleTable) -> Rule:
    return Rule("adopted", table.key, table)


def _count(table: RuleTable, versions: Sequence[ObjectVersion]) -> int:
    rule = _rule(table)
    return sum(rule.raw_name(version.key, version.modified) is not None for version in versions)


def says_a_time(table: RuleTable) -> bool:
    """Say whether keys tell when their objects were written, or the day of it at least."""
    return _precision(table) > 0


def _precision(table: RuleTable) -> int:
    """Return how exactly keys say a time: 2 the hour or better, 1 some of it, 0 nothing."""
    layout = table.key_layout
    said = {"millis"} if layout is None else {name for name, _ in layout.tokens}
    return 2 if said & {"millis", "seconds", "HH"} else int("yyyy" in said)


def _are_nearly(count: int, of: int) -> bool:
    return count >= NEARLY * of or (of - count <= FEW and count > of / 2)


def _guess(key: str, bucket: str, prefix: str, versions: Sequence[ObjectVersion]) -> tuple[RuleTable, RuleTable] | None:
    """Return the rule that fits, and that which fits more keys and says less of the time (else the same).

    Of rules that say the time equally well it is the first that fits nearly all keys, else that of most; one that says
    it better wins as long as it fits more than half of the keys. So foreign keys never choose it.
    """
    keys = [version.key for version in versions]
    some = versions[:: max(1, len(versions) // TEMPLATES)]
    roots = [prefix, *_below(prefix, keys)]
    ready = [table for root in roots for table in _ready(key, bucket, root) if root == prefix or _count(table, some)]
    tables = [*ready, *_ready_elsewhere(key, bucket, prefix, keys), *_made_up(key, bucket, prefix, keys)]
    best = list[tuple[int, RuleTable]]()
    for precision in (2, 1, 0):
        count, table = _best([each for each in tables if _precision(each) == precision], versions)
        if table and (not best or count > best[-1][0]):
            best.append((count, table))
        if _are_nearly(count, len(versions)):
            break
    if not best:
        return None
    of_most = max(best, key=lambda each: each[0])[1]
    return next((table for count, table in best if count > len(keys) / 2), of_most), of_most


def _best(tables: Sequence[RuleTable], versions: Sequence[ObjectVersion]) -> tuple[int, RuleTable | None]:
    """Return the first that fits nearly all keys, or else that of most, and how many it fits."""
    most, best = 0, None
    for table in tables:
        if (count := _count(table, versions)) > most:
            most, best = count, table
        if _are_nearly(count, len(versions)):
            break
    return most, best


def _below(prefix: str, keys: Sequence[str]) -> Iterator[str]:
    """Yield the folders, each within the one before, that hold more than half of the keys."""
    root = prefix
    while True:
        folders = Counter(each[: each.find("/", len(root)) + 1] for each in keys if each.startswith(root))
        folder, count = folders.most_common(1)[0]
        if not folder or count <= len(keys) / 2:
            return
        yield folder
        root = folder


def _ready(key: str, bucket: str, prefix: str) -> Iterator[RuleTable]:
    """Yield the layouts that have a name, below a prefix."""
    root = prefix.rstrip("/")
    if root and not RAW_PREFIX.fullmatch(root):
        return
    for name in (*([CDK] if root else []), *READY):
        yield RuleTable(key=key, bucket=bucket, layout=name, raw_prefix=root)


_DISTINCT = ("iot-analytics", "fleetwise")
"""Layouts with a name whose folders nobody else writes: they are told wherever they lie."""


def _ready_elsewhere(key: str, bucket: str, prefix: str, keys: Sequence[str]) -> Iterator[RuleTable]:
    """Yield the layouts with a name of which keys lie below several folders, such as channels: each as a pattern."""
    some = [each.removeprefix(prefix).split("/") for each in keys[:: max(1, len(keys) // TEMPLATES)]]
    for name in _DISTINCT:
        layout = KeyLayout(READY[name])
        levels = READY[name].count("/") + 1
        above = [each[:-levels] for each in some if layout.read("/".join(each[-levels:]), _ANY_INSTANT)]
        if not above:
            continue
        depth = Counter(map(len, above)).most_common(1)[0][0]
        folders = [each for each in above if len(each) == depth]
        merged = [_merged(each, is_last=False) for each in zip(*folders, strict=True)]
        if "{*}" in merged:
            with suppress(InvalidSetting):  # such as keys with braces
                layout_text = prefix + "/".join([*merged, READY[name]])
                yield RuleTable(key=key, bucket=bucket, layout=layout_text, objects="lines")


_ANY_INSTANT = "2026-01-01T00:00:00.000Z"


def _made_up(key: str, bucket: str, prefix: str, keys: Sequence[str]) -> Iterator[RuleTable]:
    """Yield layouts that are made of the keys themselves: of those of one form and one ending, of those of one form,
    where these are more than half, and of all that have as many levels as most.
    """
    some = [each.removeprefix(prefix) for each in keys[:: max(1, len(keys) // TEMPLATES)]]
    templates = [_templates(each.split("/")) for each in some]
    groups = [_most(templates, form) for form in (lambda each: (*_form(each), _extension(each[-1])), _form)]
    strict = [group for group in groups if len(group) > len(templates) / 2]
    for group in (*strict, _most(templates, len)):
        merged = [_merged(list(each), is_last=False) for each in zip(*(each[:-1] for each in group), strict=True)]
        merged.append(_merged([each[-1] for each in group], is_last=True))
        if "{" not in "".join(merged):
            merged[-1] = "{*}" + _extension(merged[-1])
        with suppress(InvalidSetting):  # such as keys with braces
            yield RuleTable(key=key, bucket=bucket, layout=prefix + "/".join(_devices(merged)))


def _form(levels: Sequence[str]) -> tuple[str, ...]:
    """Return the placeholders of each level."""
    return tuple("".join(re.findall(r"\{[a-zA-Z*]+\}", level)) for level in levels)


def _most(templates: Sequence[list[str]], what: Callable[[list[str]], Hashable]) -> list[list[str]]:
    """Return those that have in common what most have."""
    said = [what(each) for each in templates]
    [(most, _)] = Counter(said).most_common(1)
    return [each for each, its in zip(templates, said, strict=True) if its == most]


_STAMP = r"(?:19|20)[0-9]{2}-[0-9]{2}-[0-9]{2}(?:[T _-][0-9]{2}(?:[-:.]?[0-9]{2}){2})?"
_PACKED = r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])(?:T?[0-9]{6}|T?[0-9]{4}|T?[0-9]{2})?"
_KNOWN = re.compile(
    r"(?P<uuid>[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})"
    rf"|(?<![0-9])(?:(?P<stamp>{_STAMP}|{_PACKED})|(?P<millis>1[0-9]{{12}})|(?P<seconds>1[0-9]{{9}}))(?![0-9])"
)
_VERSION = re.compile(r"-[0-9]+-(?=(?:19|20)[0-9]{2}(?:-[0-9]{2}){5}-[0-9a-fA-F]{8}-)")
"""In a name that Amazon Data Firehose gave: the stream's version, which AWS raises at each change of its configuration.

Source: Amazon Data Firehose Developer Guide, s3-object-name.
"""
_MIDNIGHT = re.compile(r"(?<=[0-9]{4}-[0-9]{2}-[0-9]{2})[T _]00[:-]00[:-]00$")
_YEAR = re.compile(r"((?:[A-Za-z_]+=)?)((?:19|20)[0-9]{2})")
_TWO = re.compile(r"((?:[A-Za-z_]+=)?)([0-9]{2})")
_PARTS = ("yyyy", "MM", "dd", "HH", "mm", "ss")


def _templates(levels: Sequence[str]) -> list[str]:
    """Return the levels of a key, with placeholders for what is known by its form."""
    said = list[str]()
    return [*(_folder(level, said) for level in levels[:-1]), _template(levels[-1], said)]


def _folder(level: str, said: list[str]) -> str:
    """Return a level above the last: one of a day, written as its midnight, says no hour."""
    midnight = _MIDNIGHT.search(level)
    return _template(level[: midnight.start()], said) + midnight[0] if midnight else _template(level, said)


def _template(level: str, said: list[str]) -> str:
    following = next((part for part in _PARTS if part not in said), "")
    whole = _YEAR.fullmatch(level) if following == "yyyy" else _TWO.fullmatch(level) if following else None
    if whole and following != "yyyy" and "yyyy" not in said:
        whole = None
    if whole:
        said.append(following)
        return f"{whole[1]}{{{following}}}"
    level = _VERSION.sub("-{*}-", level)
    return _KNOWN.sub(lambda found: _placeholder(found, said), level).replace("-{*}-{*}-", "-{*}-")


def _placeholder(found: re.Match[str], said: list[str]) -> str:
    name = found.lastgroup or ""
    if name != "stamp":
        clashes = name in said or (name in {"millis", "seconds"} and {"millis", "seconds"} & {*said})
        said.append(name)
        return "{*}" if clashes else f"{{{name}}}"
    if "yyyy" in said:
        return "{*}"
    text, place = "", 0
    for part in _PARTS:
        while place < len(found[0]) and not found[0][place].isdigit():
            text, place = text + found[0][place], place + 1
        if place < len(found[0]):
            said.append(part)
            text, place = f"{text}{{{part}}}", place + (4 if part == "yyyy" else 2)
    return text


def _merged(templates: Sequence[str], *, is_last: bool) -> str:
    """Return one template for a level of many keys."""
    if len({*templates}) == 1:
        return templates[0]
    if not is_last and not any("{" in each for each in templates):
        names = {each.partition("=")[0] if "=" in each else "" for each in templates}
        [name] = names if len(names) == 1 else [""]
        return f"{name}={{*}}" if name else "{*}"
    begins = re.sub(r"(?<=[-_.}])[^-_.{}]*$|^[^-_.{}]*$|\{[^{}]*$", "", _common(templates))
    ends = _common([each[::-1] for each in templates])[::-1]
    return re.sub(r"(\{\*\})+", "{*}", begins + "{*}" + _extension(ends))


def _common(texts: Sequence[str]) -> str:
    """Return what texts begin with alike."""
    first, last = min(texts), max(texts)
    return first[
        : next(
            (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other),
            min(len(first), len(last)),
        )
    ]


def _extension(text: str) -> str:
    found = re.search(r"(\.[A-Za-z0-9]+){1,3}$", text)
    return found[0] if found else ""


_DEVICES = re.compile(r"(?:device|vehicle|thing|client|vin|serial)(?:[_-]?(?:id|name|no|number))?", re.IGNORECASE)
"""What people call a vehicle in `name=value`."""


def _ending(key: str) -> str:
    found = re.search(r"(\.[A-Za-z][A-Za-z0-9]{0,9}){1,2}$", key)
    return found[0] if found else ""


def _devices(levels: Sequence[str]) -> list[str]:
    """Return levels with the device's: the first of `name=value` whose name says so, even if there is but one, else
    the first that differs whole from key to key.
    """
    above = [level.partition("=") for level in levels[:-1]]
    whole = [place for place, (name, _, _) in enumerate(above) if name == "{*}"]
    named = (
        (place, f"{name}={{device}}")
        for place, (name, _, value) in enumerate(above)
        if _DEVICES.fullmatch(name) and value and (value == "{*}" or "{" not in value)
    )
    place, level = next(named, (whole[0], "{device}") if whole else (len(levels), ""))
    return [level if number == place else each for number, each in enumerate(levels)]


PARQUET, LINES, ONE, NO_JSON = "Parquet, which is not read", "lines of JSON", "one JSON value", "no JSON"
OVER_LINES, ONE_GZIP = "JSON values over several lines", f"{ONE}, gzip"


def _kinds(store: Store, versions: Sequence[ObjectVersion]) -> tuple[str, ...]:
    """Return what some objects are, by how they begin."""
    some = [version for version in versions if version.size][:: max(1, len(versions) // OBJECTS)][:OBJECTS]
    spans = [(version, 0, min(version.size, BEGINNING)) for version in some]
    return tuple(_kind(body, whole=len(body) == some[place].size) for place, body in store.spans(iter(spans)))


def _kind(body: bytes, *, whole: bool) -> str:
    if body.startswith(b"PAR1"):
        return PARQUET
    packed = body.startswith(GZIP)
    if packed:
        unpack = zlib.decompressobj(GZIP_BITS)
        try:
            body = unpack.decompress(body, BEGINNING)
        except zlib.error:
            return "gzip that cannot be unpacked"
        whole = unpack.eof
    lines, messages = body.split(b"\n"), Messages()
    texts = messages.of(lines if whole else lines[:-1])
    if whole and not is_json(body):
        texts += messages.rest()
    found = ONE if not whole and body.lstrip()[:1] in {b"{", b"["} else NO_JSON
    if texts and all(is_json(text) for text in texts[:2]):
        several = OVER_LINES if any(b"\n" in text for text in texts) else LINES
        found = several if len(texts) > 1 or not whole else ONE
    return f"{found}, gzip" if packed else found


def _with_objects(table: RuleTable, kinds: Sequence[str], fitting: Sequence[ObjectVersion]) -> RuleTable:
    if table.key_layout is None:
        return table
    are_lines = any(LINES in kind or OVER_LINES in kind or "gzip" in kind for kind in kinds)
    are_large = any(version.size > LARGEST for version in fitting)
    if (are_lines or are_large) == table.has_lines:
        return table
    return replace(table, objects="message" if table.has_lines else "lines")


def _counted(
    table: RuleTable,
    versions: Sequence[ObjectVersion],
    fitting: Sequence[ObjectVersion],
    kinds: tuple[str, ...],
    *,
    whole: bool,
) -> Found:
    rule = _rule(table)
    names = [name for version in fitting if (name := rule.raw_name(version.key, version.modified))]
    hours = Counter(Hour.of_millis(name.millis) for name in names)
    folders = _folders(rule, fitting)
    devices = {name.client_id for name in names if name.client_id}
    fits = {version.key for version in fitting}
    others = tuple(dict.fromkeys(version.key for version in versions if version.key not in fits))
    return Found(
        table=table,
        keys=len(versions),
        whole=whole,
        fitting=len(fitting),
        bytes=sum(version.size for version in fitting),
        hours=len(hours),
        first=min(hours, default=None),
        last=max(hours, default=None),
        hours_off=_hours_off(table, fitting, names),
        devices=len(devices),
        some_device=min(devices, default=""),
        folders=folders,
        others=others[:EXAMPLES],
        foreign=len(others),
        endings=tuple(Counter(_ending(version.key) for version in fitting).most_common(EXAMPLES)),
        kinds=kinds,
        get_requests=sum(-(-version.size // PIECE) for version in fitting) if table.has_lines else len(fitting),
        list_requests=_list_requests(rule, hours, len(versions), folders),
        wider=table,
        wider_fitting=len(fitting),
    )


def _hours_off(table: RuleTable, fitting: Sequence[ObjectVersion], names: Sequence[RawName]) -> int:
    if _precision(table) < 2 or not names:  # noqa: PLR2004 (the hour)
        return 0
    written = [(millis_of(version.modified) or 0) // _HOUR_MS for version in fitting]
    off = Counter(at - name.millis // _HOUR_MS for at, name in zip(written, names, strict=True))
    [(most, count)] = off.most_common(1)
    return most if count >= MOSTLY * len(names) and abs(most) <= ZONES else 0


_HOUR_MS = 3_600_000


def _folders(rule: Rule, fitting: Sequence[ObjectVersion]) -> int:
    """Return into how many folders a listing goes."""
    layout = rule.layout
    if layout is None or not layout.by_folders:
        return 0
    tokens = layout.tokens
    deepest = max(place for place in range(len(tokens)) if layout.is_folder(place))
    level = "".join(text for _, text in tokens[:deepest]).count("/") + 1
    return len({tuple(version.key.split("/")[:level]) for version in fitting})


def _list_requests(rule: Rule, hours: Counter[Hour], keys: int, folders: int) -> int:
    extent = rule.layout.extent if rule.layout else "hour"
    forms = {"hour": "%Y%m%d%H", "day": "%Y%m%d", "month": "%Y%m", "year": "%Y", "all": ""}
    held = Counter[str]()
    for hour, count in hours.items():
        held[hour.start.strftime(forms[extent])] += count
    if extent == "all":
        held[""] = keys
    each = (max(folders, held[hour.start.strftime(forms[extent])] // 1000 + 1) for hour in hours)
    return sum(each) + len(hours) * bool(folders)
