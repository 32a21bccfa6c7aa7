"""What is typed otherwise than it is called says what is meant, and what there is not says what makes it."""

from dataclasses import replace

import pytest

from fleet_pipeline.cli import ui


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
