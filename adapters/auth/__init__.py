"""Tokens: verification, the keys for it, and signing for development.

Only this package knows python-jose.
"""

from __future__ import annotations

from adapters.auth.verifier import Verifier, issue

__all__ = ["Verifier", "issue"]
