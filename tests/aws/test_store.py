import base64
import contextlib
import hashlib
import socket
import struct
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote

import pytest
from awscrt import checksums
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.httpsession import get_cert_path
from dict_store import DictStore
from faulty_s3 import FaultyS3
from hypothesis import example, given
from hypothesis import strategies as st
from serving import serving

from fleet_pipeline.aws.clients import Aws, doing
from fleet_pipeline.aws.store import ObjectVersion, S3Store
from fleet_pipeline.aws.store.s3 import Page, _proven, address, amazons, ca_bundle, proxy_of
from fleet_pipeline.aws.store.signing import Signer
from fleet_pipeline.aws.store.transfers import ATTEMPTS, FEW_ATTEMPTS, LIMIT_S, Request, Transfers, Window
from fleet_pipeline.lake.operations.compact import Compaction
from fleet_pipeline.lake.operations.compact_hour import Unit
from fleet_pipeline.model.errors import AwsRefused, AwsUnavailable, OverwritesUnasked
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule

ACCOUNT = "123456789012"


@pytest.fixture(params=["dict", pytest.param("s3", marks=pytest.mark.whole)])
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


def test_the_folders_below_a_prefix_are_listed_in_their_order_whatever_lies_in_them(store):
    for name in ("a/c/1", "a/b/1", "a/b/2/3", "a/d", "a/ +%&/x", "b/e/1", "a/c-2/1"):
        store.put(name, b"x")
    assert list(store.folders("a/")) == ["a/ +%&/", "a/b/", "a/c-2/", "a/c/"]
    assert list(store.folders("a/c")) == ["a/c-2/", "a/c/"]
    assert list(store.folders("")) == ["a/", "b/"]
    assert list(store.folders("none/")) == []


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


def versions_of(entries):
    page = Page()
    head = "<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
    assert page.read(f"<ListVersionsResult>{head}{entries}</ListVersionsResult>".encode()) == ""
    return page.versions


@pytest.mark.parametrize("entries", [[S3_ENTRY], [S3_ENTRY, DELETED], [OTHER_ENTRY, DELETED], [S3_ENTRY, OTHER_ENTRY]])
def test_a_listing_is_read_whatever_the_order_in_which_a_server_names_the_fields(entries):
    read = versions_of("".join(entries))
    assert set(read) == {ObjectVersion("a/1+1", "v2", 7, '"e1"', "2026-11-23T10:00:00.000Z", latest=False)}
    assert len(read) == len([entry for entry in entries if entry != DELETED])


def test_a_part_of_an_object_is_read(store):
    store.put("a", b"0123456789")
    assert store.read("a", 2, 5) == b"234"


def test_a_key_is_written_once(store, tmp_path):
    file = tmp_path / "body"
    file.write_bytes(b"from a file")
    assert store.put_new("a", file)
    puts = store.requests["PUT"]
    assert not store.put_new("a", b"other")
    assert store.read("a", 0, 11) == b"from a file"
    assert [store.requests["PUT"] - puts, store.requests["GET"]] == [1, 1]


PROOF = "_create-only"


@pytest.fixture
def unproven():
    """Ports come back within a run of the tests, and with them what was proven of other servers."""
    _proven.clear()


@pytest.mark.parametrize("versioned", [True, False])
def test_a_store_that_overwrites_although_it_was_asked_not_to_is_refused_with_what_to_do(unproven, versioned):
    lake = DictStore(versioned=versioned)
    taken = lake.put("a", b"a part")
    with FaultyS3(obedient=False, lake=lake) as s3:
        store = S3Store(Aws("eu-central-1", ACCOUNT, s3.url()), "lake")
        for _ in range(2):
            with pytest.raises(
                OverwritesUnasked, match=rf"{s3.url()} ignores `If-None-Match: \*`.* bucket lake .*FLEET_LAKE_BUCKET"
            ) as refused:
                store.put_new("a", b"another")
    assert not refused.value.retryable
    assert lake.objects.pop("a") == [(taken, b"a part")]
    assert not lake.objects or not versioned  # what the proof wrote is gone again; this server deletes versions only


def test_a_store_is_proven_once_for_each_process_and_bucket_and_remembers_it(unproven):
    lake = DictStore()
    with FaultyS3(lake=lake, other=DictStore()) as s3:
        aws = Aws("eu-central-1", ACCOUNT, s3.url())
        for bucket, key in (("lake", "a"), ("lake", "b"), ("other", "a")):
            assert S3Store(aws, bucket).put_new(key, b"x")
        _proven.clear()  # as in another process
        assert S3Store(aws, "lake").put_new("c", b"x")
        asked = [request.removeprefix("PUT /") for request in s3.doors[0].requests]
    assert asked == [
        f"lake/{PROOF}",
        f"lake/{PROOF}",
        "lake/a",
        "lake/b",
        f"other/{PROOF}",
        f"other/{PROOF}",
        "other/a",
        f"lake/{PROOF}",
        "lake/c",
    ]
    assert set(lake.objects) == {PROOF, "a", "b", "c"}


def test_amazons_own_s3_is_believed_and_nothing_that_only_sounds_like_it():
    assert amazons("https://lake.s3.eu-central-1.amazonaws.com")
    assert amazons("https://lake.s3.cn-north-1.amazonaws.com.cn")
    assert amazons("https://bucket.vpce-1-2.s3.eu-central-1.vpce.amazonaws.com")
    assert not any(
        map(
            amazons,
            [
                "https://s3.amazonaws.com.example",
                "https://notamazonaws.com",
                "http://127.0.0.1:9000",
                "https://s3.example/amazonaws.com",
            ],
        )
    )


def test_compaction_asks_for_the_proof_before_it_reads_a_message(unproven):
    raw, hour = DictStore(), Hour.parse("2026-11-23-10:00")
    raw.put(key := f"test-rule/rule1/{hour.start_ms}-6f1a2d6e-0c55-4f6e-8d0e-000000000001", b"{}")
    with FaultyS3(obedient=False, raw=raw, lake=DictStore()) as s3:
        job = Compaction(Aws("eu-central-1", ACCOUNT, s3.url()), "raw", "lake", "lake", Rule("test-rule", "rule1"))
        assert isinstance(job(Unit(hour), lambda _: None), OverwritesUnasked)
        assert not any(key in request for request in s3.doors[0].requests)
    with FaultyS3(raw=raw, lake=DictStore()) as s3:
        replace(job, aws=Aws("eu-central-1", ACCOUNT, s3.url()))(Unit(hour), lambda _: None)
        assert any(key in request for request in s3.doors[0].requests)


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
        (
            "https://s3-fips.dualstack.us-east-1.amazonaws.com",
            ("https://raw.s3-fips.dualstack.us-east-1.amazonaws.com", "/"),
        ),
        (
            "https://bucket.vpce-1-2.s3.eu-central-1.vpce.amazonaws.com",
            ("https://bucket.vpce-1-2.s3.eu-central-1.vpce.amazonaws.com", "/raw/"),
        ),
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
    signer = Signer(
        credentials,
        "eu-central-1",
        "bucket.s3.eu-central-1.amazonaws.com",
        {"x-amz-expected-bucket-owner": ACCOUNT},
        clock=date.timestamp,
    )
    lines = dict(
        line.split(": ", 1)
        for line in signer.headers("GET", "/a/b%3Ac", "prefix=a%2F&versions=", {"if-match": '"etag"'})
    )
    theirs = AWSRequest(
        "GET",
        f"https://{signer.host}/a/b%3Ac?versions&prefix=a%2F",
        headers={name: value for name, value in lines.items() if name != "authorization"},
    )
    theirs.context["timestamp"] = lines["x-amz-date"]
    auth = S3SigV4Auth(credentials, "s3", "eu-central-1")
    signature = auth.signature(auth.string_to_sign(theirs, auth.canonical_request(theirs)), theirs)
    assert lines["authorization"].endswith(f"Signature={signature}")
    assert "secret" not in repr(signer)


class Drip:
    """A body that comes byte by byte, slowly, without an end."""


class Endless:
    """A body that comes fast, without an end."""


RESET, SILENT, DRIP, ENDLESS = "reset", None, Drip(), Endless()


@pytest.fixture
def served_paths():
    """The paths that `served` was asked for, in their order."""
    return []


@pytest.fixture
def served(served_paths):
    """A server that gives each request the next of the answers that it was given; None is no answer at all."""
    answers, asked = [], []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            asked.append(self.headers["authorization"])
            served_paths.append(self.path)
            self.rfile.read(int(self.headers["content-length"] or 0))
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if answer is SILENT:
                self.rfile.read(1)  # until the client hangs up
            elif answer is RESET:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
            elif isinstance(answer, Drip | Endless):
                self._pour(b"x" if answer is DRIP else b"x" * 65536, 0.05 if answer is DRIP else 0)
            else:
                self._send(*answer)

        do_PUT = do_DELETE = do_GET  # noqa: N815 (the names that http.server asks for)

        def _pour(self, piece, pause):
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(piece)
                    time.sleep(pause)
            self.close_connection = True

        def _send(self, status, body, headers=None):
            self.send_response(status)
            for name, value in ({"content-length": str(len(body))} | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as base:
        now = [0.0]
        signer = Signer(Credentials("AKID", "secret"), "eu-central-1", "127.0.0.1")
        transfers = Transfers(
            base,
            signer,
            get_cert_path(True),
            patience_s=0.3,
            clock=lambda: now[0],
            sleep=lambda seconds: now.append(now.pop() + seconds),
        )
        yield transfers, answers, asked


@pytest.mark.whole
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


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidToken", "InvalidAccessKeyId"])
def test_credentials_that_are_refused_are_fetched_anew(served, code):
    transfers, answers, asked = served
    transfers.signer.fetched = lambda: Credentials("OTHER", "secret")
    answers += [(403, f"<Error><Code>{code}</Code></Error>".encode()), (200, b"")]
    transfers.one(Request("/a"))
    assert ["AKID" in line for line in asked] == [True, False]


def test_credentials_that_stay_refused_are_given_up_with_what_to_do(served):
    transfers, answers, asked = served
    fetched = []
    transfers.signer.fetched = lambda: fetched.append(1) or Credentials("OTHER", "secret")
    answers += [(400, b"<Error><Code>ExpiredToken</Code></Error>")]
    with pytest.raises(
        AwsRefused, match=r"fetched anew and are refused still: log in again .* \(ExpiredToken\)"
    ) as refused:
        transfers.one(Request("/a"))
    assert not refused.value.retryable
    assert len(asked) == len(fetched) + 1 == FEW_ATTEMPTS


def test_half_a_refusal_is_asked_for_again(served):
    transfers, answers, asked = served
    whole = b"<Error><Code>NoSuchKey</Code></Error>"
    answers += [(404, whole[: len(whole) // 2])] * 2 + [(404, whole)] * FEW_ATTEMPTS
    assert transfers.one(Request("/a")).code == "NoSuchKey"
    assert len(asked) == FEW_ATTEMPTS


@pytest.mark.parametrize("code", ["ExpiredToken", "NoSuchVersion", "PermanentRedirect"])
def test_a_refusal_of_which_another_answer_is_hoped_for_is_not_the_last_word_because_other_tries_failed_before(
    served, code
):
    transfers, answers, asked = served
    refusal = (403, f"<Error><Code>{code}</Code><Region>eu-west-1</Region></Error>".encode())
    answers += [(503, b"")] * (FEW_ATTEMPTS - 1) + [refusal] * (FEW_ATTEMPTS - 1) + [(200, b"here")]
    assert transfers.one(Request("/a")).body == b"here"
    assert len(asked) == 2 * FEW_ATTEMPTS - 1


def test_credentials_are_fetched_from_where_they_come_from_and_not_from_memory(monkeypatch, tmp_path):
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    file.write_text("[default]\naws_access_key_id = OLD\naws_secret_access_key = s\n")
    signer = S3Store(Aws("eu-central-1", ACCOUNT), "raw")._transfers.signer
    file.write_text("[default]\naws_access_key_id = NEW\naws_secret_access_key = s\n")
    signer.expire(signer.number)
    assert "Credential=NEW/" in signer.headers("GET", "/")[0]


def test_a_clock_that_s3_does_not_believe_is_set_by_s3s(served):
    transfers, answers, asked = served
    skewed = b"<Error><Code>RequestTimeTooSkewed</Code><ServerTime>2031-05-06T07:08:09Z</ServerTime></Error>"
    answers += [(403, skewed), (200, b"")]
    transfers.one(Request("/a"))
    assert ["/20310506/" in line for line in asked] == [False, True]


@pytest.mark.whole
@pytest.mark.parametrize(
    "silence", [SILENT, DRIP, ENDLESS, RESET, (200, b"short", {"content-length": "9"}), (200, b"long"), (200, b"")]
)
@pytest.mark.parametrize("kind", ["GET", "PUT"])
def test_a_request_ends_within_its_limit_whatever_the_server_does(served, silence, kind):
    transfers, answers, _ = served
    transfers.clock, transfers.sleep, transfers.limit_s = time.monotonic, time.sleep, 0.7
    answers.append(silence)
    began = time.monotonic()
    with pytest.raises(AwsUnavailable):
        transfers.one(
            Request("/a", kind=kind, expected_bytes=3 if kind == "GET" else None, body=b"x" if kind == "PUT" else b"")
        )
    assert time.monotonic() - began < 10  # the limit is 0.7 s; the rest is for a busy machine


def test_a_request_ends_within_a_minute_as_it_is_shipped():
    assert LIMIT_S == Transfers("", None, "").limit_s == 60


def test_what_whoever_asks_does_meanwhile_is_not_the_servers_time(served):
    transfers, answers, _ = served
    now = [0.0]
    transfers.clock, transfers.sleep = lambda: now[0], lambda seconds: now.append(now.pop() + seconds)
    transfers.window = Window(size=1, most=1)
    answers += [(200, b""), (500, b""), (200, b"")]
    for _ in transfers.all([Request("/a"), Request("/b")]):
        now[0] += 2 * LIMIT_S
    assert transfers.sent["GET"] == 3


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 520])
@pytest.mark.parametrize("code", ["ServiceException", "InternalServiceException", "500", "Whatever"])
def test_a_status_says_what_may_pass_however_the_error_is_called(served, status, code):
    transfers, answers, _asked = served
    answers += [(status, f"<Error><Code>{code}</Code></Error>".encode()), (200, b"")]
    assert transfers.one(Request("/a")).status == 200
    with pytest.raises(AwsUnavailable), doing("look"):
        raise ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Look")


@pytest.mark.parametrize("status", [400, 403, 404, 501])
def test_a_refusal_is_final(served, status):
    transfers, answers, _asked = served
    answers += [(status, b"<Error><Code>Whatever</Code></Error>"), (200, b"")]
    assert transfers.one(Request("/a")).status == status
    with pytest.raises(AwsRefused) as refused, doing("look"):
        raise ClientError({"Error": {"Code": "Whatever"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Look")
    assert not refused.value.retryable


WHOLE = b"<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>"
TAGS = [
    f"<{slash}{name}>"
    for name in ("Version", "Key", "VersionId", "IsLatest", "LastModified", "ETag", "Size")
    for slash in ("", "/")
]


def page_of(entries):
    return WHOLE.replace(b"</IsTruncated>", b"</IsTruncated>" + entries)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<Error><Code>InternalError</Code></Error>",
        b"<?xml version='1.0'?><Error><Code>SlowDown</Code></Error>",
        b"<html><body>please log in</body></html>",
        b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
        WHOLE[:-10],
        WHOLE.replace(b"<IsTruncated>false</IsTruncated>", b""),
        WHOLE.replace(b"false", b""),
        WHOLE.replace(b"false", b"true"),
        page_of(b"<Version><Key>a</Key><Size>1</Size></Version>"),
        page_of(S3_ENTRY.encode()[:-10]),
        *(page_of(S3_ENTRY.replace(tag, "<mangled>", 1).encode()) for tag in TAGS),
        page_of(S3_ENTRY.encode() + b"<Version>"),
        page_of(S3_ENTRY.encode() + b"<Version><Key>a</Key>"),
        page_of(S3_ENTRY.encode() + OTHER_ENTRY.replace("<Size>7</Size>", "").encode()),
        page_of(S3_ENTRY.replace("a/1", "\xff").encode("latin-1")),
    ],
)
def test_what_is_no_whole_page_is_never_the_end_of_a_listing(served, answer):
    transfers, answers, asked = served
    answers += [(200, answer), (200, WHOLE)]
    assert transfers.one(Request("/", kind="LIST", check=Page().read)).body == WHOLE
    assert len(asked) == 2


@pytest.mark.parametrize(
    "answer",
    [(200, b"<Error><Code>InternalError</Code></Error>", {"etag": "x"}), (200, b"<html/>", {"etag": "x"}), (200, b"")],
)
def test_a_success_that_is_not_s3s_is_no_written_object(served, answer):
    transfers, answers, asked = served
    answers += [answer, (200, b"", {"etag": '"e"'})]
    assert transfers.one(Request("/a", kind="PUT", body=b"x")).status == 200
    assert len(asked) == 2


MALFORMED = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>"
PERMANENT = b"<Error><Code>PermanentRedirect</Code><Endpoint>raw.s3.eu-west-1.amazonaws.com</Endpoint></Error>"
BY_HEADER = {"x-amz-bucket-region": "eu-west-1", "location": "http://elsewhere.example/a"}


@pytest.mark.parametrize("kind", ["GET", "PUT"])
@pytest.mark.parametrize(
    "answer",
    [(400, MALFORMED, {}), (301, PERMANENT, BY_HEADER), *[(status, b"", BY_HEADER) for status in (301, 302, 307, 308)]],
)
def test_a_bucket_of_another_region_is_found_there_with_a_signature_for_it(served, elsewhere, kind, answer):
    transfers, answers, asked = served
    there, asked_there, hosts = elsewhere
    transfers.elsewhere = {"eu-west-1": there}.__getitem__
    answers.append(answer)
    for _ in range(2):
        assert transfers.one(Request("/a", kind=kind, body=b"x" if kind == "PUT" else b"")).status == 200
    assert {line.split("/")[2] for line in asked} == {"eu-central-1"}
    assert [line.split("/")[2] for line in asked_there] == ["eu-west-1"] * 2
    assert {host in there for host in hosts} == {True}
    assert len(asked) == (
        2 if kind == "GET" and answer[1] != MALFORMED else 1
    )  # a second time where only a header says the region


@pytest.fixture
def elsewhere():
    """Another server, what it was asked for and under which name: it writes and reads whatever it is asked for."""
    asked, hosts = [], []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            asked.append(self.headers["authorization"])
            hosts.append(self.headers["host"])
            self.rfile.read(int(self.headers["content-length"] or 0))
            self.send_response(200)
            self.send_header("etag", '"e"')
            self.send_header("content-length", "0")
            self.end_headers()

        do_PUT = do_GET  # noqa: N815 (the name that http.server asks for)

        def log_message(self, *_):
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as there:
        yield there, asked, hosts


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("kind", ["GET", "LIST", "PUT", "DELETE"])
def test_no_other_host_is_sent_anything_because_a_redirect_names_it(served, elsewhere, status, kind):
    transfers, answers, asked = served
    there, asked_there, _ = elsewhere
    answers.append((status, b"", {"location": f"{there}/a"}))
    assert transfers.one(Request("/a", kind=kind)).status == status
    assert (len(asked), asked_there) == (2 if kind in {"GET", "LIST"} else 1, [])


@pytest.mark.parametrize("region", ["evil.example/", "evil.example#", "EU", "a b", "x" * 64, ""])
def test_a_region_cannot_name_a_host(served, region):
    transfers, answers, _ = served
    transfers.elsewhere = pytest.fail
    answers.append((400, f"<Error><Code>AuthorizationHeaderMalformed</Code><Region>{region}</Region></Error>".encode()))
    assert transfers.one(Request("/a")).status == 400


def test_regions_that_send_to_each_other_are_given_up(served):
    transfers, answers, asked = served
    transfers.elsewhere = lambda _: transfers.base
    answers += [(400, MALFORMED), (400, MALFORMED.replace(b"west", b"north"))] * 9
    assert transfers.one(Request("/a")).status == 400
    assert len(asked) == FEW_ATTEMPTS


@pytest.mark.whole
def test_a_region_has_its_own_host_at_amazon_and_an_endpoint_that_is_set_stays(monkeypatch):
    for name, value in (("ACCESS_KEY_ID", "id"), ("SECRET_ACCESS_KEY", "secret")):
        monkeypatch.setenv(f"AWS_{name}", value)
    assert (
        S3Store(Aws("eu-central-1", ACCOUNT), "raw")._elsewhere("eu-west-1") == "https://raw.s3.eu-west-1.amazonaws.com"
    )
    assert (
        S3Store(Aws("eu-central-1", ACCOUNT, "http://127.0.0.1:9"), "raw")._elsewhere("eu-west-1")
        == "http://127.0.0.1:9"
    )


def test_a_redirect_that_is_not_followed_is_named_with_what_to_do(served):
    transfers, answers, _ = served
    answers.append((302, b"", {"location": "https://other.example/raw/a"}))
    store = S3Store(Aws("eu-central-1", ACCOUNT, transfers.base), "raw")
    with pytest.raises(
        AwsRefused, match=r"served by other\.example: set FLEET_REGION .*, or AWS_ENDPOINT_URL_S3 .* \(302\)"
    ) as refused:
        store.put_new("a", b"x")
    assert not refused.value.retryable


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (206, {}),
        (206, {"content-range": "bytes 3-5/9"}),
        (206, {"content-range": "bytes 2-5/9"}),
        (200, {}),
        (200, {"content-range": "bytes 0-2/9"}),
    ],
)
def test_bytes_of_another_range_than_was_asked_for_are_asked_for_again(served, status, headers):
    transfers, answers, asked = served
    answers += [(status, b"abc", headers), (206, b"cde", {"content-range": "bytes 2-4/9"})]
    assert transfers.one(Request("/a", expected_bytes=3, span=(2, 5))).body == b"cde"
    assert len(asked) == 2


@pytest.mark.parametrize("body", [b"", b"c", b"cd", b"cdef", BODY_OF_ALL := b"abcdefghi"])
def test_a_range_of_another_length_is_asked_for_again(served, body):
    transfers, answers, asked = served
    said = {"content-range": "bytes 2-4/9"}
    answers += [(206, body, said), (206, b"cde", said)]
    assert transfers.one(Request("/a", expected_bytes=3, span=(2, 5))).body == b"cde"
    assert len(asked) == 2


def test_an_object_that_comes_whole_is_the_range_that_is_all_of_it(served):
    transfers, answers, asked = served
    answers += [(200, BODY_OF_ALL)]
    assert transfers.one(Request("/a", expected_bytes=9, span=(0, 9))).body == BODY_OF_ALL
    assert len(asked) == 1


def test_two_ranges_are_never_of_two_objects(served):
    transfers, answers, _ = served
    store = S3Store(Aws("eu-central-1", ACCOUNT, transfers.base), "raw")
    first, second = ((206, b"cde", {"content-range": "bytes 2-4/9", "etag": etag}) for etag in ('"one"', '"two"'))
    answers += [first, first, second, second]
    assert store.read("a", 2, 5) == store.read("a", 2, 5) == b"cde"
    with pytest.raises(AwsUnavailable, match="replaced between two reads"):
        store.read("a", 2, 5)
    assert store.read("a", 2, 5) == b"cde"  # whoever begins anew reads the other one


def test_a_listing_begins_after_its_marker_although_a_server_begins_with_it(served):
    transfers, answers, _ = served
    page = f"<ListVersionsResult><IsTruncated>false</IsTruncated>{S3_ENTRY}{S3_ENTRY.replace('a/1', 'a/2')}</ListVersionsResult>"
    answers.append((200, page.encode()))
    assert keys(S3Store(Aws("eu-central-1", ACCOUNT, transfers.base), "raw").versions("a/", after="a/1%2B1")) == [
        "a/2%2B1"
    ]


def test_a_token_that_expires_within_a_listing_costs_one_more_request_and_no_version(served):
    transfers, answers, asked = served
    store = S3Store(Aws("eu-central-1", ACCOUNT, transfers.base), "raw")
    page = "<ListVersionsResult><IsTruncated>{}</IsTruncated>{}{}</ListVersionsResult>"
    following = "<NextKeyMarker>a/1+1</NextKeyMarker><NextVersionIdMarker>v2</NextVersionIdMarker>"
    one, two = page.format("true", following, S3_ENTRY), page.format("false", "", S3_ENTRY.replace("a/1", "a/2"))
    answers += [(200, one.encode()), (400, b"<Error><Code>ExpiredToken</Code></Error>"), (200, two.encode())]
    assert len(keys(store.versions("a/"))) == 2
    assert len(asked) == 3


BODY, FLIPPED = b"telemetry", b"telemetrx"
MD5 = hashlib.md5(BODY).hexdigest()
CRC32C = {"x-amz-checksum-crc32c": base64.b64encode(checksums.crc32c(BODY).to_bytes(4, "big")).decode()}
KMS = {"x-amz-server-side-encryption": "aws:kms"}


@pytest.mark.parametrize(("etag", "headers"), [(MD5, {}), ("0" * 32, CRC32C | KMS), ("0" * 32 + "-2", CRC32C)])
def test_a_flipped_body_is_asked_for_again(served, etag, headers):
    transfers, answers, asked = served
    answers += [(200, FLIPPED, headers), (200, FLIPPED, headers), (200, BODY, headers)]
    assert transfers.one(Request("/a", expected_bytes=9, etag=etag)).body == BODY
    assert len(asked) == 3


def test_a_body_that_stays_flipped_is_named(served):
    transfers, answers, _ = served
    answers += [(200, FLIPPED)]
    with pytest.raises(
        AwsUnavailable,
        match=r"would not answer GET /a b \(versionId=v1\): the bytes that came are not those of the ETag",
    ):
        transfers.one(Request("/a%20b", "versionId=v1", expected_bytes=9, etag=MD5))


@pytest.mark.parametrize(("etag", "headers"), [("0" * 32, KMS), ("0" * 32 + "-2", {"x": "y"}), ("0" * 32, CRC32C)])
def test_where_the_etag_is_no_digest_each_further_body_costs_one_request_and_no_handle_of_its_own(
    served, etag, headers
):
    transfers, answers, asked = served
    answers += [(200, BODY, headers)]
    for _ in range(3):
        assert transfers.one(Request("/a", expected_bytes=9, etag=etag)).body == BODY
    assert len(asked) == 4
    assert len(transfers._chunks) == 2  # one that keeps no headers, and one that does


def test_a_version_that_is_gone_is_said_to_be_and_another_run_may_do_without(monkeypatch):
    raw = DictStore()
    version = raw.put("a/1", b"here")
    raw.delete([version])
    with FaultyS3(raw=raw) as s3, pytest.raises(AwsUnavailable, match="listed before and is gone"):
        list(S3Store(Aws("eu-central-1", ACCOUNT, s3.url()), "raw").bodies([version]))


@cache
def nowhere():
    return S3Store(Aws("eu-central-1", ACCOUNT, "http://127.0.0.1:9"), "raw")


@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
    | st.sampled_from(["a/../b", "./a", "a//b", "..", "a/.", "&apos;", "a&#39;b"]),
    st.text("aZ0-._~/+= &%", max_size=12),
)
@example("a/../b", "v/1")
def test_what_is_sent_is_what_botocore_would_sign(key, version):
    request = nowhere()._get(0, ObjectVersion(key, version, 1, '"e"', "", latest=True))
    signer = Signer(Credentials("AKID", "secret"), "eu-central-1", "127.0.0.1:9")
    lines = dict(line.split(": ", 1) for line in signer.headers("GET", request.path, request.query))
    sent = {name: value for name, value in lines.items() if name != "authorization"}
    theirs = AWSRequest(
        "GET", f"http://127.0.0.1:9/raw/{quote(key, safe='/~')}", params={"versionId": version}, headers=sent
    )
    theirs.context["timestamp"] = lines["x-amz-date"]
    auth = S3SigV4Auth(signer.credentials, "s3", "eu-central-1")
    assert lines["authorization"].endswith(
        f"Signature={auth.signature(auth.string_to_sign(theirs, auth.canonical_request(theirs)), theirs)}"
    )
    assert (unquote(request.path), parse_qs(request.query, keep_blank_values=True)["versionId"]) == (
        f"/raw/{key}",
        [version],
    )


@pytest.mark.parametrize("path", ["/raw/a/../b", "/raw/./a", "/raw/..", "/raw/a//b"])
def test_a_path_goes_out_as_it_was_signed(served, served_paths, path):
    transfers, answers, _ = served
    answers += [(200, b"")]
    transfers.one(Request(path))
    assert served_paths == [path]


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("a&apos;b", "a'b"),
        ("a&#39;b", "a'b"),
        ("a&#x26;b%2Bc+d", "a&b+c d"),
        ("a&amp;copy", "a&copy"),
        ("%C3%BC%01", "ü\x01"),
    ],
)
def test_references_in_a_listing_are_read_as_xmls(written, key):
    entry = S3_ENTRY.replace("a/1%2B1", written).replace("v2", "v&amp;2")
    [version] = versions_of(entry)
    assert (version.key, version.id) == (key, "v&2")


def test_trust_and_proxies_are_botocores(monkeypatch, tmp_path):
    aws = Aws("eu-central-1", ACCOUNT)
    for name in (
        "AWS_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "HTTPS_PROXY",
        "https_proxy",
        "NO_PROXY",
        "no_proxy",
        "AWS_PROFILE",
    ):
        monkeypatch.delenv(name, raising=False)
    assert ca_bundle(aws) == get_cert_path(True)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/theirs.pem")
    assert ca_bundle(aws) == "/theirs.pem"
    (tmp_path / "config").write_text("[profile corp]\nca_bundle = /profile.pem\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "corp")
    assert ca_bundle(Aws("eu-central-1", ACCOUNT)) == "/profile.pem"
    monkeypatch.setenv("AWS_CA_BUNDLE", "/ours.pem")
    assert ca_bundle(Aws("eu-central-1", ACCOUNT)) == "/ours.pem"
    assert proxy_of("https://raw.s3.eu-central-1.amazonaws.com") == ""
    monkeypatch.setenv("HTTPS_PROXY", "proxy.corp:3128")
    assert proxy_of("https://raw.s3.eu-central-1.amazonaws.com") == "http://proxy.corp:3128"
    monkeypatch.setenv("NO_PROXY", ".amazonaws.com")
    assert proxy_of("https://raw.s3.eu-central-1.amazonaws.com") == ""


def test_requests_go_through_the_proxy_and_those_of_aws_on_this_machine_never(served):
    transfers, answers, _ = served
    answers += [(200, b"from the proxy")]
    there = Transfers("http://s3.invalid", transfers.signer, transfers.ca_bundle, proxy=transfers.base)
    assert there.one(Request("/a")).body == b"from the proxy"
    assert S3Store(Aws("eu-central-1", ACCOUNT, "http://127.0.0.1:9"), "raw")._transfers.proxy == ""


def test_authorities_are_read_from_a_path_of_any_letters_and_an_unreadable_one_is_said_at_once(tmp_path):
    signer = Signer(Credentials("AKID", "secret"), "eu-central-1", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
        missing = Transfers(f"https://127.0.0.1:{port}", signer, str(tmp_path / "büro.pem"), patience_s=0.3)
        with pytest.raises(AwsRefused, match=r"AWS_CA_BUNDLE.*\(curl 77\)"):
            missing.one(Request("/a"))
    (tmp_path / "büro.pem").write_bytes(Path(get_cert_path(True)).read_bytes())
    with pytest.raises(AwsUnavailable, match="connect"):
        Transfers(f"https://127.0.0.1:{port}", signer, str(tmp_path / "büro.pem"), patience_s=0.3, limit_s=0.5).one(
            Request("/a")
        )


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
