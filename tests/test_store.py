from datetime import UTC, datetime

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from dict_store import DictStore

from fleet_pipeline.errors import AwsRefused
from fleet_pipeline.store import S3Store
from fleet_pipeline.store.signing import Signer
from fleet_pipeline.store.transfers import Window

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


def test_more_requests_fly_while_the_network_is_waited_for_and_half_as_many_when_s3_says_slow_down():
    window = Window()
    for _ in range(100):
        window.idle()
    assert window.size == window.most
    window.slow_down()
    assert window.size == window.most // 2
    window.idle()
    assert window.size == window.most // 2 + 1
