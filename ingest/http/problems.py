"""Errors as ``application/problem+json`` (RFC 9457), mapped once for all calls."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from domain.errors import Invalid, MillraceError, OutcomeUnknown, RateLimited, Unauthenticated, Unavailable

_log = structlog.get_logger()
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "payload_too_large"}


def json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer that no proxy keeps."""
    return Response(
        orjson.dumps(body),
        status,
        {"cache-control": "no-store", **(headers or {})},
        media_type="application/json",
    )


def problem(status: int, code: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any) -> Response:
    """An error answer: ``type``, ``title``, ``status``, ``detail``, ``code`` and what else helps."""
    body = {
        "type": f"urn:millrace:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        **more,
    }
    sent = {"cache-control": "no-store", **(headers or {})}
    return Response(orjson.dumps(body), status, sent, media_type="application/problem+json")


async def on_error(_: Request, exc: Exception) -> Response:
    """One of our errors."""
    assert isinstance(exc, MillraceError)
    headers: dict[str, str] = {}
    more: dict[str, Any] = {}
    if isinstance(exc, Invalid) and exc.errors:
        more["errors"] = [{"path": path, "message": message} for path, message in exc.errors]
    if isinstance(exc, RateLimited):
        headers["retry-after"] = str(math.ceil(exc.retry_after_s))
    if isinstance(exc, Unavailable):
        headers["retry-after"] = "1"
    if isinstance(exc, OutcomeUnknown):
        more["outcome"] = "unknown"
    if isinstance(exc, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    return problem(exc.status, exc.code, str(exc), headers=headers, **more)


async def on_http_exception(_: Request, exc: Exception) -> Response:
    """An error of the router: no such path, no such method."""
    assert isinstance(exc, HTTPException)
    code = _CODES.get(exc.status_code, "invalid")
    return problem(exc.status_code, code, exc.detail, headers=dict(exc.headers or {}))


async def on_gone(_: Request, __: Exception) -> Response:
    """The caller hung up in the middle of its request: nobody reads this, and nothing is wrong here."""
    return Response(status_code=400)


async def on_bug(request: Request, exc: Exception) -> Response:
    """Anything else is our fault; the answer says nothing of the cause, the log only its type and place."""
    _log.error("unexpected error", path=request.scope["path"], error=type(exc).__name__, exc_info=exc)
    return problem(500, "internal", "an unexpected error; it has been logged")
