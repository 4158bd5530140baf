"""Notification: members without a live connection find the message in their notifications.

reads   message.created
writes  notification.sent
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from domain.messages import Messages
from domain.notifications import NotificationDraft, Notifications
from domain.presence import Registry
from schemas.clock import now
from schemas.events import AnyEvent, MessageCreated, NotificationSent
from schemas.ids import new_id
from schemas.messages import Message
from streams.batch import Stage
from streams.lanes import THROUGHPUT
from streams.stored_messages import WithStoredMessages


def recipients(message: Message, members: Mapping[str, int], connected: frozenset[str]) -> list[str]:
    """Return the members who do not see the message live and have it on no device yet; its sender is none of them."""
    return [
        user
        for user, delivered in members.items()
        if user != message.sender_id and user not in connected and delivered < message.seq
    ]


@dataclass(frozen=True, slots=True)
class HandleNotification:
    """Rule of the stage: notifications for members who are away. While Redis does not answer, the stage waits."""

    notifications: Notifications
    registry: Registry

    async def __call__(self, events: Sequence[AnyEvent]) -> Sequence[AnyEvent]:
        messages = [event.message for event in events if isinstance(event, MessageCreated)]
        members = await self.notifications.members(sorted({m.conversation_id for m in messages}))
        everybody = sorted({user for users in members.values() for user in users})
        connected = await self.registry.connected(everybody)
        drafts = [
            NotificationDraft(new_id(), message.message_id, message.conversation_id, message.seq, user)
            for message in messages
            for user in recipients(message, members.get(message.conversation_id, {}), connected)
        ]
        stored = await self.notifications.add([message.message_id for message in messages], drafts)
        return [_sent(notice) for notice in stored]


def _sent(notice: NotificationDraft) -> NotificationSent:
    return NotificationSent(
        conversation_id=notice.conversation_id,
        notification_id=notice.notification_id,
        message_id=notice.message_id,
        seq=notice.seq,
        user_id=notice.user_id,
        channel=notice.channel,
        at=now(),
    )


def create(notifications: Notifications, registry: Registry, messages: Messages) -> Stage:
    """Return the stage ``notification``."""
    rule = WithStoredMessages(messages, HandleNotification(notifications, registry))
    return Stage("notification", (MessageCreated,), (NotificationSent,), rule, policy=THROUGHPUT)
