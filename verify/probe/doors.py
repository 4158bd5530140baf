"""The front doors as the probe uses them: connections of its own, one try at a time, at each door in turn."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle

import httpx2
from millrace_client import HttpClient, MillraceClientError, RetryingTransport

TRY_S = 5.0
FAILED = (MillraceClientError, httpx2.HTTPError, TimeoutError)
"""Errors of a call that a fault may cause; the call is made again."""
_PAUSE_S = (0.1, 1.0)


@dataclass(slots=True)
class Doors:
    """HTTP clients of the doors. A call is made once, so that its failure is seen, and then at the next door."""

    clients: Sequence[httpx2.AsyncClient]
    token: Callable[[str], str]
    _turns: Iterator[httpx2.AsyncClient] = field(init=False)

    def __post_init__(self) -> None:
        self._turns = cycle(self.clients)

    def client(self) -> httpx2.AsyncClient:
        """Return the client of the next door."""
        return next(self._turns)

    def user(self, user: str) -> HttpClient:
        """Return a client that acts for the user at the next door."""
        return HttpClient(RetryingTransport(self.client(), patience_s=0.0), self.token(user))

    def bearer(self, user: str) -> dict[str, str]:
        """Return the header that identifies the user."""
        return {"authorization": f"Bearer {self.token(user)}"}


@asynccontextmanager
async def open_doors(urls: Sequence[str], token: Callable[[str], str]) -> AsyncIterator[Doors]:
    """Yield the doors at these URLs."""
    clients = [httpx2.AsyncClient(base_url=url, timeout=TRY_S) for url in urls]
    try:
        yield Doors(clients, token)
    finally:
        await asyncio.gather(*(client.aclose() for client in clients))


async def pauses() -> AsyncIterator[None]:
    """Yield before each try of a call, without an end: the first at once, the others after a growing pause."""
    pause, most = _PAUSE_S
    while True:
        yield
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(2 * pause, most)
