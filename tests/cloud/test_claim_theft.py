"""A stolen claim certificate: before, during and after a rotation, with whoever ends it killed at any call. What was not stolen goes on working.

The states are those of the table in docs/operations.md, which is this test's table. Some kills are tried here, all of them by `make crash`.
"""

import uuid
from dataclasses import replace
from itertools import count

import pytest
from runbook import BEGUN, TABLE, Runbook, dies

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.cloud.claims import life


@pytest.fixture(scope="module")
def new_book(make_fleet, local_aws):
    """Make a fleet's claim certificate and what it stands on, in an account of many such fleets."""
    account = make_fleet()

    def new_book():
        unique = uuid.uuid4().hex
        fleet = replace(account, environment=unique[:8], bucket=f"theft-{unique}", lake_bucket="")
        book = Runbook(fleet, Aws(fleet.region, fleet.account, local_aws.url))
        book.apply()
        book.shown()
        return book

    return new_book


def begun(new_book, when):
    book = new_book()
    for action in BEGUN[when]:
        action(book)
    book.shown()
    return book


[LASTING] = [row[3:] for row in TABLE if row[:2] == ("while a rotation lasts", "a")]
STEPS = {
    "revoked": lambda stolen: lambda fleet, aws: life.revoke(fleet, aws, stolen),
    "rotated": lambda _: life.rotate,
    "retired": lambda stolen: lambda fleet, aws: life.retire(fleet, aws, stolen),
}
"""The steps of the runbook, by the table's columns, for the id of the certificate that was stolen."""


@pytest.mark.parametrize(("when", "stolen", "first", "revoked", "rotated", "retired"), TABLE)
def test_after_a_theft_each_step_of_the_runbook_works_and_the_good_certificate_survives(  # noqa: PLR0917 (a row)
    new_book, when, stolen, first, revoked, rotated, retired
):
    book = begun(new_book, when)
    assert book.shown() == first
    its_id = book.id_of(stolen)
    for step, wanted in zip(STEPS, (revoked, rotated, retired), strict=True):
        STEPS[step](its_id)(book.fleet, book.aws)
        assert book.shown() == wanted
        if (when, step) != ("while a rotation is stopped", "revoked"):  # there an apply ends the rotation
            assert book.plan_and_apply_agree()
            assert book.shown() == wanted
    assert book.has_a_key_for_each()


def test_the_runbooks_table_has_a_row_for_each_time_of_a_theft():
    assert {row[0] for row in TABLE} == set(BEGUN)
    assert len(TABLE) == 5


def killed_in_a_step(new_book, row, step, at, *, applied):
    """Follow the runbook with one step killed before its n-th writing call, and then done again; say whether it was killed.

    `applied`: somebody applies between the two, as the schedule of a pipeline may.
    """
    when, stolen, _, *wanted = row
    book = begun(new_book, when)
    its_id = book.id_of(stolen)
    good = {each.certificate_id for each in book.held()} - {its_id}
    was_killed = False
    states = dict(zip(STEPS, wanted, strict=True))
    for each, deed in STEPS.items():
        action = deed(its_id)
        if each == step and dies(action, book.fleet, book.aws, at):
            was_killed = True
            assert each == "revoked" or status_of(book, its_id) != "ACTIVE"
            assert not applied or book.plan_and_apply_agree()
            if applied and (when, step) == ("while a rotation is stopped", "revoked"):
                states = dict(zip(STEPS, LASTING, strict=True))  # that apply has ended the rotation
            again(each, action, book, its_id, already=states[each])
        elif each != step:
            action(book.fleet, book.aws)
        assert each != "retired" or book.shown() == states[each]
    assert {each.certificate_id for each in book.held() if each.status == "ACTIVE"} >= good
    assert book.has_a_key_for_each()
    assert book.plan_and_apply_agree()
    return was_killed


def again(step, action, book, its_id, *, already):
    """Do what was killed again, as a person would who looks first: nobody retires what is no longer there, or rotates what was rotated."""
    gone = its_id not in {each.certificate_id for each in book.held()}
    done = book.shown() == already if step == "rotated" else gone
    if not done:
        action(book.fleet, book.aws)


def status_of(book, certificate):
    return next((each.status for each in book.held() if each.certificate_id == certificate), None)


def killed_in_the_rotation_before(new_book, at, which):
    """Kill a rotation before its n-th writing call, then find that a certificate was stolen, and follow the runbook; say whether it was killed.

    `which` of those that there are then, the one given out first.
    """
    book = new_book()
    was_killed = dies(life.rotate, book.fleet, book.aws, at)
    there = book.held()
    stolen, good = (
        there[which % len(there)].certificate_id,
        {each.certificate_id for each in there if each.status == "ACTIVE"},
    )
    life.revoke(book.fleet, book.aws, stolen)
    assert book.plan_and_apply_agree()
    if status_of(book, book.held()[0].certificate_id) != "ACTIVE":
        life.rotate(book.fleet, book.aws)
    assert book.plan_and_apply_agree()
    life.retire(book.fleet, book.aws, stolen)
    [given_out, *former] = book.held()
    assert given_out.status == "ACTIVE"
    assert stolen not in {given_out.certificate_id, *(each.certificate_id for each in former)}
    assert {each.certificate_id for each in (given_out, *former)} >= good - {stolen}
    assert book.has_a_key_for_each()
    assert book.plan_and_apply_agree()
    return was_killed


SAMPLED = [
    (0, "rotated", 3, True),
    (1, "rotated", 6, False),
    (2, "retired", 2, True),
    (2, "rotated", 8, True),
    (3, "rotated", 2, True),
    (3, "revoked", 1, True),
    (4, "retired", 3, False),
]
"""Row of the table, step, writing call, and whether somebody applies before it is done again."""


@pytest.mark.parametrize(("row", "step", "at", "applied"), SAMPLED)
def test_a_step_of_the_runbook_that_was_killed_is_done_again_and_ends_in_the_tables_state(
    new_book, row, step, at, applied
):
    assert killed_in_a_step(new_book, TABLE[row], step, at, applied=applied)


@pytest.mark.parametrize(("at", "which"), [(2, 0), (4, 0), (6, 1), (8, 0), (8, 1)])
def test_a_theft_that_comes_to_light_after_a_rotation_was_killed_is_mended_by_the_same_steps(new_book, at, which):
    assert killed_in_the_rotation_before(new_book, at, which)


@pytest.mark.crash
@pytest.mark.parametrize("applied", [False, True], ids=["done again", "applied, then done again"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("row", range(len(TABLE)))
def test_whatever_the_call_at_which_a_step_of_the_runbook_is_killed_it_ends_in_the_tables_state(
    new_book, row, step, applied
):
    kills = next(at for at in count(1) if not killed_in_a_step(new_book, TABLE[row], step, at, applied=applied))
    assert kills > 1


@pytest.mark.crash
@pytest.mark.parametrize("which", [0, 1])
def test_whatever_the_call_at_which_a_rotation_was_killed_before_a_theft_the_same_steps_mend_it(new_book, which):
    kills = next(at for at in count(1) if not killed_in_the_rotation_before(new_book, at, which))
    assert kills > 8
