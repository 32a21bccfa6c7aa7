"""Vehicles with certificates of a CA of the user's: let in by our function when the hook's own rules allow, and otherwise left outside."""

import time
from dataclasses import replace
from pathlib import Path

import dagster as dg
import just_in_time
import lambda_function as hook
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from in_dagster import ALONE

from fleet_pipeline.assets.provisioning import infrastructure
from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.blueprint import blueprint, own_ca_parts, resources, shown
from fleet_pipeline.cloud.enrolment.hook_log import decisions
from fleet_pipeline.cloud.kinds.own_ca import registration_code
from fleet_pipeline.cloud.reconcile import Action, plan, reconcile, remove
from fleet_pipeline.definitions import build_definitions
from fleet_pipeline.model.errors import ConnectionFailed, InvalidSetting, NoAuthority
from fleet_pipeline.vehicle.authority import VERIFICATION, Authority, _certificate, _name
from fleet_pipeline.vehicle.connection import Broker, connected
from fleet_pipeline.vehicle.identity import VehicleFolder
from fleet_pipeline.vehicle.joining import join


@pytest.fixture(scope="module")
def new_account(make_fleet, local_aws):
    """Make an account of its own with a CA and its proof."""

    def make(mode):
        fleet = make_fleet(own_ca=mode)
        home = Path(fleet.home)
        aws = Aws(fleet.region, fleet.account, local_aws.url)
        authority = Authority.make(home / "ca")
        (home / "ca" / VERIFICATION).write_text(authority.issue(registration_code(aws)).certificate_pem)
        return fleet, aws, authority

    return make


@pytest.fixture(scope="module")
def jitr(new_account):
    fleet, aws, authority = new_account("jitr")
    for resource in resources(blueprint(fleet)):
        reconcile(resource, aws)
    return fleet, aws, authority


@pytest.fixture(scope="module")
def broker(local_aws):
    return Broker(local_aws.mqtt_host, local_aws.mqtt_port, local_aws.ca_path)


def at_once(_):
    """Do not wait before the next try."""


def test_a_vehicle_with_a_certificate_of_the_ca_is_let_in_and_publishes(jitr, broker, tmp_path):
    fleet, aws, authority = jitr
    joined = join(fleet, broker, authority, "297468JITR01", tmp_path)
    with connected(broker, VehicleFolder(joined.folder).read(), joined.thing_name) as connection:
        connection.publish(fleet.rules[0].ingest[0], b"{}")
    assert aws.iot.describe_thing(thingName=joined.thing_name)["attributes"] == {"registered_by": joined.certificate_id}
    assert join(fleet, broker, authority, "297468JITR01", tmp_path) == joined


def awaited(look):
    """Return what there is to see, as soon as there is something: nobody waits for the function."""
    give_up = time.monotonic() + 60
    while not (seen := look()) and time.monotonic() < give_up:
        time.sleep(0.2)
    return seen


REFUSED = {"another maker's serial": "999999JITR01", "a thing that exists": "297468TAKEN1"}


@pytest.mark.parametrize("serial", REFUSED.values(), ids=REFUSED)
def test_what_the_hook_would_refuse_is_left_outside(jitr, broker, tmp_path, serial):
    fleet, aws, authority = jitr
    aws.iot.create_thing(thingName=fleet.thing_name("297468TAKEN1"))
    with pytest.raises(ConnectionFailed):
        join(fleet, broker, authority, serial, tmp_path, sleep=at_once)
    certificate_id = VehicleFolder.of(tmp_path, fleet.thing_name(serial)).read().certificate_id
    described = aws.iot.describe_certificate(certificateId=certificate_id)["certificateDescription"]
    assert described["status"] == "PENDING_ACTIVATION"
    assert aws.iot.list_attached_policies(target=described["certificateArn"])["policies"] == []
    assert {each.allowed for each in awaited(lambda: decisions(fleet, aws, serial))} == {False}


def test_a_certificate_of_another_ca_is_not_even_noted(jitr, broker, tmp_path):
    fleet, aws, _ = jitr
    before = len(aws.iot.list_certificates()["certificates"])
    with pytest.raises(ConnectionFailed):
        join(fleet, broker, Authority.make(tmp_path / "another"), "297468OTHER1", tmp_path, sleep=at_once)
    assert len(aws.iot.list_certificates()["certificates"]) == before


@pytest.mark.parametrize("mode", ["jitr", "jitp"])
def test_each_resource_of_the_own_ca_is_made_left_alone_repaired_and_removed(new_account, mode):
    fleet, aws, _ = new_account(mode)
    parts = blueprint(fleet)
    assert {reconcile(part.resource, aws).action for part in parts.values()} == {Action.CREATE}
    assert {reconcile(part.resource, aws).action for part in parts.values()} == {Action.UNCHANGED}
    ca = parts["ca_certificate"].resource
    aws.iot.update_ca_certificate(certificateId=ca.name, newStatus="INACTIVE", newAutoRegistrationStatus="DISABLE")
    aws.iot.tag_resource(resourceArn=ca.arn, tags=[{"Key": "fleet_pipeline:application", "Value": "another"}])
    assert [change.field for change in plan(ca, aws).changes] == ["tags", "status", "auto_registration"]
    assert reconcile(ca, aws).live == ca
    assert {remove(part.resource, aws).action for part in reversed(parts.values())} == {Action.DELETE}
    assert aws.iot.list_ca_certificates()["certificates"] == []


def test_just_in_time_provisioning_fills_in_its_template_and_has_no_hook(new_account):
    fleet, aws, _ = new_account("jitp")
    for part in ("provisioning_role", "device_policy", "jitp_template", "ca_certificate"):
        reconcile(blueprint(fleet)[part].resource, aws)
    template = aws.iot.describe_provisioning_template(templateName=fleet.jitp_template_name)
    registered = aws.iot.describe_ca_certificate(certificateId=blueprint(fleet)["ca_certificate"].resource.name)
    assert template["type"] == "JITP"
    assert "preProvisioningHook" not in template
    assert registered["registrationConfig"] == {"templateName": fleet.jitp_template_name}


@pytest.mark.parametrize("missing", ["ca.pem", "verification.pem"])
def test_an_own_ca_without_its_certificates_is_a_setting_that_cannot_be_used(new_account, missing):
    fleet, _, _ = new_account("jitr")
    (Path(fleet.home) / "ca" / missing).unlink()
    with pytest.raises(InvalidSetting, match="`fleet ca make` makes both"):
        blueprint(fleet)


def test_without_its_key_an_authority_signs_nothing(tmp_path):
    with pytest.raises(NoAuthority, match="fleet ca make"):
        Authority.read(tmp_path)


def test_an_authority_is_made_once_and_its_key_is_its_owners_alone(tmp_path):
    made = Authority.make(tmp_path / "ca")
    assert Authority.make(tmp_path / "ca") == made
    assert (tmp_path / "ca" / "ca.key").stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in repr(made)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority.make(tmp_path_factory.mktemp("ca"))


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=16))
def test_the_common_name_of_a_certificate_is_read_as_it_was_written(authority, name):
    assert just_in_time.common_name(authority.issue(name).certificate_pem) == name


NAMES = {
    "none": [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "297468ORG001")],
    "two": [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in ("297468NAME01", "297468NAME02")],
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_a_certificate_without_one_common_name_is_refused(authority, names):
    key = load_pem_private_key(authority.private_key.encode(), None)
    pem = (
        _certificate(x509.Name(names), _name("issuer"), key)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
        .decode()
    )
    with pytest.raises(ValueError, match="one common name"):
        just_in_time.common_name(pem)


SETTINGS = {"SERIAL_PREFIX": "297468", "THING_PREFIX": "test-thing-"}
WAITING = {"status": "PENDING_ACTIVATION", "certificateId": "d" * 64}


class Things:
    """A registry with at most one thing."""

    def __init__(self, **attributes):
        self.attributes = attributes

    def describe(self, _):
        return {"attributes": self.attributes, "version": 1} if self.attributes else None

    def create(self, *_):
        return True

    def change(self, *_):
        return True

    def has(self, *_):
        return False


DECISIONS = {
    "a new vehicle": (True, WAITING, Things()),
    "a registration that was stopped": (True, WAITING, Things(registered_by="d" * 64)),
    "a replacement that was allowed": (True, WAITING, Things(replacement="allowed")),
    "a thing of this serial exists and no replacement was allowed": (False, WAITING, Things(registered_by="e" * 64)),
    "the certificate does not wait for its activation": (False, {**WAITING, "status": "REVOKED"}, Things()),
}


@pytest.mark.parametrize("reason", DECISIONS)
def test_each_certificate_is_decided_about_for_a_reason(reason):
    allowed, certificate, things = DECISIONS[reason]
    assert just_in_time.decide("297468ABCDEF", certificate, SETTINGS, things, None) == hook.Decision(
        allowed=allowed, reason=reason
    )


def test_of_two_certificates_with_one_common_name_at_once_one_is_left_outside():
    class Overtaken(Things):
        def create(self, *_):
            return False

    assert not just_in_time.decide("297468ABCDEF", WAITING, SETTINGS, Overtaken(), None).allowed


@pytest.mark.parametrize(
    "event", [None, [], {}, {"certificateId": "x"}, {"certificateId": "d" * 64, "caCertificateId": "another"}]
)
def test_an_event_that_is_not_of_our_ca_is_refused_in_one_line(event, monkeypatch, capsys):
    for name, value in {
        **SETTINGS,
        "CA_CERTIFICATE_ID": "c" * 64,
        "DEVICE_POLICY": "policy",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(just_in_time, "DEADLINE_S", 60)  # the machine may be busy
    assert just_in_time.lambda_handler(event, None) == {"allowed": False}
    assert "not of a certificate of our CA" in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["jitr", "jitp"])
def test_without_the_files_of_the_ca_the_code_location_loads_and_only_its_parts_say_what_is_missing(make_fleet, mode):
    fleet = make_fleet(own_ca=mode)
    with pytest.raises(InvalidSetting, match="fleet ca make"):
        blueprint(fleet)
    definitions = build_definitions(fleet)
    with dg.DagsterInstance.ephemeral() as instance:
        job = definitions.resolve_implicit_global_asset_job_def()
        ran = {
            name: job.execute_in_process(
                instance=instance, asset_selection=[infrastructure.key(ALONE, name)], raise_on_error=False
            )
            for name in ("device_policy", "ca_certificate")
        }
    assert ran["device_policy"].success
    [failed] = [event for event in ran["ca_certificate"].all_events if event.is_step_failure]
    assert "needs ca.pem and verification.pem" in failed.step_failure_data.error.to_string()


@pytest.mark.parametrize("key", ["", "alias/fleet"])
@pytest.mark.parametrize("mode", ["jitr", "jitp"])
def test_the_parts_that_wait_for_the_ca_are_all_that_it_brings(make_fleet, mode, key):
    fleet = make_fleet(own_ca=mode, kms_key=key)
    waiting = set(shown(fleet))
    folder = Path(fleet.home) / "ca"
    (folder / VERIFICATION).write_text(Authority.make(folder).issue("code").certificate_pem)
    assert waiting == set(blueprint(fleet)) == set(shown(fleet))
    assert set(own_ca_parts(fleet)) == waiting - set(blueprint(replace(fleet, own_ca="none")))
