"""Cross-origin requests of pages (the CORS protocol of the Fetch standard), by the same list of origins as sockets.

Credentials of a browser are never asked for: a page sends its token itself. A preflight needs no token, and never
reaches the application.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.origins import Origin, may_connect
from ingest.http.problems import problem
from ingest.http.raw_headers import values
from schemas.routes import OPERATIONS, RATE_FIELDS

_MAX_AGE_S = 7200
"""Seconds for which a browser may remember a preflight; Chromium takes no more."""
_REQUEST_HEADERS = {"Authorization", "Content-Type", "If-Match", "If-None-Match", "If-Range", "Range"}
_ANSWER_HEADERS = {
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Length",
    "Content-Range",
    "ETag",
    "Location",
    "Retry-After",
    "WWW-Authenticate",
}
_METHODS = ", ".join(sorted({operation.method for operation in OPERATIONS}))
_ALLOWED = ", ".join(sorted(_REQUEST_HEADERS | {h.name for call in OPERATIONS for h in call.headers} - {"Origin"}))
_EXPOSED = ", ".join(
    sorted(
        _ANSWER_HEADERS
        | {header.name for header in RATE_FIELDS}
        | {header.name for call in OPERATIONS for reply in call.replies.values() for header in reply.headers}
    )
).encode()
_VARY = (b"vary", b"Origin")
"""A cache must not give the answer for one page to others, which may not read theirs."""


def cors_fields(headers: Iterable[tuple[bytes, bytes]], origins: frozenset[Origin]) -> Mapping[str, str]:
    """Return the fields that let a page read the answer to a request with these headers."""
    found = [*_fields(_only(headers, b"origin"), origins), _VARY]
    return {name.decode(): value.decode("latin-1") for name, value in found}


def _fields(origin: str | None, origins: frozenset[Origin]) -> list[tuple[bytes, bytes]]:
    if origin is None or not may_connect(origin, origins):
        return []
    return [(b"access-control-allow-origin", origin.encode("latin-1")), (b"access-control-expose-headers", _EXPOSED)]


def _varying(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers with ``Vary: Origin``, beside what the answer itself depends on."""
    if not any(name == b"vary" for name, _ in headers):
        return [*headers, _VARY]
    return [(name, value + b", Origin" if name == b"vary" else value) for name, value in headers]


def _only(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """Return the value of a header that is there once, else None."""
    found = values(headers, name)
    return found[0] if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class Cors:
    """Answers preflights, and lets pages of these origins read all other answers of the application within."""

    app: ASGIApp
    origins: frozenset[Origin]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = _only(scope["headers"], b"origin")
        fields = _fields(origin, self.origins)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _varying([*message["headers"], *fields])}
            await send(message)

        is_preflight = scope["method"] == "OPTIONS" and _only(scope["headers"], b"access-control-request-method")
        if origin is not None and is_preflight:
            await _preflight(bool(fields))(scope, receive, sending)
        else:
            await self.app(scope, receive, sending)


def _preflight(is_allowed: bool) -> Response:
    if not is_allowed:
        return problem(403, "forbidden", "pages of this origin may not call")
    headers = {
        "access-control-allow-methods": _METHODS,
        "access-control-allow-headers": _ALLOWED,
        "access-control-max-age": str(_MAX_AGE_S),
    }
    return Response(status_code=204, headers=headers)
