"""`fleet cost`: what a month costs, before it is paid."""

import json
from pathlib import Path

import click
from rich.table import Table

from fleet_pipeline.cli.shown import console, styled
from fleet_pipeline.model.cost import DELIVERIES, LAKE_MONTHS, PREFIX_PUTS_S, RAW_DAYS, Prices, Workload, cheapest
from fleet_pipeline.model.fleet import Fleet


@click.command()
@click.option("--vehicles", type=click.IntRange(min=1), default=10_000, show_default=True, help="How many there are.")
@click.option(
    "--every",
    "seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds between two messages of one.",
)
@click.option(
    "--bytes", "size", type=click.IntRange(1, 131_072), default=300, show_default=True, help="Bytes of a message."
)
@click.option(
    "--online",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Share of the month in which one is connected.",
)
@click.option(
    "--raw-days",
    type=click.IntRange(min=0),
    help="Days for which raw objects are kept; FLEET_RAW_RETENTION_DAYS without it, and 30 where that is 0.",
)
@click.option(
    "--lake-months",
    type=click.IntRange(min=0),
    help="Months for which the lake is kept; FLEET_LAKE_RETENTION_DAYS without it, and 12 where that is 0.",
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=120.0,
    show_default=True,
    help="Seconds that a message may wait in its vehicle for others.",
)
@click.option(
    "--prices",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Your prices, in the form of --show-prices.",
)
@click.option("--show-prices", is_flag=True, help="Print the prices as JSON, and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.pass_obj
def cost(  # noqa: PLR0913 (options)
    fleet: Fleet,
    *,
    vehicles: int,
    seconds: float,
    size: int,
    online: float,
    raw_days: int | None,
    lake_months: int | None,
    wait: float,
    file: Path | None,
    show_prices: bool,
    as_json: bool,
) -> None:
    """Say what a month costs from vehicle to row, in US dollars, by the way in which messages are delivered.

    Asks nothing of AWS.
    """
    prices = Prices.read(file) if file else Prices.read()
    if show_prices:
        click.echo(json.dumps({name: getattr(prices, name) for name in Prices.__dataclass_fields__}, indent=2))
        return
    raw = raw_days if raw_days is not None else fleet.raw_retention_days or RAW_DAYS
    lake = lake_months if lake_months is not None else fleet.lake_retention_days / 30 or LAKE_MONTHS
    workload = Workload(vehicles, seconds, size, online, raw, lake)
    if as_json:
        click.echo(json.dumps({each.name: each.month(workload, prices, fleet) for each in DELIVERIES}, indent=2))
        return
    console.print(
        f"{vehicles:,} vehicles, {workload.messages / 1e6:,.0f} million messages a month of {size} bytes. S3's "
        f"requests at FLEET_PRICE_PUT, ${fleet.price_put} for 1,000 PUT or LIST, and FLEET_PRICE_GET, "
        f"${fleet.price_get}, by default those of eu-central-1; all else at the prices of "
        f"{prices.region}, {prices.date}.",
        soft_wrap=True,
    )
    console.print(_table(workload, prices, fleet))
    _advise(workload, prices, fleet, wait)


def _table(workload: Workload, prices: Prices, fleet: Fleet) -> Table:
    table = Table("US dollars a month", *(each.name for each in DELIVERIES))
    months = [each.month(workload, prices, fleet) for each in DELIVERIES]
    totals = [each.total(workload, prices, fleet) for each in DELIVERIES]
    for what in months[0]:
        table.add_row(what, *(_dollars(month[what]) for month in months))
    table.add_section()
    table.add_row("together", *(styled((_dollars(total), "bold")) for total in totals))
    table.add_row("for each vehicle", *(f"{total / workload.vehicles:,.3f}" for total in totals))
    table.add_row("a message waits in its vehicle", *(f"{each.waits_s(workload):,.0f} s" for each in DELIVERIES))
    table.add_row(
        "PUT a second, each rule", *(f"{each.puts_s(workload, len(fleet.made_rules)):,.1f}" for each in DELIVERIES)
    )
    table.add_row("FLEET_DELIVERY", *("firehose" if each.firehose else "object" for each in DELIVERIES))
    return table


def _dollars(amount: float) -> str:
    return f"{amount:,.2f}" if amount < 100 else f"{amount:,.0f}"  # noqa: PLR2004 (cents of hundreds are noise)


def _advise(workload: Workload, prices: Prices, fleet: Fleet, wait: float) -> None:
    fewest = min(rule.shards for rule in fleet.made_rules)
    whose = "a shard's" if fewest > 1 else "a rule's"
    for each in DELIVERIES:
        if (rate := each.puts_s(workload, len(fleet.made_rules)) / fewest) > PREFIX_PUTS_S:
            console.print(
                f"{each.name}: {rate:,.0f} PUT a second under {whose} prefix. S3 takes {PREFIX_PUTS_S:,} before it has "
                "split the prefix; a rule's `shards` spread them (docs/layouts.md)."
            )
    best = cheapest(workload, prices, fleet, wait)
    if best is None:
        return
    month, first = (each.total(workload, prices, fleet) for each in (best, DELIVERIES[0]))
    saved = f": ${first - month:,.0f} less than {DELIVERIES[0].name}" if best != DELIVERIES[0] else ""
    console.print(
        f"The cheapest, where a message may wait for {wait:,.0f} s: {best.name}, ${month:,.0f} a month{saved}."
    )
    if best.firehose:
        console.print(
            f"FLEET_DELIVERY=firehose makes the streams; an hour is then due {fleet.delivery_buffer_seconds // 60} "
            "minutes later."
        )
    if best.batch > 1:
        console.print("A vehicle then publishes an array of its messages; FLEET_ARRAYS=elements makes a row of each.")
