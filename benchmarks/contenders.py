"""Those who race: each turns the hour's raw objects into Parquet, in a process of its own, as a sensible user would
write it.

    python benchmarks/contenders.py NAME URL FOLDER

Prints one line of JSON: CPU seconds and peak memory of the whole process, imports included, and seconds by the clock.
"""

import asyncio
import json
import re
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

STARTED = time.monotonic()
ACCOUNT, REGION = "123456789012", "eu-central-1"
BUCKET, PREFIX = "bench", "test-rule/rule1/"
POLARS_TYPES = {
    "serial": "String",
    "sequence": "Int64",
    "ts": "Int64",
    "position": {"lat": "Float64", "lon": "Float64", "alt": "Float64"},
    "speed": "Float64",
    "heading": "Float64",
    "odometer": "Float64",
    "battery": {"soc": "Float64", "voltage": "Float64", "charging": "Boolean"},
    "diagnostics": {"engine_temp": "Int64", "status": "String"},
}


class WithoutPandas:
    """Hides pandas, which no contender uses: pyarrow imports it at its first array, for half a second, where it happens
    to be installed.
    """

    def find_spec(self, name, _path=None, _target=None):
        if name == "pandas":
            raise ModuleNotFoundError(name)


def fleet_pipeline(url, _folder):
    from benchmarks.messages import HOUR, LAKE, RULE
    from fleet_pipeline.aws.clients import Aws
    from fleet_pipeline.aws.store import S3Store
    from fleet_pipeline.lake.layout import Lake
    from fleet_pipeline.lake.operations.compact_hour import compact_hour

    aws = Aws(REGION, ACCOUNT, url)
    lake = Lake(S3Store(aws, LAKE), f"run-{time.time_ns()}")
    done = compact_hour(S3Store(aws, BUCKET), lake, RULE, HOUR)
    return [f"{url}/{LAKE}/{key}" for key in done.parts_added]


def boto3_threads(url, folder):
    import boto3
    import pyarrow as pa
    import pyarrow.parquet as pq
    from botocore.config import Config

    s3 = boto3.client(
        "s3",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id="a",
        aws_secret_access_key="s",
        config=Config(max_pool_connections=16),
    )
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=PREFIX)
    with ThreadPoolExecutor(16) as pool:
        keys = (entry["Key"] for page in pages for entry in page["Contents"])
        rows = list(pool.map(lambda key: json.loads(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()), keys))
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet", compression="zstd")


def pyarrow_s3(url, folder):
    import io

    import pyarrow.json as pj
    import pyarrow.parquet as pq
    from pyarrow.fs import FileSelector, S3FileSystem

    s3 = S3FileSystem(
        access_key="a", secret_key="s", endpoint_override=url.removeprefix("http://"), scheme="http", region=REGION
    )
    with ThreadPoolExecutor(16) as pool:
        files = s3.get_file_info(FileSelector(f"{BUCKET}/{PREFIX}"))
        bodies = pool.map(lambda file: s3.open_input_stream(file.path).read(), files)
        table = pj.read_json(io.BytesIO(b"\n".join(bodies)))
    pq.write_table(table, folder / "rows.parquet", compression="zstd")


def polars_with_schema(url, folder):
    import polars as pl

    def typed(types):
        return {name: pl.Struct(typed(of)) if isinstance(of, dict) else getattr(pl, of) for name, of in types.items()}

    options = {
        "aws_endpoint_url": url,
        "aws_access_key_id": "a",
        "aws_secret_access_key": "s",
        "aws_region": REGION,
        "aws_allow_http": "true",
    }
    pl.scan_ndjson(
        f"s3://{BUCKET}/{PREFIX}*", schema=typed(POLARS_TYPES), storage_options=options
    ).collect().write_parquet(folder / "rows.parquet")


def duckdb_on(url):
    """Return a connection of DuckDB that reads this S3."""
    import duckdb
    import duckdb_extension_httpfs

    extension = Path(duckdb_extension_httpfs.__file__).parent / "extensions" / f"v{duckdb.__version__}"
    connection = duckdb.connect()
    connection.execute(f"LOAD '{extension / 'httpfs.duckdb_extension'}'")
    connection.execute(
        f"CREATE SECRET (TYPE s3, KEY_ID 'a', SECRET 's', REGION '{REGION}', ENDPOINT "
        f"'{url.removeprefix('http://')}', URL_STYLE 'path', USE_SSL false)"
    )
    return connection


def duckdb_read_json(url, folder):
    connection = duckdb_on(url)
    connection.execute(
        f"COPY (SELECT * FROM read_json('s3://{BUCKET}/{PREFIX}*')) TO '{folder}/rows.parquet' (FORMAT parquet, "
        "COMPRESSION zstd)"
    )


def obstore_asyncio(url, folder):
    import obstore
    import pyarrow as pa
    import pyarrow.parquet as pq

    async def run():
        s3 = _obstore(url)
        limit = asyncio.Semaphore(256)

        async def message(path):
            async with limit:
                return json.loads(bytes(await (await obstore.get_async(s3, path)).bytes_async()))

        return await asyncio.gather(*[message(entry["path"]) for page in obstore.list(s3, PREFIX) for entry in page])

    pq.write_table(pa.Table.from_pylist(asyncio.run(run())), folder / "rows.parquet", compression="zstd")


def obstore_threads(url, folder):
    import io

    import obstore
    import pyarrow.json as pj
    import pyarrow.parquet as pq

    s3 = _obstore(url)
    with ThreadPoolExecutor(16) as pool:
        bodies = pool.map(
            lambda path: bytes(obstore.get(s3, path).bytes()),
            (entry["path"] for page in obstore.list(s3, PREFIX) for entry in page),
        )
        table = pj.read_json(io.BytesIO(b"\n".join(bodies)))
    pq.write_table(table, folder / "rows.parquet", compression="zstd")


def _obstore(url):
    from obstore.store import S3Store

    return S3Store(
        BUCKET,
        endpoint=url,
        region=REGION,
        access_key_id="a",
        secret_access_key="s",
        client_options={"allow_http": True},
        virtual_hosted_style_request=False,
    )


CONTENDERS = {
    contender.__name__: contender
    for contender in (
        fleet_pipeline,
        obstore_threads,
        polars_with_schema,
        obstore_asyncio,
        pyarrow_s3,
        duckdb_read_json,
        boto3_threads,
    )
}


def main():
    run_one(CONTENDERS, *sys.argv[1:])


def run_one(contenders, name, url, folder):
    """Run one of some contenders, and print its figures."""
    if not name.startswith("duckdb"):
        sys.meta_path.insert(0, WithoutPandas())
    urls = contenders[name](url, Path(folder))
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "cpu_s": used.ru_utime + used.ru_stime,
        "wall_s": time.monotonic() - STARTED,
        "peak_mb": peak_mb(),
        "urls": urls or [],
    }
    print(json.dumps(figures))


def peak_mb():
    """The most memory that this process has had. getrusage would also count what its parent had when it was forked."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


if __name__ == "__main__":
    main()
