"""A rule's contract as Iceberg's schema, and what makes a table have it: the numbers are the contract's, not the
catalog's.
"""

from collections.abc import Mapping

import pyarrow as pa
from pyiceberg.io.pyarrow import pyarrow_to_schema
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table, TableProperties
from pyiceberg.table.update import AddSchemaUpdate, SetCurrentSchemaUpdate, SetPropertiesUpdate, TableUpdate
from pyiceberg.transforms import HourTransform

from fleet_pipeline.lake.contract import Contract
from fleet_pipeline.lake.field_ids import field_ids, numbered
from fleet_pipeline.lake.rows import EXTRA, HEAD, row_schema

TS = 1 + HEAD.get_field_index("_ts")
"""The number of the column by which tables are partitioned."""

HOURS = PartitionSpec(PartitionField(source_id=TS, field_id=1000, transform=HourTransform(), name="_ts_hour"))
"""A partition is an hour of receipt, as in the lake's own layout."""


FOR_SPARK = {"read.parquet.vectorization.enabled": "false"}
"""Property of a table by which Spark reads row by row, unless somebody has set it otherwise: up to Iceberg 1.10 its
vectors cannot hold Parquet's milliseconds, which `_ts` is in, and every query fails (ClassCastException).

Source: apache/iceberg, issue 14430 and pull request 14499.
"""


def first_schema() -> Schema:
    """Return the columns that every table has, in which a table is made: a catalog counts them from 1 as we do, and may
    count no others so.
    """
    return _schema(pa.schema([*HEAD, EXTRA]), Contract(), 1)


def wanted_schema(contract: Contract, generation: int) -> Schema:
    """Return the columns of a generation's table, with their numbers."""
    return _schema(row_schema(contract), contract, generation)


def updates(table: Table, wanted: Schema) -> tuple[TableUpdate, ...]:
    """Return what makes these the table's columns, and the names by which files without numbers are read; nothing where
    both are so.
    """
    properties = {TableProperties.DEFAULT_NAME_MAPPING: wanted.name_mapping.model_dump_json()}
    properties |= {name: said for name, said in FOR_SPARK.items() if name not in table.properties}
    named = () if properties.items() <= table.properties.items() else (SetPropertiesUpdate(updates=properties),)
    if table.schema().fields == wanted.fields:
        return named
    known = next((schema for schema in table.schemas().values() if schema.fields == wanted.fields), None)
    if known is not None:
        return (SetCurrentSchemaUpdate.model_validate({"schema-id": known.schema_id}), *named)
    new = wanted.model_copy(update={"schema_id": 1 + max(table.schemas())})
    return (AddSchemaUpdate(schema=new), SetCurrentSchemaUpdate(), *named)


def described(schema: Schema) -> Mapping[str, str]:
    """Return the columns by name, in Iceberg's words."""
    return {field.name: str(field.field_type) for field in schema.fields}


def _schema(columns: pa.Schema, contract: Contract, generation: int) -> Schema:
    return pyarrow_to_schema(numbered(columns, field_ids(contract, generation)))
