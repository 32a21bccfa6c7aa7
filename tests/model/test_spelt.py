"""A name is found however it is written, and a longer one that has it within is another's."""

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_pipeline.model.spelt import GONE, Spelling

NAME = "297468000001"
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=6, max_size=20)


def escaped(name, upper):
    units = name.encode("utf-16-be").hex()
    units = units.upper() if upper else units
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


@given(NAMES, st.booleans())
def test_a_name_is_taken_out_of_a_text_however_json_or_a_url_spells_it(name, upper):
    spelling = Spelling(name)
    once = json.dumps(name)[1:-1]
    for spelt in (name, once, json.dumps(once)[1:-1], escaped(name, upper), quote(name, safe="")):
        for text, rest in ((f'{{"a": "{spelt}"}}', f'{{"a": "{GONE}"}}'), (f"\\n{spelt} went", f"\\n{GONE} went")):
            assert spelling.stands_in(text)
            assert spelling.taken_out_of(text) == rest
            assert name not in spelling.covered_in(text.encode()).decode()
            assert len(spelling.covered_in(text.encode())) == len(text.encode())


@pytest.mark.parametrize(
    "others", [f"{NAME}7", f"7{NAME}", f"X{NAME}", f"x{NAME}", f"{NAME}a", NAME[:-1], NAME.lower()[1:]]
)
def test_a_longer_name_that_has_it_within_and_a_shorter_one_are_others(others):
    assert not Spelling(NAME).stands_in(f"rule1/1795428000005-{others}.json")
    assert Spelling(NAME).covered_in(others.encode()) == others.encode()


@pytest.mark.parametrize("before", ["", "-", "/", '"', "\\n", "\\u002f", "%2F", "%2f", "CAR", "test-thing-"])
def test_what_may_stand_before_a_name_hides_it_not(before):
    assert Spelling(NAME, "CAR").taken_out_of(f"a key {before}{NAME}.json") == f"a key {before}{GONE}.json"


def test_bytes_that_are_no_text_stay_as_they_are_beside_a_name():
    assert Spelling(NAME).covered_in(b"\xff\xfe " + NAME.encode() + b"\x80") == b"\xff\xfe " + b"*" * 12 + b"\x80"


def test_a_name_that_is_as_good_as_any_number_is_not_looked_for():
    spelling = Spelling("12345")
    assert (spelling.is_too_short, spelling.stands_in("12345"), spelling.taken_out_of("12345")) == (
        True,
        False,
        "12345",
    )
    assert spelling.covered_in(b"12345") == b"12345"
