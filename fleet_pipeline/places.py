"""Where a fleet's messages lie in an account, and what keeps parts beyond the lake: for whoever removes some."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet_pipeline.account import Account
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.lake import iceberg
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.privacy.places import Elsewhere, History, NoHistory, Places
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import Rule

if TYPE_CHECKING:
    from fleet_pipeline.lake.iceberg.tables import Tables


def places(
    fleet: Fleet, account: Account, history: History, elsewhere: Mapping[str, Elsewhere] | None = None
) -> Places:
    """Return where a fleet's messages lie in an account, and what else of theirs is reached."""
    store = S3Store(account.aws, fleet.lake_bucket)
    raw, given = S3Store(account.aws, fleet.bucket), given_stores(fleet, account)
    return Places(fleet, raw, store, Lake.of(fleet, store), history, elsewhere or {}, given)


def given_stores(fleet: Fleet, account: Account) -> dict[str, S3Store]:
    """Return the buckets that exist and that rules read, by their names."""
    return {rule.bucket: S3Store(account.aws, rule.bucket) for rule in fleet.given_rules}


def history(fleet: Fleet, account: Account) -> History:
    """Return what keeps parts beyond the lake: Iceberg tables, where the settings choose a catalog. Raises MissingExtra
    where they name one that cannot be reached from here: its snapshots would lead to parts that are gone.

    All tables of the fleet are looked at, so that nothing is removed where one is not ours or cannot be read: raises
    NotOurTable, CatalogRefused, CatalogUnavailable.
    """
    if not iceberg.is_wanted(fleet):
        return NoHistory()
    from fleet_pipeline.lake.iceberg.tables import Tables  # noqa: PLC0415 (it imports PyIceberg)

    found = Snapshots(
        Tables.of(fleet, account.aws, account.catalog_uri(fleet.iceberg_uri)), float(fleet.reader_seconds)
    )
    found.check(fleet.rules)
    return found


@dataclass(frozen=True)
class Snapshots:
    """The snapshots of Iceberg tables. A rule without a table has none."""

    tables: "Tables"
    readers_s: float = 0.0
    """Seconds for which whoever reads may go on with what was replaced."""
    sleep: Callable[[float], None] = time.sleep

    def check(self, rules: Sequence[Rule]) -> None:
        """Return where the tables of some rules are ours and can be read, or are not there."""
        from fleet_pipeline.lake.iceberg.removal import check  # noqa: PLC0415

        for rule in rules:
            check(self.tables, rule)

    def replaced(self, rule: Rule, hour: Hour) -> None:
        """Have the current snapshot hold exactly the parts that the lake has of an hour."""
        from fleet_pipeline.lake.iceberg.sync import replace_hour  # noqa: PLC0415

        if self.keeps(rule):
            replace_hour(self.tables, rule, hour)

    def keeps(self, rule: Rule) -> bool:
        """Whether a rule has a table."""
        return self.tables.find(rule) is not None

    def synced(self, rule: Rule) -> None:
        """Have the current snapshot hold exactly the parts that the lake has."""
        from fleet_pipeline.lake.iceberg.sync import sync  # noqa: PLC0415

        if self.keeps(rule):
            sync(self.tables, rule)

    def let_readers_end(self) -> None:
        """Return once whoever began to read before the last replacement has had the time that the settings leave."""
        if self.readers_s and any(map(self.keeps, self.tables.fleet.rules)):
            self.sleep(self.readers_s)

    def forget(self, rule: Rule, keys: Sequence[str]) -> int:
        """Have no snapshot lead to these parts; return how many snapshots went."""
        from fleet_pipeline.lake.iceberg.removal import forget  # noqa: PLC0415

        return len(forget(self.tables, rule, keys).snapshots)
