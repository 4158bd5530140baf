"""Verifier of tokens: a strict wrapper around python-jose, which by itself accepts too much.

python-jose 3.5.0 lets a missing ``aud`` or ``exp`` pass, takes any algorithm when none is given, and accepts
a public key in DER as an HMAC secret. So it checks signatures only: one algorithm is fixed by configuration, keys are
checked when they are loaded, and claims in ``claims``. Whatever goes wrong has one answer, and a reason for the log
(RFC 8725, RFC 7519).
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

from jose import jws, jwt

from adapters.auth.claims import ClaimRules, identity_of
from adapters.auth.keys import HS256, Key
from domain.errors import Unauthenticated
from domain.identity import LEEWAY_S, Identity, Revoked, TokenFault, claims_for_log, refused
from schemas.fields import PATTERN_TEXTS
from schemas.ids import USER_ID, USER_ID_PATTERN

MAX_TOKEN = 8000
"""Characters of a token, so that it fits into a header line of a WebSocket handshake."""
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")
_TYPES = ("jwt", "at+jwt")
_REFUSED_HEADERS = frozenset({"crit", "jku", "jwk", "x5u", "x5c", "zip", "b64"})
_CACHED = 10_000


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
    """Checks tokens of one issuer by its rules. Verified tokens are remembered by their hash."""

    keys: Keys
    rules: ClaimRules
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
            raise refused(TokenFault.EXPIRED, user_id=identity.user_id)
        if self.revoked.holds(identity):
            raise refused(TokenFault.REVOKED, user_id=identity.user_id, jti=identity.jti)
        return identity

    async def _decode(self, token: str) -> Identity:
        if len(token) > MAX_TOKEN:
            raise refused(TokenFault.TOO_LONG)
        claimed: dict[str, str] = {}
        try:
            header, claims = _parts(token)
            claimed = claims_for_log(kid=header.get("kid"), iss=claims.get("iss"))
            _check_header(header, self.keys.algorithm)
            key = await self.keys.find(header.get("kid"))
            _check_signature(token, key, self.keys.algorithm)
            return identity_of(claims, self.rules, token.rpartition(".")[0], time.time())
        except Unauthenticated as exc:
            raise Unauthenticated(str(exc), {**exc.causes, **claimed}) from exc


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the header and the claims. Raises Unauthenticated."""
    try:
        if not _COMPACT.match(token):
            raise ValueError("not three parts of Base64url")
        header, claims, _ = map(_decoded, token.split("."))
        return _object(header), _object(claims)
    except Exception as exc:  # anybody may send anything here, and gets one answer
        raise refused(TokenFault.MALFORMED) from exc


def _decoded(part: str) -> bytes:
    """Return the bytes of one part of a token; refuse every spelling but the canonical one (RFC 7515 §2)."""
    raw = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if urlsafe_b64encode(raw).rstrip(b"=") != part.encode():
        raise ValueError("not canonical")
    return raw


def _object(raw: bytes) -> dict[str, Any]:
    """Return the JSON object; refuse one with a repeated name (RFC 7515 §4)."""
    found = json.loads(raw, object_pairs_hook=_unique)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is repeated")
    return found


def _check_header(header: dict[str, Any], algorithm: str) -> None:
    if header.get("alg") != algorithm:
        raise refused(TokenFault.ALGORITHM)
    type_ = header.get("typ", "JWT")
    # A media type: letters have no case, and "application/" may be left out (RFC 7515 §4.1.9).
    if not (isinstance(type_, str) and type_.lower().removeprefix("application/") in _TYPES):
        raise refused(TokenFault.TYPE)
    if _REFUSED_HEADERS & header.keys():
        raise refused(TokenFault.HEADER)


def _check_signature(token: str, key: Key, algorithm: str) -> None:
    try:
        jws.verify(token, key, [algorithm])
    except Exception as exc:  # jose leaks AttributeError, UnicodeEncodeError, JWKError and more
        raise refused(TokenFault.SIGNATURE) from exc


def issue(
    secret: str, user: str, *, ttl_s: int, age_s: int = 0, issuer: str = "millrace", audience: str = "millrace"
) -> str:
    """Return a token for development and tests, issued ``age_s`` seconds ago and good for ``ttl_s`` more.

    Raises ValueError for a user id that no token may carry.
    """
    if not USER_ID.match(user):
        raise ValueError(f"the user id must be {PATTERN_TEXTS[USER_ID_PATTERN]}")
    now = int(time.time())
    claims = {
        "sub": user,
        "iss": issuer,
        "aud": audience,
        "iat": now - age_s,
        "exp": now + ttl_s,
        "jti": uuid.uuid4().hex,
    }
    return str(jwt.encode(claims, secret, algorithm=HS256))
