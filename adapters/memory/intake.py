"""Twins of intake, conversations and outbox."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from adapters.memory.invitations import invite, join, note, standing
from adapters.memory.tables import ConversationRow, OutboxRow, Tables
from domain.changes import created_event, message_entry
from domain.conversations import Conversation, IdTaken, Member, Summary, Unread, check_change, check_seen
from domain.drafts import Accepted, BatchContext, Draft, Outcome, decide
from domain.errors import Unavailable
from domain.log_position import Position, loss
from domain.outbox import Entered, Loss, Owed, ReadAgain
from domain.policy import Standing
from schemas.clock import now
from schemas.codec import record
from schemas.ids import OUTBOX_SHARDS, outbox_shard
from schemas.messages import ChangeKind


@dataclass(slots=True)
class MemoryIntake:
    """Intake on dictionaries. Set ``down`` to make it unavailable; ``locked``: conversations that another has."""

    tables: Tables
    down: bool = False
    locked: set[str] = field(default_factory=set)

    async def accept_plain(self, drafts: Sequence[Draft]) -> Sequence[Accepted | None]:
        if self.down:
            raise Unavailable("the store is down")
        mine = [draft for draft in drafts if self._is_plain(draft)]
        stored = dict(zip((draft.message_id for draft in mine), await self.accept(mine), strict=True))
        found = [stored.get(draft.message_id) for draft in drafts]
        return [outcome if isinstance(outcome, Accepted) else None for outcome in found]

    def _is_plain(self, draft: Draft) -> bool:
        """Return True for a draft that is new, of a member, in a conversation that nobody holds."""
        is_member = draft.sender_id in self.tables.members.get(draft.conversation_id, {})
        is_known = (draft.sender_id, draft.client_message_id) in self.tables.keys
        return is_member and not is_known and draft.conversation_id not in self.locked

    async def accept(self, drafts: Sequence[Draft], *, wait: bool = False) -> Sequence[Outcome]:
        if self.down or (wait and any(draft.conversation_id in self.locked for draft in drafts)):
            raise Unavailable("the store is down, or a conversation stays locked")
        tables = self.tables
        context = BatchContext(
            heads={id_: row.last_seq for id_, row in tables.conversations.items()},
            held=self.locked,
            counts={},
            members={(id_, user) for id_, users in tables.members.items() for user in users},
            known={key: (tables.messages[id_], hash_) for key, (id_, hash_) in tables.keys.items()},
            replied={id_: m.conversation_id for id_, m in tables.messages.items()},
            media={id_: media for id_ in tables.uploads if (media := tables.media(id_)) is not None},
        )
        outcomes = decide(drafts, context, datetime.now(UTC))
        for draft, outcome in zip(drafts, outcomes, strict=True):
            if isinstance(outcome, Accepted) and not outcome.replayed:
                self._store(draft, outcome)
        return outcomes

    def _store(self, draft: Draft, accepted: Accepted) -> None:
        message, tables = accepted.message, self.tables
        tables.messages[message.message_id] = message
        if draft.client_message_id:
            tables.keys[draft.sender_id, draft.client_message_id] = (message.message_id, draft.body_hash)
        tables.writers.add((message.conversation_id, message.sender_id))
        tables.seen[message.conversation_id, message.sender_id] = message.seq
        tables.append(message_entry(message, draft.client_message_id, draft.body_hash))


@dataclass(slots=True)
class MemoryConversations:
    """Conversations on dictionaries."""

    tables: Tables

    async def create(
        self,
        conversation_id: str,
        title: str | None,
        owner: str,
        members: Sequence[str],
        *,
        invited: Sequence[str] = (),
        most_invitations: int = 0,
        request_hash: bytes = b"",
    ) -> bool:
        tables = self.tables
        if (taken := tables.conversations.get(conversation_id)) is not None:
            if request_hash and (taken.created_by, taken.request_hash) == (owner, request_hash):
                return False
            raise IdTaken
        invite(tables, conversation_id, invited, owner, most_invitations)
        everybody = sorted({owner, *members})
        tables.conversations[conversation_id] = ConversationRow(conversation_id, title, owner, request_hash)
        tables.members[conversation_id] = {u: "owner" if u == owner else "member" for u in everybody}
        event = created_event(conversation_id, title, owner, tuple(everybody), now(), tuple(invited), request_hash)
        tables.owe(conversation_id, 0, event)
        return True

    async def add(
        self,
        conversation_id: str,
        user_id: str,
        by: str,
        *,
        seen: Standing | None = None,
        reads_older: bool = True,
    ) -> None:
        tables = self.tables
        members = tables.members.get(conversation_id, {})
        check_change(ChangeKind.MEMBER_ADDED, members.get(by), user_id=user_id, by=by)
        if user_id in members:
            return
        check_seen(standing(tables, conversation_id, user_id), seen)
        join(tables, conversation_id, user_id, by, reads_older=reads_older)

    async def remove(self, conversation_id: str, user_id: str, by: str) -> None:
        tables = self.tables
        members, pair = tables.members.get(conversation_id, {}), (conversation_id, user_id)
        check_change(ChangeKind.MEMBER_REMOVED, members.get(by), user_id=user_id, by=by)
        if tables.invitations.pop(pair, None) is not None:
            note(tables, ChangeKind.INVITATION_ENDED, conversation_id, user_id, by)
        elif members.pop(user_id, None) is not None:
            tables.writers.discard(pair)
            tables.hidden_up_to.pop(pair, None)
            tables.former_members[pair] = by
            note(tables, ChangeKind.MEMBER_REMOVED, conversation_id, user_id, by)

    async def get(self, conversation_id: str, user_id: str) -> Conversation | None:
        members = self.tables.members.get(conversation_id, {})
        if user_id not in members:
            return None
        row = self.tables.conversations[conversation_id]
        return Conversation(
            conversation_id=conversation_id,
            title=row.title,
            head_seq=row.last_seq,
            members=[self._member(conversation_id, u, role) for u, role in sorted(members.items())],
            invited=sorted(user for id_, user in self.tables.invitations if id_ == conversation_id),
        )

    def _member(self, conversation_id: str, user_id: str, role: str) -> Member:
        delivered, read = self.tables.receipts.get((conversation_id, user_id), (0, 0))
        return Member(user_id=user_id, role=role, delivered_seq=delivered, read_seq=read)

    async def mine(self, user_id: str, before: tuple[datetime, str] | None, limit: int) -> Sequence[Summary]:
        rows = [self._summary(id_, user_id) for id_, users in self.tables.members.items() if user_id in users]
        rows.sort(key=lambda row: (row.last_at, row.conversation_id), reverse=True)
        return [row for row in rows if before is None or (row.last_at, row.conversation_id) < before][:limit]

    def _summary(self, conversation_id: str, user_id: str) -> Summary:
        row = self.tables.conversations[conversation_id]
        read = self.tables.read_up_to(conversation_id, user_id)
        hidden = self.tables.hidden_up_to.get((conversation_id, user_id), 0)
        log = [c.message for c in self.tables.changes[conversation_id] if c.message and c.seq > hidden]
        return Summary(
            conversation_id=conversation_id,
            title=row.title,
            head_seq=row.last_seq,
            last_at=row.last_at,
            my_read_seq=read,
            unread=sum(1 for m in log if m.seq > read),
            last_message=self.tables.messages[log[-1].message_id] if log else None,
        )

    async def unread(self, user_id: str) -> Unread:
        mine = [self._summary(id_, user_id).unread for id_, users in self.tables.members.items() if user_id in users]
        return Unread(sum(mine), sum(unread > 0 for unread in mine))


@dataclass(slots=True)
class MemoryOutbox:
    """Outbox that owns every shard it claimed."""

    tables: Tables
    owned: frozenset[int] = field(default_factory=frozenset)
    epoch: int = 0
    compared: int | None = None

    @property
    def shards(self) -> frozenset[int]:
        return self.owned

    async def claim(self) -> None:
        self.owned = frozenset(range(OUTBOX_SHARDS))

    async def unpublished(self, limit: int) -> Sequence[Owed]:
        owed = [
            (key, row)
            for key, row in self.tables.outbox.items()
            if not row.published and outbox_shard(key[0]) in self.owned
        ]
        waiting = {key[0] for key, row in owed if not row.again}
        repeats = Counter(key[0] for key, row in owed if row.again)
        owed.sort(key=lambda each: (each[0][0] not in waiting, repeats[each[0][0]], each[0]))
        return [_owed(conversation_id, row, part) for (conversation_id, _, part), row in owed[:limit]]

    async def mark(self, rows: Sequence[Owed], ends: Mapping[str, int]) -> bool:
        if self.epoch == self.tables.epoch:
            if (noted := self.tables.noted) is not None:
                further = {place: max(end, noted.ends.get(place, 0)) for place, end in ends.items()}
                self.tables.noted = replace(noted, ends={**noted.ends, **further})
            for row in rows:
                stored = self.tables.outbox[row.conversation_id, row.seq, row.part]
                stored.published |= stored.event.event_id == row.event_id  # another may be owed in its place by now
        return self.epoch == self.tables.epoch

    async def compare(self, found: Position, again: ReadAgain | None = None) -> Loss | None:
        tables = self.tables
        noted, what, rows = tables.noted, None, 0
        if again is not None and noted is not None and loss(noted, found) is not None:
            found = await again(noted)
        if noted is not None:
            what = loss(noted, found)
        if what is not None:
            tables.epoch += 1
            published = [row for row in tables.outbox.values() if row.published]
            for row in published:
                row.published, row.replay, row.again = False, True, True
            rows = len(published)
            found = replace(found, replication=noted.replication if noted else found.replication)
        if what is not None or not found.missing:
            tables.noted = found
        known = what is None and self.compared not in (None, tables.epoch)
        self.epoch = self.compared = tables.epoch
        if known:
            return Loss("another relay has found a loss", 0, known=True)
        return None if what is None else Loss(what, rows)

    async def begin_epoch(self) -> str:
        return self.tables.epochs.id

    async def noted(self) -> Position | None:
        return self.tables.noted

    async def first_lacking(self, events: Sequence[Entered]) -> int | None:
        return next((nth for nth, event in enumerate(events) if not self.tables.has(event)), None)

    async def noted_replication(self) -> int | None:
        return None if self.tables.noted is None else self.tables.noted.replication


def _owed(conversation_id: str, row: OutboxRow, part: str) -> Owed:
    made = record(row.event, producer="memory")
    return Owed(conversation_id, row.seq, made.topic, made.value, row.event.event_id, part, row.replay)
