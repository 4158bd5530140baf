"""Tokens: the strict wrapper around python-jose, which by itself accepts too much.

python-jose 3.5.0 lets a missing ``aud`` or ``exp`` pass, takes any algorithm when none is given, and accepts
a public key in DER as an HMAC secret. So one algorithm is fixed by configuration, every claim is required,
and whatever goes wrong has one answer (RFC 8725, RFC 7519).
"""

from __future__ import annotations

import re
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from jose import jwt

from runtime.errors import Unauthenticated
from schemas.ids import USER_ID

ALGORITHM = "HS256"
LEEWAY_S = 30
MAX_TTL_S = 30 * 86_400
_MIN_SECRET_BYTES = 32
_MAX_TOKEN = 4096
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")
_TYPES = (None, "JWT", "at+jwt")
_REFUSED_HEADERS = frozenset({"crit", "jku", "jwk", "x5u", "x5c", "zip", "b64"})
_CACHED = 10_000
_OPTIONS = {
    **{f"require_{claim}": True for claim in ("aud", "exp", "iat", "iss", "jti", "sub")},
    "leeway": LEEWAY_S,
}


class BadSecret(ValueError):
    """The configured secret is too short to be safe."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a valid token speaks for, and until when (Unix seconds)."""

    user_id: str
    expires_at: float
    jti: str


@dataclass(slots=True)
class Verifier:
    """Checks tokens of one issuer for one audience. Verified tokens are remembered by their hash."""

    secret: str = field(repr=False)
    issuer: str
    audience: str
    _known: OrderedDict[bytes, Identity] = field(default_factory=OrderedDict, repr=False)

    def __post_init__(self) -> None:
        if len(self.secret.encode()) < _MIN_SECRET_BYTES:
            raise BadSecret(f"MILLRACE_AUTH__SECRET must have at least {_MIN_SECRET_BYTES} bytes")

    def verify(self, token: str) -> Identity:
        """The identity in the token. Raises Unauthenticated, with the same text whatever the cause."""
        digest = sha256(token.encode("utf-8", "replace")).digest()
        identity = self._known.get(digest)
        if identity is None:
            identity = self._decode(token)
            self._known[digest] = identity
            if len(self._known) > _CACHED:
                self._known.popitem(last=False)
        if identity.expires_at + LEEWAY_S <= time.time():
            self._known.pop(digest, None)
            raise refused()
        return identity

    def _decode(self, token: str) -> Identity:
        try:
            if len(token) > _MAX_TOKEN or not _COMPACT.match(token):
                raise refused()
            _check_header(jwt.get_unverified_header(token))
            claims = jwt.decode(
                token,
                self.secret,
                algorithms=[ALGORITHM],
                audience=self.audience,
                issuer=self.issuer,
                options=_OPTIONS,
            )
            return _identity(claims)
        except Exception as exc:  # jose leaks AttributeError, UnicodeEncodeError, JWKError and more
            raise refused() from exc


def refused() -> Unauthenticated:
    """The one answer to a token that does not hold."""
    return Unauthenticated("the token is missing, malformed, expired or not for this service; get a new one")


def _check_header(header: dict[str, Any]) -> None:
    bad = header.get("alg") != ALGORITHM or header.get("typ") not in _TYPES or _REFUSED_HEADERS & header.keys()
    if bad:
        raise refused()


def _identity(claims: dict[str, Any]) -> Identity:
    subject, expires, issued, jti = (claims[name] for name in ("sub", "exp", "iat", "jti"))
    numbers = type(expires) is int and type(issued) is int
    if not (numbers and isinstance(jti, str) and jti and isinstance(subject, str) and USER_ID.match(subject)):
        raise refused()
    if expires - issued > MAX_TTL_S or issued > time.time() + LEEWAY_S:
        raise refused()
    return Identity(subject, float(expires), jti)


def issue(secret: str, user: str, *, ttl_s: int, issuer: str = "millrace", audience: str = "millrace") -> str:
    """A token for development and tests. Raises ValueError for a user id that no token may carry."""
    if not USER_ID.match(user):
        raise ValueError("a user id is 1-64 of A-Z a-z 0-9 _ . : -")
    now = int(time.time())
    claims = {
        "sub": user,
        "iss": issuer,
        "aud": audience,
        "iat": now,
        "exp": now + ttl_s,
        "jti": uuid.uuid4().hex,
    }
    return str(jwt.encode(claims, secret, algorithm=ALGORITHM))
