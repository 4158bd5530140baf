"""Presence: online with the first connection, offline after the last; told in small conversations. Lossy."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from gateway import channels
from runtime.errors import Unavailable
from runtime.ports import Fanout, History, Registry
from schemas.clock import now
from schemas.frames import frame

GRACE_S = 2.0
"""A reconnect within this time is no absence."""


@dataclass(slots=True)
class PresenceDesk:
    """Tells those who share a conversation of at most ``max_members``; 0 turns presence off."""

    fanout: Fanout
    history: History
    registry: Registry
    max_members: int
    _leaving: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def came(self, user_id: str) -> None:
        """The user's first connection."""
        timer = self._leaving.pop(user_id, None)
        if timer is not None:
            timer.cancel()
            return
        self._spawn(user_id, True)

    def went(self, user_id: str) -> None:
        """The user's last connection ended."""
        loop = asyncio.get_running_loop()
        self._leaving[user_id] = loop.call_later(GRACE_S, self._gone, user_id)

    def _gone(self, user_id: str) -> None:
        del self._leaving[user_id]
        self._spawn(user_id, False)

    def _spawn(self, user_id: str, online: bool) -> None:
        if self.max_members:
            task = asyncio.create_task(self._tell(user_id, online))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _tell(self, user_id: str, online: bool) -> None:
        try:
            if not online and await self.registry.connected([user_id]):
                return  # connected elsewhere meanwhile
            shared = await self.history.small_conversations(user_id, self.max_members)
            envelope = channels.envelope(user_id, said(user_id, online))
            await self.fanout.publish([(channels.events(id_), envelope) for id_ in shared])
        except Unavailable:
            return

    async def others(self, conversation_id: str, user_id: str) -> list[bytes]:
        """Frames for somebody who has just joined: who else of a small conversation is online."""
        try:
            members = [user for user in await self.history.members(conversation_id) if user != user_id]
            if not self.max_members or len(members) >= self.max_members:
                return []
            return [said(user, True) for user in sorted(await self.registry.connected(members))]
        except Unavailable:
            return []


def said(user_id: str, online: bool) -> bytes:
    """A ``presence`` frame; ``lastSeen`` is now, as the user was here until now."""
    return frame("presence", userId=user_id, online=online, lastSeen=now())
