"""Twin of the facts behind records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from adapters.memory.effects import MemoryNotifications
from adapters.memory.tables import Tables
from domain.changes import created_event
from domain.errors import Unavailable
from domain.facts import Found, Place, Progress, Wanted
from schemas.clock import now, wire_time
from schemas.events import ConversationChanged, NotificationSent
from schemas.messages import Change, Status


@dataclass(slots=True)
class MemoryFacts:
    """Facts on dictionaries. Set ``down`` to make them unavailable."""

    tables: Tables
    notifications: MemoryNotifications | None = None
    down: bool = False
    queries: int = 0
    """Queries so far."""
    since: str = field(default_factory=now)
    """The time of every notification."""

    async def find(self, wanted: Wanted) -> Found:
        self.queries += 1
        if self.down:
            raise Unavailable("the store does not answer")
        messages = self.tables.messages
        return Found(
            entries=dict(self._entries(wanted)),
            creations=dict(self._creations(wanted)),
            members={
                (id_, user): self._progress(id_, user)
                for id_, user in wanted.members
                if user in self.tables.members.get(id_, {})
            },
            messages={
                id_: (messages[id_].conversation_id, Status[messages[id_].status.upper()])
                for id_ in wanted.messages
                if id_ in messages
            },
            notifications={n.notification_id: n for n in self._sent() if n.notification_id in wanted.notifications},
        )

    def _entries(self, wanted: Wanted) -> Iterator[tuple[Place, Change]]:
        for id_, seq in wanted.entries:
            log = self.tables.changes.get(id_, [])  # dense from 1
            if 0 < seq <= len(log):
                yield (id_, seq), self.tables.current(log[seq - 1])

    def _creations(self, wanted: Wanted) -> Iterator[tuple[str, ConversationChanged]]:
        for id_ in wanted.creations:
            if (row := self.tables.conversations.get(id_)) is not None:
                members = tuple(sorted(self.tables.members.get(id_, {})))
                invited = tuple(sorted(user for place, user in self.tables.invitations if place == id_))
                yield id_, created_event(id_, row.title, row.created_by, members, wire_time(row.created_at), invited)

    def _progress(self, conversation_id: str, user_id: str) -> Progress:
        key = (conversation_id, user_id)
        return Progress(*self.tables.receipts.get(key, (0, 0)), *self.tables.receipt_times.get(key, (None, None)))

    def _sent(self) -> Iterator[NotificationSent]:
        for draft in self.notifications.drafts.values() if self.notifications else ():
            if draft.user_id in self.tables.members.get(draft.conversation_id, {}):
                yield NotificationSent(
                    notification_id=draft.notification_id,
                    conversation_id=draft.conversation_id,
                    message_id=draft.message_id,
                    seq=draft.seq,
                    user_id=draft.user_id,
                    channel=draft.channel,
                    at=self.since,
                )
