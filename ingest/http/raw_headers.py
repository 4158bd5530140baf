"""Headers of a request as the server has read them: pairs of bytes, with names in lower case."""

from __future__ import annotations

from collections.abc import Iterable


def values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    """Return the values of a header, in their order."""
    return [value.decode("latin-1") for key, value in headers if key == name]
