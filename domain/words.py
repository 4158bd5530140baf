"""Analysis of texts for search: the same for what is stored and for what is searched for. Pure.

A text becomes words, each at a position, so that a phrase is words at positions that follow each other. Letters are
folded to what people take for the same (case, width, accents). A compound is split into its letters and its digits:
``v3.11.7-rc2`` is seven words. Scripts that put no spaces between words give each pair of neighbouring characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

VERSION = 1
"""Raised with every change of the analysis: stages then index anew what an earlier one has written."""
_MAX_LETTERS = 64
"""Letters of a word that count. A longer one is no word, and PostgreSQL stores none above 2 kB."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text.

    ``start`` and ``end`` are where it stands in the text; ``first_end`` is where its first character ends. A word that
    ``is_pair`` is two neighbouring characters of a script without spaces, or the last one of such a run.
    """

    text: str
    start: int
    end: int
    first_end: int
    is_pair: bool = False


_UNSPACED = (
    "\u0e00-\u0e4f\u0e80-\u0ecf\u0edc-\u0edf"  # Thai, Lao
    "\u1000-\u103f\u1050-\u108f\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa7f"  # Burmese
    "\u1780-\u17d3\u17d7\u1950-\u19df\u1a20-\u1a7f\u1a90-\u1a99\uaa80-\uaadf"  # Khmer, Tai
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c"  # Marks of repetition, numerals
    "\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"  # Kana
    "\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua48c\uf900-\ufaff"  # Bopomofo, Han, Yi
    "\uac00-\ud7a3\u1100-\u11ff"  # Hangul: words have endings, and compounds have no spaces
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_MARKS = "".join(
    chr(code) for code in (*range(0x300, 0x2000), *range(0xA600, 0xAC00)) if unicodedata.category(chr(code))[0] == "M"
)
# Anything that shows as a picture: emoji, dingbats, and their like. Tones of skin and flags' letters are folded before.
_PICTURES = "\u2190-\u21ff\u2300-\u23ff\u2460-\u24ff\u2600-\u27bf\u2b00-\u2bff\u3200-\u33ff\U0001f000-\U0001faff"
_WORDS = re.compile(
    f"(?P<unspaced>[{_UNSPACED}]+)|(?P<picture>[{_PICTURES}])|[0-9]+|"
    f"(?:(?![{_UNSPACED}{_PICTURES}])[^\\W0-9_]|[{_MARKS}])+"
)
_ASCII_WORDS = re.compile("[0-9]+|[a-z]+")
_JOINED = (
    f"[{_MARKS}\u20d0-\u20ff\u3099\u309a\ufe00-\ufe0f\uff9e\uff9f\u1160-\u11ff"
    "\U0001f3fb-\U0001f3ff\U000e0020-\U000e01ef]"
)
_CLUSTER = re.compile(f".{_JOINED}*", re.DOTALL)

_SAME = str.maketrans(
    {
        **dict(zip("øđłħŧıȷɓɖɗƙɲŋƴ", "odlhtijbddknny", strict=True)),
        **{"æ": "ae", "œ": "oe", "þ": "th", "ð": "d", "ĸ": "k"},
        **{"\u0640": "", "\u0649": "\u064a", "\u0629": "\u0647", "\u06cc": "\u064a", "\u06a9": "\u0643"},  # Arabic
    }
)
"""Letters that people take for the same though Unicode does not decompose them; in Arabic also the tatweel, a dash."""
_KEPT_MARKS = frozenset({0, 8, 9, 84, 91, 103, 107, 118, 122, 129, 130, 132})
"""Classes of combining marks that are part of a word's spelling: vowels of the scripts of India, tones of Thai, voiced
kana. All others, accents and points, are left out."""
_BREVE, _DIAERESIS = "\u0306", "\u0308"
_OWN_LETTERS = {_BREVE: "иу", _DIAERESIS: "і"}
"""Cyrillic letters that are others with this mark: й, ў, ї. But ё is written е by most."""


def words(text: str) -> Sequence[Word]:
    """Return the words of the text, in order. The position of a word is its place in what is returned."""
    if text.isascii():
        found = _ASCII_WORDS.finditer(text.lower())
        return [Word(m[0][:_MAX_LETTERS], m.start(), m.end(), m.start() + 1) for m in found]
    folded, starts, ends = _folded(text)
    result: list[Word] = []
    for match in _WORDS.finditer(folded):
        first, last = match.span()
        spans = _pairs(first, last) if match["unspaced"] else ((first, last),)
        result += (
            Word(folded[a:b][:_MAX_LETTERS], starts[a], ends[b - 1], ends[a], is_pair=bool(match["unspaced"]))
            for a, b in spans
        )
    return result


def _pairs(first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield each pair of neighbours, and the last character: so every character begins a word."""
    for at in range(first, last):
        yield at, min(at + 2, last)


def _folded(text: str) -> tuple[str, Sequence[int], Sequence[int]]:
    """Return the folded text, and for each of its characters where it comes from."""
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for match in _CLUSTER.finditer(text):
        part = fold(match[0])
        parts.append(part)
        starts += [match.start()] * len(part)
        ends += [match.end()] * len(part)
    return "".join(parts), starts, ends


@lru_cache(maxsize=16_384)
def fold(cluster: str) -> str:
    """Return a character with its marks as it is compared: in lower case, of normal width, without accents."""
    base = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", cluster).casefold())
    kept: list[str] = []
    for char in base:
        category = unicodedata.category(char)
        if category == "Cf" or "\U0001f3fb" <= char <= "\U0001f3ff":
            continue
        if category[0] == "M" and not _is_spelling(char, kept):
            continue
        kept.append(str(unicodedata.decimal(char)) if category == "Nd" else char)
    return unicodedata.normalize("NFC", "".join(kept).translate(_SAME))


def _is_spelling(mark: str, before: Sequence[str]) -> bool:
    if before and before[-1] in _OWN_LETTERS.get(mark, ""):
        return True
    joins = "\ufe00" <= mark <= "\ufe0f" or "\u20d0" <= mark <= "\u20ff" or mark >= "\U000e0000" or mark == "\u034f"
    return not joins and unicodedata.combining(mark) in _KEPT_MARKS
