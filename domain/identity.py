"""Identity of the bearer of a token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

from domain.errors import Unauthenticated

LEEWAY_S = 30
MAX_TTL_S = 30 * 86_400
LONGEST_S = MAX_TTL_S + 2 * LEEWAY_S
"""Longest validity in seconds: no token that is issued now is valid after this time."""
MAX_JTI = 255
_MAX_SHOWN = 255
_REFUSED = "the token is missing, malformed, expired or not for this service; get a new one"


@dataclass(frozen=True, slots=True)
class Identity:
    """Bearer of a valid token, and the token's times (Unix seconds).

    ``jti`` is the token's id; of a token without one it stands for what the token says.
    """

    user_id: str
    expires_at: float
    jti: str
    issued_at: float


NOBODY = Identity("", 0.0, "", 0.0)
"""Caller of what needs no credential."""

Verify: TypeAlias = Callable[[str], Awaitable[Identity]]
"""Verifies a token; returns its identity. Raises Unauthenticated; Unavailable when its key cannot be looked up."""


class Revoked(Protocol):
    """Set of revoked tokens."""

    def holds(self, identity: Identity) -> bool:
        """Return True when this token is revoked."""


class TokenFault(StrEnum):
    """Reason for which a credential is refused. The log has it, the answer has not (RFC 8725)."""

    MISSING = "credential_missing"
    REPEATED = "authorization_repeated"
    MALFORMED = "token_malformed"
    TOO_LONG = "token_too_long"
    HEADER = "header_unacceptable"
    ALGORITHM = "algorithm_unexpected"
    TYPE = "type_unexpected"
    KEY = "key_unknown"
    SIGNATURE = "signature_invalid"
    ISSUER = "issuer_unexpected"
    AUDIENCE = "audience_unexpected"
    TIMES = "times_malformed"
    LIFETIME = "lifetime_unacceptable"
    EXPIRED = "token_expired"
    NOT_YET_VALID = "token_not_yet_valid"
    USER_ID = "user_id_malformed"
    TOKEN_ID = "token_id_malformed"
    OTHER_USER = "user_unexpected"
    REVOKED = "token_revoked"
    TICKET = "ticket_unknown"


def refused(fault: TokenFault, **claims: object) -> Unauthenticated:
    """Return the error for a credential that is not valid: the same text for all causes."""
    return Unauthenticated(_REFUSED, {"reason": fault.value, **claims_for_log(**claims)})


def claims_for_log(**claims: object) -> dict[str, str]:
    """Return what a token says of itself, which perhaps nobody has checked: in visible ASCII, and bounded."""
    return {name: _shown(claim) for name, claim in claims.items() if claim is not None}


def _shown(claim: object) -> str:
    text = claim if isinstance(claim, str) else f"<{type(claim).__name__}>"
    return "".join(each if "!" <= each <= "~" else "?" for each in text[:_MAX_SHOWN])
