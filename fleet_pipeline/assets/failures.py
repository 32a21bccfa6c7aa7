"""How our errors end a run: as one sentence, retried only where another try may succeed."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from fleet_pipeline.errors import FleetError
from fleet_pipeline.plain import plain_lines


@contextmanager
def reported() -> Iterator[None]:
    """Turn a FleetError into a dg.Failure that says the same and allows retries when the error does."""
    try:
        yield
    except FleetError as error:
        raise dg.Failure(plain_lines(error), metadata={"error": type(error).__name__}, allow_retries=error.retryable) from error
