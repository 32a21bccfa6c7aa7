"""What differs, as people read it: one unified diff for each field, of canonical JSON."""

import difflib
import json
from collections.abc import Iterable, Iterator
from typing import Any

from fleet_pipeline.cloud.reconcile import Change


def difference(changes: Iterable[Change]) -> str:
    """Return a diff of every field that differs: `-` as AWS has it, `+` as the settings want it.

    Empty when nothing differs.
    """
    return "\n".join(line for change in changes for line in _lines(change))


def _lines(change: Change) -> Iterator[str]:
    found, wanted = _text(change.found), _text(change.wanted)
    if len(found) <= 1 and len(wanted) <= 1:
        yield from (f"{sign} {change.field}: {line}" for sign, lines in (("-", found), ("+", wanted)) for line in lines)
        return
    yield f"  {change.field}:"
    yield from list(difflib.unified_diff(found, wanted, lineterm="", n=2))[2:]  # without the names of two files


def _text(value: Any) -> list[str]:
    return [] if value is None else json.dumps(value, indent=2, sort_keys=True).splitlines()
