"""Typing: told at most once in 3 s, and ended by the server when the last sign is 3 s old or the socket is gone.

A node that dies cannot say that its users have stopped. So each node ends what it passed on itself, when it was not
told again: whoever goes on typing is told of at least every 6 s.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TypeAlias

from domain.errors import Unavailable
from domain.presence import TYPING_S, Signs
from domain.pubsub import Fanout
from gateway import channels
from gateway.hub import Hub, Place
from gateway.send_queue import encode
from schemas.frames import frame

SILENT_S = 2 * TYPING_S + 1.0
"""After this time without word of it, a node ends what it passed on."""
_ASK_S = 0.5
_TYPES, _YES = b'{"type":"typing",', b'"isTyping":true}'

Key: TypeAlias = tuple[str, str]
"""(conversation, user)."""


@dataclass(slots=True)
class TypingDesk:
    """Who types where, on this node. A user types as long as one of his sockets does."""

    fanout: Fanout
    signs: Signs
    _typing: dict[Key, dict[Place, asyncio.TimerHandle]] = field(default_factory=dict)
    _told_at: dict[Key, float] = field(default_factory=dict)
    _asked_at: dict[Key, float] = field(default_factory=dict)
    _works: dict[Key, asyncio.Task[None]] = field(default_factory=dict)

    def sign(self, place: Place, is_typing: bool) -> None:
        """A socket's user types, or has stopped to. Lossy by nature: without Redis nothing is told."""
        key = (place.room.conversation_id, place.socket.user_id)
        if is_typing and place.socket not in place.room.live:
            return  # its membership may not even be known yet
        before = self._typing.get(key, {}).pop(place, None)
        if before is not None:
            before.cancel()
        if is_typing:
            timer = asyncio.get_running_loop().call_later(TYPING_S, self.sign, place, False)
            self._typing.setdefault(key, {})[place] = timer
        elif not self._typing.get(key):
            self._typing.pop(key, None)
            if key not in self._works:
                self._asked_at.pop(key, None)
        if key not in self._works and self._due(key) is not None:
            self._works[key] = asyncio.create_task(self._bring(key))

    def parted(self, place: Place) -> None:
        """The socket has left the conversation, or was put out, or ended."""
        self.sign(place, False)

    def _due(self, key: Key) -> bool | None:
        """What is to be told now: that the user types, or has stopped, or nothing."""
        told_at = self._told_at.get(key)
        if key not in self._typing:
            return None if told_at is None else False
        now = asyncio.get_running_loop().time()
        old = told_at is None or now - told_at >= TYPING_S
        return True if old and now - self._asked_at.get(key, -_ASK_S) >= _ASK_S else None

    async def _bring(self, key: Key) -> None:
        """One at a time for each key, so that what is told last is what is so."""
        try:
            while (due := self._due(key)) is not None:
                await (self._started(key) if due else self._stopped(key))
        except Unavailable:
            self._told_at.pop(key, None)  # those who were told find out by themselves
        finally:
            del self._works[key]
            if key not in self._typing:
                self._asked_at.pop(key, None)

    async def _started(self, key: Key) -> None:
        self._asked_at[key] = asyncio.get_running_loop().time()
        if await self.signs.may_type(*key):
            self._told_at[key] = asyncio.get_running_loop().time()
            await self._tell(key, True)

    async def _stopped(self, key: Key) -> None:
        del self._told_at[key]
        if not await self.signs.types_elsewhere(*key):
            await self._tell(key, False)

    async def _tell(self, key: Key, is_typing: bool) -> None:
        conversation_id, user_id = key
        envelope = channels.envelope(user_id, said(conversation_id, user_id, is_typing))
        await self.fanout.publish([(channels.events(conversation_id), envelope)])


@dataclass(slots=True)
class Heard:
    """What the sockets of this node were told of typing, and when it ends without another word."""

    hub: Hub
    _ends: dict[Key, asyncio.TimerHandle] = field(default_factory=dict)

    def note(self, conversation_id: str, user_id: str, payload: bytes) -> None:
        """This frame about the user is passed on to the room."""
        if not payload.startswith(_TYPES):
            return
        key = (conversation_id, user_id)
        before = self._ends.pop(key, None)
        if before is not None:
            before.cancel()
        if payload.endswith(_YES):
            self._ends[key] = asyncio.get_running_loop().call_later(SILENT_S, self._silent, key)

    def _silent(self, key: Key) -> None:
        del self._ends[key]
        conversation_id, user_id = key
        room = self.hub.rooms.get(conversation_id)
        if room is not None:
            room.tell(user_id, encode(said(conversation_id, user_id, False)))


def said(conversation_id: str, user_id: str, is_typing: bool) -> bytes:
    """A ``typing`` frame."""
    return frame("typing", conversationId=conversation_id, userId=user_id, isTyping=is_typing)
