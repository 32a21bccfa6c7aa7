"""A check of the company's own, which this function asks after its own: a file with one function, `verify(serial,
parameters, context) -> bool | str`.

Only True lets a vehicle in. False, a text (the reason), anything else, an exception and an import that fails keep it
out. What an exception says is not logged, as it may name a password; of a reason, the values of the check's own
settings are left out.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

MODULE = "own_check"
"""The company's file in the zip."""

VENDOR = "vendor"
"""The folder of what it requires, looked at last: it hides neither this function's modules nor Lambda's."""

_SHOWN = 200
_SECRET_FROM = 4
"""Characters from which a setting's value is left out of a reason."""

Refusal = Callable[[str, Mapping[str, str], Mapping[str, str]], str]
"""Says why a vehicle is kept out, or nothing."""


def nobody_asked(_serial: str, _parameters: Mapping[str, str], _context: Mapping[str, str]) -> str:
    """Say nothing: there is no check of the company's own."""
    return ""


def refusal(settings: Mapping[str, str]) -> Refusal:
    """Return what asks the company's check, if the settings say that there is one.

    It is imported once, as the process starts.
    """
    if not settings.get("OWN_CHECK"):
        return nobody_asked
    verify, problem = _loaded()
    hidden = [settings.get(name, "") for name in settings.get("OWN_SETTINGS", "").split(",") if name]

    def ask(serial: str, parameters: Mapping[str, str], context: Mapping[str, str]) -> str:
        return problem or _asked(verify, serial, parameters, context, hidden)

    return ask


def _loaded() -> tuple[Any, str]:
    if _kept:
        return _kept[0]
    vendor = str(Path(__file__).with_name(VENDOR))
    if vendor not in sys.path:
        sys.path.append(vendor)
    try:
        verify: Any = __import__(MODULE).verify
        _kept.append((verify, "" if callable(verify) else "the company's check has no function `verify`"))
    except BaseException as error:  # noqa: BLE001 (somebody else's code: whatever it does, nobody is let in)
        _kept.append((None, f"the company's check cannot be loaded: {type(error).__name__}"))
    return _kept[0]


_kept: list[tuple[Any, str]] = []


def _asked(
    verify: Any, serial: str, parameters: Mapping[str, str], context: Mapping[str, str], hidden: list[str]
) -> str:
    try:
        said = verify(serial, dict(parameters), dict(context))
    except BaseException as error:  # noqa: BLE001 (as above)
        return f"the company's check failed: {type(error).__name__}"
    if said is True:
        return ""
    if said is False:
        return "the company's check says no"
    if isinstance(said, str):
        return f"the company's check says: {_without(said, hidden)}"
    return f"the company's check answered with {type(said).__name__}, which is neither True nor a reason"


def _without(text: str, hidden: list[str]) -> str:
    """Return a text in few characters, all of them ASCII and none a control character, without these values."""
    for value in sorted(hidden, key=len, reverse=True):
        if len(value) >= _SECRET_FROM:
            text = text.replace(value, "…")
    return ascii(text)[:_SHOWN]


if os.environ.get("AWS_LAMBDA_FUNCTION_NAME"):
    refusal(os.environ)
"""Import it while Lambda starts the process, for which AWS IoT's five seconds have more room than for a request."""
