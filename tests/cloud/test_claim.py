"""The claim certificate in use: two work while a rotation lasts, a retired and a revoked one do not, and no key is shown on the way."""

import json
import logging
import traceback
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from aws_calls import Refusals, answer, watch
from botocore.awsrequest import AWSResponse
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from in_dagster import definitions_of

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.blueprint import blueprint, resources
from fleet_pipeline.cloud.claims import life, making
from fleet_pipeline.cloud.claims.certificates import CERTIFICATE, Claims, held, read_claim
from fleet_pipeline.cloud.claims.keys import PRIVATE_KEY, fits
from fleet_pipeline.cloud.lock import Lock
from fleet_pipeline.cloud.operations.foreign import findings
from fleet_pipeline.cloud.reconcile import Action, look, reconcile, remove
from fleet_pipeline.model.errors import (
    AwsRefused,
    AwsUnavailable,
    ClaimNotRetired,
    ClaimRevoked,
    ClaimStillNeeded,
    ConnectionFailed,
    InvalidName,
    NoClaimCertificate,
    RegistrationRefused,
    WhichClaim,
)
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.vehicle import registration
from fleet_pipeline.vehicle.connection import Broker, connected
from fleet_pipeline.vehicle.identity import Identity, VehicleFolder
from fleet_pipeline.vehicle.registration import register

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def fleet(make_fleet):
    return make_fleet()


@pytest.fixture(scope="module")
def aws(fleet, local_aws):
    """An account in which vehicles can register; a test that changes the claim certificate leaves one that works."""
    aws = Aws(fleet.region, fleet.account, local_aws.url)
    apply(fleet, aws)
    return aws


@pytest.fixture
def enrol(fleet, local_aws, tmp_path):
    """Register a new vehicle with a claim certificate, and return its serial."""

    def enrol(claim):
        serial = f"297468{uuid.uuid4().hex[:12].upper()}"
        broker = Broker(local_aws.mqtt_host, local_aws.mqtt_port, local_aws.ca_path)
        register(fleet, broker, Identity(claim.certificate_pem, claim.private_key), serial, tmp_path)
        return serial

    return enrol


def apply(fleet, aws):
    return [reconcile(resource, aws).action for resource in resources(blueprint(fleet))]


def statuses(fleet, aws):
    return [(each.certificate_id, each.status, each.current) for each in held(Claims.of(fleet), aws)]


def test_while_a_rotation_lasts_the_old_and_the_new_claim_certificate_register_vehicles_and_then_only_the_new(
    fleet, aws, enrol
):
    old = read_claim(fleet, aws)
    rotated = life.rotate(fleet, aws)
    new = read_claim(fleet, aws)
    assert Identity(new.certificate_pem, new.private_key).certificate_id == rotated
    assert enrol(old) != enrol(new)
    assert set(apply(fleet, aws)) == {Action.UNCHANGED}
    assert len(life.retire(fleet, aws)) == 1
    with pytest.raises(ConnectionFailed):
        enrol(old)
    assert enrol(new)
    assert statuses(fleet, aws) == [(rotated, "ACTIVE", True)]


def test_with_a_certificate_every_version_of_its_key_is_retired_and_the_new_key_stays(fleet, aws):
    life.rotate(fleet, aws)
    assert len(aws.s3.list_object_versions(Bucket=fleet.bucket, Prefix=PRIVATE_KEY)["Versions"]) == 2
    life.retire(fleet, aws)
    claim, versions = (
        read_claim(fleet, aws),
        aws.s3.list_object_versions(Bucket=fleet.bucket, Prefix="claim-certificate/"),
    )
    assert [each["IsLatest"] for each in versions["Versions"]] == [True] * 3
    assert "DeleteMarkers" not in versions
    assert fits(claim.certificate_pem, claim.private_key.encode())


def test_a_key_fits_that_signs_what_its_public_key_verifies():
    key = rsa.generate_private_key(65537, 2048)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    said = key.private_numbers()
    for damage, right in ((0, True), (2, False)):
        numbers = rsa.RSAPrivateNumbers(
            said.p, said.q, said.d + damage, said.dmp1 + damage, said.dmq1 + damage, said.iqmp, said.public_numbers
        )
        damaged = numbers.private_key(unsafe_skip_rsa_key_validation=True)
        pem = damaged.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        assert fits(public, pem) is right


def test_retiring_a_second_time_does_nothing(fleet, aws):
    life.retire(fleet, aws)
    calls = watch(aws.session)
    again = Aws(aws.region, aws.account, aws.endpoint_url)
    again.__dict__["session"] = aws.session
    assert life.retire(fleet, again) == []
    assert calls.writing == []


def test_a_rotation_waits_for_the_end_of_the_one_before(fleet, aws):
    former = held(Claims.of(fleet), aws)[0].certificate_id
    life.rotate(fleet, aws)
    with pytest.raises(ClaimNotRetired, match=f"{former} still works: end the last rotation with `fleet claim retire`"):
        life.rotate(fleet, aws)
    life.retire(fleet, aws)


def test_a_revoked_claim_certificate_registers_nothing_and_no_run_activates_it_again(fleet, aws, enrol):
    stolen = read_claim(fleet, aws)
    revoked = life.revoke(fleet, aws)
    with pytest.raises(ConnectionFailed):
        enrol(stolen)
    with pytest.raises(ClaimRevoked, match="make a new one with `fleet claim rotate`"):
        apply(fleet, aws)
    step = look(blueprint(fleet)["claim_attachment"].resource, aws)
    assert (step.action, type(step.refusal)) == (Action.CANNOT_CHANGE, ClaimRevoked)
    assert [(change.field, change.found) for change in step.changes] == [("status", "REVOKED")]
    assert statuses(fleet, aws) == [(revoked, "REVOKED", True)]
    life.rotate(fleet, aws)
    assert set(apply(fleet, aws)) == {Action.UNCHANGED}
    assert enrol(read_claim(fleet, aws))
    life.retire(fleet, aws)


def test_the_hook_refuses_a_revoked_claim_certificate_over_a_connection_that_is_still_open(
    fleet, aws, local_aws, tmp_path
):
    claim = read_claim(fleet, aws)
    broker = Broker(local_aws.mqtt_host, local_aws.mqtt_port, local_aws.ca_path)
    with connected(broker, Identity(claim.certificate_pem, claim.private_key), "claim-thief") as connection:
        life.revoke(fleet, aws)
        with pytest.raises(RegistrationRefused, match="AccessDenied"):
            registration._accepted(
                fleet, connection, {"SerialNumber": "297468STOLEN1"}, VehicleFolder.of(tmp_path, "stolen")
            )
    life.rotate(fleet, aws)
    life.retire(fleet, aws)


def test_what_was_registered_with_a_claim_certificate_since_a_time_is_listed(fleet, aws, enrol):
    life.rotate(fleet, aws)
    claim, claim_id = read_claim(fleet, aws), held(Claims.of(fleet), aws)[0].certificate_id
    serial = enrol(claim)
    found = list(life.registered_with(fleet, aws, claim_id, LONG_AGO))
    assert [(each.thing_name, each.status) for each in found] == [(fleet.thing_name(serial), "ACTIVE")]
    assert list(life.registered_with(fleet, aws, claim_id, datetime.now(UTC) + timedelta(minutes=1))) == []
    life.retire(fleet, aws)


def test_a_temporary_claim_certificate_registers_a_vehicle_and_is_on_no_list(fleet, aws, enrol):
    before = statuses(fleet, aws)
    serial = enrol(life.temporary(fleet, aws))
    assert "registered_by" in aws.iot.describe_thing(thingName=fleet.thing_name(serial))["attributes"]
    assert statuses(fleet, aws) == before


def test_a_certificate_of_others_is_neither_revoked_nor_retired_whatever_is_named(fleet, aws):
    theirs = aws.iot.create_keys_and_certificate(setAsActive=True)["certificateId"]
    for action in (life.revoke, life.retire):
        with pytest.raises(InvalidName, match=theirs):
            action(fleet, aws, theirs)
    assert aws.iot.describe_certificate(certificateId=theirs)["certificateDescription"]["status"] == "ACTIVE"


def test_while_the_given_out_one_does_not_work_the_former_one_that_does_is_not_retired(new_fleet):
    fleet, aws = new_fleet()
    life.rotate(fleet, aws)
    with pytest.raises(WhichClaim):
        life.revoke(fleet, aws)
    [new, old] = held(Claims.of(fleet), aws)
    life.revoke(fleet, aws, new.certificate_id)
    with pytest.raises(ClaimStillNeeded, match=old.certificate_id):
        life.retire(fleet, aws)
    assert statuses(fleet, aws) == [(new.certificate_id, "REVOKED", True), (old.certificate_id, "ACTIVE", False)]


@pytest.fixture
def new_fleet(make_fleet, local_aws):
    def new():
        fleet = make_fleet(rule_keys=("rule1",))
        aws = Aws(fleet.region, fleet.account, local_aws.url)
        apply(fleet, aws)
        return fleet, aws

    return new


@pytest.fixture
def elsewhere(aws, fleet):
    """A fleet of the same account with settings of its own, in which only the claim certificate is made."""

    def elsewhere(**settings):
        unique = uuid.uuid4().hex
        other = replace(fleet, environment=unique[:8], bucket=f"claims-{unique}", lake_bucket="", **settings)
        for part in ("bucket", "claim_policy", "claim_certificate", "claim_attachment"):
            reconcile(blueprint(other)[part].resource, aws)
        return other

    return elsewhere


@pytest.mark.parametrize("keys", ["aws", "own"])
@pytest.mark.parametrize("store", ["s3", "secretsmanager"])
def test_the_key_lies_where_the_settings_say_and_goes_with_the_certificate(aws, elsewhere, store, keys):
    fleet = elsewhere(claim_store=store, claim_keys=keys)
    first = read_claim(fleet, aws)
    life.rotate(fleet, aws)
    life.retire(fleet, aws)
    second = read_claim(fleet, aws)
    in_s3 = {each["Key"] for each in aws.s3.list_objects_v2(Bucket=fleet.bucket)["Contents"]}
    secrets = [
        each["Name"] for each in aws.secrets.list_secrets()["SecretList"] if each["Name"].startswith(fleet.prefix)
    ]
    assert first.private_key != second.private_key
    assert fits(second.certificate_pem, second.private_key.encode())
    assert (PRIVATE_KEY in in_s3, len(secrets)) == ((True, 0) if store == "s3" else (False, 1))
    for part in ("claim_attachment", "claim_certificate"):
        remove(blueprint(fleet)[part].resource, aws)
    assert "Versions" not in aws.s3.list_object_versions(Bucket=fleet.bucket)
    assert not [each for each in aws.secrets.list_secrets()["SecretList"] if each["Name"].startswith(fleet.prefix)]


def test_with_own_keys_aws_never_sees_the_private_key(aws, elsewhere):
    sent = []
    aws.iot.meta.events.register(
        "before-call.iot", lambda model, params, **_: sent.append((model.name, str(params.get("body"))))
    )
    fleet = elsewhere(claim_keys="own")
    assert "CreateKeysAndCertificate" not in {name for name, _ in sent}
    assert [name for name, _ in sent].count("CreateCertificateFromCsr") == 1
    assert not any("PRIVATE KEY" in body for _, body in sent)
    assert load_pem_private_key(read_claim(fleet, aws).private_key.encode(), None).key_size == 2048


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("behind", [1, 100])
def test_a_former_certificate_that_a_listing_hides_is_retired_once_it_shows_it_and_otherwise_nothing_is_lost(
    aws, elsewhere, behind, named
):
    fleet = elsewhere()
    former = held(Claims.of(fleet), aws)[0].certificate_id
    life.rotate(fleet, aws)
    before, own = all_of_it(fleet, aws), Aws(fleet.region, fleet.account, aws.endpoint_url)
    times = iter(range(behind))

    def hide(parsed, **_):
        if next(times, None) is not None:
            parsed["targets"] = [each for each in parsed["targets"] if not each.endswith(former)]

    own.iot.meta.events.register("after-call.iot.ListTargetsForPolicy", hide)
    if behind == 1:
        assert life.retire(fleet, own, former if named else "", sleep=lambda _: None) == [former]
        return
    with pytest.raises(AwsUnavailable, match=former):
        life.retire(fleet, own, former if named else "", sleep=lambda _: None)
    assert all_of_it(fleet, aws) == before
    assert life.retire(fleet, aws) == [former]


def test_a_certificate_of_another_key_than_was_sent_is_not_given_out_and_nothing_is_left_of_it(aws, elsewhere):
    fleet = elsewhere()
    own = Aws(fleet.region, fleet.account, aws.endpoint_url)

    def another(**_):
        made = aws.iot.create_keys_and_certificate(setAsActive=False)
        return AWSResponse("", 200, {}, None), made | {"ResponseMetadata": {"HTTPStatusCode": 200}}

    answer(own.iot, "CreateCertificateFromCsr", another)
    before = all_of_it(fleet, aws)
    with pytest.raises(AwsRefused, match="of another key"):
        life.rotate(fleet, own)
    assert all_of_it(fleet, aws) == before


def all_of_it(fleet, aws):
    certificates = {each["certificateId"] for each in aws.iot.list_certificates()["certificates"]}
    return certificates, {each["VersionId"] for each in aws.s3.list_object_versions(Bucket=fleet.bucket)["Versions"]}


def test_a_certificate_made_twice_because_its_answer_was_lost_is_there_once(aws, elsewhere):
    made = []

    def make_another(params, **_):
        if not made:
            made.append("begun")
            request = json.loads(params["body"])["certificateSigningRequest"]
            made.append(
                aws.iot.create_certificate_from_csr(certificateSigningRequest=request, setAsActive=False)[
                    "certificateId"
                ]
            )

    aws.iot.meta.events.register("before-call.iot.CreateCertificateFromCsr", make_another)
    fleet = elsewhere()
    aws.iot.meta.events.unregister("before-call.iot.CreateCertificateFromCsr", make_another)
    assert made[1] not in {each["certificateId"] for each in aws.iot.list_certificates()["certificates"]}
    assert [status for _, status, _ in statuses(fleet, aws)] == ["ACTIVE"]


def test_with_keys_of_aws_one_made_twice_is_reported_and_not_deleted(aws, elsewhere):
    made = []

    def make_another(**_):
        if not made:
            made.append("begun")
            made.append(aws.iot.create_keys_and_certificate(setAsActive=False)["certificateId"])

    aws.iot.meta.events.register("before-call.iot.CreateKeysAndCertificate", make_another)
    fleet = elsewhere(claim_keys="aws")
    aws.iot.meta.events.unregister("before-call.iot.CreateKeysAndCertificate", make_another)
    found = [str(each) for each in findings(fleet, aws, "claim_certificate")]
    assert [f"delete-certificate --certificate-id {made[1]}" in each for each in found] == [True]
    aws.iot.delete_certificate(certificateId=made[1])
    assert findings(fleet, aws, "claim_certificate") == []


@pytest.mark.parametrize("damaged", [False, True], ids=["by its ETag", "by its bytes"])
def test_however_many_certificates_were_given_out_before_the_former_one_is_known_without_reading_them(
    aws, elsewhere, damaged
):
    fleet = elsewhere()
    life.rotate(fleet, aws)
    [current, former] = held(Claims.of(fleet), aws)
    for text in (*[former.certificate_pem] * 5, former.certificate_pem + "\n" * damaged, current.certificate_pem):
        aws.s3.put_object(Bucket=fleet.bucket, Key=CERTIFICATE, Body=text.encode())
    for each in aws.s3.list_object_versions(Bucket=fleet.bucket, Prefix=CERTIFICATE)["Versions"][2:] if damaged else ():
        aws.s3.delete_object(Bucket=fleet.bucket, Key=CERTIFICATE, VersionId=each["VersionId"])
    read = []
    aws.s3.meta.events.register(
        "provide-client-params.s3.GetObject",
        lambda params, **_: read.extend([params["Key"]] if "VersionId" in params else []),
    )
    assert findings(fleet, aws, "claim_certificate") == []
    assert read == [CERTIFICATE] * damaged


@pytest.mark.parametrize(("keys", "call"), [("own", "CreateCertificateFromCsr"), ("aws", "CreateKeysAndCertificate")])
def test_of_two_that_make_it_at_once_one_is_told_so_and_one_certificate_is_there(fleet, aws, keys, call):
    other = replace(fleet, environment="rivals", bucket=f"rivals-{uuid.uuid4().hex}", lake_bucket="", claim_keys=keys)
    for part in ("bucket", "claim_policy"):
        reconcile(blueprint(other)[part].resource, aws)
    rival, before = Aws(aws.region, aws.account, aws.endpoint_url), aws.iot.list_certificates()["certificates"]
    overtaken = []

    def overtake(**_):
        if not overtaken:
            overtaken.append(True)
            making.create(Claims.of(other), rival)

    aws.iot.meta.events.register(f"after-call.iot.{call}", overtake)
    with pytest.raises(AwsUnavailable, match="someone else is making one at this moment"):
        making.create(Claims.of(other), aws)
    aws.iot.meta.events.unregister(f"after-call.iot.{call}", overtake)
    assert len(aws.iot.list_certificates()["certificates"]) == len(before) + 1
    assert fits((claim := read_claim(other, aws)).certificate_pem, claim.private_key.encode())


@pytest.mark.parametrize("keys", ["own", "aws"])
@pytest.mark.parametrize("skip", [1, 2])
def test_an_inactive_certificate_of_someone_else_made_meanwhile_survives_whatever_is_undone(aws, elsewhere, keys, skip):
    fleet, theirs = elsewhere(claim_keys=keys), []

    def theirs_too(**_):
        theirs.append(aws.iot.create_keys_and_certificate(setAsActive=False)["certificateId"])

    aws.s3.meta.events.register("before-call.s3.PutObject", theirs_too)
    answer(aws.s3, "PutObject", by=Refusals("AccessDenied", "Access Denied", times=1, skip=skip))
    with pytest.raises(AwsRefused):
        life.rotate(fleet, aws)
    aws.s3.meta.events.unregister("before-call.s3.PutObject", theirs_too)
    assert len(theirs) > skip
    assert {
        aws.iot.describe_certificate(certificateId=each)["certificateDescription"]["status"] for each in theirs
    } == {"INACTIVE"}
    assert len(held(Claims.of(fleet), aws)) == 1


def test_without_a_claim_certificate_there_is_none_to_give_out_to_rotate_or_to_revoke(fleet, aws):
    nowhere = replace(fleet, environment="nowhere", bucket="no-such-bucket-of-claims", lake_bucket="")
    for action in (
        lambda: read_claim(nowhere, aws),
        lambda: life.rotate(nowhere, aws),
        lambda: life.revoke(nowhere, aws),
    ):
        with pytest.raises(NoClaimCertificate, match=CERTIFICATE):
            action()


def confirmed(fleet, job):
    return {"ops": {f"{job.removesuffix('_claim')}_op": {"config": {"confirm": fleet.bucket}}}}


def test_while_someone_else_changes_the_fleet_nothing_is_rotated_or_retired_but_a_theft_is_ended(fleet, aws, command):
    before = statuses(fleet, aws)
    definitions = definitions_of(fleet)
    with Lock(aws, fleet.bucket, "ann@laptop") as lock:
        lock.take()
        for words, job in ((["rotate"], "rotate_claim"), (["retire", "--yes"], "retire_claim")):
            code, said = command(fleet, "claim", *words)
            assert code == 1
            assert "ann@laptop has held the lock since" in said
            assert (
                not definitions.resolve_job_def(job)
                .execute_in_process(run_config=confirmed(fleet, job), raise_on_error=False)
                .success
            )
        assert statuses(fleet, aws) == before
        assert command(fleet, "claim", "revoke", "--yes")[0] == 0
    assert [command(fleet, "claim", *words)[0] for words in (["rotate"], ["retire", "--yes"])] == [0, 0]
    assert [status for _, status, _ in statuses(fleet, aws)] == ["ACTIVE"]


def test_no_error_no_log_and_no_command_shows_a_private_key(fleet, aws, local_aws, tmp_path, command, caplog):  # noqa: PLR0917 (fixtures)
    caplog.set_level(logging.DEBUG)
    keys, shown = [read_claim(fleet, aws).private_key], []
    aws.s3.meta.events.register(
        "provide-client-params.s3.PutObject",
        lambda params, **_: keys.append(params["Body"].decode()) if params["Key"] == PRIVATE_KEY else None,
    )
    for skip in range(3):
        answer(aws.s3, "PutObject", by=Refusals("AccessDenied", "Access Denied", times=1, skip=skip))
        with pytest.raises(AwsRefused) as caught:
            life.rotate(fleet, aws)
        shown += ["".join(traceback.format_exception(caught.value)), repr(caught.value)]
    for words in (
        "rotate",
        "show",
        "retire --yes",
        f"temporary --folder {tmp_path / 'lent'}",
        "revoke --yes --since 2026-01-01",
        "rotate",
        "retire --yes",
    ):
        code, said = command(fleet, "claim", *words.split())
        assert code == 0, said
        shown.append(said)
        keys.append(read_claim(fleet, aws).private_key)
    keys.append((tmp_path / "lent" / "private.key").read_text())
    shown += [
        repr(read_claim(fleet, aws)),
        json.dumps(statuses(fleet, aws)),
        caplog.text,
        local_aws.log_path.read_text(),
    ]
    lines = {line for key in keys for line in key.splitlines()[1:-1]}
    assert len(set(keys)) >= 6
    assert [line for line in lines if any(line in text for text in shown)] == []


def test_the_jobs_of_the_ui_rotate_retire_and_revoke_and_their_record_holds_no_key(fleet, aws, instance, tmp_path):
    definitions, keys = definitions_of(fleet), []
    for job in ("rotate_claim", "retire_claim", "revoke_claim", "rotate_claim", "retire_claim"):
        ran = definitions.resolve_job_def(job).execute_in_process(instance=instance, run_config=confirmed(fleet, job))
        assert ran.success
        keys.append(read_claim(fleet, aws).private_key)
    [(_, status, current)] = statuses(fleet, aws)
    assert (status, current, len(set(keys))) == ("ACTIVE", True, 2)
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"rotate_claim" in kept
    assert [line for key in keys for line in key.splitlines()[1:-1] if line.encode() in kept] == []


def versions_of_the_key(fleet, aws):
    return aws.s3.list_object_versions(Bucket=fleet.bucket, Prefix=PRIVATE_KEY).get("Versions", [])


def test_in_an_account_the_key_lies_in_secrets_manager_and_on_this_machine_beside_the_certificate():
    assert [
        Fleet(profile=profile, claim_store=store).claim_key_store
        for profile in ("local", "aws")
        for store in ("", "s3", "secretsmanager")
    ] == [
        *("s3", "s3", "secretsmanager"),
        *("secretsmanager", "s3", "secretsmanager"),
    ]


def test_keys_in_the_data_bucket_are_planned_as_a_move_and_none_is_left_there(new_fleet):
    fleet, aws = new_fleet()
    life.rotate(fleet, aws)  # two certificates, and so two keys
    before = {
        each.certificate_id: Claims.of(fleet).keys.get(aws, each.certificate_pem)
        for each in held(Claims.of(fleet), aws)
    }
    aws.s3.put_object(Bucket=fleet.bucket, Key=PRIVATE_KEY, Body=b"no key")  # what is no key is not ours to move
    moved = replace(fleet, claim_store="secretsmanager")
    certificate = blueprint(moved)["claim_certificate"].resource
    step = look(certificate, aws)
    assert (step.action, [change.field for change in step.changes]) == (Action.UPDATE, ["key_left_in_data_bucket"])
    assert read_claim(moved, aws).private_key in before.values()
    reconcile(certificate, aws)
    assert len(versions_of_the_key(fleet, aws)) == 1
    assert {
        each.certificate_id: Claims.of(moved).keys.get(aws, each.certificate_pem)
        for each in held(Claims.of(moved), aws)
    } == before
    assert look(certificate, aws).action is Action.UNCHANGED


@pytest.mark.parametrize("call", ["CreateSecret", "GetSecretValue"])
def test_a_move_that_is_stopped_leaves_the_key_where_it_is_and_the_next_ends_it(new_fleet, call):
    fleet, aws = new_fleet()
    key = read_claim(fleet, aws).private_key
    moved = replace(fleet, claim_store="secretsmanager")
    certificate = blueprint(moved)["claim_certificate"].resource
    answer(aws.secrets, call, by=Refusals("AccessDeniedException", "stop", times=1))
    with pytest.raises(AwsRefused):
        reconcile(certificate, aws)
    assert len(versions_of_the_key(fleet, aws)) == 1
    assert reconcile(certificate, aws).action is Action.UPDATE
    assert versions_of_the_key(fleet, aws) == []
    assert read_claim(moved, aws).private_key == key


def test_a_key_whose_secret_does_not_give_it_back_stays_in_the_bucket(new_fleet):
    fleet, aws = new_fleet()
    keys, claim = Claims.of(replace(fleet, claim_store="secretsmanager")).keys, read_claim(fleet, aws)
    aws.secrets.create_secret(Name=keys._names(claim.certificate_pem)[0], SecretString="something else")
    with pytest.raises(AwsUnavailable, match="stays in the bucket"):
        keys.gather(aws)
    assert len(versions_of_the_key(fleet, aws)) == 1
