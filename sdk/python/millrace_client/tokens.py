"""Tokens of a connection: a fixed one, or a provider that makes newer ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

TokenProvider: TypeAlias = Callable[[], Awaitable[str]]
"""Returns a fresh token of the same user, as from the application's own login."""
Token: TypeAlias = str | TokenProvider


@dataclass(slots=True)
class TokenSource:
    """The current token of one user. Concurrent callers share one call of the provider."""

    token: Token = field(repr=False)
    _current: str = field(default="", repr=False)
    _renewing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def is_renewable(self) -> bool:
        """True with a provider."""
        return not isinstance(self.token, str)

    async def current(self) -> str:
        """Return the token to use now. Raises what the provider raises."""
        return self._current or await self.renew("")

    async def renew(self, replaces: str) -> str:
        """Return a newer token than ``replaces``, which has ended or is about to. Raises what the provider raises."""
        if isinstance(self.token, str):
            self._current = self.token
            return self.token
        async with self._renewing:
            if self._current == replaces:  # else somebody has renewed it meanwhile
                self._current = await self.token()
            return self._current
