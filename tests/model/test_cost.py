"""`fleet cost`: arithmetic that people decide by, held against figures worked out by hand."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fleet_pipeline.assets.lake.schedules import LOOK_CRON
from fleet_pipeline.model.cost import DELIVERIES, LOOKS_AN_HOUR, Delivery, Prices, Workload, cheapest, slow_listings
from fleet_pipeline.model.errors import InvalidName
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.rule_table import RuleTable

FLEET = replace(Fleet(), price_get=0.0004, price_put=0.005)
"""S3's requests in us-east-1, like the other prices."""
PRICES = Prices.read()
REQUESTS = ("rules", "rule actions", "Firehose", "S3: write raw objects", "S3: read them once")


def month(delivery, **workload):
    return delivery.month(Workload(**({"vehicles": 10_000} | workload)), PRICES, FLEET)


@pytest.mark.parametrize(
    ("delivery", "vehicles", "dollars"),
    [
        (Delivery(), 10_000, 14_774),  # 2,592 M messages: PUT 12,960, GET 1,037, rules and actions 778
        (Delivery(), 100_000, 147_744),
        (Delivery(batch=10), 10_000, 1_477),
        (Delivery(firehose=True), 10_000, 1_136),  # 12,360 GB of records of 5 KB: 358; rules and actions 778
        (Delivery(batch=10, firehose=True), 1_000_000, 11_360),
    ],
)
def test_requests_cost_what_they_cost_by_hand(delivery, vehicles, dollars):
    assert sum(month(delivery, vehicles=vehicles)[name] for name in REQUESTS) == pytest.approx(dollars, rel=0.001)


def test_a_publish_is_metered_in_steps_of_five_kibibytes():
    assert month(Delivery(batch=17))["rules"] * 17 == pytest.approx(month(Delivery())["rules"])  # 5,100 bytes
    assert month(Delivery(batch=18))["rules"] * 9 == pytest.approx(month(Delivery())["rules"])  # 5,400 bytes are two


def test_looks_are_paid_for_by_how_far_back_they_go():
    seldom = replace(FLEET, look_back_hours=1, sweep_days=1)
    listed = "S3: list them, looks included"
    assert month(Delivery())[listed] == pytest.approx(
        2_592_000 * 51 * 0.005 / 1000
    )  # listed at compaction, 36 times by looks, 14 by sweeps
    assert Delivery().month(Workload(10_000), PRICES, seldom)[listed] == pytest.approx(2_592_000 * 8 * 0.005 / 1000)


def test_looks_come_as_often_as_their_schedule_says():
    assert f"*/{60 // LOOKS_AN_HOUR} * * * *" == LOOK_CRON


def test_vehicles_that_are_seldom_online_cost_less():
    always, seldom = month(Delivery()), month(Delivery(), online=0.05)
    assert {name: amount * 20 for name, amount in seldom.items()} == pytest.approx(always)


def test_storage_grows_with_how_long_it_is_kept():
    assert month(Delivery(), raw_days=90)["S3: keep raw objects"] == pytest.approx(
        3 * month(Delivery())["S3: keep raw objects"]
    )
    assert month(Delivery(), lake_months=0)["S3: keep the lake"] == 0


def test_the_cheapest_keeps_no_message_longer_than_it_may_wait():
    workload = Workload(10_000)
    assert cheapest(workload, PRICES, FLEET, 89) == Delivery(firehose=True)
    assert cheapest(workload, PRICES, FLEET, 90) == Delivery(batch=10, firehose=True)


def test_a_stream_pays_for_its_records_with_their_envelopes_and_writes_by_size_or_by_time():
    assert month(Delivery(firehose=True), size=3_900)["Firehose"] == pytest.approx(
        2 * month(Delivery(firehose=True), size=300)["Firehose"]
    )
    few = Delivery(firehose=True).month(Workload(1), PRICES, FLEET)["S3: write raw objects"]
    assert few == pytest.approx(3 * 8640 * FLEET.price_put / 1000)


def test_the_command_shows_figures_for_people_and_for_machines(command):
    code, said = command(FLEET, "cost", "--vehicles", "100000")
    assert code == 0
    assert "wait for 120 s: Firehose, 10 messages each, $" in " ".join(said.split())
    assert "3,333.3" in said
    assert "FLEET_PRICE_PUT, $0.0054 for 1,000 PUT or LIST, and FLEET_PRICE_GET, $0.00043," in said
    assert f"all else at the prices of {PRICES.region}, {PRICES.date}." in said
    code, said = command(FLEET, "cost", "--json")
    assert code == 0
    assert set(json.loads(said)["Firehose"]) == set(month(Delivery()))


def test_more_than_one_prefix_takes_is_said(command):
    assert "S3 takes 3,500" in " ".join(command(FLEET, "cost", "--vehicles", "200000")[1].split())
    assert "S3 takes 3,500" not in " ".join(command(FLEET, "cost", "--vehicles", "100000")[1].split())


def test_shards_of_every_rule_are_reckoned_with(command, tmp_path):
    def said(*shards):
        tables = [f'[[rules]]\nkey = "r{place}"\nshards = {number}\n' for place, number in enumerate(shards)]
        (tmp_path / "fleet.toml").write_text("\n".join(["rule_keys = []", *tables]))
        return " ".join(command(FLEET, "cost", "--vehicles", "2000000")[1].split())

    assert "S3 takes 3,500" not in said(256, 256)
    assert "6,250 PUT a second under a shard's prefix" in said(16, 256)
    assert "100,000 PUT a second under a rule's prefix" in said(1, 256)


def test_prices_of_ones_own_are_taken_and_wrong_ones_named(command, tmp_path):
    file = tmp_path / "prices.json"
    shown = json.loads(command(FLEET, "cost", "--show-prices")[1])
    file.write_text(json.dumps(shown | {"rule_million": 1.5}))
    assert Prices.read(file).rule_million == 1.5
    for wrong, said in (
        ({"rule_million": "dear"}, "could not convert"),
        ({"rule_million": -1}, "rule_million must be 0 or more"),
    ):
        file.write_text(json.dumps(shown | wrong))
        with pytest.raises(InvalidName, match=said):
            Prices.read(file)
    file.write_text(json.dumps({name: value for name, value in shown.items() if name != "date"}))
    with pytest.raises(InvalidName, match="says nothing of 'date'"):
        Prices.read(file)
    file.write_text("[1]")
    with pytest.raises(InvalidName):
        Prices.read(file)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--vehicles", "0"],
        ["--every", "0"],
        ["--bytes", "0"],
        ["--online", "0"],
        ["--online", "1.1"],
        ["--raw-days", "-1"],
    ],
)
def test_what_makes_no_sense_is_refused(arguments, command):
    assert command(FLEET, "cost", *arguments)[0] == 2


def test_the_pages_table_is_what_the_command_says():
    page = (Path(__file__).parents[2] / "docs" / "cost.md").read_text()
    for vehicles in (10_000, 100_000, 1_000_000):
        months = [sum(each.month(Workload(vehicles), PRICES, Fleet()).values()) for each in DELIVERIES]
        assert f"| {vehicles:,} | {' | '.join(f'{month:,.0f}' for month in months)} |" in page


def test_storage_is_reckoned_by_how_long_the_settings_keep_it_and_by_what_is_said_instead(command, fleet, monkeypatch):
    def dollars(*arguments):
        _, said = command(fleet, "cost", "--json", *arguments)
        return json.loads(said)["an object a publish"]

    plain = dollars()
    assert "S3: prove them before they go" not in plain
    monkeypatch.setenv("FLEET_RAW_RETENTION_DAYS", "10")
    monkeypatch.setenv("FLEET_LAKE_RETENTION_DAYS", "180")
    aging = dollars()
    assert aging["S3: keep raw objects"] == pytest.approx(plain["S3: keep raw objects"] / 3)
    assert aging["S3: keep the lake"] == pytest.approx(plain["S3: keep the lake"] / 2)
    assert aging["S3: prove them before they go"] == plain["S3: read them once"]
    assert dollars("--raw-days", "30")["S3: keep raw objects"] == plain["S3: keep raw objects"]


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (
            "raw/{device}/{yyyy}/{MM}/{dd}/{uuid}.json",
            "goes into every folder, with one request at least for each: with",
        ),
        ("in/{uuid}.json", "goes through all keys: with all looks $6.12 a day for each million keys"),
        (
            "{yyyy}/{MM}/{dd}/{uuid}.json",
            "goes through the keys of its day: with all looks $6.12 a day for each million",
        ),
        ("{yyyy}/{MM}/{dd}/{HH}/{*}", None),
        ("{millis}-{*}", None),
        ("cdk", None),
    ],
)
def test_a_rule_whose_listings_cost_more_than_the_hour_is_named_with_what_a_day_of_them_costs(layout, said):
    root = "test" if layout == "cdk" else ""
    table = RuleTable(key="old", bucket="others-bucket", layout=layout, raw_prefix=root)
    notes = slow_listings(replace(FLEET, rule_tables=(table,)))
    assert [said in note for note in notes] == ([True] if said else [])


def test_an_inventory_is_said_to_cost_the_same_whatever_the_bucket_holds():
    place = "s3://lists/daily/others-bucket/all/"
    table = RuleTable(key="old", bucket="others-bucket", layout="in/{*}", inventory=place)
    [note] = slow_listings(replace(FLEET, rule_tables=(table,), price_put=0.01, price_get=0.001))
    assert "an hour is read from an S3 Inventory" in note
    assert f"${24 * (1 + 36 + 14) * 2 * 0.011 / 1000:,.2f} a day" in note


def test_what_a_days_listings_cost_is_what_looks_and_compactions_list():
    """24 hours, each listed once to be compacted, 6 times an hour for 6 hours, and by 14 sweeps: 1,224 of 1,000 pages."""
    table = RuleTable(key="old", bucket="others-bucket", layout="in/{*}")
    [note] = slow_listings(replace(FLEET, rule_tables=(table,), price_put=0.01))
    assert f"${24 * (1 + 36 + 14) * 0.01:,.2f} a day" in note
