"""The tables about vehicles as Dagster sees them: their partitions, when they are computed again, what they report."""

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest
from in_dagster import ALONE

from fleet_pipeline.assets.lake import parquet
from fleet_pipeline.assets.shared.columns import MEANINGS, OF_VEHICLES
from fleet_pipeline.assets.vehicles import NAMED, daily_key, hourly_key
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.reconcile import reconcile
from fleet_pipeline.definitions import build_definitions
from fleet_pipeline.lake.analytics.vehicles import DAILY, HOURLY
from fleet_pipeline.lake.rows import EXTRA, HEAD
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName

TEN, ELEVEN = Hour.parse("2026-11-20-10:00"), Hour.parse("2026-11-20-11:00")
HOURLY_KEY, DAILY_KEY = hourly_key(ALONE), daily_key(ALONE)
DAY = "2026-11-20"
NOON = datetime(2026, 11, 21, 12, 10, tzinfo=UTC)


@pytest.fixture
def definitions(fleet):
    return build_definitions(fleet)


@pytest.fixture
def instance():
    return dg.DagsterInstance.ephemeral()


def test_a_day_is_made_of_its_hours_and_the_running_day_of_those_that_have_begun():
    graph = build_definitions(Fleet()).resolve_asset_graph()
    day, hour = graph.get(DAILY_KEY).partitions_def, graph.get(HOURLY_KEY).partitions_def
    mapping = graph.get_partition_mapping(DAILY_KEY, HOURLY_KEY)

    def hours_of(partition):
        keys = day.subset_with_partition_keys([partition])
        return list(
            mapping.get_upstream_mapped_partitions_result_for_partitions(
                keys, day, hour, current_time=NOON
            ).partitions_subset.get_partition_keys()
        )

    assert (len(hours_of(DAY)), hours_of(DAY)[0], hours_of(DAY)[-1]) == (24, "2026-11-20-00:00", "2026-11-20-23:00")
    assert hours_of("2026-11-21")[-1] == "2026-11-21-12:00"


def test_both_tables_are_computed_from_what_was_compacted_and_report_it(definitions, fleet, aws, instance):
    for part in ("bucket", "lake_bucket"):
        reconcile(blueprint(fleet)[part].resource, aws)
    for hour, rule in ((TEN, 0), (TEN, 1), (ELEVEN, 2)):
        message = {"serial": "297468000001", "odometer_km": hour.start.hour * 10.0, "speed_kmh": 50.0}
        aws.s3.put_object(
            Bucket=fleet.bucket,
            Key=fleet.rules[rule].raw_key(RawName(hour.start_ms, str(uuid.uuid4()))),
            Body=json.dumps(message).encode(),
        )
    hours = dg.PartitionKeyRange(TEN.partition_key, ELEVEN.partition_key)
    compacted(definitions, instance, [parquet.key(ALONE, rule) for rule in fleet.rules], hours)
    compacted(definitions, instance, [HOURLY_KEY], hours)
    compacted(definitions, instance, [DAILY_KEY], dg.PartitionKeyRange(DAY, DAY))
    assert reported(instance, HOURLY_KEY, "messages", "dagster/partition_row_count", "action") == {
        TEN.partition_key: (2, 1, "written"),
        ELEVEN.partition_key: (1, 1, "written"),
    }
    assert reported(instance, DAILY_KEY, "messages", "revision") == {
        DAY: (3, f"vehicles_daily/date={DAY}/revision-00000.parquet")
    }
    shown = (
        instance.fetch_materializations(DAILY_KEY, limit=1)
        .records[0]
        .asset_materialization.metadata["first rows"]
        .records
    )
    assert [row.data["vehicle"] for row in shown] == ["297468000001"]
    compacted(definitions, instance, [HOURLY_KEY], dg.PartitionKeyRange(TEN.partition_key, TEN.partition_key))
    assert reported(instance, HOURLY_KEY, "action")[TEN.partition_key] == ("unchanged",)
    assert out_of_date(definitions, instance) == set()
    report(instance, parquet.key(ALONE, fleet.rules[2]), ELEVEN.partition_key)
    assert out_of_date(definitions, instance) == {ELEVEN.partition_key}
    report(instance, HOURLY_KEY, ELEVEN.partition_key)
    assert DAY in out_of_date(definitions, instance)


def out_of_date(definitions, instance):
    """The partitions of both tables that Dagster shows as not in step with what they are made of."""
    known = CachingStaleStatusResolver(instance, definitions.resolve_asset_graph(), LoadingContextForTest(instance))
    made = [
        (key, partition) for key in (HOURLY_KEY, DAILY_KEY) for partition in instance.get_materialized_partitions(key)
    ]
    return {partition for key, partition in made if known.get_stale_causes(key, partition)}


def test_an_hour_that_cannot_be_read_is_named_and_holds_up_no_other(definitions, fleet, aws, instance):
    for part in ("bucket", "lake_bucket"):
        reconcile(blueprint(fleet)[part].resource, aws)
    for hour in (TEN, ELEVEN):
        key = fleet.rules[0].raw_key(RawName(hour.start_ms, str(uuid.uuid4())))
        aws.s3.put_object(Bucket=fleet.bucket, Key=key, Body=b'{"serial": "297468000001"}')
    hours = dg.PartitionKeyRange(TEN.partition_key, ELEVEN.partition_key)
    compacted(definitions, instance, [parquet.key(ALONE, fleet.rules[0])], hours)
    part = parquet.Lake(None, fleet.parquet_prefix).part_key(fleet.rules[0], TEN, 0)
    aws.s3.put_object(Bucket=fleet.lake_bucket, Key=part, Body=b"PAR1 no more")
    with pytest.raises(
        dg.Failure, match=f"1 of 2 hours failed: {TEN.partition_key}: .*part-00000.parquet.* is damaged"
    ):
        compacted(definitions, instance, [HOURLY_KEY], hours)
    assert set(reported(instance, HOURLY_KEY, "messages")) == {ELEVEN.partition_key}


def test_an_hour_whose_messages_name_no_vehicle_is_said_until_it_is_computed_with_one(fleet, aws, instance):
    fleet = replace(fleet, previews="off")
    for part in ("bucket", "lake_bucket"):
        reconcile(blueprint(fleet)[part].resource, aws)
    for hour, body in ((TEN, b'{"vehicle": {"vin": "A"}}'), *[(ELEVEN, b'{"serial": "B"}')] * 3):
        aws.s3.put_object(
            Bucket=fleet.bucket, Key=fleet.rules[0].raw_key(RawName(hour.start_ms, str(uuid.uuid4()))), Body=body
        )

    def said(fleet, hour):
        definitions = build_definitions(fleet)
        for key in (parquet.key(ALONE, fleet.rules[0]), HOURLY_KEY):
            compacted(definitions, instance, [key], dg.PartitionKeyRange(hour.partition_key, hour.partition_key))
        [record] = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(HOURLY_KEY, NAMED), limit=1
        )
        found = record.event.dagster_event.asset_check_evaluation_data
        return found.passed, found.severity, TEN.partition_key in found.description

    assert said(fleet, TEN) == (False, dg.AssetCheckSeverity.WARN, True)
    assert said(fleet, ELEVEN) == (False, dg.AssetCheckSeverity.WARN, True), "another hour does not clear it"
    assert said(replace(fleet, vehicle_field="vehicle.vin"), TEN)[0]
    shown = [
        set(each.asset_materialization.metadata)
        for each in instance.fetch_materializations(HOURLY_KEY, limit=9).records
    ]
    assert not any("first rows" in metadata for metadata in shown), "previews are off"


def test_an_hour_is_asked_for_again_when_late_messages_were_compacted_and_so_is_its_day(instance):
    definitions = build_definitions(replace(Fleet(), start="2026-11-20"))
    selection = dg.AssetSelection.assets(HOURLY_KEY, DAILY_KEY)
    rules = Fleet().rules

    def asked(cursor=None, now=NOON):
        result = dg.evaluate_automation_conditions(
            defs=definitions, instance=instance, asset_selection=selection, evaluation_time=now, cursor=cursor
        )
        return result.cursor, {key: result.get_requested_partitions(key) for key in (HOURLY_KEY, DAILY_KEY)}

    cursor, first = asked()
    assert first == {HOURLY_KEY: set(), DAILY_KEY: set()}
    report(instance, parquet.key(ALONE, rules[0]), TEN.partition_key)
    cursor, second = asked(cursor)
    assert second == {HOURLY_KEY: {TEN.partition_key}, DAILY_KEY: set()}
    report(instance, HOURLY_KEY, TEN.partition_key)
    cursor, third = asked(cursor)
    assert third == {HOURLY_KEY: set(), DAILY_KEY: {DAY}}
    report(instance, DAILY_KEY, DAY)
    cursor, fourth = asked(cursor)
    assert fourth == {HOURLY_KEY: set(), DAILY_KEY: set()}
    report(instance, parquet.key(ALONE, rules[2]), TEN.partition_key)
    cursor, late = asked(cursor)
    assert late == {HOURLY_KEY: {TEN.partition_key}, DAILY_KEY: set()}
    report(instance, HOURLY_KEY, TEN.partition_key)
    cursor, _ = asked(cursor)
    report(instance, DAILY_KEY, DAY)
    assert asked(cursor, NOON + timedelta(days=2))[1] == first, "an hour that begins asks for nothing"


def compacted(definitions, instance, keys, partitions):
    tags = {
        "dagster/asset_partition_range_start": partitions.start,
        "dagster/asset_partition_range_end": partitions.end,
    }
    job = definitions.get_repository_def().get_implicit_job_def_for_assets(keys)
    assert job.execute_in_process(instance=instance, asset_selection=keys, tags=tags).success


def reported(instance, key, *names):
    records = reversed(instance.fetch_materializations(key, limit=100).records)
    return {
        record.partition_key: tuple(record.asset_materialization.metadata[name].value for name in names)
        for record in records
    }


def report(instance, key, partition):
    instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition))


def test_every_column_of_ours_is_explained():
    assert set(HOURLY.names) | set(DAILY.names) == set(OF_VEHICLES)
    assert {*HEAD.names, EXTRA.name, "rule", "date", "hour"} == set(MEANINGS)
