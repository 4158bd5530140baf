"""Shares of replays: fair turns of the users of a node, and the bytes that each may be replayed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.limits import Bucket

TURNS = 32
"""Pages that the node replays at the same time."""
TURNS_PER_USER = 2
_MOST_KNOWN = 10_000
"""Users of whom something is remembered; then those with a full budget are forgotten."""


@dataclass(slots=True)
class Account:
    """Budget of a user: a token for each byte. A page may overdraw it; the next one waits until that is paid off."""

    bucket: Bucket
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(TURNS_PER_USER))
    users: int = 0

    def spend(self, size: int) -> None:
        """Charge the bytes that were replayed."""
        self.bucket.spend(size, asyncio.get_running_loop().time())

    async def credit(self) -> None:
        """Return once the user has credit."""
        clock = asyncio.get_running_loop().time
        wait = self.bucket.wait(clock())
        while wait > 0:  # another of the user's pages may have been charged meanwhile
            await asyncio.sleep(wait)
            wait = self.bucket.wait(clock())


@dataclass(slots=True)
class ReplayBudget:
    """Budgets of all users of a node.

    ``bytes_per_s``: what comes back to a user each second, up to ``burst`` bytes; 0 sets no limit. A replay over budget
    waits: nothing is lost, and nothing is refused.
    """

    bytes_per_s: float = 0.0
    burst: float = 0.0
    _accounts: dict[str, Account] = field(default_factory=dict)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(TURNS))

    @asynccontextmanager
    async def turn(self, user_id: str) -> AsyncIterator[Account]:
        """Wait until it is the user's turn and the user has credit; hold the turn for one page."""
        account = self._account(user_id)
        account.users += 1
        try:
            async with account.turns:
                await account.credit()
                async with self._turns:
                    yield account
        finally:
            account.users -= 1

    def _account(self, user_id: str) -> Account:
        if len(self._accounts) >= _MOST_KNOWN and user_id not in self._accounts:
            now = asyncio.get_running_loop().time()
            self._accounts = {user: a for user, a in self._accounts.items() if a.users or not a.bucket.full(now)}
        return self._accounts.setdefault(user_id, Account(Bucket(self.bytes_per_s, max(self.burst, 1.0))))
