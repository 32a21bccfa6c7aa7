"""A fleet that is described by YAML."""

import traceback
from dataclasses import fields

import dagster as dg
import pytest
from dagster.components.testing import create_defs_folder_sandbox

from fleet_pipeline import Fleet, FleetComponent, build_definitions, component
from fleet_pipeline.model import settings
from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.rule_table import RuleTable

PROD = {
    "environment": "prod",
    "bucket": "acme-{{ 1 + 1 }}",
    "rule_keys": ["engine"],
    "key_prefix": ["prod"],
    "grace_minutes": 7,
    "automation": False,
}


def loaded(attributes):
    with create_defs_folder_sandbox() as sandbox:
        contents = {"type": "fleet_pipeline.FleetComponent", "attributes": attributes}
        path = sandbox.scaffold_component(component_cls=FleetComponent, defs_yaml_contents=contents)
        with sandbox.load_component_and_build_defs(defs_path=path) as (_, definitions):
            return definitions


def refusal(attributes):
    """All that is said where a defs.yaml is refused, from the outermost error to the innermost."""
    with pytest.raises(Exception, match="FleetComponent") as error:
        loaded(attributes)
    chain, said = error.value, []
    while chain:
        said.append(str(chain))
        chain = chain.__cause__ or chain.__context__
    return "\n".join(said)


def keys(definitions):
    return {key.to_user_string() for key in definitions.get_repository_def().asset_graph.get_all_asset_keys()}


def test_what_is_scaffolded_loads_as_it_is_and_is_the_fleet_of_the_defaults():
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(component_cls=FleetComponent)
        with sandbox.load_component_and_build_defs(defs_path=path) as (_, definitions):
            assert keys(definitions) == keys(build_definitions(Fleet()))


def test_attributes_are_the_settings_with_template_variables_and_the_arguments_of_build_definitions():
    definitions = loaded(PROD)
    assert {"prod/lake/engine", "prod/provisioning/topic_rule_engine"} <= keys(definitions)
    assert all(key.startswith("prod/") for key in keys(definitions))
    schedule = next(each for each in definitions.schedules if each.name == "prod_compact_closed_hours")
    assert (schedule.cron_schedule, schedule.default_status) == ("7 * * * *", dg.DefaultScheduleStatus.STOPPED)
    assert definitions.resources["prod_fleet_lock"].bucket == "acme-2"


def test_a_prefix_may_be_one_word():
    assert all(key.startswith("prod/") for key in keys(loaded({"key_prefix": "prod"})))


def test_each_setting_is_an_attribute_that_says_its_meaning_and_its_default():
    schema = FleetComponent.get_model_cls().model_json_schema()["properties"]
    said = {name: (default, meaning) for name, default, meaning, _ in settings.defaults()}
    assert set(said) == set(schema) - {"key_prefix"}
    for name, (default, meaning) in said.items():
        if name == "automation":  # true or false, as YAML takes `on` for true
            continue
        if not isinstance(default, tuple | dict):  # Dagster shows no default of a list or a table
            assert schema[name]["default"] == default
        assert schema[name]["description"] == meaning


def test_a_rule_is_a_table_whose_fields_the_schema_shows():
    schema = FleetComponent.get_model_cls().model_json_schema()["$defs"]["RuleTable"]
    assert set(schema["properties"]) == {each.name for each in fields(RuleTable)}
    assert all(schema["properties"][each.name]["description"] == each.metadata["meaning"] for each in fields(RuleTable))


def test_a_rule_of_an_attribute_is_the_rule_of_the_file():
    sql = "SELECT * FROM 'vehicles/+/status' WHERE speed_kmh > {{ 10 * 3 }}"
    definitions = loaded(
        {"rule_keys": [], "rules": [{"key": "status", "sql": sql, "publish": ["vehicles/{thing}/status"]}]}
    )
    assert {"raw/status", "lake/status", "provisioning/topic_rule_status"} <= keys(definitions)
    assert (
        "vehicles/+/status"
        in definitions.get_repository_def().asset_graph.get(dg.AssetKey(["raw", "status"])).description
    )


def test_parameters_are_tables_by_name_as_in_the_file_or_tables_that_say_it(monkeypatch):
    fleets = []
    monkeypatch.setattr(
        component, "build_definitions", lambda fleet, **how: fleets.append(fleet) or build_definitions(fleet, **how)
    )
    pattern = "[A-HJ-NPR-Z0-9]{17}"
    loaded({"parameters": {"Vin": {"pattern": pattern}}})
    loaded({"parameters": [{"name": "Vin", "pattern": pattern}]})
    assert [[(each.name, each.pattern) for each in fleet.parameters] for fleet in fleets] == [[("Vin", pattern)]] * 2


WRONG = {
    "a rule's topic": (
        {"rules": [{"key": "a", "topic": "v/x+"}]},
        "setting rules[0].topic is 'v/x+': + stands for a whole level",
    ),
    "profile: name the account": (
        {"profile": "aws"},
        "setting account: with profile=aws, name the account that is meant",
    ),
    "a bucket that is none": ({"bucket": "No"}, "setting bucket is 'No': a bucket's name"),
    "too many minutes": ({"grace_minutes": 70}, "setting grace_minutes is 70"),
    "one bucket for both": (
        {"bucket": "abc", "lake_bucket": "abc"},
        "setting lake_bucket is 'abc': the lake needs a bucket of its own, apart from bucket",
    ),
}


@pytest.mark.parametrize(("attributes", "said"), WRONG.values(), ids=WRONG)
def test_a_value_that_makes_no_sense_is_named_by_its_attribute(attributes, said):
    assert said in refusal(attributes)


@pytest.mark.parametrize(
    "attributes",
    [
        {"numbers": "roman"},
        {"grace_minutes": "soon"},
        {"rule_keys": "rule1"},
        {"rules": [{"topik": "v"}]},
        {"bukket": "x"},
    ],
)
def test_an_attribute_of_another_type_or_name_is_refused_before_anything_is_made(attributes):
    assert next(iter(attributes)) in refusal(attributes)


OF_ANOTHER_TYPE = {
    "no number": ({"grace_minutes": "soon"}, "setting grace_minutes is 'soon': input should be a valid integer"),
    "no choice": ({"numbers": "roman"}, "setting numbers is 'roman': input should be 'double' or 'exact'"),
}


@pytest.mark.parametrize(
    ("attributes", "said"), [*WRONG.values(), *OF_ANOTHER_TYPE.values()], ids=[*WRONG, *OF_ANOTHER_TYPE]
)
def test_the_error_that_dagster_shows_last_is_the_sentence_alone_without_our_calls(attributes, said):
    with pytest.raises(Exception, match="FleetComponent") as error:
        loaded(attributes)
    innermost = error.value
    while shown := innermost.__cause__ or (None if innermost.__suppress_context__ else innermost.__context__):
        innermost = shown
    assert isinstance(innermost, InvalidSetting)
    assert str(innermost).startswith(said), innermost
    ours = [each for each in traceback.extract_tb(innermost.__traceback__) if "/fleet_pipeline/" in each.filename]
    assert [each.line for each in ours] == ["raise refusal"]
