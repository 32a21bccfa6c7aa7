"""The long forms of what the tests do briefly. Each prints what it did, and fails with the first thing that is wrong.

python benchmarks/soak.py kills      100,000 versions, three writers, 200 kills, faults all along: 0 lost, 0 doubled, 0
altered
python benchmarks/soak.py siege      compaction, rewrite, purge and looks beside readers, 200 kills at requests and
moments: 0 wrong
python benchmarks/soak.py readers    10,000 reads by pyarrow and DuckDB while parts are added: 0 wrong
python benchmarks/soak.py fuzz       200,000 spoilt messages: each has a status, and columns and `_extra` together are
the message
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

_ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(_ROOT / place) for place in ("", "tests/lake", "tests/helpers")]

from test_compaction_faults import soak
from test_compaction_hostile import HOSTILE, _flat, _holds
from test_compaction_processes import Siege
from test_compaction_readers import reads_during_commits, with_duckdb, with_pyarrow

from fleet_pipeline.lake.columns import Sheet
from fleet_pipeline.lake.contract import Contract
from fleet_pipeline.lake.payload import judged


def kills():
    return soak(versions=100_000, kills=200, chance=0.002, seed=1)


def siege():
    figures = Siege(seed=1, chance=0.01).run(kills=200, versions=1000)
    assert figures["wrong"] == []
    return figures


def readers():
    totals = {"reads": 0, "wrong": 0, "states": 0}
    while totals["reads"] < 10_000:
        for read in (with_pyarrow, with_duckdb):
            with tempfile.TemporaryDirectory() as folder:
                for name, figure in reads_during_commits(read, Path(folder), commits=15).items():
                    totals[name] += figure
    assert totals["wrong"] == 0
    return totals


def fuzz():
    chance = random.Random(1)
    corpus = [payload for payload, _ in HOSTILE.values() if len(payload) < 1000]
    corpus += [
        json.dumps({"speed": 12.5, "position": {"lat": 1, "lon": None}, "codes": ["a", 1], "at": "10:00"}).encode()
    ] * len(corpus)
    statuses = {}
    contract = Contract()
    for _ in range(200_000 // 500):
        payloads = [_spoilt(chance, chance.choice(corpus)) for _ in range(500)]
        sheet, judgements = Sheet(contract, 500), [judged(payload) for payload in payloads]
        for status in sheet.write(judgements):
            statuses[status] = statuses.get(status, 0) + 1
        arrays = {column.path: array.to_pylist() for column, array in sheet.arrays()}
        for row, (_, message) in enumerate(judgements):
            aside = _flat(sheet.aside.get(row, {}))
            for path, value in _flat(message).items():
                assert _holds(aside.get(path, arrays.get(path, [None] * 500)[row]), value), payloads[row]
    return statuses


def _spoilt(chance, payload):
    spoilt = bytearray(payload)
    for _ in range(chance.randrange(4)):
        place = chance.randrange(len(spoilt) + 1)
        match chance.randrange(3):
            case 0:
                spoilt[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                spoilt[place:place] = chance.choice(
                    [b"{", b"}", b"[", b"]", b'"', b":", b",", b"null", b"1e9", b"-", b"\\u0061", b'"a":']
                )
            case 2:
                del spoilt[place : place + chance.randrange(8)]
    return bytes(spoilt)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    forms = {"kills": kills, "siege": siege, "readers": readers, "fuzz": fuzz}
    parser.add_argument("form", choices=forms)
    form = parser.parse_args().form
    started = time.monotonic()
    print(form, forms[form](), f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
