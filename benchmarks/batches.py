"""The race on batch objects: an hour's messages in envelopes, many in a gzip, by every contender that can read them.

    python benchmarks/batches.py [--messages 100000] [--dirty] [--megabytes 64] [--only fleet_pipeline ...] [--write]

Server and contender have a core each where there are two. Others than ours read clean messages only, take no message
apart from its doubles, and keep no payload. `--write` renews results.json and docs/benchmarks.md.
"""

import argparse
import base64
import gzip
import io
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import pyarrow.parquet as pq

from benchmarks.contenders import BUCKET, PREFIX, REGION, duckdb_on, fleet_pipeline
from benchmarks.messages import RULE, messages
from fleet_pipeline.model.rule import BatchName

STREAM = "cdk-test-dev-rule1"


def batches(count, *, dirty, megabytes):
    """Yield keys and gzips of batches of so many megabytes of records each, in the order of time."""
    held, size, first = [], 0, None
    for key, payload in messages(count, dirty=dirty):
        name = RULE.parse_raw_key(key)
        first = first or name
        said = {"p": base64.b64encode(payload).decode(), "t": name.millis, "k": "test-rule/rule1"}
        said |= {"c": f"test-thing-297468{size % 1000:06d}", "u": name.uuid}
        held.append(json.dumps(said, separators=(",", ":")).encode() + b"\n")
        size += len(held[-1])
        if size >= megabytes << 20:
            yield _key(first), gzip.compress(b"".join(held), 6, mtime=0)
            held, size, first = [], 0, None
    if held:
        yield _key(first), gzip.compress(b"".join(held), 6, mtime=0)


def _key(first):
    return RULE.batch_key(BatchName(first.millis, first.uuid, STREAM))


def pyarrow_s3(url, folder):
    import pyarrow as pa
    import pyarrow.json as pj
    from pyarrow.fs import FileSelector, S3FileSystem

    s3 = S3FileSystem(
        access_key="a", secret_key="s", endpoint_override=url.removeprefix("http://"), scheme="http", region=REGION
    )
    writer = None
    for file in s3.get_file_info(FileSelector(f"{BUCKET}/{PREFIX}batches/", recursive=True)):
        if not file.is_file:
            continue
        envelopes = pj.read_json(io.BytesIO(s3.open_input_stream(file.path, compression="gzip").read()))
        payloads = b"\n".join(map(base64.b64decode, envelopes["p"].to_pylist()))
        table = pj.read_json(io.BytesIO(payloads))
        writer = writer or pq.ParquetWriter(folder / "rows.parquet", table.schema, compression="zstd")
        writer.write_table(table.cast(writer.schema))
        del envelopes, payloads, table
    writer.close()
    pa.default_memory_pool().release_unused()


def polars(url, folder):
    import polars as pl

    options = {
        "aws_endpoint_url": url,
        "aws_access_key_id": "a",
        "aws_secret_access_key": "s",
        "aws_region": REGION,
        "aws_allow_http": "true",
    }
    envelope = {"p": pl.String, "t": pl.Int64, "k": pl.String, "c": pl.String, "u": pl.String}
    payload = pl.col("p").str.decode("base64").cast(pl.String)
    frame = pl.scan_ndjson(f"s3://{BUCKET}/{PREFIX}batches/**/*.gz", schema=envelope, storage_options=options)
    texts = frame.select(payload.alias("m")).collect()["m"]
    pl.read_ndjson("\n".join(texts).encode()).write_parquet(folder / "rows.parquet")


def duckdb(url, folder):
    connection = duckdb_on(url)
    fields = {
        "serial": "VARCHAR",
        "sequence": "BIGINT",
        "ts": "BIGINT",
        "position": {"lat": "DOUBLE", "lon": "DOUBLE", "alt": "DOUBLE"},
        "speed": "DOUBLE",
        "heading": "DOUBLE",
        "odometer": "DOUBLE",
        "battery": {"soc": "DOUBLE", "voltage": "DOUBLE", "charging": "BOOLEAN"},
        "diagnostics": {"codes": ["VARCHAR"], "engine_temp": "BIGINT", "status": "VARCHAR"},
    }
    connection.execute(
        f"COPY (SELECT m.* FROM (SELECT from_json(decode(from_base64(p))::JSON, '{json.dumps(fields)}') AS m FROM "
        f"read_json('s3://{BUCKET}/{PREFIX}batches/**/*.gz', columns={{p: 'VARCHAR'}}, format='newline_delimited'))) "
        f"TO '{folder}/rows.parquet' (FORMAT parquet, COMPRESSION zstd)"
    )


CONTENDERS = {each.__name__: each for each in (fleet_pipeline, polars, duckdb, pyarrow_s3)}


def race_all(arguments):
    """Print a line of figures for each contender, and return them."""
    from benchmarks.run import race, server

    runs = []
    chosen = {"dirty": arguments.dirty, "batches_of_mb": arguments.megabytes}
    for name in arguments.only:
        script = Path(__file__)
        for count in (1000, arguments.messages):  # a first run compiles what it imports
            with server(count, **chosen) as url:
                run = race(name, url, count, dirty=arguments.dirty, script=script)
        run |= {"megabytes": arguments.megabytes}
        print(json.dumps(run), flush=True)
        runs.append(run)
    return runs


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--dirty", action="store_true")
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    runs = race_all(arguments)
    if arguments.write:
        from benchmarks import report  # which draws

        report.write_batches(runs)


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] in CONTENDERS:  # one contender, in a process of its own
        from benchmarks.contenders import run_one

        run_one(CONTENDERS, *sys.argv[1:])
    else:
        main()
