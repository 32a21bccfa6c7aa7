"""What an hour takes of memory, where messages are made to take much. The whole table is `benchmarks/memory.py`'s."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from dict_store import DictStore

from fleet_pipeline.lake.layout import LakePart
from fleet_pipeline.lake.memory import PARSED_BYTES, blocks_of, parsed_bytes
from fleet_pipeline.lake.parts import ROW_GROUP, _groups, write
from fleet_pipeline.lake.reading import BATCH_BYTES, opened
from fleet_pipeline.lake.rows import HEAD

HOSTILE = """
import json, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from benchmarks.hostile import HOUR, KINDS, RULE, Kept, Lake, RawName, compact_hour

def peak_mb():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")) // 1024

raw, lake = Kept(), Lake(Kept(), "lake")
for number in range(160):
    payload = KINDS["objects without a name"](number)
    raw.put_new(RULE.raw_key(RawName(HOUR.start_ms + number, f"{number:08x}-0000-4000-8000-000000000000")), payload)
before = peak_mb()
done = compact_hour(raw, lake, RULE, HOUR)
print(json.dumps({"grown_mb": peak_mb() - before, "raw_bytes": done.raw_bytes, "statuses": done.statuses}))
"""


@pytest.mark.whole
def test_an_hour_of_messages_that_grow_thirtyfold_once_parsed_takes_no_more_than_others():
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, Path(__file__).parents[2]], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["raw_bytes"] > 20_000_000
    assert found["statuses"] == {"ok": 160}
    assert found["grown_mb"] <= 220


def test_messages_are_cut_into_blocks_by_what_parsing_makes_of_them():
    payloads = [b"[" + b"{}," * 40_000 + b"{}]"] * 100 + [None, b"{}"] * 10
    cuts = list(blocks_of(payloads))
    assert [cuts[0].start, cuts[-1].stop] == [0, len(payloads)]
    assert all(one.stop == other.start for one, other in pairwise(cuts))
    assert len(cuts) > 1
    assert all(sum(parsed_bytes(payload) for payload in payloads[cut] if payload) <= PARSED_BYTES for cut in cuts)


def test_a_message_that_takes_more_than_a_block_may_is_a_block_of_its_own():
    large = b"[" + b"{}," * 600_000 + b"{}]"
    assert parsed_bytes(large) > PARSED_BYTES
    assert list(blocks_of([large, large, b"{}"])) == [slice(0, 1), slice(1, 2), slice(2, 3)]


def test_a_block_of_small_messages_is_not_cut():
    assert list(blocks_of([b"{}"] * 8192)) == [slice(0, 8192)]
    assert list(blocks_of([])) == [slice(0, 0)]


def test_a_row_group_that_was_taken_is_no_longer_held():
    before, held = pa.total_allocated_bytes(), []

    def tables():
        for _ in range(12):
            held.append(pa.total_allocated_bytes() - before)
            yield _rows("a" * 1000, ROW_GROUP // 4)

    groups = _groups(tables())
    while next(groups, None):
        pass
    assert max(held) < ROW_GROUP * 1000


def test_a_batch_of_long_messages_is_no_larger_where_the_hour_has_many_short_ones(tmp_path):
    file, store = tmp_path / "part.parquet", DictStore()
    write(file, [_rows("a", ROW_GROUP), *(_rows(f"{number}" * 100_000, 25) for number in range(10, 20))], HEAD, {})
    store.put("part", file.read_bytes())
    sizes = [
        batch.nbytes for batch in opened(store, LakePart("part", file.stat().st_size)).batches(["_key", "_payload"])
    ]
    assert sum(sizes) > 6 * BATCH_BYTES
    assert max(sizes) <= 2 * BATCH_BYTES


def _rows(payload, rows):
    values = {"_key": "key", "_version": "0123456789abcdef", "_status": "ok", "_payload": payload}
    return pa.table([pa.array([values.get(field.name)] * rows, field.type) for field in HEAD], HEAD)
