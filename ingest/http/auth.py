"""What every call goes through: a bounded body, a caller, a rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.errors import Invalid, TooLarge, Unauthenticated, UnsupportedType
from domain.identity import Identity, Verify
from ingest.http.problems import problem

MAX_BODY = 64 * 1024


class Rates(Protocol):
    """Limits per user."""

    async def hit(self, what: str, who: str, per_minute: int) -> None:
        """Count one. Raises RateLimited."""


@dataclass(frozen=True, slots=True)
class Edge:
    """Who calls, and how often."""

    verify: Verify
    rates: Rates
    messages_per_minute: int
    requests_per_minute: int

    async def caller(self, request: Request) -> str:
        """The user of a call. Raises Unauthenticated, RateLimited, Unavailable."""
        return (await self.bearer(request)).user_id

    async def bearer(self, request: Request) -> Identity:
        """The token's identity. Raises Unauthenticated, RateLimited, Unavailable."""
        identity = await self._identity(request)
        await self.rates.hit("requests", identity.user_id, self.requests_per_minute)
        return identity

    async def sender(self, request: Request) -> str:
        """The user of a call that stores a message. Raises Unauthenticated, RateLimited, Unavailable."""
        user = (await self._identity(request)).user_id
        await self.rates.hit("messages", user, self.messages_per_minute)
        return user

    async def _identity(self, request: Request) -> Identity:
        given = request.headers.getlist("authorization")
        scheme, _, token = (given[0] if len(given) == 1 else "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("send your token: Authorization: Bearer <token>")
        return await self.verify(token.strip())


async def json_body(request: Request) -> bytes:
    """The body of a JSON call. Raises UnsupportedType, TooLarge."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedType("send Content-Type: application/json")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedType("send the body without Content-Encoding")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY:
            raise TooLarge(f"a body has at most {MAX_BODY} bytes")
        parts.append(part)
    return b"".join(parts)


def whole(query: Mapping[str, str], name: str, *, default: int | None = None, most: int = 2**53) -> int | None:
    """A query parameter that is a whole number from 0 to ``most``. Raises Invalid."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 17) or int(text) > most:
        raise Invalid(f"{name} is a whole number from 0 to {most}", [(f"?{name}", "not in range")])
    return int(text)


def page_size(query: Mapping[str, str], *, most: int = 200) -> int:
    """``?limit``: 1 to ``most``, 50 when left out. Raises Invalid."""
    limit = whole(query, "limit", default=50, most=most)
    if not limit:
        raise Invalid(f"limit is a whole number from 1 to {most}", [("?limit", "not in range")])
    return limit


@dataclass(frozen=True, slots=True)
class DeclaredLength:
    """Refuses a body that says it is too long before any of it is read. Uploads have their own limit."""

    app: ASGIApp
    unlimited: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(self.unlimited):
            length = dict(scope["headers"]).get(b"content-length", b"0")
            if not length.isdigit() or int(length) > MAX_BODY:
                answer = problem(413, TooLarge.code, f"a body has at most {MAX_BODY} bytes")
                await answer(scope, receive, send)
                return
        await self.app(scope, receive, _guarded(send))


def _guarded(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"].append((b"x-content-type-options", b"nosniff"))
        await send(message)

    return sending
