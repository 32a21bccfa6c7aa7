"""How often a test that makes its cases up tries: a part of the times in `make test`, as often as it should in `make exact`."""

import os

MESSAGES = os.environ.get("EXACT_MESSAGES")
"""How many messages `make exact` makes of each form and way of learning: 5,000, which are 200,000 in all."""


def tries(some: int, many: int) -> int:
    """Return how often: `many` in `make exact`."""
    return many if MESSAGES else some
