"""Origins of pages that may call and connect (RFC 6454). Scheme, host and port are compared exactly. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from domain.errors import Invalid

_PORTS = {"http": 80, "https": 443}
_LOCAL = ("localhost", "127.0.0.1", "::1")
_FORM = re.compile(r"(https?)://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Origin:
    """Origin of a page. Letters of scheme and host have no case; the usual port may be left out."""

    scheme: str
    host: str
    port: int


def origin_of(text: str) -> Origin | None:
    """Return the origin in a header or a setting; None for ``null`` and any other text that is none."""
    if not _FORM.match(text):
        return None
    try:
        parts = urlsplit(text)
        port = parts.port or _PORTS[parts.scheme]
    except ValueError:
        return None
    return Origin(parts.scheme, parts.hostname or "", port)


def allowed(texts: Iterable[str]) -> frozenset[Origin]:
    """Return the origins of the setting ``ORIGINS``. Raises Invalid for an entry that no page could have."""
    found = {text: origin_of(text) for text in texts}
    if wrong := [text for text, origin in found.items() if origin is None]:
        raise Invalid(
            f"MILLRACE_GATEWAY__ORIGINS must name origins such as https://chat.example:8443; {wrong[0]!r} is none"
        )
    return frozenset(origin for origin in found.values() if origin is not None)


def may_connect(text: str, allowed: frozenset[Origin]) -> bool:
    """Return whether pages of this origin may connect: those on the list, or without a list those of this host."""
    origin = origin_of(text)
    if origin is None:
        return False
    return origin in allowed if allowed else origin.host in _LOCAL
