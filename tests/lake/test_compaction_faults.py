"""Requests that fail, answers that get lost, bodies that are cut short, and compactions that are killed at any request."""

import io
import json
import random
from collections import Counter
from itertools import count

import pyarrow.parquet as pq
import pytest
from dict_store import DictStore
from faulty_s3 import FAULTS, PATIENCE_S, FaultyS3
from test_compaction import HOUR, RULE, key
from test_compaction_hostile import HOSTILE
from writers import Writers

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.compact_hour import compact_hour

ACCOUNT = "123456789012"


def compact(url):
    aws = Aws("eu-central-1", ACCOUNT, url)
    return compact_hour(S3Store(aws, "raw", PATIENCE_S), Lake(S3Store(aws, "lake", PATIENCE_S), "lake"), RULE, HOUR)


def feed(raw, count, seed):
    """Put messages as a fleet would: one in ten meets another in its key, one in twenty is hostile."""
    chance, hostile = random.Random(seed), [payload for payload, _ in HOSTILE.values() if len(payload) < 2000]
    for number in range(count):
        payload = (
            chance.choice(hostile)
            if chance.random() < 0.05
            else json.dumps({"number": number, "speed": chance.random() * 99}).encode()
        )
        raw.put(key(chance.randrange(count * 5), bare=True), payload)


def assert_every_version_is_one_row(raw, lake):
    sent = Counter((version.key, body) for versions in raw.objects.values() for version, body in versions)
    held = Counter()
    for name, [(_, body), *overwritten] in lake.objects.items():
        assert not overwritten
        if name.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(body), columns=["_key", "_payload", "_version"])
            held.update(zip(table["_key"].to_pylist(), table["_payload"].to_pylist(), strict=True))
    assert held == sent


@pytest.mark.whole
def test_faults_of_every_sort_cost_time_and_nothing_else():
    raw, lake = DictStore(), DictStore()
    feed(raw, 1500, seed=1)
    with FaultyS3(raw=raw, lake=lake) as s3:
        s3.doors[0].chance = 0.15
        done = compact(s3.url())
    assert done.rows == 1500
    assert done.recovered_collisions > 75
    assert set(s3.doors[0].faults) == set(FAULTS)
    assert_every_version_is_one_row(raw, lake)


@pytest.mark.whole
@pytest.mark.parametrize("late", [False, True])
def test_killed_before_or_after_any_request_the_next_run_adds_what_is_missing(late):
    endings = []
    with Writers() as writers:
        for place in count():
            endings += [killed_and_recovered(writers, (place, when), late=late) for when in ("before", "after")]
            if endings[-1] == 0:
                break  # there was no such request any more: all of them have been tried
    assert endings.count(-9) == len(endings) - 2
    assert len(endings) > 16


def killed_and_recovered(writers, kill_at, *, late):
    raw, lake = DictStore(), DictStore()
    feed(raw, 3, seed=2)
    with FaultyS3(doors=2, raw=raw, lake=lake) as s3:
        if late:
            compact(s3.url(1))
            feed(raw, 2, seed=3)
        s3.doors[0].kill_at = kill_at
        writers.start(s3.url(), s3.doors[0])
        _, ending = writers.wait()
        compact(s3.url(1))
    assert_every_version_is_one_row(raw, lake)
    return ending


@pytest.mark.whole
def test_writers_at_once_that_are_killed_and_disturbed_lose_and_double_nothing():
    figures = soak(versions=400, kills=10, chance=0.05, seed=4)
    assert figures["kills"] >= 10
    assert figures["faults"] > 10


def soak(*, versions, kills, chance, seed):
    """Three writers on one hour, all disturbed, one after the other killed, while messages come; then one undisturbed run."""
    draw = random.Random(seed)
    raw, lake = DictStore(), DictStore()
    feed(raw, versions // 2, seed)
    killed = 0
    with FaultyS3(doors=4, raw=raw, lake=lake) as s3, Writers() as writers:
        free, busy = s3.doors[:3], {}
        while killed < kills or busy:
            for door in free if killed < kills else []:
                door.requests.clear()
                place = draw.choice([draw.randrange(15), draw.randrange(15), draw.randrange(2000), None])
                door.chance, door.kill_at = chance, (place, draw.choice(["before", "after"]))
                busy[writers.start(f"http://127.0.0.1:{door.port}", door)] = door
            feed(raw, versions // 2 // kills if killed < kills else 0, draw.random())
            pid, ending = writers.wait()
            assert ending in {0, -9}
            killed += ending == -9
            free = [busy.pop(pid)]
        compact(s3.url(3))
        faults = sum(sum(door.faults.values()) for door in s3.doors)
    assert_every_version_is_one_row(raw, lake)
    return {
        "versions": sum(map(len, raw.objects.values())),
        "kills": killed,
        "faults": faults,
        "parts": sum(name.endswith(".parquet") for name in lake.objects),
    }
