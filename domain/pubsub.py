"""Publish and subscribe between nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from msgspec import Struct


class Hint(Struct, frozen=True):
    """What came over a channel. ``gap`` means: something may have been lost; ``data`` is empty.

    A Struct, as one is made for each message of each node: a frozen dataclass costs five times as much.
    """

    channel: str
    data: bytes
    gap: bool = False


class Fanout(Protocol):
    """Redis pub/sub: at most once, so everything it carries is a hint."""

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Hand (channel, bytes) pairs to every node that is subscribed. Raises Unavailable."""


class PubSub(Protocol):
    """The channels of one node."""

    async def subscribe(self, channel: str) -> None:
        """Return once the server has confirmed it: what is published after that arrives.

        Raises Unavailable.
        """

    async def unsubscribe(self, channel: str) -> None:
        """Best effort."""

    def hints(self) -> AsyncIterator[Sequence[Hint]]:
        """All that arrives, as it comes together. A repeated confirmation (a reconnect) is a Hint with ``gap``."""
