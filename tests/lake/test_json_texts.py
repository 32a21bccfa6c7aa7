"""Messages are told apart by where their JSON ends, however it is laid out in lines, and no byte of them is lost."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_pipeline.lake import json_texts
from fleet_pipeline.lake.json_texts import DEEPEST, Messages
from fleet_pipeline.lake.rows import LARGEST


def told(lines, *, at_once=10**9):
    """The messages in lines that come so many at a time."""
    messages = Messages()
    found = [text for start in range(0, len(lines), at_once) for text in messages.of(lines[start : start + at_once])]
    return found + messages.rest()


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text('a"\\{}[],: \n', max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab{]", max_size=2), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.text("ab", max_size=2), values, max_size=3)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(objects | st.lists(objects, max_size=2), st.sampled_from([None, 0, 2])), max_size=6),
    st.sampled_from([b"\n", b"\r\n", b"\n\n", b""]),
    st.integers(1, 4),
)
def test_values_are_messages_byte_for_byte_in_one_line_or_over_several(said, between, at_once):
    texts = [json.dumps(value, indent=indent).encode() for value, indent in said]
    if not between and any(text.startswith(b"[") for text in texts):
        between = b"\n"
    found = told(between.join(texts).split(b"\n"), at_once=at_once)
    assert [text.rstrip() for text in found] == texts


HALVES = [
    b'{"a": 1, "b',
    b'{"a": 1,',
    b'{"a":',
    b'{"a": [',
    b'{"a": [1',
    b"{",
    b"[",
    b"[1,",
    b"]",
    b"}",
    b"no json",
    b'"',
    b'{"a": {"b": 1}',
    b'"b": 2}',
]


@pytest.mark.parametrize("half", HALVES)
def test_half_a_line_before_whole_ones_takes_none_of_them_with_it(half):
    whole = [b'{"n": %d}' % number for number in range(50)]
    lines = [*whole[:5], half, *whole[5:]]
    assert told(lines) == lines
    assert told(lines, at_once=3) == lines


def test_no_byte_is_lost_of_lines_at_random():
    pieces = [*HALVES, b'{\n  "n": 1,\n  "m": [\n    2\n  ]\n}', b'{"n": 1}', b"", b"[\n\n1\n]", b"{\n}{", b'"x": 1\n}']
    made = random.Random(7)
    for _ in range(300):
        lines = b"\n".join(made.choices(pieces, k=12)).split(b"\n")
        found = told(lines, at_once=made.choice([1, 4, 100]))
        assert b"".join(b"".join(found).split()) == b"".join(b"".join(lines).split())


@pytest.mark.parametrize(
    "lines",
    [
        [b"["] * 2000,
        [b"[1,["] * 2000,
        [b'{"a":'] * 2000,
        [b"{", *[b'"a": [],'] * 2000],
        [b"{", *[b""] * 2000, b"x"],
        [b"[", *[b"1," * 3000] * 300],
    ],
)
def test_what_never_ends_is_a_message_a_line_at_a_cost_of_its_own_bytes(lines):
    messages, held, found = Messages(), 0, []
    for start in range(0, len(lines), 1000):
        found += messages.of(lines[start : start + 1000])
        held = max(held, sum(map(len, messages._open)))
    assert held <= LARGEST
    assert found + messages.rest() == [line for line in lines if line]


def test_a_value_over_lines_may_be_as_large_and_as_deep_as_a_message_that_is_read_at_all():
    deep = json.dumps(json.loads("[" * DEEPEST + "]" * DEEPEST), indent=1).encode()
    assert told(deep.split(b"\n")) == [deep]
    line = b"1," * 4095 + b"1,\n"
    large = b'{"a": [\n' + line * (LARGEST // len(line) - 1) + b"1]}"
    assert told(large.split(b"\n")) == [large]
    larger = (b'{"a": [\n' + line * (LARGEST // len(line) + 1) + b"1]}").split(b"\n")
    assert told(larger) == larger


def test_lines_that_begin_values_without_an_end_are_read_a_few_times_and_no_more(monkeypatch):
    monkeypatch.setattr(json_texts, "LARGEST", 100)
    messages, lines = Messages(), [b"[1,["] * 1000
    assert messages.of(lines) + messages.rest() == lines
    assert 0 < messages._again < 3 * 5 * len(lines)
