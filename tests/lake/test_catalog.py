"""The lake's tables in the Glue Data Catalog: made, read back, kept in step with what the lake has recorded."""

import json
import re
import uuid
from dataclasses import replace

import dagster as dg
import pytest
import sqlglot
from aws_calls import watch
from dict_store import DictStore
from in_dagster import ALONE, definitions_of

from fleet_pipeline.assets.catalog import glue_tables
from fleet_pipeline.assets.catalog.checks import NO_CATALOG
from fleet_pipeline.assets.lake import parquet
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.reconcile import Action, plan, reconcile, remove
from fleet_pipeline.lake.catalog.tables import database, ddl, table
from fleet_pipeline.lake.contract import KINDS, Column, Contract
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.model.errors import NotOurs
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.form import Form
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName, Rule

FLEET, HOUR = Fleet(), Hour.parse("2026-11-23-07:00")
RULE = FLEET.rules[0]
IN_STRUCTS = Contract(form=Form("structs"))
IN_STRUCTS = IN_STRUCTS.adding(
    [IN_STRUCTS.column(("Position", "lat"), "double"), IN_STRUCTS.column(("Position", "at", "Time"), "string[]")]
)
RESERVED = Contract(form=Form("structs"))
RESERVED = RESERVED.adding(
    [
        RESERVED.column(path, "double")
        for path in (("select",), ("table", "date"), ("table", "from", "2%-ä"), ("odd.name", "x"))
    ]
)
LEARNT = Contract().adding(
    [Column((f"a_{kind.replace('[]', 's').replace('(20,0)', '')}",), kind) for kind in KINDS if kind != "[]"]
)


@pytest.fixture
def parts():
    return Lake(DictStore(), "lake")


def test_every_kind_of_column_has_a_type_in_glue_under_the_name_that_athena_sees(parts):
    columns = table(
        FLEET, parts, RULE, Contract().adding([*LEARNT.columns.values(), Column(("Speed",), "double")])
    ).columns
    assert list(columns.items())[:3] == [("_key", "string"), ("_ts", "timestamp"), ("_topic", "string")]
    assert list(columns)[-1] == "_extra"
    assert {name: kind for name, kind in columns.items() if name[0] != "_"} == {
        "a_bool": "boolean",
        "a_int64": "bigint",
        "a_double": "double",
        "a_decimal": "decimal(20,0)",
        "a_string": "string",
        "a_bools": "array<boolean>",
        "a_int64s": "array<bigint>",
        "a_doubles": "array<double>",
        "a_decimals": "array<decimal(20,0)>",
        "a_strings": "array<string>",
        "a_json": "string",
        "speed": "double",
    }


@pytest.mark.parametrize("hour", [HOUR, Hour.parse("2026-11-23-23:00")])
def test_projection_computes_the_very_place_of_every_hour(parts, hour):
    rule = Rule("test-rule", "Brakes_2")
    projection = table(replace(FLEET, rule_keys=("Brakes_2",)), parts, rule, Contract()).projection
    digits = int(projection["projection.hour.digits"])
    values = {
        "rule": projection["projection.rule.values"],
        "date": f"{hour.start:%Y-%m-%d}",
        "hour": f"{hour.start.hour:0{digits}d}",
    }
    place = re.sub(r"\$\{(\w+)\}", lambda name: values[name[1]], projection["storage.location.template"])
    assert place == f"s3://{FLEET.lake_bucket}/{parts.partition(rule, hour)}"
    assert projection["projection.date.range"] == f"{FLEET.start},NOW"
    low, high = map(int, projection["projection.hour.range"].split(","))
    assert low <= hour.start.hour <= high


@pytest.mark.parametrize("learnt", [LEARNT, IN_STRUCTS, RESERVED], ids=["columns", "structs", "reserved words"])
def test_the_ddl_says_the_same_in_athenas_words(parts, learnt):
    wanted = table(FLEET, parts, RULE, learnt)
    parsed = sqlglot.parse_one(ddl(wanted), read="athena")
    declared = {
        column.name: column.args["kind"].sql("hive").lower().replace(": ", ":").replace(", ", ",").replace("`", "")
        for column in parsed.this.expressions
    }
    assert declared == wanted.columns
    text = " ".join(ddl(wanted).split())
    assert "PARTITIONED BY (`rule` string, `date` string, `hour` int) STORED AS PARQUET" in text
    assert f"LOCATION '{wanted.location}'" in text
    assert all(f"'{name}' = '{value}'" in text for name, value in wanted.projection.items())


def test_every_name_that_a_vehicle_chose_is_quoted_in_the_ddl(parts):
    text = ddl(table(FLEET, parts, RULE, RESERVED))
    assert "`table` struct<`date`:double,`from`:struct<`2%-ä`:double>>" in text
    assert "`select` double" in text
    odd = replace(
        table(FLEET, parts, RULE, Contract()),
        columns={"a`b": "decimal(20,0)", "s": "struct<a:decimal(20,0),b:array<double>>"},
    )
    assert "`a``b` decimal(20,0),\n  `s` struct<`a`:decimal(20,0),`b`:array<double>>" in ddl(odd)


def test_nested_objects_are_structs_in_glues_words(parts):
    columns = table(FLEET, parts, RULE, IN_STRUCTS).columns
    assert columns["position"] == "struct<at:struct<time:array<string>>,lat:double>"


def test_database_and_table_are_made_left_alone_repaired_and_removed(aws, fleet, parts):
    calls = watch(aws.session)
    base = database(fleet)
    first = table(fleet, parts, fleet.rules[0], Contract())
    assert [reconcile(each, aws).action for each in (base, first)] == [Action.CREATE, Action.CREATE]
    assert (base.read(aws), first.read(aws)) == (base, first)
    calls.made.clear()
    assert [reconcile(each, aws).action for each in (base, first)] == [Action.UNCHANGED, Action.UNCHANGED]
    assert calls.writing == []
    grown = table(fleet, parts, fleet.rules[0], Contract().adding(LEARNT.columns.values()))
    assert [change.field for change in plan(grown, aws).changes] == ["columns"]
    assert reconcile(grown, aws).live == grown
    assert reconcile(replace(base, description="other"), aws).action is Action.UPDATE
    assert [remove(each, aws).action for each in (grown, base)] == [Action.DELETE, Action.DELETE]
    assert (grown.read(aws), base.read(aws)) == (None, None)


def test_a_table_that_others_made_is_not_touched(aws, fleet, parts):
    wanted = table(fleet, parts, fleet.rules[0], Contract())
    aws.glue.create_database(DatabaseInput={"Name": fleet.database})
    aws.glue.create_table(DatabaseName=fleet.database, TableInput={"Name": wanted.name})
    for each in (wanted, database(fleet)):
        with pytest.raises(NotOurs):
            reconcile(each, aws)


def test_the_assets_keep_the_table_in_step_with_the_recorded_schema(aws, fleet):
    for part in ("bucket", "lake_bucket"):
        reconcile(blueprint(fleet)[part].resource, aws)
    rule, instance = fleet.rules[0], dg.DagsterInstance.ephemeral()
    keys = [glue_tables.database_key(ALONE), glue_tables.key(ALONE, rule)]
    job = definitions_of(fleet).get_repository_def().get_implicit_job_def_for_assets(keys)

    def columns_after(**message):
        key = rule.raw_key(RawName(HOUR.start_ms, str(uuid.uuid4())))
        aws.s3.put_object(Bucket=fleet.bucket, Key=key, Body=json.dumps(message).encode())
        compact_hour(
            S3Store(aws, fleet.bucket),
            Lake(S3Store(aws, fleet.lake_bucket), fleet.parquet_prefix, new_column_messages=1),
            rule,
            HOUR,
        )
        assert job.execute_in_process(instance=instance, asset_selection=keys).success
        found = aws.glue.get_table(DatabaseName=fleet.database, Name=rule.key)["Table"]["StorageDescriptor"]["Columns"]
        return {column["Name"]: column["Type"] for column in found if column["Name"][0] != "_"}

    assert columns_after(speed=1.5) == {"speed": "double"}
    assert columns_after(speed=2.5, doors={"open": [1, 2]}) == {"speed": "double", "doors_open": "array<bigint>"}
    metadata = (
        instance.fetch_materializations(glue_tables.key(ALONE, rule), limit=1).records[0].asset_materialization.metadata
    )
    assert (metadata["action"].value, metadata["fields"].value) == ("update", "columns")
    assert "doors_open" in {column.name for column in metadata["dagster/column_schema"].value.columns}


def test_a_check_is_red_while_a_table_is_behind_the_lake_and_green_once_it_was_materialized(aws, fleet):
    for part in ("bucket", "lake_bucket"):
        reconcile(blueprint(fleet)[part].resource, aws)
    rule, instance, repository = (
        fleet.rules[0],
        dg.DagsterInstance.ephemeral(),
        definitions_of(fleet).get_repository_def(),
    )
    parts = Lake(S3Store(aws, fleet.lake_bucket), fleet.parquet_prefix)

    def checked():
        done = (
            repository.get_implicit_job_def_for_assets([glue_tables.key(ALONE, rule)])
            .get_subset(
                asset_selection=set(), asset_check_selection={dg.AssetCheckKey(glue_tables.key(ALONE, rule), "in_step")}
            )
            .execute_in_process(instance=instance)
        )
        (evaluation,) = done.get_asset_check_evaluations()
        return evaluation.passed, evaluation.metadata[
            "fields"
        ].value if "fields" in evaluation.metadata else evaluation.description

    def materialized():
        keys = [glue_tables.database_key(ALONE), glue_tables.key(ALONE, rule)]
        assert (
            repository.get_implicit_job_def_for_assets(keys)
            .execute_in_process(instance=instance, asset_selection=keys)
            .success
        )

    assert checked() == (True, NO_CATALOG)
    materialized()
    assert checked() == (True, "none")
    parts.pin(rule, LEARNT)
    assert checked() == (False, "columns")
    materialized()
    assert checked() == (True, "none")
    parts.next_generation.switch()
    assert not checked()[0]
    materialized()
    assert checked() == (True, "none")
    aws.glue.delete_table(DatabaseName=fleet.database, Name=rule.key)
    assert not checked()[0]


def test_once_there_is_the_database_a_table_follows_when_its_rule_was_compacted():
    definitions, instance = definitions_of(replace(Fleet(), start="2026-11-22")), dg.DagsterInstance.ephemeral()

    def asked(cursor=None):
        keys = dg.AssetSelection.assets(*(glue_tables.key(ALONE, rule) for rule in FLEET.rules))
        result = dg.evaluate_automation_conditions(
            defs=definitions, instance=instance, asset_selection=keys, cursor=cursor
        )
        return result.cursor, {
            rule.key for rule in FLEET.rules if result.get_num_requested(glue_tables.key(ALONE, rule))
        }

    def compacted(hour):
        instance.report_runless_asset_event(dg.AssetMaterialization(parquet.key(ALONE, RULE), partition=hour))

    cursor, first = asked()
    compacted("2026-11-22-10:00")
    cursor, without = asked(cursor)
    assert (first, without) == (set(), set())
    instance.report_runless_asset_event(dg.AssetMaterialization(glue_tables.database_key(ALONE)))
    cursor, made = asked(cursor)
    assert made == {rule.key for rule in FLEET.rules}
    for rule in FLEET.rules:
        instance.report_runless_asset_event(dg.AssetMaterialization(glue_tables.key(ALONE, rule)))
    cursor, done = asked(cursor)
    compacted("2026-11-22-11:00")
    assert (done, asked(cursor)[1]) == (set(), {RULE.key})
