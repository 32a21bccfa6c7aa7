"""`fleet demo`: the whole way on one machine, counted at every station."""

import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.dataset as ds
from rich.table import Table

from fleet_pipeline.account import Account
from fleet_pipeline.cli.shown import console, progress
from fleet_pipeline.definitions import build
from fleet_pipeline.errors import RegistrationRefused
from fleet_pipeline.fleet import Fleet, Hour, Rule
from fleet_pipeline.provision.claim_certificate import read_claim

FOREIGN_SERIAL = "999999000001"
"""A serial of another maker, which the hook must refuse."""


@dataclass(frozen=True, slots=True)
class Counts:
    """One rule's messages at the three stations."""

    published: int
    raw_objects: int
    rows: int

    @property
    def agree(self) -> bool:
        """Whether nothing was lost and nothing came twice."""
        return self.published == self.raw_objects == self.rows


def run(fleet: Fleet, vehicles: int, messages: int) -> bool:
    """Provision, register, drive, compact and count; return whether every count agrees. May be run again and again."""
    begun = datetime.now(UTC)
    account = Account.of(fleet)
    _say("AWS", account.aws.endpoint_url or f"account {fleet.account}, {fleet.region}")
    with _dagster() as instance:
        _provision(fleet, instance)
        serials = _register(fleet, account, vehicles)
        published = _drive(fleet, account, serials, messages)
        hours = _hours(begun, datetime.now(UTC))
        _compact(fleet, instance, hours)
