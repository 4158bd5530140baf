"""Receipts that come over HTTP: owed to Kafka through the outbox, so that no answered receipt is lost."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.postgres import change_log
from adapters.postgres.pool import Pool, transaction
from adapters.postgres.statements import load
from domain.changes import OutboxEntry
from domain.conversations import NO_CONVERSATION
from domain.errors import Invalid, NotFound
from schemas.events import ReceiptRecorded
from schemas.ids import is_uuid

_SQL = load("receipts")


@dataclass(frozen=True, slots=True)
class PostgresReceipts:
    """Receipts as rows of the outbox."""

    pool: Pool

    async def record(self, receipt: ReceiptRecorded) -> None:
        id_ = receipt.conversation_id
        if not is_uuid(id_):
            raise NotFound(NO_CONVERSATION)
        async with transaction(self.pool) as conn:
            member = {"conversation_id": id_, "user_id": receipt.user_id}
            head = await (await conn.execute(_SQL["head"], member)).fetchone()
            if head is None:
                raise NotFound(NO_CONVERSATION)
            if receipt.delivered_seq > head[0]:
                raise Invalid(
                    f"deliveredSeq and readSeq must be at most {head[0]}, the head",
                    [("$", "must not be beyond the head")],
                )
            part = f"{receipt.user_id}:{receipt.device}:{receipt.read_seq}"
            await change_log.owe_again(conn, [OutboxEntry(receipt.delivered_seq, receipt, part)])
