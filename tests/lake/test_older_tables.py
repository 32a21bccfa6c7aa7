"""A table that version 78efdd0 of this package wrote goes on as it is: `version_78efdd0.zip` holds its objects, as that version's own code wrote them.

Three rules: in the first form, in structs with elements, and pinned. Each has an hour of integers, one of every kind of message in two parts,
and messages that are not compacted yet: one that came late, and an hour of five.
"""

import io
import json
import zipfile
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from dict_store import DictStore

from fleet_pipeline.assets.lake.inspection import inspect
from fleet_pipeline.lake.contract import COLUMNS
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.learning import Evidence
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.look import look
from fleet_pipeline.lake.operations.rewrite import learnt, rewrite_hour
from fleet_pipeline.lake.operations.verify import purge_hour, verify_hour
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.form import Form
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule

ARCHIVE = Path(__file__).with_name("version_78efdd0.zip")
HOURS = [Hour.parse(f"2026-11-23-{hour}:00") for hour in (10, 11, 12)]
INTEGERS, ODD, DUE = HOURS
VERSIONS = {INTEGERS: 31, ODD: 66, DUE: 5}
LATE = {INTEGERS: 1, ODD: 0, DUE: 5}
FORM = Form(numbers="double")
"""What a fleet of today asks of tables that are begun now."""


@pytest.fixture(params=["rule1", "rule2", "rule3"])
def rule(request):
    return Rule("test-rule", request.param)


@pytest.fixture
def raw():
    store = DictStore()
    with zipfile.ZipFile(ARCHIVE) as archive:
        for name in sorted(name for name in archive.namelist() if name.startswith("raw/")):
            store.put(name.split("/", 2)[2], archive.read(name))
    return store


@pytest.fixture
def lake():
    store = DictStore()
    with zipfile.ZipFile(ARCHIVE) as archive:
        for name in archive.namelist():
            if name.startswith("lake/"):
                store.put(name.partition("/")[2], archive.read(name))
    return Lake(store, "lake", form=FORM)


def rows(lake, rule, hour):
    """The rows of an hour, by their identity, without columns that are null."""
    found = {}
    for part in lake.parts(rule, hour):
        for row in pq.read_table(io.BytesIO(lake.store.objects[part.key][0][1])).to_pylist():
            found[row["_key"], row["_version"]] = {name: value for name, value in row.items() if value is not None}
    return found


def kinds(lake, rule):
    return {name: column.kind for name, column in lake.contract(rule).columns.items()}


def test_a_look_finds_what_it_lacks_and_nothing_else(raw, lake, rule):
    for hour in HOURS:
        seen = look(raw, lake, rule, hour)
        assert (seen.versions, seen.held, seen.uncompacted) == (VERSIONS[hour], VERSIONS[hour] - LATE[hour], LATE[hour])


def test_what_that_version_counted_is_what_verification_finds(raw, lake):
    with zipfile.ZipFile(ARCHIVE) as archive:
        for said in json.loads(archive.read("proven.json")):
            found = verify_hour(raw, lake, Rule("test-rule", said["rule"]), Hour.parse(said["hour"]))
            assert (found.passed, found.versions, found.rows) == (True, said["versions"], said["rows"])


def test_later_hours_and_late_messages_are_added_and_no_row_or_column_changes(raw, lake, rule):
    before, columns, objects = (
        {hour: rows(lake, rule, hour) for hour in HOURS},
        kinds(lake, rule),
        dict(lake.store.objects),
    )
    for hour in HOURS:
        done = compact_hour(raw, lake, rule, hour)
        assert (done.complete, done.rows_added, len(done.parts_added)) == (True, LATE[hour], min(1, LATE[hour]))
        assert before[hour].items() <= rows(lake, rule, hour).items()
        assert verify_hour(raw, lake, rule, hour).passed
    assert {key: lake.store.objects[key] for key in objects} == objects
    assert columns.items() <= kinds(lake, rule).items()
    assert lake.contract(rule).form.numbers == "exact"
    assert compact_hour(raw, lake, rule, DUE).put_requests == 0


def test_its_columns_take_what_they_took_and_new_fields_become_columns_unless_it_is_pinned(raw, lake, rule):
    compact_hour(raw, lake, rule, DUE)
    found = rows(lake, rule, DUE).values()
    assert kinds(lake, rule)["speed"] == "int64"
    assert Counter(row["_status"] for row in found) == {"partial": 5}  # speeds of a quarter fit no column of integers
    assert [json.loads(row["_extra"])["speed"] for row in found] == [0.25, 1.25, 2.25, 3.25, 4.25]
    pinned = rule.key == "rule3"
    assert ("new" in kinds(lake, rule), lake.contract(rule).pinned) == (not pinned, pinned)
    assert [row.get("new", json.loads(row["_extra"]).get("new")) for row in found] == [0, 1, 2, 3, 4]


def test_a_purge_deletes_its_proven_messages_and_they_do_not_come_back(raw, lake, rule):
    for hour in HOURS:
        compact_hour(raw, lake, rule, hour)
        assert purge_hour(raw, lake, rule, hour, now=hour.end + timedelta(days=1)).versions == VERSIONS[hour]
        assert compact_hour(raw, lake, rule, hour).rows_added == look(raw, lake, rule, hour).uncompacted == 0
    assert not [key for key in raw.objects if key.startswith(rule.raw_prefix)]


def test_each_hour_is_shown(raw, lake, rule):
    for hour in HOURS:
        compact_hour(raw, lake, rule, hour)
        shown = inspect(Fleet(), lake, rule, hour, lake.contract(rule))
        assert (shown.rows, shown.identities, shown.versions) == (len(rows(lake, rule, hour)),) * 2 + (VERSIONS[hour],)


@pytest.mark.parametrize("numbers", ["double", "exact"])
def test_a_rewrite_has_every_row_and_types_what_that_version_could_not(raw, lake, rule, numbers):
    for hour in HOURS:
        compact_hour(raw, lake, rule, hour)
    new, seen = Lake(lake.store, "lake", lake.generation + 1, Form(numbers=numbers)), Evidence()
    for hour in HOURS:
        seen.add(learnt(lake, new.contract(rule), rule, hour))
    new.record(rule, seen, new.form, most=COLUMNS)
    new.begin()
    for hour in HOURS:
        assert rewrite_hour(lake, new, rule, hour).complete
        assert verify_hour(raw, new, rule, hour).passed
    assert kinds(new, rule)["speed"] == "double"
    speeds = [row.get("speed") for row in rows(new, rule, DUE).values()]
    assert speeds == [0.25, 1.25, 2.25, 3.25, 4.25]
    assert kinds(new, rule).get("big") == ("decimal(20,0)" if numbers == "exact" else None)
