"""What lies on this machine is its owner's: whoever makes it first, whatever the umask. And one process at a time does what only one may do."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from fleet_pipeline.cli.alone import COMMANDS, alone, nobody_at_work
from fleet_pipeline.cli.demo import _station
from fleet_pipeline.lake.workplace import workplace
from fleet_pipeline.local.folder import ServerFolder
from fleet_pipeline.model.errors import DemoStopped, InUse, InvalidName
from fleet_pipeline.model.private import made_private
from fleet_pipeline.vehicle.authority import Authority
from fleet_pipeline.vehicle.identity import Identity, VehicleFolder
from fleet_pipeline.vehicle.requesting import request

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def open_folder(monkeypatch):
    """A folder that everyone may enter, in a process that hides nothing by its umask."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    before = os.umask(0)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(folder)
    yield folder
    os.umask(before)
    shutil.rmtree(folder)


def a_vehicle(home):
    VehicleFolder.of(home, "test-thing-1").write(Identity("certificate", "key"))


def a_request(home):
    request(home, "test-thing-1")


def a_dagster_instance(home):
    shutil.copy(REPOSITORY / "dagster.yaml", home.parent)
    instance = dg.DagsterInstance.from_config(str(home.parent))
    instance.report_runless_asset_event(dg.AssetMaterialization("one", metadata={"some rows": "of messages"}))
    instance.dispose()


FIRST = {
    "a vehicle": a_vehicle,
    "a request": a_request,
    "a CA": lambda home: Authority.make(home / "ca"),
    "AWS on this machine": lambda home: ServerFolder.of(home).make(),
    "Dagster": a_dagster_instance,
}


def seen_by_another_user(folder):
    """Return the files below a folder that `nobody` may read, and the folders that it may look into."""
    find = ["find", str(folder), "(", "-type", "f", "-o", "-type", "d", ")", "-readable"]
    as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *find]
    return {
        Path(line)
        for line in subprocess.run(as_nobody, capture_output=True, text=True, check=False).stdout.splitlines()
    }


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can become another user")
@pytest.mark.parametrize("first", FIRST)
def test_another_user_gets_nothing_whoever_makes_the_folders_first(open_folder, first):
    FIRST[first](open_folder / ".fleet")
    (open_folder / "control").write_text("for everyone")
    with workplace() as place:
        (place / "telemetry").write_text("of an hour")
        found = seen_by_another_user(open_folder)
    assert found - {open_folder / "dagster.yaml"} == {open_folder, open_folder / "control"}


@pytest.mark.whole
@pytest.mark.parametrize("first", FIRST)
def test_what_is_made_is_closed_whatever_the_umask(open_folder, first):
    FIRST[first](open_folder / ".fleet")
    made = [path for path in open_folder.iterdir() if path.is_dir() and path.name.startswith(".")]
    assert made
    assert [path for path in made if path.stat().st_mode & 0o077] == []


def test_a_folder_that_stands_open_is_closed_and_those_around_it_are_left_alone(tmp_path):
    (tmp_path / "mine").mkdir(mode=0o755)
    tmp_path.chmod(0o755)
    made_private(tmp_path / "mine")
    made_private(tmp_path / "new" / "below")
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path, *tmp_path.iterdir())} == {
        tmp_path.name: "0o755",
        "mine": "0o700",
        "new": "0o700",
    }


HOLD = "import sys, time; from fleet_pipeline.cli.alone import alone\nwith alone(sys.argv[1]): print('holds', flush=True); time.sleep(60)"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_done_by_one_process_and_nothing_is_taken_away_from_it(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", "")
    with subprocess.Popen([sys.executable, "-c", HOLD, command], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "holds\n"
            for attempt in (lambda: alone(command), nobody_at_work):
                with pytest.raises(InUse, match=COMMANDS[command][1]), attempt():
                    pytest.fail("two are at work")
        finally:
            other.kill()
            other.wait()
    with nobody_at_work():
        pass
    with alone(command):  # the one that was killed holds nothing
        pass


def test_forgetting_is_refused_while_a_demo_is_at_work(command, fleet, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with alone("demo"):
        code, said = command(fleet, "local", "reset", "--yes")
    assert (code, "wait until it is done" in said) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--vehicles", "-1"],
        ["demo", "--messages", "0"],
        ["vehicle", "drive", "--vehicles", "0"],
        ["bulk", "start", "--vehicles", "-1"],
    ],
)
def test_a_number_that_makes_no_sense_is_refused_before_anything_is_done(command, fleet, arguments):
    code, said = command(fleet, *arguments)
    assert code == 2
    assert "is not in the range" in said


@pytest.mark.parametrize(
    ("stop", "said"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (DagsterExecutionInterruptedError(), "interrupted"),
        (dg.Failure("no bucket"), "no bucket"),
    ],
)
def test_a_demo_that_ends_early_says_where_and_what_to_do(stop, said):
    with pytest.raises(DemoStopped, match=f"ended at drive: .*{said}.* run it again"), _station("drive"):
        raise stop


def test_a_folder_without_a_claim_certificate_is_named_with_what_belongs_in_it(command, fleet, tmp_path):
    code, said = command(fleet, "vehicle", "register", "--serial", "297468000001", "--claim", str(tmp_path))
    assert code == 1
    assert "must hold certificate.pem and private.key" in said


@pytest.mark.parametrize("below", ["/proc/x", "file/x"])
def test_a_folder_that_cannot_be_made_is_named_with_what_to_do(tmp_path, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidName, match=r"cannot be made for its owner alone .*: name a folder of yours"):
        made_private(tmp_path / below)
