"""Texts are kept as they were typed, but for line ends; what no text may have is named with its place."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Invalid
from domain.text import clean_line, clean_text, comparable, is_blank

FORBIDDEN = [chr(code) for code in range(0x20) if chr(code) not in "\t\n\v\f\r"] + list(
    "\x7f\ud800\ufdd0\uffff\U0010ffff"
)
INVISIBLE = (
    "\u200b\u2800\u3164\u115f\u1160\ufeff\u00ad\u034f\u180e\u2060\u2066\ufe0f\uffa0\U000e0041\U0001d159"
    " \t\n\x85\u2028\u3000"
)

typed = st.text(st.characters(exclude_categories=("Cs", "Cn")))
allowed = typed.filter(lambda text: not set(FORBIDDEN) & set(text))


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("one\r\ntwo\r\n", "one\ntwo\n"),
        ("one\rtwo\r\rthree", "one\ntwo\n\nthree"),
        ("one\r\r\n\ntwo", "one\n\n\ntwo"),
        ("one\x0btwo\x0cthree", "one\ntwo\nthree"),
        ("a\x85b\u2028c\u2029d", "a\x85b\u2028c\u2029d"),
        ("a\tb", "a\tb"),
        ("e\u0301", "e\u0301"),
        ("\u05e9\u05bc\u05c1", "\u05e9\u05bc\u05c1"),
        ("\ufa19\u7530", "\ufa19\u7530"),
        ("a\ufeffb \ue000\U000e0041 \u202ex\u202c", "a\ufeffb \ue000\U000e0041 \u202ex\u202c"),
        ("👩‍👩‍👧‍👦🏴󠁧󠁢󠁥󠁮󠁧󠁿👍🏽1️⃣", "👩‍👩‍👧‍👦🏴󠁧󠁢󠁥󠁮󠁧󠁿👍🏽1️⃣"),
        ("a" + "\u0301\u0316" * 1500, "a" + "\u0301\u0316" * 1500),
    ],
)
def test_only_line_ends_are_changed(text: str, stored: str):
    assert clean_text(text, "$.content") == stored


@pytest.mark.parametrize("character", FORBIDDEN, ids=lambda character: f"U+{ord(character):04X}")
@pytest.mark.parametrize("clean", [clean_text, clean_line])
def test_what_no_text_may_have_is_named_with_its_place(clean, character: str):
    with pytest.raises(Invalid) as caught:
        clean(f"ab\r\n{character}c\x01", "$.content")
    message = f"must not have U+{ord(character):04X}, at character 5"
    assert caught.value.errors == (("$.content", message),)
    assert str(caught.value) == f"content {message}"


@given(allowed)
def test_a_text_comes_back_as_it_was_but_for_line_ends(text: str):
    stored = clean_text(text, "$")
    assert not set("\r\v\f") & set(stored)
    assert stored == text.replace("\r\n", "\n").replace("\r", "\n").replace("\v", "\n").replace("\f", "\n")
    assert clean_text(stored, "$") == stored


@given(allowed)
def test_a_line_is_one_line_and_stays_itself(text: str):
    line = clean_line(text, "$")
    assert len(line.splitlines()) <= 1
    assert line == line.strip()
    assert not any(
        unicodedata.bidirectional(each) in ("RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI") for each in line
    )
    assert clean_line(line, "$") == line


@given(typed)
def test_equivalent_texts_compare_equal(text: str):
    assert comparable(unicodedata.normalize("NFD", text)) == comparable(text) == comparable(comparable(text))


@given(st.text(st.sampled_from(INVISIBLE)))
def test_what_cannot_be_seen_is_blank(text: str):
    assert is_blank(text)


@given(
    st.text(st.sampled_from(INVISIBLE)), st.sampled_from(["x", "\u0301", "।", "\u0600", "\ufffc", "🙂", "\ue000", "-"])
)
def test_one_visible_character_is_enough(blank: str, character: str):
    assert not is_blank(f"{blank}{character}{blank}")
