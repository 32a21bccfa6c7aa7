"""Settings that are more than a word: tables, arrays of tables and lists become values of their own types, each mistake
named by its place.

The same value is read from `[[rules]]` of fleet.toml, from the JSON of a variable and from the attributes of a
component.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any, Literal, get_args, get_origin

import msgspec

from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.meant import did_you_mean

_NO_CHOICE = "Invalid enum value "

_TYPES = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "an array",
    "object": "a table",
    "null": "nothing",
}
_EXPECTED = re.compile(r"Expected `(?P<wanted>[^`]*)`, got `(?P<found>[^`]*)`")
_PLACE = re.compile(r" - at `\$(?P<place>[^`]*)`$")


def read(kind: Any, said: Any, place: str) -> Any:
    """Return what was said as a value of this type. Raises InvalidSetting, which names the place: `rules[2].topic`.

    A frozen dataclass that refuses its own values raises InvalidSetting with the name of its field; the place comes
    before it.
    """
    if get_origin(kind) is tuple and is_dataclass(get_args(kind)[0]):
        if isinstance(said, Mapping):
            raise InvalidSetting(place, None, f"write an array of tables, each below [[{place}]]; this is a table")
        tables = _converted(tuple[Any, ...], said, place)
        return tuple(read(get_args(kind)[0], table, f"{place}[{number}]") for number, table in enumerate(tables))
    if is_dataclass(kind):
        _refuse_unknown(kind, _converted(dict[str, Any], said, place), place)
    return _converted(kind, said, place)


def read_json(
    kind: Any, text: str, place: str, variable: str, spelled: Callable[[Any], Any] = lambda said: said
) -> Any:
    """Return the value that a variable's text says, once it is spelled as `read` takes it.

    Raises InvalidSetting, which names the variable where the text is no JSON, and otherwise the place.
    """
    try:
        said = json.loads(text)
    except ValueError as error:
        raise InvalidSetting(variable, text, f"it cannot be read as JSON: {error}") from error
    return read(kind, spelled(said), place)


def written(value: Any) -> Any:
    """Return what is to be said for a value, fit for JSON and TOML: the inverse of `read`.

    What has its default is left out.
    """
    if isinstance(value, tuple | list):
        return [written(each) for each in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {
            each.name: written(asdict(value)[each.name])
            for each in fields(value)
            if getattr(value, each.name) != _default(each)
        }
    return {name: written(each) for name, each in value.items()} if isinstance(value, Mapping) else value


def as_json(value: Any) -> str:
    """Return a value as the text of a variable: the inverse of `read_json`. Nothing for an empty one."""
    return json.dumps(written(value), ensure_ascii=False) if value else ""


def _default(field: Any) -> Any:
    return (
        field.default
        if field.default is not MISSING
        else field.default_factory()
        if field.default_factory is not MISSING
        else MISSING
    )


def _refuse_unknown(kind: Any, said: Mapping[str, Any], place: str) -> None:
    names = [each.name for each in fields(kind)]
    for name in said:
        if name not in names:
            meant = did_you_mean(name, names) or f"there are {', '.join(names)}"
            raise InvalidSetting(f"{place}.{name}", None, f"there is no such field; {meant}")


def _converted(kind: Any, said: Any, place: str) -> Any:
    try:
        return msgspec.convert(said, kind)
    except msgspec.ValidationError as error:
        text = str(error)
        where = f"{place}{found['place']}" if (found := _PLACE.search(text)) else place
        choices = _choices(kind, found["place"] if found else "") if text.startswith(_NO_CHOICE) else ""
        raise InvalidSetting(where, None, _in_words(_PLACE.sub("", text)) + choices) from error
    except InvalidSetting as error:
        raise InvalidSetting(f"{place}.{error.setting}", error.value, error.why) from None


def _choices(kind: Any, place: str) -> str:
    """Return what may be chosen at a place within a value of this type; nothing where that cannot be told."""
    for _, name in re.findall(r"(\[[^]]*\])|\.(\w+)", place):
        if name:
            kind = next((each.type for each in fields(kind) if each.name == name), None) if is_dataclass(kind) else None
        else:
            kind = next(iter(get_args(kind)), None)
    words = [word for word in get_args(kind) if word] if get_origin(kind) is Literal else []
    return f"; choose one of {', '.join(map(str, words))}" if words else ""


def _in_words(text: str) -> str:
    """Return what msgspec says of a value, without the names of Python's and JSON's types."""
    if found := _EXPECTED.match(text):
        wanted, got = (
            " or ".join(_TYPES.get(each.strip(), each.strip()) for each in found[name].split("|"))
            for name in ("wanted", "found")
        )
        return f"write {wanted}; this is {got}"
    return text.replace("Object missing required field `", "it must say `").replace(
        _NO_CHOICE, "there is no such choice: "
    )
