"""Whose a request is: tokens, the keys that they are checked with, and what was revoked.

Nothing but this package knows python-jose.
"""

from __future__ import annotations

from adapters.auth.verifier import LEEWAY_S, Identity, Revoked, Verifier, Verify, issue, refused

__all__ = ["LEEWAY_S", "Identity", "Revoked", "Verifier", "Verify", "issue", "refused"]
