"""What a vehicle's thing is: its name, type, groups and attributes, from what the vehicle says of itself as it registers."""

import json
import os
import re
from dataclasses import replace
from datetime import date

import lambda_function as hook
import pytest
from click.testing import CliRunner
from iam_documents import documents
from test_hook import CLAIM, EXPECTED, FakeThings, request
from test_iam import acting_as, as_the_emulator_checks, at_once, listed

from fleet_pipeline.account import Account
from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cli.main import fleet_command
from fleet_pipeline.cli.vehicle import vehicle
from fleet_pipeline.cloud.blueprint import blueprint, resources
from fleet_pipeline.cloud.claims.certificates import read_claim
from fleet_pipeline.cloud.documents.filled import bulk_template, jitp_template, provisioning_template
from fleet_pipeline.cloud.documents.iam import boundary_policy, provisioner_policies
from fleet_pipeline.cloud.enrolment.hook_log import decisions
from fleet_pipeline.cloud.hardening.review import reviewed
from fleet_pipeline.cloud.kinds.own_ca import registration_code
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations.adopt import adopt
from fleet_pipeline.cloud.operations.apply import apply_all, plan_all
from fleet_pipeline.cloud.operations.cloudformation import cloudformation
from fleet_pipeline.cloud.operations.destroy import destroy
from fleet_pipeline.cloud.reconcile import STACK_TAG, Action, look, reconcile
from fleet_pipeline.local import daemon
from fleet_pipeline.model import settings
from fleet_pipeline.model.errors import InvalidName, InvalidSetting, NotOurs, RegistrationRefused
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.thing import Parameter, ThingTable
from fleet_pipeline.vehicle.authority import VERIFICATION, Authority
from fleet_pipeline.vehicle.identity import Identity
from fleet_pipeline.vehicle.joining import join
from fleet_pipeline.vehicle.registration import register
from fleet_pipeline.virtual_vehicle import tried

VIN = "WVWZZZ1JZXW000001"
SAID = {
    "serial_pattern": "CAR-[0-9]{4,8}",
    "parameters": (
        Parameter(name="Vin", pattern="[A-HJ-NPR-Z0-9]{17}"),
        Parameter(name="Model", pattern="[a-z]{2,12}", required=False, default="unknown"),
    ),
    "thing": ThingTable(
        name="acme:${SerialNumber}",
        type="car",
        groups=("cars", "eu:west"),
        attributes={"vin": "${Vin}", "label": "${Model}/${SerialNumber}", "maker": "acme"},
        billing_group="acme-cars",
    ),
}
FLEET = Fleet(**SAID)


def apply(fleet, aws):
    with Lock(aws, fleet.bucket, "a test") as lock:
        return list(apply_all(fleet, aws, lock))


@pytest.fixture(scope="module")
def account(make_fleet):
    """An account in which a fleet with things of its own has been applied."""
    fleet = make_fleet(**SAID, rule_keys=("rule1",))
    made = Account.of(fleet)
    apply(fleet, made.aws)
    return fleet, made


def registered(account, serial, home, **parameters):
    fleet, made = account
    claim = read_claim(fleet, made.aws)
    return register(
        fleet, made.broker, Identity(claim.certificate_pem, claim.private_key), serial, home, parameters=parameters
    )


def test_a_vehicle_with_a_vin_registers_and_its_thing_is_what_the_settings_say(account, tmp_path):
    fleet, made = account
    vehicle = registered(account, "CAR-0001", tmp_path, Vin=VIN, Model="golf")
    assert vehicle.thing_name == "acme:CAR-0001"
    thing = made.aws.iot.describe_thing(thingName="acme:CAR-0001")
    claim = thing["attributes"].pop("registered_by")
    assert len(claim) == 64
    assert (thing["thingTypeName"], thing["attributes"]) == (
        "car",
        {"vin": VIN, "label": "golf/CAR-0001", "maker": "acme"},
    )
    assert {
        each["groupName"] for each in made.aws.iot.list_thing_groups_for_thing(thingName="acme:CAR-0001")["thingGroups"]
    } == {"cars", "eu:west"}
    assert [each.reason for each in decisions(fleet, made.aws, "CAR-0001")] == ["a new vehicle"]


def test_a_parameter_that_is_not_sent_has_its_default(account, tmp_path):
    registered(account, "CAR-0002", tmp_path, Vin=VIN)
    assert account[1].aws.iot.describe_thing(thingName="acme:CAR-0002")["attributes"]["label"] == "unknown/CAR-0002"


WRONG = {
    "another form": ("CAR-0003", {"Vin": "WVWZZZ1JZXW00000O"}, "the parameter 'Vin' does not match its pattern"),
    "none": ("CAR-0004", {}, "the request does not have the parameter 'Vin'"),
    "one too many": ("CAR-0005", {"Vin": VIN, "Colour": "red"}, "the template does not declare the parameter 'Colour'"),
    "a wrong one that need not be sent": (
        "CAR-0006",
        {"Vin": VIN, "Model": "GOLF"},
        "the parameter 'Model' does not match its pattern",
    ),
    "a serial of the default form": (
        "297468000001",
        {"Vin": VIN},
        "the serial does not match the pattern of the settings",
    ),
}


@pytest.mark.parametrize(("serial", "parameters", "why"), WRONG.values(), ids=WRONG)
def test_a_vehicle_that_says_something_else_is_refused_and_the_reason_is_shown(
    account, tmp_path, serial, parameters, why
):
    fleet, made = account
    with pytest.raises(RegistrationRefused):
        registered(account, serial, tmp_path, **parameters)
    assert [each.reason for each in decisions(fleet, made.aws, serial)] == [why]
    assert [each for each in made.aws.iot.list_things()["things"] if serial in each["thingName"]] == []


@pytest.mark.parametrize(("said", "answer"), [("vin=W", "did you mean Vin?"), ("colour=red", "there are Vin, Model")])
@pytest.mark.parametrize("verb", [("register", "--serial", "CAR-0001"), ("drive", "--vehicles", "1")])
def test_a_parameter_that_no_setting_declares_is_refused_before_anything_is_sent(account, verb, said, answer):
    fleet, _ = account
    with pytest.raises(InvalidName, match=re.escape(answer)):
        vehicle.main([*verb, "--parameter", said], standalone_mode=False, obj=fleet)


def test_the_virtual_vehicle_tries_the_form_of_each_parameter_and_leaves_nothing(account):
    fleet, made = account
    before = len(made.aws.iot.list_things()["things"])
    trials = tried(fleet, made)
    assert [trial for trial in trials if not trial.so] == []
    assert {"a malformed parameter Vin is refused", "a malformed parameter Model is refused"} <= {
        trial.what for trial in trials
    }
    assert len(made.aws.iot.list_things()["things"]) == before


def test_a_second_apply_changes_nothing_and_a_check_finds_nothing(account):
    fleet, made = account
    assert {step.action for step in plan_all(fleet, made.aws)} == {Action.UNCHANGED}
    assert reviewed(fleet, made.aws, date(2026, 11, 29)) == []


def test_type_and_groups_are_planned_repaired_adopted_with_our_tag_and_destroyed_after_the_vehicles(
    aws, fleet, tmp_path
):
    fleet = replace(fleet, **SAID)
    parts = [name for name in blueprint(fleet) if name.startswith(("thing_", "billing_"))]
    assert len(parts) == 4
    for name in parts:
        resource = blueprint(fleet)[name].resource
        assert reconcile(resource, aws).action is Action.CREATE
        assert look(resource, aws).action is Action.UNCHANGED
        aws.iot.tag_resource(resourceArn=resource.arn, tags=[{"Key": "fleet_pipeline:application", "Value": "other"}])
        assert [change.field for change in reconcile(resource, aws).changes] == ["tags"]
        aws.iot.untag_resource(resourceArn=resource.arn, tagKeys=[STACK_TAG])
        with pytest.raises(NotOurs, match="FLEET_THING"):
            reconcile(resource, aws)
    aws.iot.deprecate_thing_type(thingTypeName="car")
    with Lock(aws, fleet.bucket, "a test") as lock:
        reconcile(blueprint(fleet)["bucket"].resource, aws)
        assert len(adopt(fleet, aws, lock)) == 4
    step = reconcile(blueprint(fleet)["thing_type"].resource, aws)
    assert [change.field for change in step.changes] == ["deprecated"]
    apply(fleet, aws)
    account = fleet, Account.of(fleet)
    registered(account, "CAR-0007", tmp_path, Vin=VIN)
    gone = [each.part for each in destroy(fleet, aws, confirmed=fleet.bucket, sleep=at_once) if each.part]
    assert all(gone.index("device_policy") < gone.index(name) for name in parts)
    assert (
        aws.iot.list_thing_types()["thingTypes"],
        aws.iot.list_thing_groups()["thingGroups"],
        aws.iot.list_things()["things"],
    ) == ([], [], [])


def test_a_type_that_aws_keeps_for_five_minutes_is_asked_for_again_until_it_goes(aws, fleet):
    kind = blueprint(replace(fleet, **SAID))["thing_type"].resource
    reconcile(kind, aws)
    fresh, waited = Aws(aws.region, aws.account, aws.endpoint_url), []
    aws.iot.create_thing(thingName="somebodys", thingTypeName="car")

    def wait(seconds):
        waited.append(seconds)
        if len(waited) == 3:
            aws.iot.update_thing(thingName="somebodys", removeThingType=True)

    list(destroy(replace(fleet, **SAID), fresh, confirmed=fleet.bucket, sleep=wait))
    assert waited[:2] == [10, 20]
    assert aws.iot.list_thing_types()["thingTypes"] == []


def test_the_provisioner_makes_and_removes_them_with_its_policies_alone(aws, fleet):
    bound = replace(fleet, **SAID, role_boundary="own")
    someone = acting_as(aws, bound, as_the_emulator_checks(provisioner_policies(bound)["functions"]))
    for name, part in blueprint(bound).items():
        if name.startswith("thing_"):  # the emulator has no billing groups, and so no action for them
            assert reconcile(part.resource, someone, sleep=at_once).action is Action.CREATE
            part.resource.read(someone).delete(someone)


def test_the_names_of_type_and_groups_are_all_that_rights_to_them_speak_of():
    allowed = json.dumps(
        [
            *documents(replace(FLEET, role_boundary="own")).values(),
            *(each.inline for each in resources(blueprint(FLEET)) if hasattr(each, "inline")),
        ]
    )
    for word, names in {"thinggroup": ("cars", "eu:west"), "billinggroup": ("acme-cars",)}.items():
        assert all(f":{word}/{name}" in allowed for name in names)
    statements = {each["Sid"]: each for each in boundary_policy(FLEET)["Statement"]}
    assert listed(statements["IntoTheGroups"]["Action"]) == [
        "iot:AddThingToThingGroup",
        "iot:UpdateThingGroupsForThing",
    ]
    assert ":thing/acme:CAR" not in allowed
    assert ":thing/acme:*" in allowed


def test_with_the_defaults_no_document_speaks_of_them():
    said = json.dumps(
        [
            documents(Fleet(role_boundary="own")),
            provisioning_template(Fleet()),
            jitp_template(Fleet()),
            bulk_template(Fleet()),
        ]
    )
    assert "IntoThe" not in said
    assert not {"ThingTypeName", "BillingGroup"} & set(
        provisioning_template(Fleet())["Resources"]["thing"]["Properties"]
    )
    assert set(blueprint(Fleet())["hook"].resource.environment) == {
        "SERIAL_PREFIX",
        "THING_PREFIX",
        "TEMPLATE_ARN",
        "ALLOW_LIST",
        "PARAMETERS",
        "TEMPORARY_CLAIMS",
    }


def test_each_way_in_makes_the_same_thing_as_far_as_it_knows_the_vehicle():
    fleet = replace(
        FLEET,
        parameters=FLEET.parameters[1:],
        thing=replace(FLEET.thing, attributes={"label": "${Model}/${SerialNumber}"}),
    )
    for template, name in (
        (jitp_template(fleet), "AWS::IoT::Certificate::CommonName"),
        (bulk_template(fleet), "SerialNumber"),
    ):
        thing = template["Resources"]["thing"]["Properties"]
        assert thing["AttributePayload"]["label"] == {"Fn::Join": ["", ["unknown/", {"Ref": name}]]}
        assert (thing["ThingTypeName"], thing["ThingGroups"], thing["BillingGroup"]) == (
            "car",
            ["cars", "eu:west"],
            "acme-cars",
        )


def test_a_vehicle_with_a_certificate_of_an_own_ca_gets_type_groups_and_the_attributes_of_its_serial(
    make_fleet, tmp_path, request
):
    said = replace(SAID["thing"], attributes={"label": "${Model}/${SerialNumber}"})
    made = make_fleet(own_ca="jitr", parameters=SAID["parameters"][1:], thing=said, rule_keys=("rule1",))
    fleet = replace(made, home=str(tmp_path / "home"))  # a server of its own: each knows one CA of a name
    request.addfinalizer(lambda: daemon.stop(tmp_path / "home"))
    account = Account.of(fleet)
    authority = Authority.make(account.home / "ca")
    (account.home / "ca" / VERIFICATION).write_text(authority.issue(registration_code(account.aws)).certificate_pem)
    for resource in resources(blueprint(fleet)):
        reconcile(resource, account.aws)
    vehicle = join(fleet, account.broker, authority, "297468JITR01", tmp_path)
    thing = account.aws.iot.describe_thing(thingName=vehicle.thing_name)
    assert (vehicle.thing_name, thing["thingTypeName"]) == ("acme:297468JITR01", "car")
    assert thing["attributes"] == {"label": "unknown/297468JITR01", "registered_by": vehicle.certificate_id}
    groups = account.aws.iot.list_thing_groups_for_thing(thingName=vehicle.thing_name)["thingGroups"]
    assert {each["groupName"] for each in groups} == {"cars", "eu:west"}


def test_the_exported_template_makes_type_and_groups_before_the_policy_and_the_template():
    template = cloudformation(FLEET)
    made = {each["Type"]: each["Properties"] for each in template["Resources"].values()}
    assert made["AWS::IoT::ThingType"]["ThingTypeName"] == "car"
    assert made["AWS::IoT::BillingGroup"]["BillingGroupName"] == "acme-cars"
    assert "ThingType" in template["Resources"]["DevicePolicy"]["DependsOn"]
    assert template["Metadata"]["NotExported"] == ["claim_certificate"]


def test_the_hook_makes_the_thing_with_its_type_and_billing_group_as_it_reserves_it():
    asked = []

    class Iot:
        exceptions = type("Exceptions", (), {"ResourceAlreadyExistsException": KeyError})

        def create_thing(self, **said):
            asked.append(said)

    properties = hook.thing_properties(blueprint(FLEET)["hook"].resource.environment)
    hook.IotThings(Iot(), properties=properties).create("acme:CAR-0001", {})
    assert asked == [
        {
            "thingName": "acme:CAR-0001",
            "attributePayload": {"attributes": {}},
            "thingTypeName": "car",
            "billingGroupName": "acme-cars",
        }
    ]


@pytest.mark.parametrize(
    "value", ["", "WVWZZZ1JZXW000001\n", " " + VIN, VIN.lower(), "X" * 100_000, "\N{ARABIC-INDIC DIGIT ONE}" * 17]
)
def test_the_whole_value_of_a_parameter_must_match(value):
    expected = replace(EXPECTED, parameters=hook.PARAMETERS | {"Vin"}, patterns={"Vin": ["[A-HJ-NPR-Z0-9]{17}", True]})
    event = request(parameters={"SerialNumber": "297468LISTED01", "Vin": value})
    decision = hook.decide(event, expected, FakeThings(), None)
    assert (decision.allowed, decision.reason) == (False, "the parameter 'Vin' does not match its pattern")
    assert hook.decide(
        request(parameters={"SerialNumber": "297468LISTED01", "Vin": VIN}), expected, FakeThings(), None
    ).allowed
    assert CLAIM not in decision.reason


BAD = {
    "name without a serial": ("[thing]\nname = 'car'", "thing.name"),
    "name without a beginning": ("[thing]\nname = '${SerialNumber}'", "thing.name"),
    "name with an end": ("[thing]\nname = 'car-${SerialNumber}-x'", "thing.name"),
    "an unknown field": ("[thing]\ncolour = 'red'", "thing.colour"),
    "an attribute of the hook's": ("[thing]\nattributes = {registered_by = 'me'}", "thing.attributes"),
    "an attribute that AWS would not take": ("[thing]\nattributes = {label = 'a b'}", "thing.attributes.label"),
    "a parameter that is not declared": ("[thing]\nattributes = {vin = '${Vin}'}", "thing.attributes.vin"),
    "more attributes than AWS takes without a type": ("[thing]\nattributes = {a = '1', b = '2'}", "thing.attributes"),
    "one group twice": ("[thing]\ngroups = ['a', 'a']", "thing.groups"),
    "a parameter of the hook's": ("[parameters.SerialNumber]\npattern = '[0-9]'", "parameters.SerialNumber.name"),
    "no pattern": ("[parameters.Vin]\nrequired = true", "parameters.Vin"),
    "a slow pattern": ("[parameters.Vin]\npattern = '(a+)+'", "parameters.Vin.pattern"),
    "a default of one that is required": (
        "[parameters.Vin]\npattern = '[0-9]{3}'\ndefault = '000'",
        "parameters.Vin.default",
    ),
    "no default of one that is not required": (
        "[parameters.Vin]\npattern = '[0-9]{3}'\nrequired = false",
        "parameters.Vin.default",
    ),
    "a required one with a CA of its own": (
        "own_ca = 'jitr'\n[parameters.Vin]\npattern = '[0-9]{3}'",
        "FLEET_PARAMETERS",
    ),
    "a required one in bulk": ("bulk_registration = 'on'\n[parameters.Vin]\npattern = '[0-9]{3}'", "FLEET_PARAMETERS"),
    "a serial that no thing's name takes": ("serial_pattern = '[a-z/]{9}'", "FLEET_SERIAL_PATTERN"),
    "a serial that is too short": ("serial_pattern = '[0-9]{3}'", "FLEET_SERIAL_PATTERN"),
    "a serial that is too long": ("serial_pattern = '[0-9]{61}'", "FLEET_SERIAL_PATTERN"),
    "a slow serial": ("serial_pattern = '[0-9]+'", "FLEET_SERIAL_PATTERN"),
}


@pytest.mark.parametrize(("text", "named"), BAD.values(), ids=BAD)
def test_what_makes_no_sense_is_named_by_its_place_before_any_call(tmp_path, text, named):
    (tmp_path / "fleet.toml").write_text(text)
    with pytest.raises(InvalidSetting) as refused:
        settings.read_fleet({}, tmp_path / "fleet.toml")
    assert refused.value.setting == named


FILE = """
serial_pattern = "CAR-[0-9]{4,8}"

[parameters.Vin]
pattern = "[A-HJ-NPR-Z0-9]{17}"

[parameters.Model]
pattern = "[a-z]{2,12}"
required = false
default = "unknown"

[thing]
name = "acme:${SerialNumber}"
type = "car"
groups = ["cars", "eu:west"]
attributes = { vin = "${Vin}", label = "${Model}/${SerialNumber}", maker = "acme" }
billing_group = "acme-cars"
"""


def test_file_variables_and_attributes_say_the_same_fleet(tmp_path):
    (tmp_path / "fleet.toml").write_text(FILE)
    fleet = settings.read_fleet({}, tmp_path / "fleet.toml")
    assert replace(fleet, home=FLEET.home, start=FLEET.start) == FLEET
    assert settings.read_fleet(dict(settings.values(fleet)), tmp_path / "other.toml") == fleet
    attributes = {
        "serial_pattern": "CAR-[0-9]{4,8}",
        "thing": {"type": "car"},
        "parameters": [{"name": "Vin", "pattern": "[0-9]{3}"}],
    }
    assert settings.of_attributes(attributes, tmp_path).thing.type == "car"


def test_made_up_vehicles_send_the_examples_one_after_another_where_the_settings_have_some():
    vins = ("WVWZZZ1JZXW000001", "WVWZZZ1JZXW000002")
    fleet = replace(
        FLEET,
        parameters=(
            Parameter(name="Vin", pattern="[A-HJ-NPR-Z0-9]{17}", examples=vins),
            Parameter(name="Model", pattern="[a-z]{2,12}", required=False, default="unknown", examples=("golf",)),
        ),
    )
    assert [fleet.made_up_parameters(number) for number in (1, 2, 3)] == [
        {"Vin": vins[0], "Model": "golf"},
        {"Vin": vins[1], "Model": "golf"},
        {"Vin": vins[0], "Model": "golf"},
    ]
    with pytest.raises(InvalidSetting, match=r"examples\[1\]"):
        Parameter(name="Vin", pattern="[0-9]{3}", examples=("123", "12"))


def test_a_vehicle_that_is_registered_already_is_named_as_such_and_so_is_what_was_not_sent(
    account, tmp_path, monkeypatch
):
    fleet, _ = account
    monkeypatch.chdir(tmp_path)
    env = {**os.environ, **dict(settings.values(fleet)), "COLUMNS": "200"}

    def run(*parameters):
        wanted = ["vehicle", "register", "--serial", "CAR-0777", *(f"--parameter={each}" for each in parameters)]
        result = CliRunner().invoke(fleet_command, wanted, env=env)
        assert result.exit_code == 0, result.output
        return result.output

    assert "registered acme:CAR-0777, certificate" in run(f"Vin={VIN}")
    assert "is registered already" in run()
    assert "Nothing was sent" not in run()
    again = run("Vin=WVWZZZ1JZXW000002")
    assert "Nothing was sent, so Vin=WVWZZZ1JZXW000002 changed nothing" in again
    assert "fleet vehicle allow --replace --serial CAR-0777" in again


def test_vehicles_that_drive_send_what_is_said_each_the_next(account, tmp_path, monkeypatch):
    fleet, made = account
    monkeypatch.chdir(tmp_path)
    env = {**os.environ, **dict(settings.values(fleet)), "COLUMNS": "200"}
    vins = ("WVWZZZ1JZXW000011", "WVWZZZ1JZXW000012")
    wanted = ["vehicle", "drive", "--messages", "1", "--serial", "CAR-0801", "--serial", "CAR-0802"]
    result = CliRunner().invoke(fleet_command, [*wanted, *(f"--parameter=Vin={vin}" for vin in vins)], env=env)
    assert result.exit_code == 0, result.output
    things = [made.aws.iot.describe_thing(thingName=f"acme:CAR-080{number}") for number in (1, 2)]
    assert [each["attributes"]["vin"] for each in things] == [*vins]


def test_a_second_fleet_of_the_account_with_the_same_name_of_things_takes_no_vehicle_over(
    account, make_fleet, tmp_path
):
    fleet, made = account
    registered(account, "CAR-0900", tmp_path / "first", Vin=VIN)
    second = replace(
        fleet,
        environment="other",
        bucket=f"{fleet.bucket}-2",
        lake_bucket="",
        raw_prefix="second",
        thing=ThingTable(name=fleet.thing.name),
    )
    apply(second, made.aws)
    try:
        before = made.aws.iot.describe_thing(thingName="acme:CAR-0900")["version"]
        principals = made.aws.iot.list_thing_principals(thingName="acme:CAR-0900")["principals"]
        with pytest.raises(RegistrationRefused):
            registered((second, made), "CAR-0900", tmp_path / "second", Vin=VIN)
        assert decisions(second, made.aws, "CAR-0900")[-1].reason.startswith("a thing of this serial exists")
        assert made.aws.iot.describe_thing(thingName="acme:CAR-0900")["version"] == before
        assert made.aws.iot.list_thing_principals(thingName="acme:CAR-0900")["principals"] == principals
        list(destroy(second, made.aws, confirmed=second.bucket, sleep=at_once))
        assert made.aws.iot.list_thing_principals(thingName="acme:CAR-0900")["principals"] == principals
    finally:
        list(destroy(second, made.aws, confirmed=second.bucket, with_data=True, sleep=at_once))


def test_made_up_vehicles_are_of_the_form_and_each_is_another():
    serials = [FLEET.made_up_serial(number) for number in range(1, 200)]
    assert len(set(serials)) == 199
    assert serials[0] == "CAR-0001"
    assert FLEET.made_up_parameters(1).keys() == {"Vin"}
    assert Fleet().made_up_serial(1) == "297468000001"
