"""The Iceberg tables in Dagster: each follows its rule's Parquet, says what it has, and is held against the lake."""

from dataclasses import replace

import dagster as dg
import pytest
from iceberg_lake import HOURS, Filled
from in_dagster import ALONE

from fleet_pipeline.assets.iceberg.tables import SAME, key
from fleet_pipeline.assets.lake import parquet
from fleet_pipeline.assets.shared.columns import MEANINGS
from fleet_pipeline.definitions import build_definitions


@pytest.fixture
def filled(fleet):
    return Filled(fleet)


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def materialized(filled, instance):
    job = build_definitions(filled.fleet).resolve_implicit_global_asset_job_def()
    done = job.execute_in_process(instance=instance, asset_selection=[key(ALONE, filled.rule)], raise_on_error=False)
    [event] = done.get_asset_materialization_events() or [None]
    [check] = done.get_asset_check_evaluations() or [None]
    return done, event and event.materialization, check


def test_a_run_brings_the_table_to_the_lake_says_what_it_has_and_holds_it_against_it(filled, instance):
    filled.add(HOURS[0], *({"speed_kmh": 1.5, "at": {"lat": 2.5}} for _ in range(4)))
    _, made, check = materialized(filled, instance)
    said = {name: value.value for name, value in made.metadata.items()}
    assert (said["dagster/row_count"], said["files"], said["files added"]) == (4, 1, 1)
    assert said["snapshot"] == str(filled.tables.find(filled.rule).current_snapshot().snapshot_id)
    assert said["bytes"] == filled.lake.parts(filled.rule, HOURS[0])[0].size
    columns = {column.name: column.description for column in said["dagster/column_schema"].columns}
    assert (columns["_payload"], columns["at_lat"]) == (MEANINGS["_payload"], "a field of the message")
    assert (check.passed, check.check_name, check.metadata["files whose rows were counted"].value) == (True, SAME, 1)
    filled.add(HOURS[1], *({"speed_kmh": 1.5} for _ in range(4)))
    _, made, check = materialized(filled, instance)
    assert (made.metadata["files"].value, check.passed) == (2, True)


def test_a_table_of_somebody_elses_fails_the_run_in_one_sentence_and_is_not_tried_again(filled, instance):
    name = filled.tables.identifier(filled.rule)
    filled.tables.catalog.create_namespace(name[0])
    filled.tables.catalog.create_table(name, filled.lake_schema(), f"s3://{filled.fleet.lake_bucket}/theirs")
    done, made, _ = materialized(filled, instance)
    assert (done.success, made) == (False, None)
    [failure] = [event for event in done.all_events if event.is_step_failure]
    assert "is not this lake's" in failure.event_specific_data.error_display_string
    assert not [event for event in done.all_events if event.is_step_up_for_retry]


def test_a_table_follows_its_rules_parquet_and_the_job_is_there_with_a_schedule(fleet):
    definitions = build_definitions(fleet)
    node = definitions.resolve_asset_graph().get(key(ALONE, fleet.rules[0]))
    assert node.parent_keys == {parquet.key(ALONE, fleet.rules[0])}
    assert node.automation_condition is not None
    [sensor] = [each for each in definitions.sensors if each.name == "tables_follow_the_lake"]
    assert node.key in sensor.asset_selection.resolve(definitions.resolve_asset_graph())
    assert definitions.resolve_schedule_def("maintain_iceberg_tables").job_name == "maintain_iceberg"


def test_the_job_keeps_every_table_small_and_says_by_how_much(filled, instance):
    for hour in HOURS:
        filled.add(hour, *({"speed_kmh": 1.5} for _ in range(4)))
        filled.sync()
    done = build_definitions(filled.fleet).resolve_job_def("maintain_iceberg").execute_in_process(instance=instance)
    [output] = [event for event in done.all_events if event.event_type == dg.DagsterEventType.STEP_OUTPUT]
    [record] = output.event_specific_data.metadata["tables"].records
    assert (record.data["manifests"], record.data["snapshots"]) == ("2 to 1", "2 to 3")
    assert record.data["objects left"] > 0


@pytest.mark.parametrize("chosen", ["off", ""])
def test_without_a_catalog_there_is_no_table_no_job_and_no_schedule(fleet, chosen):
    """In an account there is none unless one is chosen; on this machine there is."""
    asked = replace(fleet, iceberg=chosen, profile="local" if chosen else "aws")
    definitions = build_definitions(asked)
    assert not [each for each in definitions.resolve_asset_graph().get_all_asset_keys() if each.path[0] == "iceberg"]
    assert "maintain_iceberg" not in {job.name for job in definitions.resolve_all_job_defs()}
