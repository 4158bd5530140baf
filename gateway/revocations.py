"""Closing what lives by a token that was revoked."""

from __future__ import annotations

from dataclasses import dataclass

from domain.revocations import Revocation, Revocations
from gateway.connection import Connections
from gateway.session import REVOKED
from runtime.metrics import REVOKED as REVOKED_CONNECTIONS


@dataclass(frozen=True, slots=True)
class Closing:
    """Of the connections of this node; how many is told to whoever asked for it."""

    connections: Connections
    store: Revocations

    async def __call__(self, revocation: Revocation) -> None:
        """Close those that it covers. Raises Unavailable when that cannot be told; they are closed all the same."""
        covered = [each for each in self.connections.values() if revocation.covers(each.identity)]
        for connection in covered:
            connection.spawn(connection.end(REVOKED))
        if covered:
            REVOKED_CONNECTIONS.inc(len(covered))
            await self.store.note_closed(revocation.number, len(covered))
