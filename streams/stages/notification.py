"""Notification: members without a live connection find the message in their notifications.

reads   message.created
writes  notification.sent
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from domain.messages import Messages
from domain.notifications import NotificationDraft, Notifications, missed
from domain.presence import Registry
from schemas.clock import now
from schemas.events import AnyEvent, MessageCreated, NotificationSent
from schemas.ids import is_uuid, new_id
from schemas.messages import Message
from streams.lanes import THROUGHPUT
from streams.stage import Stage
from streams.stored_messages import WithStoredMessages

EACH_MAX_MEMBERS = 64
_MEMBERS_MAX = 1_000
"""Members of one statement and of one look into the registry."""


@dataclass(frozen=True, slots=True)
class HandleNotification:
    """Rule of the stage: notifications for members who are away. While Redis does not answer, the stage waits.

    In conversations of more than ``each_max_members`` a member has at most one notification that is neither seen nor
    delivered, so that a message to thousands does not write thousands of rows each time.
    """

    notifications: Notifications
    registry: Registry
    each_max_members: int = EACH_MAX_MEMBERS

    async def __call__(self, events: Sequence[AnyEvent]) -> Sequence[AnyEvent]:
        messages: defaultdict[str, list[Message]] = defaultdict(list)
        for event in events:
            if isinstance(event, MessageCreated):
                messages[event.message.conversation_id].append(event.message)
        for some in messages.values():
            some.sort(key=lambda message: message.seq)
        newest = {id_: some[-1].seq for id_, some in messages.items()}
        audiences = await self.notifications.audiences(newest, self.each_max_members)
        ids = [message.message_id for some in messages.values() for message in some]
        stored = await self.notifications.stored(ids)
        known = {(notice.message_id, notice.user_id) for notice in stored}
        waiting = [(id_, user) for id_, audience in audiences.items() for user in audience.delivered]
        added = 0
        for begin in range(0, len(waiting), _MEMBERS_MAX):
            members = waiting[begin : begin + _MEMBERS_MAX]
            connected = await self.registry.connected(sorted({user for _, user in members}))
            drafts = [
                NotificationDraft(new_id(), message.message_id, id_, message.seq, user)
                for id_, user in members
                if user not in connected
                for message in missed(messages[id_], user, audiences[id_], known)
            ]
            if drafts:
                await self.notifications.add(drafts)
            added += len(drafts)
        return [_sent(notice) for notice in (await self.notifications.stored(ids) if added else stored)]

    async def weigh(self, conversation_ids: Sequence[str]) -> Sequence[int]:
        """Return how many notifications each message may make: in a large conversation, only the first makes any."""
        members = await self.notifications.member_counts(sorted({id_ for id_ in conversation_ids if is_uuid(id_)}))
        weights, weighed = list[int](), set[str]()
        for id_ in conversation_ids:
            count = members.get(id_, 1)
            weights.append(0 if id_ in weighed and count > self.each_max_members else count)
            weighed.add(id_)
        return weights

    async def told(self, events: Sequence[AnyEvent]) -> Collection[str]:
        """Return the ids of notification.sent of these messages that were published before."""
        return await self.notifications.told(
            [event.message.message_id for event in events if isinstance(event, MessageCreated)]
        )

    async def missing(self, completions: Sequence[AnyEvent]) -> Sequence[AnyEvent]:
        """Return the completions that the log may not have: of new notifications, and after a crash or a loss."""
        unpublished = await self.notifications.unpublished(_messages(completions))
        return [
            event
            for event in completions
            if not isinstance(event, NotificationSent) or event.notification_id in unpublished
        ]

    async def done(self, completions: Sequence[AnyEvent]) -> None:
        """Note that the log has these completions."""
        await self.notifications.note_published(_messages(completions))


def _messages(completions: Sequence[AnyEvent]) -> list[str]:
    return sorted({event.message_id for event in completions if isinstance(event, NotificationSent)})


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


def create(
    notifications: Notifications, registry: Registry, messages: Messages, each_max_members: int = EACH_MAX_MEMBERS
) -> Stage:
    """Return the stage ``notification``."""
    rule = HandleNotification(notifications, registry, each_max_members)
    return Stage(
        "notification",
        (MessageCreated,),
        (NotificationSent,),
        WithStoredMessages(messages, rule),
        policy=THROUGHPUT,
        weigh=rule.weigh,
        told=rule.told,
        publication=rule,
    )
