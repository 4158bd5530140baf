"""Tokens of a stack that signs its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stack.errors import OperatorError

ALGORITHM, ISSUER, AUDIENCE = "MILLRACE_AUTH__ALGORITHM", "MILLRACE_AUTH__ISSUER", "MILLRACE_AUTH__AUDIENCE"


def signs_its_own(environment: Mapping[str, str]) -> bool:
    """Return whether processes with this environment check tokens by a shared secret, not by the keys of an issuer."""
    return environment.get(ALGORITHM, "HS256") == "HS256"


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs tokens that the processes of a stack accept."""

    secret: str = field(repr=False)
    issuer: str = "millrace"
    audience: str = "millrace"

    @classmethod
    def of(cls, secret: str, environment: Mapping[str, str]) -> Signer:
        """Return the signer for processes with this environment."""
        audience, *_ = environment.get(AUDIENCE, "millrace").split(",")  # any of them is accepted
        return cls(secret, environment.get(ISSUER, "millrace"), audience.strip())

    def token(self, user: str, *, ttl_s: int) -> str:
        """Return a token that is valid for ``ttl_s`` seconds. Raises OperatorError when the user id is not valid."""
        from adapters.auth import issue

        try:
            return issue(self.secret, user, ttl_s=ttl_s, issuer=self.issuer, audience=self.audience)
        except ValueError as exc:
            raise OperatorError(str(exc)) from exc
