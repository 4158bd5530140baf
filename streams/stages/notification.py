"""Notification: members whom a message does not reach find it in their notifications.

reads   message.created
writes  notification.sent
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from domain.errors import Unavailable
from domain.messages import Messages
from domain.notifications import NotificationDraft, Notifications, Undecided, missed, undelivered
from domain.presence import Registry
from domain.receipts import ReceiptBarrier, ReceiptProgress
from schemas.clock import now
from schemas.events import AnyEvent, MessageCreated, NotificationSent
from schemas.ids import is_uuid, new_id
from schemas.messages import Message
from streams.due_notifications import DueNotifications
from streams.lanes import THROUGHPUT
from streams.stage import Missing, Stage
from streams.stored_messages import WithStoredMessages

EACH_MAX_MEMBERS = 64
AFTER_S, RECEIPTS_MAX_WAIT_S = 6.0, 120.0
_MEMBERS_MAX = 1_000
"""Members of one statement and of one look into the registry."""
Away: TypeAlias = Callable[[Sequence[str]], Awaitable[Collection[str]]]
"""Users → those of them who are notified now."""


@dataclass(frozen=True, slots=True)
class HandleNotification:
    """Rule of the stage: notifications for members whom a message does not reach.

    Who certainly has no connection is notified at once. Of all others presence says too little: their device may hear
    nothing. The message is deferred for ``after_s`` seconds, and who has not received it by then is notified.

    In conversations of more than ``each_max_members`` a member has at most one notification that is neither seen nor
    delivered, so that a message to thousands does not write thousands of rows each time.
    """

    notifications: Notifications
    registry: Registry
    undecided: Undecided
    each_max_members: int = EACH_MAX_MEMBERS
    after_s: float = AFTER_S

    async def __call__(self, events: Sequence[AnyEvent]) -> Sequence[AnyEvent]:
        created = [event.message for event in events if isinstance(event, MessageCreated)]
        return await self._notify(created, self._away)

    async def decide(self, messages: Sequence[Message]) -> Sequence[AnyEvent]:
        """Notify whom deferred messages have not reached, whatever presence says; return all their completions.

        Raises Unavailable.
        """
        return await self._notify(messages, _everybody)

    async def _away(self, user_ids: Sequence[str]) -> Collection[str]:
        try:
            return await self.registry.away(user_ids)
        except Unavailable:
            return ()  # then receipts decide

    async def _notify(self, all_of_them: Sequence[Message], away: Away) -> Sequence[AnyEvent]:
        messages: defaultdict[str, list[Message]] = defaultdict(list)
        for message in sorted(all_of_them, key=lambda message: message.seq):
            messages[message.conversation_id].append(message)
        newest = {id_: some[-1].seq for id_, some in messages.items()}
        audiences = await self.notifications.audiences(newest, self.each_max_members)
        collapsed = [id_ for id_, audience in audiences.items() if audience.collapsed]
        ids = [message.message_id for message in all_of_them]
        stored = await self.notifications.stored(ids)
        known = {(notice.message_id, notice.user_id) for notice in stored}
        waiting = [(id_, user) for id_, audience in audiences.items() for user in audience.delivered]
        added, open_ = 0, dict[str, Message]()
        for begin in range(0, len(waiting), _MEMBERS_MAX):
            members = waiting[begin : begin + _MEMBERS_MAX]
            gone = await away(sorted({user for _, user in members}))
            drafts = [
                NotificationDraft(new_id(), message.message_id, id_, message.seq, user)
                for id_, user in members
                if user in gone
                for message in missed(messages[id_], user, audiences[id_], known)
            ]
            open_ |= {
                message.message_id: message
                for id_, user in members
                if user not in gone and any(message.message_id not in open_ for message in messages[id_])
                for message in undelivered(messages[id_], user, audiences[id_], known)
            }
            if drafts:
                await self.notifications.add(drafts, collapsed)
            added += len(drafts)
        if open_:
            await self.undecided.defer(list(open_.values()), self.after_s)
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
        return await self.told_of([event.message.message_id for event in events if isinstance(event, MessageCreated)])

    async def told_of(self, message_ids: Sequence[str]) -> Collection[str]:
        """Return the ids of notification.sent of these messages that were published before."""
        return await self.notifications.told(message_ids)

    async def missing(self, completions: Sequence[AnyEvent]) -> Missing:
        """Return the completions that the log may not have: of new notifications, and after a crash or a loss."""
        unpublished = await self.notifications.unpublished(_messages(completions))
        missing = [
            event
            for event in completions
            if not isinstance(event, NotificationSent) or event.notification_id in unpublished.ids
        ]
        return Missing(missing, unpublished.epoch)

    async def done(self, written: Missing) -> None:
        """Note that the log has these completions."""
        ids = [event.notification_id for event in written.completions if isinstance(event, NotificationSent)]
        await self.notifications.note_published(ids, written.epoch)


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


async def _everybody(user_ids: Sequence[str]) -> Collection[str]:
    return user_ids


def create(
    notifications: Notifications,
    registry: Registry,
    messages: Messages,
    undecided: Undecided,
    receipts: ReceiptProgress,
    *,
    each_max_members: int = EACH_MAX_MEMBERS,
    after_s: float = AFTER_S,
    receipts_max_wait_s: float = RECEIPTS_MAX_WAIT_S,
) -> Stage:
    """Return the stage ``notification``."""
    rule = HandleNotification(notifications, registry, undecided, each_max_members, after_s)
    barrier = ReceiptBarrier(receipts, after_s, receipts_max_wait_s)
    return Stage(
        "notification",
        (MessageCreated,),
        (NotificationSent,),
        WithStoredMessages(messages, rule),
        policy=THROUGHPUT,
        weigh=rule.weigh,
        told=rule.told,
        publication=rule,
        beside=DueNotifications(undecided, messages, rule, barrier),
    )
