"""One connection of a user, and everything that it started: they end together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from websockets.asyncio.server import ServerConnection

from domain.identity import LEEWAY_S, Identity
from domain.presence import Entry
from gateway.hub import Socket
from gateway.send_queue import ANSWERS, CLOSE_S, Wire, encode
from gateway.session import TOKEN_ENDED, Close, Session
from runtime.tasks import Tasks


@dataclass(slots=True, eq=False)
class Connection:
    """A socket of the hub, with its session. It lives by ``identity``, and ends when that does.

    ``leaving``: it was told to connect elsewhere, and is being closed.
    """

    peer: ServerConnection
    socket: Socket
    wire: Wire
    session: Session
    device: str
    identity: Identity
    leaving: bool = False
    since_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    _expiry: asyncio.TimerHandle | None = None
    _tasks: Tasks = field(default_factory=Tasks)

    @property
    def entry(self) -> Entry:
        """As the registry knows it."""
        return Entry(self.socket.connection_id, self.socket.user_id, self.device, self.since_ms)

    def say(self, payload: bytes) -> None:
        """Send an answer. A client that leaves so many unread that it does not fit is cut."""
        if not self.wire.write(encode(payload), ANSWERS):
            self.cut()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this beside, as long as the connection lives, which does not outlive a failure of it."""
        self._tasks.spawn(work, self.cut)

    def live_by(self, identity: Identity, now: float) -> None:
        """From now on by this one, unless the one it has ends later (``now``: Unix seconds)."""
        if identity.expires_at >= self.identity.expires_at:
            self.identity = identity
        if self._expiry is not None:
            self._expiry.cancel()
        left = self.identity.expires_at - now
        if left <= 0:  # accepted all the same: the issuer's clock may be behind
            left = max(0.0, left + LEEWAY_S)
        self._expiry = asyncio.get_running_loop().call_later(left, lambda: self.spawn(self.end(TOKEN_ENDED)))

    async def end(self, close: Close) -> None:
        """Close it; what it was told before goes out before. A client that does not take that in time is cut."""
        self.wire.flush()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.peer.close(close.code, close.reason)
        except TimeoutError:
            self.cut()

    def cut(self) -> None:
        """End it without a word."""
        self.wire.cut()

    def ended(self) -> None:
        """Nothing that it started goes on."""
        if self._expiry is not None:
            self._expiry.cancel()
        self._tasks.cancel()


Connections: TypeAlias = dict[str, Connection]
"""Those of this node, by connection id."""
