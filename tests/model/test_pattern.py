"""Regular expressions of settings: which are taken, that they mean what Python's say, and that no text takes them long."""

import re
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_pipeline.model.pattern import LENGTH_LIMIT, Pattern

TAKEN = [
    "[A-HJ-NPR-Z0-9]{17}",
    r"^AB-\d{4,6}(X|YZ)?$",
    "[a-z.-]{3}",
    r"(?:CAR|VAN)[0-9]{2,8}",
    r"v\.[0-9]:[0-9]",
    "A{1,40}A{1,40}A{1,40}B",
]
REFUSED = {
    "(a+)+": "is not among",
    "a*": "is not among",
    "a+": "is not among",
    ".{3}": "is not among",
    "(a|b){2}(": "is not among",
    "a|b": "is not among",
    r"\w{3}": "is not among",
    "[^a]{3}": "is not among",
    "(?=a)a": "is not among",
    "a\n": "is not among",
    "[z-a]": "ends before it begins",
    "a{3,1}": "ends before it begins",
    "": "1 to 128 characters",
    "a{129}": "1 to 128 characters",
    "a?b?c?d?e?": "at most 4 of its parts may vary",
}


@pytest.mark.parametrize("text", TAKEN)
@given(number=st.integers(0, 10**9))
def test_its_examples_are_of_its_form_as_python_reads_it(text, number):
    said = Pattern(text).example(number)
    assert Pattern(text).takes(said)
    assert re.fullmatch(text, said, re.ASCII)
    assert Pattern(text).shortest <= len(said) <= Pattern(text).longest <= LENGTH_LIMIT


@pytest.mark.parametrize("text", TAKEN[:4])
def test_each_number_has_an_example_of_its_own(text):
    assert len({Pattern(text).example(number) for number in range(100)}) == 100


@pytest.mark.parametrize(("text", "said"), REFUSED.items())
def test_what_could_be_read_slowly_or_in_another_way_is_refused_with_its_reason(text, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        Pattern(text)


def test_the_worst_that_is_taken_is_decided_at_once_for_any_text():
    worst, began = Pattern("A{0,40}A{0,40}A{0,40}A{0,7}B"), time.process_time()
    for text in ("A" * 128, "A" * 10_000, "A" * 127 + "C"):
        assert not worst.takes(text)
    assert time.process_time() - began < 3  # CPU seconds; the hook has as many for all that it does


@given(st.text())
def test_no_text_makes_it_fail_otherwise_than_with_a_reason(text):
    with suppress(ValueError):
        assert Pattern(text).longest > 0


def test_the_whole_text_must_match_and_a_line_end_is_not_overlooked():
    assert not Pattern("[0-9]{3}").takes("123\n")
    assert not Pattern("^[0-9]{3}$").takes("1234")
    assert not Pattern(r"\d{3}").takes("١٢٣")
