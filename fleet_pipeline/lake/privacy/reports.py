"""What the rules could not write of a vehicle's messages: reports below the errors' prefix, every version of them."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from fleet_pipeline.aws.store import ObjectVersion, Store
from fleet_pipeline.lake.operations.replay import FailedRecords, Report, failed_records, parsed
from fleet_pipeline.lake.privacy.batched import taken_apart
from fleet_pipeline.lake.privacy.messages import Whom
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.rule import Rule, parse_stream_name


@dataclass(frozen=True, slots=True)
class Reported:
    """A version of a report that holds a message of the vehicle's."""

    version: ObjectVersion
    payload: bytes = field(repr=False)
    """The bytes of this vehicle's objects alone."""
    rest: bytes | None = field(repr=False)
    """Those of other vehicles in the same message; None where there are none."""
    report: Report


@dataclass(frozen=True, slots=True)
class ReportedRecords:
    """A version of a stream's report that holds messages of the vehicle's."""

    version: ObjectVersion
    own: tuple[bytes, ...] = field(repr=False)
    """Payloads of the vehicle's messages, or what of them is its own."""
    others: FailedRecords | None
    """The report without these records; None where no other is left."""


def records_reported_of(fleet: Fleet, raw: Store, rule: Rule, whom: Whom) -> Iterator[ReportedRecords]:
    """Yield what a rule's stream reported of a vehicle's messages. Reads every report once."""
    whom = whom.of(rule)
    listed = [
        version
        for page in raw.versions(fleet.report_prefix(rule))
        for version in page
        if parse_stream_name(version.key.rpartition("/")[2])
    ]
    for place, body in raw.bodies(listed):
        report = failed_records(fleet, rule, listed[place].key, body)
        taken = [taken_apart(rule, record, whom) for record in report.records] if report else []
        if report and any(own is not None for own, _ in taken):
            rest = [(other, why) for (_, other), why in zip(taken, report.reasons, strict=True) if other is not None]
            others = replace(report, records=tuple(o for o, _ in rest), reasons=tuple(w for _, w in rest))
            own = tuple(own for own, _ in taken if own is not None)
            yield ReportedRecords(listed[place], own, others if rest else None)


def reports_of(fleet: Fleet, raw: Store, rule: Rule, whom: Whom) -> Iterator[Reported]:
    """Yield what a rule reported of a vehicle's messages, those among it that were replayed and hidden.

    Reads every report once: there are few, or something is wrong.
    """
    whom = whom.of(rule)
    listed = [version for page in raw.versions(fleet.report_prefix(rule)) for version in page]
    for place, body in raw.bodies(listed):
        report = parsed(fleet, rule, listed[place].key, body)
        if report is None or report.name.millis >= whom.before_ms:
            continue
        found = whom.naming.apart(report.name.client_id, report.payload, whom.is_it)
        if found.is_theirs:
            yield Reported(listed[place], found.own or b"", found.rest, report)
