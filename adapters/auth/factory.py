"""Factory of the verifier that the settings name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import httpx2
import structlog

from adapters.auth.claims import ClaimRules
from adapters.auth.jwks import FetchedKeys, fetch
from adapters.auth.keys import HS256, BadKeys, Secret
from adapters.auth.verifier import Keys, Verifier
from domain.identity import Revoked
from runtime.settings import Auth, listed

_log = structlog.get_logger()

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def check(auth: Auth) -> None:
    """Check that the settings name one family of algorithms, and all that it needs. Raises BadKeys."""
    secret, url = auth.secret.get_secret_value(), auth.jwks_url
    if auth.algorithm == HS256:
        if url:
            raise BadKeys(
                "MILLRACE_AUTH__JWKS_URL is for RS256 and ES256: set MILLRACE_AUTH__ALGORITHM, or leave it out"
            )
        Secret(secret)
        return
    if secret:
        raise BadKeys(f"MILLRACE_AUTH__SECRET is for HS256 only: leave it out with {auth.algorithm}")
    parts = urlsplit(url)
    is_private = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    if not (is_private and parts.hostname):
        raise BadKeys(f"MILLRACE_AUTH__JWKS_URL must be an https URL with {auth.algorithm} (http on this machine only)")


def warn_of_secret(auth: Auth, host: str) -> None:
    """Log when a node that other machines reach trusts a secret, with which it could also sign tokens."""
    if auth.algorithm == HS256 and host not in _LOOPBACK:
        _log.warning(
            "tokens_by_shared_secret",
            reason="HS256 is for development: who has a process's environment can sign any token; let an issuer sign"
            " (MILLRACE_AUTH__ALGORITHM=RS256 or ES256, MILLRACE_AUTH__JWKS_URL)",
        )


@asynccontextmanager
async def open_verifier(auth: Auth, revoked: Revoked, *, wait_s: float) -> AsyncIterator[Verifier]:
    """Yield a verifier with its keys. Raises BadKeys; Unavailable when no key set can be fetched within ``wait_s``."""
    check(auth)
    if auth.algorithm == HS256:
        yield _verifier(Secret(auth.secret.get_secret_value()), auth, revoked)
        return
    async with httpx2.AsyncClient() as client:
        keys = FetchedKeys(partial(fetch, client, auth.jwks_url), auth.algorithm, auth.jwks_ttl_s)
        await keys.first(wait_s)
        async with asyncio.TaskGroup() as group:
            refreshing = group.create_task(keys.run())
            try:
                yield _verifier(keys, auth, revoked)
            finally:
                refreshing.cancel()


def _verifier(keys: Keys, auth: Auth, revoked: Revoked) -> Verifier:
    return Verifier(keys, rules_of(auth), revoked)


def rules_of(auth: Auth) -> ClaimRules:
    """Return the rules of claims that the settings ask for."""
    return ClaimRules(
        issuer=auth.issuer,
        audiences=frozenset(listed(auth.audience)),
        user_claim=auth.user_claim,
        id_claims=tuple(listed(auth.id_claim)),
        audience_claim=auth.audience_claim,
    )
