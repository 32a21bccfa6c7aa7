"""Why a vehicle was let in or not: what the hook wrote of its decisions."""

import json
from dataclasses import dataclass

from fleet_pipeline.aws import Aws, absent, doing
from fleet_pipeline.fleet import Fleet


@dataclass(frozen=True, slots=True)
class Decided:
    """One answer of the hook."""

    allowed: bool
    reason: str


def decisions(fleet: Fleet, aws: Aws, serial: str) -> list[Decided]:
    """Return what the hook decided about a serial, oldest first; empty when it was not asked, or AWS has not yet stored its log."""
    said = json.dumps({"serial": repr(serial)})[1:-1]  # as it stands in the hook's line of JSON
    with doing("show the hook's log"), absent("ResourceNotFoundException"):
        pages = aws.logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{fleet.hook_name}", filterPattern=json.dumps(serial))
        lines = [event["message"] for page in pages for event in page["events"]]
        return [Decided(found["allowed"], found["reason"]) for found in (json.loads(line) for line in lines if said in line)]
    return []
