"""`fleet iceberg` on tables of several rules, one of which is somebody else's."""

from dataclasses import replace

import pytest
from iceberg_lake import HOURS, Filled

from fleet_pipeline.lake.iceberg.sync import replace_hour
from fleet_pipeline.lake.privacy.rewriting import without


@pytest.fixture
def filled(fleet):
    """A lake of three rules; the name of the second one's table is another's."""
    made = Filled(replace(fleet, rule_keys=("rule1", "rule2", "rule3")))
    for rule in made.fleet.rules:
        made.rule = rule
        made.add(HOURS[0], *({"speed_kmh": 1.5} for _ in range(4)))
    made.rule = made.fleet.rules[0]
    name = made.tables.identifier(made.fleet.rules[1])
    made.tables.catalog.create_namespace(name[0])
    made.tables.catalog.create_table(name, made.lake_schema(), f"s3://{made.fleet.lake_bucket}/theirs")
    return made


def everything(filled):
    pages = filled.aws.s3.get_paginator("list_object_versions").paginate(Bucket=filled.fleet.lake_bucket)
    return {(each["Key"], each["VersionId"]) for page in pages for each in page.get("Versions", [])}


def test_beside_a_table_of_somebody_elses_a_sync_writes_nothing_whichever_rule_is_the_first(filled, command):
    before = everything(filled)
    code, said = command(filled.fleet, "iceberg", "sync")
    assert (code, "is not this lake's" in " ".join(said.split())) == (1, True), said
    assert everything(filled) == before
    assert [filled.tables.find(filled.fleet.rules[place]) for place in (0, 2)] == [None, None]
    assert command(filled.fleet, "iceberg", "sync", "--rule", "rule1", "--rule", "rule3")[0] == 0
    assert [filled.tables.find(filled.fleet.rules[place]) is None for place in (0, 2)] == [False, False]


def test_a_sync_after_an_hour_was_replaced_notes_once_what_the_snapshot_has_and_makes_none(filled):
    filled.add(HOURS[0], {"speed_kmh": 2.5})
    filled.sync()
    without(filled.lake, filled.rule, HOURS[0], [], fence=True)  # two parts become one, as by an erasure
    number = replace_hour(filled.tables, filled.rule, HOURS[0])
    before = everything(filled)
    assert not filled.sync().changed
    noted = everything(filled)
    assert [key.rpartition("/")[2].endswith(".metadata.json") for key, _ in noted - before] == [True]
    assert not filled.sync().changed
    assert everything(filled) == noted
    assert filled.tables.find(filled.rule).current_snapshot().snapshot_id == number


def test_a_table_of_somebody_elses_keeps_no_other_from_its_upkeep(filled, command):
    for place in (0, 2):
        filled.rule = filled.fleet.rules[place]
        for hour in HOURS:
            filled.add(hour, {"speed_kmh": 2.5})
            filled.sync()
    code, said = command(filled.fleet, "iceberg", "maintain")
    assert (code, "is not this lake's" in " ".join(said.split())) == (1, True), said
    tables = [filled.tables.find(filled.fleet.rules[place]) for place in (0, 2)]
    assert [len(table.current_snapshot().manifests(table.io)) for table in tables] == [1, 1]
