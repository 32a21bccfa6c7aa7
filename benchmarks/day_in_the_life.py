"""A day in the life of a lake, by the real clock and with the real daemon: it takes until the hour ends, and some
minutes more.

    python benchmarks/day_in_the_life.py

Vehicles register and drive until the hour closes; the schedule compacts it, together with hours of an outage before.
Every minute one hostile message of each kind of `hostile.py` comes beside theirs. A part of an hour before is damaged
by hand, and mended twenty minutes later. The webhook of alerts is down for an hour. The daemon and all of its runs are
killed in the middle of a compaction, and again while messages come late. At the end every message that was
acknowledged is one row, every raw version is proven to be in the lake, the webhook was told of the damage, and no
tick has failed, or this fails. Prints a line of JSON for each figure, and for each check that turns red or green.
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

from benchmarks.hostile import KINDS
from benchmarks.webhook import Webhook
from fleet_pipeline.account import Account
from fleet_pipeline.assets.shared.evaluations import last_evaluation
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
DAMAGED_FOR, WEBHOOK_DOWN_FOR = timedelta(minutes=20), timedelta(hours=1)


class Daemon:
    """Dagster's daemon with the project's schedules and sensors, its code server and its runs."""

    def __init__(self, home, workspace=HERE.parent / "workspace.yaml"):
        self.home, self.workspace, self.kills = home, workspace, 0
        self.start()

    def start(self):
        command = [sys.executable, "-m", "dagster._daemon", "run", "-w", str(self.workspace)]
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


class Watch:
    """Says which checks turn red and green, and when."""

    def __init__(self, instance, checks):
        self.red, self._instance, self._checks = {}, instance, checks
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self):
        while True:
            for check in self._checks:
                said, name = last_evaluation(self._instance, check), check.to_user_string()
                red = said.description if said and not said.passed else None
                if red != self.red.get(name):
                    say(check=name, says=red or "green", at=datetime.now(UTC).isoformat(timespec="seconds"))
                self.red[name] = red
            time.sleep(5)


class World:
    """The fleet, and every message that is known to have been taken."""

    def __init__(self, home, webhook):
        self.fleet = Fleet(
            home=str(home / ".fleet"),
            grace_minutes=0,
            start=f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}",
            alert_url=webhook.url,
        )
        self.account = Account.of(self.fleet)
        self.raw = S3Store(self.account.aws, self.fleet.bucket)
        self.lake = Lake(S3Store(self.account.aws, self.fleet.lake_bucket), self.fleet.parquet_prefix)
        self.acknowledged = {rule: set() for rule in self.fleet.rules}
        self.hostile, self.damaged_hour = 0, None
        self.rows, self._found = Counter(), {}

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

    def be_hostile_until(self, end):
        """One message of each kind every minute, as the rules write them."""
        for minute in range(60):
            for number, kind in enumerate(KINDS.values()):
                if (now := datetime.now(UTC)) >= end - timedelta(seconds=5):
                    return
                rule = self.fleet.rules[(minute + number) % len(self.fleet.rules)]
                name = RawName(int(now.timestamp() * 1000), str(uuid.uuid4()))
                self.account.aws.s3.put_object(Bucket=self.fleet.bucket, Key=rule.raw_key(name), Body=kind(minute))
                self.hostile += 1
            time.sleep(60)

    def damage(self, hour):
        """Write over a part of an hour, and take that back after a while."""
        rule = self.fleet.rules[0]
        part, bucket, s3 = self.lake.part_key(rule, hour, 0), self.fleet.lake_bucket, self.account.aws.s3
        self.damaged_hour = rule, hour
        written = s3.put_object(Bucket=bucket, Key=part, Body=b"PAR1 no more")
        say(damaged=part, at=datetime.now(UTC).isoformat(timespec="seconds"))

        def mend():
            time.sleep(DAMAGED_FOR.total_seconds())
            s3.delete_object(Bucket=bucket, Key=part, VersionId=written["VersionId"])
            say(mended=part, at=datetime.now(UTC).isoformat(timespec="seconds"))
            self.damaged_hour = None

        threading.Thread(target=mend, daemon=True).start()

    def complete(self, hours):
        """Whether the lake has as many rows as there are messages. Of a damaged hour it has those that were there."""
        for rule in self.fleet.rules:
            for hour in hours:
                if (rule, hour) != self.damaged_hour:
                    self._found[rule, hour] = self._messages(rule, hour)
        self.rows = Counter((rule.key, each) for (rule, _), ids in self._found.items() for each in ids)
        return self.rows.keys() >= {(rule.key, each) for rule, ids in self.acknowledged.items() for each in ids}

    def _messages(self, rule, hour):
        folder = f"{self.fleet.lake_bucket}/{self.lake.partition(rule, hour)}"
        with suppress(FileNotFoundError):
            found = ds.dataset(folder, filesystem=self.account.arrow_filesystem)
            if "message_id" in found.schema.names:
                return [each for each in found.to_table(["message_id"])["message_id"].to_pylist() if each]
        return []


def say(**figures):
    print(
        json.dumps(
            {name: round(figure, 1) if isinstance(figure, float) else figure for name, figure in figures.items()}
        ),
        flush=True,
    )


def wait(for_what, ready, patience_s=PATIENCE_S):
    give_up = time.monotonic() + patience_s
    while not ready():
        assert time.monotonic() < give_up, f"{for_what}: not within {patience_s} s"
        time.sleep(1)


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    home = Path(tempfile.mkdtemp(prefix="fleet-day-"))
    shutil.copy(HERE.parent / "dagster.yaml", home)
    os.chdir(home)
    os.environ |= {"DAGSTER_HOME": str(home), "FLEET_HOME": str(home / ".fleet"), "FLEET_GRACE_MINUTES": "0"}
    os.environ["FLEET_START"] = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
    webhook = Webhook(lambda text: say(alert=text, at=datetime.now(UTC).isoformat(timespec="seconds")))
    os.environ["FLEET_ALERT_URL"] = webhook.url
    world = World(home, webhook)
    try:
        live(home, world, webhook)
    finally:
        daemon.stop(Path(world.fleet.home))


def live(home, world, webhook):
    begun = datetime.now(UTC)
    webhook.listen(
        begun + WEBHOOK_DOWN_FOR,
        lambda: say(webhook="up", at=datetime.now(UTC).isoformat(timespec="seconds")),
    )
    hour = Hour.of(datetime.now(UTC) + timedelta(minutes=3))  # registering takes a while
    instance = dg.DagsterInstance.get()
    definitions = build_definitions(world.fleet)
    provision = definitions.resolve_job_def("provision")
    assert provision.execute_in_process(instance=instance, run_config=QUIET).success
    watch = Watch(instance, sorted(definitions.resolve_asset_graph().asset_check_keys))
    register_all(world.fleet, world.account, made_up_serials(world.fleet, VEHICLES))
    outage = [Hour(hour.start - timedelta(hours=ago)) for ago in range(OUTAGE_HOURS, 0, -1)]
    for each in outage:
        world.put(each, PER_HOUR)
    say(closes=hour.end.isoformat(), outage_messages=OUTAGE_HOURS * PER_HOUR, home=str(home))

    drivers = threading.Thread(target=world.drive_until, args=(hour.end,), daemon=True)
    drivers.start()
    threading.Thread(target=world.be_hostile_until, args=(hour.end,), daemon=True).start()
    with Daemon(home) as dagster:
        survive(world, instance, dagster, [*outage, hour], drivers)
        wait(
            "the webhook was told of the damage",
            lambda: any(world.fleet.rules[0].key in text for _, text in webhook.told),
            WEBHOOK_DOWN_FOR.total_seconds() + PATIENCE_S,
        )
        wait(
            "all that was red is green", lambda: not any("nothing_is" in name for name, red in watch.red.items() if red)
        )
    proven = [verify_hour(world.raw, world.lake, rule, each) for rule in world.fleet.rules for each in (*outage, hour)]
    assert all(each.passed for each in proven), proven
    assert set(world.rows.values()) == {1}, "a message is there twice"
    messages = sum(map(len, world.acknowledged.values()))
    assert len(world.rows) == messages == sum(each.versions for each in proven) - world.hostile
    failed = failed_ticks(instance)
    assert not failed, failed
    say(
        messages=len(world.rows),
        rows=sum(world.rows.values()),
        hostile_messages=world.hostile,
        raw_versions=sum(each.versions for each in proven),
        failed_ticks=len(failed),
        failed_runs=len(instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))),
        kills=dagster.kills,
        wrong=0,
    )


def failed_ticks(instance):
    """Every tick of a schedule or a sensor that ended as failed, with its reason."""
    return [
        (state.instigator_name, tick.error.message if tick.error else "")
        for state in instance.all_instigator_state()
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id)
        if tick.status.value == "FAILURE"
    ]


def survive(world, instance, dagster, hours, drivers):
    hour = hours[-1]
    at_work = dg.RunsFilter(job_name="compact", statuses=[dg.DagsterRunStatus.STARTED])
    wait("a compaction at work", lambda: instance.get_runs(at_work))
    dagster.kill()
    dagster.start()
    say(killed="in the middle of a compaction", at=datetime.now(UTC).isoformat())

    outage = OUTAGE_HOURS * PER_HOUR
    wait("the outage in the lake", lambda: world.complete(hours[:-1]) or len(world.rows) == outage)
    world.damage(hours[0])

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
