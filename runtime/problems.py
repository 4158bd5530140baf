"""Problems of RFC 9457 as bytes, for servers that answer before or without an application."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from msgspec import UNSET

from schemas.answers import FieldError, Problem
from schemas.operations import PROBLEM

HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
"""Headers of every problem."""


def problem_body(
    status: int, code: str, detail: str, errors: tuple[FieldError, ...] = (), *, unknown: bool = False
) -> bytes:
    """Return the body of a problem in JSON."""
    return msgspec.json.encode(
        Problem(
            type=f"urn:millrace:problem:{code}",
            title=HTTPStatus(status).phrase,
            status=status,
            detail=detail,
            code=code,
            errors=errors or UNSET,
            outcome="unknown" if unknown else UNSET,
        )
    )


def last_answer(status: int, code: str, detail: str, fields: Mapping[str, str], retry_s: float | None = None) -> bytes:
    """Return a whole HTTP/1.1 answer with these header fields, after which the connection is closed.

    ``retry_s`` becomes ``Retry-After``.
    """
    body = problem_body(status, code, detail)
    headers = {**HEADERS, **fields, "content-type": PROBLEM, "content-length": str(len(body)), "connection": "close"}
    if retry_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(retry_s)))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{lines}\r\n".encode() + body
