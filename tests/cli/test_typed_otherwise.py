"""What is typed otherwise than it is called says what is meant, and what there is not says what makes it."""

import errno
import os
from dataclasses import replace

import pytest

from fleet_pipeline.cli import main, ui
from fleet_pipeline.model.errors import AwsRefused


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("local stop", "Did you mean 'down'?"),
        ("deploy", "Did you mean 'apply'?"),
        ("apply --yes", "It is confirmed by --confirm."),
        ("claim retire --confirm x", "It is confirmed by --yes."),
        ("plan --yes", "It asks for no confirmation."),
        ("plan --region x", "It is a setting: FLEET_REGION, or region in fleet.toml."),
        ("aply", "'apply'"),
        ("plan --nothing-like-it", "No such option '--nothing-like-it'."),
    ],
)
def test_a_word_of_other_tools_says_the_one_that_is_meant(fleet, command, typed, said):
    code, told = command(fleet, *typed.split())
    assert (code, said in told) == (2, True), told


def test_before_an_apply_what_there_is_not_is_said_with_what_makes_it(fleet, command):
    code, said = command(fleet, "claim", "show")
    assert (code, "there is no claim certificate yet: `fleet apply` makes it" in said) == (0, True), said
    assert "private key" not in said
    code, said = command(fleet, "vehicle", "check")
    assert (code, "`fleet apply` makes the fleet" in said) == (0, True), said


@pytest.mark.parametrize("question", ["claim retire", "claim revoke", "local reset", "retention"])
def test_a_question_that_nobody_can_answer_names_the_option_that_does(fleet, command, question, tmp_path, monkeypatch):
    monkeypatch.setenv("FLEET_RAW_RETENTION_DAYS", "30")
    code, said = command(replace(fleet, home=str(tmp_path / "home")), *question.split())
    assert (code, "`--yes` does" in said) == (1, True), said


def test_an_erasure_that_is_not_confirmed_names_both_options_and_begins_nothing(fleet, command):
    code, said = command(fleet, "vehicle", "erase", "--serial", "A-1")
    assert (code, "`--confirm A-1`" in said, "`--dry-run`" in said, "hours" in said) == (1, True, True, False), said


def test_a_ui_whose_port_is_taken_ends_before_dagster_is_imported(fleet, command, monkeypatch):
    monkeypatch.setattr(ui, "_serve", lambda *_: pytest.fail("it goes on"))
    with ui.socket.create_server(("127.0.0.1", 0)) as other:
        code, said = command(fleet, "ui", "--port", str(other.getsockname()[1]))
    assert (code, "cannot listen on 127.0.0.1" in said) == (1, True), said


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "make room on its disk"),
        (errno.EDQUOT, "make room"),
        (errno.EROFS, "FLEET_HOME"),
        (errno.EACCES, "FLEET_HOME"),
        (errno.EPERM, "FLEET_HOME"),
    ],
)
def test_a_full_or_closed_disk_is_one_sentence_with_what_helps(monkeypatch, capsys, number, said):
    def refused(**_):
        raise OSError(number, os.strerror(number), "/data/x.lock")

    monkeypatch.setattr(main, "fleet_command", refused)
    with pytest.raises(SystemExit, match="1"):
        main.main()
    told = " ".join(capsys.readouterr().err.split())
    assert f"error: /data/x.lock could not be used: {os.strerror(number)}; " in told
    assert said in told


def test_what_the_system_says_of_a_mistake_of_ours_keeps_its_traceback(monkeypatch):
    def mistaken(**_):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "ours")

    monkeypatch.setattr(main, "fleet_command", mistaken)
    with pytest.raises(FileNotFoundError):
        main.main()


def test_without_credentials_it_is_said_how_to_choose_them():
    error = AwsRefused("say whose credentials these are", "NoCredentialsError", "Unable to locate credentials")
    assert "AWS_PROFILE" in str(error)
