"""Private fields: what of a message no typed column holds, or holds coarsened only. Pure."""

import re
from dataclasses import dataclass
from typing import Self

from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.rule_table import path_of

UNITS = ("minute", "hour", "day")
"""To what an instant may be coarsened."""

SETTING = "FLEET_PRIVATE_COLUMNS"


@dataclass(frozen=True, slots=True)
class PrivateField:
    """A field of messages that is nobody's business: it stays in `_payload`."""

    path: tuple[str, ...]
    """The names that lead to it; upper and lower case are one."""
    keep: str = ""
    """What of its value a column may hold: nothing, a number to so many decimals, or an instant to a unit."""

    @classmethod
    def of(cls, text: str) -> Self:
        r"""Return the field that is written `position`, `position.latitude=2` or `recorded_at=minute`.

        A dot or an equals sign within a name is written `\.` or `\=`. Raises InvalidSetting.
        """
        written, *keep = re.split(r"(?<!\\)=", text)
        path = tuple(name.replace("\\=", "=") for name in path_of(written))
        if len(keep) > 1 or "" in path or "\\" in "".join(path) or not text.isprintable():
            raise InvalidSetting(
                SETTING, text, r"name a field, or fields with dots between them; a dot within one is \."
            )
        if keep and not re.fullmatch(rf"[0-9]|{'|'.join(UNITS)}", keep[0]):
            raise InvalidSetting(SETTING, text, f"after = write 0 to 9 decimals, or {', '.join(UNITS)}")
        return cls(path, *keep)

    def covers(self, path: tuple[str, ...]) -> bool:
        """Say whether a field is this one, or lies within it."""
        return [name.casefold() for name in path[: len(self.path)]] == [name.casefold() for name in self.path]
