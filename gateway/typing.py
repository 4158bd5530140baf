"""Typing: told at most once in 3 s, and ended by the server when the last sign is 3 s old or the socket dies."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from gateway import channels
from runtime.errors import Unavailable
from runtime.ports import Fanout, Registry
from schemas.frames import frame

EVERY_S = 3.0


@dataclass(slots=True)
class TypingDesk:
    """Who types where, on this node."""

    fanout: Fanout
    registry: Registry
    _ends: dict[tuple[str, str], asyncio.TimerHandle] = field(default_factory=dict)
    _told_at: dict[tuple[str, str], float] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def sign(self, conversation_id: str, user_id: str, is_typing: bool) -> None:
        """The user types, or has stopped to. Lossy by nature: without Redis nothing is told."""
        key = (conversation_id, user_id)
        if not is_typing:
            await self._stop(key)
            return
        loop = asyncio.get_running_loop()
        if key in self._ends:
            self._ends[key].cancel()
        self._ends[key] = loop.call_later(EVERY_S, self._ended, key)
        if loop.time() - self._told_at.get(key, -EVERY_S) < EVERY_S:
            return
        self._told_at[key] = loop.time()
        try:
            if await self.registry.may_type(*key):
                await self._tell(key, True)
        except Unavailable:
            return

    def died(self, user_id: str) -> None:
        """The user's socket ended."""
        for key in [k for k in self._ends if k[1] == user_id]:
            self._ended(key)

    def _ended(self, key: tuple[str, str]) -> None:
        task = asyncio.create_task(self._stop(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stop(self, key: tuple[str, str]) -> None:
        timer = self._ends.pop(key, None)
        self._told_at.pop(key, None)
        if timer is None:
            return
        timer.cancel()
        try:
            await self.registry.stopped_typing(*key)
            await self._tell(key, False)
        except Unavailable:
            return

    async def _tell(self, key: tuple[str, str], is_typing: bool) -> None:
        conversation_id, user_id = key
        said = frame("typing", conversationId=conversation_id, userId=user_id, isTyping=is_typing)
        await self.fanout.publish([(channels.events(conversation_id), channels.envelope(user_id, said))])
