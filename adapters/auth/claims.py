"""Claims of a token whose signature holds, read strictly (RFC 7519). Pure."""

from __future__ import annotations

import math
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from domain.identity import LEEWAY_S, MAX_JTI, MAX_TTL_S, Identity, TokenFault, refused
from schemas.ids import USER_ID

Claims = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """Claims that a token must have, and the names of those that issuers call differently."""

    issuer: str = "millrace"
    audiences: frozenset[str] = frozenset({"millrace"})
    user_claim: str = "sub"
    id_claims: tuple[str, ...] = ("jti", "uti")
    """The first one that a token has is its id."""
    audience_claim: str = "aud"


def identity_of(claims: Claims, rules: ClaimRules, signed: str, now: float) -> Identity:
    """Return the identity in the claims; ``signed`` is the part of the token that its signature covers.

    Raises Unauthenticated.
    """
    if claims.get("iss") != rules.issuer:
        raise refused(TokenFault.ISSUER)
    if not _audiences(claims.get(rules.audience_claim)) & rules.audiences:
        raise refused(TokenFault.AUDIENCE)
    expires, issued = _times(claims, now)
    user_id = claims.get(rules.user_claim)
    if not (isinstance(user_id, str) and USER_ID.match(user_id)):
        raise refused(TokenFault.USER_ID)
    return Identity(user_id, expires, _id(claims, rules, signed), issued)


def _audiences(value: object) -> frozenset[str]:
    values = value if isinstance(value, list) else [value]
    return frozenset(each for each in values if isinstance(each, str))


def _times(claims: Claims, now: float) -> tuple[float, float]:
    """Return when the token expires and when it was issued."""
    expires, issued = (_seconds(claims.get(name)) for name in ("exp", "iat"))
    begins = _seconds(claims.get("nbf", 0))
    if issued < 0 or not 0 < expires - issued <= MAX_TTL_S:
        raise refused(TokenFault.LIFETIME)
    if expires + LEEWAY_S <= now:
        raise refused(TokenFault.EXPIRED)
    if max(issued, begins) > now + LEEWAY_S:
        raise refused(TokenFault.NOT_YET_VALID)
    return expires, issued


def _seconds(value: object) -> float:
    """Return a NumericDate, which may have a fraction. Python's JSON also reads NaN and Infinity, which are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refused(TokenFault.TIMES)
    try:
        seconds = float(value)
    except OverflowError as exc:
        raise refused(TokenFault.TIMES) from exc
    if not math.isfinite(seconds):
        raise refused(TokenFault.TIMES)
    return seconds


def _id(claims: Claims, rules: ClaimRules, signed: str) -> str:
    """Return the token's id. Without one it is a hash of what is signed: another signature makes no other token."""
    given = next((claims[name] for name in rules.id_claims if claims.get(name) is not None), None)
    if given is None:
        return "sha256:" + urlsafe_b64encode(sha256(signed.encode()).digest()).rstrip(b"=").decode()
    if not (isinstance(given, str) and 0 < len(given) <= MAX_JTI and "\0" not in given):
        raise refused(TokenFault.TOKEN_ID)
    return given
