"""The one server of a home folder: how it starts, stops, dies and comes back."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest
from bare_vehicle import Vehicle
from ministack.core import x509_utils

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.local import daemon, patches
from fleet_pipeline.local.folder import ServerFolder
from fleet_pipeline.model.errors import LocalAwsDidNotStart, LocalAwsUnsupported
from fleet_pipeline.vehicle.requesting import new_key, request_for

pytestmark = pytest.mark.whole  # it starts processes

ACCOUNT, REGION = "123456789012", "eu-central-1"


@pytest.fixture
def home(tmp_path):
    yield tmp_path
    daemon.stop(tmp_path)


def start(home):
    return daemon.ensure_running(home, account=ACCOUNT, region=REGION)


def aws_of(server):
    return Aws(region=REGION, account=ACCOUNT, endpoint_url=server.url, secret=server.secret)


def until(true, seconds=20):
    """Return when something has become true; fail when it takes too long."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.05)


def test_a_home_without_a_server_has_none_to_show_or_to_stop(tmp_path):
    assert daemon.status(tmp_path) is None
    assert not daemon.stop(tmp_path)
    daemon.reset(tmp_path)
    assert daemon.status(tmp_path) is None


ASK = """
import sys
from pathlib import Path
from fleet_pipeline.local import daemon
print("ready", flush=True)
input()
print(daemon.ensure_running(Path(sys.argv[1]), account="123456789012", region="eu-central-1").pid)
"""


def test_processes_that_ask_at_once_get_one_server(home):
    command = [sys.executable, "-c", ASK, str(home)]
    asking = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.stdout.readline() for process in asking] == ["ready\n"] * 4
    for process in asking:
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0].strip() for process in asking]
    assert answers == [str(start(home).pid)] * 4


def test_a_clean_stop_saves_what_was_done_a_moment_ago_and_a_start_finds_it_on_the_same_ports(home):
    before = start(home)
    aws_of(before).iot.create_thing(thingName="car")
    assert daemon.stop(home)
    assert daemon.status(home) is None
    after = start(home)
    assert after == replace(before, pid=after.pid)
    assert [thing["thingName"] for thing in aws_of(after).iot.list_things()["things"]] == ["car"]
    assert "car" in ServerFolder.of(home).former_log.read_text()


def test_a_client_that_keeps_its_connection_open_does_not_delay_a_stop(home):
    aws_of(start(home)).iot.list_things()
    began = time.monotonic()
    daemon.stop(home)
    assert time.monotonic() - began < daemon.STOP_PATIENCE_S / 2


def test_ports_that_someone_else_has_taken_are_replaced(home):
    before = start(home)
    daemon.stop(home)
    with socket.create_server(("127.0.0.1", before.mqtt_port)):
        after = start(home)
    assert after.url == before.url
    assert after.mqtt_port != before.mqtt_port


def test_a_server_that_was_killed_comes_back_with_its_objects_and_lets_its_vehicles_in(home):
    before = start(home)
    aws = aws_of(before)
    ca = before.ca_path.read_text()
    vehicle = Vehicle(aws, before, ("iot:*", "*"))
    aws.s3.create_bucket(Bucket="kept", CreateBucketConfiguration={"LocationConstraint": REGION})
    aws.s3.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Enabled"})
    versions = [aws.s3.put_object(Bucket="kept", Key="one", Body=body)["VersionId"] for body in (b"1", b"2")]
    until(lambda: vehicle.policy in saved(home, "iot") and "Enabled" in saved(home, "s3"))  # done last, and saved last
    os.kill(before.pid, signal.SIGKILL)
    until(lambda: not ServerFolder.of(home).has_server())
    after = start(home)
    assert after == replace(before, pid=after.pid)
    assert after.ca_path.read_text() == ca
    assert [aws.s3.get_object(Bucket="kept", Key="one", VersionId=each)["Body"].read() for each in versions] == [
        b"1",
        b"2",
    ]
    assert aws.s3.get_object(Bucket="kept", Key="one")["Body"].read() == b"2"
    vehicle.publish("raw/one", b"{}")


def saved(home, service):
    file = ServerFolder.of(home).state / f"{service}.json"
    return file.read_text() if file.exists() else ""


def test_a_server_that_hangs_is_not_joined_by_another_and_is_killed_by_a_stop(home, monkeypatch):
    os.kill(start(home).pid, signal.SIGSTOP)
    for patience in ("START_PATIENCE_S", "STOP_PATIENCE_S", "ANSWER_PATIENCE_S"):
        monkeypatch.setattr(daemon, patience, 0.3)
    with pytest.raises(LocalAwsDidNotStart, match="lives but did not answer") as raised:
        start(home)
    assert raised.value.retryable
    assert daemon.stop(home)
    assert not ServerFolder.of(home).has_server()


def test_a_process_that_has_the_id_of_a_dead_server_is_neither_trusted_nor_stopped(home):
    folder = ServerFolder.of(home)
    folder.make()
    daemon.record(folder, "http://127.0.0.1:1", 2)
    assert daemon.recorded(folder).pid == os.getpid()
    assert daemon.status(home) is None
    assert not daemon.stop(home)
    assert start(home).pid != os.getpid()


def test_a_reset_deletes_everything_and_the_next_server_knows_nothing(home):
    before = start(home)
    aws_of(before).iot.create_thing(thingName="car")
    ca = before.ca_path.read_text()
    daemon.reset(home)
    assert not ServerFolder.of(home).path.exists()
    after = start(home)
    assert aws_of(after).iot.list_things()["things"] == []
    assert after.ca_path.read_text() != ca


def test_a_server_whose_folder_was_deleted_ends_and_does_not_make_it_anew(home):
    server = psutil.Process(start(home).pid)
    shutil.rmtree(home / "local-aws")
    until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
    assert not (home / "local-aws").exists()


def test_the_environment_of_whoever_starts_it_does_not_change_the_server(home, monkeypatch):
    for name, value in {
        "AUTH": "false",
        "SERVICES": "sqs",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "IOT_MTLS_ENABLED": "0",
    }.items():
        monkeypatch.setenv(name, value)
    with urllib.request.urlopen(f"{start(home).url}/_ministack/health", timeout=10) as answer:
        said = json.load(answer)
    assert (said["auth"], said["iot_mtls"]) == ("enabled", "listening")
    assert "iot" in said["services"]


def test_only_its_owner_reads_what_a_server_keeps(home):
    server = start(home)
    daemon.stop(home)
    kept = {path for path in (home / "local-aws").rglob("*") if path != server.ca_path}
    assert home / "local-aws" / "state" / "iot.json" in kept
    assert [path for path in {home / "local-aws", *kept} if path.stat().st_mode & 0o077] == []


def test_a_server_that_ends_while_it_starts_is_told_with_its_last_words(home):
    folder = ServerFolder.of(home)
    folder.make()
    folder.record.with_suffix(".new").mkdir()
    with pytest.raises(LocalAwsDidNotStart, match="IsADirectoryError") as raised:
        start(home)
    assert raised.value.log == str(folder.log)


def test_an_emulator_of_another_version_is_refused():
    with pytest.raises(LocalAwsUnsupported, match=rf"1\.4\.21 .* {patches.MINISTACK}"):
        patches.check_version("1.4.21")


def test_an_emulator_without_a_name_that_is_mended_is_refused():
    with pytest.raises(LocalAwsUnsupported, match="_put_object"):
        patches.check_names(SimpleNamespace(__name__="s3"), ["_put_object"])


def test_the_authoritys_key_is_read_once_whatever_it_signs(monkeypatch):
    x509_utils._require_crypto()
    read, real = [], x509_utils.serialization
    counted = {name: getattr(real, name) for name in real.__all__}
    counted["load_pem_private_key"] = lambda pem, password: read.append(pem) or real.load_pem_private_key(pem, password)
    monkeypatch.setattr(x509_utils, "serialization", SimpleNamespace(**counted, __all__=real.__all__))
    patches.read_the_authority_once(x509_utils)
    authority, other = x509_utils.generate_ca(), x509_utils.generate_ca()
    for certificate, key in (authority, authority, other, other):
        signed = x509_utils.sign_certificate_request(certificate, key, request_for(new_key()[0], "a vehicle"))
        assert x509_utils.certificate_is_signed_by(signed, certificate)
    assert read == [key.encode() for _, key in (authority, other)]
