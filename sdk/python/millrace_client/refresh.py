"""Renewing a connection's token in band, before it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from millrace_client.tokens import TokenSource

_log = logging.getLogger(__name__)

_RETRY_S = 5.0


def lead_s(left_s: float) -> float:
    """Return how long before its end a token is renewed that has ``left_s`` seconds left: a fifth, at most a minute."""
    return min(left_s / 5, 60.0)


def wait_s(expires_at: str, now: datetime) -> float:
    """Return the seconds to wait until a token that ends at ``expires_at`` (RFC 3339) is renewed. Raises ValueError."""
    left_s = max(0.0, (datetime.fromisoformat(expires_at) - now).total_seconds())
    return left_s - lead_s(left_s)


@dataclass(slots=True)
class TokenRefresher:
    """Renews the token of the connection that lives now. ``send`` sends a token to the server."""

    tokens: TokenSource
    send: Callable[[str], Awaitable[None]]
    _task: asyncio.Task[None] | None = field(default=None)

    def expires(self, expires_at: str) -> None:
        """Plan the next renewal: the server has said when the connection's token ends."""
        self.stop()
        if self.tokens.is_renewable:
            self._task = asyncio.create_task(self._renew(wait_s(expires_at, datetime.now(UTC))))

    def refused(self) -> None:
        """Try again soon: the server did not take the token, or could not check it."""
        self.stop()
        self._task = asyncio.create_task(self._renew(_RETRY_S))

    def stop(self) -> None:
        """Plan nothing any more: the connection has ended."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _renew(self, after_s: float) -> None:
        while True:
            await asyncio.sleep(after_s)
            try:
                token = await self.tokens.renew(await self.tokens.current())
            except Exception as exc:  # of the application's provider: the token may still hold for a while
                _log.warning("token_refresh_failed", extra={"reason": type(exc).__name__})
                after_s = _RETRY_S
                continue
            await self.send(token)
            return
