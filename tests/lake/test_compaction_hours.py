"""Many hours at once, by processes of their own: what they tell, and what happens when one of them, or the one that began them, is killed."""

import multiprocessing
import pickle
import subprocess
import sys
import time

import psutil
import pytest
from dict_store import DictStore
from faulty_s3 import FaultyS3
from test_compaction import HOUR, RULE, key
from test_compaction_upkeep import PART

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.lake.operations.compact import Compaction, compact_hours
from fleet_pipeline.lake.rows import BLOCK_ROWS
from fleet_pipeline.model.errors import PartsMissing, ProcessLost

pytestmark = pytest.mark.whole  # it starts processes

HOURS = [HOUR, HOUR.next, HOUR.next.next]


@pytest.fixture
def s3():
    """S3 over HTTP with a message in each of three hours."""
    raw = DictStore()
    for place in range(len(HOURS)):
        raw.put(key(place * 3_600_000), b'{"a": 1}')
    with FaultyS3(raw=raw, lake=DictStore()) as served:
        yield served


@pytest.fixture
def compaction(s3):
    return Compaction(Aws("eu-central-1", "123456789012", s3.url()), "raw", "lake", "lake", RULE)


def test_hours_are_compacted_by_processes_of_their_own_and_one_that_fails_holds_up_no_other(s3, compaction):
    s3.buckets["lake"].put(PART.replace("hour=10", "hour=11").replace("00000", "00001"), b"")
    compaction.aws.session.get_credentials()  # one that was used
    done = dict(compact_hours(compaction, HOURS, processes=1))
    assert [done[hour].rows for hour in (HOURS[0], HOURS[2])] == [1, 1]
    assert isinstance(done[HOURS[1]], PartsMissing)


class Sessions(Compaction):
    """Says of each hour how many its session has served so far."""

    def __call__(self, *_):
        served = self.aws.session.__dict__.setdefault("served", [])
        served.append(self.aws.session.get_credentials())
        return len(served)


def test_the_hours_of_a_process_share_one_session_and_its_credentials(compaction):
    work = Sessions(compaction.aws, "raw", "lake", "lake", RULE)
    assert sorted(served for _, served in compact_hours(work, HOURS * 5, processes=1)) == [*range(1, 16)]


def test_processes_tell_how_far_their_hours_are(s3, compaction):
    for place in range(2 * BLOCK_ROWS):
        s3.buckets["raw"].put(key(place), b'{"a": 1}')
    told = []
    dict(
        compact_hours(
            compaction, [HOUR], processes=1, on_progress=lambda hour, progress: told.append((hour, progress.objects))
        )
    )
    assert (HOUR, BLOCK_ROWS) in told
    assert {hour for hour, _ in told} == {HOUR}


def test_a_killed_process_is_an_error_that_names_the_hours_at_stake(s3, compaction):
    running = compact_hours(compaction, HOURS * 1000, processes=1)
    next(running)
    [worker] = multiprocessing.active_children()
    worker.kill()
    with pytest.raises(ProcessLost, match="2026-11-23-1") as lost:
        dict(running)
    assert pickle.loads(pickle.dumps(lost.value)).hours == lost.value.hours


def test_who_stops_listening_begins_no_further_hour(s3, compaction):
    running = compact_hours(compaction, HOURS * 1000, processes=1)
    next(running)
    running.close()
    asked = len(s3.doors[0].requests)
    assert not multiprocessing.active_children()
    assert asked < 100


def test_processes_end_with_the_one_that_began_them_however_it_ended(s3, compaction, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    said = [repr(s3.url()), repr([hour.partition_key for hour in HOURS])]
    with subprocess.Popen([sys.executable, script, *said], stdout=subprocess.PIPE, text=True) as parent:
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    deadline = time.monotonic() + 20
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "it did not end"
        time.sleep(0.05)


PARENT = """
import multiprocessing, sys
from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.lake.operations.compact import Compaction, compact_hours
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule

if __name__ == "__main__":
    url, hours = map(eval, sys.argv[1:])
    compaction = Compaction(Aws("eu-central-1", "123456789012", url), "raw", "lake", "lake", Rule("test-rule", "rule1"))
    for number, _ in enumerate(compact_hours(compaction, list(map(Hour.parse, hours)) * 10_000, processes=1)):
        if number == 0:
            print(*[child.pid for child in multiprocessing.active_children()], flush=True)
"""
