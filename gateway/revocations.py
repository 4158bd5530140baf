"""Closing of connections whose token was revoked."""

from __future__ import annotations

from dataclasses import dataclass

from domain.revocations import Revocation, Revocations
from gateway.connection import Connections
from gateway.session import REVOKED
from runtime.metrics import REVOKED as REVOKED_CONNECTIONS
from runtime.security_log import SecurityEvent, security_log


@dataclass(frozen=True, slots=True)
class RevocationEnforcer:
    """Closes connections of this node, and notes in the store how many."""

    connections: Connections
    store: Revocations

    async def __call__(self, revocation: Revocation) -> None:
        """Close the connections that it covers. Raises Unavailable when the store cannot note how many."""
        covered = [each for each in self.connections.values() if revocation.covers(each.identity)]
        for connection in covered:
            connection.spawn(connection.end(REVOKED))
        if covered:
            REVOKED_CONNECTIONS.inc(len(covered))
            security_log.done(
                SecurityEvent.CONNECTIONS_REVOKED,
                user_id=revocation.user_id,
                jti=revocation.jti,
                revocation=revocation.number,
                connections=len(covered),
            )
            await self.store.note_closed(revocation.number, len(covered))
