"""Who is let in to AWS on this machine: a program that has this home's secret, and neither a web page nor another user."""

import hashlib
import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import urllib.request
import zipfile
from dataclasses import replace
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from pyarrow import fs

from fleet_pipeline.aws.clients import Aws, check_whereabouts
from fleet_pipeline.local import daemon
from fleet_pipeline.local.guard import is_own, secret_of_function
from fleet_pipeline.model.errors import AwsRefused, WrongRegion

ACCOUNT, REGION = "123456789012", "eu-central-1"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("guarded") / ".fleet"
    home.mkdir(mode=0o755)
    yield home
    daemon.stop(home)


@pytest.fixture(scope="module")
def server(home):
    return daemon.ensure_running(home, account=ACCOUNT, region=REGION)


@pytest.fixture(scope="module")
def mine(server):
    aws = Aws(REGION, ACCOUNT, server.url, server.secret)
    aws.s3.create_bucket(Bucket="guarded", CreateBucketConfiguration={"LocationConstraint": REGION})
    aws.s3.put_object(Bucket="guarded", Key="one", Body=b"1")
    return aws


def answer(server, method="GET", path="/guarded/one", body=None, **headers):
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    got = connection.getresponse()
    return got.status, {name.lower() for name, _ in got.getheaders()}, got.read()


def signed(aws, **more):
    """Return the path and query of a URL that may read the object."""
    client = aws.session.client("s3", endpoint_url=aws.endpoint_url, config=Config(signature_version="s3v4"))
    url = urlsplit(client.generate_presigned_url("get_object", {"Bucket": "guarded", "Key": "one"}, **more))
    return f"{url.path}?{url.query}"


def test_the_secret_is_random_and_no_part_of_what_is_shown(server, mine):
    assert len(server.secret) == 64
    assert server.secret not in f"{server} {mine}"
    assert server.secret not in server.log_path.read_text()


def test_nothing_below_the_home_can_be_read_by_another_user(server, mine, home):
    paths = [home, *home.rglob("*")]
    assert len(paths) > 5
    assert [path for path in paths if path.stat().st_mode & 0o077] == []


ACTIONS = {
    "s3": lambda aws: aws.s3.list_buckets(),
    "iot": lambda aws: aws.iot.list_things(),
    "iam": lambda aws: aws.iam.list_roles(),
    "sts": lambda aws: aws.sts.get_caller_identity(),
    "lambda": lambda aws: aws.functions.list_functions(),
    "dynamodb": lambda aws: aws.dynamodb.list_tables(),
    "logs": lambda aws: aws.logs.describe_log_groups(),
    "secretsmanager": lambda aws: aws.secrets.list_secrets(),
    "glue": lambda aws: aws.glue.get_databases(),
}


@pytest.mark.parametrize("service", ACTIONS)
def test_every_service_answers_to_the_secret_and_to_no_other(mine, service):
    ACTIONS[service](mine)
    for wrong in ("local", "test", mine.secret[:-1]):
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            ACTIONS[service](replace(mine, secret=wrong))


def test_any_other_account_has_the_same_secret_and_its_own_things(mine):
    theirs = replace(mine, account="999999999999")
    theirs.iot.create_thing(thingName="theirs")
    assert theirs.sts.get_caller_identity()["Account"] == "999999999999"
    assert mine.iot.list_things()["things"] == []


@pytest.mark.parametrize("key", ["test", "AKIAIOSFODNN7EXAMPLE", "12345678901"])
def test_no_other_key_is_taken(mine, key):
    with pytest.raises(ClientError, match="UnrecognizedClientException"):
        replace(mine, account=key).iot.list_things()


def test_a_key_that_the_account_gave_out_is_held_to_its_own_secret(mine):
    mine.iam.create_user(UserName="reader")
    mine.iam.put_user_policy(
        UserName="reader",
        PolicyName="all",
        PolicyDocument=json.dumps(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        ),
    )
    made = mine.iam.create_access_key(UserName="reader")["AccessKey"]
    reader = replace(mine, account=made["AccessKeyId"], secret=made["SecretAccessKey"])
    assert [
        each["Name"] for each in reader.session.client("s3", endpoint_url=mine.endpoint_url).list_buckets()["Buckets"]
    ] == ["guarded"]
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        replace(reader, secret=mine.secret).iot.list_things()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    "path",
    ["/", "/guarded/one", "/_ministack/reset", "/_ministack/config", "/_localstack/health", "/2015-03-31/functions"],
)
def test_nothing_but_its_health_is_told_without_a_signature(server, mine, method, path):
    status, headers, body = answer(server, method, path)
    assert status == 403
    assert not any(name.startswith("access-control-") for name in headers)
    assert body != b"1"
    assert answer(server, "GET", "/_ministack/health")[0] == 200
    assert mine.s3.get_object(Bucket="guarded", Key="one")["Body"].read() == b"1"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "same-origin"},
        {"Host": "evil.example"},
        {"Host": "evil.example:80"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1.evil.example"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["health", "signed"])
def test_a_web_page_is_answered_nothing_though_it_knew_a_signed_address(server, mine, headers, path):
    status, answered, body = answer(
        server, "GET", signed(mine) if path == "signed" else "/_ministack/health", **headers
    )
    assert (status, body.startswith(b"AWS on this machine answers")) == (403, True)
    assert not any(name.startswith("access-control-") for name in answered)


def test_a_preflight_allows_nothing(server):
    status, headers, _ = answer(
        server, "OPTIONS", "/", Origin="https://evil.example", Access_Control_Request_Method="PUT"
    )
    assert status == 403
    assert not any(name.startswith("access-control-") for name in headers)


def test_an_answer_carries_no_header_for_web_pages(server, mine):
    status, headers, body = answer(server, "GET", signed(mine))
    assert (status, body) == (200, b"1")
    assert not any(name.startswith("access-control-") for name in headers)


def test_a_websocket_is_refused(server, mine):
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        lines = [
            "GET /mqtt HTTP/1.1",
            f"Host: {where.netloc}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
        ]
        connection.sendall(("\r\n".join([*lines, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", ""])).encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 403")


def test_a_signed_address_is_good_for_its_object_its_method_and_its_time(server, mine):
    path = signed(mine)
    assert answer(server, "GET", path)[0] == 200
    assert answer(server, "DELETE", path)[0] == 403
    assert answer(server, "GET", path.replace("/one", "/two"))[0] == 403
    assert answer(server, "GET", path.replace("X-Amz-Expires=3600", "X-Amz-Expires=7200"))[0] == 403
    assert answer(server, "GET", signed(replace(mine, secret="local")))[0] == 403
    assert answer(server, "GET", signed(mine, ExpiresIn=604_801))[0] == 403


def test_two_ways_of_signing_at_once_are_refused(server, mine):
    assert (
        answer(
            server,
            "GET",
            signed(mine),
            Authorization="AWS4-HMAC-SHA256 Credential=123456789012/20260101/eu-central-1/s3/aws4_request",
        )[0]
        == 403
    )


@pytest.mark.parametrize("unsigned", [True, False])
def test_bodies_are_taken_as_s3_takes_them_signed_unsigned_and_in_chunks(mine, unsigned, tmp_path):
    client = mine.session.client(
        "s3", endpoint_url=mine.endpoint_url, config=Config(s3={"payload_signing_enabled": not unsigned})
    )
    (tmp_path / "body").write_bytes(os.urandom(300_000))
    with (tmp_path / "body").open("rb") as body:
        client.put_object(Bucket="guarded", Key="body", Body=body, ChecksumAlgorithm="CRC32")
    assert client.get_object(Bucket="guarded", Key="body")["Body"].read() == (tmp_path / "body").read_bytes()


def test_another_body_under_a_good_signature_is_refused(server, mine):
    kept = {}
    client = mine.session.client(
        "s3", endpoint_url=mine.endpoint_url, config=Config(s3={"payload_signing_enabled": True})
    )
    client.meta.events.register("before-send.s3", lambda request, **_: kept.update(request.headers, url=request.url))
    client.put_object(Bucket="guarded", Key="signed", Body=b"good", ContentType="text/plain")
    headers = {
        name.replace("-", "_"): value if isinstance(value, str) else value.decode()
        for name, value in kept.items()
        if name != "url"
    }
    assert answer(server, "PUT", "/guarded/signed", b"evil", **headers)[0] == 403
    assert mine.s3.get_object(Bucket="guarded", Key="signed")["Body"].read() == b"good"


def test_a_buckets_own_host_name_is_this_machine(server, mine):
    port = urlsplit(server.url).port
    client = mine.session.client(
        "s3", endpoint_url=f"http://localhost:{port}", config=Config(s3={"addressing_style": "virtual"}, proxies={})
    )
    url = client.generate_presigned_url("get_object", {"Bucket": "guarded", "Key": "one"})
    assert urlsplit(url).netloc == f"guarded.localhost:{port}"
    assert (
        answer(server, "GET", f"{urlsplit(url).path}?{urlsplit(url).query}", Host=f"guarded.localhost:{port}")[2]
        == b"1"
    )


def test_only_loopback_names_with_the_right_port_are_this_machine():
    own = ["127.0.0.1:80", "localhost:80", "LOCALHOST:80", "raw.localhost:80", "raw.s3.localhost:80"]
    others = [
        "127.0.0.1",
        "127.0.0.1:81",
        "evil.example:80",
        "localhost.evil.example:80",
        "evillocalhost:80",
        "",
        ":80",
        "a.127.0.0.1:80",
        "0.0.0.0:80",
    ]
    assert [host for host in own + others if is_own(host, 80)] == own


def test_pyarrow_reads_with_the_secret_alone(server, mine):
    where = urlsplit(server.url).netloc
    files = [
        fs.S3FileSystem(access_key=ACCOUNT, secret_key=key, region=REGION, scheme="http", endpoint_override=where)
        for key in (server.secret, "local")
    ]
    assert files[0].open_input_file("guarded/one").read() == b"1"
    with pytest.raises(OSError, match=r"ACCESS_DENIED|403|SIGNATURE"):
        files[1].open_input_file("guarded/one").read()


def test_a_proxy_of_the_shell_is_not_asked_for_this_machine(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises((OSError, HTTPError)):
        urllib.request.build_opener().open(
            f"{server.url}/_ministack/health", timeout=5
        )  # urlopen would keep the proxy for all tests after this
    fresh = Aws(REGION, ACCOUNT, server.url, server.secret)
    assert fresh.sts.get_caller_identity()["Account"] == ACCOUNT
    assert daemon.status(server.ca_path.parent.parent) is not None


@pytest.mark.parametrize("config", ["no such profile", "no file", "half a key"])
def test_aws_profiles_of_the_user_do_not_matter_here(server, monkeypatch, tmp_path, config):
    (tmp_path / "config").write_text(
        "[broken" if config == "no file" else "[profile other]\naws_access_key_id = half\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "other" if config == "half a key" else "nobodys")
    assert Aws(REGION, ACCOUNT, server.url, server.secret).sts.get_caller_identity()["Account"] == ACCOUNT


@pytest.mark.parametrize("config", ["[broken", "", "[profile nobodys]\naws_access_key_id = half\n"])
def test_a_profile_that_cannot_be_used_is_one_sentence_in_an_account(monkeypatch, tmp_path, config):
    (tmp_path / "config").write_text(config)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "nobodys")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(AwsRefused) as refused:
        check_whereabouts(Aws(REGION, ACCOUNT))
    assert "\n" not in str(refused.value)


def test_the_region_that_the_shell_names_for_aws_must_be_the_fleets(monkeypatch):
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with pytest.raises(WrongRegion, match="us-east-1"):
        check_whereabouts(Aws(REGION, ACCOUNT))


def test_the_keys_of_a_functions_role_are_not_those_that_its_name_tells(server, mine):
    """The emulator makes a function's keys from names that everyone can guess; they are good for what its role may do."""
    role, arn = (
        mine.iam.create_role(RoleName="runner", AssumeRolePolicyDocument="{}")["Role"]["Arn"],
        f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:keys",
    )
    handler = 'import os\ndef handler(event, context):\n    return {name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN")}\n'
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("keys.py", handler)
    mine.functions.create_function(
        FunctionName="keys", Runtime="python3.13", Role=role, Handler="keys.handler", Code={"ZipFile": code.getvalue()}
    )
    mine.functions.get_waiter("function_active_v2").wait(FunctionName="keys")
    given = json.loads(mine.functions.invoke(FunctionName="keys")["Payload"].read())
    digest = hashlib.sha256(f"{arn}:{role}".encode()).hexdigest()
    assert given["AWS_ACCESS_KEY_ID"] == f"ASIA{digest[:16].upper()}"  # what can be guessed
    guessed, right = (
        hashlib.sha256(f"secret:{digest}".encode()).hexdigest(),
        secret_of_function(server.secret, f"{arn}:{role}"),
    )

    def whoami(secret):
        keys = {
            "aws_access_key_id": given["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": secret,
            "aws_session_token": given["AWS_SESSION_TOKEN"],
        }
        return mine.session.client("sts", endpoint_url=server.url, **keys).get_caller_identity()["Arn"]

    assert "assumed-role/runner" in whoami(right)
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        whoami(guessed)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can become another user")
def test_another_user_reads_no_secret_from_the_servers_process(server, mine):
    assert mine.secret.encode() not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
    for path in (server.ca_path.with_name("secret"), f"/proc/{server.pid}/environ", f"/proc/{server.pid}/mem"):
        tried = subprocess.run(
            ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "head", "-c1", path],
            capture_output=True,
            check=False,
        )
        assert (tried.returncode, tried.stdout) == (1, b""), path
