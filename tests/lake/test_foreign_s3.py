"""The lake on an object store that others wrote, named in AWS's own environment variables. `make foreign-s3` starts two and runs this on both.

FOREIGN_S3 is the store's name, FOREIGN_OBJECTS how many messages are put; the address, trust and credentials are AWS_ENDPOINT_URL_S3's, AWS_CA_BUNDLE's and their like.
"""

import hashlib
import io
import json
import os
import random
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError
from test_compaction import HOUR, RULE, key
from test_compaction_hostile import HOSTILE

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.aws.store.s3 import _proven
from fleet_pipeline.aws.store.transfers import Request
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact import forecast_hour
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.rewrite import rewrite_hour
from fleet_pipeline.lake.operations.verify import purge_hour, verify_hour
from fleet_pipeline.model.errors import OverwritesUnasked

pytestmark = [
    pytest.mark.foreign,
    pytest.mark.skipif(
        "FOREIGN_S3" not in os.environ, reason="no foreign object store runs: make foreign-s3 starts two"
    ),
]
OBJECTS = int(os.environ.get("FOREIGN_OBJECTS", "2500"))
LATER = HOUR.end + timedelta(days=1)


@pytest.fixture(scope="module")
def foreign():
    return Aws("us-east-1", "123456789012")


@pytest.fixture
def bucket(foreign):
    def make(*, versioned):
        name = f"fleet-{uuid.uuid4().hex[:16]}"
        foreign.s3.create_bucket(Bucket=name)
        if versioned:
            foreign.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return S3Store(foreign, name)

    return make


def put(store, objects):
    """Write as a rule does: over whatever a key held."""
    store._transfers.patience_s = 60  # asked for a second time, a write without a condition would be a second version
    wanted = (
        Request(f"{store._root}{name}", kind="PUT", body=body, payload_hash=hashlib.sha256(body).hexdigest())
        for name, body in objects
    )
    assert {answer.status for _, answer in store._transfers.all(wanted)} == {200}


def messages(count, seed):
    chance, hostile = random.Random(seed), [payload for payload, _ in HOSTILE.values() if len(payload) < 2000]
    for number in range(count):
        odd = chance.random() < 0.05
        yield (
            key(chance.randrange(3_600_000)),
            chance.choice(hostile) if odd else json.dumps({"number": number, "speed": chance.random() * 99}).encode(),
        )


def rows(lake):
    found = Counter()
    for part in lake.parts(RULE, HOUR):
        table = pq.read_table(io.BytesIO(lake.store.read(part.key, 0, part.size)), columns=["_key", "_payload"])
        found.update(zip(table["_key"].to_pylist(), table["_payload"].to_pylist(), strict=True))
    return found


def test_an_hour_goes_its_whole_way_and_its_rows_are_what_was_put(bucket):
    raw, lake = bucket(versioned=True), Lake(bucket(versioned=False), "lake")
    if (
        os.environ["FOREIGN_S3"] == "moto"
    ):  # 5.2.5 leaves out the first key at or after a marker: give it the marker itself
        raw.put_new(f"{RULE.raw_prefix}{HOUR.start_ms - 1}.", b"")
    sent, began = list(messages(OBJECTS, 1)), time.monotonic()
    put(raw, sent)
    put_s, began = time.monotonic() - began, time.monotonic()
    assert forecast_hour(raw, lake, RULE, HOUR).missing == OBJECTS
    assert compact_hour(raw, lake, RULE, HOUR).rows_added == OBJECTS
    compact_s = time.monotonic() - began
    late = list(messages(100, 2))
    put(raw, late)
    assert forecast_hour(raw, lake, RULE, HOUR).missing == 100
    assert [compact_hour(raw, lake, RULE, HOUR).rows_added for _ in range(2)] == [100, 0]
    assert rows(lake) == Counter(sent + late)
    new = lake.next_generation
    new.begin()
    rewrite_hour(lake, new, RULE, HOUR)
    new.switch()
    current = Lake.current(lake.store, "lake")
    assert (current.generation, rows(current)) == (2, Counter(sent + late))
    verified = verify_hour(raw, current, RULE, HOUR)
    assert (verified.passed, verified.versions) == (True, OBJECTS + 100)
    assert purge_hour(raw, current, RULE, HOUR, now=LATER).versions == OBJECTS + 100
    assert verify_hour(raw, current, RULE, HOUR).versions == 0
    assert rows(Lake.current(lake.store, "lake")) == Counter(sent + late)
    print(f"\n{os.environ['FOREIGN_S3']}: {OBJECTS} objects put in {put_s:.1f} s, compacted in {compact_s:.1f} s")  # noqa: T201 (the figure for the docs)


def test_every_version_of_every_key_is_listed_whatever_pages_they_lie_on(bucket):
    raw = bucket(versioned=True)
    names = [f"a/{number:04d}" for number in range(700)]
    for times in range(3):
        put(raw, ((name, b"%d" % times) for name in names))
    raw._aws.s3.delete_object(Bucket=raw.bucket, Key=names[5])
    found = [version for page in raw.versions("a/") for version in page]
    assert [version.key for version in found] == [name for name in names for _ in range(3)]
    assert sum(version.latest for version in found) == 699
    assert Counter(body for _, body in raw.bodies(found)) == {b"0": 700, b"1": 700, b"2": 700}
    assert [version.key for page in raw.versions("a/", after=names[3], until=names[6]) for version in page] == [
        name for name in names[4:6] for _ in range(3)
    ]


def test_keys_come_back_as_they_were_whatever_they_are_made_of(bucket):
    raw = bucket(versioned=True)
    odd = ["a/ +%&<>'\"", "a/ü/€", "a/1672900000000-x:y=z", "a/%2F", "a/b/../c", "a/./d", "a//e"]
    taken = [name for name in odd if _put_by_botocore(raw, name)]
    found = [version for page in raw.versions("a/") for version in page]
    assert sorted(version.key for version in found) == sorted(taken)
    assert {body.decode() for _, body in raw.bodies(found)} == set(taken)
    raw.delete(found)
    assert [version for page in raw.versions("") for version in page] == []


def _put_by_botocore(store, name):
    """Say whether the store takes a key at all: some do not know keys with the segments `.` and `..`."""
    try:
        store._aws.s3.put_object(Bucket=store.bucket, Key=name, Body=name.encode())
    except ClientError:
        return False
    return True


@pytest.mark.skipif(
    os.environ.get("FOREIGN_S3") == "moto",
    reason="moto 5.2.5 looks and writes without a lock: two writers may both be answered 200",
)
def test_of_many_writers_of_one_key_one_wins_and_its_bytes_stay(foreign, bucket):
    lake = bucket(versioned=False)
    lake.prove()
    with ThreadPoolExecutor(8) as pool:
        stores = [S3Store(foreign, lake.bucket) for _ in range(8)]
        for number in range(20):
            won = list(
                pool.map(lambda place, name=f"part-{number}": stores[place].put_new(name, b"%d" % place), range(8))
            )
            assert sum(won) == 1
            assert lake.read(f"part-{number}", 0, 1) == b"%d" % won.index(True)


@pytest.mark.parametrize("versioned", [False, True])
def test_a_bucket_is_refused_exactly_if_it_writes_twice_what_may_be_written_once(foreign, bucket, versioned):
    lake = bucket(versioned=versioned)
    _proven.clear()
    if obeys := _obeys(foreign, lake.bucket):
        lake.prove()
    else:
        with pytest.raises(OverwritesUnasked):
            lake.prove()
        assert [version for page in lake.versions("_") for version in page] == []
    print(  # noqa: T201
        f"\n{os.environ['FOREIGN_S3']}: If-None-Match is {'obeyed' if obeys else 'ignored'}, {'versioned' if versioned else 'no versions'}"
    )


def _obeys(foreign, name):
    """Say what botocore sees of it."""
    foreign.s3.put_object(Bucket=name, Key="taken", Body=b"", IfNoneMatch="*")
    try:
        foreign.s3.put_object(Bucket=name, Key="taken", Body=b"", IfNoneMatch="*")
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    return False
