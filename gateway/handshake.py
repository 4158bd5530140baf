"""The handshake: which requests become sockets, and whose token they carry."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from http import HTTPStatus
from math import ceil
from urllib.parse import parse_qs, urlsplit

import orjson
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from runtime.errors import MillraceError, RateLimited, Unauthenticated
from schemas.ids import DEVICE, NO_DEVICE

PROTOCOL = Subprotocol("millrace.v1")
_RETRY_S = 1.0
_LOCAL = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?\Z")


def refusal(request: Request, origins: Collection[str]) -> Response | None:
    """An answer to what is no WebSocket of ours. Without a list of origins only pages of this host may connect."""
    if urlsplit(request.path).path != "/ws":
        return problem(HTTPStatus.NOT_FOUND, "not_found", "the only path here is /ws")
    origin = request.headers.get("Origin")
    if origin is not None and origin not in origins and not (_LOCAL.match(origin) and not origins):
        return problem(HTTPStatus.FORBIDDEN, "forbidden", "pages of this origin may not connect")
    if not DEVICE.match(device_of(request)):
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", "device is 1-64 of A-Z a-z 0-9 _ . : -")
    return None


def device_of(request: Request | None) -> str:
    """What the client calls itself, so that a user's devices are told apart."""
    query = urlsplit(request.path).query if request is not None else ""
    return parse_qs(query, keep_blank_values=True).get("device", [NO_DEVICE])[0]


def ending() -> Response:
    """The answer of a node that sends its sockets away."""
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "this node is ending; connect again", _RETRY_S)


def subprotocol(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Only our own name is echoed, never the one that holds the token."""
    return PROTOCOL if PROTOCOL in offered else None


def token_of(request: Request | None) -> str:
    """The token of a handshake: header, subprotocol, or query. Raises Unauthenticated when there is none."""
    if request is not None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            return token.strip()
        for offered in _protocols(request.headers):
            if offered.startswith("bearer."):
                return offered.removeprefix("bearer.")
        given = parse_qs(urlsplit(request.path).query).get("token")
        if given:
            return given[0]
    raise Unauthenticated("send your token: Authorization: Bearer, subprotocol bearer.<token>, or ?token=")


def _protocols(headers: Headers) -> list[str]:
    return [part.strip() for part in headers.get("Sec-WebSocket-Protocol", "").split(",")]


def refused(error: MillraceError) -> Response:
    """The answer of HTTP to an error of ours."""
    retry_s = error.retry_after_s if isinstance(error, RateLimited) else _RETRY_S
    return problem(HTTPStatus(error.status), error.code, str(error), retry_s)


def problem(status: HTTPStatus, code: str, detail: str, retry_s: float | None = None) -> Response:
    """A problem of RFC 9457, as the whole answer; ``retry_s`` is said in ``Retry-After``."""
    body = orjson.dumps(
        {
            "type": f"urn:millrace:problem:{code}",
            "title": status.phrase,
            "status": status.value,
            "detail": detail,
            "code": code,
        }
    )
    headers = Headers({"Content-Type": "application/problem+json", "Content-Length": str(len(body))})
    headers["Connection"] = "close"
    if retry_s is not None:
        headers["Retry-After"] = str(max(1, ceil(retry_s)))
    return Response(status.value, status.phrase, headers, body)
