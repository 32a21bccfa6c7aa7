"""Where a Fleet comes from: `FLEET_*` variables, then `fleet.toml`, then the defaults. Pure: callers hand over the environment."""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from fleet_pipeline.documents.filled import rule_keys
from fleet_pipeline.errors import InvalidSetting
from fleet_pipeline.fleet import Fleet

FILE = "fleet.toml"
PREFIX = "FLEET_"


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
    """Return name and value of every setting of a fleet."""
    return [(_variable(each.name), _shown(getattr(fleet, each.name))) for each in fields(Fleet)]


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    named = {key: value for key, value in environ.items() if key.startswith(PREFIX)}
    return {_known(key, key.removeprefix(PREFIX).lower()): _parsed(key, value) for key, value in named.items()}


def _parsed(key: str, value: str) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if key == _variable("rule_keys") else value


def _from_file(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidSetting(str(file), "", f"it is not TOML: {error}") from error
    return {_known(f"{file}: {key}", key): _typed(key, value) for key, value in found.items()}


def _typed(key: str, value: Any) -> Any:
    wanted = list if key == "rule_keys" else str
    if not isinstance(value, wanted):
        raise InvalidSetting(_variable(key), value, "write it as an array of texts" if wanted is list else "write it in quotation marks")
    return tuple(value) if isinstance(value, list) else value


def _known(said: str, name: str) -> str:
    names = [each.name for each in fields(Fleet)]
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=1)
    raise InvalidSetting(said, "", f"there is no such setting{f'; did you mean {_variable(near[0])}?' if near else ''} (`fleet settings` lists them all)")


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def _shown(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)
