"""Connection of a user, and everything that it started: they end together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from structlog.typing import FilteringBoundLogger as BoundLogger
from websockets.asyncio.server import ServerConnection

from domain.identity import LEEWAY_S, Identity
from domain.presence import Entry
from gateway.framing import encode
from gateway.room import Socket
from gateway.send_queue import CLOSE_S, REPLY_MAX, SendQueue
from gateway.session import RESTART, TOKEN_ENDED, Close, Session
from runtime.tasks import Tasks
from schemas.frames import Frame, encoded


@dataclass(slots=True, eq=False)
class Connection:
    """A socket of the hub, with its session. It lives by ``identity``, and ends when that does.

    ``leaving``: it was told to connect elsewhere, and is being closed.
    """

    transport: ServerConnection
    socket: Socket
    queue: SendQueue
    session: Session
    device: str
    identity: Identity
    log: BoundLogger
    leaving: bool = False
    since_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    _expiry: asyncio.TimerHandle | None = None
    _tasks: Tasks = field(default_factory=Tasks)

    @property
    def entry(self) -> Entry:
        """The connection as the registry knows it."""
        return Entry(self.socket.connection_id, self.socket.user_id, self.device, self.since_ms)

    def reply(self, frame: Frame) -> None:
        """Send a reply. A client that leaves so many unread that it does not fit is aborted."""
        if not self.queue.write(encode(encoded(frame)), REPLY_MAX):
            self.abort("replies_unread")

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run this beside the connection and no longer than it; its failure ends the connection."""
        self._tasks.spawn(work, partial(self.abort, "task_failed"))

    def live_by(self, identity: Identity, now: float) -> None:
        """Live by this identity from now on, unless the present one ends later (``now``: Unix seconds)."""
        if identity.expires_at >= self.identity.expires_at:
            self.identity = identity
        if self._expiry is not None:
            self._expiry.cancel()
        left = self.identity.expires_at - now
        if left <= 0:  # accepted all the same: the issuer's clock may be behind
            left = max(0.0, left + LEEWAY_S)
        self._expiry = asyncio.get_running_loop().call_later(left, lambda: self.spawn(self.end(TOKEN_ENDED)))

    async def end(self, close: Close) -> None:
        """Close the connection behind everything that was sent. A client that does not take the close is aborted."""
        # A drain closes thousands at once, and is logged as a whole.
        log = self.log.debug if close is RESTART else self.log.info
        log("connection_closing", code=close.code, reason=close.reason)
        self.queue.flush()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.transport.close(close.code, close.reason)
        except TimeoutError:
            self.abort("close_not_taken")

    def abort(self, reason: str) -> None:
        """End the connection without a close frame."""
        self.queue.abort(reason)

    def ended(self) -> None:
        """Cancel everything that the connection started."""
        if self._expiry is not None:
            self._expiry.cancel()
        self._tasks.cancel()


Connections: TypeAlias = dict[str, Connection]
"""Connections of this node by their ids."""
