"""What Dagster shows beside a result: rows as a table of inert text, and the frame that keeps a picture from failing
what it shows.
"""

import logging
import math
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import dagster as dg
import pyarrow as pa

from fleet_pipeline.lake.contract import EXACT
from fleet_pipeline.model.plain import plain, plain_traceback

CELL = 80
"""Characters of a value that are shown."""

NOT_SHOWN = "could not be shown; the run's log has the traceback"

T = TypeVar("T")

_LOG = logging.getLogger(__name__)


def attempted(shown: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Return what can be shown, by name; of what cannot, that it cannot, with the traceback in the log."""
    return {
        name: dg.MetadataValue.text(NOT_SHOWN) if (made := or_none(name, make)) is None else made
        for name, make in shown.items()
    }


def or_none(name: str, make: Callable[[], T]) -> T | None:
    """Return what was made only to be shown, or None, with the traceback in the log, when it could not be made."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001 (the next comment says why)
        # The outermost frame of a picture: the rows that it shows are written, and whatever a vehicle sent, their hour
        # is done.
        _LOG.error("%s %s: %s", name, NOT_SHOWN, plain_traceback(error))
        return None


def table(rows: pa.Table) -> dg.TableMetadataValue:
    """Return rows as a table for the UI, which has no Markdown in it."""
    records = [dg.TableRecord({plain(name): cell(value) for name, value in row.items()}) for row in rows.to_pylist()]
    return dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn(plain(name)) for name in rows.schema.names]))


def cell(value: Any) -> str | float | bool | None:
    """Return a value as a table of Dagster's takes it: what JSON or JavaScript would not carry unchanged is a text."""
    if (
        value is None
        or isinstance(value, bool)
        or (isinstance(value, int) and abs(value) <= EXACT)
        or (isinstance(value, float) and math.isfinite(value))
    ):
        return value
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return plain(value.decode(errors="replace") if isinstance(value, bytes) else value, CELL)
