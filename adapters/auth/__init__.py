"""Tokens: how they are checked, the keys that they are checked with, and how a stack signs its own.

Nothing but this package knows python-jose.
"""

from __future__ import annotations

from adapters.auth.verifier import Verifier, issue

__all__ = ["Verifier", "issue"]
