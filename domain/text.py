"""Texts that people write: which characters they may have, and what is stored of them. Pure.

A text is stored as it was typed, but for its line ends: each becomes a newline. Two spellings of the same text, which
Unicode calls canonically equivalent, differ in the store and are the same for ``comparable``.
"""

from __future__ import annotations

import re
import unicodedata

from domain.errors import Invalid

_NONCHARACTERS = "\ufdd0-\ufdef\ufffe\uffff" + "".join(
    chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(1, 17)
)
_FORBIDDEN = re.compile(f"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff{_NONCHARACTERS}]")
"""C0 but for tab and line ends, DEL, surrogates, and the noncharacters of Unicode."""
_LINE_END = re.compile("\r\n|[\r\v\f]")
"""Line ends of Windows and old Macs, and those of pages that word processors write."""
_SPACES = re.compile("[\t\n\x85\u2028\u2029]+")
_NOT_IN_LINES = re.compile("[\x80-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb]")
"""C1, the controls of bidirectional text, byte order marks, annotations. Joiners stay: emoji and several scripts need
them."""
_BLANK = re.compile(
    # Default_Ignorable_Code_Point of Unicode, which have no shape of their own …
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    # … C1, and signs that are empty: the Braille pattern, a note's head, fillers of Khitan and of hieroglyphs.
    "\x80-\x9f\u2800\U00016fe4\U0001d159\U00013441\U00013442]|\\s"
)


def clean_text(text: str, path: str) -> str:
    """Return the text with newlines for all line ends. Raises Invalid, which names the character and its place."""
    if text.isprintable():  # fast, and true of most texts
        return text
    if found := _FORBIDDEN.search(text):
        message = f"must not have U+{ord(found[0]):04X}, at character {found.start() + 1}"
        raise Invalid(f"{path.removeprefix('$.').removeprefix('?')} {message}", [(path, message)])
    return _LINE_END.sub("\n", text)


def clean_line(text: str, path: str) -> str:
    """Return the text in one line, without spaces at its ends and without characters that change its direction.

    They are removed and not refused, since people paste them unseen. Raises Invalid as ``clean_text`` does.
    """
    return " ".join(_NOT_IN_LINES.sub("", _SPACES.sub(" ", clean_text(text, path))).split())


def is_blank(text: str) -> bool:
    """Return whether nothing of the text can be seen. A combining mark alone can."""
    return not _BLANK.sub("", text)


def comparable(text: str) -> str:
    """Return the form in which equivalent spellings of a text are the same: NFC."""
    return unicodedata.normalize("NFC", text)
