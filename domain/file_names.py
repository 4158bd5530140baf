"""Names and declared types of files, as they come from any system and script, and as they go into a header. Pure."""

from __future__ import annotations

import mimetypes
import re
import unicodedata
from urllib.parse import quote

from domain.media import UNKNOWN_TYPE
from domain.text import comparable, is_blank
from schemas.fields import MAX_FILE_NAME, MAX_MEDIA_TYPE

UNNAMED = "file"
_REMOVED = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufdd0-\ufdef\ufffe\uffff]"
)
"""C0, C1, line separators, byte order marks, noncharacters, and what changes the direction of text: a name shows the
extension that it has."""
_SEPARATORS = re.compile(r"[/\\]")
_MAX_EXTENSION = 32
"""Bytes from the last dot on that still count as an extension."""
_EXTENSIONS = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "audio/mpeg": ".mp3",
    "audio/mp4": ".m4a",
}
"""Of the types that clean copies have."""
_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*")
_ATTRIBUTE_SAFE = "!#$&+-.^_`|~"
"""attr-char of RFC 8187, besides letters and digits."""
_NOT_QUOTABLE = re.compile(r'[^\x20-\x7e]|["\\%]')


def file_name(text: str) -> str:
    """Return the name to keep: the last part of a path, NFC, of 1 to 255 bytes in UTF-8, without control characters.

    A long name is cut before its extension. A name of nothing visible is ``file``. Idempotent.
    """
    parts = [part.strip() for part in _SEPARATORS.split(comparable(_REMOVED.sub("", text)))]
    named = [part for part in parts if not is_blank(part.replace(".", ""))]
    return _cut(named[-1]) if named else UNNAMED


def named_as(name: str, kind: str) -> str:
    """Return the name with an extension of this media type: a copy may be of another type than the upload was."""
    extension = _EXTENSIONS.get(kind)
    if extension is None or mimetypes.guess_type(name.lower())[0] == kind:
        return name
    stem, _, last = name.rpartition(".")
    return _cut(f"{stem if stem and len(last.encode()) < _MAX_EXTENSION else name}{extension}")


def media_type(text: str) -> str:
    """Return a declared media type in lower case and without parameters; UNKNOWN_TYPE for what is none."""
    kind = text.partition(";")[0].strip().lower()
    return kind if len(kind) <= MAX_MEDIA_TYPE and _TYPE.fullmatch(kind) else UNKNOWN_TYPE


def content_disposition(kind: str, name: str) -> str:
    """Return the header's value (RFC 6266): the name in any script, and in ASCII for clients that read only that."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    encoded = quote(name, safe=_ATTRIBUTE_SAFE)
    return f"{kind}; filename=\"{_NOT_QUOTABLE.sub('_', plain)}\"; filename*=UTF-8''{encoded}"


def _cut(name: str) -> str:
    if len(name.encode()) <= MAX_FILE_NAME:
        return name
    stem, dot, extension = name.rpartition(".")
    suffix = f"{dot}{extension}"
    if not stem or len(suffix.encode()) > _MAX_EXTENSION:
        stem, suffix = name, ""
    room = MAX_FILE_NAME - len(suffix.encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip() + suffix
