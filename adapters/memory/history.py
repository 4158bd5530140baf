"""Twin of the change log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapters.memory.tables import Tables
from domain.history import Heads, Membership, Participant
from schemas.ids import NO_DEVICE
from schemas.messages import Change, ChangeKind


@dataclass(frozen=True, slots=True)
class MemoryHistory:
    """History on dictionaries."""

    tables: Tables

    async def membership(self, conversation_id: str, user_id: str) -> Membership | None:
        if user_id not in self.tables.members.get(conversation_id, {}):
            return None
        log = self.tables.changes.get(conversation_id, [])
        came = [c.seq for c in log if c.kind == ChangeKind.MEMBER_ADDED and (c.data or {}).get("userId") == user_id]
        return Membership(max(came, default=0), self.tables.hidden_up_to.get((conversation_id, user_id), 0))

    async def members(self, conversation_id: str, limit: int | None = None) -> Sequence[str]:
        return sorted(self.tables.members.get(conversation_id, {}))[:limit]

    async def heads(self, conversation_ids: Sequence[str]) -> Heads:
        rows = self.tables.conversations
        return Heads(self.tables.epochs.id, {id_: rows[id_].last_seq for id_ in conversation_ids if id_ in rows})

    async def shared(self, conversation_id: str, epoch: str) -> int:
        row = self.tables.conversations.get(conversation_id)
        return 0 if row is None else self.tables.epochs.shared(conversation_id, epoch, row.last_seq)

    async def changes(self, conversation_id: str, after: int, up_to: int, limit: int) -> Sequence[Change]:
        log = self.tables.changes.get(conversation_id, [])  # dense from 1
        return [self.tables.current(change) for change in log[after : min(up_to, after + limit)]]

    async def place_of(self, message_id: str) -> tuple[str, int] | None:
        message = self.tables.messages.get(message_id)
        return (message.conversation_id, message.seq) if message else None

    async def participants(self, conversation_id: str, limit: int) -> Sequence[Participant]:
        return [self._participant(conversation_id, user) for user in await self.members(conversation_id, limit)]

    async def reached(self, conversation_id: str, user_id: str, device: str) -> tuple[int, int]:
        if device == NO_DEVICE:
            return self.tables.receipts.get((conversation_id, user_id), (0, 0))
        return self.tables.device_receipts.get((conversation_id, user_id, device), (0, 0))

    async def small_conversations(self, user_id: str, max_members: int) -> Sequence[Participant]:
        return [
            self._participant(id_, user_id)
            for id_, members in self.tables.members.items()
            if user_id in members and len(members) <= max_members
        ]

    def _participant(self, conversation_id: str, user_id: str) -> Participant:
        return Participant(conversation_id, user_id, (conversation_id, user_id) in self.tables.writers)
