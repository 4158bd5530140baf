"""Ranges and conditions of a GET (RFC 9110 §13 and §14). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.datastructures import Headers

from domain.errors import PreconditionFailed, RangeNotSatisfiable

_RANGE = re.compile(r"bytes=[ \t]*(\d{0,100})[ \t]*-[ \t]*(\d{0,100})[ \t]*", re.ASCII | re.IGNORECASE)
_TAG = re.compile(r'(W/)?("[^"]*")')


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes from ``start`` up to, not including, ``end`` of a file of ``size`` bytes."""

    start: int
    end: int
    size: int

    @property
    def content_range(self) -> str:
        """Return the value of Content-Range."""
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


def byte_range(headers: Headers, size: int, etag: str) -> ByteRange | None:
    """Return the range that the headers ask for; None for the whole: without a range, with several or a malformed one,
    or when If-Range names another version of the file.

    Raises RangeNotSatisfiable.
    """
    if headers.get("if-range", etag) != etag:
        return None
    found = _RANGE.fullmatch(headers.get("range", ""))
    if found is None or not any(found.groups()):
        return None
    first, last = (int(digits) if digits else None for digits in found.groups())
    if first is None:
        return _suffix(last or 0, size)
    if last is not None and last < first:
        return None
    if first >= size:
        raise RangeNotSatisfiable(size)
    return ByteRange(first, size if last is None else min(last + 1, size), size)


def is_unchanged(headers: Headers, etag: str) -> bool:
    """Return whether the client has this version of the file already: If-None-Match names its tag, or any.

    Raises PreconditionFailed when If-Match names other versions only.
    """
    if "if-match" in headers and not _names(headers, "if-match", etag, weakly=False):
        raise PreconditionFailed("the file is not the version that If-Match names; read it anew")
    return _names(headers, "if-none-match", etag, weakly=True)


def _names(headers: Headers, name: str, etag: str, *, weakly: bool) -> bool:
    text = ",".join(headers.getlist(name))
    return text.strip() == "*" or any(tag == etag and (weakly or not weak) for weak, tag in _TAG.findall(text))


def _suffix(length: int, size: int) -> ByteRange | None:
    if not length:
        raise RangeNotSatisfiable(size)
    return ByteRange(max(0, size - length), size, size) if size else None
