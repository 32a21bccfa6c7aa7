import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from dict_store import DictStore
from faulty_s3 import FaultyS3

from fleet_pipeline.aws import Aws
from fleet_pipeline.errors import AwsRefused, AwsUnavailable
from fleet_pipeline.store import S3Store, Version
from fleet_pipeline.store.s3 import CA_BUNDLE, address, versions_of
from fleet_pipeline.store.signing import Signer
from fleet_pipeline.store.transfers import ATTEMPTS, Request, Transfers, Window

ACCOUNT = "123456789012"


@pytest.fixture(params=["dict", "s3"])
def store(request):
    return DictStore() if request.param == "dict" else request.getfixturevalue("s3_store")


@pytest.fixture
def s3_store(aws, fleet):
    aws.s3.create_bucket(Bucket=fleet.bucket, CreateBucketConfiguration={"LocationConstraint": fleet.region})
    aws.s3.put_bucket_versioning(Bucket=fleet.bucket, VersioningConfiguration={"Status": "Enabled"})
    store = S3Store(aws, fleet.bucket)
    store.put = lambda key, body: aws.s3.put_object(Bucket=fleet.bucket, Key=key, Body=body)
    return store


def keys(pages):
    return [version.key for page in pages for version in page]


def test_a_listing_holds_the_keys_between_its_limits_in_their_order(store):
    for name in ("a/3", "a/1", "a/2", "b/1", "a/4"):
        store.put(name, b"x")
    assert keys(store.versions("a/")) == ["a/1", "a/2", "a/3", "a/4"]
    assert keys(store.versions("a/", after="a/1", until="a/4")) == ["a/2", "a/3"]
    assert keys(store.versions("a/", after="a/1.", until="a/3~")) == ["a/2", "a/3"]
    assert keys(store.versions("none/")) == []


def test_every_version_of_a_key_is_listed_newest_first_and_read_as_it_was(store):
    for body in (b"first", b"", b"third \x00\xff"):
        store.put("a/1", body)
    versions = [version for page in store.versions("a/") for version in page]
    assert [version.size for version in versions] == [8, 0, 5]
    assert [version.latest for version in versions] == [True, False, False]
    assert dict(store.bodies(versions)) == {0: b"third \x00\xff", 1: b"", 2: b"first"}


def test_keys_come_back_as_they_were_whatever_they_are_made_of(store):
    odd = ["a/ +%&<>'\"", "a/ü/€", "a/1672900000000-x:y=z", "a/%2F"]
    for key in odd:
        store.put(key, key.encode())
    versions = [version for page in store.versions("a/") for version in page]
    assert sorted(version.key for version in versions) == sorted(odd)
    assert {body.decode() for _, body in store.bodies(versions)} == set(odd)


S3_ENTRY = (
    "<Version><Key>a/1%2B1</Key><VersionId>v2</VersionId><IsLatest>false</IsLatest><LastModified>2026-11-23T10:00:00.000Z</LastModified>"
    "<ETag>&quot;e1&quot;</ETag><ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>7</Size>"
    "<Owner><ID>o</ID></Owner><StorageClass>STANDARD</StorageClass></Version>"
)
OTHER_ENTRY = (
    '<Version><ETag>"e1"</ETag><Size>7</Size><Key>a/1%2B1</Key><StorageClass>STANDARD</StorageClass><VersionId>v2</VersionId>'
    "<LastModified>2026-11-23T10:00:00.000Z</LastModified><IsLatest>false</IsLatest></Version>"
)
DELETED = "<DeleteMarker><Key>a/0</Key><VersionId>v1</VersionId><IsLatest>true</IsLatest><LastModified>2026-11-23T10:00:00.000Z</LastModified></DeleteMarker>"


@pytest.mark.parametrize("entries", [[S3_ENTRY], [S3_ENTRY, DELETED], [OTHER_ENTRY, DELETED], [S3_ENTRY, OTHER_ENTRY]])
def test_a_listing_is_read_whatever_the_order_in_which_a_server_names_the_fields(entries):
    page = f"<ListVersionsResult><EncodingType>url</EncodingType>{''.join(entries)}</ListVersionsResult>"
    read = versions_of(page)
    assert set(read) == {Version("a/1+1", "v2", 7, '"e1"', "2026-11-23T10:00:00.000Z", latest=False)}
    assert len(read) == len([entry for entry in entries if entry != DELETED])


def test_a_part_of_an_object_is_read(store):
    store.put("a", b"0123456789")
    assert store.read("a", 2, 5) == b"234"


def test_a_key_is_written_once(store, tmp_path):
    file = tmp_path / "body"
    file.write_bytes(b"from a file")
    assert store.put_new("a", file)
    assert not store.put_new("a", b"other")
    assert store.read("a", 0, 11) == b"from a file"
    assert [store.requests[kind] for kind in ("PUT", "GET")] == [2, 1]


def test_only_the_named_versions_are_deleted(store):
    for body in (b"1", b"2", b"3"):
        store.put("a", body)
    versions = [version for page in store.versions("a") for version in page]
    store.delete(versions[:2])
    assert dict(store.bodies([version for page in store.versions("a") for version in page])) == {0: b"1"}


def test_s3_says_what_it_would_not_do(aws):
    store = S3Store(aws, "no-such-bucket")
    with pytest.raises(AwsRefused, match=r"AWS would not list x/ in bucket no-such-bucket: .* \(NoSuchBucket\)"):
        list(store.versions("x/"))


@pytest.mark.parametrize(
    ("endpoint", "where"),
    [
        ("https://s3.eu-central-1.amazonaws.com", ("https://raw.s3.eu-central-1.amazonaws.com", "/")),
        ("https://s3.cn-north-1.amazonaws.com.cn", ("https://raw.s3.cn-north-1.amazonaws.com.cn", "/")),
        ("https://s3-fips.dualstack.us-east-1.amazonaws.com", ("https://raw.s3-fips.dualstack.us-east-1.amazonaws.com", "/")),
        ("https://bucket.vpce-1-2.s3.eu-central-1.vpce.amazonaws.com", ("https://bucket.vpce-1-2.s3.eu-central-1.vpce.amazonaws.com", "/raw/")),
        ("http://127.0.0.1:9000/", ("http://127.0.0.1:9000", "/raw/")),
    ],
)
def test_a_bucket_has_a_host_of_its_own_at_s3_and_a_path_elsewhere(endpoint, where):
    assert address(endpoint, "raw") == where


def test_the_endpoint_that_awss_own_settings_name_is_used(monkeypatch):
    raw = DictStore()
    raw.put("a/1", b"here")
    for name, value in (("ACCESS_KEY_ID", "id"), ("SECRET_ACCESS_KEY", "secret")):
        monkeypatch.setenv(f"AWS_{name}", value)
    with FaultyS3(raw=raw) as s3:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url())
        assert keys(S3Store(Aws("eu-central-1", ACCOUNT), "raw").versions("a/")) == ["a/1"]


def test_a_signature_is_the_one_that_botocore_computes():
    credentials, date = Credentials("AKID", "secret/+", "token=="), datetime(2026, 11, 23, 10, tzinfo=UTC)
    signer = Signer(credentials, "eu-central-1", "bucket.s3.eu-central-1.amazonaws.com", {"x-amz-expected-bucket-owner": ACCOUNT}, clock=date.timestamp)
    lines = dict(line.split(": ", 1) for line in signer.headers("GET", "/a/b%3Ac", "prefix=a%2F&versions=", {"if-match": '"etag"'}))
    theirs = AWSRequest(
        "GET", f"https://{signer.host}/a/b%3Ac?versions&prefix=a%2F", headers={name: value for name, value in lines.items() if name != "authorization"}
    )
    theirs.context["timestamp"] = lines["x-amz-date"]
    auth = S3SigV4Auth(credentials, "s3", "eu-central-1")
    signature = auth.signature(auth.string_to_sign(theirs, auth.canonical_request(theirs)), theirs)
    assert lines["authorization"].endswith(f"Signature={signature}")
    assert "secret" not in repr(signer)


@pytest.fixture
def served():
    """A server that gives each request the next of the answers that it was given; None is no answer at all."""
    answers, asked = [], []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            asked.append(self.headers["authorization"])
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if answer is None:
                self.rfile.read(1)  # until the client hangs up
                return
            status, body = answer
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        now = [0.0]
        signer = Signer(Credentials("AKID", "secret"), "eu-central-1", "127.0.0.1")
        base = f"http://127.0.0.1:{server.server_port}"
        transfers = Transfers(base, signer, CA_BUNDLE, patience_s=0.3, clock=lambda: now[0], sleep=lambda seconds: now.append(now.pop() + seconds))
        yield transfers, answers, asked
        server.shutdown()
        thread.join()


def test_a_request_without_an_answer_is_given_up_and_asked_again(served):
    transfers, answers, asked = served
    answers += [None, (200, b"late")]
    assert transfers.one(Request("/a")).body == b"late"
    assert len(asked) == transfers.sent["GET"] == 2


def test_slow_down_halves_what_flies_and_ends_in_an_error_when_it_never_stops(served):
    transfers, answers, asked = served
    answers += [(503, b"<Error><Code>SlowDown</Code></Error>")]
    with pytest.raises(AwsUnavailable, match=r"would not answer GET /a: .*SlowDown.* \(503\)"):
        transfers.one(Request("/a"))
    assert len(asked) == ATTEMPTS
    assert transfers.window.size < Window().size


def test_expired_credentials_are_asked_for_anew(served):
    transfers, answers, asked = served
    answers += [(400, b"<Error><Code>ExpiredToken</Code></Error>"), (200, b"")]
    list(transfers.all([Request("/a")]))
    transfers.signer.credentials = Credentials("OTHER", "secret")
    answers[:] = [(400, b"<Error><Code>ExpiredToken</Code></Error>"), (200, b"")]
    transfers.one(Request("/a"))
    assert ["AKID" in line for line in asked] == [True, True, True, False]


def test_a_body_of_another_length_than_was_listed_is_asked_for_again(served):
    transfers, answers, asked = served
    answers += [(200, b"shor"), (200, b"whole")]
    assert transfers.one(Request("/a", expected_bytes=5)).body == b"whole"
    assert len(asked) == 2


def test_more_requests_fly_while_the_network_is_waited_for_and_half_as_many_when_s3_says_slow_down():
    window = Window()
    for _ in range(100):
        window.idle()
    assert window.size == window.most
    for now in (10.0, 10.1, 10.2):
        window.slow_down(now)
    assert window.size == window.most // 2
    for _ in range(window.size):
        window.idle()
    assert window.size == window.most // 2 + 1
    window.slow_down(11.0)
    assert window.size == window.most // 4
