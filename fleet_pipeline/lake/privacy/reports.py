"""What the rules could not write of a vehicle's messages: reports below the errors' prefix, every version of them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from fleet_pipeline.aws.store import ObjectVersion, Store
from fleet_pipeline.lake.operations.replay import Report, parsed
from fleet_pipeline.lake.privacy.messages import Whom
from fleet_pipeline.lake.whose import Undivided
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.rule import Rule


@dataclass(frozen=True, slots=True)
class Reported:
    """A version of a report that holds a message of the vehicle's."""

    version: ObjectVersion
    payload: bytes = field(repr=False)
    """The bytes of this vehicle's objects alone."""
    rest: bytes | None = field(repr=False)
    """Those of other vehicles in the same message; None where there are none."""
    report: Report


def reports_of(fleet: Fleet, raw: Store, rule: Rule, whom: Whom) -> Iterator[Reported]:
    """Yield what a rule reported of a vehicle's messages, those among it that were replayed and hidden.

    Reads every report once: there are few, or something is wrong.
    """
    listed = [version for page in raw.versions(fleet.report_prefix(rule)) for version in page]
    for place, body in raw.bodies(listed):
        report = parsed(fleet, rule, listed[place].key, body)
        if report is None or report.name.millis >= whom.before_ms:
            continue
        try:
            is_theirs, own = whom.naming.part_of(report.name.client_id, report.payload, whom.is_it)
            rest = whom.naming.without(report.name.client_id, report.payload, whom.is_it)[1] if is_theirs else None
        except Undivided:
            continue  # the search for the name's bytes counts it
        if is_theirs:
            yield Reported(listed[place], own or b"", rest, report)
