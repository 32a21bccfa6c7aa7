"""What each engine is given to read a fleet's lake: the openings of docs/query.md with the fleet's own address.

Secrets are never printed. On AWS each engine finds its credentials as AWS's tools do; on this machine it reads the file
that holds the secret.
"""

from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from fleet_pipeline.account import Account
from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.local.folder import ServerFolder
from fleet_pipeline.model.fleet import Fleet

_DUCKDB_AWS = """\
INSTALL httpfs;
INSTALL aws;
CREATE SECRET (TYPE s3, PROVIDER credential_chain, REGION '{region}');
"""

_DUCKDB_HERE = """\
INSTALL httpfs;
SET VARIABLE secret = (SELECT content FROM read_text('{secret}'));
CREATE SECRET (
    TYPE s3, KEY_ID '{account}', SECRET getvariable('secret'), REGION '{region}',
    ENDPOINT '{address}', USE_SSL false, URL_STYLE 'path'
);
"""

_DUCKDB = """\
CREATE VIEW messages AS
SELECT * FROM read_parquet(
    's3://{root}*/*/*/*.parquet',
    union_by_name = true, hive_types = {{'rule': VARCHAR, 'date': VARCHAR, 'hour': INTEGER}}
);
"""

_PANDAS_AWS = """\
from pyarrow import fs

s3 = fs.S3FileSystem(region="{region}")
"""

_PANDAS_HERE = """\
from pathlib import Path

from pyarrow import fs

secret = Path("{secret}").read_text()
s3 = fs.S3FileSystem(
    access_key="{account}",
    secret_key=secret,
    region="{region}",
    scheme="http",
    endpoint_override="{address}",
)
"""

_PANDAS = """\
import pyarrow as pa
import pyarrow.dataset as ds

lake = ds.dataset("{root}", filesystem=s3, partitioning="hive")
day = ds.field("date") == "{day}"
parts = (part.physical_schema for part in lake.get_fragments(day))
columns = pa.unify_schemas([lake.schema, *parts], promote_options="permissive")
messages = lake.replace_schema(columns).to_table(filter=day).to_pandas()
"""

_POLARS_AWS = """\
options = {{"aws_region": "{region}"}}
"""

_POLARS_HERE = """\
from pathlib import Path

options = {{
    "aws_access_key_id": "{account}",
    "aws_secret_access_key": Path("{secret}").read_text(),
    "aws_region": "{region}",
    "aws_endpoint_url": "http://{address}",
    "aws_allow_http": "true",
}}
"""

_POLARS = """\
import polars as pl

rules = [{rules}]
root = "s3://{root}rule="
known = dict(
    hive_partitioning=True,
    try_parse_hive_dates=False,
    storage_options=options,
    missing_columns="insert",
    extra_columns="ignore",
)
tables = [pl.scan_parquet(f"{{root}}{{rule}}/**/*.parquet", **known) for rule in rules]
messages = pl.concat(tables, how="diagonal_relaxed")
"""

_SPARK_AWS = """\
path = "s3a://{root}"
"""

_SPARK_HERE = """\
from pathlib import Path

hadoop = spark.sparkContext._jsc.hadoopConfiguration()
hadoop.set("fs.s3a.endpoint", "http://{address}")
hadoop.set("fs.s3a.access.key", "{account}")
hadoop.set("fs.s3a.secret.key", Path("{secret}").read_text())
hadoop.set("fs.s3a.path.style.access", "true")
path = "s3a://{root}"
"""

_SPARK = """\
messages = spark.read.option("mergeSchema", "true").parquet(path)
messages.createOrReplaceTempView("messages")
"""

_ATHENA_AWS = """\
-- The assets catalog/* keep these tables; `fleet lake ddl` prints statements that make them.
SELECT * FROM "{database}"."{rule}" WHERE date = '{day}' LIMIT 10;
"""

_ATHENA_HERE = """\
-- Athena is not on this machine: ask with `fleet query` instead.
-- On AWS the same settings give the database "{database}".
"""

_PYICEBERG_AWS = """\
options = {{"s3.region": "{region}"}}
"""

_PYICEBERG_HERE = """\
from pathlib import Path

options = {{
    "s3.endpoint": "http://{address}",
    "s3.access-key-id": "{account}",
    "s3.secret-access-key": Path("{secret}").read_text(),
    "s3.region": "{region}",
}}
"""

_PYICEBERG = """\
import os

from pyiceberg.catalog import load_catalog

# The rows are those of s3://{root}: a table is a view of these files.
catalog = load_catalog("fleet", {catalog}, **options)
messages = catalog.load_table("{namespace}.{rule}_iceberg")
day = messages.scan(row_filter="_ts >= '{day}T00:00:00+00:00'").to_arrow()
before = messages.scan(snapshot_id=messages.history()[0].snapshot_id).to_arrow()
"""

_BOTO3_AWS = """\
import boto3

aws = boto3.Session(region_name="{region}")
s3 = aws.client("s3")
"""

_BOTO3_HERE = """\
from pathlib import Path

import boto3

aws = boto3.Session("{account}", Path("{secret}").read_text(), region_name="{region}")
s3 = aws.client("s3", endpoint_url="http://{address}")  # and so any other: sqs, sns, dynamodb, iot
"""

_BOTO3 = """\
parts = s3.list_objects_v2(Bucket="{lake_bucket}", Prefix="{prefix}")
"""

ENGINES = {
    "duckdb": (_DUCKDB_AWS, _DUCKDB_HERE, _DUCKDB),
    "pandas": (_PANDAS_AWS, _PANDAS_HERE, _PANDAS),
    "polars": (_POLARS_AWS, _POLARS_HERE, _POLARS),
    "spark": (_SPARK_AWS, _SPARK_HERE, _SPARK),
    "athena": (_ATHENA_AWS, _ATHENA_HERE, ""),
    "pyiceberg": (_PYICEBERG_AWS, _PYICEBERG_HERE, _PYICEBERG),
    "boto3": (_BOTO3_AWS, _BOTO3_HERE, _BOTO3),
}
"""The opening of each engine on AWS, the one on this machine, and what follows either."""


PACKAGES = {"pandas": "pandas", "polars": "polars", "spark": "pyspark", "pyiceberg": "pyiceberg"}
"""What an engine needs that no extra for asking brings: whoever wants it installs it."""


def needed(engine: str) -> str:
    """Return a line that says what is to be installed for an engine, if it is not there; or nothing."""
    package = PACKAGES.get(engine, "")
    return f"# pip install {package}\n" if package and find_spec(package) is None else ""


def snippet(engine: str, fleet: Fleet, aws: Aws) -> str:
    """Return what an engine is given to read this fleet's lake. It holds no secret."""
    if engine == "boto3":  # also before there is a lake: by it somebody makes what a fleet is given
        return opening(engine, fleet, f"{fleet.parquet_prefix}/", aws.endpoint_url, fleet.start)
    lake = Lake.current(S3Store(aws, fleet.lake_bucket), fleet.parquet_prefix)
    hours = [hours[-1] for rule in fleet.rules if (hours := lake.hours(rule))]
    day = max(hours).start.date() if hours else fleet.start
    return opening(engine, fleet, lake.root, aws.endpoint_url, str(day))


def opening(engine: str, fleet: Fleet, root: str, endpoint: str | None, day: str) -> str:
    """Return the snippet for a lake whose current generation lies at `root`; `endpoint` is the address of AWS on this
    machine, None for AWS.
    """
    if engine == "pyiceberg" and fleet.iceberg_catalog == "off":
        return "# There are no Iceberg tables: FLEET_ICEBERG chooses a catalog (docs/iceberg.md).\n"
    on_aws, here, after = ENGINES[engine]
    return "".join([here if endpoint else on_aws, after and "\n", after]).format(
        region=fleet.region,
        account=fleet.account,
        address=urlsplit(endpoint or "").netloc,
        secret=ServerFolder.of(Path(fleet.home)).secret,
        root=f"{fleet.lake_bucket}/{root}",
        lake_bucket=fleet.lake_bucket,
        prefix=root,
        rules=", ".join(f'"{rule.key}"' for rule in fleet.rules),
        rule=fleet.rules[0].key.lower(),
        database=fleet.database,
        day=day,
        namespace=fleet.iceberg_namespace,
        catalog=_catalog(fleet),
    )


def _catalog(fleet: Fleet) -> str:
    """Return what PyIceberg is told of the fleet's catalog. An address that somebody set may hold a password."""
    set_by_somebody = 'os.environ["FLEET_ICEBERG_URI"]'
    uri = set_by_somebody if fleet.iceberg_uri else f'"{Account.of(fleet).catalog_uri("")}"'
    warehouse = f", warehouse={fleet.iceberg_warehouse!r}" if fleet.iceberg_warehouse else ""
    kind = fleet.iceberg_catalog
    return f'type="{kind}"' if kind == "glue" else f'type="{kind}", uri={uri}{warehouse}'
