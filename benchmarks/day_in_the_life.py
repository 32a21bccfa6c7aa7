"""A day in the life of a lake, by the real clock and with the real daemon: it takes until the hour ends, and some
minutes more.

    python benchmarks/day_in_the_life.py

Vehicles register and drive until the hour closes; the schedule compacts it, together with hours of an outage before.
The daemon and all of its runs are killed in the middle of a compaction, and again while messages come late. At the end
every message that was acknowledged is one row, and every raw version is proven to be in the lake, or this fails. Prints
a line of JSON for each figure.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]

import dagster as dg
import psutil
import pyarrow.dataset as ds

from fleet_pipeline.account import Account
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.cli.demo import QUIET
from fleet_pipeline.cli.vehicle import register_all
from fleet_pipeline.definitions import build_definitions
from fleet_pipeline.lake.layout import Lake
from fleet_pipeline.lake.operations.verify import verify_hour
from fleet_pipeline.local import daemon
from fleet_pipeline.model.fleet import Fleet
from fleet_pipeline.model.hour import Hour
from fleet_pipeline.model.rule import RawName
from fleet_pipeline.vehicle.driving import drive, made_up_serials
from fleet_pipeline.vehicle.telemetry import journey

VEHICLES, OUTAGE_HOURS, PER_HOUR, LATE = 10, 4, 300, 75
DOWN_S, PATIENCE_S = 60, 1500


class Daemon:
    """Dagster's daemon with the project's schedules and sensors, its code server and its runs."""

    def __init__(self, home):
        self.home, self.kills = home, 0
        self.start()

    def start(self):
        command = [sys.executable, "-m", "dagster._daemon", "run", "-w", str(HERE.parent / "workspace.yaml")]
        with (self.home / "daemon.log").open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=self.home, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()

    def kill(self):
        """SIGKILL for all of them at once: nothing is told that it ends."""
        family = [*psutil.Process(self.process.pid).children(recursive=True), psutil.Process(self.process.pid)]
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGKILL)
        self.process.wait()
        self.kills += 1


class World:
    """The fleet, and every message that is known to have been taken."""

    def __init__(self, home):
        self.fleet = Fleet(
            home=str(home / ".fleet"), grace_minutes=0, start=f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
        )
        self.account = Account.of(self.fleet)
        self.raw = S3Store(self.account.aws, self.fleet.bucket)
        self.lake = Lake(S3Store(self.account.aws, self.fleet.lake_bucket), self.fleet.parquet_prefix)
        self.acknowledged = {rule: set() for rule in self.fleet.rules}

    def put(self, hour, count):
        """Messages of an hour as the rules write them; the schedule was not there, or they came late."""
        for number, message in zip(
            range(count), journey("297468999999", random.randrange(2**32), hour.start), strict=False
        ):
            rule = self.fleet.rules[number % len(self.fleet.rules)]
            millis = hour.start_ms + random.randrange(3_600_000)
            self.account.aws.s3.put_object(
                Bucket=self.fleet.bucket, Key=rule.raw_key(RawName(millis, str(uuid.uuid4()))), Body=message.payload
            )
            self.acknowledged[rule].add(message.message_id)

    def drive_until(self, end):
        serials = made_up_serials(self.fleet, VEHICLES)
        while datetime.now(UTC) < end - timedelta(seconds=15):
            driven = drive(self.fleet, self.account.broker, self.account.home, serials, 6)
            for rule in self.fleet.rules:
                self.acknowledged[rule].update(driven.acknowledged[rule.key])
            time.sleep(3)

    def complete(self, hours):
        """Whether the lake has as many rows as there are messages."""
        root = f"{self.fleet.lake_bucket}/{self.lake.root}"
        with suppress(FileNotFoundError):
            table = ds.dataset(root, filesystem=self.account.arrow_filesystem, partitioning="hive").to_table(
                ["rule", "message_id", "date", "hour"]
            )
            wanted = {(f"{hour.start:%Y-%m-%d}", hour.start.hour) for hour in hours}
            self.rows = Counter(
                (row["rule"], row["message_id"])
                for row in table.to_pylist()
                if (str(row["date"]), int(row["hour"])) in wanted
            )
            return self.rows.keys() >= {(rule.key, each) for rule, ids in self.acknowledged.items() for each in ids}
        return False


def say(**figures):
    print(
        json.dumps(
            {name: round(figure, 1) if isinstance(figure, float) else figure for name, figure in figures.items()}
        ),
        flush=True,
    )


def wait(for_what, ready):
    give_up = time.monotonic() + PATIENCE_S
    while not ready():
        assert time.monotonic() < give_up, f"{for_what}: not within {PATIENCE_S} s"
        time.sleep(1)


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    home = Path(tempfile.mkdtemp(prefix="fleet-day-"))
    shutil.copy(HERE.parent / "dagster.yaml", home)
    os.chdir(home)
    os.environ |= {"DAGSTER_HOME": str(home), "FLEET_HOME": str(home / ".fleet"), "FLEET_GRACE_MINUTES": "0"}
    os.environ["FLEET_START"] = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
    world = World(home)
    try:
        live(home, world)
    finally:
        daemon.stop(Path(world.fleet.home))


def live(home, world):
    hour = Hour.of(datetime.now(UTC) + timedelta(minutes=3))  # registering takes a while
    instance = dg.DagsterInstance.get()
    assert (
        build_definitions(world.fleet)
        .resolve_job_def("provision")
        .execute_in_process(instance=instance, run_config=QUIET)
        .success
    )
    register_all(world.fleet, world.account, made_up_serials(world.fleet, VEHICLES))
    outage = [Hour(hour.start - timedelta(hours=ago)) for ago in range(OUTAGE_HOURS, 0, -1)]
    for each in outage:
        world.put(each, PER_HOUR)
    say(closes=hour.end.isoformat(), outage_messages=OUTAGE_HOURS * PER_HOUR, home=str(home))

    drivers = threading.Thread(target=world.drive_until, args=(hour.end,), daemon=True)
    drivers.start()
    with Daemon(home) as dagster:
        survive(world, instance, dagster, [*outage, hour], drivers)
    proven = [verify_hour(world.raw, world.lake, rule, each) for rule in world.fleet.rules for each in (*outage, hour)]
    assert all(each.passed for each in proven), proven
    assert set(world.rows.values()) == {1}, "a message is there twice"
    assert len(world.rows) == sum(map(len, world.acknowledged.values())) == sum(each.versions for each in proven)
    say(
        messages=len(world.rows),
        rows=sum(world.rows.values()),
        raw_versions=sum(each.versions for each in proven),
        kills=dagster.kills,
        wrong=0,
    )


def survive(world, instance, dagster, hours, drivers):
    hour = hours[-1]
    at_work = dg.RunsFilter(job_name="compact", statuses=[dg.DagsterRunStatus.STARTED])
    wait("a compaction at work", lambda: instance.get_runs(at_work))
    dagster.kill()
    dagster.start()
    say(killed="in the middle of a compaction", at=datetime.now(UTC).isoformat())

    drivers.join()
    driven = sum(map(len, world.acknowledged.values())) - OUTAGE_HOURS * PER_HOUR
    wait("the closed hour in the lake", lambda: datetime.now(UTC) > hour.end and world.complete(hours))
    say(driven_messages=driven, seconds_from_close_to_parquet=(datetime.now(UTC) - hour.end).total_seconds())

    dagster.kill()
    world.put(hour, LATE)
    time.sleep(DOWN_S)
    dagster.start()
    back = time.monotonic()
    wait("the late messages in the lake", lambda: world.complete(hours))
    say(late_messages=LATE, down_s=DOWN_S, seconds_from_start_to_late_messages_in_the_lake=time.monotonic() - back)


if __name__ == "__main__":
    main()
