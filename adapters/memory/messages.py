"""Twins of messages as clients read them, and of receipts that come over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters.memory.tables import Tables
from domain.conversations import NO_CONVERSATION
from domain.errors import Invalid, NotFound
from domain.messages import MemberReceipt
from domain.receipts import fold, place_of
from domain.watermarks import DEVICES_PER_MEMBER
from schemas.events import ReceiptRecorded
from schemas.messages import Message


@dataclass(frozen=True, slots=True)
class MemoryMessages:
    """Messages on dictionaries."""

    tables: Tables

    async def page(
        self, conversation_id: str, after: int | None, before: int | None, limit: int, hidden_up_to: int = 0
    ) -> Sequence[Message]:
        found = sorted(
            (
                message
                for message in self.tables.messages.values()
                if message.conversation_id == conversation_id
                and message.seq > max(after or 0, hidden_up_to)
                and (before is None or message.seq < before)
            ),
            key=lambda message: message.seq,
        )
        return found[:limit] if after is not None else found[-limit:]

    async def one(self, message_id: str, user_id: str) -> Message | None:
        message = self.tables.messages.get(message_id)
        if message is None or not self.tables.is_readable(message.conversation_id, message.seq, user_id):
            return None
        return message

    async def find(self, message_ids: Sequence[str]) -> Mapping[str, Message]:
        return {id_: self.tables.messages[id_] for id_ in message_ids if id_ in self.tables.messages}

    async def receipts(self, message_id: str) -> Sequence[MemberReceipt]:
        message = self.tables.messages.get(message_id)
        members = self.tables.members[message.conversation_id] if message else ()
        return [self._receipt(message, user) for user in sorted(members) if message and user != message.sender_id]

    def _receipt(self, message: Message, user_id: str) -> MemberReceipt:
        key = (message.conversation_id, user_id)
        delivered, read = self.tables.receipts.get(key, (0, 0))
        delivered_at, read_at = self.tables.receipt_times.get(key, (None, None))
        if read >= message.seq:
            return MemberReceipt(user_id, "read", delivered_at, read_at)
        if delivered >= message.seq:
            return MemberReceipt(user_id, "delivered", delivered_at, None)
        return MemberReceipt(user_id, "sent", None, None)


@dataclass(frozen=True, slots=True)
class MemoryReceipts:
    """Receipts, owed to Kafka in the places of their members."""

    tables: Tables
    devices: int = DEVICES_PER_MEMBER

    async def record(self, receipt: ReceiptRecorded) -> None:
        if receipt.user_id not in self.tables.members.get(receipt.conversation_id, {}):
            raise NotFound(NO_CONVERSATION)
        head = self.tables.conversations[receipt.conversation_id].last_seq
        if receipt.delivered_seq > head:
            raise Invalid(
                f"deliveredSeq and readSeq must be at most {head}, the head", [("$", "must not be beyond the head")]
            )
        part = place_of(receipt, self.devices)
        row = self.tables.outbox.get((receipt.conversation_id, 0, part))
        before = row.event if row is not None else None
        assert before is None or isinstance(before, ReceiptRecorded)
        owed = fold(receipt, before, pending=row is not None and not row.published)
        self.tables.owe(receipt.conversation_id, 0, owed, part)
