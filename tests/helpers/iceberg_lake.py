"""A lake on AWS on this machine, and its tables in an Iceberg catalog."""

import json
from datetime import timedelta
from typing import ClassVar
from uuid import uuid4

from dict_store import DictStore
from pyiceberg.catalog.sql import SqlCatalog

from fleet_pipeline.account import Account
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.cloud.reconcile import reconcile
from fleet_pipeline.lake.iceberg.files import StoreFiles
from fleet_pipeline.lake.iceberg.sync import sync
from fleet_pipeline.lake.iceberg.tables import NAME, Tables
from fleet_pipeline.lake.operations.compact_hour import compact_hour
from fleet_pipeline.lake.operations.rewrite import rewrite_hour
from fleet_pipeline.lake.rows import row_schema
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName

HOURS = [Hour.parse("2026-11-23-09:00"), Hour.parse("2026-11-23-10:00")]


class NotedFiles(StoreFiles):
    """The lake's files, with what of Iceberg's metadata was opened."""

    opened: ClassVar[list[str]] = []

    def new_input(self, location):
        self.opened.append(location.rpartition("/")[2])
        return super().new_input(location)

    @classmethod
    def manifests(cls):
        """Return how many manifests were opened since this was asked last."""
        found = sum("-m" in name for name in cls.opened)
        cls.opened.clear()
        return found


def noted(of):
    """Return the same tables, of which it is noted what is opened."""
    properties = {**of.catalog.properties, "py-io-impl": f"{NotedFiles.__module__}.{NotedFiles.__qualname__}"}
    return Tables(of.fleet, of.aws, SqlCatalog(NAME, **properties), of.store)


class Filled:
    """A fleet's lake on AWS on this machine, to which messages are added hour by hour."""

    def __init__(self, fleet, catalog=None):
        self.fleet, self.aws = fleet, Account.of(fleet).aws
        reconcile(blueprint(fleet)["lake_bucket"].resource, self.aws)
        self.raw, self.rule = DictStore(), fleet.rules[0]
        if catalog:
            self.tables = Tables(fleet, self.aws, catalog(self.aws), S3Store(self.aws, fleet.lake_bucket))
            return
        self.tables = Tables.of(fleet, self.aws, Account.of(fleet).catalog_uri(fleet.iceberg_uri))

    @property
    def lake(self):
        return self.tables.lake()

    def add(self, hour, *messages):
        """Compact messages into an hour, as its next part."""
        for message in messages:
            at = hour.start + timedelta(seconds=len(self.raw.objects))
            self.raw.put(
                self.rule.raw_key(RawName(int(at.timestamp() * 1000), str(uuid4()))), json.dumps(message).encode()
            )
        compact_hour(self.raw, self.lake, self.rule, hour)

    def lake_schema(self):
        return row_schema(self.lake.contract(self.rule))

    def generation(self):
        """Write the whole table anew, and switch readers to it."""
        old, new = self.lake, self.lake.next_generation
        new.begin()
        for hour in old.hours(self.rule):
            rewrite_hour(old, new, self.rule, hour)
        new.switch()

    def sync(self):
        return sync(self.tables, self.rule)

    def rows(self):
        return self.tables.find(self.rule).scan().to_arrow()
