"""Tokens of a stack that signs its own."""

from __future__ import annotations

import os

from stack.errors import OperatorError
from stack.running import RunningStack


def are_ours() -> bool:
    """Return whether the stack's own secret signs tokens, and no issuer with keys of its own."""
    return os.environ.get("MILLRACE_AUTH__ALGORITHM", "HS256") == "HS256"


def token_for(stack: RunningStack, user: str, *, ttl_s: int) -> str:
    """Return a token for the stack that runs. Raises OperatorError when it is not ours to give, or USER is no user."""
    from adapters.auth import issue

    if not are_ours():
        raise OperatorError("tokens come from the issuer of MILLRACE_AUTH__JWKS_URL")
    try:
        return issue(stack.jwt_secret, user, ttl_s=ttl_s)
    except ValueError as exc:
        raise OperatorError(str(exc)) from exc
