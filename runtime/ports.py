"""Promises that adapters keep and twins keep too: what is true when a call returns, and what it raises.

Ports that only one stage needs stand in that stage's file.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.codec import Record
from schemas.messages import Change


class EventLog(Protocol):
    """Kafka, as a writer sees it."""

    async def append(self, records: Sequence[Record]) -> Mapping[str, int]:
        """Return once all records are durable (``acks=all``), in this order for each key.

        Returns where the log ends behind them: topic/partition → the offset that the next record gets.
        Raises Unavailable when it is unknown whether they are; appending again may double them.
        """


class History(Protocol):
    """The change log of conversations, and who may read it."""

    async def is_member(self, conversation_id: str, user_id: str) -> bool:
        """Whether the user is a member now. Raises Unavailable."""

    async def members(self, conversation_id: str) -> Sequence[str]:
        """All current members. Raises Unavailable."""

    async def heads(self, conversation_ids: Sequence[str]) -> Mapping[str, int]:
        """The last seq of each conversation that exists, in one query. Raises Unavailable."""

    async def changes(self, conversation_id: str, after: int, up_to: int, limit: int) -> Sequence[Change]:
        """Entries with ``after < seq <= up_to``, ascending and dense, at most ``limit``.

        Raises Unavailable.
        """

    async def place_of(self, message_id: str) -> tuple[str, int] | None:
        """The conversation of a message, and its seq there. Raises Unavailable."""

    async def small_conversations(self, user_id: str, max_members: int) -> Sequence[str]:
        """The user's conversations with at most so many members. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class Hint:
    """What came over a channel. ``gap`` means: something may have been lost; ``data`` is empty."""

    channel: str
    data: bytes
    gap: bool = False


class Fanout(Protocol):
    """Redis pub/sub: at most once, so everything it carries is a hint."""

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Hand (channel, bytes) pairs to every node that is subscribed. Raises Unavailable."""


class Subscriptions(Protocol):
    """The channels of one node."""

    async def subscribe(self, channel: str) -> None:
        """Return once the server has confirmed it: what is published after that arrives.

        Raises Unavailable.
        """

    async def unsubscribe(self, channel: str) -> None:
        """Best effort."""

    def hints(self) -> AsyncIterator[Hint]:
        """Everything that arrives. A repeated confirmation (a reconnect) is a Hint with ``gap``."""


class Registry(Protocol):
    """Who is connected where: leases in Redis, advisory only."""

    async def connected(self, user_ids: Sequence[str]) -> frozenset[str]:
        """Those of the users that hold at least one live connection. Raises Unavailable."""

    async def register(self, connection_id: str, user_id: str) -> bool:
        """Note a connection under a lease; True when it is the user's first. Raises Unavailable."""

    async def renew(self, connections: Mapping[str, str]) -> None:
        """Renew the leases of all (connection id → user id) of this node. Raises Unavailable."""

    async def unregister(self, connection_id: str, user_id: str) -> bool:
        """Forget a connection; True when it was the user's last. Raises Unavailable."""

    async def may_type(self, conversation_id: str, user_id: str) -> bool:
        """Whether this user's typing was told nowhere for 3 s; if so, that starts now. Raises Unavailable."""

    async def stopped_typing(self, conversation_id: str, user_id: str) -> None:
        """The next sign of typing may be told at once. Raises Unavailable."""
