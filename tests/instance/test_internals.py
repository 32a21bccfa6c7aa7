"""What is private to Dagster and that we rely on: a test for each name, so that an upgrade says what it has moved."""

import re
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef

from fleet_pipeline.instance import internals
from fleet_pipeline.instance.event_log import forget

SOURCE = Path(internals.__file__).parents[1]

TAGS = {
    "ASSET_PARTITION_RANGE_END_TAG": "dagster/asset_partition_range_end",
    "ASSET_PARTITION_RANGE_START_TAG": "dagster/asset_partition_range_start",
    "CODE_VERSION_TAG": "dagster/code_version",
    "DATA_VERSION_TAG": "dagster/data_version",
    "INPUT_DATA_VERSION_TAG_PREFIX": "dagster/input_data_version",
    "INPUT_EVENT_POINTER_TAG_PREFIX": "dagster/input_event_pointer",
    "NULL_EVENT_POINTER": "NULL",
    "SCHEDULE_NAME_TAG": "dagster/schedule_name",
    "WILL_RETRY_TAG": "dagster/will_retry",
}


@pytest.mark.parametrize(("name", "value"), TAGS.items())
def test_a_tag_is_spelled_as_in_the_events_that_are_kept(name, value):
    assert getattr(internals, name) == value


def test_every_name_has_its_test():
    tests = Path(__file__).read_text()
    assert [name for name in internals.__all__ if not re.search(rf"\b{name}\b", tests)] == []


def test_nothing_else_in_the_package_names_what_is_private_to_dagster():
    private = [path.name for path in SOURCE.rglob("*.py") if re.search(r"\bdagster\._", path.read_text())]
    assert private == ["internals.py"]


def test_a_data_version_is_read_from_an_entry_and_null_stands_for_none():
    asset = dg.AssetKey("a")
    with dg.DagsterInstance.ephemeral() as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization(asset, tags={internals.DATA_VERSION_TAG: "7"}))
        entry = instance.get_latest_data_version_record(asset, False, None).event_log_entry
    assert internals.extract_data_version_from_entry(entry).value == "7"
    assert internals.NULL_DATA_VERSION.value == "NULL"


def test_the_history_of_a_check_is_asked_for_by_what_it_said():
    said = internals.AssetCheckExecutionRecordStatus
    assert {said.SUCCEEDED, said.FAILED} < set(said)
    with dg.DagsterInstance.ephemeral() as instance:
        key = dg.AssetCheckKey(dg.AssetKey("a"), "c")
        assert (
            instance.event_log_storage.get_asset_check_execution_history(
                key, limit=1, status={said.SUCCEEDED, said.FAILED}
            )
            == []
        )


def test_a_code_location_has_a_name():
    assert hasattr(internals.CodeLocationOrigin, "location_name")


def test_dagster_yaml_names_an_artifact_storage_that_is_opened_from_its_configuration(tmp_path):
    assert issubclass(internals.LocalArtifactStorage, dg._serdes.ConfigurableClass)
    made = internals.ConfigurableClassData(
        "fleet_pipeline.instance.artifacts", "PrivateArtifactStorage", f"base_dir: {tmp_path}\n"
    ).rehydrate(as_type=internals.LocalArtifactStorage)
    assert made.base_dir == str(tmp_path)
    assert (
        InstanceRef.from_dir(str(tmp_path)).local_artifact_storage_data.class_name
        == internals.LocalArtifactStorage.__name__
    )


def test_dagster_dev_has_the_command_and_the_function_by_which_it_starts_the_webserver():
    module = internals.dev()
    assert callable(module.open_ipc_subprocess)
    assert module.dev_command.name == "dev"


def test_the_events_of_a_database_stand_in_tables_by_asset_and_partition(tmp_path):
    """What `event_log.forget` asks of the storage, and of the JSON that it keeps."""
    key = dg.AssetKey(["lake", "rule1"])
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        said = dg.AssetMaterialization(key, partition="p", metadata={"some rows": 1, "rows": 2})
        instance.report_runless_asset_event(said)
        storage = instance.event_log_storage
        assert isinstance(storage, internals.SqlEventLogStorage)
        assert forget(instance, {key: ["p"], dg.AssetKey("other"): ["p"]}, {"some rows"}) == 1
        assert forget(instance, {key: ["p"]}, {"some rows"}) == 0
        [record] = instance.fetch_materializations(key, limit=9).records
        assert set(record.asset_materialization.metadata) == {"rows"}
        last = instance.get_latest_materialization_event(key).asset_materialization
        assert set(last.metadata) == {"rows"}
    assert not [path for path in tmp_path.rglob("*.db*") if b"some rows" in path.read_bytes()]
    with dg.DagsterInstance.ephemeral() as instance:
        assert forget(instance, {key: ["p"]}, {"some rows"}) in {0, None}


def test_what_is_kept_on_a_machine_lies_in_storages_that_are_known(tmp_path):
    """What `names.take_out` asks of an instance; its own test reads every table and every file."""
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        assert isinstance(instance.event_log_storage, internals.SqliteEventLogStorage)
        assert isinstance(instance.run_storage, internals.SqlRunStorage)
        assert isinstance(instance.schedule_storage, internals.SqlScheduleStorage)
        instance.report_runless_asset_event(dg.AssetMaterialization("a"))
        assert "" not in instance.event_log_storage.get_all_run_ids()
        assert Path(instance.event_log_storage.path_for_shard("")).exists()
    manager = internals.LocalComputeLogManager(str(tmp_path / "printed"))
    assert internals.printed_below(manager) == tmp_path / "printed"
