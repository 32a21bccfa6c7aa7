"""The lake's assets: what a run reports of each hour, what its checks say, and that a failed hour stops no other."""

import json
import uuid
from base64 import b64decode
from dataclasses import replace

import dagster as dg
import pytest
from dask_cluster import free_port, on, scheduler, worker
from hypothesis import example, given
from hypothesis import strategies as st
from in_dagster import ALONE

from fleet_pipeline.assets.lake import parquet
from fleet_pipeline.assets.shared.pictures import INLINE, MOST_BARS, bars, dots
from fleet_pipeline.definitions import build_definitions
from fleet_pipeline.lake.operations import engine
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName

FIRST = Hour.parse("2026-03-04-05:00")
HOURS = [FIRST, FIRST.next, FIRST.next.next]


@pytest.fixture
def rule(fleet):
    return fleet.rules[0]


@pytest.fixture
def buckets(fleet, aws):
    for bucket in (fleet.bucket, fleet.lake_bucket):
        aws.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": fleet.region})
        aws.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def put(fleet, rule, aws, buckets):
    """Write raw messages into an hour, a second apart."""

    def write(hour, *messages, key_of=lambda hour, second: RawName(hour.start_ms + 1000 * second, str(uuid.uuid4()))):
        for second, message in enumerate(messages):
            body = message if isinstance(message, bytes) else json.dumps(message).encode()
            aws.s3.put_object(Bucket=fleet.bucket, Key=rule.raw_key(key_of(hour, second)), Body=body)

    return write


def compact(fleet, instance, first=FIRST, last=FIRST):
    rules = dg.AssetSelection.assets(parquet.key(ALONE, fleet.rules[0]))
    job = dg.define_asset_job("one_rule", rules, executor_def=dg.in_process_executor)
    built = build_definitions(fleet)
    definitions = dg.Definitions(
        assets=built.assets, jobs=[job], resources={**built.resources, "io_manager": dg.mem_io_manager}
    )
    tags = {
        "dagster/asset_partition_range_start": first.partition_key,
        "dagster/asset_partition_range_end": last.partition_key,
    }
    return definitions.resolve_job_def("one_rule").execute_in_process(
        instance=instance, tags=tags, raise_on_error=False
    )


def materializations(result):
    return {
        event.partition: event.materialization
        for event in result.all_events
        if event.event_type_value == "ASSET_MATERIALIZATION"
    }


def judged(result):
    found = [
        event.event_specific_data for event in result.all_events if event.event_type_value == "ASSET_CHECK_EVALUATION"
    ]
    return {evaluation.check_name: evaluation for evaluation in found}


def message(n):
    return {
        "serial": f"297468A{n % 3}",
        "position": {"latitude": 48.7 + n / 100, "longitude": 9.1 + n / 50},
        "speed_kmh": 50.5,
    }


def test_each_hour_of_a_range_is_reported_with_its_own_numbers_and_the_checks_pass_once_a_run(fleet, instance, put):
    put(HOURS[0], *map(message, range(7)))
    put(HOURS[2], *map(message, range(3)))
    result = compact(fleet, instance, HOURS[0], HOURS[2])
    assert result.success
    made = materializations(result)
    assert [made[hour.partition_key].metadata["dagster/partition_row_count"].value for hour in HOURS] == [7, 0, 3]
    assert made[HOURS[0].partition_key].metadata["vehicles"].value == 3
    assert {name: evaluation.passed for name, evaluation in judged(result).items()} == dict.fromkeys(
        judged(result), True
    )
    assert len(judged(result)) == 7


def test_a_run_gives_its_hours_to_the_cluster_that_is_named_and_says_if_there_is_none(
    fleet, instance, put, monkeypatch
):
    put(HOURS[0], *map(message, range(7)))
    put(HOURS[2], *map(message, range(3)))
    monkeypatch.setattr(engine, "ANSWER_S", 2.0)
    there = replace(fleet, engine=on(port := free_port()))
    with scheduler(port):
        refused = compact(there, instance, HOURS[0], HOURS[2])
        assert "the cluster has no worker" in refused.failure_data_for_node("lake__rule1").user_failure_data.description
        with worker(port):
            result = compact(there, instance, HOURS[0], HOURS[2])
    made = materializations(result)
    assert [made[hour.partition_key].metadata["dagster/partition_row_count"].value for hour in HOURS] == [7, 0, 3]
    assert all(evaluation.passed for evaluation in judged(result).values())


def test_the_pictures_of_an_hour_appear_by_themselves(fleet, instance, put):
    put(FIRST, *map(message, range(9)))
    metadata = materializations(compact(fleet, instance))[FIRST.partition_key].metadata
    for name, scale in (
        ("messages a minute", "minutes 0 to 59; the highest bar is "),
        ("where vehicles were", "a sample, north up; "),
    ):
        assert metadata[name].value.startswith("![")
        assert f")\n\n{scale}" in metadata[name].value
        assert len(metadata[name].value) < INLINE
    assert metadata["some rows"].records[0].data["speed_kmh"] == 50.5


def test_columns_come_from_the_fields_of_the_raw_message(fleet, instance, put):
    put(FIRST, message(1))
    metadata = materializations(compact(fleet, instance))[FIRST.partition_key].metadata
    (origin,) = metadata["dagster/column_lineage"].value.deps_by_column["position_latitude"]
    assert (origin.asset_key.to_user_string(), origin.column_name) == ("raw/rule1", "position.latitude")
    assert {column.name: column.type for column in metadata["dagster/column_schema"].value.columns}[
        "speed_kmh"
    ] == "double"


def test_requests_and_what_they_cost_are_counted(fleet, instance, put):
    put(FIRST, *map(message, range(10)))
    metadata = materializations(compact(fleet, instance))[FIRST.partition_key].metadata
    assert metadata["requests saved by a full read"].value == 9
    assert metadata["saved by a full read, US dollars"].value == pytest.approx(9 * fleet.price_get / 1000, abs=1e-6)
    assert metadata["requests, US dollars"].value > 0


def test_the_log_says_how_far_a_long_hour_is(fleet, instance, put, monkeypatch):
    monkeypatch.setattr(parquet, "TELL_EVERY", 0.0)
    put(FIRST, *map(message, range(3)))
    said = [entry.user_message for entry in instance.all_logs(compact(fleet, instance).run_id)]
    assert [line for line in said if line.startswith(f"{FIRST.partition_key}: 3 messages read, ")]


def test_a_failed_hour_stops_no_other_and_is_named_and_is_not_retried(fleet, instance, aws, put, rule):
    for hour in HOURS:
        put(hour, message(1))
    bad = parquet.Lake(None, fleet.parquet_prefix).part_key(rule, HOURS[1], 3)
    aws.s3.put_object(Bucket=fleet.lake_bucket, Key=bad, Body=b"no part")
    result = compact(fleet, instance, HOURS[0], HOURS[2])
    assert not result.success
    assert set(materializations(result)) == {HOURS[0].partition_key, HOURS[2].partition_key}
    (failure,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    assert f"1 of 3 hours failed: {HOURS[1].partition_key}" in failure.event_specific_data.user_failure_data.description
    assert not [event for event in result.all_events if event.event_type_value == "STEP_UP_FOR_RETRY"]
    assert not judged(result)["parts_are_whole"].passed
    assert HOURS[1].partition_key in judged(result)["parts_are_whole"].description
    aws.s3.delete_object(Bucket=fleet.lake_bucket, Key=bad)
    assert set(materializations(compact(fleet, instance, HOURS[1], HOURS[1]))) == {HOURS[1].partition_key}


def test_unreadable_messages_and_new_columns_draw_warnings_that_say_what_to_do(fleet, instance, put):
    put(HOURS[0], message(1))
    put(HOURS[1], *[{"serial": "297468A1", "colour": "red"}] * 3, b"not json", {"speed_kmh": "fast"})
    found = judged(compact(fleet, instance, HOURS[0], HOURS[1]))
    assert "1 of 5 messages cannot be read" in found["messages_are_readable"].description
    assert "new columns colour; 1 rows have values that fit no column" in found["columns_are_as_before"].description
    assert {found[name].severity for name in ("messages_are_readable", "columns_are_as_before")} == {
        dg.AssetCheckSeverity.WARN
    }
    assert found["every_version_is_a_row"].passed


def test_columns_that_another_run_learnt_meanwhile_are_no_news_of_an_empty_hour(fleet, instance, put, monkeypatch):
    put(HOURS[0], message(1))
    put(HOURS[2], *[{"serial": "297468A1", "colour": "red"}] * 3)
    alone = parquet.compact_hour

    def beside_another(raw, lake, rule, hour, **options):
        if hour == HOURS[1]:
            alone(raw, lake, rule, HOURS[2])
        return alone(raw, lake, rule, hour, **options)

    monkeypatch.setattr(parquet, "compact_hour", beside_another)
    assert judged(compact(fleet, instance, HOURS[0], HOURS[1]))["columns_are_as_before"].passed


def test_messages_that_shared_a_raw_key_have_a_row_each(fleet, instance, put):
    put(FIRST, message(1), message(2), message(3), key_of=lambda hour, _: RawName(hour.start_ms))
    result = compact(fleet, instance)
    assert materializations(result)[FIRST.partition_key].metadata["recovered collisions"].value == 2
    assert judged(result)["collisions_are_recovered"].passed


def test_a_row_that_someone_doubled_is_noticed(fleet, instance, aws, put, rule):
    put(FIRST, message(1))
    compact(fleet, instance)
    home = parquet.Lake(None, fleet.parquet_prefix)
    source = {"Bucket": fleet.lake_bucket, "Key": home.part_key(rule, FIRST, 0)}
    aws.s3.copy_object(Bucket=fleet.lake_bucket, Key=home.part_key(rule, FIRST, 1), CopySource=source)
    found = judged(compact(fleet, instance))["identities_are_unique"]
    assert not found.passed
    assert "1 rows are there twice" in found.description


@given(st.lists(st.integers(0, 10**9), max_size=MOST_BARS))
@example([1] * MOST_BARS)
@example([1, 0] * (MOST_BARS // 2))
def test_sixty_bars_are_always_drawn_inline(values):
    assert len(bars(values, "minutes 0 to 59; the highest bar is 1,000,000,000 messages")) < INLINE


@given(st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), max_size=300))
def test_any_places_are_always_drawn_inline_and_inside_the_picture(points):
    picture = dots(points, "a sample of positions, north up")
    assert len(picture) < INLINE
    svg = b64decode(picture.split("base64,")[1].split(")")[0]).decode()
    places = [place.split("h")[0].split() for place in svg.split('d="')[1].split('"')[0].split("M")[1:]]
    assert all(0 <= int(x) <= 150 and 0 <= int(y) <= 75 for x, y in places)
