"""Errors as ``application/problem+json`` (RFC 9457), mapped once for all calls."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from domain.errors import (
    InsufficientStorage,
    Invalid,
    MediaNotReady,
    MillraceError,
    OutcomeUnknown,
    QuotaExceeded,
    RangeNotSatisfiable,
    RateLimited,
    Unauthenticated,
    Unavailable,
)
from domain.identity import Identity, TokenFault
from ingest.http.rate_fields import fields
from runtime.metrics import REFUSED_REQUESTS
from runtime.problems import HEADERS, problem_body
from runtime.security_log import security_log
from schemas.answers import FieldError
from schemas.operations import PROBLEM

_log = structlog.get_logger()
_DISK_RETRY_S = "60"
REFUSAL_S = 0.25
"""Time before a call is told that it is beyond a limit. It costs the server nothing; without it a client that does not
slow down, with a few connections and all its requests sent ahead, takes a whole processor for its refusals."""
CALLER = "millrace.caller"
"""Key of a request's scope: the identity of its caller, once its token is verified."""
_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "payload_too_large",
    416: "range_not_satisfiable",
    415: "unsupported_media_type",
}


def problem(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error answer with no more than the common fields."""
    return _answer(status, code, detail, headers or {})


def problem_of(exc: MillraceError) -> Response:
    """Return the answer that stands for one of our errors."""
    given = exc.errors if isinstance(exc, Invalid) else ()
    errors = tuple(FieldError(path=path, message=message) for path, message in given)
    return _answer(exc.status, exc.code, str(exc), _headers(exc), errors, unknown=isinstance(exc, OutcomeUnknown))


def code_of(status: int) -> str:
    """Return the code for a status that another library chose."""
    return _CODES.get(status, "unavailable" if status >= 500 else "invalid")


def _headers(exc: MillraceError) -> dict[str, str]:
    if isinstance(exc, RateLimited | QuotaExceeded):
        return {} if exc.retry_after_s is None else {"retry-after": str(math.ceil(exc.retry_after_s))}
    if isinstance(exc, InsufficientStorage):
        return {"retry-after": _DISK_RETRY_S}
    if isinstance(exc, RangeNotSatisfiable):
        return {"content-range": f"bytes */{exc.size}"}
    if isinstance(exc, Unavailable | MediaNotReady):
        return {"retry-after": "1"}
    return {"www-authenticate": _challenge(exc)} if isinstance(exc, Unauthenticated) else {}


def _challenge(exc: Unauthenticated) -> str:
    """Return the challenge of RFC 6750: a caller who gave no credential learns no error code."""
    return "Bearer" if exc.causes.get("reason") == TokenFault.MISSING else 'Bearer error="invalid_token"'


def _answer(
    status: int,
    code: str,
    detail: str,
    headers: Mapping[str, str],
    errors: tuple[FieldError, ...] = (),
    *,
    unknown: bool = False,
) -> Response:
    REFUSED_REQUESTS.labels(code).inc()
    body = problem_body(status, code, detail, errors, unknown=unknown)
    return Response(body, status, {**HEADERS, **headers}, media_type=PROBLEM)


async def on_error(request: Request, exc: Exception) -> Response:
    """Answer one of our errors; refusals of a token, a right or a budget are security events."""
    assert isinstance(exc, MillraceError)
    if isinstance(exc, RateLimited):
        await asyncio.sleep(REFUSAL_S)  # no slot of the caller is held here
    identity: Identity | None = request.scope.get(CALLER)
    security_log.refusal(
        exc,
        address=request.client.host if request.client else None,
        user_id=identity.user_id if identity else None,
        jti=identity.jti if identity else None,
        method=request.method,
        operation=getattr(request.scope.get("endpoint"), "name", None),
    )
    return problem_of(exc)


async def on_http_exception(_: Request, exc: Exception) -> Response:
    """Answer an error of the router: no such path, no such method."""
    assert isinstance(exc, HTTPException)
    return problem(exc.status_code, code_of(exc.status_code), exc.detail, exc.headers)


async def on_gone(_: Request, __: Exception) -> Response:
    """Answer a caller who hung up in the middle of a request: nobody reads this, and nothing is wrong here."""
    return Response(status_code=400)


async def on_bug(request: Request, exc: Exception) -> Response:
    """Answer anything else, which is our fault, without its cause; the log has its type and place."""
    _log.error("request_failed", path=request.scope["path"], reason=type(exc).__name__, exc_info=exc)
    # Answered outside all middleware, so the fields are added here.
    return problem(500, "internal", "an unexpected error; it has been logged", fields(request.scope))
