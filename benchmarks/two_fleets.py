"""Three fleets in two code locations of one Dagster, beside somebody's own assets, by the real clock and with the real
daemon: some twelve minutes.

    python benchmarks/two_fleets.py

`dev` and `test` share a code location and an account with an asset, a job, and resources named `account` and `lock`
that are somebody else's; `prod` has a code location and an account of its own. All schedules and sensors are on.
Somebody's job fails meanwhile. At the end each fleet's hours have its own messages and no others, no run was ended that
lived, no tick has failed, and no webhook was told of another's failure, or this fails. Prints a line of JSON.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]

import dagster as dg

from benchmarks.day_in_the_life import Daemon, failed_ticks
from benchmarks.webhook import Webhook
from fleet_pipeline import Fleet, build_definitions
from fleet_pipeline.account import Account
from fleet_pipeline.assets.lake import parquet
from fleet_pipeline.assets.shared.scope import Scope
from fleet_pipeline.cli.demo import QUIET
from fleet_pipeline.local import daemon
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.vehicle.past import write_hours

MINUTES = 12
FLEETS = {"dev": ("dev",), "test": ("test",), "prod": ("eu", "prod")}

FILES = {
    "fleets.py": """
import json
from pathlib import Path
from fleet_pipeline import Fleet

FLEETS = {name: Fleet(**said) for name, said in json.loads(Path("fleets.json").read_text()).items()}
""",
    "one.py": """
import dagster as dg
from fleet_pipeline import build_definitions
from fleets import FLEETS

@dg.asset(required_resource_keys={"account", "lock"})
def theirs(context) -> str:
    return f"{context.resources.account} {context.resources.lock}"

@dg.op
def breaks():
    raise ValueError("another's reason")

@dg.job
def their_job():
    breaks()

defs = dg.Definitions.merge(
    build_definitions(FLEETS["dev"], key_prefix="dev", automation=True),
    build_definitions(FLEETS["test"], key_prefix="test", automation=True),
    dg.Definitions(
        assets=[theirs],
        jobs=[their_job],
        schedules=[dg.ScheduleDefinition(
            job=their_job, cron_schedule="*/3 * * * *", default_status=dg.DefaultScheduleStatus.RUNNING
        )],
        resources={"account": "a bank's", "lock": "a door's"},
    ),
)
""",
    "two.py": """
from fleet_pipeline import build_definitions
from fleets import FLEETS

defs = build_definitions(FLEETS["prod"], key_prefix=["eu", "prod"], automation=True)
""",
    "workspace.yaml": """
load_from:
  - python_file: {relative_path: one.py, location_name: one}
  - python_file: {relative_path: two.py, location_name: two}
""",
}


def settings(home, webhook):
    """What each fleet is; the schedule of compaction comes two minutes from now."""
    now = datetime.now(UTC)
    common = {
        "home": str(home / ".fleet"),
        "start": f"{now - timedelta(hours=3):%Y-%m-%d}",
        "grace_minutes": (now + timedelta(minutes=3)).minute,
    }
    accounts = {"dev": "123456789012", "test": "123456789012", "prod": "222233334444"}
    return {
        name: {
            **common,
            "environment": name,
            "account": accounts[name],
            "bucket": f"acme-{name}",
            "raw_prefix": name,
            "alert_url": f"{webhook}{name}",
        }
        for name in FLEETS
    }


def rows_of_hours(instance, asset):
    """The rows that Dagster knows of each hour, the newest word of each."""
    found = {}
    for record in instance.fetch_materializations(asset, limit=1000).records:
        count = record.asset_materialization.metadata.get("dagster/partition_row_count")
        found.setdefault(record.partition_key, count.value if count else None)
    return {hour: count for hour, count in found.items() if count}


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    home = Path(tempfile.mkdtemp(prefix="fleet-two-"))
    shutil.copy(HERE.parent / "dagster.yaml", home)
    for name, text in FILES.items():
        (home / name).write_text(text)
    webhook = Webhook()
    webhook.listen()
    said = settings(home, webhook.url)
    (home / "fleets.json").write_text(json.dumps(said))
    os.chdir(home)
    os.environ |= {"DAGSTER_HOME": str(home), "PYTHONPATH": str(home)}
    try:
        live(home, {name: Fleet(**each) for name, each in said.items()}, webhook.told)
    finally:
        daemon.stop(home / ".fleet")


def live(home, fleets, heard):
    instance, wanted = dg.DagsterInstance.get(), {}
    for past, (name, fleet) in enumerate(fleets.items(), 1):
        definitions = build_definitions(fleet, key_prefix=FLEETS[name])
        provision = definitions.resolve_job_def(Scope(fleet, FLEETS[name]).name("provision"))
        assert provision.execute_in_process(instance=instance, run_config=QUIET).success
        hours = [Hour.of(datetime.now(UTC) - timedelta(hours=ago)) for ago in range(past, 0, -1)]
        write_hours(fleet, Account.of(fleet).aws, [f"29746800000{number}" for number in range(5)], hours)
        wanted[name] = {hour.partition_key: 121 if hour == hours[-1] else 60 for hour in hours}
    with Daemon(home, home / "workspace.yaml"):
        time.sleep(60 * MINUTES)
    found = {
        name: rows_of_hours(instance, parquet.key(Scope(fleet, FLEETS[name]), fleet.rules[0]))
        for name, fleet in fleets.items()
    }
    assert found == wanted, (found, wanted)
    failed = Counter(run.job_name for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])))
    assert set(failed) == {"their_job"}, failed
    assert not [text for _, text in heard if "another's reason" in text or "process is gone" in text], heard
    assert all(text.count("*") == 0 or _owner(text) == name for name, text in heard), heard
    assert not failed_ticks(instance), failed_ticks(instance)
    runs = Counter(run.job_name for run in instance.get_runs())
    print(json.dumps({"minutes": MINUTES, "runs": runs, "rows": found, "alerts": len(heard), "failed_ticks": 0}))


def _owner(text):
    """Which fleet an alert is about, by the name of its check or of its job."""
    first = text.partition("*")[2].partition("*")[0]
    return next(name for name, prefix in FLEETS.items() if first.startswith(("/".join(prefix), "_".join(prefix))))


if __name__ == "__main__":
    main()
