"""Short hours are compacted where they are asked for, and others by processes of their own."""

from contextlib import contextmanager

import pytest
from dict_store import DictStore
from faulty_s3 import FaultyS3
from test_compaction import HOUR, RULE, key
from test_compaction_upkeep import PART

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.lake import listing
from fleet_pipeline.lake.operations import compact
from fleet_pipeline.lake.operations.compact import Compaction, compact_hours
from fleet_pipeline.model.errors import PartsMissing

HOURS = [HOUR, HOUR.next, HOUR.next.next]


@pytest.fixture
def s3():
    raw = DictStore()
    for place in range(len(HOURS)):
        raw.put(key(place * 3_600_000), b'{"a": 1}')
    with FaultyS3(raw=raw, lake=DictStore()) as served:
        yield served


@pytest.fixture
def compaction(s3):
    return Compaction(Aws("eu-central-1", "123456789012", s3.url()), "raw", "lake", "lake", RULE)


@pytest.fixture
def elsewhere(monkeypatch):
    """The hours that an engine was asked for."""
    asked = []

    class Hours:
        def __init__(self, *_):
            pass

        def of(self, hours):
            asked.extend(hours)
            return ()

    @contextmanager
    def engine(*_):
        yield

    monkeypatch.setattr(compact, "engine", engine)
    monkeypatch.setattr(compact, "Hours", Hours)
    return asked


def test_short_hours_need_no_other_process_and_one_that_fails_holds_up_no_other(s3, compaction, elsewhere):
    s3.buckets["lake"].put(PART.replace("hour=10", "hour=11").replace("00000", "00001"), b"")
    told = []
    done = dict(compact_hours(compaction, HOURS, on_progress=lambda hour, far: told.append((hour, far.objects))))
    assert [done[hour].rows for hour in (HOURS[0], HOURS[2])] == [1, 1]
    assert isinstance(done[HOURS[1]], PartsMissing)
    assert told == [(HOURS[0], 1), (HOURS[2], 1)]
    assert elsewhere == []


@pytest.mark.parametrize(
    "longer",
    [
        pytest.param(lambda raw, _: [raw.put(key(3_600_000 + n), b"{}") for n in range(2_000)], id="more than a page"),
        pytest.param(lambda _, patch: patch.setattr(listing, "SHORT_BYTES", 7), id="large objects"),
        pytest.param(
            lambda raw, _: raw.put(f"{RULE.shards_prefix}3/" + key(0)[len(RULE.raw_prefix) :], b"{}"), id="shards"
        ),
        pytest.param(lambda raw, _: raw.put(f"{RULE.batch_prefix}2026/a", b"{}"), id="batches"),
    ],
)
def test_from_the_first_hour_that_is_not_short_processes_do_it(s3, compaction, elsewhere, monkeypatch, longer):
    longer(s3.buckets["raw"], monkeypatch)
    here = [hour for hour, _ in compact_hours(compaction, HOURS)]
    assert here + elsewhere == HOURS
    assert len(elsewhere) >= 2


def test_hours_that_take_longer_than_processes_need_to_start_are_done_by_these(compaction, elsewhere, monkeypatch):
    monkeypatch.setattr(compact, "HERE_S", 0)
    assert [*compact_hours(compaction, HOURS)] == []
    assert elsewhere == HOURS


def test_who_names_processes_or_a_cluster_gets_them(compaction, elsewhere):
    assert [*compact_hours(compaction, HOURS, processes=1), *compact_hours(compaction, HOURS, on="dask://a:1")] == []
    assert elsewhere == HOURS * 2
