"""Errors as ``application/problem+json`` (RFC 9457), mapped once for all calls."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Scope

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


async def answer_to(scope: Scope, exc: MillraceError | HTTPException | ClientDisconnect) -> Response:
    """Return the answer to a call that ended by this error."""
    if isinstance(exc, MillraceError):
        return await _refusal(scope, exc)
    if isinstance(exc, HTTPException):  # of the router: no such path, no such method
        return problem(exc.status_code, code_of(exc.status_code), exc.detail, exc.headers)
    return Response(status_code=400)  # the caller hung up in the middle of the request, and nobody reads this


async def _refusal(scope: Scope, exc: MillraceError) -> Response:
    """Return the answer to one of our errors; refusals of a token, a right or a budget are security events."""
    if isinstance(exc, RateLimited):
        await asyncio.sleep(REFUSAL_S)  # no slot of the caller is held here
    identity: Identity | None = scope.get(CALLER)
    client = scope.get("client")
    security_log.refusal(
        exc,
        address=client[0] if client else None,
        user_id=identity.user_id if identity else None,
        jti=identity.jti if identity else None,
        method=scope["method"],
        operation=getattr(scope.get("endpoint"), "name", None),
    )
    return problem_of(exc)


def answer_to_bug(scope: Scope, exc: Exception) -> Response:
    """Return the answer to any other error, which is our fault, without its cause; the log has its type and place."""
    _log.error("request_failed", path=scope["path"], reason=type(exc).__name__, exc_info=exc)
    return problem(500, "internal", "an unexpected error; it has been logged")
