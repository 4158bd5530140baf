"""Analysis of texts for search, queries, and excerpts."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.highlights import excerpt
from domain.terms import edits, match, parse
from domain.words import words

TEXTS = st.text(
    st.one_of(
        st.sampled_from(
            list("ab1 .-_'\"<&>\u00e9\u0130\u00df\u6771\u4eac\u30bf\u0e01\u0e31\uc11c\U0001f389\u0301\u200d")
        ),
        st.characters(exclude_categories=("Cs",)),
    ),
    max_size=60,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v3.11.7-rc2", "v 3 11 7 rc 2"),
        ("M\u00fcller Stra\u00dfe \u0130\u0131 \u00d8re", "muller strasse ii ore"),
        ("\uff21\uff22\uff11 \ufb01nal", "ab 1 final"),
        ("\u043c\u043e\u0439 \u0401\u043b\u043a\u0430", "\u043c\u043e\u0439 \u0435\u043b\u043a\u0430"),
        ("\u0438\u0306", "\u0439"),
        ("\u0662\u0660", "20"),
        ("\u6771\u4eac\u30bf", "\u6771\u4eac \u4eac\u30bf \u30bf"),
        ("\uff76\uff9e", "\u30ac"),
        ("\U0001f44d\U0001f3fd\u200d", "\U0001f44d"),
        ("!= ''", ""),
    ],
)
def test_a_text_becomes_its_words(text, expected):
    assert " ".join(word.text for word in words(text)) == expected


@given(TEXTS)
def test_every_word_of_a_text_finds_it(text):
    found = words(text)
    for word in found:
        terms = parse(word.text)
        assert match(terms, found), (word, terms)


@given(TEXTS, TEXTS)
def test_a_highlight_is_whole_html_and_its_text_an_excerpt(text, query):
    shown = excerpt(text, parse(f"{query} {text[:9]}")).highlight
    plain = re.sub("</?mark>", "", shown)
    assert re.search("[<>]", plain) is None
    assert re.fullmatch("(?:[^<]*<mark>[^<]+</mark>)*[^<]*", shown)
    assert html.unescape(plain) in text


def test_an_excerpt_shows_what_was_found():
    shown = excerpt("a " * 60 + "vaccine " + "b " * 60, parse("vaccine")).highlight
    assert "<mark>vaccine</mark>" in shown
    assert len(shown.split()) == 40
    assert (
        excerpt("\u660e\u65e5\u6771\u4eac\u3078", parse("\u4eac")).highlight
        == "\u660e\u65e5\u6771<mark>\u4eac</mark>\u3078"
    )


@pytest.mark.parametrize("query", ["", "!=", "-fast", '""', '-"a b"', "\u202e", "%"])
def test_a_query_without_a_word_to_find_is_empty(query):
    assert parse(query) == ()


@pytest.mark.parametrize(("one", "other", "count"), [("abc", "acb", 1), ("permision", "permission", 1), ("", "ab", 2)])
def test_edits_are_counted(one, other, count):
    assert edits(one, other) == edits(other, one) == count
