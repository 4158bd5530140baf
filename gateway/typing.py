"""Typing: broadcast at most once in 3 s, and ended by the server 3 s after the last sign or with the socket.

A node that dies cannot say that its users have stopped. So each node ends what it passed on itself when no new
broadcast comes: a user who goes on typing is broadcast at least every 6 s.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TypeAlias

import structlog

from domain.errors import Unavailable
from domain.presence import TYPING_S, EphemeralThrottle
from domain.pubsub import Fanout
from gateway import channels
from gateway.channels import Envelope, Kind
from gateway.framing import encode
from gateway.hub import Hub
from gateway.room import Subscription
from schemas.frames import TypingUpdated, encoded

_log = structlog.get_logger()

SILENT_S = 2 * TYPING_S + 1.0
"""A node ends what it passed on when nothing came for so long."""
_ASK_S = 0.5

Key: TypeAlias = tuple[str, str]
"""(conversation, user)."""


@dataclass(slots=True)
class TypingTracker:
    """Tracks who types where on this node. A user types as long as one of their sockets does."""

    fanout: Fanout
    throttle: EphemeralThrottle
    _typing: dict[Key, dict[Subscription, asyncio.TimerHandle]] = field(default_factory=dict)
    _broadcast_at: dict[Key, float] = field(default_factory=dict)
    _asked_at: dict[Key, float] = field(default_factory=dict)
    _works: dict[Key, asyncio.Task[None]] = field(default_factory=dict)

    def sign(self, subscription: Subscription, is_typing: bool) -> None:
        """Note that the user of a socket types, or has stopped. Lossy by nature: without Redis nothing is broadcast."""
        key = (subscription.room.conversation_id, subscription.socket.user_id)
        if is_typing and subscription.socket not in subscription.room.live:
            return  # its membership may not even be known yet
        before = self._typing.get(key, {}).pop(subscription, None)
        if before is not None:
            before.cancel()
        if is_typing:
            timer = asyncio.get_running_loop().call_later(TYPING_S, self.sign, subscription, False)
            self._typing.setdefault(key, {})[subscription] = timer
        elif not self._typing.get(key):
            self._typing.pop(key, None)
            if key not in self._works:
                self._asked_at.pop(key, None)
        if key not in self._works and self._due(key) is not None:
            self._works[key] = asyncio.create_task(self._bring(key))

    def on_unsubscribe(self, subscription: Subscription) -> None:
        """End the typing of a socket that has left the conversation, was evicted, or has ended."""
        self.sign(subscription, False)

    def _due(self, key: Key) -> bool | None:
        """Return what to broadcast now: True for typing, False for stopped, None for nothing."""
        broadcast_at = self._broadcast_at.get(key)
        if key not in self._typing:
            return None if broadcast_at is None else False
        now = asyncio.get_running_loop().time()
        old = broadcast_at is None or now - broadcast_at >= TYPING_S
        return True if old and now - self._asked_at.get(key, -_ASK_S) >= _ASK_S else None

    async def _bring(self, key: Key) -> None:
        """Run one at a time for each key, so that the last broadcast is true."""
        try:
            while (due := self._due(key)) is not None:
                await (self._started(key) if due else self._stopped(key))
        except Unavailable:
            self._broadcast_at.pop(key, None)  # the other nodes end it by themselves
        finally:
            del self._works[key]
            if key not in self._typing:
                self._asked_at.pop(key, None)

    async def _started(self, key: Key) -> None:
        self._asked_at[key] = asyncio.get_running_loop().time()
        if await self.throttle.may_type(*key):
            self._broadcast_at[key] = asyncio.get_running_loop().time()
            await self._broadcast(key, True)

    async def _stopped(self, key: Key) -> None:
        del self._broadcast_at[key]
        if not await self.throttle.types_elsewhere(*key):
            await self._broadcast(key, False)

    async def _broadcast(self, key: Key, is_typing: bool) -> None:
        conversation_id, user_id = key
        kind = Kind.TYPING_STARTED if is_typing else Kind.TYPING_STOPPED
        _log.debug("typing_published", kind=kind.value, conversation_id=conversation_id, user_id=user_id)
        envelope = Envelope(kind, 0, user_id, frame_of(conversation_id, user_id, is_typing))
        await self.fanout.publish([(channels.events(conversation_id), envelope.packed())])


@dataclass(slots=True)
class RemoteTyping:
    """Typing that was passed on to sockets of this node, and when each ends if nothing more comes."""

    hub: Hub
    _ends: dict[Key, asyncio.TimerHandle] = field(default_factory=dict)

    def note(self, conversation_id: str, envelope: Envelope) -> None:
        """Note an event that was passed on to the room."""
        if envelope.kind not in (Kind.TYPING_STARTED, Kind.TYPING_STOPPED):
            return
        key = (conversation_id, envelope.about)
        before = self._ends.pop(key, None)
        if before is not None:
            before.cancel()
        if envelope.kind == Kind.TYPING_STARTED:
            self._ends[key] = asyncio.get_running_loop().call_later(SILENT_S, self._silent, key)

    def _silent(self, key: Key) -> None:
        del self._ends[key]
        conversation_id, user_id = key
        room = self.hub.rooms.get(conversation_id)
        if room is not None:
            _log.debug("typing_expired", conversation_id=conversation_id, user_id=user_id)
            room.broadcast(user_id, encode(frame_of(conversation_id, user_id, False)))


def frame_of(conversation_id: str, user_id: str, is_typing: bool) -> bytes:
    """Return the encoded ``typing`` frame."""
    return encoded(TypingUpdated(conversation_id=conversation_id, user_id=user_id, is_typing=is_typing))
