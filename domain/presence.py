"""Rules of what is told of typing and presence: how often, over all nodes. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

TYPING_S = 3.0
"""Typing is told at most once in this time, for each user and conversation."""
PRESENCE_S = 5.0
"""At most one change of a user's presence is told in this time."""


def told(online: bool, now_ms: int) -> str:
    """What is kept of a change that was told."""
    return f"{int(online)} {now_ms}"


def wait_s(last: str, online: bool, now_ms: int) -> float:
    """Seconds until this may be told after ``last`` was (empty: nothing was); negative when that said the same."""
    if not last:
        return 0.0
    was, _, at = last.partition(" ")
    return -1.0 if was == str(int(online)) else max(0.0, PRESENCE_S - (now_ms - int(at)) / 1000)


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


class EphemeralThrottle(Protocol):
    """What is told of typing and presence, and when: the same for all nodes. Advisory only."""

    async def may_type(self, conversation_id: str, user_id: str) -> bool:
        """Whether this user's typing was told nowhere for 3 s; if so, this node tells it now. Raises Unavailable."""

    async def types_elsewhere(self, conversation_id: str, user_id: str) -> bool:
        """Whether another node was the last to tell, within 3 s, that the user types here. Raises Unavailable."""

    async def may_tell(self, user_id: str, online: bool) -> float:
        """In how many seconds this change may be told; 0 means now, and that it counts as told.

        Negative: it was told before. Raises Unavailable.
        """
