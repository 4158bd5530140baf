"""Promises that adapters keep and twins keep too: what is true when a call returns, and what it raises.

Ports that only one stage needs stand in that stage's file.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

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

    async def member_since(self, conversation_id: str, user_id: str) -> int | None:
        """The seq at which the user, who is a member now, came; None for others. Raises Unavailable."""

    async def members(self, conversation_id: str, limit: int | None = None) -> Sequence[str]:
        """All current members, or so many of them, by name. Raises Unavailable."""

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


class Subscriptions(Protocol):
    """The channels of one node."""

    async def subscribe(self, channel: str) -> None:
        """Return once the server has confirmed it: what is published after that arrives.

        Raises Unavailable.
        """

    async def unsubscribe(self, channel: str) -> None:
        """Best effort."""

    def hints(self) -> AsyncIterator[Sequence[Hint]]:
        """All that arrives, as it comes together. A repeated confirmation (a reconnect) is a Hint with ``gap``."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A connection, as the registry has it. ``since_ms``: when it was made, Unix milliseconds."""

    connection_id: str
    user_id: str
    device: str
    since_ms: int


class Registry(Protocol):
    """Who is connected where: leases in Redis, advisory only.

    A connection counts while its own lease lives and that of its node does, in the life that it was made in.
    """

    async def connected(self, user_ids: Sequence[str]) -> frozenset[str]:
        """Those of the users that hold at least one live connection. Raises Unavailable."""

    async def last_seen(self, user_ids: Sequence[str]) -> Mapping[str, int]:
        """When each user's last connection ended, Unix milliseconds, as far as known. Raises Unavailable."""

    async def register(self, entry: Entry) -> bool:
        """Note a connection under a lease; True when it is the user's first. Raises Unavailable."""

    async def renew(self, entries: Iterable[Entry], *, draining: bool = False) -> bool:
        """Renew the lease of this node, and then those of its connections, which are read as they are needed.

        True when the registry did not know this node (any more). Raises Unavailable.
        """

    async def unregister(self, connection_id: str, user_id: str, ended_ms: int) -> bool:
        """Forget a connection, which ended then (Unix milliseconds); True when it was the user's last.

        Raises Unavailable.
        """

    async def clear(self) -> Sequence[str]:
        """Forget the connections of nodes whose lease has ended, and those of this node's former lives.

        Returns the users that have none now. Raises Unavailable.
        """

    async def leave(self, away: Collection[str]) -> None:
        """This node ends, and all of its connections with it.

        Some other node's ``clear`` returns those of the users ``away`` that are not connected. Raises Unavailable.
        """


class Signs(Protocol):
    """What is told of typing and presence, and when: the same for all nodes. Advisory only."""

    async def may_type(self, conversation_id: str, user_id: str) -> bool:
        """Whether this user's typing was told nowhere for 3 s; if so, this node tells it now. Raises Unavailable."""

    async def types_elsewhere(self, conversation_id: str, user_id: str) -> bool:
        """Whether another node was the last to tell, within 3 s, that the user types here. Raises Unavailable."""

    async def may_tell(self, user_id: str, online: bool) -> float:
        """In how many seconds this change may be told; 0 means now, and that it counts as told.

        Negative: it was told before. Raises Unavailable.
        """
