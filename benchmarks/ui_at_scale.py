"""Dagster's UI over a year of hours for three rules: how long its pages take, its memory, and the planning of a
backfill.

    python benchmarks/ui_at_scale.py [--hours 8760] [--home FOLDER]

Fills an instance with a materialization of every hour (once: a folder that is given is used again), starts `dagster
dev` on it, opens the pages in Chromium and prints a line of JSON for each figure.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "end_to_end")]

import dagster as dg
import psutil
from playwright.sync_api import sync_playwright
from webserver import Webserver

RULES = ("rule1", "rule2", "rule3")
PLANNED = 1000


def fill(home, hours):
    """One materialization of each hour and rule, with the figures that a compaction reports."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    instance = dg.DagsterInstance.get()
    started = time.monotonic()
    for ago in range(hours, 0, -1):
        for rule in RULES:
            metadata = {
                "raw versions": 3600,
                "rows added": 3600,
                "raw bytes": 1_080_000,
                "Parquet bytes": 120_000,
                "objects/s": 9000.0,
            }
            key = f"{now - timedelta(hours=ago):%Y-%m-%d-%H:00}"
            instance.report_runless_asset_event(
                dg.AssetMaterialization(["lake", rule], partition=key, metadata=metadata)
            )
    (home / "filled").write_text(str(hours))
    say(events=hours * len(RULES), filled_in_s=time.monotonic() - started)


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


def measure(home):
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
            page.get_by_text("rule3").first.wait_for()
            say(page="the same, rule by rule", shown_s=time.monotonic() - started)
            say(page="lineage of the lake", shown_s=timed(page, f"{code}/asset-groups/lake", *RULES))
            chromium.close()
        say(backfill_of_partitions=PLANNED * len(RULES), accepted_s=planned(server))
    finally:
        process.terminate()
        process.wait(60)


def planned(server):
    """Seconds until Dagster has taken a backfill of many hours of every rule."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    names = [f"{now - timedelta(hours=ago):%Y-%m-%d-%H:00}" for ago in range(PLANNED, 0, -1)]
    mutation = """mutation($what: LaunchBackfillParams!) {launchPartitionBackfill(backfillParams: $what) {
        __typename ...on LaunchBackfillSuccess {backfillId} ...on PythonError {message}}}"""
    started = time.monotonic()
    answer = server.ask(
        mutation, what={"partitionNames": names, "assetSelection": [{"path": ["lake", rule]} for rule in RULES]}
    )
    assert answer["launchPartitionBackfill"]["__typename"] == "LaunchBackfillSuccess", answer
    return time.monotonic() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=int, default=8760)
    parser.add_argument("--home", type=Path)
    arguments = parser.parse_args()
    home = (arguments.home or Path(tempfile.mkdtemp(prefix="fleet-ui-"))).resolve()
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE.parent / "dagster.yaml", home)
    os.chdir(home)
    os.environ |= {
        "DAGSTER_HOME": str(home),
        "FLEET_HOME": str(home / ".fleet"),
        "FLEET_START": f"{datetime.now(UTC) - timedelta(days=400):%Y-%m-%d}",
    }
    if not (home / "filled").exists():
        fill(home, arguments.hours)
    measure(home)


if __name__ == "__main__":
    main()
