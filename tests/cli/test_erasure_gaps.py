"""An erasure and what stands beside it: what it refuses, what of the registration it gives out and takes away, and its end after real kills."""

import json
import os
import signal
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest
from test_vehicle_erase import A, B, driven, held  # noqa: F401 (a fixture)

from fleet_pipeline.account import Account
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.enrolment import allow_list
from fleet_pipeline.cloud.reconcile import reconcile
from fleet_pipeline.lake.iceberg.tables import Tables
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.reading import opened
from fleet_pipeline.model.errors import AlreadyThere, IcebergError, InUse, MissingExtra
from fleet_pipeline.personal_data import REGISTRY, Order, erase_vehicle, give_out, registration
from fleet_pipeline.retention import aged_out


def test_without_pyiceberg_nothing_is_erased_while_the_settings_name_a_catalog(driven, aws, monkeypatch):  # noqa: F811
    monkeypatch.setattr("fleet_pipeline.lake.iceberg.find_spec", lambda _name: None)
    named = replace(driven, iceberg="sql")
    before = Counter(held(named, aws, A))
    with pytest.raises(MissingExtra, match="PyIceberg"):
        erase_vehicle(named, Account.of(named), Order(A, with_thing=True), confirm=A)
    assert Counter(held(named, aws, A)) == before
    assert [each["thingName"] for each in aws.iot.list_things()["things"]] == [named.thing_name(A)]
    with pytest.raises(MissingExtra, match="PyIceberg"):
        aged_out(replace(named, raw_retention_days=1), Account.of(named))


def everything(fleet, aws):
    """Every version of every object of both buckets."""
    return [
        (bucket, each["Key"], each["VersionId"])
        for bucket in (fleet.bucket, fleet.lake_bucket)
        for each in aws.s3.list_object_versions(Bucket=bucket).get("Versions", [])
    ]


@pytest.mark.parametrize("what", ["a table of others", "metadata that are gone", "metadata that are damaged"])
def test_where_an_iceberg_table_is_not_ours_or_cannot_be_read_nothing_is_erased(driven, aws, what, command):  # noqa: F811
    fleet = driven
    tables = Tables.of(fleet, aws, Account.of(fleet).catalog_uri(""))
    name, table = tables.identifier(fleet.rules[0]), tables.find(fleet.rules[0])
    if what == "a table of others":
        tables.catalog.drop_table(name)
        tables.catalog.create_table(name, table.schema(), f"s3://{fleet.lake_bucket}/theirs")
    else:
        [manifest] = table.current_snapshot().manifests(table.io)
        key = manifest.manifest_path.partition(f"//{fleet.lake_bucket}/")[2]
        for each in aws.s3.list_object_versions(Bucket=fleet.lake_bucket, Prefix=key)["Versions"]:
            aws.s3.delete_object(Bucket=fleet.lake_bucket, Key=key, VersionId=each["VersionId"])
        if what == "metadata that are damaged":
            aws.s3.put_object(Bucket=fleet.lake_bucket, Key=key, Body=b"no Avro")
    before = everything(fleet, aws)
    code, said = command(fleet, "vehicle", "erase", "--serial", A, "--confirm", A, "--with-thing")
    assert (code, "Traceback" in said) == (1, False), said
    because = {"a table of others": "is not this lake's", "metadata that are gone": "which is gone"}
    assert because.get(what, "cannot be read") in " ".join(said.split())
    assert everything(fleet, aws) == before
    assert [each["thingName"] for each in aws.iot.list_things()["things"]] == [fleet.thing_name(A)]
    with pytest.raises(IcebergError):
        aged_out(replace(fleet, raw_retention_days=1, lake_retention_days=1), Account.of(fleet))
    assert everything(fleet, aws) == before


def test_an_export_names_every_certificate_however_many_pages_they_take(fleet, aws):
    thing = fleet.thing_name(A)
    aws.iot.create_thing(thingName=thing)
    made = [aws.iot.create_keys_and_certificate(setAsActive=True) for _ in range(3)]
    for each in made:
        aws.iot.attach_thing_principal(thingName=thing, principal=each["certificateArn"])
    pages, asked = [[each["certificateArn"]] for each in made], []

    def one_at_a_time(params, **_):
        """Answer in AWS's stead, a certificate on each page: this machine's has them all on one."""
        place = int(params["query_string"].get("nextToken", 0))
        asked.append(place)
        further = {"nextToken": str(place + 1)} if place + 1 < len(pages) else {}
        return SimpleNamespace(status_code=200), {"principals": pages[place], **further}

    aws.iot.meta.events.register("before-call.iot.ListThingPrincipals", one_at_a_time)
    said = registration(fleet, aws, A)
    assert {each["id"] for each in said["certificates"]} == {each["certificateId"] for each in made}
    assert asked == [0, 1, 2]
    assert "PRIVATE KEY" not in json.dumps(said)


@pytest.mark.parametrize("kind", ["s3", "dynamodb"])
def test_with_the_thing_its_line_of_the_allow_list_goes_and_no_other(driven, aws, kind):  # noqa: F811
    fleet = replace(driven, allow_list=kind)
    if kind == "dynamodb":
        reconcile(blueprint(fleet)["allow_list_table"].resource, aws)
    for serial in (A, B):
        allow_list.add(fleet, aws, serial)
    erase_vehicle(fleet, Account.of(fleet), Order(A), confirm=A)
    assert set(allow_list.read(fleet, aws).serials) == {A, B}
    erase_vehicle(fleet, Account.of(fleet), Order(A, with_thing=True), confirm=A)
    assert set(allow_list.read(fleet, aws).serials) == {B}


def registered(fleet, aws, serial, policy):
    """Give a vehicle's thing one more certificate, with a policy."""
    made = aws.iot.create_keys_and_certificate(setAsActive=True)
    aws.iot.attach_policy(policyName=policy, target=made["certificateArn"])
    aws.iot.attach_thing_principal(thingName=fleet.thing_name(serial), principal=made["certificateArn"])
    return made["certificateId"]


def ids(aws):
    return {each["certificateId"] for each in aws.iot.list_certificates()["certificates"]}


@pytest.mark.parametrize("whose", ["another fleet's alone", "both fleets'"])
def test_with_the_thing_nothing_goes_that_another_fleet_of_equal_serials_gave_it(driven, aws, whose):  # noqa: F811
    fleet = driven
    reconcile(blueprint(fleet)["device_policy"].resource, aws)
    aws.iot.create_policy(policyName="other-dev-device-policy", policyDocument="{}")
    theirs = registered(fleet, aws, A, "other-dev-device-policy")
    ours = {registered(fleet, aws, A, fleet.device_policy_name)} if whose == "both fleets'" else set()
    assert ids(aws) == {theirs, *ours}
    done = erase_vehicle(fleet, Account.of(fleet), Order(A, with_thing=True), confirm=A)
    assert done.clean
    assert "another fleet" in done.elsewhere[REGISTRY]
    assert A not in str(done.elsewhere)
    assert ids(aws) == {theirs}
    assert aws.iot.describe_certificate(certificateId=theirs)["certificateDescription"]["status"] == "ACTIVE"
    assert len(aws.iot.list_thing_principals(thingName=fleet.thing_name(A))["principals"]) == 1
    aws.iot.detach_thing_principal(
        thingName=fleet.thing_name(A),
        principal=aws.iot.list_thing_principals(thingName=fleet.thing_name(A))["principals"][0],
    )
    assert REGISTRY not in erase_vehicle(fleet, Account.of(fleet), Order(A, with_thing=True), confirm=A).elsewhere
    assert aws.iot.list_things()["things"] == []


def killed(action, at, when):
    """Do an action in a process of its own; SIGKILL it before or after one of its writing calls. Say whether it came to that."""
    pid = os.fork()
    if pid:
        status = os.waitpid(pid, 0)[1]
        assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
        return os.WIFSIGNALED(status)
    calls = 0

    def mortal(call):
        def once(self, *arguments):
            nonlocal calls
            calls += 1
            if calls == at and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(self, *arguments)
            if calls == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return once

    code = 1
    with suppress(BaseException):
        one = mortal(S3Store.delete)
        S3Store.put_new = mortal(S3Store.put_new)
        S3Store.delete = lambda self, versions: [one(self, [each]) for each in list(versions)] and None
        action()
        code = 0
    os._exit(code)


def rows(fleet, aws):
    lake = Lake.of(fleet, S3Store(aws, fleet.lake_bucket))
    parts = (part for parts in lake.all_parts(fleet.rules[0]).values() for part in parts)
    return [row["serial"] for part in parts for row in opened(lake.store, part).read(["serial"]).to_pylist()]


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_erasure_that_is_killed_again_and_again_ends_and_loses_nobody_elses_row(driven, aws, when):  # noqa: F811
    fleet = driven

    def action():
        erase_vehicle(fleet, Account.of(fleet), Order(A), confirm=A)

    kills = [killed(action, at, when) for at in range(2, 9)]
    assert sum(kills) >= 3
    assert B in rows(fleet, aws)
    assert erase_vehicle(fleet, Account.of(fleet), Order(A), confirm=A).clean
    assert (held(fleet, aws, A), rows(fleet, aws)) == ([], [B])
    keys = [key for _, key, _ in everything(fleet, aws) if "certificate-" in key and key.endswith(".json")]
    said = [json.loads(aws.s3.get_object(Bucket=fleet.lake_bucket, Key=key)["Body"].read()) for key in keys]
    counts = [sum(each["removed"][name] for each in said) for name in ("messages", "raw_versions", "rows")]
    assert (counts, sum(len(each["removed messages, SHA-256"]) for each in said)) == ([1, 1, 1], 1)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_retention_that_is_killed_again_and_again_ends_and_no_hour_is_ever_half(driven, aws, when):  # noqa: F811
    fleet = replace(driven, raw_retention_days=1, lake_retention_days=1)
    kills = []
    for at in (1, 2, 2, 2, 2):
        kills.append(killed(lambda: aged_out(fleet, Account.of(fleet)), at, when))
        assert sorted(rows(fleet, aws)) in ([], [A, B])
    assert sum(kills) >= 3
    gone = aged_out(fleet, Account.of(fleet))
    assert (gone.in_the_way, rows(fleet, aws), held(fleet, aws, A), held(fleet, aws, B)) == ([], [], [], [])


def files_of(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_an_export_that_is_killed_leaves_nothing_in_its_place_and_nothing_in_the_next_ones_answer(
    driven,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    fleet, out, coming = driven, tmp_path / "answer", tmp_path / ".answer.coming"
    whole = give_out(fleet, Account.of(fleet), B, tmp_path / "whole")
    pid = os.fork()
    if not pid:
        monkeypatch.setattr(
            "fleet_pipeline.personal_data.registration", lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        )
        with suppress(BaseException):
            give_out(fleet, Account.of(fleet), A, out)
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    assert (out.exists(), "messages/rule1.parquet" in files_of(coming)) == (False, True)
    assert coming.stat().st_mode & 0o077 == 0
    done = give_out(fleet, Account.of(fleet), B, out)
    assert (done.files, done.found.messages) == (whole.files, whole.found.messages)
    assert files_of(out) == files_of(tmp_path / "whole")
    assert not coming.exists()
    assert A not in "".join(path.read_bytes().decode(errors="replace") for path in out.rglob("*") if path.is_file())


@pytest.mark.parametrize("what", ["a file", "a way elsewhere"])
def test_an_export_puts_nothing_into_its_answer_that_lies_where_it_works(driven, tmp_path, what):  # noqa: F811
    coming, elsewhere = tmp_path / ".answer.coming", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "of others").write_text("theirs")
    if what == "a file":
        coming.write_text("theirs")
    else:
        coming.symlink_to(elsewhere)
    with pytest.raises(AlreadyThere, match=r"\.answer\.coming"):
        give_out(driven, Account.of(driven), A, tmp_path / "answer")
    assert (elsewhere / "of others").read_text() == "theirs"
    assert files_of(elsewhere) == {"of others"}
    assert not (tmp_path / "answer").exists()


def test_of_two_exports_to_one_folder_at_once_the_second_is_refused_and_the_first_is_whole(
    driven,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    fleet, out, refused = driven, tmp_path / "answer", []

    def beside(*asked):
        monkeypatch.setattr("fleet_pipeline.personal_data.registration", registration)
        with pytest.raises(InUse, match="another export to answer"):
            give_out(fleet, Account.of(fleet), B, out)
        refused.append(True)
        return registration(*asked)

    monkeypatch.setattr("fleet_pipeline.personal_data.registration", beside)
    assert give_out(fleet, Account.of(fleet), A, out).found.messages.total() == 1
    assert (refused, (out / "messages/rule1.parquet").exists()) == ([True], True)
    with pytest.raises(AlreadyThere):
        give_out(fleet, Account.of(fleet), A, out)
