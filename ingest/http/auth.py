"""Authentication and rates: who calls, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request

from domain.errors import Unauthenticated
from domain.identity import Identity, Verify
from domain.rates import Rates


@dataclass(frozen=True, slots=True)
class CallerAuth:
    """Finds the caller of a request by its token, and counts the call. Limits are per user and minute."""

    verify: Verify
    rates: Rates
    messages_per_minute: int
    requests_per_minute: int

    async def caller(self, request: Request, rate: Literal["requests", "messages"]) -> Identity:
        """Return the identity of the token. Raises Unauthenticated, RateLimited, Unavailable."""
        identity = await self.verify(_bearer(request))
        limit = self.messages_per_minute if rate == "messages" else self.requests_per_minute
        await self.rates.hit(rate, identity.user_id, limit)
        return identity


def _bearer(request: Request) -> str:
    values = request.headers.getlist("authorization")
    scheme, _, token = (values[0] if len(values) == 1 else "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("Authorization must be given once, as Bearer <token>")
    return token.strip()
