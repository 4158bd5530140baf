"""Receipts that come over HTTP: owed to the log by the outbox, so that an answered one is not lost."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.postgres import change_log
from adapters.postgres.pool import Pool, transaction
from adapters.postgres.statements import load
from domain.changes import OutboxEntry
from domain.errors import Invalid, NotFound
from schemas.events import ReceiptRecorded
from schemas.ids import is_uuid

_SQL = load("receipts")


@dataclass(frozen=True, slots=True)
class PostgresReceipts:
    """Where receipts are recorded."""

    pool: Pool

    async def record(self, receipt: ReceiptRecorded) -> None:
        """Owe it to the log. Idempotent. Raises NotFound for those who are no members, Invalid beyond the head,
        Unavailable."""
        id_ = receipt.conversation_id
        if not is_uuid(id_):
            raise NotFound("no such conversation, or you are not a member of it")
        async with transaction(self.pool) as conn:
            member = {"conversation_id": id_, "user_id": receipt.user_id}
            head = await (await conn.execute(_SQL["head"], member)).fetchone()
            if head is None:
                raise NotFound("no such conversation, or you are not a member of it")
            if receipt.delivered_seq > head[0]:
                raise Invalid(f"a seq is beyond the head, which is {head[0]}", [("$", "beyond the head")])
            part = f"{receipt.user_id}:{receipt.device}:{receipt.read_seq}"
            await change_log.owe_again(conn, [OutboxEntry(receipt.delivered_seq, receipt, part)])
