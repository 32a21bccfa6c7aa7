"""Where a Fleet comes from: `FLEET_*` variables, then `fleet.toml`, then the defaults. Pure: callers hand over the environment."""

import difflib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from fleet_pipeline.documents.filled import rule_keys
from fleet_pipeline.errors import InvalidSetting
from fleet_pipeline.fleet import Fleet

FILE = "fleet.toml"
PREFIX = "FLEET_"

_NUMBERS: dict[str, Any] = {each.name: type(each.default) for each in fields(Fleet) if type(each.default) in {int, float}}
_NUMBER_WANTED: dict[type, str] = {int: "write a whole number", float: "write a number"}


def read_fleet(environ: Mapping[str, str], file: Path) -> Fleet:
    """Return the fleet that the settings describe; a missing file is an empty one. Raises InvalidSetting, naming the setting.

    A variable wins over the file. Lists are comma-separated in variables and arrays in the file.
    """
    chosen = {**_from_file(file), **_from_environment(environ)}
    if chosen.get("profile") == "aws" and "account" not in chosen:
        raise InvalidSetting("FLEET_ACCOUNT", None, "with FLEET_PROFILE=aws, name the account that is meant, so that a wrong one is noticed")
    return Fleet(**{"rule_keys": rule_keys(), **chosen})


def described() -> list[tuple[str, str, str, str]]:
    """Return name, default, meaning and reason of every setting, as docs/settings.md and `fleet settings` show them."""
    return [(_variable(each.name), _shown(each.default), each.metadata["meaning"], each.metadata["reason"]) for each in fields(Fleet)]


def values(fleet: Fleet) -> list[tuple[str, str]]:
    """Return name and value of every setting of a fleet; of a secret one, only whether it is set."""
    return [(_variable(each.name), _veiled(each, _shown(getattr(fleet, each.name)))) for each in fields(Fleet)]


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    given = {variable: value for variable, value in environ.items() if variable.startswith(PREFIX)}
    return {name: _parsed(name, value) for variable, value in given.items() for name in [_known(variable, _variable)]}


def _parsed(name: str, value: str) -> Any:
    if name == "rule_keys":
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if (number := _NUMBERS.get(name)) is None:
        return value
    try:
        return number(value)
    except ValueError as error:
        raise InvalidSetting(_variable(name), value, _NUMBER_WANTED[number]) from error


def _from_file(file: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:  # ValueError: not TOML, or not UTF-8
        raise InvalidSetting(str(file), None, f"it cannot be read as TOML: {error}") from error
    return {name: _typed(name, value) for key, value in found.items() for name in [_known(key, str)]}


def _typed(name: str, value: Any) -> Any:
    if (number := _NUMBERS.get(name)) is not None:
        if type(value) not in {int, number}:
            raise InvalidSetting(_variable(name), value, _NUMBER_WANTED[number])
        return number(value)
    if name != "rule_keys":
        if not isinstance(value, str):
            raise InvalidSetting(_variable(name), value, "write it in quotation marks")
        return value
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidSetting(_variable(name), value, 'write it as an array of texts, such as ["rule1", "rule2"]')
    return tuple(value)


def _known(said: str, spelled: Callable[[str], str]) -> str:
    """Return the setting that is meant, where each is spelled in this way."""
    names = {spelled(each.name): each.name for each in fields(Fleet)}
    if said in names:
        return names[said]
    near = difflib.get_close_matches(said.removeprefix(PREFIX).lower(), names.values(), n=1)
    hint = f"; did you mean {spelled(near[0])}?" if near else ""
    raise InvalidSetting(said, None, f"there is no such setting{hint} (`fleet settings` lists them all)")


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def _veiled(setting: Field[Any], value: str) -> str:
    return "(set)" if value and setting.metadata["secret"] else value


def _shown(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)
