"""What vehicles say: plausible to a reader, the same for the same seed."""

import json
import math
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_pipeline.vehicle.telemetry import INTERVAL, journey

START = datetime(2026, 11, 23, 10, tzinfo=UTC)
A_DAY = timedelta(days=1) // INTERVAL


def told(serial="297468000001", seed=1, messages=600):
    return [json.loads(message.payload) for message in islice(journey(serial, seed, START), messages)]


def test_the_same_seed_gives_the_same_journey():
    assert told(seed=7) == told(seed=7)


@pytest.mark.parametrize("other", [{"seed": 2}, {"serial": "297468000002"}])
def test_vehicles_and_seeds_share_no_message_id(other):
    ids = [message["message_id"] for message in told() + told(**other)]
    assert len(set(ids)) == len(ids)


def test_a_message_carries_its_id_its_serial_its_number_and_its_time():
    for number, message in enumerate(islice(journey("297468000001", 1, START), 100)):
        content = json.loads(message.payload)
        assert (content["message_id"], content["serial"], content["sequence"]) == (
            message.message_id,
            "297468000001",
            number,
        )
        assert datetime.fromisoformat(content["recorded_at"]) == START + number * INTERVAL


@given(seed=st.integers(0, 2**64 - 1))
@settings(deadline=None, max_examples=20)
def test_hours_on_the_road_stay_plausible(seed):
    for before, after in pairwise(told(seed=seed, messages=1500)):
        km = after["odometer_km"] - before["odometer_km"]
        mean_kmh = (before["speed_kmh"] + after["speed_kmh"]) / 2
        stands = before["battery"]["charging"] or after["battery"]["charging"]
        assert 0 <= after["speed_kmh"] <= 130
        assert 8 <= after["battery"]["charge_percent"] <= 100
        assert stands or math.isclose(km, mean_kmh * INTERVAL / timedelta(hours=1), abs_tol=0.002)
        assert after["speed_kmh"] == 0 or not after["battery"]["charging"]
        assert _km_between(before["position"], after["position"]) <= km + 0.01


def test_a_vehicle_that_runs_low_stops_charges_and_drives_on():
    charging = [message["battery"]["charging"] for message in told(messages=A_DAY)]
    assert {(False, True), (True, False)} <= set(pairwise(charging))


def test_it_comes_past_every_corner_of_its_round_trip():
    headings = {round(message["position"]["heading"]) for message in told(messages=A_DAY)}
    assert len(headings) == 8


@given(seed=st.integers(0, 2**64 - 1), later=st.integers(0, 24))
@settings(deadline=None, max_examples=50)
def test_the_drives_of_a_day_begin_about_where_the_vehicle_was(seed, later):
    first = told()[0]["odometer_km"]
    [message] = islice(journey("297468000001", seed, START + timedelta(hours=later)), 1)
    assert -1 <= json.loads(message.payload)["odometer_km"] - first <= 130


@pytest.mark.parametrize("field", ["outside_temperature_c", "diagnostics"])
def test_some_fields_are_not_in_every_message(field):
    messages = told()
    assert 0 < sum(field in message for message in messages) < len(messages)


def _km_between(a, b):
    north = math.radians(b["latitude"] - a["latitude"])
    east = math.radians(b["longitude"] - a["longitude"]) * math.cos(math.radians(a["latitude"]))
    return 6371 * math.hypot(north, east)
