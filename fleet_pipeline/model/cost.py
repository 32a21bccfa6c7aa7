"""What a fleet costs a month from its vehicles to its rows, by the way in which messages are delivered.

Arithmetic only: nothing is asked of AWS.

Prices come from model/prices.json, dated, or from a file of the same form; those of S3's requests are settings,
FLEET_PRICE_GET and FLEET_PRICE_PUT.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import ceil
from pathlib import Path
from typing import Any, Self

from fleet_pipeline.model.errors import InvalidName
from fleet_pipeline.model.fleet import Fleet

MONTH_S = 30 * 86_400
"""A month has 30 days here."""

METERED = 5 * 1024
"""Bytes that AWS IoT meters as one rule and one action, and Firehose as one record.

Source: AWS IoT Core and Amazon Data Firehose, pricing.
"""

GB = 2**30
"""Bytes that AWS bills as a gigabyte. Source: Amazon S3 FAQ, its example of storage."""

PREFIX_PUTS_S = 3_500
"""PUT requests a second that S3 takes under one prefix before it has split it.

Source: Amazon S3 User Guide, optimizing-performance.
"""

CPU_S = 3.64
"""CPU seconds that compaction takes for 100,000 messages, dirty ones among them. Source: docs/benchmarks.md."""

LAKE_SHARE = 0.36
"""Bytes in Parquet for a byte of raw messages: 139 of 382, over 72,000 messages of the virtual fleet, 2026-11-28."""

ENVELOPE_BYTES = 170
"""Bytes of a record beside its message, of which each three bytes are four there: times, topic, client id, UUID."""

RAW_DAYS, LAKE_MONTHS = 30, 12
"""How long raw objects and the lake are kept in a reckoning where the settings do not say."""

LOOKS_AN_HOUR = 6
"""How often the closed hours are listed anew. Source: `schedules.LOOK_CRON`."""


INVENTORY_REQUESTS = 2
"""GET and LIST requests each by which an hour finds its inventory. A test counts them."""


def slow_listings(fleet: Fleet) -> list[str]:
    """Return a sentence on each rule of a bucket that exists whose hour is not found by its own keys: what is listed
    for it, and what that costs a day, with all looks.
    """
    listings = 24 * (1 + LOOKS_AN_HOUR * fleet.look_back_hours + fleet.sweep_days)
    usd = fleet.requests_usd(0, 1000 * listings)  # a million keys are a thousand pages; so is a page of 1,000 folders
    found = []
    for rule in fleet.given_rules:
        extent = rule.layout.extent if rule.layout else "hour"
        if rule.inventory:
            few = fleet.requests_usd(INVENTORY_REQUESTS * listings, INVENTORY_REQUESTS * listings)
            said = f"with all looks ${few:,.2f} a day whatever the bucket holds, beside what S3 charges for the list"
            found.append(f"rule {rule.key}: an hour is read from an S3 Inventory: {said} (docs/layouts.md)")
            continue
        if rule.layout and rule.layout.by_folders:
            listed, each = "goes into every folder, with one request at least for each", "1,000 folders"
        elif extent == "all":
            listed, each = "goes through all keys", "million keys"
        elif extent != "hour":
            listed, each = f"goes through the keys of its {extent}", f"million keys of a {extent}"
        else:
            continue
        cost = f"with all looks ${usd:,.2f} a day for each {each}"
        found.append(f"rule {rule.key}: a listing for an hour {listed}: {cost} (docs/layouts.md)")
    return found


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars, each for the unit in its name."""

    connection_million_minutes: float
    rule_million: float
    action_million: float
    firehose_gb: float
    storage_gb_month: float
    cpu_hour: float
    memory_gb_hour: float
    date: str
    region: str
    source: str

    @classmethod
    def read(cls, file: Path = Path(__file__).parent / "prices.json") -> Self:
        """Return the prices of a file. Raises InvalidName, which says what is missing, when it has another form."""
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            given: dict[str, Any] = {
                each.name: (float if each.type is float else str)(found[each.name]) for each in fields(cls)
            }
        except KeyError as error:
            raise InvalidName("file of prices", str(file), f"it says nothing of {error}") from error
        except (OSError, TypeError, ValueError) as error:
            raise InvalidName("file of prices", str(file), str(error)) from error
        if wrong := [name for name, value in given.items() if isinstance(value, float) and not value >= 0]:
            raise InvalidName("file of prices", str(file), f"{', '.join(wrong)} must be 0 or more")
        return cls(**given)


@dataclass(frozen=True, slots=True)
class Workload:
    """What the vehicles do, and how long it is kept.

    `online` is the share of the month in which a vehicle is connected, and sends.
    """

    vehicles: int
    seconds: float = 10.0
    """Between two messages of a vehicle."""
    size: int = 300
    """Bytes of a message."""
    online: float = 1.0
    raw_days: float = RAW_DAYS
    lake_months: float = LAKE_MONTHS

    @property
    def messages(self) -> float:
        """Messages a month."""
        return self.vehicles * self.online * MONTH_S / self.seconds


@dataclass(frozen=True, slots=True)
class Delivery:
    """How messages come into the raw bucket: each publish an object, or by a Firehose stream; `batch` messages of a
    vehicle in one publish.
    """

    batch: int = 1
    firehose: bool = False

    @property
    def name(self) -> str:
        """What people call it."""
        what = "Firehose" if self.firehose else "an object a publish"
        return what if self.batch == 1 else f"{what}, {self.batch} messages each"

    def waits_s(self, workload: Workload) -> float:
        """Return how long the first message of a batch waits in its vehicle, in seconds."""
        return (self.batch - 1) * workload.seconds

    def puts_s(self, workload: Workload, rules: int) -> float:
        """Return the PUT requests a second under each rule's prefix, while vehicles that are online are spread evenly
        over the month.
        """
        return self._objects(workload, rules) / MONTH_S / rules

    def publishes(self, workload: Workload) -> float:
        """Return the publishes a month."""
        return workload.messages / self.batch

    def record(self, workload: Workload) -> float:
        """Return the bytes of what is handed to a stream for a publish."""
        return self.batch * workload.size * 4 / 3 + ENVELOPE_BYTES

    def _objects(self, workload: Workload, rules: int, megabytes: int = 64, seconds: int = 300) -> float:
        """Return the objects a month: of streams, one whenever the buffer is full, or its time is over."""
        if self.firehose:
            full = self.publishes(workload) * self.record(workload) / (megabytes * 1024**2)
            return max(full, rules * MONTH_S / max(1, seconds))
        return self.publishes(workload)

    def month(self, workload: Workload, prices: Prices, fleet: Fleet) -> Mapping[str, float]:
        """Return what a month costs, in US dollars, by what it is paid for.

        Storage is that of a fleet that has run for as long as it keeps.
        """
        million = 1e6
        publishes = self.publishes(workload)
        objects = self._objects(
            workload, len(fleet.made_rules), fleet.delivery_buffer_mb, fleet.delivery_buffer_seconds
        )
        records = publishes * ceil(self.record(workload) / METERED)
        metered = publishes * ceil(self.batch * workload.size / METERED)
        listed = objects / 1000 * (1 + LOOKS_AN_HOUR * fleet.look_back_hours + fleet.sweep_days)
        raw = workload.messages * workload.size / GB
        hours = workload.messages / 100_000 * CPU_S / 3600
        return {
            "connections": workload.vehicles
            * workload.online
            * MONTH_S
            / 60
            / million
            * prices.connection_million_minutes,
            "rules": metered / million * prices.rule_million,
            "rule actions": metered / million * prices.action_million,
            "Firehose": records * METERED / GB * prices.firehose_gb if self.firehose else 0.0,
            "S3: write raw objects": objects * fleet.price_put / 1000,
            "S3: read them once": objects * fleet.price_get / 1000,
            **({"S3: prove them before they go": objects * fleet.price_get / 1000} if fleet.raw_retention_days else {}),
            "S3: list them, looks included": listed * fleet.price_put / 1000,
            "S3: keep raw objects": raw * workload.raw_days / 30 * prices.storage_gb_month,
            "S3: keep the lake": raw * LAKE_SHARE * workload.lake_months * prices.storage_gb_month,
            "compaction (1 CPU, 2 GB)": hours * (prices.cpu_hour + 2 * prices.memory_gb_hour),
        }

    def total(self, workload: Workload, prices: Prices, fleet: Fleet) -> float:
        """Return what a month costs together, in US dollars."""
        return sum(self.month(workload, prices, fleet).values())


DELIVERIES = (Delivery(), Delivery(batch=10), Delivery(firehose=True), Delivery(batch=10, firehose=True))
"""What is compared. Which is made is said by FLEET_DELIVERY, and by the vehicles that gather."""


def cheapest(
    workload: Workload, prices: Prices, fleet: Fleet, wait_s: float, deliveries: tuple[Delivery, ...] = DELIVERIES
) -> Delivery | None:
    """Return the cheapest delivery in which no message waits in its vehicle for longer than `wait_s`."""
    possible = [each for each in deliveries if each.waits_s(workload) <= wait_s]
    return min(possible, key=lambda each: each.total(workload, prices, fleet), default=None)
