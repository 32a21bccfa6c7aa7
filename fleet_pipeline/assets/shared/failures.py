"""How errors end a run: ours as one sentence, retried only where another try may succeed; all of them as inert text.

Dagster keeps an error with those that it came from, shows them in its UI and writes them to the terminal and to the
run's log. What stands in them comes from AWS, Parquet or DuckDB, which quote what vehicles sent.
"""

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg

from fleet_pipeline.model.errors import FleetError
from fleet_pipeline.model.plain import plain, plain_traceback


@contextmanager
def reported() -> Iterator[None]:
    """Turn a FleetError into a dg.Failure that says the same and allows retries when the error does.

    What nobody foresaw ends the run as it is, inert.
    """
    try:
        yield
    except FleetError as error:
        raise dg.Failure(
            str(error), metadata={"error": type(error).__name__}, allow_retries=error.retryable
        ) from _inert(error)
    except dg.Failure:
        raise
    except Exception as error:
        # The outermost frame of our work in a step: Dagster would show and log what is raised here as it is.
        inert = _inert(error)
        if inert is error:
            raise
        raise inert from None


class Quoted(Exception):
    """An error that others raised, whose message or origin had characters that a terminal obeys: its traceback, as a
    text.
    """


def _inert(error: Exception) -> Exception:
    """Return an error itself when Dagster can show it and its origins as they are, or else a text in its place."""
    shown = plain_traceback(error)
    return (
        error
        if shown == "".join(traceback.format_exception(error))
        else Quoted(f"{type(error).__name__}: {plain(error)}\n{shown}")
    )


NAMED = 5
"""Hours, or days, of which a text says what is to be said; the others are counted."""


def named(said: Mapping[str, str], what: str = "hours") -> str:
    """Return what is said of the first hours, or days, and how many more there are."""
    more = f" and {len(said) - NAMED} {what} more" if len(said) > NAMED else ""
    return "; ".join(f"{each}: {sentence}" for each, sentence in list(said.items())[:NAMED]) + more


def failure(failed: Mapping[str, FleetError], of: int, what: str = "hours") -> dg.Failure:
    """Return what ends a run of which some hours, or days, failed, naming the first with their reasons; retried only if
    one of them may heal.
    """
    reasons = named({each: plain(error) for each, error in failed.items()}, what)
    return dg.Failure(
        f"{len(failed)} of {of} {what} failed: {reasons}",
        metadata={f"failed {what}": "\n".join(failed)},
        allow_retries=any(error.retryable for error in failed.values()),
    )
