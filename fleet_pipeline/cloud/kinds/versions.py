"""One of the versions that AWS IoT keeps of a policy or a template."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class ResourceVersion:
    """One version of a document; `live` says that it is the one in force."""

    number: int
    created: datetime
    live: bool
    document: dict[str, Any]
