"""Where a Fleet comes from: `FLEET_*` variables, then `fleet.toml`, then the defaults.

Pure: callers hand over the environment.
"""

import json
import logging
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass, replace
from datetime import date, time
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from fleet_pipeline.model import first_day, tables
from fleet_pipeline.model.company import Texts
from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.fleet import ACCOUNT_WANTED, CHOICES, Fleet
from fleet_pipeline.model.meant import did_you_mean
from fleet_pipeline.model.rule_table import RuleTable

FILE = "fleet.toml"
PREFIX = "FLEET_"
NAMED = "FLEET_FILE"
"""The variable that names the file, wherever it lies."""

_RULE_KEYS = Path(__file__).parent / "rule-keys.json"

_log = logging.getLogger(__name__)
_warned: set[str] = set()

_DEFAULTS = {each.name: each.default for each in fields(Fleet)}
_HOME = str(_DEFAULTS["home"])
_NUMBERS: dict[str, Any] = {
    each.name: type(each.default) for each in fields(Fleet) if type(each.default) in {int, float}
}
_SAID = {each.name: each.metadata["said"] or each.name for each in fields(Fleet)}
"""How the file spells each setting."""

_LISTS = {each.name for each in fields(Fleet) if each.type == tuple[str, ...]}
_TEXTS = {each.name for each in fields(Fleet) if each.type == Texts}
_TABLES: dict[str, Any] = {
    each.name: each.type
    for each in fields(Fleet)
    if not isinstance(each.default, str | int | float) and each.name not in {*_LISTS, *_TEXTS}
}
"""Settings that are tables, lists or the like, with their types. A variable says them as JSON."""
BY_NAME = ("parameters",)
"""Settings that may be said as tables by name, `[parameters.Vin]`, beside an array of tables that each say it."""
_WORDS = {
    name: kind
    for name, kind in _TABLES.items()
    if get_origin(kind) is tuple and get_origin(get_args(kind)[0]) is Literal
}
"""Those that are words of a choice. A variable says them with commas between."""

_NUMBER_WANTED: dict[type, str] = {int: "write a whole number", float: "write a number"}


def find_file(environ: Mapping[str, str], start: Path, user_home: Path) -> Path:
    """Return where the settings lie: in the file that FLEET_FILE names, or in this folder or the nearest above it that
    has the file or a `.fleet`.

    The search ends at the root of a git repository and at the user's home. So a command means the same fleet in every
    folder of a project. Raises InvalidSetting when the file that is named does not exist.
    """
    if named := environ.get(NAMED):
        if not Path(named).is_file():
            raise InvalidSetting(NAMED, named, "there is no such file")
        return Path(named)
    for folder in (start, *start.parents):
        if (folder / FILE).exists() or (folder / _HOME).is_dir():
            return folder / FILE
        if (folder / ".git").exists() or folder == user_home:
            break
    return start / FILE


def read_fleet(environ: Mapping[str, str], file: Path, *, needs_rule: bool = True) -> Fleet:
    """Return the fleet that the settings describe; a missing file is an empty one.

    Raises InvalidSetting, naming the setting.

    A variable wins over the file. Lists are comma-separated in variables and arrays in the file. A relative FLEET_HOME
    counts from the file's folder.
    Without a rule that AWS IoT runs there is no fleet; where none is needed, those of rule-keys.json stand for it.
    A variable of an unknown name is warned of once and left alone: Kubernetes gives every process `FLEET_PORT` where a
    service is named `fleet`.
    """
    chosen = {**_from_file(file), **_from_environment(environ)}
    _check_account(chosen)
    if not needs_rule and not chosen.get("rule_keys") and all(each.bucket for each in chosen.get("rule_tables", ())):
        chosen["rule_keys"] = rule_keys()
    chosen = {"rule_keys": rule_keys(), **chosen, **_home(chosen, file.parent), **_descriptors(chosen, file.parent)}
    if Path(chosen.get("home") or _HOME).is_file():
        raise InvalidSetting("FLEET_HOME", chosen.get("home", _HOME), "it is a file; name a folder")
    return Fleet(**{**chosen, **_start(chosen)})


def fleet_of(**said: Any) -> Fleet:
    """Return the fleet that settings describe, spelled as in fleet.toml: tables are dicts (`rules=[{"key": …}]`,
    `tags={"team": …}`).

    What is left out has its default. Neither the environment nor fleet.toml is asked. Raises InvalidSetting, naming the
    setting.
    """
    return of_attributes({_known(name, said_as): value for name, value in said.items()}, Path.cwd())


def fleet_of_file(file: str | Path) -> Fleet:
    """Return the fleet that a file spelled as fleet.toml describes: the one that commands mean with FLEET_FILE set to
    it.

    A relative `home`, `hook_file` or `hook_requirements` counts from the file's folder. The environment is not asked.
    Raises InvalidSetting, naming the setting, or where there is no such file.
    """
    found = Path(file).absolute()
    return read_fleet({}, find_file({NAMED: str(found)}, found.parent, found.parent))


def of_attributes(said: Mapping[str, Any], folder: Path) -> Fleet:
    """Return the fleet that the attributes of a component describe, of which one that was left out has its default.

    A relative home counts from the folder. Neither the environment nor fleet.toml is asked. Raises InvalidSetting,
    naming the attribute.
    """
    chosen: dict[str, Any] = {name: _frozen(value) for name, value in said.items()}
    try:
        chosen |= {name: _read(name, said[name]) for name in _TABLES if name in said}
        given = {name: value for name, value in chosen.items() if value != _DEFAULTS[name]}
        _check_account(given)
        given |= _home(given, folder) | _descriptors(given, folder)
        return Fleet(**{**chosen, **given, **_start(given)})
    except InvalidSetting as error:
        raise InvalidSetting(_attribute(error.setting), error.value, _attribute(error.why)) from None


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple(sorted(value.items()))
    return tuple(value) if isinstance(value, list) else value


def _attribute(text: str) -> str:
    """Return a text with each variable as the attribute of its setting."""
    return re.sub(rf"{PREFIX}([A-Z_]+)", lambda found: found[1].lower(), text)


def _check_account(chosen: Mapping[str, Any]) -> None:
    if chosen.get("profile") == "aws" and "account" not in chosen:
        raise InvalidSetting("FLEET_ACCOUNT", None, ACCOUNT_WANTED)


def _descriptors(chosen: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the rules with the files that describe their messages, as they are found from wherever a command runs."""
    tables: tuple[RuleTable, ...] = chosen.get("rule_tables", ())
    if not any(table.protobuf_descriptor for table in tables):
        return {}
    return {"rule_tables": tuple(_described(table, folder.absolute()) for table in tables)}


def _described(table: RuleTable, folder: Path) -> RuleTable:
    return (
        replace(table, protobuf_descriptor=str(folder / table.protobuf_descriptor))
        if table.protobuf_descriptor
        else table
    )


def _home(chosen: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return the home, and each file that is named, as they are found from wherever a command runs."""
    if folder.absolute() == Path.cwd():
        return {}
    named = {
        "home": chosen.get("home", _HOME),
        **{name: chosen.get(name, "") for name in ("hook_file", "hook_requirements")},
    }
    return {name: os.path.normpath(folder.absolute() / path) for name, path in named.items() if path}


def _start(chosen: Mapping[str, Any]) -> dict[str, str]:
    """Return the first day where none is chosen, on this machine."""
    if chosen.get("start") or chosen.get("profile", _DEFAULTS["profile"]) != "local":
        return {}
    first = first_day.of_home(Path(chosen.get("home") or _HOME))
    return {"start": first} if first else {}


def rule_keys() -> tuple[str, ...]:
    """Return the rule keys of rule-keys.json, the default of `FLEET_RULE_KEYS`."""
    return tuple(json.loads(_RULE_KEYS.read_text(encoding="utf-8"))["testRules"])


def defaults() -> list[tuple[str, Any, str, str]]:
    """Return each setting's name as fleet.toml spells it, default, meaning and reason."""
    return [
        (said_as(each.name), _said(each.name, each.default), each.metadata["meaning"], each.metadata["reason"])
        for each in fields(Fleet)
    ]


def _said(name: str, value: Any) -> Any:
    """Return a value as the file has it."""
    return dict(value) if name in _TEXTS else tables.written(value) if is_dataclass(value) else value


def _read(name: str, value: Any) -> Any:
    """Return the tables that a file or a component says. A mistake in one that is said by name is named so."""
    try:
        return tables.read(_TABLES[name], _rows(name, value), said_as(name))
    except InvalidSetting as error:
        if name not in BY_NAME or not isinstance(value, dict):
            raise
        keys = [*value]
        place = re.sub(r"\[(\d+)\]", lambda found: f".{keys[int(found[1])]}", error.setting, count=1)
        raise InvalidSetting(place, error.value, error.why) from None


def _rows(name: str, value: Any) -> Any:
    """Return tables by name, `[parameters.Vin]`, as an array of them, each with its name."""
    if name not in BY_NAME or not isinstance(value, dict):
        return value
    return [{"name": key, **table} if isinstance(table, dict) else table for key, table in value.items()]


def said_as(name: str) -> str:
    """Return how the file and a component spell a field of Fleet: `rules` for its rule tables."""
    return _SAID[name]


def described() -> list[tuple[str, str, str, str]]:
    """Return name, default, meaning and reason of every setting, as docs/settings.md and `fleet settings` show them."""
    return [
        (f"{PREFIX}{name.upper()}", _shown(name, value), meaning, reason) for name, value, meaning, reason in defaults()
    ]


def values(fleet: Fleet) -> list[tuple[str, str]]:
    """Return name and value of every setting of a fleet; of a secret one, only whether it is set."""
    return [
        (_variable(each.name), _veiled(each, _shown(each.name, _said(each.name, getattr(fleet, each.name)))))
        for each in fields(Fleet)
    ]


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    names = {_variable(each.name): each.name for each in fields(Fleet)}
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in {*names, NAMED, *_warned}:
            _warned.add(variable)
            _log.warning("%s is left alone: %s", variable, _unknown(variable, _variable))
    return {name: _parsed(name, environ[variable]) for variable, name in names.items() if variable in environ}


def _parsed(name: str, value: str) -> Any:
    parts = tuple(part.strip() for part in value.split(",") if part.strip())
    if name in _LISTS:
        return parts
    if name in _WORDS:
        return tables.read(_WORDS[name], parts, _variable(name))
    if name in _TEXTS:
        return _pairs(name, value, parts)
    if name in _TABLES:
        return (
            tables.read_json(_TABLES[name], value, said_as(name), _variable(name), lambda said: _rows(name, said))
            if value
            else _DEFAULTS[name]
        )
    if (number := _NUMBERS.get(name)) is None:
        return value
    try:
        return number(value)
    except ValueError as error:
        raise InvalidSetting(_variable(name), value, _NUMBER_WANTED[number]) from error


def _pairs(name: str, value: str, parts: Sequence[str]) -> Texts:
    pairs = [(key.strip(), text.strip()) for part in parts for key, equals, text in [part.partition("=")] if equals]
    if len({key for key, _ in pairs}) < len(parts):
        raise InvalidSetting(_variable(name), value, "write it as name=text,name=text, and each name once")
    return tuple(sorted(pairs))


def _from_file(file: Path) -> dict[str, Any]:
    text = ""
    try:
        text = file.read_text(encoding="utf-8")
        found = tomllib.loads(text)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:  # ValueError: not TOML, or not UTF-8
        hint = _said_twice(text, str(error)) or "a text stands in quotation marks"
        raise InvalidSetting(str(file), None, f"it cannot be read as TOML: {error} ({hint})") from error
    known = {_known(key, said_as): value for key, value in found.items()}
    for name, value in known.items():
        _refuse_misplaced(said_as(name), value, _fields_of(name), found)
    return {name: _typed(name, value) for name, value in known.items()}


_TWICE = re.compile(r"(?:Cannot (?:overwrite|declare|mutate)|Duplicate).*at (?:line (\d+)|end of document)")
"""What tomllib says of a name that stands there already."""


def _said_twice(text: str, error: str) -> str:
    """Return in words which name is said twice, as a value or as a table; nothing for any other mistake."""
    found = _TWICE.match(error)
    lines = text.rstrip().splitlines()[: int(found[1]) if found[1] else None] if found else []
    return f"{lines[-1].partition('=')[0].strip(' []')} is said twice, and each name stands once" if lines else ""


_FREE = "free"
"""Stands for the names of a table that may have any."""

_TAGS_TOO = frozenset({"environment", "service", "application"})
"""Names of settings that companies give to tags, too."""


def _fields_of(name: str) -> Any:
    """Return the names that may stand in a setting's table, in a structure as the tables within it; nothing for what is
    no table.
    """
    if name in _TEXTS:
        return _FREE
    kind = _TABLES.get(name)
    kind = get_args(kind)[0] if get_origin(kind) is tuple else kind
    return {each.name for each in fields(kind)} if isinstance(kind, type) and is_dataclass(kind) else None


def _refuse_misplaced(place: str, value: Any, allowed: Any, file: Mapping[str, Any]) -> None:
    """Refuse a setting that landed in a table because it stands below the table's head, or warn of one that may have:
    in TOML each line below a `[table]` belongs to it.
    """
    if allowed is None:
        return
    for number, table in enumerate(value if isinstance(value, list) else []):
        _refuse_misplaced(f"{place}[{number}]", table, allowed, file)
    if place in BY_NAME and isinstance(value, dict):
        for key, table in value.items():
            _refuse_misplaced(f"{place}.{key}", table, allowed, file)
        return
    for key, said in value.items() if isinstance(value, dict) else ():
        landed = f"it stands below [{place}], and so is part of it: move the line above the file's first [table]"
        if key not in _SAID.values() or (allowed != _FREE and key in allowed):
            continue
        if allowed != _FREE or not isinstance(said, str):
            raise InvalidSetting(f"{place}.{key}", None, f"{landed}, if the setting {key} is meant")
        if key not in file and key not in _TAGS_TOO and (where := f"{place}.{key}") not in _warned:
            _warned.add(where)
            _log.warning("%s: %s, if the setting %s is meant", where, landed, key)


def _typed(name: str, value: Any) -> Any:
    if name in _TABLES:
        return _read(name, value)
    if (number := _NUMBERS.get(name)) is not None:
        if type(value) not in {int, number}:
            raise InvalidSetting(_variable(name), value, _NUMBER_WANTED[number])
        return number(value)
    if name in _TEXTS:
        if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
            raise InvalidSetting(
                _variable(name), None, f'write it as a table of texts, such as [{name}] and below it name = "text"'
            )
        return tuple(sorted(value.items()))
    if name not in _LISTS:
        if not isinstance(value, str):
            shown = value.isoformat() if isinstance(value, date | time) else value
            raise InvalidSetting(_variable(name), shown, f"write it in quotation marks{_choices(name)}")
        return value
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        said = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
        array = json.dumps([str(each).strip() for each in said], ensure_ascii=False)
        raise InvalidSetting(_variable(name), value, f"write it as an array of texts, such as {array}")
    return tuple(value)


def _choices(name: str) -> str:
    """Return the words of a setting that is one of some, so that nobody writes "true" for "on"."""
    return f": {' or '.join(json.dumps(word) for word in get_args(CHOICES[name]) if word)}" if name in CHOICES else ""


def _known(said: str, spelled: Callable[[str], str]) -> str:
    """Return the setting that is meant, where each is spelled in this way."""
    names = {spelled(name): name for name in _SAID}
    if said in names:
        return names[said]
    raise InvalidSetting(said, None, _unknown(said, spelled))


def _unknown(said: str, spelled: Callable[[str], str]) -> str:
    """Say that there is no such setting, and which may be meant."""
    known = {spelling: spelled(name) for name, spelling in _SAID.items()}
    meant = did_you_mean(said.removeprefix(PREFIX), known)
    hint = f"; {meant}" if meant else ""
    return f"there is no such setting{hint} (`fleet settings` lists them all)"


def _variable(name: str) -> str:
    return f"{PREFIX}{said_as(name).upper()}"


def _veiled(setting: Field[Any], value: str) -> str:
    return "(set)" if value and setting.metadata["secret"] else value


def _shown(name: str, value: Any) -> str:
    if name in _TEXTS:
        return ",".join(f"{key}={text}" for key, text in value.items())
    if isinstance(value, tuple) and all(isinstance(each, str) for each in value):
        return ",".join(value)
    return str(value) if isinstance(value, str | int | float) else tables.as_json(value)
