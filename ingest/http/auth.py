"""Authentication and budgets: who calls, and how much is left to them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.types import Scope

from domain.addresses import key, parsed
from domain.downloads import Grant, SignedUrls
from domain.errors import Forbidden, RateLimited, Unauthenticated
from domain.identity import Identity, TokenFault, Verify
from domain.rates import UNLIMITED, Bucket, Budgets, Limit, Rates
from ingest.http.params import parse_query
from ingest.http.rate_fields import note
from ingest.http.raw_headers import values
from schemas.calls import SignedQuery
from schemas.fields import Action

_ADDRESSES = 10_000


@dataclass(slots=True)
class Strangers:
    """Bounds callers without a valid token, by their address; counted by each node for itself.

    A valid token passes whatever others have sent from the same address, since a company has one address.
    """

    limit: Limit = UNLIMITED
    clock: Callable[[], float] = time.monotonic
    _buckets: dict[str, Bucket] = field(default_factory=dict)
    _prune_at: int = _ADDRESSES

    def count(self, scope: Scope) -> None:
        """Count a caller without a valid token. Raises RateLimited."""
        now = self.clock()
        if len(self._buckets) >= self._prune_at:
            self._buckets = {address: bucket for address, bucket in self._buckets.items() if not bucket.is_full(now)}
            self._prune_at = max(_ADDRESSES, 2 * len(self._buckets))
        client = scope.get("client")
        address = parsed(client[0]) if client is not None else None
        bucket = self._buckets.setdefault("" if address is None else key(address), Bucket(self.limit))
        if not bucket.take(1.0, now):
            raise RateLimited("too many calls without a valid token from this address", bucket.wait_s(1.0, now))


@dataclass(frozen=True, slots=True)
class CallerAuth:
    """Finds the caller of a request by its token, and takes the call from the caller's budget."""

    verify: Verify
    rates: Rates
    budgets: Budgets
    strangers: Strangers = field(default_factory=Strangers)
    urls: SignedUrls = field(default_factory=SignedUrls)

    async def caller(self, scope: Scope, action: Action) -> Identity:
        """Return the identity of the token. Raises Unauthenticated, RateLimited, Unavailable."""
        try:
            identity = await self.verify(_bearer(scope))
        except Unauthenticated:
            self.strangers.count(scope)
            raise
        await self.charge(scope, identity.user_id, action)
        return identity

    async def url_owner(self, scope: Scope, action: Action) -> Identity:
        """Return the identity of the user for whom the request's URL was signed.

        Raises Forbidden, Invalid, RateLimited, Unavailable.
        """
        query = parse_query(SignedQuery, scope["query_string"])
        grant = Grant(scope["path_params"]["id"], query.part, query.user, query.expires)
        try:
            self.urls.check(grant, query.signature)
        except Forbidden:
            self.strangers.count(scope)
            raise
        await self.charge(scope, query.user, action)
        return Identity(query.user, grant.expires_at, jti="", issued_at=grant.expires_at - self.urls.ttl_s)

    async def charge(self, scope: Scope, user_id: str, action: Action, cost: float = 1.0) -> None:
        """Take tokens from a budget of the user, and note what is left for the answer's fields. Raises RateLimited."""
        standing = await self.rates.take(action, user_id, self.budgets.of(user_id, action), cost)
        note(scope, standing)
        if standing.wait_s > 0:
            per_minute = standing.limit.per_s * 60
            raise RateLimited(f"more than {per_minute:g} {action} a minute; slow down", standing.wait_s)


def _bearer(scope: Scope) -> str:
    given = values(scope["headers"], b"authorization")
    scheme, _, token = (given[0] if len(given) == 1 else "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        fault = TokenFault.REPEATED if len(given) > 1 else TokenFault.MISSING
        raise Unauthenticated("Authorization must be given once, as Bearer <token>", {"reason": fault})
    return token.strip()
