"""Excerpts of messages in which the words of a search are marked. Pure."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from domain.terms import Terms
from domain.words import Word, words

_MOST_WORDS, _BEFORE = 40, 8
"""Words of an excerpt, and of these, at most so many before the first that was found."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Part of a message. ``highlight`` is HTML: escaped, with ``<mark>``.

    ``score`` is the share of the message's words that were found; ``found`` are those words.
    """

    highlight: str
    score: float
    found: Collection[str]


def excerpt(content: str, terms: Terms) -> Excerpt:
    """Return the part of a message in which the query's words stand first."""
    every = words(content)
    wanted = [phrase for phrase in terms if not phrase.is_excluded]
    spans = [(first, last, phrase.terms[-1].words) for phrase in wanted for first, last in phrase.spans(every)]
    hit = {at for first, last, _ in spans for at in range(first, last + 1)}
    start, end = _window(every, min(hit, default=0), len(content))
    marks = sorted((every[first].start, _end(every[last], ends)) for first, last, ends in spans)
    return Excerpt(
        highlight="".join(_parts(content, [mark for mark in marks if start <= mark[0] and mark[1] <= end], start, end)),
        score=len(hit) / len(every) if every else 0.0,
        found={every[at].text for at in hit},
    )


def _end(word: Word, asked: Sequence[str]) -> int:
    """Return where the mark ends: one character of a script without spaces is found in a pair, of which it is half."""
    return word.first_end if word.is_pair and all(len(each) == 1 for each in asked) else word.end


def _window(every: Sequence[Word], first: int, length: int) -> tuple[int, int]:
    start = max(0, min(first - _BEFORE, len(every) - _MOST_WORDS))
    after = start + _MOST_WORDS
    return every[start].start if start else 0, every[after - 1].end if after < len(every) else length


def _parts(content: str, marks: Sequence[tuple[int, int]], start: int, end: int) -> Iterator[str]:
    at = start
    while marks:
        (begin, until), *marks = marks
        while marks and marks[0][0] <= until:  # pairs overlap
            until, marks = max(until, marks[0][1]), marks[1:]
        yield html.escape(content[at:begin], quote=False)
        yield f"<mark>{html.escape(content[begin:until], quote=False)}</mark>"
        at = until
    yield html.escape(content[at:end], quote=False)
