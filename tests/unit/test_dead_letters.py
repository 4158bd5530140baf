"""Dead letters: whatever the record, its letter fits into its topic, and whatever the letter, it can be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.kafka.consumer import Received
from schemas.codec import headers_of
from schemas.ids import new_id
from streams.dead_letters import LETTER_MAX, ConsumerRecord, at_origin, dead_letter
from streams.letters import newest
from tests import make

TOPIC_MAX = 2_000_000
"""Bytes of a record that the producer accepts; the topics of dead letters accept a little more."""
KEY = make.ROOM.encode()
PLACES = [
    "message.created/3/17",
    "message.created/" + "9" * 5_000 + "/1",
    "message.created/3/" + "9" * 5_000,
    "a/²/1",
    "",
]


def consumed(value: bytes = b"{}", key: bytes = KEY, headers: tuple[tuple[str, bytes], ...] = ()) -> ConsumerRecord:
    return ConsumerRecord("message.created", 3, 17, key, value, headers)


def size(letter) -> int:
    return len(letter.key) + len(letter.value) + sum(len(name) + len(value) for name, value in letter.headers)


@pytest.mark.parametrize(
    "record",
    [
        consumed(value=b"x" * 20_000_000),
        consumed(key=b"x" * 20_000_000),
        consumed(headers=(("trace", b"x" * 20_000_000),)),
        consumed(headers=(("x" * 20_000_000, b""),)),
        consumed(headers=tuple((f"h{n}", b"x" * 1_000) for n in range(20_000))),
    ],
    ids=["value", "key", "header", "header-name", "headers"],
)
def test_the_letter_of_a_record_that_is_too_large_has_its_origin_and_its_size(record):
    letter = dead_letter("search", record, "Malformed", attempts=1, about=[("stack", "x" * 4_000)])
    marks = dict(letter.headers)
    assert size(letter) < TOPIC_MAX
    assert letter.value == b""
    assert marks["dlq-origin"] == b"message.created/3/17"
    assert int(marks["dlq-cut"].split()[0]) >= 20_000_000
    assert letter.key == (KEY if record.key == KEY else b"")


def test_the_letter_of_the_largest_record_of_a_broker_is_whole():
    headers = (("trace", b"abc"),)
    record = consumed(value=b"x" * (LETTER_MAX - len(KEY) - len("traceabc")), headers=headers)
    letter = dead_letter("search", record, "Malformed", attempts=1, about=[("stack", "x" * 4_000)])
    assert (letter.key, letter.value) == (KEY, record.value)
    assert letter.headers[:1] == headers
    assert "dlq-cut" not in dict(letter.headers)
    assert size(letter) < TOPIC_MAX


MARKS = st.lists(
    st.tuples(
        st.sampled_from(["dlq-origin", "dlq-id", "dlq-attempts", "dlq-round", "dlq-end", "dlq-cause", "replay", "x"]),
        st.one_of(
            st.none(),
            st.binary(max_size=20),
            st.sampled_from([text.encode() for text in (*PLACES, "9" * 5_000, "²", "-1", new_id())]),
        ),
    ),
    max_size=8,
)


@given(marks=MARKS)
def test_marks_of_strangers_fail_neither_stage_nor_operator(marks):
    headers = headers_of(marks)
    taken = at_origin("search", ConsumerRecord("search.retry", 3, 17, KEY, b"{}", headers))
    assert dict(dead_letter("search", taken, "Malformed", attempts=1).headers)["dlq-stage"] == b"search"
    [letter] = newest([Received("search.dlq", 3, 17, KEY, b"{}", headers)], {})
    assert letter.order[1:] in {(3, 17)}
    assert letter.attempts >= 0


@pytest.mark.parametrize("origin", PLACES[1:])
def test_a_letter_that_names_no_place_is_its_own_origin(origin):
    [letter] = newest([Received("search.dlq", 3, 5, KEY, b"", (("dlq-origin", origin.encode()),))], {})
    assert (letter.origin, letter.order) == ("search.dlq/3/5", ("search.dlq", 3, 5))


def test_a_header_without_a_value_is_an_empty_one():
    assert headers_of([("a", None), ("b", b"1")]) == (("a", b""), ("b", b"1"))
