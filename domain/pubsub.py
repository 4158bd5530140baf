"""Publish and subscribe between nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from msgspec import Struct


class Hint(Struct, frozen=True):
    """A message of a channel. With ``gap`` messages may have been lost, and ``data`` is empty.

    A Struct, since one is made for each message on each node, and a frozen dataclass costs five times as much.
    """

    channel: str
    data: bytes
    gap: bool = False


class Fanout(Protocol):
    """Publisher to other nodes. Delivery is at most once, so a message is a hint."""

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish (channel, bytes) pairs to every node that is subscribed. Raises Unavailable."""


class PubSub(Protocol):
    """Subscriptions of one node to channels."""

    async def subscribe(self, *channels: str) -> None:
        """Subscribe, and return once the server has confirmed all: what is published after that arrives.

        Raises Unavailable.
        """

    async def unsubscribe(self, channel: str) -> None:
        """Unsubscribe, as a best effort."""

    def hints(self) -> AsyncIterator[Sequence[Hint]]:
        """Yield messages in groups, as they arrive; a repeated confirmation (a reconnect) is a Hint with ``gap``."""
