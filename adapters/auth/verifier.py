"""Verifier of tokens: a strict wrapper around python-jose, which by itself accepts too much.

python-jose 3.5.0 lets a missing ``aud`` or ``exp`` pass, takes any algorithm when none is given, and accepts
a public key in DER as an HMAC secret. So one algorithm is fixed by configuration, keys are checked when they are
loaded, every claim is required, and whatever goes wrong has one answer (RFC 8725, RFC 7519).
"""

from __future__ import annotations

import json
import re
import time
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol

from jose import jwt

from adapters.auth.keys import HS256, Key
from domain.identity import LEEWAY_S, MAX_JTI, MAX_TTL_S, Identity, Revoked, refused
from schemas.ids import USER_ID

_MAX_TOKEN = 4096
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")
_TYPES = (None, "JWT", "at+jwt")
_REFUSED_HEADERS = frozenset({"crit", "jku", "jwk", "x5u", "x5c", "zip", "b64"})
_CACHED = 10_000
_OPTIONS = {
    **{f"require_{claim}": True for claim in ("aud", "exp", "iat", "iss", "jti", "sub")},
    "leeway": LEEWAY_S,
}


class Keys(Protocol):
    """Keys of one algorithm. ``version`` changes whenever a key is removed or replaced."""

    @property
    def algorithm(self) -> str: ...
    @property
    def version(self) -> int: ...

    async def find(self, kid: object) -> Key:
        """Return the key that a token's header names. Raises Unauthenticated."""


@dataclass(slots=True)
class Verifier:
    """Checks tokens of one issuer for one audience. Verified tokens are remembered by their hash."""

    keys: Keys
    issuer: str
    audience: str
    revoked: Revoked
    _known: OrderedDict[bytes, Identity] = field(default_factory=OrderedDict, repr=False)
    _version: int = 0

    async def verify(self, token: str) -> Identity:
        """Return the identity in the token. Raises Unauthenticated, with the same text whatever the cause.

        Nothing is awaited after the check for revocation, so no revocation slips in between.
        """
        digest = sha256(token.encode("utf-8", "replace")).digest()
        if self._version != self.keys.version:
            self._known.clear()
            self._version = self.keys.version
        identity = self._known.get(digest)
        if identity is None:
            identity = await self._decode(token)
            self._known[digest] = identity
            if len(self._known) > _CACHED:
                self._known.popitem(last=False)
        if identity.expires_at + LEEWAY_S <= time.time():
            self._known.pop(digest, None)
            raise refused()
        if self.revoked.holds(identity):
            raise refused()
        return identity

    async def _decode(self, token: str) -> Identity:
        try:
            if len(token) > _MAX_TOKEN or not _COMPACT.match(token):
                raise refused()
            header, claims, _ = map(_decoded, token.split("."))
            _check_header(_object(header), self.keys.algorithm)
            _object(claims)
        except Exception as exc:  # anybody may send anything here, and gets one answer
            raise refused() from exc
        key = await self.keys.find(_object(header).get("kid"))
        try:
            return _identity(
                jwt.decode(
                    token,
                    key,
                    algorithms=[self.keys.algorithm],
                    audience=self.audience,
                    issuer=self.issuer,
                    options=_OPTIONS,
                )
            )
        except Exception as exc:  # jose leaks AttributeError, UnicodeEncodeError, JWKError and more
            raise refused() from exc


def _decoded(part: str) -> bytes:
    """Return the bytes of one part of a token; refuse every spelling but the canonical one (RFC 7515 §2)."""
    raw = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if urlsafe_b64encode(raw).rstrip(b"=") != part.encode():
        raise refused()
    return raw


def _object(raw: bytes) -> dict[str, Any]:
    """Return the JSON object; refuse one with a repeated name (RFC 7515 §4)."""
    found = json.loads(raw, object_pairs_hook=_unique)
    if not isinstance(found, dict):
        raise refused()
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise refused()
    return found


def _check_header(header: dict[str, Any], algorithm: str) -> None:
    if header.get("alg") != algorithm or header.get("typ") not in _TYPES or _REFUSED_HEADERS & header.keys():
        raise refused()


def _identity(claims: dict[str, Any]) -> Identity:
    subject, expires, issued, jti = (claims[name] for name in ("sub", "exp", "iat", "jti"))
    numbers = all(type(number) is int for number in (expires, issued, claims.get("nbf", 0)))
    if not (numbers and isinstance(subject, str) and USER_ID.match(subject)):
        raise refused()
    if not (isinstance(jti, str) and 0 < len(jti) <= MAX_JTI and "\0" not in jti):
        raise refused()
    if not 0 < expires - issued <= MAX_TTL_S or not 0 <= issued <= time.time() + LEEWAY_S:
        raise refused()
    return Identity(subject, float(expires), jti, float(issued))


def issue(secret: str, user: str, *, ttl_s: int, issuer: str = "millrace", audience: str = "millrace") -> str:
    """Return a token for development and tests. Raises ValueError for a user id that no token may carry."""
    if not USER_ID.match(user):
        raise ValueError("the user id must be 1-64 of A-Z a-z 0-9 _ . : -")
    now = int(time.time())
    claims = {
        "sub": user,
        "iss": issuer,
        "aud": audience,
        "iat": now,
        "exp": now + ttl_s,
        "jti": uuid.uuid4().hex,
    }
    return str(jwt.encode(claims, secret, algorithm=HS256))
