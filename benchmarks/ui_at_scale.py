"""Dagster over a year of hours for some rules: how long schedules and sensors take, the UI's pages, its memory, and
the planning of a backfill.

    python benchmarks/ui_at_scale.py [--rules 3] [--hours 8760] [--home FOLDER]

Makes the fleet on this machine's AWS, fills an instance with a materialization of every hour (once: a folder that is
given is used again), evaluates each schedule and sensor, starts `dagster dev`, opens the pages in Chromium and prints a
line of JSON for each figure.
"""

import argparse
import importlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "end_to_end")]

import dagster as dg
import psutil
from playwright.sync_api import sync_playwright
from webserver import Webserver

PLANNED = 1000
ANY_HOUR = "2000-01-01-00:00"


def fill(home, rules, hours):
    """One materialization of each hour and rule, with the figures that a compaction reports: Dagster notes one of each
    rule, and the database copies it.
    """
    started = time.monotonic()
    metadata = {
        "raw versions": 3600,
        "rows added": 3600,
        "raw bytes": 1_080_000,
        "Parquet bytes": 120_000,
        "objects/s": 9000.0,
    }
    instance = dg.DagsterInstance.get()
    for rule in rules:
        instance.report_runless_asset_event(
            dg.AssetMaterialization(["lake", rule], partition=ANY_HOUR, metadata=metadata)
        )
    instance.dispose()
    [database] = home.glob(".dagster/storage/**/index.db")
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    with closing(sqlite3.connect(database)) as connection, connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(event_logs)") if row[1] != "id"]
        taken = {"event": "replace(event, :any, :hour)", "partition": ":hour"}
        connection.execute("CREATE TEMP TABLE one AS SELECT * FROM event_logs WHERE partition = ?", [ANY_HOUR])
        copy = f"""INSERT INTO event_logs ({", ".join(names)})
            SELECT {", ".join(taken.get(name, name) for name in names)} FROM one"""
        for ago in range(hours, 0, -1):
            connection.execute(copy, {"any": ANY_HOUR, "hour": f"{now - timedelta(hours=ago):%Y-%m-%d-%H:00}"})
        connection.execute("DELETE FROM event_logs WHERE partition = ?", [ANY_HOUR])
    (home / "filled").write_text(str(hours))
    say(events=hours * len(rules), filled_in_s=time.monotonic() - started)


def tick():
    """Evaluate each schedule and sensor as the daemon does, and say how long each took."""
    started = time.monotonic()
    repository = importlib.import_module("fleet_pipeline.definitions").defs().get_repository_def()
    say(definitions_s=time.monotonic() - started)
    resources = repository.get_top_level_resources()
    with dg.DagsterInstance.get() as instance:
        for schedule in repository.schedule_defs:
            now = datetime.now(UTC).replace(minute=30, second=0, microsecond=0)
            with dg.build_schedule_context(
                instance, scheduled_execution_time=now, repository_def=repository, resources=resources
            ) as context:
                evaluate(f"schedule {schedule.name}", schedule, context)
        for sensor in repository.sensor_defs:
            if not isinstance(sensor, dg.AutomationConditionSensorDefinition):
                with dg.build_sensor_context(
                    instance, repository_def=repository, resources=resources, sensor_name=sensor.name
                ) as context:
                    evaluate(f"sensor {sensor.name}", sensor, context)


def evaluate(name, definition, context):
    started = time.monotonic()
    found = definition.evaluate_tick(context)
    say(tick=name, s=time.monotonic() - started, runs=len(found.run_requests or []), skipped=found.skip_message)


def say(**figures):
    print(
        json.dumps(
            {name: round(figure, 2) if isinstance(figure, float) else figure for name, figure in figures.items()}
        ),
        flush=True,
    )


def timed(page, url, *texts):
    """Seconds until a page shows all of some texts."""
    started = time.monotonic()
    page.goto(url, wait_until="domcontentloaded")
    for text in texts:
        page.get_by_text(text).first.wait_for()
    return time.monotonic() - started


def measure(home, rules):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "dagster",
        "dev",
        "-w",
        str(HERE.parent / "workspace.yaml"),
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    started = time.monotonic()
    with (home / "dagster.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=home,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
        )
    server = Webserver(f"http://127.0.0.1:{port}", home / "dagster.log")
    try:
        server.wait_until_loaded(process)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        pss = sum(each.memory_full_info().pss for each in family)
        say(dagster_dev_loaded_s=time.monotonic() - started, processes=len(family), pss_mb=pss // 2**20)
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(
                executable_path=shutil.which("chromium"),
                args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"],
            )
            page = chromium.new_context(viewport={"width": 1600, "height": 1000}, timezone_id="UTC").new_page()
            page.set_default_timeout(120_000)
            page.route(
                "**/*",
                lambda route: (
                    route.continue_() if route.request.url.startswith((server.url, "data:", "blob:")) else route.abort()
                ),
            )
            code = f"{server.url}/locations/fleet_pipeline"
            for visit in ("first", "second"):
                say(
                    page="partitions of lake/rule1",
                    visit=visit,
                    shown_s=timed(page, f"{server.url}/assets/lake/rule1?view=partitions", "Materialized ("),
                )
            say(
                page="partitions of the job compact",
                shown_s=timed(page, f"{code}/jobs/compact/partitions", "Missing partitions"),
            )
            started = time.monotonic()
            page.get_by_role("button", name="Show per-asset status").click()
            page.get_by_text(rules[-1]).first.wait_for()
            say(page="the same, rule by rule", shown_s=time.monotonic() - started)
            say(page="lineage of the lake", shown_s=timed(page, f"{code}/asset-groups/lake", "lake_bucket"))
            chromium.close()
        say(backfill_of_partitions=PLANNED * len(rules), accepted_s=planned(server, rules))
    finally:
        process.terminate()
        process.wait(60)


def planned(server, rules):
    """Seconds until Dagster has taken a backfill of many hours of every rule."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    names = [f"{now - timedelta(hours=ago):%Y-%m-%d-%H:00}" for ago in range(PLANNED, 0, -1)]
    mutation = """mutation($what: LaunchBackfillParams!) {launchPartitionBackfill(backfillParams: $what) {
        __typename ...on LaunchBackfillSuccess {backfillId} ...on PythonError {message}}}"""
    started = time.monotonic()
    answer = server.ask(
        mutation, what={"partitionNames": names, "assetSelection": [{"path": ["lake", rule]} for rule in rules]}
    )
    assert answer["launchPartitionBackfill"]["__typename"] == "LaunchBackfillSuccess", answer
    return time.monotonic() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=int, default=8760)
    parser.add_argument("--rules", type=int, default=3)
    parser.add_argument("--home", type=Path)
    arguments = parser.parse_args()
    home = (arguments.home or Path(tempfile.mkdtemp(prefix="fleet-ui-"))).resolve()
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE.parent / "dagster.yaml", home)
    os.chdir(home)
    os.environ |= {
        "DAGSTER_HOME": str(home),
        "FLEET_HOME": str(home / ".fleet"),
        "FLEET_RULE_KEYS": ",".join(rules := [f"rule{number + 1}" for number in range(arguments.rules)]),
        "FLEET_START": f"{datetime.now(UTC) - timedelta(days=400):%Y-%m-%d}",
    }
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "fleet_pipeline", "apply"], check=True, stdout=subprocess.DEVNULL)
    say(applied_s=time.monotonic() - started)
    if not (home / "filled").exists():
        fill(home, rules, arguments.hours)
    tick()
    measure(home, rules)


if __name__ == "__main__":
    main()
