"""Dagster's UI in a real browser: it shows the lineage from the device policy to Parquet, and materializes all of it."""

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote

import psutil
import pyarrow.dataset as ds
import pytest
from playwright.sync_api import sync_playwright
from serving import serving
from webserver import RUN_PATIENCE_S, Webserver

from fleet_pipeline.account import Account
from fleet_pipeline.cli.ui import PATIENCE
from fleet_pipeline.local import daemon
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="Chromium is not installed (apt-get install chromium)"),
]

REPOSITORY = Path(__file__).parents[2]
PICTURES = os.environ.get("PICTURES")
"""A folder into which the README's pictures are written, if it is set: `PICTURES=docs/images pytest tests/end_to_end/test_ui.py`."""


@pytest.fixture(scope="module")
def ui(tmp_path_factory):
    """`fleet ui` as `make ui` starts it, in a folder and with an AWS of its own."""
    home = tmp_path_factory.mktemp("ui")
    shutil.copy(REPOSITORY / "dagster.yaml", home)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (home / "dagster.log").open("w+")
    command = [
        sys.executable,
        "-m",
        "fleet_pipeline",
        "ui",
        "--workspace",
        str(REPOSITORY / "workspace.yaml"),
        "--port",
        str(port),
    ]
    process = subprocess.Popen(
        command,
        cwd=home,
        # By itself nothing runs: each run is a process of its own, and none of these tests asks for those of a clock.
        env={
            **os.environ,
            "DAGSTER_HOME": str(home),
            "FLEET_AUTOMATION": "off",
            "FLEET_HOME": str(home / ".fleet"),
        },
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        # As a shell starts it in the background. It ends by SIGTERM all the same, which Dagster makes a SIGINT of.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # noqa: PLW1509
    )
    server = Ui(f"http://127.0.0.1:{port}", home, Path(log.name), process.pid)
    try:
        server.wait_until_loaded(process)
        yield server
    finally:
        process.terminate()
        process.wait(120)
        log.close()
        daemon.stop(home / ".fleet")


class Ui(Webserver):
    def __init__(self, url, home, log, pid):
        super().__init__(url, log)
        self.home, self.pid = home, pid


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--hide-scrollbars",
                # No page leaves this machine. (To route its requests would load the UI's programs anew for each page.)
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
            ],
        )
        yield chromium
        chromium.close()


@contextmanager
def opened(browser):
    context = browser.new_context(viewport={"width": 1600, "height": 1000}, timezone_id="UTC", reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(1000 * RUN_PATIENCE_S)
    yield page
    context.close()


@pytest.fixture
def page(browser, ui):
    with opened(browser) as page:
        yield page


@pytest.fixture(scope="module")
def launchpad(browser, ui):
    """One page for the launchpads of all jobs: it loads the UI's programs once."""
    with opened(browser) as page:
        yield page


def picture(page, name):
    """Keep what the page shows, where pictures are asked for."""
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png")


def test_the_definitions_load_without_an_error_or_a_warning(ui):
    entries = ui.ask(
        "{workspaceOrError{...on Workspace{locationEntries{name locationOrLoadError{__typename ...on PythonError{message}}}}}}"
    )
    assert entries["workspaceOrError"]["locationEntries"] == [
        {"name": "fleet_pipeline", "locationOrLoadError": {"__typename": "RepositoryLocation"}}
    ]
    # Dagster says this once about any new storage, whatever is loaded.
    first_start = "No cursor for event type"
    lines = [line for line in ui.log.read_text().splitlines() if first_start not in line]
    said = [line for line in lines if any(word in line.lower() for word in ("warning", "error", "traceback"))]
    assert said == [], "\n".join(said)


def test_every_process_of_it_waits_long_enough_for_a_code_server_on_a_busy_machine(ui):
    family = psutil.Process(ui.pid).children(recursive=True)
    assert len(family) >= 3
    assert {each.environ().get(PATIENCE[0]) for each in family} == {PATIENCE[1]}


def test_the_lineage_leads_from_the_device_policy_to_parquet(ui):
    nodes = ui.ask("{assetNodes{assetKey{path} dependencyKeys{path}}}")["assetNodes"]
    upstream = {
        "/".join(node["assetKey"]["path"]): {"/".join(key["path"]) for key in node["dependencyKeys"]} for node in nodes
    }
    reached, waiting = set(), {"lake/rule1"}
    while waiting:
        reached |= waiting
        waiting = set().union(*(upstream[key] for key in waiting)) - reached
    assert {
        "provisioning/device_policy",
        "provisioning/provisioning_template",
        "provisioning/topic_rule_rule1",
        "raw/rule1",
    } <= reached


def test_materializing_all_from_the_page_makes_the_cloud_side(ui, page):
    page.goto(f"{ui.url}/locations/fleet_pipeline/asset-groups/provisioning", wait_until="domcontentloaded")
    page.get_by_text("device_policy", exact=True).first.wait_for()
    page.get_by_role("button", name="Materialize all").click()
    page.get_by_text("Launched run").first.wait_for()
    assert ui.finished_runs(1) == ["SUCCESS"]
    page.reload(wait_until="domcontentloaded")
    page.get_by_text("claim_attachment", exact=True).first.wait_for()
    picture(page, "provisioning")


def send(ui, hour, speeds):
    """Put messages as the first rule would, most of them in the hour's rush, and return their keys."""
    fleet = Fleet(home=str(ui.home / ".fleet"))
    account = Account.of(fleet)
    places = (0.5 + 4 * (number / len(speeds) - 0.5) ** 3 for number in range(len(speeds)))
    keys = [
        fleet.rules[0].raw_key(RawName(hour.start_ms + int(3_600_000 * place), str(uuid.uuid4()))) for place in places
    ]
    for number, (key, speed) in enumerate(zip(keys, speeds, strict=True)):
        body = json.dumps(
            {
                "serial": "297468000001",
                "speed_kmh": speed,
                "position": {"lat": 48.137 + math.sin(number / 22) / 50, "lon": 11.575 + math.sin(number / 10) / 20},
            }
        )
        account.aws.s3.put_object(Bucket=fleet.bucket, Key=key, Body=body.encode())
    return keys


def hour_ago(hours):
    return Hour.parse(f"{datetime.now(UTC) - timedelta(hours=hours):%Y-%m-%d-%H:00}")


def test_an_hour_is_compacted_from_its_page(ui, page):
    fleet = Fleet(home=str(ui.home / ".fleet"))
    account = Account.of(fleet)
    page.goto(f"{ui.url}/assets/lake/rule1", wait_until="domcontentloaded")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_role("button", name="Latest").click()
    hour = next(
        Hour.parse(text)
        for text in page.locator("input").evaluate_all("all => all.map(each => each.value)")
        if text.endswith(":00")
    )
    keys = send(ui, hour, [48.2 + 9 * math.sin(number / 12) for number in range(150)])
    page.get_by_role("button", name="Launch 1 run").click()
    page.get_by_text("Launched run").first.wait_for()
    assert ui.finished_runs(2) == ["SUCCESS", "SUCCESS"]
    root = f"{fleet.lake_bucket}/{fleet.parquet_prefix}/v1/"
    rows = (
        ds.dataset(root, filesystem=account.arrow_filesystem, partitioning="hive")
        .to_table(["_key", "speed_kmh"])
        .to_pylist()
    )
    assert sorted(row["_key"] for row in rows) == sorted(keys)
    assert {row["_key"]: row["speed_kmh"] for row in rows}[keys[0]] == 48.2
    page.goto(f"{ui.url}/assets/lake/rule1?view=overview", wait_until="domcontentloaded")
    page.get_by_text("raw versions").first.wait_for()
    for scale in ("minutes 0 to 59; the highest bar is", "a sample, north up; "):
        page.get_by_text(scale).first.wait_for()
    page.locator("img[src^='data:image']").first.scroll_into_view_if_needed()
    page.evaluate("document.querySelectorAll('*').forEach(each => each.scrollLeft = 0)")
    picture(page, "lake")


def test_a_range_of_hours_is_backfilled_by_clicks_and_the_partitions_page_shows_it(ui, page):
    first, last = hour_ago(6), hour_ago(3)
    for hours in (6, 5, 4, 3):
        send(ui, hour_ago(hours), [30.5, 31.5])
    page.goto(f"{ui.url}/assets/lake/rule1?view=partitions", wait_until="domcontentloaded")
    page.get_by_text("Materialized (1)").wait_for()
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    chosen = dialog.locator("input[type=text]").first
    chosen.fill(f"[{first.partition_key}...{last.partition_key}]")
    chosen.press("Enter")
    dialog.get_by_text("4 partitions", exact=True).wait_for()
    dialog.get_by_text("Backfills all partitions in a single run.").wait_for()
    launch = dialog.get_by_role("button", name="Launch backfill")
    for _ in range(10):  # once, beside other work, a click began nothing
        launch.click()
        if ui.began_backfill():
            break
    backfill = ui.finished_backfill()
    assert (backfill["status"], backfill["numPartitions"]) == ("COMPLETED_SUCCESS", 4)
    page.goto(f"{ui.url}/assets/lake/rule1?view=partitions", wait_until="domcontentloaded")
    page.get_by_text("Materialized (5)").wait_for()
    page.get_by_text("Failed (0)").wait_for()
    page.get_by_text(last.partition_key, exact=True).first.click()
    page.get_by_text("rows added").first.wait_for()
    picture(page, "partitions")


def test_a_check_turns_red_when_an_object_is_planted_among_the_raw_ones(ui, page):
    fleet = Fleet(home=str(ui.home / ".fleet"))
    checks = f"{ui.url}/assets/raw/rule1?view=checks"
    page.goto(checks, wait_until="domcontentloaded")
    page.get_by_role("button", name="Execute all").click()
    page.get_by_text("Passed").first.wait_for()
    planted = f"{fleet.rules[0].raw_prefix}{hour_ago(2).start_ms}/planted"
    Account.of(fleet).aws.s3.put_object(Bucket=fleet.bucket, Key=planted, Body=b'{"speed_kmh": 1}')
    page.goto(checks, wait_until="domcontentloaded")
    page.get_by_role("button", name="Execute all").click()
    page.get_by_text(planted).first.wait_for()
    page.get_by_text("Failed").first.wait_for()
    assert ui.check("raw/rule1", "no_foreign_keys") == {"severity": "ERROR", "success": False}
    picture(page, "check")


@pytest.mark.parametrize(
    "job",
    [
        "plan",
        "adopt",
        "rotate_claim",
        "retire_claim",
        "revoke_claim",
        "rollback",
        "replay",
        "destroy",
        "export_cloudformation",
    ],
)
def test_every_job_of_operating_has_a_launchpad_with_its_settings_filled_in(ui, launchpad, job):
    launchpad.goto(f"{ui.url}/locations/fleet_pipeline/jobs/{job}/playground", wait_until="domcontentloaded")
    launchpad.get_by_role("button", name="Launch Run").wait_for()
    launchpad.get_by_text("profile").first.wait_for() if job != "export_cloudformation" else None


def test_a_teardown_without_confirmation_says_in_the_page_what_would_be_lost(ui, page):
    page.goto(f"{ui.url}/locations/fleet_pipeline/jobs/destroy/playground", wait_until="domcontentloaded")
    page.get_by_text("with_data").first.wait_for()
    page.get_by_role("button", name="Launch Run").click()
    page.wait_for_url("**/runs/**")
    page.get_by_text("cdk-s3-test-bucket").first.wait_for()
    assert ui.runs()[0]["jobName"] == "destroy"


def launching(job):
    """Return the mutation that launches a job, as a page or an image's address would carry it."""
    return (
        'mutation{launchRun(executionParams:{selector:{repositoryLocationName:"fleet_pipeline",repositoryName:"__repository__",'
        f'pipelineName:"{job}"}},runConfigData:{{}}}}){{__typename}}}}'
    )


HOSTILE = """<!doctype html><body><form id=f method=post enctype=text/plain action="UI/graphql"><input name='{"query":"MUTATION","a":"' value='"}'></form>
<iframe name=frame></iframe><script>
const done = [];
const tried = name => new Promise(end => { const image = new Image(); image.onload = image.onerror = end; image.src = name; });
async function all() {
  await tried("UI/graphql?query=" + encodeURIComponent(MUTATION));
  for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/json"])
    for (const mode of ["no-cors", "cors"])
      for (const where of ["UI/graphql", "AWS/", "AWS/_ministack/reset"]) {
        try { const got = await fetch(where, {method: "POST", mode, body: JSON.stringify({query: MUTATION}), headers: {"Content-Type": type}});
              done.push([where, mode, type, got.type, got.status]); }
        catch (error) { done.push([where, mode, type, "refused", 0]); }
      }
  for (const where of ["UI/graphql", "AWS/mqtt"])
    await new Promise(end => { const socket = new WebSocket(where.replace("http", "ws"), "graphql-ws");
      socket.onopen = () => { done.push([where, "open", "", "open", 200]); end(); }; socket.onerror = socket.onclose = end; });
  document.getElementById("f").target = "frame"; document.getElementById("f").submit();
  await new Promise(end => setTimeout(end, 1000));
  return done;
}
</script>"""


@pytest.fixture
def hostile(ui):
    """A page of another origin that tries all that a page may send."""
    mutation = launching("rotate_claim")
    aws = daemon.ensure_running(ui.home / ".fleet", account=Fleet().account, region=Fleet().region).url
    text = (
        HOSTILE.replace('"MUTATION"', json.dumps(mutation).replace("'", "&#39;"))
        .replace("MUTATION", json.dumps(mutation))
        .replace("UI", ui.url)
        .replace("AWS", aws)
    )

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Page)) as address:
        yield f"{address.replace('127.0.0.1', 'localhost')}/"


def test_a_page_of_another_origin_launches_nothing_and_reads_nothing(ui, browser, hostile):
    before = [run["runId"] for run in ui.runs()]
    context = browser.new_context()
    opened = context.new_page()
    opened.goto(hostile)
    done = opened.evaluate("all()")
    context.close()
    assert len(done) == 18
    assert {(kind, status) for *_, kind, status in done} == {("opaque", 0), ("refused", 0)}
    assert [run["runId"] for run in ui.runs()] == before


def test_an_image_in_a_page_of_the_ui_itself_launches_nothing(ui, page):
    before = [run["runId"] for run in ui.runs()]
    page.goto(f"{ui.url}/jobs", wait_until="domcontentloaded")
    address = f"/graphql?query={quote(launching('rotate_claim'))}"
    page.evaluate(
        "where => new Promise(end => { const image = new Image(); image.onload = image.onerror = end; image.src = where; })",
        address,
    )
    assert page.evaluate("where => fetch(where).then(got => got.status)", address) == 403
    assert [run["runId"] for run in ui.runs()] == before


def test_a_name_that_someone_else_resolves_to_this_machine_gets_nothing(ui):
    request = urllib.request.Request(f"{ui.url}/server_info", headers={"Host": "rebound.example:3000"})
    with pytest.raises(HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    assert refused.value.code == 403
