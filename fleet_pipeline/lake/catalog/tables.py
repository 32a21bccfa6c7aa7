"""What each table of the catalog is: columns as the lake has recorded them, partitions that are computed and never
registered.

Partition projection spares the crawler and `MSCK REPAIR TABLE`: from the date's range and the hour's, Athena computes
where the partitions lie, so an hour can be queried the moment its first part is written. Source: Amazon Athena User
Guide, partition-projection-supported-types.
"""

import re

import pyarrow as pa

from fleet_pipeline.lake.catalog.glue import Database, Table
from fleet_pipeline.lake.contract import Contract
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.rows import row_schema
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.rule import Rule

PARTITION_KEYS = {"rule": "string", "date": "string", "hour": "int"}
"""A date is a text: `date = '2026-11-23'` then means the same in every engine."""

_TYPES = {
    pa.bool_(): "boolean",
    pa.int64(): "bigint",
    pa.float64(): "double",
    pa.string(): "string",
    pa.binary(): "binary",
    pa.timestamp("ms", "UTC"): "timestamp",
}
"""What Glue and Athena call the types of the lake's columns."""

_IN_STRUCT = re.compile("([^<>,:]+):")
"""A field of a struct in Glue's words, which quote no name; a contract takes none there with one of these characters.

Athena's DDL wants `date` quoted.
"""


def database(fleet: Fleet) -> Database:
    """Return the database of a fleet's tables."""
    return Database(
        name=fleet.database,
        arn=fleet.arn("glue", f"database/{fleet.database}"),
        description=f"The lake of {fleet.prefix}",
        tags=fleet.all_tags,
    )


def table(fleet: Fleet, lake: Lake, rule: Rule, contract: Contract) -> Table:
    """Return the table of a rule's messages, with the columns of its contract."""
    name = rule.key.lower()  # Glue would lower it by itself
    root = f"s3://{fleet.lake_bucket}/{lake.root}"
    return Table(
        name=name,
        arn=fleet.arn("glue", f"table/{fleet.database}/{name}"),
        database=fleet.database,
        region=fleet.region,
        description=f"{rule.contents.replace('`', '')}, one row each",
        columns={field.name.lower(): _type(field.type) for field in row_schema(contract)},
        partition_keys=PARTITION_KEYS,
        location=f"{root}rule={rule.key}/",
        projection={
            "projection.enabled": "true",
            "projection.rule.type": "enum",
            "projection.rule.values": rule.key,
            "projection.date.type": "date",
            "projection.date.format": "yyyy-MM-dd",
            "projection.date.range": f"{fleet.start},NOW",
            "projection.hour.type": "integer",
            "projection.hour.range": "0,23",
            "projection.hour.digits": "2",
            "storage.location.template": f"{root}rule=${{rule}}/date=${{date}}/hour=${{hour}}/",
        },
        tags=fleet.all_tags,
    )


def ddl(wanted: Table) -> str:
    """Return the statement that makes a table in Athena, for those who keep no Glue tables by this package."""
    columns = ",\n".join(
        f"  {_quoted(name)} {_IN_STRUCT.sub(_quoted_field, kind)}" for name, kind in wanted.columns.items()
    )
    partitions = ", ".join(f"{_quoted(name)} {kind}" for name, kind in wanted.partition_keys.items())
    properties = ",\n".join(f"  '{name}' = '{value}'" for name, value in wanted.projection.items())
    return (
        f"CREATE EXTERNAL TABLE IF NOT EXISTS {_quoted(wanted.database)}.{_quoted(wanted.name)} (\n{columns}\n)\n"
        f"PARTITIONED BY ({partitions})\nSTORED AS PARQUET\nLOCATION '{wanted.location}'\nTBLPROPERTIES "
        f"(\n{properties}\n);"
    )


def _type(of: pa.DataType) -> str:
    if pa.types.is_struct(of):
        return f"struct<{','.join(f'{field.name.lower()}:{_type(field.type)}' for field in of)}>"
    if pa.types.is_decimal(of):
        return f"decimal({of.precision},{of.scale})"
    return f"array<{_type(of.value_type)}>" if pa.types.is_list(of) else _TYPES[of]


def _quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"


def _quoted_field(found: re.Match[str]) -> str:
    return f"{_quoted(found[1])}:"
