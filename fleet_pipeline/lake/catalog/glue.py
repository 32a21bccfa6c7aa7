"""The database and the tables of the AWS Glue Data Catalog, as resources that are planned, applied and removed.

Tables have no tags, so whose they are stands among their parameters, where Glue shows it too.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from fleet_pipeline.aws.clients import Aws, absent

PARQUET = {
    "InputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
    "OutputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
    "SerdeInfo": {"SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"},
}
"""How Hive, and so Athena, reads and writes Parquet; columns are found by name."""


@dataclass(frozen=True)
class Database:
    """A database of the catalog."""

    kind: ClassVar[str] = "Glue database"
    fixed: ClassVar[frozenset[str]] = frozenset()

    name: str
    arn: str
    description: str
    tags: dict[str, str]

    def console_path(self) -> str:
        """The database's page."""
        return f"glue/home#/v2/data-catalog/databases/view/{self.name}"

    def read(self, aws: Aws) -> Self | None:
        """Return the database as it is, or None."""
        with absent("EntityNotFoundException"):
            found = aws.glue.get_database(Name=self.name)["Database"]
            return replace(
                self, description=found.get("Description", ""), tags=_declared(self.tags, found.get("Parameters", {}))
            )
        return None

    def create(self, aws: Aws) -> None:
        """Make the database."""
        aws.glue.create_database(DatabaseInput=self._input())

    def update(self, aws: Aws, _found: Self) -> None:
        """Set its description and whose it is."""
        aws.glue.update_database(Name=self.name, DatabaseInput=self._input())

    def delete(self, aws: Aws) -> None:
        """Remove the database with its tables; the data stays."""
        aws.glue.delete_database(Name=self.name)

    def _input(self) -> Any:
        return {"Name": self.name, "Description": self.description, "Parameters": self.tags}


@dataclass(frozen=True)
class Table:
    """A table over Parquet in S3. `projection` says how its partitions are computed."""

    kind: ClassVar[str] = "Glue table"
    fixed: ClassVar[frozenset[str]] = frozenset()

    name: str
    arn: str
    database: str
    region: str
    description: str
    columns: dict[str, str]
    partition_keys: dict[str, str]
    location: str
    projection: dict[str, str]
    tags: dict[str, str]

    def console_path(self) -> str:
        """The table's page."""
        return f"glue/home?region={self.region}#/v2/data-catalog/tables/view/{self.name}?database={self.database}"

    def read(self, aws: Aws) -> Self | None:
        """Return the table as it is, or None."""
        with absent("EntityNotFoundException"):
            found = aws.glue.get_table(DatabaseName=self.database, Name=self.name)["Table"]
            storage, parameters = found.get("StorageDescriptor", {}), found.get("Parameters", {})
            return replace(
                self,
                description=found.get("Description", ""),
                columns=_kinds(storage.get("Columns", [])),
                partition_keys=_kinds(found.get("PartitionKeys", [])),
                location=storage.get("Location", ""),
                projection=_declared(self.projection, parameters),
                tags=_declared(self.tags, parameters),
            )
        return None

    def create(self, aws: Aws) -> None:
        """Make the table."""
        aws.glue.create_table(DatabaseName=self.database, TableInput=self._input())

    def update(self, aws: Aws, _found: Self) -> None:
        """Replace its definition; Glue keeps the one before as an older version."""
        aws.glue.update_table(DatabaseName=self.database, TableInput=self._input())

    def delete(self, aws: Aws) -> None:
        """Remove the table; the data stays."""
        aws.glue.delete_table(DatabaseName=self.database, Name=self.name)

    def _input(self) -> Any:
        return {
            "Name": self.name,
            "Description": self.description,
            "TableType": "EXTERNAL_TABLE",
            "Parameters": {"EXTERNAL": "TRUE", "classification": "parquet", **self.projection, **self.tags},
            "PartitionKeys": _spelled(self.partition_keys),
            "StorageDescriptor": {**PARQUET, "Columns": _spelled(self.columns), "Location": self.location},
        }


def _spelled(columns: dict[str, str]) -> list[dict[str, str]]:
    return [{"Name": name, "Type": kind} for name, kind in columns.items()]


def _kinds(columns: Any) -> dict[str, str]:
    return {column["Name"]: column.get("Type", "") for column in columns}


def _declared(declared: dict[str, str], found: Any) -> dict[str, str]:
    """Return those parameters that are declared; what Athena and others add is theirs and no drift."""
    return {name: found[name] for name in declared if name in found}
