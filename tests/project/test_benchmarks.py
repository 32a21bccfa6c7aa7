import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.whole  # it starts processes

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_race_can_be_run_and_ours_is_complete_on_clean_and_dirty_data():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "run.py", "--objects", "2000", "--only", "fleet_pipeline"],
        capture_output=True,
        text=True,
        check=True,
    )
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    slow = "dirty, 20 ms added to every answer"
    assert [run["data"] for run in runs] == ["clean", "dirty", slow, f"{slow}, 150 ms to every page"]
    assert all(run["complete"] for run in runs)


def test_the_results_that_are_kept_name_machine_versions_and_ours():
    results = json.loads((BENCHMARKS / "results.json").read_text())
    assert {"machine", "versions", "runs"} <= set(results)
    ours = [run for run in results["runs"] if run["contender"] == "fleet_pipeline"]
    assert ours
    assert all(run["complete"] for run in ours)


def test_the_memory_of_every_action_can_be_measured_and_each_does_what_it_should():
    command = [sys.executable, BENCHMARKS / "memory.py", "--share", "0.02", "--only", "bushes"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peaks = [json.loads(line) for line in done.stdout.splitlines()]
    assert [peak["action"] for peak in peaks] == [
        "compaction",
        "forecast",
        "look",
        "verification",
        "late",
        "rewrite",
        "purge",
    ]
    assert all(peak["right"] for peak in peaks)


def test_memory_that_was_kept_was_that_of_actions_done_right():
    results = json.loads((BENCHMARKS / "results.json").read_text())
    assert results["memory"]
    assert all(peak["right"] for peak in results["memory"])


def test_what_hostile_payloads_cost_can_be_measured():
    command = [sys.executable, BENCHMARKS / "hostile.py", "--mb", "0.1", "--only", "chains", "several {}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    costs = [json.loads(line) for line in done.stdout.splitlines()]
    assert [cost["kind"] for cost in costs] == ["chains", "several {}"]
    assert costs[0]["statuses"] == {"ok": costs[0]["rows"]}
    # In the form that costs more on this machine: objects beside each other are no JSON, or too many.
    assert costs[1]["statuses"] in ({"malformed": costs[1]["rows"]}, {"too_many_elements": costs[1]["rows"]})


def test_the_race_on_batches_can_be_run_and_ours_is_complete_on_dirty_data():
    command = [sys.executable, BENCHMARKS / "batches.py", "--messages", "4000", "--megabytes", "1", "--dirty"]
    done = subprocess.run([*command, "--only", "fleet_pipeline"], capture_output=True, text=True, check=True)
    [run] = [json.loads(line) for line in done.stdout.splitlines()]
    assert (run["contender"], run["data"], run["complete"]) == ("fleet_pipeline", "dirty", True)


def test_what_the_encodings_cost_can_be_measured():
    arguments = [sys.executable, str(BENCHMARKS / "encodings.py"), "--messages", "200", "--rounds", "1"]
    said = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    rows = [line.split("|")[1:4] for line in said.splitlines()[2:]]
    sizes = {kind.strip(): int(size) for kind, size, _ in rows}
    assert sizes["protobuf"] < sizes["msgpack"] < sizes["json"]
    assert all(float(seconds) > 0 for _, _, seconds in rows)


def test_shards_can_be_measured_against_a_server_that_enforces_limits_by_prefix():
    arguments = [*["--messages", "400", "--slower", "20", "--processes", "1", "--shards", "1", "16"]]
    said = subprocess.run(
        [sys.executable, BENCHMARKS / "shards.py", *arguments], capture_output=True, text=True, check=True
    )
    rows = [line.split("|")[1:5] for line in said.stdout.splitlines()[4:]]
    assert [shards.strip() for shards, *_ in rows] == ["1", "16"]
    written, refused = float(rows[0][1].replace(",", "")), rows[0][2]
    assert written < 1.1 * 3500 / 20, "one prefix took more than the limit"
    assert refused.strip().endswith("%")


def test_an_inventory_can_be_measured_beside_listings_and_names_the_same():
    arguments = ["--keys", "4000", "--hours", "4", "--listed", "4"]
    said = subprocess.run(
        [sys.executable, BENCHMARKS / "inventory.py", *arguments], capture_output=True, text=True, check=True
    ).stdout
    assert "4,000 versions in 4 hours" in said
    assert "each further hour" in said
    assert re.search(r"grown with all hours: own memory by [1-9]\d* MB, mapped pages by \d+ MB", said)
