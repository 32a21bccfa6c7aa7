"""`fleet init`: a folder becomes a project, and no file is lost by it."""

import errno
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from fleet_pipeline.cli.init import init, toml
from fleet_pipeline.cloud.blueprint import blueprint
from fleet_pipeline.model import settings
from fleet_pipeline.model.errors import AlreadyThere, InvalidName

REPOSITORY = Path(__file__).parents[2]


def run(*arguments):
    return CliRunner().invoke(init, arguments, catch_exceptions=False)


def test_a_project_has_the_settings_and_dagsters_two_files(tmp_path):
    folder = tmp_path / "a new" / "fléet"
    assert run(str(folder)).exit_code == 0
    assert {path.name for path in folder.iterdir()} == {"fleet.toml", "dagster.yaml", "workspace.yaml", ".gitignore"}
    assert settings.read_fleet({}, folder / "fleet.toml") == settings.read_fleet({}, folder / "none.toml")


def test_every_setting_may_be_taken_out_of_its_comment_and_means_its_default(tmp_path):
    names = {name for name, *_ in settings.defaults()}
    lines = [line.removeprefix("# ") for line in toml().split("\n")]
    chosen = "\n".join(line for line in lines if line.split(" = ")[0] in names)
    assert set(tomllib.loads(chosen)) == names
    file = tmp_path / "fleet.toml"
    file.write_text(chosen)
    assert settings.read_fleet({}, file) == settings.read_fleet({}, tmp_path / "none.toml")


def test_the_example_of_a_rule_may_be_taken_out_of_its_comment_and_is_a_rule_that_aws_iot_takes(tmp_path):
    example = toml()[toml().index("# [[rules]]") :]
    file = tmp_path / "fleet.toml"
    file.write_text(re.sub(r"^# ?", "", example, flags=re.MULTILINE))
    fleet = settings.read_fleet({}, file)
    assert fleet.rules[-1].published_by("V1") == ("$aws/rules/test_rule_fast/vehicles/V1/status",)
    assert "kinesis" in blueprint(fleet)["topic_rule_fast"].resource.further_actions[0]


@pytest.mark.parametrize("name", ["fleet.toml", "dagster.yaml", "workspace.yaml", ".gitignore"])
def test_a_file_that_is_there_stays_as_it_is_and_nothing_is_written_beside_it(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(AlreadyThere, match=f"{name}.*another folder"):
        run(str(tmp_path))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["dagster.yaml", "workspace.yaml"])
def test_the_files_of_a_new_project_are_those_of_this_repository(name):
    assert (REPOSITORY / "fleet_pipeline" / "cli" / "project" / name).read_text() == (REPOSITORY / name).read_text()


def test_a_folder_that_cannot_be_written_is_said_and_the_next_try_finds_nothing_in_its_way(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InvalidName, match="none was; name a folder of yours"):
        run(str(tmp_path / "file" / "project"))

    def full(file, text, **_):
        file.touch()
        if file.name == "workspace.yaml":
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(text)

    with monkeypatch.context() as disk:
        disk.setattr(Path, "write_text", full)
        with pytest.raises(InvalidName, match="No space left on device"):
            run(str(tmp_path / "project"))
    assert run(str(tmp_path / "project")).exit_code == 0
