"""Rules for typing and presence: how often each is published, over all nodes. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

TYPING_S = 3.0
"""Seconds in which typing is published at most once, for each user and conversation."""
PRESENCE_S = 5.0
"""Seconds in which at most one change of a user's presence is published."""


def published_change(online: bool, now_ms: int) -> str:
    """Return the text that is stored for a published change."""
    return f"{int(online)} {now_ms}"


def wait_s(last: str, online: bool, now_ms: int) -> float:
    """Return the seconds until this may be published after ``last`` (empty: nothing was).

    Negative when ``last`` says the same.
    """
    if not last:
        return 0.0
    was, _, at = last.partition(" ")
    return -1.0 if was == str(int(online)) else max(0.0, PRESENCE_S - (now_ms - int(at)) / 1000)


FRESH_S = 5.0
"""Seconds in which all nodes notice that the registry has lost something, and renew their leases."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A connection in the registry. ``since_ms``: when it was opened, in Unix milliseconds."""

    connection_id: str
    user_id: str
    device: str
    since_ms: int


class Registry(Protocol):
    """Registry of connections: leases in Redis, advisory only.

    A connection counts while its own lease is valid and so is that of the run of its node in which it was opened.
    """

    async def connected(self, user_ids: Sequence[str]) -> frozenset[str]:
        """Return those of the users that have at least one live connection. Raises Unavailable."""

    async def away(self, user_ids: Sequence[str]) -> frozenset[str]:
        """Return those of the users that certainly have no live connection. Raises Unavailable.

        None while the registry may be incomplete: it has lost something within the last ``FRESH_S`` seconds, and some
        nodes may not have renewed their connections since.
        """

    async def forgets(self) -> bool:
        """Return whether the registry has lost something since this node last renewed its leases. Raises Unavailable.

        Then they must be renewed at once; to be called every second.
        """

    async def last_seen(self, user_ids: Sequence[str]) -> Mapping[str, int]:
        """Return when each user's last connection ended, in Unix milliseconds, where known. Raises Unavailable."""

    async def register(self, entry: Entry) -> bool:
        """Add a connection under a lease; return True when it is the user's first. Raises Unavailable."""

    async def renew(self, entries: Iterable[Entry], *, draining: bool = False) -> bool:
        """Renew the lease of this node, then those of its connections; ``entries`` is consumed step by step.

        Returns True when the registry did not know this node, or no longer. Raises Unavailable.
        """

    async def unregister(self, connection_id: str, user_id: str, ended_ms: int) -> bool:
        """Remove a connection that ended at ``ended_ms`` (Unix milliseconds).

        Returns True when it was the user's last. Raises Unavailable.
        """

    async def clear(self) -> Sequence[str]:
        """Remove the connections of nodes whose lease has ended, and those of earlier runs of this node.

        Returns the users that have no connection left. Raises Unavailable.
        """

    async def leave(self, away: Collection[str]) -> None:
        """Remove this node, which ends, with all of its connections.

        The ``clear`` of some other node returns those of the users ``away`` that are not connected. Raises
        Unavailable.
        """


class EphemeralThrottle(Protocol):
    """Throttle of typing and presence, shared by all nodes. Advisory only."""

    async def may_type(self, conversation_id: str, user_id: str) -> bool:
        """Return True when no node published this user's typing within 3 s; it then counts as published by this node.

        Raises Unavailable.
        """

    async def types_elsewhere(self, conversation_id: str, user_id: str) -> bool:
        """Return True when another node was the last to publish this user's typing, within 3 s. Raises Unavailable."""

    async def may_tell(self, user_id: str, online: bool) -> float:
        """Return in how many seconds this change may be published; 0: now, and it counts as published.

        Negative: it was published before. Raises Unavailable.
        """
