"""An hour on a Dask cluster whose scheduler and workers have a network each; one is killed, another joins.

Run by `unshare --net`, with the helpers' folder and that of the lake's tests in PYTHONPATH. Prints a line of JSON.
"""

import json
import signal
import sys
from collections import Counter
from io import BytesIO

import pyarrow.parquet as pq
from dask_cluster import scheduler, worker
from dict_store import DictStore
from distributed import Client
from faulty_s3 import FaultyS3
from namespaces import HOST, Namespace, bridge
from test_compaction import HOUR, RULE, key

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.lake.operations.compact import Compaction, compact_hours

MESSAGES, PORT = 20_000, 8786


def main():
    bridge()
    at, first, second, third = (Namespace(number) for number in (2, 3, 4, 5))
    address = f"{at.address}:{PORT}"
    with FaultyS3(raw=DictStore(), lake=DictStore(), host=HOST) as s3, scheduler(PORT, at):
        for number in range(MESSAGES):
            s3.buckets["raw"].put(key(number * 150), b'{"a": 1}')
        work = Compaction(
            Aws("eu-central-1", "123456789012", s3.url()), "raw", "lake", "lake", RULE, span_versions=1_000
        )
        with worker(PORT, at.address, first) as killed, worker(PORT, at.address, second):
            with Client(f"tcp://{address}", set_as_default=False) as client:
                there = sorted(each.rpartition(":")[0] for each in client.scheduler_info(n_workers=-1)["workers"])

            def kill_once(*_):
                if killed.poll() is None:
                    killed.send_signal(signal.SIGKILL)

            with worker(PORT, at.address, third):
                [(_, outcome)] = compact_hours(work, [HOUR], on=f"dask://{address}", on_progress=kill_once)
        found = Counter()
        for name in [name for name in s3.buckets["lake"].objects if name.endswith(".parquet")]:
            table = pq.read_table(BytesIO(s3.buckets["lake"].read(name, 0, None)), columns=["_key"])
            found.update(table["_key"].to_pylist())
    said = {
        "workers": there,
        "killed": killed.poll() is not None,
        "rows": outcome.rows,
        "keys": len(found),
        "most": max(found.values()),
        "parts": len(outcome.parts_added),
    }
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
