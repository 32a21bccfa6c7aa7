"""The search for a vehicle's name through all that is left of some hours: every version of every raw object, every part
of every generation, every revision of the derived tables, every report.

What is found is the vehicle's, or it stands in what others sent: in their messages a name is theirs to say.
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from fleet_pipeline.lake.analytics.revisions import DerivedTable
from fleet_pipeline.lake.analytics.vehicles import daily_table, hourly_table
from fleet_pipeline.lake.batches import BatchHour
from fleet_pipeline.lake.layout import Lake, LakePart
from fleet_pipeline.lake.listing import pages
from fleet_pipeline.lake.operations.replay import parsed
from fleet_pipeline.lake.privacy.batched import named_in
from fleet_pipeline.lake.privacy.messages import Marked, Whom, marked, received_ms
from fleet_pipeline.lake.privacy.places import Places, Progress, Searched
from fleet_pipeline.lake.privacy.reports import records_reported_of, reports_of
from fleet_pipeline.lake.reading import opened
from fleet_pipeline.lake.rows import LARGEST
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule


def search(places: Places, hours: Sequence[Hour], whom: Whom, on_progress: Progress) -> Searched:
    """Return what a search for the name finds in all that is left of some hours, and of the reports."""
    found, work = Searched(), [(rule, hour) for rule in places.fleet.rules for hour in hours]
    for number, (rule, hour) in enumerate(work):
        on_progress("hours searched", number, len(work))
        if not rule.bucket:  # what is only read is not the fleet's, and stays
            _search_raw(places, rule, hour, whom, found)
            _search_batches(places, rule, hour, whom, found)
        for lake in places.lake.generations():
            _search_parts(lake, rule, hour, whom, found)
    fleet, store = places.fleet, places.lake.store
    hourly = {hour.path: hour.end_ms for hour in hours}
    daily = {f"date={hour.start:%Y-%m-%d}": hour.start_ms // 86_400_000 * 86_400_000 + 86_400_000 for hour in hours}
    for table, ends in ((hourly_table(store, fleet), hourly), (daily_table(store), daily)):
        _search_derived(table, ends, whom, found)
    for rule in places.fleet.made_rules:
        _search_reports(places, rule, whom, found)
    return found


def _search_raw(places: Places, rule: Rule, hour: Hour, whom: Whom, found: Searched) -> None:
    whom = whom.of(rule)
    name = whom.name.encode()
    for page in pages(places.raw, rule, hour):
        readable = [version for version in page if version.size <= LARGEST]
        for place, body in places.raw.bodies(readable) if readable else ():
            version = readable[place]
            found.note("raw versions", version.size)
            said = rule.parse_raw_key(version.key)
            judged = Marked()
            if received_ms(rule, hour, version.key) < whom.before_ms:
                judged.judge(whom, (version.key, version.id), said.client_id if said else None, body)
            if judged.identities:
                found.theirs.append(version.key)
            elif name in body or name in version.key.encode():
                found.mentioned["raw versions"] += 1


def _search_batches(places: Places, rule: Rule, hour: Hour, whom: Whom, found: Searched) -> None:
    for batch in BatchHour(places.raw, places.lake, rule, hour).listed:
        found.note("raw versions", batch.version.size)
        theirs, named = named_in(places.raw, rule, batch, whom)
        if theirs:
            found.theirs.append(batch.version.key)
        found.mentioned["raw versions"] += named


def _search_parts(lake: Lake, rule: Rule, hour: Hour, whom: Whom, found: Searched) -> None:
    whom = whom.of(rule)
    for part in lake.parts(rule, hour):
        file = opened(lake.store, part)
        found.note("parts", part.size)
        theirs = marked([file], whom).identities
        found.theirs += [part.key] if theirs else []
        for batch in file.batches(file.schema.names):
            found.mentioned["rows"] += _mentions(batch, whom.name)
        found.mentioned["rows"] -= len(theirs)


def _mentions(batch: pa.Table, name: str) -> int:
    """Return how many rows have a name in any of their texts."""
    hits = pa.array([False] * batch.num_rows, pa.bool_())
    for column in batch.columns:
        if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
            hits = pc.or_(hits, pc.fill_null(pc.match_substring(column, name), fill_value=False))
        elif pa.types.is_nested(column.type):
            hits = pc.or_(hits, pa.array([name in repr(value) for value in column.to_pylist()], pa.bool_()))
    return int(pc.sum(hits).as_py() or 0)


def _search_derived(table: DerivedTable, ends: Mapping[str, int], whom: Whom, found: Searched) -> None:
    """Look through every revision of some partitions.

    What the last says of a partition that is not over at the instant is of later messages.
    """
    for partition, end in ends.items():
        revisions = table.revisions(partition)
        for part in revisions:
            found.note(table.name, part.size)
            if names(table, part, whom.name) and (part is not revisions[-1] or end <= whom.before_ms):
                found.theirs.append(part.key)


def _search_reports(places: Places, rule: Rule, whom: Whom, found: Searched) -> None:
    name = whom.name.encode()
    theirs = {(each.version.key, each.version.id): each for each in reports_of(places.fleet, places.raw, rule, whom)}
    reported = records_reported_of(places.fleet, places.raw, rule, whom)
    records = {(each.version.key, each.version.id) for each in reported}
    listed = [version for page in places.raw.versions(places.fleet.report_prefix(rule)) for version in page]
    for place, body in places.raw.bodies(listed) if listed else ():
        version = listed[place]
        found.note("reports", version.size)
        report = parsed(places.fleet, rule, version.key, body)
        at = (version.key, version.id)
        if at in records or (at in theirs and (theirs[at].rest is None or theirs[at].report.returnable)):
            found.theirs.append(version.key)
        elif name in body or (report and name in report.payload):
            found.mentioned["reports"] += 1


def names(table: DerivedTable, part: LakePart, name: str) -> bool:
    """Whether a revision has a row of a vehicle."""
    found = opened(table.store, part, table.schema).read(["vehicle"])["vehicle"]
    return bool(pc.any(pc.equal(found, name)).as_py())
