"""Completion topics to Redis channels. One consumer group for all gateways: each event is published once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import structlog

from domain.errors import Unavailable
from domain.history import History
from domain.pubsub import Fanout
from gateway import channels
from runtime.metrics import HINTS_LOST
from schemas import frames
from schemas.codec import Malformed, decode
from schemas.events import (
    AnyEvent,
    ConversationChange,
    ConversationChanged,
    MediaProcessed,
    MessageSent,
    MessageStatus,
    NotificationSent,
)
from schemas.messages import Change, ChangeKind

_log = structlog.get_logger()

GROUP = "gateway"
READS: tuple[type[AnyEvent], ...] = (
    MessageSent,
    ConversationChanged,
    MediaProcessed,
    MessageStatus,
    NotificationSent,
)
BATCH = 500
COMMIT_S = 1.0
HINTS_PER_S, HINTS_BURST_S = 100.0, 2.0
MEMBERS_FOR_S = 5.0
_MOST_KNOWN = 10_000
"""Conversations of which something is remembered; then what is not needed is forgotten."""

Published: TypeAlias = tuple[str, bytes]
"""(channel, envelope)."""


class Raw(Protocol):
    """A record of Kafka, as far as it matters here."""

    @property
    def topic(self) -> str: ...
    @property
    def value(self) -> bytes | None: ...


class Consumer(Protocol):
    """A member of the group."""

    async def batch(self, limit: int) -> Sequence[Raw]:
        """At least one record. Raises Unavailable."""

    async def commit(self) -> None:
        """What was handed out is done. Raises Unavailable."""


def to_room(change: Change) -> Published:
    """For the sockets that have joined."""
    frame = frames.of_change(change)
    return channels.messages(change.conversation_id), channels.envelope(change.seq, frame)


def to_users(about: str, frame: bytes, users: Iterable[str]) -> list[Published]:
    """For the sockets of these users that have not joined ``about``."""
    envelope = channels.envelope(about, frame)
    return [(channels.user_messages(user), envelope) for user in users]


def direct(event: AnyEvent) -> list[Published]:
    """What concerns single users and has no place in the change log."""
    match event:
        case MessageStatus():
            frame = frames.message_status(event)
            return to_users(channels.EVERY_SOCKET, frame, {*event.notify, event.user_id})
        case NotificationSent():
            envelope = channels.envelope(channels.EVERY_SOCKET, frames.notification(event))
            return [(channels.user_notifications(event.user_id), envelope)]
        case ConversationChanged(change=ConversationChange.CREATED):
            return to_users(event.conversation_id, _created(event), event.members)
        case ConversationChanged():
            change = frames.change_of(event)
            assert change is not None
            return to_users(event.conversation_id, frames.of_change(change), [event.user_id])
        case _:
            return []


def _created(event: ConversationChanged) -> bytes:
    return frames.frame(
        "conversation_changed",
        conversationId=event.conversation_id,
        seq=event.seq,
        change=event.change,
        userId=event.user_id,
        by=event.by,
        at=event.at,
        title=event.title,
    )


@dataclass(slots=True)
class Budget:
    """How often members of a conversation get hints: so that, after a burst, about HINTS_PER_S leave for each
    conversation. Small ones get all of them; of those held back in large ones the latest is always sent. Pure."""

    _free_at: dict[str, float] = field(default_factory=dict)
    _held: dict[str, list[Published]] = field(default_factory=dict)

    def spend(self, conversation_id: str, hints: list[Published], now: float) -> list[Published]:
        """The hints, if they may go now; else they replace those that are held back."""
        free_at = max(self._free_at.get(conversation_id, now - HINTS_BURST_S), now - HINTS_BURST_S)
        if free_at > now:
            self._held[conversation_id] = hints
            return []
        self._held.pop(conversation_id, None)
        self._free_at[conversation_id] = free_at + len(hints) / HINTS_PER_S
        if len(self._free_at) > _MOST_KNOWN:
            self._free_at = {id_: at for id_, at in self._free_at.items() if at > now or id_ in self._held}
        return hints

    def without(self, conversation_id: str, channel: str) -> None:
        """Its user is a member no more: what is held back is not for him."""
        held = self._held.get(conversation_id)
        if held is not None:
            self._held[conversation_id] = [hint for hint in held if hint[0] != channel]

    def due(self, now: float) -> list[Published]:
        """Hints that were held back and may go now."""
        ready = [id_ for id_ in self._held if self._free_at[id_] <= now]
        due = [(id_, self._held.pop(id_)) for id_ in ready]
        return [hint for id_, hints in due for hint in self.spend(id_, hints, now)]

    @property
    def holds(self) -> bool:
        """Whether anything is held back."""
        return bool(self._held)


@dataclass(slots=True)
class Dispatcher:
    """Publishes what the pipeline has completed. Redis carries hints: what it does not take is found by seq later."""

    consumer: Consumer
    fanout: Fanout
    history: History
    _budget: Budget = field(default_factory=Budget)
    _members: dict[str, tuple[float, Sequence[str]]] = field(default_factory=dict)
    _publishing: bool = False
    _uncommitted: bool = False
    _commit_at: float = 0.0

    async def run(self) -> None:
        """For ever. Raises Unavailable when Kafka is gone: the process starts again then."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._consume())
            group.create_task(self._commit_when_idle())
            group.create_task(self._release())

    async def _consume(self) -> None:
        while True:
            records = await self.consumer.batch(BATCH)
            self._publishing = self._uncommitted = True
            await self._publish([p async for p in self._messages(records)])
            self._publishing = False
            await self._commit_if_due()

    async def _commit_when_idle(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_S)
            if not self._publishing:
                await self._commit_if_due()

    async def _commit_if_due(self) -> None:
        """Not with each batch: a commit costs more than the few records it is about, and a repeat is harmless."""
        now = asyncio.get_running_loop().time()
        if self._uncommitted and now >= self._commit_at:
            self._uncommitted, self._commit_at = False, now + COMMIT_S
            await self.consumer.commit()

    async def _messages(self, records: Sequence[Raw]) -> AsyncIterator[Published]:
        for raw in records:
            try:
                event = decode(raw.topic, raw.value)
            except Malformed as exc:
                _log.warning("malformed record skipped", topic=raw.topic, cause=str(exc))
                continue
            for published in direct(event):
                yield published
            if isinstance(event, MessageSent | ConversationChanged | MediaProcessed):
                for published in await self._content(event):
                    yield published

    async def _content(self, event: MessageSent | ConversationChanged | MediaProcessed) -> list[Published]:
        change = frames.change_of(event)
        if change is None:
            return []
        if isinstance(event, ConversationChanged):
            self._members.pop(change.conversation_id, None)
            if event.kind is ChangeKind.MEMBER_REMOVED:
                self._budget.without(change.conversation_id, channels.user_messages(event.user_id))
            return [to_room(change)]
        id_, frame = change.conversation_id, frames.of_change(change)
        hint = channels.envelope(id_, frame)
        hints = [(channel, hint) for channel in await self._channels_of(id_)]
        now = asyncio.get_running_loop().time()
        room = (channels.messages(id_), channels.envelope(change.seq, frame))
        return [room, *self._budget.spend(id_, hints, now)]

    async def _channels_of(self, conversation_id: str) -> Sequence[str]:
        """Those of the members."""
        now = asyncio.get_running_loop().time()
        until, found = self._members.get(conversation_id, (0.0, ()))
        if now < until:
            return found
        try:
            found = [channels.user_messages(user) for user in await self.history.members(conversation_id)]
        except Unavailable:
            return found  # a hint less; the rooms do not depend on it
        if len(self._members) > _MOST_KNOWN:
            self._members.clear()
        self._members[conversation_id] = (now + MEMBERS_FOR_S, found)
        return found

    async def _release(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            if self._budget.holds:
                await self._publish(self._budget.due(asyncio.get_running_loop().time()))

    async def _publish(self, messages: Sequence[Published]) -> None:
        try:
            await self.fanout.publish(messages)
        except Unavailable:
            HINTS_LOST.inc(len(messages))
