"""Twins of the stores of the stages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import msgspec

from adapters.memory.tables import Tables
from domain.analytics import MinuteCount, Total
from domain.notifications import Audience, NotificationDraft, Unpublished
from domain.watermarks import Advances, Marked, Watermark, WatermarkAdvance, merge, of_members, split, step
from schemas.clock import now
from schemas.messages import Message, Status

_RANK = {status.wire: status for status in Status}


@dataclass(slots=True)
class MemoryStatuses:
    """Statuses on dictionaries."""

    tables: Tables

    async def mark_sent(self, claimed: Sequence[Message]) -> Marked:
        found = {
            m.message_id: self.tables.messages[m.message_id] for m in claimed if m.message_id in self.tables.messages
        }
        for message in claimed:
            stored = found.get(message.message_id)
            if stored and (stored.conversation_id, stored.seq) == (message.conversation_id, message.seq):
                self._raise(message.message_id, Status.SENT)
        return Marked(found, {id_ for id_, message in found.items() if self._is_answer(message)})

    def _is_answer(self, message: Message) -> bool:
        tables, pair = self.tables, (message.conversation_id, message.sender_id)
        log = [change.message for change in tables.changes[message.conversation_id] if change.message]
        before = [m for m in log if m.seq < message.seq][-1:]
        read = max(tables.receipts.get(pair, (0, 0))[1], tables.joined.get(pair, 0))
        return any(m.sender_id != message.sender_id and m.seq > read for m in before)

    def _raise(self, message_id: str, status: Status) -> bool:
        message = self.tables.messages[message_id]
        if _RANK[message.status] >= status:
            return False
        self.tables.messages[message_id] = msgspec.structs.replace(message, status=status.wire)
        return True

    async def sent(self, message_ids: Sequence[str]) -> Collection[str]:
        messages = self.tables.messages
        return {id_ for id_ in message_ids if id_ in messages and _RANK[messages[id_].status] >= Status.SENT}

    async def watermarks(self, members: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], tuple[int, int]]:
        return {member: self.tables.receipts[member] for member in members if member in self.tables.receipts}

    async def advance(self, marks: Sequence[Watermark], everybody_up_to: int) -> Advances:
        advances = {Status.DELIVERED: list[WatermarkAdvance](), Status.READ: list[WatermarkAdvance]()}
        heads = {
            (id_, user): self.tables.conversations[id_].last_seq
            for id_, users in self.tables.members.items()
            for user in users
        }
        mine, refused = split(marks, heads)
        for mark in merge(mine):
            self._raise_device(mark)
        members, unfinished = of_members(mine), set[tuple[str, str]]()
        for mark in members:
            most = self._within(mark, step(len(members)))
            if most != mark:
                unfinished.add((mark.conversation_id, mark.user_id))
            for moved in self._fold_one(most, everybody_up_to):
                advances[moved.status].append(moved)
        return Advances([*advances[Status.DELIVERED], *advances[Status.READ]], refused, unfinished)

    def _within(self, mark: Watermark, most: int) -> Watermark:
        """Return the mark, at most so many seqs beyond what is stored."""
        delivered, read = self.tables.receipts.get((mark.conversation_id, mark.user_id), (0, 0))
        reached = min(mark.delivered_seq, delivered + most)
        return replace(mark, delivered_seq=reached, read_seq=min(mark.read_seq, read + most, max(delivered, reached)))

    def _raise_device(self, mark: Watermark) -> None:
        key = (mark.conversation_id, mark.user_id, mark.device)
        delivered, read = self.tables.device_receipts.get(key, (0, 0))
        raised = max(delivered, mark.delivered_seq), max(read, mark.read_seq)
        if raised != (delivered, read):
            self.tables.raise_device(key, raised)

    def _fold_one(self, mark: Watermark, everybody_up_to: int) -> list[WatermarkAdvance]:
        key = (mark.conversation_id, mark.user_id)
        old_delivered, old_read = self.tables.receipts.get(key, (0, 0))
        given = max(mark.delivered_seq, mark.read_seq), mark.read_seq
        late = not ((given[0] >= old_delivered and given[0]) or (given[1] >= old_read and given[1]))
        if late:
            return []
        delivered, read = max(old_delivered, given[0]), max(old_read, given[1])
        self.tables.receipts[key] = (delivered, read)
        times = self.tables.receipt_times.get(key, (None, None))
        moved_on = (delivered > old_delivered, read > old_read)
        self.tables.receipt_times[key] = (now() if moved_on[0] else times[0], now() if moved_on[1] else times[1])
        moved = []
        if delivered > old_delivered or read == old_read:
            start = min(old_delivered, delivered - 1)
            moved.append(self._cover(key, Status.DELIVERED, (start, delivered), (delivered, read), everybody_up_to))
        if read > old_read or (read > 0 and delivered == old_delivered):
            moved.append(
                self._cover(key, Status.READ, (min(old_read, read - 1), read), (delivered, read), everybody_up_to)
            )
        return [m for m in moved if m.notify or m.status is Status.READ]

    def _cover(
        self,
        key: tuple[str, str],
        status: Status,
        span: tuple[int, int],
        watermark: tuple[int, int],
        everybody_up_to: int,
    ) -> WatermarkAdvance:
        conversation_id, user_id = key
        covered = [
            m
            for m in self.tables.messages.values()
            if m.conversation_id == conversation_id and span[0] < m.seq <= span[1] and m.sender_id != user_id
        ]
        raised = [m for m in covered if self._raise(m.message_id, status)]
        small = len(self.tables.members[conversation_id]) <= everybody_up_to
        return WatermarkAdvance(
            conversation_id=conversation_id,
            user_id=user_id,
            status=status,
            seq=span[1],
            delivered_seq=watermark[0],
            read_seq=watermark[1],
            message_ids=tuple(m.message_id for m in raised),
            notify=tuple(sorted({m.sender_id for m in (covered if small else raised)})),
        )


@dataclass(slots=True)
class MemoryNotifications:
    """Notifications by message, recipient and channel."""

    tables: Tables
    drafts: dict[tuple[str, str, str], NotificationDraft] = field(default_factory=dict)
    published: dict[str, tuple[int, frozenset[str]]] = field(default_factory=dict)
    """Message id → epoch of the log, and the notifications that it then had."""

    seen: dict[str, datetime] = field(default_factory=dict)
    """Notification id → when its recipient has marked it as seen."""

    def seen_at(self, draft: NotificationDraft) -> datetime | None:
        """Return when a notification was seen: marked, or its message read; None while it is open."""
        marked = self.seen.get(draft.notification_id)
        if marked is None and draft.seq <= self.tables.read_up_to(draft.conversation_id, draft.user_id):
            return datetime.now(UTC)
        return marked

    async def member_counts(self, conversation_ids: Sequence[str]) -> Mapping[str, int]:
        return {id_: len(self.tables.members[id_]) for id_ in conversation_ids if id_ in self.tables.members}

    async def audiences(self, newest: Mapping[str, int], each_max_members: int) -> Mapping[str, Audience]:
        found = {id_: self._audience(id_, seq, each_max_members) for id_, seq in newest.items()}
        return {id_: audience for id_, audience in found.items() if audience.delivered}

    def _audience(self, conversation_id: str, newest: int, each_max_members: int) -> Audience:
        users = sorted(self.tables.members.get(conversation_id, {}))
        collapsed = len(users) > each_max_members
        reached = {user: self.tables.reached(conversation_id, user) for user in users}
        left_out = self._notified(conversation_id) if collapsed else set[str]()
        delivered = {user: seq for user, seq in reached.items() if seq < newest and user not in left_out}
        return Audience(delivered, collapsed)

    def _notified(self, conversation_id: str) -> set[str]:
        """Return the members who have a notification of the conversation that is neither seen nor delivered."""
        return {
            draft.user_id
            for draft in self.drafts.values()
            if draft.conversation_id == conversation_id
            and self.seen_at(draft) is None
            and draft.seq > self.tables.reached(conversation_id, draft.user_id)
        }

    async def add(self, drafts: Sequence[NotificationDraft], collapsed: Collection[str] = ()) -> None:
        tables = self.tables
        for draft in drafts:
            id_, user = draft.conversation_id, draft.user_id
            is_member = user in tables.members.get(id_, {})
            if not is_member or draft.seq <= tables.read_up_to(id_, user):
                continue
            if id_ in collapsed and user in self._notified(id_):
                continue
            self.drafts.setdefault((draft.message_id, draft.user_id, draft.channel), draft)

    async def stored(self, message_ids: Sequence[str]) -> Sequence[NotificationDraft]:
        found = [draft for draft in self.drafts.values() if draft.message_id in message_ids]
        return sorted(found, key=lambda n: (n.conversation_id, n.seq, n.user_id))

    def _of(self, message_ids: Sequence[str]) -> list[NotificationDraft]:
        return [draft for draft in self.drafts.values() if draft.message_id in message_ids]

    async def told(self, message_ids: Sequence[str]) -> Collection[str]:
        return {
            f"{draft.message_id}:{draft.user_id}:{draft.channel}"
            for draft in self._of(message_ids)
            if draft.notification_id in self.published.get(draft.message_id, (0, frozenset()))[1]
        }

    async def unpublished(self, message_ids: Sequence[str]) -> Unpublished:
        now = self.tables.epoch
        marks = {id_: self.published.get(id_, (now, frozenset[str]())) for id_ in message_ids}
        missing = {
            draft.notification_id
            for draft in self._of(message_ids)
            if marks[draft.message_id][0] < now or draft.notification_id not in marks[draft.message_id][1]
        }
        return Unpublished(missing, now)

    async def note_published(self, notification_ids: Sequence[str], epoch: int) -> None:
        for id_ in {draft.message_id for draft in self.drafts.values() if draft.notification_id in notification_ids}:
            ids = [draft.notification_id for draft in self._of([id_])]
            last = max(ids.index(one) for one in ids if one in notification_ids)
            noted, before = self.published.get(id_, (epoch, frozenset[str]()))
            if noted <= epoch:
                kept = before if noted == epoch else frozenset[str]()
                self.published[id_] = (epoch, kept | frozenset(ids[: last + 1]))


@dataclass(slots=True)
class MemoryCounts:
    """Counts with a cursor for each conversation."""

    cursors: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    totals: defaultdict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))

    async def add(self, ticks: Sequence[MinuteCount]) -> Sequence[Total]:
        for tick in sorted(ticks, key=lambda t: t.seq):
            if tick.seq > self.cursors[tick.conversation_id]:
                self.cursors[tick.conversation_id] = tick.seq
                self.totals[tick.conversation_id, tick.minute] += 1
        named = sorted({(t.conversation_id, t.minute) for t in ticks})
        return [Total(conversation, minute, self.totals[conversation, minute]) for conversation, minute in named]
