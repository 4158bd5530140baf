"""The form of a row in the table of HTTP calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from schemas.fields import Action, IdempotencyKey

Method: TypeAlias = Literal["GET", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS"]

Access: TypeAlias = Literal["token", "signature", "none"]
"""Credential of a call: a token, the signature in a signed URL, or none."""

JSON = "application/json"
PROBLEM = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Header:
    """A header of a request or an answer, and the type of its value."""

    name: str
    type: Any
    doc: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its body in JSON, or bytes of another ``content``, or nothing."""

    doc: str
    body: type[Struct] | None = None
    content: tuple[str, ...] = ()
    headers: tuple[Header, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A call of the HTTP API. ``problems`` are its own error statuses, besides ALWAYS."""

    id: str
    method: Method
    path: str
    summary: str
    tag: str
    query: type[Struct] | None = None
    body: type[Struct] | None = None
    content: str = JSON
    """The content type of the request's body, if it has one."""
    headers: tuple[Header, ...] = ()
    replies: Mapping[int, Reply]
    problems: tuple[int, ...] = ()
    rate: Action = "requests"
    """The budget that a call takes from."""
    access: Access = "token"
    raw: bool = False
    """The endpoint reads and answers HTTP itself; its body is bytes."""


BODY_PROBLEMS = (413, 415, 422)
"""Error statuses of calls that read a body."""
LOCATION = Header("Location", str, "where it is found", required=True)
NO_CONTENT = Reply("done")

_KEYED = "makes a repeat of the same call get the first answer, for two days"
ONCE_KEY = Header("Idempotency-Key", IdempotencyKey, _KEYED)
"""Header of calls whose answer is remembered by its key."""
_REPEATED = Header("Idempotent-Replayed", Literal["true"], "the answer to the same call before, under the same key")


def once(doc: str) -> Reply:
    """Return the reply without content of a call that may have a key."""
    return Reply(doc, headers=(_REPEATED,))
