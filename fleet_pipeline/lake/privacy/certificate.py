"""What an erasure did and what was found afterwards, in the lake and without the vehicle's name: the record of it."""

import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from fleet_pipeline.lake.privacy.places import EVENT_LOG, FUNCTION_LOGS, Erased, Places, Removed, folder

_COUNTS = [each.name for each in fields(Removed) if each.type is int]

UNASKED = {
    EVENT_LOG: (
        "not asked for: where FLEET_PREVIEWS is on, it shows rows and positions of these hours. The job erase_vehicle, "
        "or the command where dagster.yaml lies, takes them out"
    ),
    FUNCTION_LOGS: "not asked for: they name serials that asked to register, for FLEET_LOG_RETENTION_DAYS",
}
"""What is said of a place beside the buckets that this erasure did not reach."""

NOT_REACHED = (
    "what was read out of the lake before: exports, query results, copies in other buckets, access logs",
    "where rules' further actions send messages",
    "messages in which others name the vehicle: they are theirs",
    "data files that others wrote below the Iceberg tables' own folders",
)
"""What an erasure does not touch, as its certificate says."""


def certify(places: Places, erased: Erased, by: str, hours: int, records: Mapping[str, int]) -> tuple[str, str]:
    """Write the certificate, which does not hold the vehicle's name, as JSON and as text; return the key of the JSON,
    and its SHA-256.

    `records` says, for each instant before which was erased, how many records of removals are summed up in it or in
    those before it.
    """
    where = folder(places, erased.tombstone)
    said = {
        "erasure": erased.tombstone,
        "received before": erased.before.isoformat(),
        "begun": erased.begun.isoformat(),
        "ended": datetime.now(UTC).isoformat(),
        "by": by,
        "stopped runs that it goes on from": erased.stopped,
        "records": dict(records),
        "clean": erased.clean,
        "hours searched": hours,
        "removed": {each: getattr(erased.removed, each) for each in _COUNTS},
        "requests": dict(erased.removed.requests),
        "removed messages, SHA-256": sorted(erased.removed.digests),
        "rows that stay": erased.removed.kept,
        "search": {
            "looked through": dict(erased.searched.looked),
            "bytes": erased.searched.bytes,
            "of the vehicle": len(erased.searched.theirs),
            "named in what others sent": {kind: count for kind, count in erased.searched.mentioned.items() if count},
        },
        "elsewhere": {**UNASKED, **erased.elsewhere},
        "not reached": NOT_REACHED,
    }
    number = sum(
        version.latest and version.key.endswith(".json") and "certificate-" in version.key
        for page in places.store.versions(where)
        for version in page
    )
    body = json.dumps(said, indent=1).encode()
    while not places.store.put_new(f"{where}certificate-{number:05d}.json", body):
        number += 1
    places.store.put_new(f"{where}certificate-{number:05d}.txt", as_text(said).encode())
    return f"{where}certificate-{number:05d}.json", sha256(body).hexdigest()


def as_text(said: Mapping[str, Any]) -> str:
    """Return a certificate as people read it."""
    removed, search = said["removed"], said["search"]
    named = search["named in what others sent"]
    removed_of = (
        f"Removed: {removed['messages']:,} messages in {removed['hours']:,} hours of rules: "
        f"{removed['raw_versions']:,} raw versions ({removed['raw_bytes']:,} bytes), {removed['rows']:,} rows, "
        f"{removed['reports']:,} reports, {removed['revisions']:,} revisions of derived tables, "
        f"{removed['snapshots']:,} snapshots; {removed['parts']:,} parts were written anew."
    )
    shared = f"{removed['shared']:,} were taken apart."
    unread = f"{removed['undivided']:,}: they stay."
    went_on = f"It goes on from {said['stopped runs that it goes on from']:,} runs that were stopped. "
    went_on = went_on if said["stopped runs that it goes on from"] else ""
    when = f"begun {said['begun']}, ended {said['ended']}; by {said['by']}"
    looked = ", ".join(f"{count:,} {kind}" for kind, count in search["looked through"].items())
    stays = ", ".join(f"{count:,} {kind}" for kind, count in named.items()) or "nowhere"
    return "\n".join(
        [
            f"Erasure {said['erasure']}",
            f"Of what was received before {said['received before']}; {when}.",
            went_on + removed_of,
            f"Messages of several vehicles: {shared}",
            f"In which its name stands and which cannot be read, or not taken apart: {unread}",
            f"Looked through afterwards: {looked}; {search['bytes']:,} bytes.",
            f"Found of the vehicle: {search['of the vehicle']:,}.",
            f"Its name in what others sent, which stays: {stays}.",
            *(f"{place}: {text}." for place, text in said["elsewhere"].items()),
            "Not reached:",
            *(f"- {each}" for each in said["not reached"]),
            "",
        ]
    )
