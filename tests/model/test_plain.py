"""What others say is inert wherever it is shown: in a terminal, in a log, in Markdown."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_pipeline.model.plain import LONGEST, fence, in_markdown, plain, plain_lines


@given(st.text())
def test_a_plain_text_is_one_line_of_printable_characters(said):
    shown = plain(said)
    assert shown.isprintable()
    assert not [
        each
        for each in shown
        if unicodedata.bidirectional(each) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    ]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("297468000001", "297468000001"),
        ("Straße 日本 🚗", "Straße 日本 🚗"),
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\r\nERROR b", r"a\r\nERROR b"),
        ("a\u202eb\u200fc\u2066d", r"a\u202eb\u200fc\u2066d"),
        ("a\u2028b\x85c\x00", r"a\u2028b\x85c\x00"),
        ("a\ud800b", r"a\ud800b"),
        (297, "297"),
    ],
)
def test_what_is_not_printable_is_shown_as_its_code_and_all_else_as_it_is(said, shown):
    assert plain(said) == shown


def test_a_long_text_is_cut_and_says_how_long_it_was():
    assert plain("x" * (LONGEST + 1)) == "x" * LONGEST + "… (1,001 characters)"


def test_meant_line_ends_stay_and_all_other_controls_are_shown():
    assert plain_lines("one\ntwo\x1b\r\nthree") == "one\ntwo\\x1b\\r\nthree"


@given(st.text(alphabet="`a![](<>\n \\"))
def test_nothing_in_a_code_span_ends_it(said):
    shown = in_markdown(said)
    ticks = len(shown) - len(shown.lstrip("`"))
    inner = shown[ticks:-ticks]
    assert shown.endswith("`" * ticks)
    assert not inner.startswith("`")
    assert not inner.endswith("`")
    assert "`" * ticks not in inner
    assert "\n" not in shown


@given(st.text(alphabet="`a~\n "))
def test_nothing_in_a_code_block_ends_it(said):
    first, *lines, last = fence(said, "diff").split("\n")
    assert first == f"{last}diff"
    assert not [line for line in lines if line.strip().startswith(last)]
