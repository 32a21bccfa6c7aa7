"""A fleet's tables in an Iceberg catalog: opened, made where there is none, and refused where there is one that is not
ours.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from uuid import uuid4

from botocore.exceptions import BotoCoreError, ClientError
from pyiceberg import exceptions
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.catalog.glue import GlueCatalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table, TableProperties
from requests import RequestException
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from fleet_pipeline.aws.clients import Aws, absent, doing
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.lake.catalog import tables
from fleet_pipeline.lake.iceberg.columns import FOR_SPARK, HOURS, first_schema
from fleet_pipeline.lake.iceberg.files import properties_of
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.model.errors import CatalogRefused, CatalogUnavailable, FleetError, NotOurTable
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.plain import plain
from fleet_pipeline.model.rule import Rule

NAME = "fleet"
"""The catalog's name: part of its keys in a SQL database, and where PyIceberg's own settings are looked for
(`PYICEBERG_CATALOG__FLEET__TOKEN`).
"""

OWNER = "fleet-pipeline.lake"
"""Property of a table that says of which rule's parts it is."""

KEPT_METADATA = 20
"""Former metadata files that a table remembers: the others are orphans, which maintenance removes after a day."""

MERGED = 24
"""Manifests from which they are merged as files are added: a day of hours, each of which adds one."""

MANIFEST_BYTES = 256 * 1024
"""Bytes of a merged manifest. Smaller ones are more to open, larger ones more to read for a day of a year."""

_FIXED = {
    TableProperties.FORMAT_VERSION: "2",
    TableProperties.COMMIT_NUM_RETRIES: "0",  # a commit that is repeated adds what others have added meanwhile
    TableProperties.MANIFEST_MERGE_ENABLED: "true",
    TableProperties.MANIFEST_MIN_MERGE_COUNT: str(MERGED),
    TableProperties.MANIFEST_TARGET_SIZE_BYTES: str(MANIFEST_BYTES),
    TableProperties.METADATA_PREVIOUS_VERSIONS_MAX: str(KEPT_METADATA),
}

_PASSING = (
    exceptions.CommitStateUnknownException,
    exceptions.ServerError,
    exceptions.ServiceUnavailableError,
    exceptions.TooManyRequestsError,
    OperationalError,
    RequestException,
)
_REFUSED = (
    exceptions.NoSuchNamespaceError,
    exceptions.NoSuchPropertyException,
    exceptions.NotInstalledError,
    exceptions.RESTError,
    SQLAlchemyError,
    ModuleNotFoundError,  # of a SQL database's driver
)


@dataclass(frozen=True)
class Tables:
    """The tables of one fleet, and the lake that they are of."""

    fleet: Fleet
    aws: Aws
    catalog: Catalog
    store: S3Store

    @classmethod
    def of(cls, fleet: Fleet, aws: Aws, uri: str) -> "Tables":
        """Return the tables in the catalog that the settings choose; `uri` is its database's or server's address.

        Raises CatalogRefused where none is chosen or it cannot be used, CatalogUnavailable where it does not answer.
        """
        store = S3Store(aws, fleet.lake_bucket)
        with asking(fleet.iceberg_catalog, uri):
            return cls(fleet, aws, _opened(fleet, aws, uri), store)

    def identifier(self, rule: Rule) -> tuple[str, str]:
        """Return namespace and name of a rule's table. Not the rule's key alone: Glue has such a table already."""
        return self.fleet.iceberg_namespace, f"{rule.key.lower()}_iceberg"

    def lake(self) -> Lake:
        """Return the generation of the lake that readers use now."""
        return Lake.of(self.fleet, self.store)

    def find(self, rule: Rule) -> Table | None:
        """Return a rule's table as it is now; None where there is none. Raises NotOurTable."""
        name = self.identifier(rule)
        with self.asking():
            try:
                found = self.catalog.load_table(name)
            except exceptions.NoSuchIcebergTableError as error:
                raise NotOurTable(".".join(name), "it is no Iceberg table") from error
            except exceptions.NoSuchTableError:
                return None
            except FileNotFoundError as error:
                raise CatalogRefused(self.fleet.iceberg_catalog, leads_nowhere(name, error)) from error
            except (exceptions.NoSuchPropertyException, ValueError) as error:  # of Glue's table of something else
                raise NotOurTable(".".join(name), f"it is no Iceberg table ({plain(error, 200)})") from error
        if (owner := found.properties.get(OWNER)) != self._owner(rule):
            raise NotOurTable(".".join(name), f"it is of {owner}" if owner else "it was made by somebody else")
        return found

    def made(self, rule: Rule) -> Table:
        """Return a rule's table, which is made where there is none; it has no file then. Raises NotOurTable."""
        return self.find(rule) or self._make(rule)

    def check_place(self, bucket: str, key: str) -> None:
        """Return where an object is metadata of this lake's; raise CatalogRefused where it is not, so that nothing of
        anybody else's is deleted.
        """
        if bucket != self.fleet.lake_bucket or not key.startswith(self.fleet.iceberg_prefix):
            told = f"s3://{self.fleet.lake_bucket}/{self.fleet.iceberg_prefix}"
            why = f"it keeps metadata at s3://{bucket}/{key}, not below {told}, where it was told to"
            raise CatalogRefused(self.fleet.iceberg_catalog, why)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Turn what a catalog raises into errors of ours."""
        with asking(self.fleet.iceberg_catalog, getattr(self.catalog, "uri", "")):
            yield

    def _make(self, rule: Rule) -> Table:
        name = self.identifier(rule)
        # A folder of its own each time: another catalog's table of the same rule must not lose its files to the
        # maintenance of this one.
        location = f"s3://{self.fleet.lake_bucket}/{self.fleet.iceberg_prefix}{name[1]}-{uuid4().hex[:12]}"
        properties = _FIXED | FOR_SPARK | {OWNER: self._owner(rule)}
        with self.asking():
            self._make_namespace(name[0])
            with suppress(exceptions.TableAlreadyExistsError):
                self.catalog.create_table(name, first_schema(), location, HOURS, properties=properties)
        found = self.find(rule)
        if found is None:
            raise CatalogUnavailable(
                self.fleet.iceberg_catalog, f"it has made {'.'.join(name)}, and does not know it yet"
            )
        if found.spec() != HOURS or not {field.field_id for field in first_schema().fields} <= {
            *found.schema().field_ids
        }:
            raise CatalogRefused(
                self.fleet.iceberg_catalog,
                f"it gave columns or partitions of {'.'.join(name)} other numbers than it was told",
            )
        return found

    def _make_namespace(self, name: str) -> None:
        """Make the namespace, where somebody else has not: in Glue the database of the fleet's other tables, as they
        would have made it.
        """
        database = tables.database(self.fleet)
        if self.fleet.iceberg_catalog == "glue" and name == database.name:
            if database.read(self.aws) is None:
                with absent("AlreadyExistsException"):
                    database.create(self.aws)
            return
        with suppress(IntegrityError):
            self.catalog.create_namespace_if_not_exists(name)

    def _owner(self, rule: Rule) -> str:
        return f"s3://{self.fleet.lake_bucket}/{self.fleet.parquet_prefix}/rule={rule.key}"


@contextmanager
def asking(kind: str, uri: str) -> Iterator[None]:
    """Turn what a catalog raises into CatalogUnavailable where another try may succeed, and into CatalogRefused
    otherwise.
    """
    try:
        with doing(f"let the Iceberg catalog ({kind}) be used"):
            yield
    except (FleetError, ClientError, BotoCoreError):
        raise
    except _PASSING as error:
        raise CatalogUnavailable(kind, _said(error, uri)) from error
    except _REFUSED as error:
        raise CatalogRefused(kind, _said(error, uri)) from error


def leads_nowhere(name: tuple[str, ...], error: Exception) -> str:
    """Return what is wrong with a table of which metadata are gone, and what to do."""
    return f"{'.'.join(name)} leads to {error}, which is gone: drop the table, and sync makes it anew"


def _said(error: Exception, uri: str) -> str:
    """Return what an error says, without the address, which may hold a password."""
    text = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    return plain(f"{type(error).__name__}: {text.replace(uri, '…') if uri else text}", 300)


def _opened(fleet: Fleet, aws: Aws, uri: str) -> Catalog:
    files = properties_of(aws)
    match fleet.iceberg_catalog:
        case "sql":
            return SqlCatalog(NAME, uri=uri, **files)
        case "glue":
            return GlueCatalog(NAME, client=aws.glue, **files)
        case "rest":
            chosen = {"warehouse": fleet.iceberg_warehouse} if fleet.iceberg_warehouse else {}
            return load_catalog(NAME, type="rest", uri=uri, **chosen, **files)
        case _:
            raise CatalogRefused("off", "the settings choose none: set FLEET_ICEBERG to sql, glue or rest")
