"""Presence: online with the first connection, offline after the last; broadcast in small conversations. Lossy.

The policy says in which conversations a user shows it; by default where the user has written.

A broadcast says what the registry says at that moment, so it does not matter which node noticed the change, nor
whether several did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from domain.errors import Unavailable
from domain.history import History, Participant
from domain.policy import Action, Allowed, Policy, Question
from domain.presence import EphemeralThrottle, Registry
from domain.pubsub import Fanout
from gateway import channels
from gateway.channels import Envelope, Kind
from schemas.clock import now, wire_seconds
from schemas.frames import PresenceUpdated, encoded

_log = structlog.get_logger()

GRACE_S = 2.0
"""A reconnect within this time is no absence."""
_AT_ONCE = 4
"""Users whose conversations are read at the same time: thousands go when a node ends."""


@dataclass(slots=True)
class PresenceTracker:
    """Broadcasts presence in conversations of at most ``max_members``; 0 turns presence off."""

    fanout: Fanout
    history: History
    registry: Registry
    throttle: EphemeralThrottle
    policy: Policy
    max_members: int
    _leaving: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    _looking: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _again: set[str] = field(default_factory=set)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    @property
    def pending(self) -> frozenset[str]:
        """Users whose change of presence the others may not know yet."""
        return frozenset((*self._leaving, *self._looking))

    def came(self, user_id: str) -> None:
        """Note that the user has a connection."""
        timer = self._leaving.pop(user_id, None)
        if timer is not None:
            timer.cancel()
        self._look(user_id)

    def went(self, user_id: str) -> None:
        """Note that the user may have no connection any more."""
        if self.max_members and user_id not in self._leaving:
            self._leaving[user_id] = asyncio.get_running_loop().call_later(GRACE_S, self._gone, user_id)

    def _gone(self, user_id: str) -> None:
        del self._leaving[user_id]
        self._look(user_id)

    def _look(self, user_id: str) -> None:
        if user_id in self._looking:
            self._again.add(user_id)
        elif self.max_members:
            self._looking[user_id] = asyncio.create_task(self._follow(user_id))

    async def _follow(self, user_id: str) -> None:
        """Run one at a time for each user, so that the last broadcast is true."""
        try:
            while True:
                self._again.discard(user_id)
                await self._bring(user_id)
                if user_id not in self._again:
                    return
        except Unavailable:
            self._again.discard(user_id)
        finally:
            del self._looking[user_id]

    async def _bring(self, user_id: str) -> None:
        """Broadcast a change once the throttle allows it; by then there may be none."""
        while True:
            online = bool(await self.registry.connected([user_id]))
            wait = await self.throttle.may_tell(user_id, online)
            if wait <= 0:
                break
            await asyncio.sleep(wait)
        if wait == 0:
            async with self._turns:
                await self._broadcast(user_id, online)

    async def _broadcast(self, user_id: str, online: bool) -> None:
        seen = {} if online else await self.registry.last_seen([user_id])
        shared = await self._shown(await self.history.small_conversations(user_id, self.max_members))
        _log.debug("presence_changed", user_id=user_id, online=online, conversations=len(shared))
        packed = Envelope(Kind.PRESENCE, 0, user_id, frame_of(user_id, online, seen.get(user_id))).packed()
        await self.fanout.publish([(channels.events(each.conversation_id), packed) for each in shared])

    async def _shown(self, participants: Sequence[Participant]) -> list[Participant]:
        """Return those who show their presence in the conversation, as the policy says. Raises Unavailable."""
        verdicts = await self.policy.may(
            [
                Question(
                    user_id=each.user_id,
                    action=Action.SHOW_PRESENCE,
                    conversation_id=each.conversation_id,
                    has_written=each.has_written,
                )
                for each in participants
            ]
        )
        return [each for each, verdict in zip(participants, verdicts, strict=True) if isinstance(verdict, Allowed)]

    async def others(self, conversation_id: str, user_id: str) -> list[bytes]:
        """Return encoded frames for a user who has just joined: who else of a small conversation is, or was, online."""
        try:
            # One more than the bound: to know that a conversation is large, not all of it is needed.
            found = await self.history.participants(conversation_id, self.max_members + 1)
            others = [each for each in found if each.user_id != user_id]
            if len(others) >= self.max_members:
                return []
            members = [each.user_id for each in await self._shown(others)]
            online, seen = await asyncio.gather(self.registry.connected(members), self.registry.last_seen(members))
            known = [user for user in sorted(members) if user in online or user in seen]
            return [frame_of(user, user in online, seen.get(user)) for user in known]
        except Unavailable:
            return []


def frame_of(user_id: str, online: bool, seen_ms: int | None) -> bytes:
    """Return the encoded ``presence`` frame. ``lastSeen`` is now while online, and null where nobody knows it."""
    at = now() if online else None if seen_ms is None else wire_seconds(seen_ms / 1000)
    return encoded(PresenceUpdated(user_id=user_id, online=online, last_seen=at))
