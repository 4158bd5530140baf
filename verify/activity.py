"""Activities: what happens in a run beside the message load, such as probes, readers and uploads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import httpx2
from millrace_client import HttpClient, RetryingTransport

from verify.history import Room


@dataclass(frozen=True, slots=True)
class Access:
    """The front doors of the stack, as the clients of a run use them.

    ``client`` sends each request once; ``retrying`` repeats those that are refused for the moment.
    """

    http: Sequence[str]
    ws: Sequence[str]
    token: Callable[[str], str]
    client: httpx2.AsyncClient
    retrying: RetryingTransport

    def user(self, user: str) -> HttpClient:
        """Return a client that acts for the user and repeats what is refused for the moment."""
        return HttpClient(self.retrying, self.token(user))


class Activity(Protocol):
    """Something that clients do during a run. It writes what it observes into the history of the run.

    An exception of any method ends the trial without a verdict; so what the stack may answer under a fault is an
    observation, and never raised.
    """

    async def prepare(self, access: Access, rooms: Sequence[Room]) -> None:
        """Set up before the load begins, while nothing is broken. ``rooms`` are open and joined."""

    async def run(self) -> None:
        """Act while messages are sent and faults are injected, until cancelled."""

    async def settle(self) -> None:
        """Return when its own work is at rest; called after the load, once all faults are healed. Bounded in time."""

    async def close(self) -> None:
        """End connections and tasks. Called once, also after an error, and without ``prepare``."""


_LOOK_S = 0.5


async def until(is_done: Callable[[], Awaitable[bool]], deadline: float) -> None:
    """Observe again and again until it is done, or until the deadline by the monotonic clock."""
    while not await is_done() and time.monotonic() < deadline:  # noqa: ASYNC110 - only the stack can tell
        await asyncio.sleep(_LOOK_S)
