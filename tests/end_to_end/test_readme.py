"""What the README tells a newcomer to type works, in the order in which it is told."""

import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet_pipeline.local import daemon
from fleet_pipeline.model.hour import Hour

REPOSITORY = Path(__file__).parents[2]
TOUR = (REPOSITORY / "README.md").read_text().split("## The tour")[1].split("\n## ")[0]
COMMANDS = re.findall(r"`((?:make|\.venv/bin/)[^`]*)`", TOUR)
CHANGES = 2
"""`fleet plan` ends so when there is something to do, and in an empty account there is."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("readme")
    shutil.copy(REPOSITORY / "dagster.yaml", home)
    yield home
    daemon.stop(home / ".fleet")


def test_the_tour_names_commands():
    assert {command.split()[1] for command in COMMANDS} >= {
        "help",
        "settings",
        "plan",
        "apply",
        "vehicle",
        "asset",
        "compact",
        "local",
        "test",
    }


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make")])
def test_make_knows_its_targets(command):
    subprocess.run(["make", "--dry-run", *command.split()[1:]], cwd=REPOSITORY, check=True, capture_output=True)


def test_the_commands_of_the_tour_work_one_after_the_other(folder):
    def near(told):
        """The hour that is as far from now, which may be an hour later by then, as the README's is from 10 o'clock."""
        return Hour(Hour.of(datetime.now(UTC)).start + timedelta(hours=int(told[1]) - 10)).partition_key

    for command in sorted(COMMANDS, key=lambda command: "fleet local" in command):  # what stops AWS comes last
        if command.startswith("make"):
            continue
        words = shlex.split(re.sub(r"2026-11-23-(\d\d):00", near, command))
        module = {".venv/bin/fleet": "fleet_pipeline", ".venv/bin/dagster": "dagster"}[words[0]]
        ended = subprocess.run(
            [sys.executable, "-m", module, *words[1:]],
            cwd=folder,
            input="y\n",
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ended.returncode == (CHANGES if words[1] == "plan" else 0), f"{command}\n{ended.stdout}\n{ended.stderr}"
    assert daemon.status(folder / ".fleet") is None
