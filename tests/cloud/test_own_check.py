"""A check of the company's own in the hook: asked after ours, trusted with nothing, packed with what it requires, and tried before it is applied."""

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import just_in_time
import lambda_function as hook
import own
import pytest
from click.testing import CliRunner
from iam_documents import documents
from test_hook import EXPECTED, LISTED, FakeThings, request

from fleet_pipeline.account import Account
from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cli.main import fleet_command
from fleet_pipeline.cloud import own_check
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.claims.certificates import read_claim
from fleet_pipeline.cloud.enrolment.hook_log import decisions
from fleet_pipeline.cloud.hook_trial import HookAnswer, asked
from fleet_pipeline.cloud.kinds.function import HOOK_FOLDER, zipped
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations.apply import apply_all, plan_all
from fleet_pipeline.cloud.operations.cloudformation import cloudformation
from fleet_pipeline.cloud.reconcile import Action, reconcile
from fleet_pipeline.model import settings
from fleet_pipeline.model.company import HOOKS_OWN
from fleet_pipeline.model.errors import InvalidSetting, RegistrationRefused
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.thing import Parameter, ThingTable
from fleet_pipeline.vehicle.identity import Identity
from fleet_pipeline.vehicle.registration import register
from fleet_pipeline.virtual_vehicle import tried

SOURCE = """
import os

from acme_vins import known


def verify(serial, parameters, context):
    if not known(parameters["Vin"], os.environ["PLANT"]):
        return f"no car of this VIN was built in {os.environ['PLANT']}"
    return True
"""
LIBRARY = "def known(vin, plant):\n    return vin.startswith('WVW') and plant == 'wolfsburg'\n"
VIN, OTHERS = "WVWZZZ1JZXW000001", "1HGCM82633A004352"
ANSWERS = {
    "True": (lambda *_: True, ""),
    "False": (lambda *_: False, "the company's check says no"),
    "a reason": (lambda *_: "unknown car", "the company's check says: 'unknown car'"),
    "an empty reason": (lambda *_: "", "the company's check says: ''"),
    "nothing": (lambda *_: None, "the company's check answered with NoneType, which is neither True nor a reason"),
    "1": (lambda *_: 1, "the company's check answered with int, which is neither True nor a reason"),
    "a text that says true": (lambda *_: "true", "the company's check says: 'true'"),
    "an exception": (lambda *_: 1 / 0, "the company's check failed: ZeroDivisionError"),
    "an end of the process": (lambda *_: sys.exit(0), "the company's check failed: SystemExit"),
    "too many arguments": (lambda _: True, "the company's check failed: TypeError"),
    "a hostile reason": (
        lambda *_: "\x1b[2J\n" + "x" * 500,
        "the company's check says: " + ascii("\x1b[2J\n" + "x" * 500)[:200],
    ),
}


def refusal_of(verify, hidden=()):
    return lambda serial, parameters, context: own._asked(verify, serial, parameters, context, [*hidden])


@pytest.mark.parametrize(("verify", "said"), ANSWERS.values(), ids=ANSWERS)
def test_only_true_lets_a_vehicle_in_and_every_other_answer_has_its_reason(verify, said):
    things = FakeThings()
    decision = hook.decide(request(), EXPECTED, things, None, refused=refusal_of(verify))
    assert (decision.allowed, decision.reason) == ((True, "a new vehicle") if not said else (False, said))
    assert bool(things.things) is not bool(said), "a vehicle that is refused reserves no thing"


def test_what_an_exception_says_is_not_logged_and_settings_are_left_out_of_a_reason():
    def leak(*_):
        raise ConnectionError("postgresql://fleet:hunter22@db")

    assert "hunter22" not in refusal_of(leak)("s", {}, {})
    said = refusal_of(
        lambda *_: "cannot reach postgresql://fleet:hunter22@db at once", ["postgresql://fleet:hunter22@db"]
    )("s", {}, {})
    assert "hunter22" not in said
    assert "cannot reach" in said


def test_it_is_asked_after_the_hooks_own_checks_alone():
    asked_of = []

    def note(serial, parameters, context):
        asked_of.append((serial, parameters, set(context)))
        return True

    for wrong in (
        request("999999000001"),
        request(templateArn="another"),
        request(claimCertificateId="f" * 64),
        request(parameters={"SerialNumber": LISTED, "x": "y"}),
    ):
        assert not hook.decide(wrong, EXPECTED, FakeThings(), None, refused=refusal_of(note)).allowed
    assert asked_of == []
    assert hook.decide(request(), EXPECTED, FakeThings(), None, refused=refusal_of(note)).allowed
    assert asked_of == [(LISTED, {"SerialNumber": LISTED}, {"clientId", "claimCertificateId", "certificateId"})]


def test_just_in_time_registration_asks_it_too():
    certificate = {"status": "PENDING_ACTIVATION", "certificateId": "d" * 64}
    said = just_in_time.decide(
        LISTED,
        certificate,
        {"SERIAL_PREFIX": "297468", "THING_PREFIX": "test-thing-"},
        FakeThings(),
        None,
        refusal_of(lambda *_: False),
    )
    assert (said.allowed, said.reason) == (False, "the company's check says no")


def wheel(folder):
    """Make a package that the check requires, as a wheel, so that it is installed without a network."""
    name, files = folder / "acme_vins-1.0-py3-none-any.whl", {
        "acme_vins.py": LIBRARY,
        "acme_vins-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: acme-vins\nVersion: 1.0\n",
        "acme_vins-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }  # fmt: skip
    lines = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}"
        for path, text in files.items()
    ]
    with zipfile.ZipFile(name, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(
            "acme_vins-1.0.dist-info/RECORD", "\n".join([*lines, "acme_vins-1.0.dist-info/RECORD,,"]) + "\n"
        )


def with_check(fleet, folder, source=SOURCE):
    """Return the fleet with a check that requires a package of the company's."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "checks.py").write_text(source)
    wheel(folder)
    (folder / "requirements.txt").write_text(f"--no-index\n--find-links {folder}\nacme-vins==1.0\n")
    return replace(
        fleet,
        hook_file=str(folder / "checks.py"),
        hook_requirements=str(folder / "requirements.txt"),
        hook_environment=(("PLANT", "wolfsburg"),),
        parameters=(Parameter(name="Vin", pattern="[A-HJ-NPR-Z0-9]{17}"),),
        rule_keys=("rule1",),
    )


@pytest.fixture(scope="module")
def account(make_fleet, tmp_path_factory):
    """An account in which a fleet with a check of its own has been applied."""
    fleet = with_check(make_fleet(), tmp_path_factory.mktemp("company"))
    own_check.vendor(fleet)
    made = Account.of(fleet)
    with Lock(made.aws, fleet.bucket, "a test") as lock:
        list(apply_all(fleet, made.aws, lock))
    return fleet, made


def test_a_vehicle_that_the_check_knows_registers_and_another_is_refused_with_the_checks_reason(account, tmp_path):
    fleet, made = account
    claim = read_claim(fleet, made.aws)
    identity = Identity(claim.certificate_pem, claim.private_key)
    assert (
        register(fleet, made.broker, identity, "297468000001", tmp_path, parameters={"Vin": VIN}).thing_name
        == "test-thing-297468000001"
    )
    with pytest.raises(RegistrationRefused):
        register(fleet, made.broker, identity, "297468000002", tmp_path, parameters={"Vin": OTHERS})
    [said] = decisions(fleet, made.aws, "297468000002")
    assert said.reason == "the company's check says: " + ascii("no car of this VIN was built in …")
    assert [each["thingName"] for each in made.aws.iot.list_things()["things"]] == ["test-thing-297468000001"]


def test_a_second_apply_changes_nothing_and_another_source_is_an_update_of_the_code(account, tmp_path):
    fleet, made = account
    assert {step.action for step in plan_all(fleet, made.aws)} == {Action.UNCHANGED}
    (tmp_path / "checks.py").write_text(SOURCE + "\n# another\n")
    [changed] = [
        step
        for step in plan_all(replace(fleet, hook_file=str(tmp_path / "checks.py")), made.aws)
        if step.action is not Action.UNCHANGED
    ]
    assert [change.field for change in changed.changes] == ["code_sha256"]


def test_the_zip_is_the_same_bytes_wherever_it_is_packed_and_holds_no_traces_of_an_installer(tmp_path):
    first, second = (with_check(Fleet(home=str(tmp_path / name / "home")), tmp_path / name) for name in ("one", "two"))
    for fleet in (first, second):
        (Path(own_check.vendor(fleet)) / "__pycache__").mkdir(exist_ok=True)
        (own_check.vendor(fleet) / "__pycache__" / "acme_vins.cpython-311.pyc").write_bytes(os.urandom(9))
    assert own_check.code(first) == own_check.code(second)
    names = zipfile.ZipFile(io.BytesIO(own_check.code(first))).namelist()
    assert [name for name in names if name.startswith(("vendor/", "own_check"))] == [
        "own_check.py", "vendor/acme_vins-1.0.dist-info/METADATA", "vendor/acme_vins-1.0.dist-info/WHEEL", "vendor/acme_vins.py",
    ]  # fmt: skip
    assert own_check.code(Fleet()) == zipped(HOOK_FOLDER)


EVENTS = {
    "a car that it knows": ({"SerialNumber": "297468000009", "Vin": VIN}, HookAnswer(True, "a new vehicle")),
    "a car that it does not": (
        {"SerialNumber": "297468000009", "Vin": OTHERS},
        HookAnswer(False, "the company's check says: " + ascii("no car of this VIN was built in …")),
    ),
    "a wrong serial": (
        {"SerialNumber": "1", "Vin": VIN},
        HookAnswer(False, "the serial is not 297468 and 6 to 26 of 0-9 and A-Z"),
    ),
    "no VIN": ({"SerialNumber": "297468000009"}, HookAnswer(False, "the request does not have the parameter 'Vin'")),
}


@pytest.mark.parametrize(("parameters", "answer"), EVENTS.values(), ids=EVENTS)
def test_a_trial_answers_as_the_hook_would_and_leaves_nothing(account, parameters, answer):
    fleet, made = account
    before = made.aws.iot.list_things()["things"]
    assert asked(fleet, made.aws, {"parameters": parameters}) == answer
    assert made.aws.iot.list_things()["things"] == before


BROKEN = {
    "an import that fails": ("import nothing_of_this_name\ndef verify(serial, parameters, context):\n    return True\n", "cannot be loaded: ModuleNotFoundError"),
    "an end as it is loaded": ("import os\nos._exit(3)\ndef verify(serial, parameters, context):\n    return True\n", "ended without an answer"),
    "an answer that never comes": (
        "import time\ndef verify(serial, parameters, context):\n    time.sleep(60)\n    return True\n", "AWS, or the company's check, did not answer the hook within 3.5 s"
    ),
    "a wish to change the hook": (
        "import things\ndef verify(serial, parameters, context):\n    things.IotThings.describe = None\n    return 'no'\n", "the company's check says: 'no'"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("source", "why"), BROKEN.values(), ids=BROKEN)
def test_a_check_that_is_broken_lets_nobody_in_and_the_trial_says_why(account, tmp_path, source, why):
    fleet, made = account
    (tmp_path / "checks.py").write_text(source)
    answer = asked(
        replace(fleet, hook_file=str(tmp_path / "checks.py")),
        made.aws,
        {"parameters": {"SerialNumber": "297468000009", "Vin": VIN}},
    )
    assert not answer.allowed
    assert why in answer.reason


def test_the_command_shows_the_answer_and_exits_with_it(account, tmp_path, monkeypatch):
    fleet, _ = account
    monkeypatch.chdir(tmp_path)
    env = {**os.environ, **dict(settings.values(fleet)), "COLUMNS": "200"}
    for vin, code, word in ((VIN, 0, "allowed: a new vehicle"), (OTHERS, 1, "refused: the company's check says")):
        (tmp_path / "event.json").write_text(json.dumps({"parameters": {"SerialNumber": "297468000009", "Vin": vin}}))
        result = CliRunner().invoke(fleet_command, ["hook", "test", "event.json"], env=env)
        assert (result.exit_code, word in result.output) == (code, True), result.output
    assert "installed in" in CliRunner().invoke(fleet_command, ["hook", "vendor"], env=env).output


def test_before_the_first_apply_the_check_is_asked_all_the_same_and_the_command_says_what_was_made_up(
    make_fleet, tmp_path, monkeypatch
):
    (tmp_path / "checks.py").write_text("def verify(serial, parameters, context):\n    return 'not this one'\n")
    fleet = make_fleet(hook_file=str(tmp_path / "checks.py"), rule_keys=("rule1",))
    aws, event = Account.of(fleet).aws, {"parameters": {"SerialNumber": "297468000009"}}
    assert asked(fleet, aws, event) == HookAnswer(False, "the company's check says: 'not this one'", claim_made_up=True)
    assert asked(replace(fleet, hook_file=""), aws, event) == HookAnswer(True, "a new vehicle", claim_made_up=True)
    named = asked(fleet, aws, {**event, "claimCertificateId": "a" * 64})
    assert named == HookAnswer(False, "the claim certificate was deleted, or was lent more than five minutes ago")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "event.json").write_text(json.dumps(event))
    env = {**os.environ, **dict(settings.values(fleet)), "COLUMNS": "200"}
    result = CliRunner().invoke(fleet_command, ["hook", "test", "event.json"], env=env)
    assert "no claim certificate yet (`fleet apply` makes it)" in result.output


KNOWS_ITS_CARS = """
def verify(serial, parameters, context):
    return parameters["Vin"] in {"WVWZZZ1JZXW000001", "WVWZZZ1JZXW000002"} or "no car of this VIN was built"
"""


def test_a_check_that_lets_no_made_up_vehicle_in_is_not_taken_for_a_fault_and_examples_let_it_be_tried(
    make_fleet, tmp_path
):
    (tmp_path / "checks.py").write_text(KNOWS_ITS_CARS)
    vin = Parameter(name="Vin", pattern="[A-HJ-NPR-Z0-9]{17}")
    fleet = make_fleet(hook_file=str(tmp_path / "checks.py"), parameters=(vin,), rule_keys=("rule1",))
    made = Account.of(fleet)
    with Lock(made.aws, fleet.bucket, "a test") as lock:
        list(apply_all(fleet, made.aws, lock))
    [foreign, malformed, registers] = tried(fleet, made)
    assert [foreign.outcome, malformed.outcome, registers.outcome] == [
        "as it should be",
        "as it should be",
        "not tried",
    ]
    assert "the company's check says: 'no car of this VIN was built'" in registers.said
    assert "`examples` of [parameters" in registers.said
    known = replace(fleet, parameters=(replace(vin, examples=("WVWZZZ1JZXW000001", "WVWZZZ1JZXW000002")),))
    assert {each.outcome for each in tried(known, made)} == {"as it should be"}
    made.aws.functions.delete_function(FunctionName=fleet.hook_name)
    [*_, registers] = tried(known, made)
    assert registers.outcome == "wrong", "a hook that is gone is no check of the company's"


REFUSED = {
    "no file": ({"hook_file": "nowhere.py"}, "FLEET_HOOK_FILE", "cannot be read"),
    "no Python": ({"source": "def verify(:\n"}, "FLEET_HOOK_FILE", "Python cannot read it"),
    "no function": (
        {"source": "def check(serial):\n    return True\n"},
        "FLEET_HOOK_FILE",
        "it needs a function `verify",
    ),
    "a function of other arguments": (
        {"source": "def verify(serial):\n    return True\n"},
        "FLEET_HOOK_FILE",
        "it needs a function `verify",
    ),
    "requirements that are not installed": ({}, "FLEET_HOOK_REQUIREMENTS", "run `fleet hook vendor`"),
    "no file of requirements": ({"hook_requirements": "nowhere.txt"}, "FLEET_HOOK_REQUIREMENTS", "cannot be read"),
}


@pytest.mark.parametrize(("changed", "setting", "why"), REFUSED.values(), ids=REFUSED)
def test_a_check_that_could_not_be_asked_is_refused_before_any_call(tmp_path, changed, setting, why):
    source = changed.pop("source", SOURCE) if "source" in changed else SOURCE
    fleet = replace(with_check(Fleet(home=str(tmp_path / "home")), tmp_path, source), **changed)
    with pytest.raises(InvalidSetting, match=why) as refused:
        blueprint(fleet)
    assert refused.value.setting == setting


def test_requirements_that_cannot_be_installed_leave_nothing_behind(tmp_path):
    fleet = with_check(Fleet(home=str(tmp_path / "home")), tmp_path)
    (tmp_path / "requirements.txt").write_text(f"--no-index\n--find-links {tmp_path}\nacme-vins==9.9\n")
    with pytest.raises(InvalidSetting, match="cannot be installed") as refused:
        own_check.vendor(fleet)
    assert "acme-vins" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert [*(tmp_path / "home" / "hook").iterdir()] == []


def test_files_that_the_settings_name_are_found_from_every_folder(tmp_path, monkeypatch):
    (tmp_path / "fleet.toml").write_text(
        'hook_file = "checks.py"\nhook_requirements = "requirements.txt"\n[hook_environment]\nPLANT = "wolfsburg"\n'
    )
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    fleet = settings.read_fleet({}, tmp_path / "fleet.toml")
    assert (fleet.hook_file, fleet.hook_requirements) == (
        str(tmp_path / "checks.py"),
        str(tmp_path / "requirements.txt"),
    )
    assert fleet.hook_environment == (("PLANT", "wolfsburg"),)


def test_with_jitp_nobody_would_be_asked_so_it_is_refused():
    with pytest.raises(InvalidSetting, match="choose jitr"):
        Fleet(hook_file="checks.py", own_ca="jitp")


def test_its_variables_hide_none_of_the_hooks(tmp_path):
    fleet = with_check(Fleet(home=str(tmp_path / "home")), tmp_path)
    own_check.vendor(fleet)
    fleet = replace(fleet, thing=ThingTable(type="car", billing_group="cars"), serial_pattern="[0-9]{6}")
    environment = set(blueprint(fleet)["hook"].resource.environment)
    assert environment - {"PLANT"} <= HOOKS_OWN
    assert HOOKS_OWN - environment == {"ATTRIBUTES", "CA_CERTIFICATE_ID", "DEVICE_POLICY", "THING_GROUPS"}
    for name in (*HOOKS_OWN, "AWS_REGION", "PYTHONPATH"):
        with pytest.raises(InvalidSetting, match="FLEET_HOOK_ENVIRONMENT"):
            replace(fleet, hook_environment=((name, "x"),))


SUBNETS, GROUPS = ("subnet-0123456789abcdef0", "subnet-0123456789abcdef1"), ("sg-0123456789abcdef0",)


def test_a_vpc_is_planned_repaired_and_exported_with_the_rights_that_lambda_needs_there(aws, fleet):
    reached = replace(fleet, hook_subnets=SUBNETS, hook_security_groups=GROUPS)
    for part in ("hook_role", "hook"):
        assert reconcile(blueprint(fleet)[part].resource, aws).action is Action.CREATE
        assert reconcile(blueprint(reached)[part].resource, aws).action is Action.UPDATE
        assert reconcile(blueprint(reached)[part].resource, aws).action is Action.UNCHANGED
    aws.functions.update_function_configuration(
        FunctionName=fleet.hook_name, VpcConfig={"SubnetIds": [SUBNETS[0]], "SecurityGroupIds": [*GROUPS]}
    )
    assert [change.field for change in reconcile(blueprint(reached)["hook"].resource, aws).changes] == ["subnets"]
    [made] = [
        each["Properties"]
        for each in cloudformation(reached)["Resources"].values()
        if each["Type"] == "AWS::Lambda::Function"
    ]
    assert made["VpcConfig"] == {"SubnetIds": [*SUBNETS], "SecurityGroupIds": [*GROUPS]}


def test_rights_to_the_network_name_these_subnets_and_groups():
    fleet = Fleet(role_boundary="own", hook_subnets=SUBNETS, hook_security_groups=GROUPS)
    made = {
        each["Sid"]: each["Resource"] for each in blueprint(fleet)["hook_role"].resource.inline["hook"]["Statement"]
    }["MakeInterfaces"]
    assert "MakeInterfaces" in {each["Sid"] for each in documents(fleet)["boundary"]["Statement"]}
    assert [arn.rsplit(":", 1)[1] for arn in made] == [
        "network-interface/*",
        *(f"subnet/{name}" for name in SUBNETS),
        *(f"security-group/{name}" for name in GROUPS),
    ]
    assert "ec2" not in json.dumps(documents(Fleet(role_boundary="own")))


def test_the_functions_role_gets_the_checks_policies_and_the_provisioner_may_attach_these_alone(aws, fleet, tmp_path):
    fleet = with_check(fleet, tmp_path)
    own_check.vendor(fleet)
    statement = {"Effect": "Allow", "Action": "dynamodb:GetItem", "Resource": fleet.arn("dynamodb", "table/cars-built")}
    made = aws.iam.create_policy(
        PolicyName="ask", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )["Policy"]["Arn"]
    allowed = replace(fleet, hook_policies=(made,), role_boundary="own")
    plain, asking = (replace(blueprint(each)["hook_role"].resource, boundary="") for each in (fleet, allowed))
    reconcile(plain, aws)
    assert [change.field for change in reconcile(asking, aws).changes] == ["managed"]
    assert [
        each["PolicyArn"]
        for each in aws.iam.list_attached_role_policies(RoleName=fleet.hook_role_name)["AttachedPolicies"]
    ] == [made]
    [right] = [
        each
        for each in documents(allowed)["provisioner functions"]["Statement"]
        if each["Sid"] == "AttachTheChecksPolicies"
    ]
    assert right["Condition"] == {
        "ArnEquals": {"iam:PolicyARN": [made]},
        "StringEquals": {"iam:PermissionsBoundary": allowed.boundary_arn},
    }
    assert [change.field for change in reconcile(plain, aws).changes] == ["managed"]


def test_the_trial_needs_no_function_in_aws(local_aws, make_fleet, tmp_path):
    fleet = with_check(make_fleet(), tmp_path)
    own_check.vendor(fleet)
    answer = asked(
        fleet,
        Aws(fleet.region, fleet.account, local_aws.url),
        {"parameters": {"SerialNumber": "297468000009", "Vin": VIN}},
    )
    assert (answer.allowed, answer.claim_made_up) == (True, True)


def unpacked(zip_of_code, folder):
    with zipfile.ZipFile(io.BytesIO(zip_of_code)) as archive:
        archive.extractall(folder)
    return folder


def hooks_tests_on(folder, *chosen):
    """Run the hook's tests on the modules of a folder; return pytest's exit code and what it said."""
    tests = Path(__file__).parent
    paths = " ".join(map(str, (tests.parents[1], folder, tests.parent / "helpers", tests)))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-o",
        f"pythonpath={paths}",
    ]
    done = subprocess.run(
        [*command, *chosen], capture_output=True, text=True, check=False, timeout=300, cwd=tests.parents[1]
    )
    return done.returncode, done.stdout + done.stderr


def test_the_hooks_tests_pass_on_the_very_zip_that_would_be_uploaded(tmp_path):
    fleet = with_check(Fleet(home=str(tmp_path / "home")), tmp_path)
    own_check.vendor(fleet)
    folder = unpacked(blueprint(fleet)["hook"].resource.code, tmp_path / "zip")
    code, said = hooks_tests_on(folder, str(Path(__file__).with_name("test_hook.py")))
    assert code == 0, said
    (folder / "lambda_function.py").write_text("raise ImportError('the unpacked one')")
    code, said = hooks_tests_on(folder, str(Path(__file__).with_name("test_hook.py")))
    assert code != 0
    assert "the unpacked one" in said
