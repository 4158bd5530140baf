"""Queries of a search: parsed, matched against words, corrected. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from domain.words import Word, words

_QUOTES = '"\u201c\u201d\u201e\u201f\u00ab\u00bb'
_CHUNK = re.compile(
    rf"(?P<minus>(?<!\S)-(?=[^\s-]))?(?:[{_QUOTES}](?P<phrase>[^{_QUOTES}]*)[{_QUOTES}]|(?P<word>[^\s{_QUOTES}]+))"
)
_LEAST_PREFIX = 2
"""Letters of a word that is still being typed, from which it finds those that begin with it."""
LEAST_LETTERS, MOST_LETTERS = 4, 32
"""Lengths of the words that are corrected, and of those that they are corrected to."""
_TWO_EDITS = 7
"""Letters from which a word may differ by two edits and not by one."""


@dataclass(frozen=True, slots=True)
class Term:
    """Words that may stand at one place of a phrase.

    ``gap`` is how many positions after the term before; with ``is_prefix`` longer words match too.
    """

    words: tuple[str, ...]
    gap: int = 1
    is_prefix: bool = False

    def matches(self, word: str) -> bool:
        """Return True when the word may stand here."""
        return word.startswith(self.words) if self.is_prefix else word in self.words


@dataclass(frozen=True, slots=True)
class Phrase:
    """Terms at positions that follow each other: one word, a compound, or what stands between quotes."""

    terms: tuple[Term, ...]
    is_excluded: bool = False

    def spans(self, found: Sequence[Word]) -> Iterator[tuple[int, int]]:
        """Yield the first and the last position of each place at which the phrase stands."""
        first = self.terms[0]
        for at, word in enumerate(found):
            if first.matches(word.text) and (last := self._end(found, at)) is not None:
                yield at, last

    def _end(self, found: Sequence[Word], at: int) -> int | None:
        for term in self.terms[1:]:
            at += term.gap
            if at >= len(found) or not term.matches(found[at].text):
                return None
        return at


Terms: TypeAlias = tuple[Phrase, ...]
"""All phrases must be found, and none that is excluded."""


def parse(text: str) -> Terms:
    """Return what a query asks for; nothing, when it holds no word to find.

    Words are all to be found, in any order. A compound, and what stands between quotes, is a phrase. A minus before
    either excludes it. The last word finds those that begin with it.
    """
    chunks = [(chunk, _terms(chunk["phrase"] or chunk["word"] or "")) for chunk in _CHUNK.finditer(text)]
    phrases = [Phrase(terms, bool(chunk["minus"])) for chunk, terms in chunks if terms]
    wanted = [n for n, phrase in enumerate(phrases) if not phrase.is_excluded]
    if not wanted:
        return ()
    typed = [chunk["phrase"] is None for chunk, terms in chunks if terms]
    if typed[wanted[-1]]:
        phrases[wanted[-1]] = _as_typed(phrases[wanted[-1]])
    return tuple(phrases)


def _terms(text: str) -> tuple[Term, ...]:
    terms: list[Term] = []
    gap, before = 1, None
    for word in words(text):
        if word.is_pair and before is not None and before.is_pair and before.end == word.end:
            gap += 1  # the last character of a run, which the pair before has
        else:
            is_single = word.is_pair and word.first_end == word.end
            terms.append(Term((word.text,), gap, is_prefix=is_single))
            gap = 1
        before = word
    return tuple(terms)


def _as_typed(phrase: Phrase) -> Phrase:
    *before, last = phrase.terms
    return Phrase((*before, replace(last, is_prefix=last.is_prefix or len(last.words[0]) >= _LEAST_PREFIX)))


def match(terms: Terms, found: Sequence[Word]) -> bool:
    """Return True when a text of these words is what the query asks for."""
    return all(any(phrase.spans(found)) != phrase.is_excluded for phrase in terms)


def is_correctable(word: str) -> bool:
    """Return True for words that may have a typing error, and for those that may be what was meant."""
    return LEAST_LETTERS <= len(word) <= MOST_LETTERS and word.isalpha()


def correctable(terms: Terms) -> Collection[str]:
    """Return the words of the query in which there may be a typing error."""
    wanted = {word for phrase in terms if not phrase.is_excluded for term in phrase.terms for word in term.words}
    return {word for word in wanted if is_correctable(word)}


def corrected(terms: Terms, similar: Mapping[str, Collection[str]]) -> Terms:
    """Return the query with the words that may have been meant beside its own, for each that is similar to one."""

    def widened(term: Term) -> Term:
        meant = [other for word in term.words for other in similar.get(word, ()) if is_near(word, other)]
        return replace(term, words=(*term.words, *sorted(set(meant) - set(term.words))))

    return tuple(
        phrase if phrase.is_excluded else replace(phrase, terms=tuple(map(widened, phrase.terms))) for phrase in terms
    )


def is_near(word: str, other: str) -> bool:
    """Return True when a typing error or two make one of the other; the first letter is right."""
    return word[0] == other[0] and edits(word, other) <= (2 if len(word) >= _TWO_EDITS else 1)


def edits(one: str, other: str) -> int:
    """Return how many letters were left out, put in, exchanged, or swapped with their neighbour."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for n, letter in enumerate(one, 1):
        earlier, before, row = before, row, [n]
        for m, wanted in enumerate(other, 1):
            cost = min(before[m] + 1, row[m - 1] + 1, before[m - 1] + (letter != wanted))
            if n > 1 and m > 1 and letter == other[m - 2] and one[n - 2] == wanted:
                cost = min(cost, earlier[m - 2] + 1)
            row.append(cost)
    return row[-1]
